"""Score functions: baselines that move and learn, and what they refuse."""

import pytest
import torch
from torch.distributions import (
    AffineTransform,
    Bernoulli,
    Categorical,
    ComposeTransform,
    Exponential,
    ExpTransform,
    Independent,
    MixtureSameFamily,
    Normal,
    TransformedDistribution,
    Uniform,
)

import reparam as rp
from reparam.stats import mean_test

PHI = 0.4
THETA = 1 / (1 + torch.tensor(-PHI, dtype=torch.float64).exp().item())


def fresh(seed=0):
    return rp.Fresh(torch.Generator().manual_seed(seed))


def coins(size):
    phi = torch.full((size,), PHI, dtype=torch.float64, requires_grad=True)
    return phi, Bernoulli(logits=phi)


class TestMovingAverage:
    def test_follows_the_costs_and_forgets(self):
        average = rp.MovingAverage(0.75)
        costs = [4.0, 8.0, -2.0]
        for cost in costs:
            average.update(torch.full((2, 3), cost))
        weights = torch.tensor([0.75**2, 0.75, 1.0])
        assert torch.allclose(average(), (weights * torch.tensor(costs)).sum() / weights.sum())

    def test_one_for_each_element(self):
        average = rp.MovingAverage(shape=(2, 1))
        average.update(torch.arange(12.0).reshape(2, 2, 3))
        assert torch.equal(average(), torch.tensor([[4.0], [7.0]]))

    def test_stands_still_in_evaluation_and_at_what_is_not_finite(self):
        average = rp.MovingAverage().eval()
        average.update(torch.ones(2))
        assert average() == 0
        average.train().update(torch.ones(2))
        average.update(torch.tensor([1.0, torch.inf]))
        assert average() == 1
        first, each = rp.MovingAverage(), rp.MovingAverage(shape=2)
        for cost in (torch.tensor([[torch.nan, 1.0]]), torch.tensor([[3.0, 1.0]])):
            first.update(cost[:, 0])
            each.update(cost)
        assert torch.allclose(first(), torch.tensor(3.0))
        assert torch.allclose(each(), torch.tensor([3.0, 1.0]))

    def test_is_saved_with_the_model(self):
        model = torch.nn.ModuleDict({"baseline": rp.MovingAverage()})
        model["baseline"].update(torch.tensor([3.0]))
        other = torch.nn.ModuleDict({"baseline": rp.MovingAverage()})
        other.load_state_dict(model.state_dict())
        assert other["baseline"]() == 3
        for m in (model, other):
            m["baseline"].update(torch.tensor([5.0]))
        assert other["baseline"]() == model["baseline"]() != 3

    def test_unbiased_over_repeated_calls(self):
        # Each estimate meets the average of those before it.
        average, slopes = rp.MovingAverage(0.5), []
        phi, q = coins(20_000)
        source = fresh(1)
        for _ in range(20):
            value = rp.expect(lambda z: 5 + z, q, estimator=rp.Score(average), source=source)
            slopes.append(torch.autograd.grad(value.sum(), phi)[0])
        verdict = mean_test(torch.cat(slopes[1:]), THETA * (1 - THETA))
        assert verdict.detectable < 0.02
        assert verdict, verdict
        assert torch.cat(slopes[1:]).var() < slopes[0].var() / 20  # at a baseline of zero the 5 is all noise

    def test_one_average_may_serve_two_nodes(self):
        # Read when the outer node is drawn, before the inner one's costs, which depend on the outer rows, have moved it.
        average = rp.MovingAverage(0.0)
        size = 1
        slopes = []
        source = fresh(2)
        for _ in range(4000):
            phi, q = coins(size)

            def model(sample, q=q):
                return (1 + sample("a", q)) * (1 + sample("b", Bernoulli(torch.full((size,), 0.5, dtype=torch.float64))))

            value = rp.graph(model, estimators={"a": rp.Score(average), "b": rp.Score(average)}, batch_shape=(size,), source=source)
            slopes.append(torch.autograd.grad(value.sum(), phi)[0])
        verdict = mean_test(torch.cat(slopes), 1.5 * THETA * (1 - THETA))
        assert verdict.detectable < 0.2  # read when it is weighed the slope is zero, 0.36 too low
        assert verdict, verdict

    @pytest.mark.parametrize("decay", [1.0, -0.1])
    def test_decay(self, decay):
        with pytest.raises(ValueError, match=r"lie in \[0, 1\)"):
            rp.MovingAverage(decay)


