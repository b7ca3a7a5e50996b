"""Measure-valued derivatives: what the table of rows does not say."""

import math

import pytest
import torch
from torch.autograd import forward_ad
from torch.distributions import (
    Bernoulli,
    Categorical,
    Exponential,
    Gamma,
    Independent,
    MultivariateNormal,
    Normal,
    OneHotCategorical,
    Poisson,
    Weibull,
)

import reparam as rp
from reparam.estimators.weak import Drawn, weak_derivatives
from reparam.special.gamma import log_gamma_density, log_gamma_slope
from reparam.stats import mean_test

K = 1.2


def fresh(seed=0):
    return rp.Fresh(torch.Generator().manual_seed(seed))


def square(x):
    return (x - K) ** 2


def leaf(*values):
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize(
    ("law", "rows"),
    [
        (lambda: Normal(leaf(0.0), leaf(1.0)), 4),
        (lambda: Normal(leaf(0.0), torch.ones(1)), 3),
        (lambda: Normal(torch.zeros(1), leaf(1.0)), 2),
        (lambda: Normal(torch.zeros(1), torch.ones(1)), 1),
        (lambda: Independent(Normal(leaf(0.0, 1.0, 2.0), leaf(1.0, 1.0, 1.0)), 1), 10),
        (lambda: Exponential(leaf(1.0, 2.0)), 2),
        (lambda: Bernoulli(logits=leaf(1.0, 2.0)), 2),
        (lambda: Independent(Bernoulli(logits=leaf(1.0, 2.0)), 1), 3),
        (lambda: OneHotCategorical(logits=leaf(1.0, 2.0, 3.0, 4.0)), 4),
        (lambda: Independent(Categorical(logits=torch.zeros(2, 5, requires_grad=True)), 1), 9),
    ],
)
def test_rows_are_counted_by_the_parameters_that_need_a_gradient(law, rows):
    assert rp.MeasureValued().draw(law(), 6, fresh()).value.shape[0] == 6 * rows


def test_one_component_moves_in_a_row():
    q = Independent(Normal(leaf(0.0, 1.0, 2.0), torch.ones(3, dtype=torch.float64)), 1)
    x, *moved = rp.MeasureValued().draw(q, 5, fresh()).value.split(5)
    where = torch.stack(moved) != x
    assert torch.equal(where.any(1), torch.eye(3, dtype=torch.bool).repeat(2, 1))
    assert bool((where.sum(-1) == 1).all())


def test_the_second_part_is_close_to_the_first_where_they_are_coupled():
    scale = leaf(1.0)
    x, z = rp.MeasureValued().draw(Normal(torch.zeros(1, dtype=torch.float64), scale), 1000, fresh()).value.chunk(2)
    assert bool((z / x > 1).all())  # the same side, further out
    x, z = rp.MeasureValued(coupled=False).draw(Normal(torch.zeros(1, dtype=torch.float64), scale), 1000, fresh()).value.chunk(2)
    assert 400 < int((z / x > 0).sum()) < 600


def test_a_batch_of_one_may_be_summed_and_a_larger_one_may_not():
    assert rp.expect(lambda z: square(z).sum(-1), Normal(leaf(0.0), 1.0), estimator=rp.MeasureValued()).shape == ()
    with pytest.raises(ValueError, match=r"shape \(\), the batch of the law \(3,\).*Independent"):
        rp.expect(lambda z: square(z).sum(-1), Normal(leaf(0.0, 0.0, 0.0), 1.0), estimator=rp.MeasureValued())


def test_parameters_in_the_cost_count_too():
    mu = leaf(0.7)
    value = rp.expect(lambda z: (z - mu) ** 4, Normal(mu, 1.0), estimator=rp.MeasureValued(), n=200_000, source=fresh())
    value.backward(torch.ones(1))
    assert abs(float(mu.grad)) < 0.2  # moments around the mean do not move with it; without the cost's own share it is 12

    weight = leaf(2.0)
    x = rp.MeasureValued().draw(Normal(mu, 1.0), 3, fresh())
    cost = weight * x.value
    rp.MeasureValued().weigh(x, cost).backward(torch.ones(1))
    assert torch.allclose(weight.grad, x.value[:3].mean(0))


