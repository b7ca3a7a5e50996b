"""Mixtures: gradients in the weights against closed forms, far tails, far components, weights of zero, structure, refusals."""

import math

import pytest
import torch
import torch.distributions as td

import reparam as rp
from reparam.distributions import LogitNormal, TanhNormal
from reparam.paths import cdf, icdf, log_survival, sample_and_log_prob
from reparam.stats import law_tests, mean_test

D = torch.float64


def t(*values, dtype=D, grad=False):
    return torch.tensor(values if len(values) > 1 else values[0], dtype=dtype, requires_grad=grad)


def fresh(seed=0):
    return rp.Fresh(torch.Generator().manual_seed(seed))


def mixture(component, logits=None, probs=None):
    return td.MixtureSameFamily(td.Categorical(probs=probs, logits=logits), component)


W, M, S = (0.2, -0.5, 0.4), (-1.0, 0.5, 2.0), (0.5, 1.0, 0.3)


def normals(w, m=None, s=None):
    return mixture(td.Normal(t(*M) if m is None else m, t(*S) if s is None else s), logits=w)


POWERS = {1: t(*M), 2: t(*M) ** 2 + t(*S) ** 2}  # and their means under the components


@pytest.mark.parametrize("power", POWERS)
def test_the_gradient_in_the_weights_in_expectation(power):
    """d/dw_k E f = E_k f, by softmax w_k (E_k f - E f). False alarms 1e-9 each; standard errors below 2 % of the largest."""
    n, w = 100_000, t(*W)
    weights = torch.softmax(w, -1)
    truth = weights * (POWERS[power] - (weights * POWERS[power]).sum())
    rows = w.expand(n, 3).clone().requires_grad_()
    x = rp.rsample(normals(rows, t(*M).expand(n, 3), t(*S).expand(n, 3)), source=fresh())
    (slopes,) = torch.autograd.grad((x**power).sum(), rows)
    for k in range(3):
        assert slopes[:, k].std() / n**0.5 < 0.02 * truth.abs().max()
        assert mean_test(slopes[:, k], float(truth[k]))
    # By quantiles, which a low-discrepancy source spreads evenly.
    w.requires_grad_()
    x = rp.rsample(normals(w), (2**14,), source=rp.Sobol(0))
    assert torch.allclose(torch.autograd.grad((x**power).mean(), w)[0], truth, rtol=2e-2, atol=2e-3)


def test_vectors_in_expectation():
    """E of x_1 x_2 under full-covariance components: in the weights, the means and the factors."""
    m, f = t([0.0, 1.0], [1.5, -1.0]), torch.tensor([[[0.7, 0.0], [0.4, 0.5]], [[1.0, 0.0], [-0.9, 0.3]]], dtype=D)
    n = 60_000
    leaves = [v.expand(n, *v.shape).clone().requires_grad_() for v in (t(0.3, -0.4), m, f)]
    d = mixture(td.MultivariateNormal(leaves[1], scale_tril=leaves[2]), logits=leaves[0])
    x = rp.rsample(d, source=fresh())
    found = torch.autograd.grad((x[:, 0] * x[:, 1]).sum(), leaves)

    def exact(w, m, f):
        return (torch.softmax(w, -1) * (m.prod(-1) + (f.tril() @ f.tril().mT)[:, 0, 1])).sum()

    truth = torch.autograd.functional.jacobian(exact, (t(0.3, -0.4), m, f))
    for samples, value in zip(found, truth, strict=True):
        for s, v in zip(samples.flatten(1).mT, value.flatten(), strict=True):
            assert mean_test(s, float(v)) if s.std() > 0 else v == 0


def test_components_that_overlap_nowhere():
    """Densities of the others underflow at every sample; the gradient is that of the own component, and of the others zero."""
    m, s = t(-1e6, 1e6, grad=True), t(1e-2, 10.0, grad=True)
    x = rp.rsample(normals(t(0.0, 0.0), m, s), (1000,), source=fresh())
    own = (x.unsqueeze(-1) - m).abs() < 100
    slopes = torch.autograd.grad(x.sum(), (m, s))
    assert torch.allclose(slopes[0], own.sum(0).to(D))
    assert torch.allclose(slopes[1], (((x.unsqueeze(-1) - m) / s) * own).sum(0).detach())
    p = rp.path(normals(t(0.0, 0.0), m, s))
    eps = t(1e-12, 0.3, 0.9, 40.0)
    assert torch.allclose(p.pull(p.push(eps)), eps, rtol=1e-6)


