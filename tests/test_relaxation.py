"""Relaxations beside their rows: less variance where it is promised, corners, transforms, schedules, misuse.

Statistical assertions raise a false alarm once in 1e9 runs; beside each stands the error that it would catch.
"""

import math

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Independent, Normal, OneHotCategorical, Poisson

import reparam as rp
from reparam.estimators.factors import factors
from reparam.estimators.gumbel import conditional_scores, hardened, noisy_scores
from reparam.estimators.temperature import Cosine, Exponential, Linear
from reparam.stats import mean_test

EVERY = [rp.GumbelSoftmax(0.5), rp.GumbelSoftmax(0.5, hard=True), rp.GumbelRao(0.5, k=3), rp.StraightThrough(), rp.ReinMax()]
HARD = EVERY[1:]
every = pytest.mark.parametrize("estimator", EVERY, ids=repr)
hard = pytest.mark.parametrize("estimator", HARD, ids=repr)
LOGITS = torch.tensor([0.5, -1.0, 0.2, 1.1], dtype=torch.float64)
PRICES = torch.tensor([1.0, -0.5, 2.0, 0.3], dtype=torch.float64)


def fresh(seed=0):
    return rp.Fresh(torch.Generator().manual_seed(seed))


def cost(z):
    return (z @ PRICES.to(z.dtype)) ** 2 + z[..., 0]


def gradients(estimator, f=cost, draws=200_000, seed=0):
    """Independent estimates of the gradient in the logits, one element of a batch each."""
    logits = LOGITS.expand(draws, -1).clone().requires_grad_()
    value = rp.expect(f, OneHotCategorical(logits=logits), estimator=estimator, n=1, source=fresh(seed))
    return torch.autograd.grad(value.sum(), logits)[0]


class TestGumbelRao:
    def test_averaging_lowers_the_variance_and_leaves_the_mean(self):
        found = {k: gradients(rp.GumbelRao(0.3, k), seed=k) for k in (1, 4, 16)}
        straight = gradients(rp.GumbelSoftmax(0.3, hard=True), seed=9)
        for samples in found.values():
            for a, b in zip(samples.unbind(1), straight.unbind(1), strict=True):
                verdict = mean_test(a - b, 0.0)
                assert verdict, verdict
                assert verdict.detectable < 0.05  # of gradients of up to 0.5
        # The variances are known to a percent, and are a + b / k; k = 1 is straight-through Gumbel-softmax.
        v1, v4, v16 = (float(found[k].var(0).sum()) for k in (1, 4, 16))
        assert abs(v1 / float(straight.var(0).sum()) - 1) < 0.1
        assert v1 > 1.5 * v4 > 1.5 * 1.1 * v16
        assert abs((v1 - v4) / (v4 - v16) - 4) < 0.8

    @pytest.mark.parametrize("law", [Bernoulli(logits=LOGITS), OneHotCategorical(logits=LOGITS)], ids=["coins", "choice"])
    def test_scores_given_an_outcome(self, law):
        law_ = factors(law, "here", soft=True)
        index = law_.index(rp.sample(law, (400_000,), source=fresh(1)))
        given = conditional_scores(law_, index, fresh(2), k=2)
        assert (hardened(law_, given[0]) == index).all()
        assert (hardened(law_, given[1]) == index).all()
        # Over outcomes they follow the law of scores that are not conditioned: so do bounded functions of them and of their pairs.
        free = noisy_scores(law_, 400_000, fresh(3))
        for f in (torch.tanh, lambda s: torch.tanh(s) * torch.tanh(s.roll(1, -1)), lambda s: torch.tanh(3 * s - 1)):
            for a, b in zip(f(given[1]).unbind(1), f(free).unbind(1), strict=True):
                verdict = mean_test(a - b, 0.0)
                assert verdict, verdict
                assert verdict.detectable < 0.03

    def test_the_cost_sees_n_rows(self):
        seen = []
        rp.expect(lambda z: seen.append(z.shape) or cost(z), OneHotCategorical(logits=LOGITS), estimator=rp.GumbelRao(0.5, 7), n=3)
        assert seen == [(3, 4)]


