"""Stochastic triples: what the table of rows does not say."""

import pytest
import torch
from torch.distributions import (
    Bernoulli,
    Binomial,
    Geometric,
    Independent,
    Multinomial,
    NegativeBinomial,
    Normal,
    OneHotCategorical,
    Poisson,
)

import reparam as rp
from reparam.estimators.integer import _differences
from reparam.estimators.weak import Drawn
from reparam.noise import EXPONENTIAL

TRIPLE = rp.StochasticTriple()


def fresh(seed=0):
    return rp.Fresh(torch.Generator().manual_seed(seed))


def leaf(*values):
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def slope(law, parameter, f, estimator=TRIPLE, n=20, seed=0):
    value = rp.expect(f, law(parameter), estimator=estimator, n=n, source=fresh(seed))
    return torch.autograd.grad(value.sum(), parameter)[0]


@pytest.mark.parametrize(
    ("law", "rows"),
    [
        (lambda: Poisson(leaf(1.0, 2.0)), 3),
        (lambda: Independent(Poisson(leaf(1.0, 2.0)), 1), 3),
        (lambda: NegativeBinomial(leaf(1.0), leaf(0.3)), 4),
        (lambda: NegativeBinomial(torch.ones(1), leaf(0.3)), 3),
        (lambda: Poisson(torch.ones(2)), 1),
        (lambda: Independent(Bernoulli(logits=leaf(1.0, 2.0, 3.0)), 1), 2),
        (lambda: Independent(OneHotCategorical(logits=torch.zeros(7, 4, requires_grad=True)), 1), 4),
    ],
)
def test_rows(law, rows):
    assert TRIPLE.draw(law(), 6, fresh()).value.shape[0] == 6 * rows


def test_rows_without_slices_and_of_every_component():
    q = Independent(Poisson(leaf(1.0, 2.0, 3.0)), 1)
    assert rp.StochasticTriple(slices=False).draw(q, 6, fresh()).value.shape[0] == 6 * 2
    assert rp.StochasticTriple(every=True).draw(q, 6, fresh()).value.shape[0] == 6 * 7


def test_as_many_samples_as_components_move_each_of_them_once():
    q = Independent(Poisson(torch.ones(3, 5, dtype=torch.float64, requires_grad=True)), 1)
    x, *moved = TRIPLE.draw(q, 10, fresh()).value.split(10)
    assert torch.equal((torch.stack(moved) != x).any(0).sum(0), torch.full((3, 5), 2))


LAWS = {
    "Poisson": (Poisson, (1e-20, 0.3, 4.0, 1e4), lambda t: t),
    "Binomial": (lambda p: Binomial(7, p), (0.0, 1e-20, 0.4, 1.0), lambda p: 7 * p),
    "Binomial of logits": (lambda x: Binomial(7, logits=x), (-100.0, 0.4, 100.0), lambda x: 7 * x.sigmoid()),
    "Binomial, none": (lambda p: Binomial(0, p), (0.0, 0.4, 1.0), lambda p: 0 * p),
    "Geometric": (Geometric, (1e-4, 0.4, 1.0), lambda p: 1 / p - 1),
    "Geometric of logits": (lambda x: Geometric(logits=x), (-9.0, 0.4, 100.0), lambda x: (-x).exp()),
    "NegativeBinomial": (lambda p: NegativeBinomial(2.5, p), (0.0, 1e-20, 0.4, 0.9999), lambda p: 2.5 * p / (1 - p)),
    "NegativeBinomial of logits": (lambda x: NegativeBinomial(2.5, logits=x), (-100.0, 0.4, 9.0), lambda x: 2.5 * x.exp()),
}


@pytest.mark.parametrize("name", LAWS)
def test_a_linear_cost_has_no_variance_up_to_the_ends_of_the_parameters(name):
    law, values, mean = LAWS[name]
    parameter = leaf(*values)
    exact = torch.autograd.grad(mean(parameter).sum(), parameter)[0]
    torch.testing.assert_close(slope(law, parameter, lambda z: 3 * z), 3 * exact, rtol=1e-9, atol=1e-12)


def brute(mass, y, level):
    """The slice around y by going through all counts."""
    inside = [k for k, m in enumerate(mass) if m >= level]
    assert inside == list(range(inside[0], inside[-1] + 1))
    assert y in inside
    return inside[0], inside[-1] + 1