def test_far_tails():
    p = rp.path(normals(t(*W)))
    eps = t(1e-300, 1e-100, 1e-10, 50.0, 1e4)
    x = p.push(eps)
    assert torch.allclose(p.pull(x), eps, rtol=1e-11)
    # The heaviest of the tails carries them.
    weights = torch.softmax(t(*W), -1)
    assert torch.allclose(log_survival(td.Normal(t(0.5), 1.0), x[4]) + weights[1].log(), -eps[4], rtol=1e-9)
    single = rp.path(normals(t(*W, dtype=torch.float32), t(*M, dtype=torch.float32), t(*S, dtype=torch.float32)))
    assert torch.allclose(single.push(eps[1:].float().clamp(min=1e-37)).double()[2:], x[3:], rtol=1e-6)


def test_scales_far_apart():
    p = rp.path(mixture(td.Cauchy(t(0.0, 0.0), t(1e-3, 1e6)), logits=t(0.0, 0.0)))
    eps = p.noise.draw((2000,), source=rp.Sobol(0))
    assert torch.allclose(p.pull(p.push(eps)), eps, rtol=1e-9)


def test_a_weight_of_zero_keeps_its_derivative():
    w = t(0.0, 0.4, 0.6, grad=True)
    d = mixture(td.Normal(t(*M), t(*S)), probs=w)
    p = rp.path(d)
    eps = p.noise.draw((4096,), source=rp.Sobol(0))
    x = p.push(eps)
    without = rp.path(mixture(td.Normal(t(*M[1:]), t(*S[1:])), probs=t(0.4, 0.6))).push(eps)
    assert torch.allclose(x, without, rtol=1e-12)
    (slope,) = torch.autograd.grad(x.mean(), w)  # probabilities are normalized: w_k / sum w
    assert torch.allclose(slope, t(*M) - (t(0.0, 0.4, 0.6) * t(*M)).sum(), rtol=5e-3)
    (slope,) = torch.autograd.grad(rp.path(normals(t(-math.inf, 0.0, 0.3, grad=True))).push(eps).mean(), w, allow_unused=True)
    assert slope is None
    impossible = t(-math.inf, 0.0, 0.3, grad=True)
    (slope,) = torch.autograd.grad(rp.rsample(normals(impossible), (100,)).sum(), impossible)
    assert slope.isfinite().all()
    assert slope[0] == 0


def test_one_component_and_equal_components_are_the_component():
    eps = t(1e-9, 0.3, 4.0, 30.0)
    base = td.Normal(t(0.5), 2.0)
    truth = icdf(base, 1 - torch.exp(-eps[1:3]))
    one = rp.path(mixture(td.Normal(t(0.5).reshape(1), 2.0), logits=torch.zeros(1, dtype=D))).push(eps)
    assert torch.allclose(one[1:3], truth)
    w = t(0.1, 0.7, grad=True)
    equal = rp.path(mixture(td.Normal(t(0.5, 0.5), 2.0), logits=w)).push(eps)
    assert torch.allclose(equal, one, rtol=1e-12)
    assert torch.autograd.grad(equal.sum(), w)[0].abs().max() < 1e-9