class TestLearned:
    def train(self, baseline, parameters, sign):
        optimizer = torch.optim.SGD(parameters, lr=0.2)
        source, slopes = fresh(3), []
        for _ in range(60):
            phi, q = coins(20_000)
            value = rp.expect(lambda z: 5 + z, q, estimator=rp.Score(baseline), source=source)
            optimizer.zero_grad()
            (sign * value.mean()).backward()
            optimizer.step()
            slopes.append(sign * phi.grad * len(phi))
        return torch.cat(slopes[10:])

    @pytest.mark.parametrize("sign", [1, -1], ids=["minimised", "maximised"])
    def test_descends_to_the_mean_cost_and_stays_unbiased(self, sign):
        b = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
        verdict = mean_test(self.train(b, [b], sign), THETA * (1 - THETA))
        assert abs(b.item() - (5 + THETA)) < 0.01
        assert verdict.detectable < 0.02
        assert verdict, verdict

    def test_of_data(self):
        # A baseline for each element, from what the element is about.
        x = torch.linspace(-1, 1, 500, dtype=torch.float64)
        net = torch.nn.Linear(1, 1).double()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.2)
        for step in range(300):
            _, q = coins(500)
            estimator = rp.Score(net(x[:, None]).squeeze(-1))
            value = rp.expect(lambda z: 3 * x + 0 * z, q, estimator=estimator, n=2, source=fresh(step))
            optimizer.zero_grad()
            value.mean().backward()
            optimizer.step()
        assert torch.allclose(net(x[:, None]).squeeze(-1), 3 * x, atol=1e-3)

    def test_second_derivatives_do_not_meet_it(self):
        b = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
        phi, q = coins(1)
        value = rp.expect(lambda z: z, q, estimator=rp.Score(b), n=4, source=fresh())
        (slope,) = torch.autograd.grad(value.sum(), phi, create_graph=True)
        assert torch.autograd.grad(slope.sum(), b, allow_unused=True)[0] is None

    def test_of_a_wrong_shape(self):
        for baseline in (torch.zeros(2, 5, requires_grad=True), rp.MovingAverage(shape=7)):
            with pytest.raises(ValueError, match="must not depend on the row"):
                rp.expect(lambda z: z, Normal(torch.zeros(5), 1.0), estimator=rp.Score(baseline), n=2)
        with pytest.raises(TypeError, match="Tuple returned tuple"):
            rp.expect(lambda z: z, Normal(torch.zeros(5), 1.0), estimator=rp.Score(Tuple()))

    def test_that_is_none(self):
        for baseline in (rp.MovingAverage, "mean"):
            with pytest.raises(TypeError, match="give a number, a tensor, or a module"):
                rp.expect(lambda z: z, Normal(torch.zeros(5), 1.0), estimator=rp.Score(baseline))


class Tuple(torch.nn.Module):
    def forward(self):
        return (1.0,)


def test_a_foreign_draw():
    q = Bernoulli(torch.tensor(0.3))
    with pytest.raises(ValueError, match="weigh it with the estimator that drew it"):
        rp.Score().weigh(rp.Enumerate().draw(q, 1, None), torch.zeros(2))


def test_single_precision_with_a_double_baseline():
    q = Bernoulli(torch.full((3,), 0.3, requires_grad=True))
    estimator = rp.Score(torch.zeros(3, dtype=torch.float64))
    assert rp.expect(lambda z: z, q, estimator=estimator).dtype == torch.float32


def test_func_grad_and_vmap():
    u = torch.tensor([0.2, 0.9], dtype=torch.float64)

    def value(phi, b):
        f = lambda z: (z - 0.3) ** 2  # noqa: E731
        return rp.expect(f, Bernoulli(logits=phi, validate_args=False), estimator=rp.Score(b), n=2, source=rp.Replay(u))

    b = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    phi = torch.tensor(PHI, dtype=torch.float64)
    slope, towards = torch.func.grad(value, (0, 1))(phi, b)
    assert torch.allclose(slope, ((0.49 - 0.3) * (1 - THETA) + (0.09 - 0.3) * -THETA) / 2 + 0 * phi)
    assert torch.allclose(towards, 2 * (b - (0.49 + 0.09) / 2))
    slopes = torch.vmap(torch.func.grad(value), (0, None))(phi.expand(3), b.detach())
    assert torch.allclose(slopes, slope.expand(3))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own, as it traces a Function
