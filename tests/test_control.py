"""Control variates: how they learn, variances in order, corners, transforms, misuse. Means are in the table of rows."""

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Categorical, Independent, Normal, OneHotCategorical, Uniform

import reparam as rp
from cases.estimators.row import CHOICES, COINS, PHI, THETA, interaction, table, toy
from reparam.stats import mean_test

M = 100_000


def fresh(seed=0):
    return rp.Fresh(torch.Generator().manual_seed(seed))


def double(x):
    return torch.tensor(x, dtype=torch.float64)


def coins(logits):
    return Independent(Bernoulli(logits=logits), 1)


def estimates(estimator, n=1, law=coins, f=interaction, parameters=COINS, m=M, seed=0):
    leaf = double(parameters).expand(m, *double(parameters).shape).clone().requires_grad_()
    return rp.expect(f, law(leaf), estimator=estimator, n=n, source=fresh(seed)), leaf


def gradients(*args, **settings):
    value, leaf = estimates(*args, **settings)
    return torch.autograd.grad(value.sum(), leaf)[0]


class Net(nn.Module):
    def __init__(self, inputs=3, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.a = nn.Parameter(0.5 * torch.randn(inputs, 8, generator=generator, dtype=torch.float64))
        self.b = nn.Parameter(0.5 * torch.randn(8, generator=generator, dtype=torch.float64))
        self.c = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, s):
        return torch.tanh(s @ self.a) @ self.b + self.c


class TestLearning:
    """What is learned gets the derivative of the mean square of the gradient estimates, and nothing else does."""

    @staticmethod
    def square(estimator, n=2):
        return gradients(estimator, n=n, m=50).square().sum(-1).mean()

    def learned(self, estimator, *parts, sign=1.0):
        value, _ = estimates(estimator, n=2, m=50)
        return torch.autograd.grad(sign * value.mean(), parts)

    @pytest.mark.parametrize("sign", [1.0, -1.0])
    def test_temperature_and_scale(self, sign):
        t, scale, h = double(0.5).requires_grad_(), double(0.8).requires_grad_(), 1e-5
        found = self.learned(rp.REBAR(t, scale), t, scale, sign=sign)
        by_t = (self.square(rp.REBAR(0.5 + h, 0.8)) - self.square(rp.REBAR(0.5 - h, 0.8))) / (2 * h)
        by_scale = (self.square(rp.REBAR(0.5, 0.8 + h)) - self.square(rp.REBAR(0.5, 0.8 - h))) / (2 * h)
        assert torch.allclose(torch.stack(found), torch.stack([by_t, by_scale]), rtol=1e-6)

    @pytest.mark.parametrize("sign", [1.0, -1.0])
    @pytest.mark.parametrize("scale", [0.0, 0.7])
    def test_surrogate(self, sign, scale):
        net, h = Net(), 1e-5
        found = self.learned(rp.RELAX(net, 0.5, scale), net.a, net.c, sign=sign)
        for part, index, slope in ((net.a, (1, 2), found[0][1, 2]), (net.c, (), found[1])):
            at = []
            for step in (h, -2 * h):
                with torch.no_grad():
                    part[index] += step
                at.append(self.square(rp.RELAX(net, 0.5, scale)))
            with torch.no_grad():
                part[index] += h
            assert torch.allclose((at[0] - at[1]) / (2 * h), slope, rtol=1e-5)

    def test_lax(self):
        net, h = Net(1), 1e-5

        def run(mean):
            leaf = torch.full((50,), 0.3, dtype=torch.float64, requires_grad=True)
            lax = rp.LAX(lambda x: net(x.unsqueeze(-1))) if mean else rp.LAX(_Last(net))
            value = rp.expect(lambda x: (x > 0).double(), Normal(leaf, 1.0), estimator=lax, n=2, source=fresh())
            return value, torch.autograd.grad(value.sum(), leaf, retain_graph=True)[0].square().mean()

        (found,) = torch.autograd.grad(run(False)[0].mean(), net.b)
        at = []
        for step in (h, -2 * h):
            with torch.no_grad():
                net.b[3] += step
            at.append(run(True)[1].detach())
        assert torch.allclose((at[0] - at[1]) / (2 * h), found[3], rtol=1e-5)

    def test_the_rest_is_left_alone(self):
        """The gradients of value, logits and cost are those of an estimator that learns nothing."""
        net, w = Net(), double(1.3).requires_grad_()
        frozen = Net().requires_grad_(False)
        kinds = {
            rp.REBAR(0.5, 0.8): rp.REBAR(double(0.5).requires_grad_(), double(0.8).requires_grad_()),
            rp.RELAX(frozen, 0.5): rp.RELAX(net, double(0.5).requires_grad_()),
        }
        for still, learning in kinds.items():
            outcome = []
            for estimator in (still, learning):
                value, leaf = estimates(estimator, n=2, f=lambda z: w * interaction(z) + w**2 * z[..., 0], m=20)
                outcome.append((value.detach(), *torch.autograd.grad(value.sum(), (leaf, w))))
            for a, b in zip(*outcome, strict=True):
                assert torch.allclose(a, b, rtol=1e-12, atol=1e-14)

    @pytest.mark.parametrize("sign", [1.0, -1.0])
    @pytest.mark.parametrize("kind", ["rebar", "relax", "relax and the cost"])
    def test_variance_falls(self, kind, sign):
        net, log_t, scale = Net(), double(0.0).requires_grad_(), double(0.1).requires_grad_()
        make = {
            "rebar": lambda: rp.REBAR(log_t.exp(), scale),
            "relax": lambda: rp.RELAX(net),
            "relax and the cost": lambda: rp.RELAX(net, log_t.exp(), scale),
        }[kind]
        before = gradients(make(), m=20_000).var(0).sum()
        optimiser = torch.optim.Adam([log_t, scale] if kind == "rebar" else [*net.parameters(), log_t, scale], lr=0.03)
        for step in range(150):
            value, _ = estimates(make(), m=200, seed=step)
            optimiser.zero_grad()
            (sign * value.mean()).backward()
            optimiser.step()
        after = gradients(make(), m=20_000).var(0).sum()
        assert after < 0.6 * before, (before, after)

    def test_a_surrogate_takes_all_variance_of_a_coin(self):
        """With the baseline (1 − θ) f(1) + θ f(0) the score function of one coin has no variance."""
        c = nn.Parameter(double(0.0))
        settings = {"law": lambda w: Bernoulli(logits=w), "f": toy, "parameters": PHI, "m": 1_000_000}
        slopes = []
        for at in (0.0, 1.0):
            c.data.fill_(at)
            value, _ = estimates(rp.RELAX(_Constant(c)), **settings)
            slopes.append(torch.autograd.grad(value.mean(), c)[0])
        # The mean square is a parabola in c: its slope is zero at the best baseline.
        c.data.copy_(slopes[0] / (slopes[0] - slopes[1]))
        assert abs(c.item() - ((1 - THETA) * toy(1.0) + THETA * toy(0.0))) < 5e-4  # 10 standard errors
        assert gradients(rp.RELAX(_Constant(c)), **settings).var() < 1e-6  # of 0.016 that the score function has

    def test_nothing_is_learned_without_gradients(self):
        with torch.no_grad():
            value, _ = estimates(rp.RELAX(Net()), m=5)
        assert not value.requires_grad
        fixed = rp.expect(interaction, coins(double(COINS)), estimator=rp.RELAX(Net()), n=3, source=fresh())
        assert fixed.isfinite()