def test_draws_that_rows_of_another_node_share():
    mu, a = leaf(0.7).squeeze().detach().requires_grad_(), torch.tensor(0.2, dtype=torch.float64, requires_grad=True)

    def model(sample):
        b = sample("b", Bernoulli(logits=a))
        z = sample("z", Normal(mu, torch.ones_like(mu)))
        assert z.shape == (3 * 40, 1)
        return (1 + b) * square(z)

    grads = []
    for i in range(400):
        value = rp.graph(model, estimators={"b": rp.Enumerate(), "z": rp.MeasureValued()}, n={"z": 40}, source=fresh(i))
        grads.append(torch.stack(torch.autograd.grad(value, [mu, a])))
    p = 1 / (1 + math.exp(-0.2))
    exact = ((1 + p) * 2 * (0.7 - K), p * (1 - p) * ((0.7 - K) ** 2 + 1))
    for found, wanted in zip(torch.stack(grads).unbind(-1), exact, strict=True):
        verdict = mean_test(found, wanted)
        assert verdict, verdict
        assert verdict.detectable < 0.2


@pytest.mark.parametrize("source", [rp.Sobol(seed=0), rp.Antithetic(fresh())])
def test_rows_that_depend_on_each_other_do_no_harm(source):
    mu, sigma = leaf(0.7), leaf(1.3)
    grads = []
    for _ in range(200):
        value = rp.expect(square, Normal(mu, sigma), estimator=rp.MeasureValued(), n=8, source=source)
        grads.append(torch.cat(torch.autograd.grad(value, [mu, sigma])))
    for found, wanted in zip(torch.stack(grads).unbind(-1), (2 * (0.7 - K), 2 * 1.3), strict=True):
        verdict = mean_test(found, wanted)
        assert verdict, verdict
        assert verdict.detectable < 1.5


def estimate(mu):
    return rp.expect(square, Normal(mu, torch.ones_like(mu)), estimator=rp.MeasureValued(), n=20_000)


def test_transforms_of_torch_func_and_forward_mode():
    mu, exact = torch.tensor([0.7, 2.0]), torch.tensor([2 * (0.7 - K), 2 * (2.0 - K)])
    torch.manual_seed(0)
    found = [torch.func.grad(lambda m: estimate(m).sum())(mu)]
    found.append(torch.func.vmap(torch.func.grad(estimate), randomness="different")(mu))
    found.append(torch.func.jvp(estimate, (mu,), (torch.ones(2),))[1])
    with forward_ad.dual_level():
        found.append(forward_ad.unpack_dual(estimate(forward_ad.make_dual(mu, torch.ones(2)))).tangent)
    for gradient in found:
        assert (gradient - exact).abs().max() < 0.1  # the deviation is 0.007 at most


@pytest.mark.parametrize(
    "law", [lambda p: Normal(p, p, validate_args=False), lambda p: Bernoulli(logits=p, validate_args=False)], ids=["normal", "coin"]
)
def test_compiles(law):
    f = torch.compile(lambda p: rp.expect(square, law(p), estimator=rp.MeasureValued(), n=5), backend="aot_eager", fullgraph=True)
    p = torch.tensor([0.5, 2.0], requires_grad=True)
    f(p).sum().backward()
    assert bool(p.grad.isfinite().all())
    assert bool((p.grad != 0).all())


@pytest.mark.parametrize("shape", [(0,), (2, 0)])
def test_nothing_to_draw(shape):
    mu = torch.zeros(shape, requires_grad=True)
    assert rp.expect(square, Normal(mu, 1.0), estimator=rp.MeasureValued()).shape == shape
    q = Independent(Normal(mu, 1.0), 1)
    rp.expect(lambda z: square(z).sum(-1), q, estimator=rp.MeasureValued()).sum().backward()
    assert mu.grad.shape == shape