@hard
def test_rows_are_values_of_the_law(estimator):
    for law in (OneHotCategorical(logits=LOGITS), Bernoulli(logits=LOGITS), Independent(OneHotCategorical(torch.ones(2, 3)), 1)):
        z = estimator.draw(law, 50, fresh()).value
        assert z.shape == (50, *law.batch_shape, *law.event_shape)
        assert law.support.check(z).all()


def test_reinmax_nests_where_it_is_exact():
    # The coin's law depends on a node before it, and its cost on both; every factor is quadratic.
    draws = 100_000
    theta = [torch.full((draws,), x, dtype=torch.float64, requires_grad=True) for x in (0.4, -0.7)]

    def model(sample):
        a = sample("a", Bernoulli(logits=theta[0]))
        b = sample("b", Bernoulli(logits=theta[1] + a))
        return (a + 2 * b - 0.3) ** 2

    means = {}
    for name, estimators in {
        "exact": {"a": rp.Enumerate(), "b": rp.Enumerate()},
        "inside": {"a": rp.Score(), "b": rp.ReinMax()},
        "inside, by default": {"a": rp.Enumerate(), "b": rp.ReinMax()},
    }.items():
        value = rp.graph(model, estimators=estimators, n={"b": 2}, batch_shape=draws, source=fresh(4))
        means[name] = torch.autograd.grad(value.sum(), theta)
    for name in ("inside", "inside, by default"):
        for found, truth in zip(means[name], means["exact"], strict=True):
            verdict = mean_test(found, float(truth[0])) if found.std() > 1e-12 else (found - truth).abs().max() < 1e-10
            assert verdict, (name, verdict)


@every
def test_decoder_weights_get_the_mean_over_rows(estimator):
    w = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    logits = LOGITS.clone().requires_grad_()
    source = fresh(5)
    value = rp.expect(lambda z: (z @ w).sin().sum(-1), OneHotCategorical(logits=logits), estimator=estimator, n=6, source=source)
    found = torch.autograd.grad(value, w)[0]
    z = estimator.draw(OneHotCategorical(logits=LOGITS), 6, fresh(5)).value
    assert torch.allclose(found, torch.einsum("rk,rj->kj", z, (z @ w).cos()) / 6)