class _Constant(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c

    def forward(self, s):
        return self.c.expand(s.shape)


class _Last(nn.Module):
    """A net of scalars."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x.unsqueeze(-1))


@pytest.mark.parametrize("scale", [0.0, double(0.0)])
def test_scale_zero_is_the_score_function(scale):
    class Dependent(rp.Fresh):
        independent = False

    for n, kind, same in ((1, rp.Fresh, rp.Score()), (3, rp.Fresh, rp.LeaveOneOut()), (3, Dependent, rp.Score())):
        outcome = []
        for estimator in (rp.REBAR(0.3, scale), same):
            leaf = double(COINS).expand(100, 3).clone().requires_grad_()
            source = kind(torch.Generator().manual_seed(0))
            value = rp.expect(interaction, coins(leaf), estimator=estimator, n=n, source=source)
            outcome.append((value, torch.autograd.grad(value.sum(), leaf)[0]))
        assert torch.equal(outcome[0][0], outcome[1][0])
        assert torch.allclose(outcome[0][1], outcome[1][1], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    "estimator",
    [rp.REBAR(0.5, 0.2), rp.RELAX(lambda s: 0.2 * ((s - 0.45) ** 2).mean(-1)), rp.MuProp()],
    ids=["rebar", "relax", "muprop"],
)
def test_the_other_samples_are_a_baseline(estimator):
    """Of many coins, whose f(b) − f(s̃) has a mean that would be nothing but noise: 1000 times the variance, without."""
    settings = {"n": 16, "f": lambda z: ((z - 0.45) ** 2).mean(-1), "parameters": [0.0] * 128, "m": 2000}
    ours, theirs = (gradients(e, **settings).var(0).sum() for e in (estimator, rp.LeaveOneOut()))
    assert ours < 0.95 * theirs, (ours, theirs)


def test_the_value_is_that_of_the_hard_rows():
    for estimator in (rp.REBAR(0.5), rp.RELAX(Net()), rp.MuProp()):
        assert torch.equal(estimates(estimator, n=3, m=100)[0], estimates(rp.Score(), n=3, m=100)[0])


@pytest.mark.parametrize(
    "estimator", [rp.REBAR(0.5), rp.RELAX(lambda s: (s.sum(-1) - 1.2) ** 2), rp.MuProp()], ids=["rebar", "relax", "muprop"]
)
def test_less_variance_than_the_score_function(estimator):
    ours, score = (gradients(e).var(0).sum() for e in (estimator, rp.Score()))
    assert ours < 0.8 * score, (ours, score)


@pytest.mark.parametrize("estimator", [rp.REBAR(0.5), rp.RELAX(lambda s: 0.3 * s), rp.MuProp()], ids=["rebar", "relax", "muprop"])
def test_a_cost_that_sums_a_batch_dimension(estimator):
    summed = gradients(estimator, n=4, law=lambda w: Bernoulli(logits=w))
    truth = torch.func.grad(lambda w: rp.expect(interaction, coins(w)))(double(COINS))
    for found, wanted in zip(summed.unbind(-1), truth.tolist(), strict=True):
        verdict = mean_test(found, wanted)
        assert verdict.detectable < 0.03
        assert verdict, verdict


@pytest.mark.parametrize("estimator", [rp.REBAR(0.5), rp.RELAX(lambda s: 0.3 * s.square().sum(-1))], ids=["rebar", "relax"])
def test_rows_that_are_shared_between_those_of_a_node_before(estimator):
    logits = torch.zeros(2000, 3, dtype=torch.float64, requires_grad=True)

    def model(sample):
        a = sample("a", Normal(torch.zeros(2000, dtype=torch.float64), 1.0))
        return (2 + a) * sample("z", coins(logits)).sum(-1)

    value = rp.graph(
        model, estimators={"a": rp.Pathwise(), "z": estimator}, n={"a": 5, "z": 4}, batch_shape=(2000,), source=fresh()
    )
    (found,) = torch.autograd.grad(value.sum(), logits)
    for samples in found.unbind(-1):
        verdict = mean_test(samples, 0.5)
        assert verdict.detectable < 0.5
        assert verdict, verdict


class TestGraph:
    """A coin, and three coins that depend on it."""

    @staticmethod
    def run(first, then, m, n=1):
        a = torch.full((m,), 0.3, dtype=torch.float64, requires_grad=True)
        b = torch.full((m, 3), 0.1, dtype=torch.float64, requires_grad=True)

        def model(sample):
            x = sample("x", Bernoulli(logits=a))
            z = sample("z", coins(b * (1 + x.unsqueeze(-1))))
            return (z.sum(-1) - 1.2 * x - 0.3) ** 2

        value = rp.graph(model, estimators={"x": first, "z": then}, n={"z": n}, batch_shape=(m,), source=fresh())
        return value, a, b

    def test_parts_that_learn(self):
        t, scale, net = double(0.5).requires_grad_(), double(1.0).requires_grad_(), Net()
        value, a, b = self.run(rp.REBAR(t, scale), rp.RELAX(net, 0.5), 50_000)
        of_a, of_b, *learned = torch.autograd.grad(value.sum(), (a, b, t, scale, net.a, net.b, net.c))
        assert all(slope.abs().max() > 0 for slope in learned)
        exact, a, b = self.run(rp.Enumerate(), rp.Enumerate(), 1)
        for found, wanted in zip((of_a, of_b[:, 1]), torch.autograd.grad(exact.sum(), (a, b)), strict=True):
            verdict = mean_test(found, wanted.flatten()[0].item())
            assert verdict.detectable < 0.2
            assert verdict, verdict

    def test_nodes_after_that_have_first_derivatives_only(self):
        assert self.run(rp.REBAR(0.5), rp.DisARM(), 5, n=2)[0].isfinite().all()
        with pytest.raises(NotImplementedError, match="first derivatives only"):
            self.run(rp.REBAR(0.5, double(1.0).requires_grad_()), rp.DisARM(), 5, n=2)


@pytest.mark.parametrize("law", [lambda w: Independent(Bernoulli(logits=w), 1), lambda w: OneHotCategorical(logits=w)])
def test_extreme_logits(law):
    t, scale = torch.tensor(0.1, requires_grad=True), torch.tensor(1.0, requires_grad=True)
    net = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 1), nn.Flatten(0))
    for logits in ([-30.0, 30.0, 0.0, 90.0, -90.0], [-torch.inf, 1.0, -torch.inf, 0.0, -torch.inf]):
        if isinstance(law(torch.zeros(5)), Independent) and torch.inf in torch.tensor(logits).abs():
            continue  # a coin has no logit of minus infinity
        w = torch.tensor(logits, requires_grad=True)
        for estimator in (rp.REBAR(t, scale), rp.RELAX(net, t, scale), rp.MuProp()):
            value = rp.expect(lambda z: (z @ torch.arange(5.0)) ** 2, law(w), estimator=estimator, n=100, source=fresh())
            found = torch.autograd.grad(value, (w, t, *net.parameters()), allow_unused=True)
            assert all(g.isfinite().all() for g in found if g is not None)


def test_half_precision():
    w = torch.zeros(3, dtype=torch.bfloat16, requires_grad=True)
    for estimator in (rp.REBAR(0.5), rp.MuProp()):
        value = rp.expect(lambda z: (z.sum(-1) - 1) ** 2, coins(w), estimator=estimator, n=10, source=fresh())
        assert value.dtype == torch.bfloat16
        assert torch.autograd.grad(value, w)[0].isfinite().all()


def test_lax_learns_a_step():
    """A smooth surrogate of a step takes most of the score function's variance, though the step has no slope."""
    net = nn.Sequential(nn.Unflatten(-1, (-1, 1)), nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1), nn.Flatten(-2)).double()
    lax, optimiser = rp.LAX(net), torch.optim.Adam(net.parameters(), lr=0.02)

    def run(estimator, m, seed):
        mean = torch.zeros(m, dtype=torch.float64, requires_grad=True)
        return rp.expect(lambda x: 2.0 + (x > 0.5), Normal(mean, 1.0), estimator=estimator, source=fresh(seed)), mean

    for step in range(200):
        optimiser.zero_grad()
        run(lax, 200, step)[0].mean().backward()
        optimiser.step()
    ours, score = (torch.autograd.grad(value.sum(), mean)[0] for value, mean in (run(lax, M, 1000), run(rp.Score(), M, 1000)))
    assert ours.var() < 0.2 * score.var()
    verdict = mean_test(ours, torch.distributions.Normal(0.0, 1.0).log_prob(double(0.5)).exp().item())
    assert verdict.detectable < 0.1
    assert verdict, verdict