def test_what_cannot_happen_costs_nothing():
    logits = torch.tensor([-200.0, 0.0, 0.0], requires_grad=True)
    prices = torch.tensor([math.inf, 1.0, 2.0])
    value = rp.expect(lambda z: prices[z], Categorical(logits=logits), estimator=rp.MeasureValued())
    value.backward()
    assert torch.allclose(value, torch.tensor(1.5))
    assert torch.allclose(logits.grad, torch.tensor([0.0, -0.25, 0.25]))
    coin = torch.tensor(-200.0, requires_grad=True)
    rp.expect(lambda z: -torch.log1p(-z), Bernoulli(logits=coin), estimator=rp.MeasureValued()).backward()
    assert coin.grad == 0


@pytest.mark.parametrize("a", [3e-3, 0.1, 1.0, 50.0, 1e6])
def test_the_parts_of_a_gamma_law_lie_where_its_slope_says(a):
    concentration = torch.tensor(a, dtype=torch.float64, requires_grad=True)
    q = Gamma(concentration, torch.ones((), dtype=torch.float64))
    e = torch.logspace(-6, 1.5, 50, dtype=torch.float64)
    at = Drawn(e, e, True, rp.noise.Replay(e))
    jump = next(jumps for theta, jumps in weak_derivatives(q) if theta is q.concentration)(at)
    psi = torch.digamma(concentration.detach())
    above, below = jump.z.log()
    assert bool((above >= psi).all())
    below = torch.where(jump.z[1] > 1e-300, below, math.nan)  # beyond, the floats end
    for y in (above, below):
        # The distribution function of log X, whose derivative in the concentration is the level of the noise.
        level = log_gamma_slope(concentration.detach(), y).log() + log_gamma_density(concentration.detach(), y)
        wanted = jump.weight[0, 0].log() - e
        known = y.isfinite()
        torch.testing.assert_close(level[known], wanted[known], rtol=1e-9, atol=1e-7)


def one():
    return torch.ones((), requires_grad=True)


@pytest.mark.parametrize(
    ("law", "says"),
    [
        (lambda: MultivariateNormal(torch.zeros(2, requires_grad=True), torch.eye(2)), "MultivariateNormal.*LeaveOneOut.*register"),
        (lambda: Weibull(1.0, one()), "Weibull: no weak derivative in the concentration.*Pathwise"),
    ],
)
def test_a_law_without_is_refused(law, says):
    with pytest.raises(NotImplementedError, match=says):
        rp.expect(lambda z: z, law(), estimator=rp.MeasureValued())


def test_a_foreign_draw_is_refused():
    q = Normal(leaf(0.0), 1.0)
    for other in (rp.LeaveOneOut(), rp.Pathwise()):
        draw = other.draw(q, 2, None)
        with pytest.raises(ValueError, match="the estimator that drew it"):
            rp.MeasureValued().weigh(draw, draw.value)


def test_noise_of_a_source_that_a_law_cannot_take_is_refused():
    with pytest.raises(NotImplementedError, match="no noise source"):
        rp.expect(lambda z: z, Poisson(one()), estimator=rp.MeasureValued(), source=rp.Sobol(seed=0))


@pytest.mark.parametrize("estimator", [rp.MeasureValued(), rp.StochasticTriple()], ids=lambda e: type(e).__name__)
def test_replayed_noise_is_refused(estimator):
    # A jump from the noise that the sample was made of is not independent of it: the gradient would be biased.
    q = torch.distributions.Geometric(torch.full((50,), 0.3, requires_grad=True))
    with pytest.raises(ValueError, match="the same for both"):
        estimator.draw(q, 8, rp.Replay(torch.rand(8, 50)))
