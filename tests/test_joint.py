"""Samples with their log-density: the density of torch where torch is right, finite and exact where it is not."""

import math

import pytest
import torch
import torch.distributions as td
from torch.distributions.relaxed_bernoulli import LogitRelaxedBernoulli
from torch.distributions.relaxed_categorical import ExpRelaxedCategorical

import reparam as rp
from reparam.paths import log_cdf, sample_and_log_prob
from reparam.stats import mean_test

D = torch.float64
Z, ONE = torch.zeros(3, dtype=D), torch.ones(3, dtype=D)
N = td.Normal(Z, ONE)


def fresh(seed=0):
    return rp.Fresh(torch.Generator().manual_seed(seed))


def through(*transforms, base=N):
    return td.TransformedDistribution(base, list(transforms))


LAWS = [
    N,
    td.Independent(N, 1),
    td.MultivariateNormal(Z, torch.eye(3, dtype=D)),
    through(td.TanhTransform()),
    through(td.SigmoidTransform()),
    through(td.SoftplusTransform()),
    through(td.ExpTransform(), td.PowerTransform(torch.tensor(-1.5, dtype=D))),
    through(td.AffineTransform(1.0, -2.0)),
    through(td.SigmoidTransform(), td.SigmoidTransform().inv),
    through(td.StickBreakingTransform()),
    through(td.StickBreakingTransform(), base=td.MultivariateNormal(Z, torch.eye(3, dtype=D))),
    through(td.StickBreakingTransform().inv, base=td.Dirichlet(2 * ONE)),
    through(td.CorrCholeskyTransform()),
    through(td.ReshapeTransform((3,), (3, 1))),
    through(td.CatTransform([td.ExpTransform(), td.TanhTransform()], dim=-1, lengths=[1, 2])),
    through(td.IndependentTransform(td.ExpTransform(), 1)),
    through(td.ComposeTransform([td.TanhTransform(), td.AffineTransform(0.0, 2.0)])),
    through(td.TanhTransform(cache_size=1)),
    through(td.CumulativeDistributionTransform(td.Normal(0.0, 2.0)), td.CumulativeDistributionTransform(td.Laplace(0.0, 1.0)).inv),
    td.LogNormal(Z, ONE),
    rp.reparameterized(td.LogNormal(Z, ONE)),
    td.LogisticNormal(Z, ONE),
    LogitRelaxedBernoulli(torch.tensor(0.7, dtype=D), logits=Z),
    td.RelaxedBernoulli(torch.tensor(0.7, dtype=D), logits=Z),
    ExpRelaxedCategorical(torch.tensor(0.7, dtype=D), logits=Z),
    td.RelaxedOneHotCategorical(torch.tensor(0.7, dtype=D), logits=Z),
    td.Exponential(2 * ONE),
    td.Weibull(ONE, 2 * ONE),
    td.Pareto(ONE, 3 * ONE),
    td.Gumbel(Z, 2 * ONE),
    td.Kumaraswamy(2 * ONE, 3 * ONE),
    td.HalfNormal(ONE),
    td.HalfCauchy(ONE),
    td.ContinuousBernoulli(logits=ONE),
    td.ContinuousBernoulli(logits=-7 * ONE),
    td.Gamma(2 * ONE, 3 * ONE),
    td.Chi2(3 * ONE),
    td.InverseGamma(2 * ONE, 3 * ONE),
    td.Beta(2 * ONE, 3 * ONE),
    td.Dirichlet(torch.tensor([1.0, 2.0, 3.0], dtype=D)),
    td.StudentT(3 * ONE),
    td.MixtureSameFamily(td.Categorical(logits=Z), td.Normal(Z, ONE)),
]


def name(d):
    steps = getattr(d, "transforms", []) if type(d) is td.TransformedDistribution else []
    return " ".join([type(d).__name__, *(type(t).__name__ for t in steps)])