def test_compile():
    phi, b = (torch.tensor([v], dtype=torch.float64, requires_grad=True) for v in (PHI, 0.3))
    average = rp.MovingAverage()

    def step(phi, b):
        q = Bernoulli(logits=phi, validate_args=False)
        first = rp.expect(lambda z: z + 5, q, estimator=rp.Score(average), n=2)
        return first + rp.expect(lambda z: 0 * z + 5, q, estimator=rp.Score(b), n=2)

    torch.compile(step, backend="aot_eager", fullgraph=True)(phi, b).sum().backward()
    assert 5 <= average() <= 6
    assert phi.grad.isfinite().all()
    assert torch.allclose(b.grad, 2 * (b - 5))


@pytest.mark.parametrize(("estimator", "n"), [(rp.Score(), 3), (rp.LeaveOneOut(), 3), (rp.Quadrature(8), 1)], ids=repr)
def test_forward_mode_does_not_differentiate_the_samples(estimator, n):
    """It is that of reverse mode: no share of the path is added to the score."""

    def value(scale):
        return rp.expect(lambda z: (z - 1) ** 2, Normal(0.3, scale, validate_args=False), estimator=estimator, n=n, source=fresh())

    scale = torch.tensor(0.7, dtype=torch.float64)
    assert torch.func.jvp(lambda s: rp.sample(Normal(0.3, s, validate_args=False)), (scale,), (scale,))[1] == 0
    assert torch.allclose(torch.func.jvp(value, (scale,), (torch.ones_like(scale),))[1], torch.func.grad(value)(scale))


ONE = torch.ones(())


class TestMovingSupport:
    """A density with a step at an end that moves: the score has not mean zero, and the gradient would be off silently."""

    W = torch.tensor(2.0, requires_grad=True)
    REFUSED = {
        "shifted": lambda w: TransformedDistribution(Exponential(ONE), [AffineTransform(w, 1.0)]),
        "stretched": lambda w: TransformedDistribution(Uniform(0 * ONE, 1.0), [AffineTransform(0.0, w)]),
        "composed": lambda w: TransformedDistribution(
            Exponential(ONE), [ComposeTransform([ExpTransform(), AffineTransform(0.0, w)])]
        ),
        "of an event": lambda w: TransformedDistribution(
            Independent(Exponential(torch.ones(2)), 1), [AffineTransform(w, 1.0, event_dim=1)]
        ),
        "mixed": lambda w: MixtureSameFamily(Categorical(torch.ones(2)), Uniform(torch.zeros(2), w.expand(2))),
    }
    SERVED = {
        "stretched": lambda w: TransformedDistribution(Exponential(ONE), [AffineTransform(0.0, w)]),
        "without ends": lambda w: TransformedDistribution(Normal(w, w), [ExpTransform(), AffineTransform(0.0, w)]),
        "fixed": lambda w: TransformedDistribution(Exponential(w), [AffineTransform(3.0, 2.0)]),
    }

    @pytest.mark.parametrize("estimator", [rp.Score(), rp.LAX(torch.zeros_like), rp.Quadrature()], ids=lambda e: type(e).__name__)
    @pytest.mark.parametrize("name", REFUSED)
    def test_refused(self, name, estimator):
        with pytest.raises((ValueError, NotImplementedError), match=r"depends on a parameter that needs|noise of its own"):
            estimator.draw(self.REFUSED[name](self.W), 3, None)

    def test_under_a_transform(self):
        slope = torch.func.grad(lambda w: rp.expect(torch.log, self.SERVED["stretched"](w), estimator=rp.Score(), n=3))
        assert slope(torch.tensor(2.0)).isfinite()
        slope = torch.func.grad(lambda w: rp.expect(torch.log, self.REFUSED["shifted"](w), estimator=rp.Score(), n=3))
        with pytest.raises(ValueError, match="depends on a parameter that needs"):
            slope(torch.tensor(2.0))

    @pytest.mark.parametrize("name", SERVED)
    def test_served(self, name):
        w = torch.full((50_000,), 2.0, dtype=torch.float64, requires_grad=True)
        value = rp.expect(torch.log, self.SERVED[name](w), estimator=rp.LeaveOneOut(), n=8, source=fresh(4))
        found = torch.autograd.grad(value.sum(), w)[0]
        v = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
        q = self.SERVED[name](v)
        wanted = torch.autograd.grad(rp.expect(torch.log, q, estimator=rp.Quadrature()), v)[0]
        verdict = mean_test(found, wanted.item())
        assert verdict.detectable < 0.1
        assert verdict, verdict