@pytest.mark.parametrize(
    ("law", "of_y"),
    [
        (Poisson(torch.tensor([0.2, 3.0, 17.5])), lambda d: d),
        (Binomial(9, torch.tensor([0.05, 0.5, 0.9])), lambda d: Binomial(8, d.probs)),
        (Binomial(9, logits=torch.tensor([-3.0, 0.0, 2.0])), lambda d: Binomial(8, logits=d.logits)),
        (Geometric(torch.tensor([0.1, 0.5, 0.9])), lambda d: NegativeBinomial(2.0, 1 - d.probs)),
        (NegativeBinomial(torch.tensor([0.4, 2.0, 9.0]), 0.6), lambda d: NegativeBinomial(d.total_count + 1, d.probs)),
    ],
)
def test_slices_are_those_of_the_law_of_y(law, of_y):
    law = rp.detached(law)
    differences = _differences(law)
    x = rp.sample(law, (200,), source=fresh())
    at = Drawn(x, x, True, fresh(1))
    end, low = differences.jump(at).z
    noise = fresh(1)  # the same noise again
    y = differences.before(Drawn(x, x, True, noise))
    e = Drawn(x, x, True, noise).noise(EXPONENTIAL)
    counts = torch.arange(9.0 if isinstance(law, Binomial) else 400.0)
    mass = of_y(law).log_prob(counts.reshape(-1, 1)).double()
    for i in range(200):
        for j in range(3):
            level = mass[int(y[i, j]), j] - e[i, j]
            assert (int(low[i, j]), int(end[i, j])) == brute(mass[:, j].tolist(), int(y[i, j]), float(level))


def variance(law, parameter, f, estimator, n):
    """Of the gradient, of 20000 estimates: to 3 % or so."""
    leaves = torch.full((20_000,), parameter, dtype=torch.float64, requires_grad=True)
    return float(slope(law, leaves, f, estimator, n).var())


@pytest.mark.parametrize(
    ("law", "parameter"),
    [
        (Poisson, 3.0),
        (lambda p: Binomial(20, p), 0.3),
        (Geometric, 0.2),
        (lambda p: NegativeBinomial(torch.full_like(p, 2.5), p), 0.6),
    ],
    ids=["Poisson", "Binomial", "Geometric", "NegativeBinomial"],
)
def test_less_variance_than_leave_one_out_at_as_many_rows(law, parameter):
    centre = float(law(torch.tensor(parameter)).mean)
    for f, ratio in ((lambda z: (z - centre + 0.5) ** 2, 10), (lambda z: (z > centre).double(), 1)):
        assert ratio * variance(law, parameter, f, TRIPLE, 1) < variance(law, parameter, f, rp.LeaveOneOut(), 3)


def test_a_step_at_a_large_rate_is_met():
    def step(z):
        return (z > 1e4).double()

    sliced = variance(Poisson, 1e4, step, TRIPLE, 1)
    assert sliced < variance(Poisson, 1e4, step, rp.LeaveOneOut(), 3)
    assert sliced < 0.01 * variance(Poisson, 1e4, step, rp.StochasticTriple(slices=False), 1)


def test_transforms_of_torch_func():
    rate = torch.tensor([0.7, 4.0])

    def estimate(rate):
        return rp.expect(lambda z: 2.0 * z, Poisson(rate, validate_args=False), estimator=TRIPLE, n=5)

    wanted = torch.full((2,), 2.0)
    assert torch.allclose(torch.func.grad(lambda r: estimate(r).sum())(rate), wanted)
    assert torch.allclose(torch.func.vmap(torch.func.grad(estimate), randomness="different")(rate), wanted)

    def several(rate):
        q = Independent(Poisson(rate, validate_args=False), 1, validate_args=False)
        return rp.expect(lambda z: 2.0 * z.sum(-1), q, estimator=TRIPLE, n=6)

    rates = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    assert torch.allclose(torch.func.vmap(torch.func.grad(several), randomness="different")(rates), torch.full((2, 3), 2.0))


def test_one_of_a_batch_may_not_be_summed():
    with pytest.raises(ValueError, match=r"shape \(\), the batch of the law \(2,\).*Independent"):
        rp.expect(lambda z: z.sum(-1), Poisson(leaf(1.0, 2.0)), estimator=TRIPLE)


@pytest.mark.parametrize(
    ("law", "says"),
    [
        (lambda p: Normal(p, 1.0), "Normal is continuous: use rp.Pathwise"),
        (lambda p: Multinomial(3, p.expand(2)), "Multinomial is known: use rp.LeaveOneOut"),
        (lambda p: Binomial(p, 0.3), "the total count is an integer and has no gradient: detach it"),
    ],
)
def test_a_law_without_is_refused(law, says):
    with pytest.raises(NotImplementedError, match=says):
        rp.expect(lambda z: z.float(), law(torch.tensor(3.0, requires_grad=True)), estimator=TRIPLE)


def test_second_derivatives_are_refused():
    rate = leaf(3.0)
    value = rp.expect(lambda z: z**2, Poisson(rate), estimator=TRIPLE)
    (first,) = torch.autograd.grad(value.sum(), rate, create_graph=True)
    with pytest.raises(NotImplementedError, match="first derivatives only"):
        torch.autograd.grad(first.sum(), rate)