class TestTransforms:
    logits = torch.tensor([0.3, -0.5, 1.0])
    parts = (rp.REBAR(0.5), rp.RELAX(lambda s: s**2))

    @staticmethod
    def value(estimator):
        law = lambda w: Bernoulli(logits=w, validate_args=False)  # noqa: E731
        return lambda w: rp.expect(lambda z: (z - 0.3) ** 2, law(w), estimator=estimator, n=2).sum()

    @pytest.mark.parametrize("estimator", parts, ids=["rebar", "relax"])
    def test_grad_and_vmap(self, estimator):
        f = self.value(estimator)
        batch = torch.vmap(torch.func.grad(f), randomness="different")(self.logits.expand(50, 3))
        assert batch.isfinite().all()
        assert batch.std(0).max() > 0

    @pytest.mark.parametrize("estimator", parts, ids=["rebar", "relax"])
    def test_compile(self, estimator):
        w = self.logits.clone().requires_grad_()
        torch.compile(self.value(estimator), backend="aot_eager", fullgraph=True)(w).backward()
        assert w.grad.isfinite().all()


class TestMisuse:
    q = Bernoulli(logits=torch.zeros(5, requires_grad=True))

    @pytest.mark.parametrize("make", [rp.REBAR, lambda t: rp.RELAX(Net(), t)], ids=["rebar", "relax"])
    def test_temperature(self, make):
        for t in (0.0, -1.0, torch.tensor(-0.5)):
            with pytest.raises(ValueError, match="must be positive and finite"):
                make(t)
        with pytest.raises(ValueError, match="must be one number"):
            make(torch.ones(2))
        # An optimiser may step below zero.
        t = torch.tensor(0.5, requires_grad=True)
        estimator = make(t)
        with torch.no_grad():
            t.sub_(1.0)
        with pytest.raises(ValueError, match="must be positive and finite"):
            rp.expect(lambda z: z, self.q, estimator=estimator)

    def test_scale(self):
        with pytest.raises(ValueError, match=r"scale of a control variate has shape \(2,\)"):
            rp.REBAR(0.5, torch.ones(2))
        with pytest.raises(TypeError, match="'big'; it must be a number"):
            rp.REBAR(0.5, "big")

    def test_laws(self):
        index = Categorical(torch.ones(3))
        with pytest.raises(NotImplementedError, match=r"write it as torch\.distributions.OneHotCategorical"):
            rp.expect(lambda z: z.float(), index, estimator=rp.REBAR())
        with pytest.raises(NotImplementedError, match=r"RELAX with the relaxed cost \(scale other than 0\)"):
            rp.expect(lambda z: z.float(), index, estimator=rp.RELAX(Net(), 0.5, 1.0))
        for estimator in (rp.REBAR(), rp.RELAX(Net()), rp.MuProp()):
            with pytest.raises(NotImplementedError, match="not for Normal"):
                rp.expect(lambda z: z, Normal(0.0, 1.0), estimator=estimator)
        with pytest.raises(rp.NoPathError, match="Bernoulli is discrete"):
            rp.expect(lambda z: z, self.q, estimator=rp.LAX(Net()))
        with pytest.raises(ValueError, match="support of Uniform depends on a parameter"):
            rp.expect(lambda z: z, Uniform(torch.tensor(0.0), torch.tensor(1.0, requires_grad=True)), estimator=rp.LAX(Net()))

    def test_costs(self):
        for estimator, rows in ((rp.REBAR(), 6), (rp.RELAX(lambda s: s), 2), (rp.MuProp(), 3)):
            with pytest.raises(ValueError, match=rf"wanted rows \({rows},\) \+ a leading part of batch \(5,\)"):
                rp.expect(lambda z: z[:, :3], self.q, estimator=estimator, n=2)

    def test_surrogates(self):
        with pytest.raises(ValueError, match=r"the shape \(4, 3\) for values of shape \(4, 5\); wanted rows \+ batch, \(4, 5\)"):
            rp.expect(lambda z: z, self.q, estimator=rp.RELAX(lambda s: s[:, :3]), n=2)
        with pytest.raises(ValueError, match=r"the shape \(4,\) for values"):
            rp.expect(lambda z: z, self.q, estimator=rp.RELAX(lambda s: s.sum(-1)), n=2)
        with pytest.raises(ValueError, match="returned a float"):
            rp.expect(lambda z: z, self.q, estimator=rp.RELAX(lambda s: 0.0), n=2)
        with pytest.raises(TypeError, match=r"must be an nn\.Module or a function"):
            rp.RELAX(Net)
        with pytest.raises(TypeError, match="got 3"):
            rp.LAX(3)

    def test_a_surrogate_that_cannot_learn(self):
        class Cut(Net):
            def forward(self, s):
                return super().forward(s.unsqueeze(-1)).detach()

        with pytest.raises(ValueError, match=r"the surrogate gets no gradient.*cut from the graph"):
            rp.expect(lambda z: z, self.q, estimator=rp.RELAX(Cut(1).float()), n=2)
        t = torch.tensor(0.5, requires_grad=True)
        with pytest.raises(ValueError, match=r"the temperature gets no gradient.*flat between the values"):
            rp.expect(lambda z: (z > 0.3).float(), self.q, estimator=rp.REBAR(t), n=2)

    def test_draws_of_another_kind(self):
        foreign = rp.Score().draw(self.q, 2, None)
        for estimator in (rp.REBAR(), rp.RELAX(Net()), rp.LAX(Net()), rp.MuProp()):
            with pytest.raises(ValueError, match="weigh it with the estimator that drew it"):
                estimator.weigh(foreign, foreign.value)
        draw = rp.RELAX(Net()).draw(self.q, 2, None)
        with pytest.raises(ValueError, match="2 costs of 2 samples"):
            rp.REBAR().weigh(draw, draw.value)

    def test_muprop_among_shared_rows(self):
        model = lambda s: s("a", Normal(torch.zeros(()), 1.0)) + s("b", Bernoulli(torch.tensor(0.5)))  # noqa: E731
        with pytest.raises(ValueError, match="the law must have the rows before it"):
            rp.graph(model, estimators={"b": rp.MuProp()}, n=4)


def test_several_one_hot_choices_in_a_batch_that_the_cost_sums():
    summed = gradients(rp.REBAR(0.5), n=2, law=lambda w: OneHotCategorical(logits=w), f=table, parameters=CHOICES)
    truth = torch.func.grad(lambda w: rp.expect(table, Independent(OneHotCategorical(logits=w), 1)))(double(CHOICES))
    for found, wanted in zip(summed.flatten(1).unbind(-1), truth.flatten().tolist(), strict=True):
        verdict = mean_test(found, wanted)
        assert verdict.detectable < 0.15
        assert verdict, verdict