@pytest.mark.parametrize(
    "component",
    [
        td.Uniform(t(0.0, 2.0), t(1.0, 2.5)),
        td.Gamma(t(0.5, 20.0), t(1.0, 1.0)),
        td.Beta(t(0.5, 8.0), t(3.0, 2.0)),
        td.StudentT(t(2.0, 5.0), t(0.0, 3.0)),
        td.LogNormal(t(0.0, 2.0), t(1.0, 0.1)),
        td.TransformedDistribution(td.Normal(t(0.0, 1.0), t(1.0, 0.2)), [td.AffineTransform(0.5, -2.0), td.SigmoidTransform()]),
        td.MixtureSameFamily(
            td.Categorical(logits=torch.zeros(2, 2)), td.Normal(t([0.0, 1.0], [4.0, 6.0]), t([1.0, 0.3], [1.0, 0.2]))
        ),
    ],
    ids=lambda d: type(d).__name__,
)
def test_components_of_many_kinds(component):
    d = mixture(component, logits=t(0.3, 0.0))
    p = rp.path(d)
    eps = p.noise.draw((2000,), source=rp.Sobol(0))
    x = p.push(eps)
    assert torch.allclose(p.pull(x), eps, rtol=1e-8)
    weights = torch.softmax(t(0.3, 0.0), -1)
    assert torch.allclose(cdf(d, x), (weights * cdf(component, x.unsqueeze(-1))).sum(-1), rtol=1e-9)
    x, log_prob = sample_and_log_prob(d, (1000,), source=rp.Sobol(0))
    width = 1e-4 * cdf(d, x).clamp(1e-3, 1) / log_prob.exp()
    near = (cdf(d, x + width) - cdf(d, x - width)) / (2 * width)
    assert ((near / log_prob.exp() - 1).abs() < 1e-3).float().mean() > 0.99  # where no component ends beside
    for verdict in law_tests(cdf(d, rp.rsample(d, (50_000,), source=fresh()))):
        assert verdict


def test_events_of_several_dimensions():
    base = td.Laplace(torch.randn(4, 3, 2, 2, dtype=D, generator=torch.Generator().manual_seed(0)), 1.0)
    d = mixture(td.Independent(td.Independent(base, 1), 1), logits=t(*W).expand(4, 3))
    p = rp.path(d)
    eps = p.noise.draw((5,), source=rp.Sobol(0))
    x = p.push(eps)
    assert x.shape == (5, 4, 2, 2)
    assert torch.allclose(p.pull(x), eps, rtol=1e-8)
    assert rp.rsample(d, (7,)).shape == (7, 4, 2, 2)
    # The parts need not be parameters of full shape.
    moved = td.TransformedDistribution(td.Normal(torch.zeros(3, 2, dtype=D), 1.0), td.AffineTransform(t(*M).unsqueeze(-1), 2.0))
    q = rp.path(mixture(td.Independent(moved, 1), logits=t(*W)))
    eps = q.noise.draw((5,), source=rp.Sobol(0))
    assert torch.allclose(q.pull(q.push(eps)), eps, rtol=1e-8)


def test_a_low_rank_covariance():
    loc, factor, diagonal = t([0.0, 1.0], [1.5, -1.0]), torch.ones(2, 2, 1, dtype=D) / 2, torch.full((2, 2), 0.3, dtype=D)
    low = rp.path(mixture(td.LowRankMultivariateNormal(loc, factor, diagonal), logits=t(0.3, -0.4)))
    full = mixture(td.MultivariateNormal(loc, factor @ factor.mT + 0.3 * torch.eye(2, dtype=D)), logits=t(0.3, -0.4))
    eps = low.noise.draw((64,), source=rp.Sobol(0))
    assert torch.allclose(low.push(eps), rp.path(full).push(eps))


def test_weights_shared_by_a_batch():
    d = mixture(td.Normal(t(*M).expand(5, 3), t(*S).expand(5, 3)), logits=t(*W))
    assert rp.rsample(d, (4,)).shape == (4, 5)
    eps = rp.path(d).noise.draw((4,), source=rp.Sobol(0))
    assert torch.allclose(rp.path(d).push(eps), rp.path(normals(t(*W))).push(eps))


def test_the_third_derivative():
    eps, w = t(0.7), t(0.2, 0.8, grad=True)

    def bend(w):
        (first,) = torch.autograd.grad(rp.path(mixture(td.Normal(t(-1.0, 2.0), 1.0), logits=w)).push(eps), w, create_graph=True)
        return torch.autograd.grad(first[0], w, create_graph=True)[0]

    assert torch.autograd.gradcheck(bend, (w,))