@pytest.mark.parametrize("d", LAWS, ids=name)
def test_the_density_is_that_of_the_law(d):
    for source in (fresh(), rp.Sobol(0)):
        x, log_prob = sample_and_log_prob(d, (64,), source=source)
        assert x.shape == (64, *d.batch_shape, *d.event_shape)
        assert log_prob.shape == (64, *d.batch_shape)
        assert torch.allclose(log_prob, d.log_prob(x), rtol=1e-9, atol=1e-9)
    if rp.path(d).sample is None:  # otherwise the fresh sampler goes another way
        assert torch.equal(sample_and_log_prob(d, (9,), source=fresh())[0], rp.rsample(d, (9,), source=fresh()))


def test_a_stack_of_transforms():
    """Torch's own log-determinant of a stack has the wrong shape."""
    d = through(td.StackTransform([td.ExpTransform(), td.TanhTransform(), td.AffineTransform(0.0, 2.0)], dim=-1))
    x, log_prob = sample_and_log_prob(d, (64,))
    a, b, c = x.unbind(-1)
    n = td.Normal(0.0, 1.0)
    truth = n.log_prob(a.log()) - a.log() + n.log_prob(b.atanh()) - torch.log1p(-b * b) + n.log_prob(c / 2) - math.log(2)
    assert torch.allclose(log_prob, truth)


@pytest.mark.parametrize(
    ("dtype", "loc", "scale"), [(torch.float32, 0.0, 5.0), (torch.bfloat16, 3.0, 1.0), (torch.float16, 3.0, 1.0)]
)
def test_a_squashed_policy_never_inverts_its_tanh(dtype, loc, scale):
    d = td.TransformedDistribution(td.Normal(torch.full((100_000,), loc, dtype=dtype), scale), [td.TanhTransform()])
    action, log_prob = sample_and_log_prob(d, source=fresh())
    assert action.dtype == log_prob.dtype == dtype
    assert action.abs().max() < 1
    assert log_prob.isfinite().all()
    z = rp.rsample(td.Normal(torch.full((100_000,), loc), scale), source=fresh()).double()
    base, stretch = td.Normal(loc, scale).log_prob(z), 2 * (math.log(2) - z.abs() - torch.log1p(torch.exp(-2 * z.abs())))
    # Roundings of the terms in float32, and one of the sum.
    room = 4 * torch.finfo(torch.float32).eps * (base.abs() + stretch.abs() + 2) + torch.finfo(dtype).eps * (base - stretch).abs()
    assert ((log_prob.double() - (base - stretch)).abs() <= room).all()


def _kumaraswamy_entropy(d):
    a, b = d.concentration1, d.concentration0
    return (1 - 1 / b) + (1 - 1 / a) * (torch.digamma(b + 1) + 0.5772156649015329) - (a * b).log()


@pytest.mark.parametrize(
    ("law", "parameters"),
    [
        (td.Gamma, (0.01, 1.0)),
        (td.Gamma, (1e-4, 2.0)),
        (td.Beta, (0.01, 0.02)),
        (td.Dirichlet, ([0.01] * 4,)),
        (td.Kumaraswamy, (0.2, 0.2)),
        (td.Kumaraswamy, (0.01, 0.01)),
    ],
)
def test_densities_beyond_what_a_sample_can_hold(law, parameters):
    """In float32 most of these samples are at the ends of the floats; the mean log-density is minus the entropy all the same."""
    d, wide = (law(*[torch.tensor(p, dtype=dtype) for p in parameters]) for dtype in (torch.float32, D))
    x, log_prob = sample_and_log_prob(d, (200_000,), source=fresh())
    assert x.isfinite().all()
    assert log_prob.isfinite().all()
    entropy = _kumaraswamy_entropy(wide) if law is td.Kumaraswamy else wide.entropy()
    assert mean_test(log_prob.double(), -float(entropy))


def test_relaxed_categories_in_the_cold():
    d = td.RelaxedOneHotCategorical(torch.tensor(0.1), logits=torch.zeros(1000))
    _, log_prob = sample_and_log_prob(d, (200,))
    assert log_prob.isfinite().all()