class TestTemperature:
    @pytest.mark.parametrize("make", [rp.GumbelSoftmax, lambda t: rp.GumbelSoftmax(t, hard=True), lambda t: rp.GumbelRao(t, 2)])
    def test_is_learned(self, make):
        t = torch.tensor([0.7], dtype=torch.float64, requires_grad=True)
        rp.expect(cost, OneHotCategorical(logits=LOGITS), estimator=make(t), n=50, source=fresh()).backward()
        assert t.grad.isfinite().all()
        assert t.grad != 0

    def test_slope_in_the_temperature_is_that_of_the_relaxed_law(self):
        eps = torch.rand(64, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.01

        def value(t):
            return rp.expect(cost, OneHotCategorical(logits=LOGITS), estimator=rp.GumbelSoftmax(t), n=64, source=rp.Replay(eps))

        t = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(value, t)

    @pytest.mark.parametrize("make", [rp.GumbelSoftmax, lambda t: rp.GumbelRao(t, 2), rp.ReinMax])
    def test_must_be_one_positive_number(self, make):
        for bad in (0.0, -1.0, math.nan, math.inf, torch.tensor(0.0), torch.tensor([-1.0]), torch.tensor(math.nan)):
            with pytest.raises(ValueError, match="must be positive and finite"):
                make(bad)
        with pytest.raises(ValueError, match=r"shape \(2,\); it must be one number"):
            make(torch.ones(2))
        with pytest.raises(TypeError, match="a number or a tensor"):
            make("cold")

    def test_that_was_learned_below_zero_is_refused(self):
        t = torch.tensor(0.5)
        for estimator in (rp.GumbelSoftmax(t), rp.GumbelSoftmax(t, hard=True), rp.GumbelRao(t, 2)):
            t.fill_(-0.1)
            with pytest.raises(ValueError, match="must be positive and finite"):
                rp.expect(cost, OneHotCategorical(logits=LOGITS), estimator=estimator)
            t.fill_(0.5)

    def test_reinmax_has_no_gradient_in_it(self):
        with pytest.raises(ValueError, match="give a number"):
            rp.ReinMax(torch.tensor(1.0, requires_grad=True))


class TestSchedules:
    def test_exponential(self):
        schedule = Exponential(start=2.0, rate=0.01, floor=0.5)
        assert schedule(0) == 2.0
        assert schedule(50) == 2.0 * math.exp(-0.5)
        assert schedule(10**9) == 0.5
        assert repr(schedule) == "Exponential(start=2.0, rate=0.01, floor=0.5)"

    @pytest.mark.parametrize("kind", [Linear, Cosine])
    def test_from_start_to_end(self, kind):
        schedule = kind(start=1.0, end=0.3, steps=10)
        values = [schedule(step) for step in range(15)]
        assert values[0] == 1.0
        assert math.isclose(values[5], 0.65)
        assert values[10:] == [0.3] * 5
        assert values == sorted(values, reverse=True)

    def test_settings_are_checked(self):
        for make in (
            lambda: Exponential(start=0.0),
            lambda: Exponential(floor=-1.0),
            lambda: Exponential(rate=-1e-3),
            lambda: Exponential(start=0.4, floor=0.5),
            lambda: Linear(1.0, 0.0, 10),
            lambda: Cosine(1.0, 0.5, 0),
            lambda: Linear(math.nan, 0.5, 10),
            lambda: Linear(1.0, 0.5, 10)(-1),
        ):
            with pytest.raises(ValueError, match=r"(must be|above the start|steps count from)"):
                make()


class TestCorners:
    @every
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
    def test_extreme_logits(self, estimator, dtype):
        coins = torch.tensor([100.0, -100.0, 0.3], dtype=dtype, requires_grad=True)
        choices = torch.tensor([[100.0, -100.0, 0.0], [0.0, 0.0, 100.0], [1.0, 0.5, 0.2]], dtype=dtype, requires_grad=True)
        for law, leaf in ((Bernoulli(logits=coins), coins), (OneHotCategorical(logits=choices), choices)):
            value = rp.expect(lambda z: ((z - 0.3) ** 2).reshape(8, 3, -1).sum(-1), law, estimator=estimator, n=8, source=fresh())
            (gradient,) = torch.autograd.grad(value.sum(), leaf)
            assert value.dtype == gradient.dtype == dtype
            assert value.isfinite().all()
            assert gradient.isfinite().all()
            assert (gradient[-1] != 0).any()

    @every
    def test_what_cannot_come(self, estimator):
        logits = torch.tensor([0.3, -torch.inf, 0.1], dtype=torch.float64, requires_grad=True)
        q = OneHotCategorical(logits=logits)
        value = rp.expect(lambda z: (z**2 @ PRICES[:3]) + z[..., 0], q, estimator=estimator, n=50, source=fresh())
        gradient = torch.autograd.grad(value, logits)[0]
        assert gradient.isfinite().all()
        assert gradient[1] == 0
        assert gradient[0] != 0

    def test_straight_through_bears_tiny_probabilities(self):
        p = torch.tensor([1e-12, 0.0, 1.0], requires_grad=True)
        rp.expect(lambda z: 3 * z, Bernoulli(probs=p), estimator=rp.StraightThrough(), n=4).sum().backward()
        assert torch.allclose(p.grad, torch.full((3,), 3.0))

    @every
    def test_a_cost_may_sum_the_batch(self, estimator):
        logits = LOGITS.expand(3, 2, 4).clone().requires_grad_()
        totals = []
        for f in (cost, lambda z: cost(z).sum(-1), lambda z: cost(z).sum((-1, -2))):
            value = rp.expect(f, OneHotCategorical(logits=logits), estimator=estimator, n=2, source=fresh(3))
            totals.append(torch.autograd.grad(value.sum(), logits)[0])
        assert torch.allclose(totals[0], totals[1])
        assert torch.allclose(totals[0], totals[2])

    @every
    def test_without_gradients(self, estimator):
        with torch.no_grad():
            value = rp.expect(cost, OneHotCategorical(logits=LOGITS.clone().requires_grad_()), estimator=estimator, n=4)
        assert not value.requires_grad
        fixed = rp.expect(lambda z: z.argmax(-1).double(), OneHotCategorical(logits=LOGITS), estimator=estimator, n=4)
        assert fixed.isfinite()

    @pytest.mark.parametrize("source", [rp.Antithetic(fresh(1)), rp.Sobol(1)], ids=["antithetic", "sobol"])
    def test_rows_that_depend_on_each_other_do_not_bias(self, source):
        # The cost is linear, so that straight-through is exact, and ReinMax too.
        for estimator in (rp.StraightThrough(), rp.ReinMax()):
            logits = LOGITS.expand(5000, -1).clone().requires_grad_()
            value = rp.expect(lambda z: z @ PRICES, OneHotCategorical(logits=logits), estimator=estimator, n=4, source=source)
            found = torch.autograd.grad(value.sum(), logits)[0]
            p = LOGITS.softmax(-1)
            truth = p * (PRICES - (p * PRICES).sum())
            for samples, wanted in zip(found.unbind(1), truth.tolist(), strict=True):
                exact = samples.std() < 1e-12 and bool((samples - wanted).abs().max() < 1e-12)
                assert exact or mean_test(samples, wanted)


def value_of_fresh_noise(estimator):
    return lambda logits: rp.expect(cost, OneHotCategorical(logits=logits, validate_args=False), estimator=estimator, n=3)


class TestDerivatives:
    @hard
    def test_second_ones_are_refused(self, estimator):
        logits = LOGITS.clone().requires_grad_()
        value = rp.expect(cost, OneHotCategorical(logits=logits), estimator=estimator, n=4)
        (first,) = torch.autograd.grad(value, logits, create_graph=True)
        with pytest.raises(NotImplementedError, match="first derivatives only"):
            torch.autograd.grad(first.sum(), logits)

        def slope(logits, take):
            return take(lambda x: rp.expect(cost, OneHotCategorical(logits=x, validate_args=False), estimator=estimator), logits)

        def forward(f, x):
            return torch.func.jvp(f, (x,), (torch.ones_like(x),))[1]

        for take in (forward, lambda f, x: torch.func.grad(f)(x)):
            with pytest.raises(NotImplementedError, match="first derivatives only"):
                forward(lambda x, take=take: slope(x, take), LOGITS)

    @every
    def test_second_ones_in_decoder_weights_are_not(self, estimator):
        w = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
        q = OneHotCategorical(logits=LOGITS.clone().requires_grad_())
        value = rp.expect(lambda z: (w * (z @ PRICES)) ** 2, q, estimator=estimator, n=4, source=fresh())
        (first,) = torch.autograd.grad(value, w, create_graph=True)
        (second,) = torch.autograd.grad(first, w)
        assert torch.allclose(second, first / w)

    @every
    def test_torch_func(self, estimator):
        def value(logits):
            return rp.expect(cost, OneHotCategorical(logits=logits, validate_args=False), estimator=estimator, n=3, source=fresh(2))

        leaf = LOGITS.clone().requires_grad_()
        wanted = torch.autograd.grad(value(leaf), leaf)[0]
        assert torch.allclose(torch.func.grad(value)(LOGITS), wanted)
        tangent = torch.tensor([1.0, 0.0, -2.0, 0.5], dtype=torch.float64)
        assert torch.allclose(torch.func.jvp(value, (LOGITS,), (tangent,))[1], wanted @ tangent)
        assert torch.func.jacfwd(value_of_fresh_noise(estimator), randomness="same")(LOGITS).isfinite().all()

    @every
    @pytest.mark.parametrize("law", [OneHotCategorical, lambda **kw: Independent(Bernoulli(**kw), 1)], ids=["choice", "coins"])
    def test_vmap(self, estimator, law):
        def value(logits):
            return rp.expect(cost, law(logits=logits, validate_args=False), estimator=estimator, n=3)

        found = torch.vmap(torch.func.grad(value), randomness="different")(LOGITS.expand(60, 4))
        assert found.shape == (60, 4)
        assert (found != found[0]).any()  # two may well be equal, all of them only by noise that is shared

    @pytest.mark.slow
    def test_compile(self):
        generator = torch.Generator().manual_seed(0)
        uniform = rp.Replay(torch.rand(3, generator=generator, dtype=torch.float64))
        exponential = rp.Replay(torch.rand(3, 4, generator=generator, dtype=torch.float64) + 0.01)
        sources = [exponential, exponential, None, uniform, uniform]  # averages need noise of two kinds

        def step(logits):
            q = OneHotCategorical(logits=logits, validate_args=False)
            return torch.stack([rp.expect(cost, q, estimator=e, n=3, source=s) for e, s in zip(EVERY, sources, strict=True)])

        leaf = LOGITS.clone().requires_grad_()
        for found, wanted, source in zip(
            torch.compile(step, backend="aot_eager", fullgraph=True)(leaf), step(leaf), sources, strict=True
        ):
            ours, eager = (torch.autograd.grad(value, leaf, retain_graph=True)[0] for value in (found, wanted))
            assert ours.isfinite().all()
            if source is not None:
                assert torch.allclose(found, wanted)
                assert torch.allclose(ours, eager)
                assert ours.abs().sum() > 0


class TestMisuse:
    @every
    def test_indices(self, estimator):
        with pytest.raises(NotImplementedError, match=r"OneHotCategorical and the cost as a function of one-hot vectors"):
            rp.expect(lambda z: z.double(), Categorical(logits=LOGITS), estimator=estimator)

    @every
    def test_laws_that_are_not_served(self, estimator):
        for law in (Normal(0.0, 1.0), Poisson(3.0)):
            with pytest.raises(NotImplementedError, match=r"is for Bernoulli, OneHotCategorical and Independent of these, not for"):
                rp.expect(lambda z: z, law, estimator=estimator)

    @every
    def test_costs_without_a_gradient(self, estimator):
        q = OneHotCategorical(logits=LOGITS.clone().requires_grad_())
        learned = PRICES.clone().requires_grad_()  # of its own, which would hide that the law learns nothing
        for f in (
            lambda z: PRICES[z.argmax(-1)],
            lambda z: (z > 0.5).double().sum(-1),
            lambda z: cost(z.detach()),
            lambda z: learned[z.argmax(-1)],
            lambda z: learned.sum() * cost(z.detach()) - torch.distributions.kl_divergence(q, OneHotCategorical(logits=learned)),
        ):
            with pytest.raises(ValueError, match=r"no gradient in the sample.*LeaveOneOut"):
                rp.expect(f, q, estimator=estimator, n=2)

    @every
    def test_draws_of_others(self, estimator):
        draw = rp.Score().draw(OneHotCategorical(logits=LOGITS), 2, None)
        with pytest.raises(ValueError, match="weigh it with the estimator that drew it"):
            estimator.weigh(draw, cost(draw.value))

    def test_draws_of_noise(self):
        for bad in (0, -1, 1.5):
            with pytest.raises(ValueError, match="k of GumbelRao must be a positive integer"):
                rp.GumbelRao(0.5, bad)