def test_a_gradient_where_torch_has_none():
    """At a value whose densities underflow, the distribution function is right all the same."""
    w = torch.zeros(2, requires_grad=True)
    for x, p in ((1e20, 1.0), (-1e20, 0.0)):
        value = cdf(mixture(td.Normal(torch.tensor([0.0, 1.0]), torch.ones(2)), logits=w), torch.tensor(x))
        assert value == p
        assert torch.autograd.grad(value, w)[0].tolist() == [0.0, 0.0]


def test_samples_with_their_density():
    d = normals(t(*W))
    x, log_prob = sample_and_log_prob(d, (1000,), source=fresh())
    assert torch.allclose(log_prob, d.log_prob(x))


def test_a_gap_between_supports():
    """A jump of the samples carries weight that no derivative sees."""
    for component in (
        td.Uniform(t(0.0, 5.0), t(1.0, 6.0)),
        td.TransformedDistribution(td.Beta(t(2.0, 2.0), 1.0), td.AffineTransform(t(5.0, 0.0), 1.0)),
    ):
        with pytest.raises(rp.NoPathError, match=r"leave a gap.* weights without a gradient, or use the score function"):
            rp.rsample(mixture(component, probs=t(0.4, 0.6, grad=True)))
        assert rp.rsample(mixture(component, probs=t(0.4, 0.6))).isfinite()
    w = t(0.4, 0.6, grad=True)
    x = rp.rsample(mixture(td.Uniform(t(0.5, 0.0), t(3.0, 1.0)), probs=w), (2**14,), source=rp.Sobol(0))
    assert torch.allclose(torch.autograd.grad(x.mean(), w)[0], t(0.75, -0.5), rtol=1e-3)  # supports that overlap
    boxes = td.Independent(td.Uniform(torch.zeros(2, 2), t([2.0, 1.0], [3.0, 1.0])), 1)
    with pytest.raises(rp.NoPathError, match=r"supports of different bounds.* Use the score function"):
        rp.rsample(mixture(boxes, probs=t(0.4, 0.6)))


@pytest.mark.parametrize("law", [TanhNormal, LogitNormal, td.Beta])
def test_components_that_reach_a_bound_within_rounding(law):
    a, b = ([0.1, 5.0], [0.1, 5.0]) if law is td.Beta else ([0.0, 0.0], [10.0, 1.0])
    w = torch.tensor([0.4, 0.6], requires_grad=True)
    d = mixture(law(torch.tensor(a), torch.tensor(b)), probs=w)
    x = rp.rsample(d, (4096,), source=rp.Sobol(0))
    low, high = d.support.base_constraint.lower_bound, d.support.base_constraint.upper_bound
    assert ((x > low) & (x < high)).all()
    assert torch.autograd.grad(x.mean(), w)[0].abs().max() < 1e-2  # by symmetry none
    assert icdf(d, 0.99).isfinite()


class Learned(td.AffineTransform):
    """A transform that holds a network."""

    def __init__(self):
        super().__init__(0.0, 1.0)
        self.net = torch.nn.Linear(1, 1)


def test_refusals():
    spheres = td.Independent(td.MultivariateNormal(torch.zeros(3, 2, 2), torch.eye(2)), 1)
    for component in (td.Dirichlet(torch.ones(3, 2)), spheres):
        with pytest.raises(rp.NoPathError, match=r"a mixture of \w+ has no path: components may be univariate"):
            rp.path(mixture(component, logits=torch.zeros(3)))
    nested = mixture(td.Normal(torch.zeros(3, 2, 2), 1.0), logits=torch.zeros(3, 2, 2))
    learned = td.TransformedDistribution(td.Normal(torch.zeros(3, 2), 1.0), Learned())
    for base in (nested, learned):
        with pytest.raises(rp.NoPathError, match="not every tensor of"):
            rp.rsample(mixture(td.Independent(base, 1), logits=torch.zeros(3)))
    with pytest.raises(rp.NoPathError, match="MixtureSameFamily is discrete"):
        rp.path(mixture(td.Poisson(torch.ones(3)), logits=torch.zeros(3)))