def test_the_gradient_is_the_total_derivative():
    """Of the entropy: that of the log-density in the parameter and through the sample; in expectation -d entropy."""
    a = torch.tensor(2.0, dtype=D, requires_grad=True)
    for law, exact in (
        (lambda: td.Gamma(a, 1.0), 0.35507),
        (lambda: td.LogNormal(0.3 * a, a), 0.8),
        (lambda: td.Weibull(1.0, a), None),
    ):
        x, log_prob = sample_and_log_prob(law(), (50_000,), source=rp.Sobol(0))
        assert x.requires_grad
        (slope,) = torch.autograd.grad(-log_prob.mean(), a)
        (truth,) = torch.autograd.grad(law().entropy(), a)
        assert slope.item() == pytest.approx(truth.item(), abs=2e-4)
        assert exact is None or truth.item() == pytest.approx(exact, abs=1e-4)


def test_a_sample_and_density_are_differentiable_to_second_order():
    d = lambda m, s: td.TransformedDistribution(td.Normal(m, s), [td.TanhTransform(), td.AffineTransform(0.0, 2.0)])  # noqa: E731
    leaves = [torch.tensor(v, dtype=D, requires_grad=True) for v in (0.3, 1.2)]
    eps = rp.Replay(rp.path(d(*leaves)).noise.draw((4,), source=rp.Sobol(0)))

    def both(m, s):
        return sample_and_log_prob(d(m, s), (4,), source=eps)

    assert torch.autograd.gradcheck(both, leaves, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(both, leaves)


def test_distribution_functions_as_transforms_keep_their_tails():
    far = td.TransformedDistribution(
        td.Normal(torch.full((1000,), -9.0), 0.1), [td.CumulativeDistributionTransform(td.Normal(0.0, 1.0))]
    )
    x, log_prob = sample_and_log_prob(far, source=fresh())
    z = rp.rsample(far.base_dist, source=fresh())
    assert torch.allclose(x.log(), log_cdf(td.Normal(0.0, 1.0), z), rtol=1e-4)
    assert log_prob.isfinite().all()


class Doubled(td.Normal):
    """A normal of twice the scale, and a density of its own."""

    def log_prob(self, value):
        return super().log_prob(value) - 7.0


def test_what_has_no_formula_is_asked_for_its_density():
    x, log_prob = sample_and_log_prob(Doubled(torch.zeros(3), 1.0), (5,))
    assert torch.equal(log_prob, td.Normal(0.0, 1.0).log_prob(x) - 7.0)

    class Slanted(td.Weibull):
        def log_prob(self, value):
            return super().log_prob(value) + 1.0

    d = Slanted(torch.ones(3), 2.0)
    x, log_prob = sample_and_log_prob(d, (5,))
    assert torch.equal(log_prob, d.log_prob(x))


def test_users_register_their_own():
    class Shifted(td.Normal):
        pass

    @sample_and_log_prob.register
    def shifted(d: Shifted, rows, source):
        x = rp.path(d).draw(rows, source=source)
        return x, torch.full_like(x, 3.0)

    assert sample_and_log_prob(td.Independent(Shifted(torch.zeros(2), 1.0), 1), (5,))[1].tolist() == [6.0] * 5


@pytest.mark.parametrize(
    "transform", [td.SoftmaxTransform(), td.AbsTransform(), td.LowerCholeskyTransform()], ids=lambda t: type(t).__name__
)
def test_what_has_no_density_is_refused(transform):
    d = td.TransformedDistribution(td.Normal(torch.zeros(3, 3), 1.0), [transform])
    assert rp.rsample(d).shape == (3, 3)
    with pytest.raises(rp.NoPathError, match="has no log-determinant, so its samples have no density"):
        sample_and_log_prob(d)
    with pytest.raises(rp.NoPathError, match="Bernoulli is discrete"):
        sample_and_log_prob(td.Bernoulli(0.5))
