"""The laws that torch lacks: their densities, moments, distribution functions and manners, for every class of the layer.

Univariate laws are checked against quadrature over the exact quantile function of their row in `cases`, which knows nothing of
ours; vector laws against their own samples, whose law test_paths_law.py checks.
"""

import copy
import inspect
import math
import pickle
from functools import cache

import mpmath as mp
import numpy as np
import pytest
import scipy.special as sp
import scipy.stats as st
import torch
import torch.distributions as td
from torch.distributions import constraints, kl_divergence

import reparam as rp
import reparam.distributions as rd
from cases import CASES, EXTREME, ids
from reparam.distributions import Delta, Discrete, Law, TanhNormal, Univariate
from reparam.paths import sample_and_log_prob
from reparam.paths.cumulative import icdf_from_log, log_survival
from reparam.paths.path import bounds, representable
from reparam.stats import mean_test

CLASSES = [getattr(rd, name) for name in rd.__all__ if getattr(rd, name) not in (Law, Univariate)]
CLASSES = [cls for cls in CLASSES if not issubclass(cls, Discrete)]  # those have no path; test_structured.py has them
OURS = [case for case in CASES if type(case.make()) in CLASSES]
UNIVARIATE = [case for case in OURS if case.exact is not None]
# Their exact quantiles are solved for, slowly and to few digits; test_circular.py has other truth for them.
SOLVED = (rd.ExponentiallyModifiedNormal, rd.InverseGaussian, rd.SkewNormal)
EXACT = [case for case in UNIVARIATE if not isinstance(case.make(), SOLVED)]
SAMPLED = [case for case in OURS if case not in EXACT]
EXTREMES = [case for case in EXTREME if type(case.make()) in CLASSES and case.density]


def fresh(seed=0):
    return rp.Fresh(torch.Generator().manual_seed(seed))


def double(*values):
    return [torch.tensor(v, dtype=torch.float64) for v in values]


def known(d, name):
    """An attribute or the result of a method; None where the class says that it has none."""
    try:
        value = getattr(d, name)
        return value() if callable(value) else value
    except NotImplementedError:
        return None


def unvalidated(d):
    new = copy.copy(d)
    new._validate_args = False
    return new


def test_every_class_has_a_row():
    assert {cls.__name__ for cls in CLASSES} == {type(case.make()).__name__ for case in OURS} | {"Delta", "HypersphericalUniform"}


def test_the_list_of_exports_is_sorted_and_whole():
    assert rd.__all__ == sorted(rd.__all__)
    assert all(issubclass(getattr(rd, name), td.Distribution) for name in rd.__all__)


# Density and moments


@pytest.mark.parametrize("case", EXACT, ids=ids)
def test_the_density_is_the_slope_of_the_exact_distribution_function(case):
    law, d = case.exact(*case.parameters), case.make()
    step = 1e-3
    for quantile in (law.ppf, law.isf):
        for tail in (1e-12, 1e-6, 1e-3, 0.03, 0.21, 0.47):
            at = [float(quantile(tail * math.exp(k * step))) for k in (-2, -1, 0, 1, 2)]
            slope = abs((8 * (at[3] - at[1]) - (at[4] - at[0])) / (12 * step))
            if slope < 1e-9 * abs(at[2]):
                continue  # beside an end of the support the values do not tell these tails apart
            exact = math.log(tail) - math.log(slope)
            rounding = 1e-15 * abs(at[2]) / slope / step  # of the values that are subtracted
            found = float(d.log_prob(torch.tensor(at[2], dtype=torch.float64)))
            assert abs(found - exact) <= 1e-8 * max(1.0, abs(exact)) + 10 * rounding, (tail, found, exact)


NODES, WEIGHTS = np.polynomial.legendre.leggauss(40)
KINKED = (
    rd.AsymmetricLaplace,
    rd.GeneralizedNormal,
    rd.LogitBeta,
    rd.Triangular,
    rd.Truncated,
)  # of a density that bends sharply at its mode


@cache
def quadrature(case, *kinks):
    """Exact quantiles and their weights, in panels that close in on the kinks."""
    law, d = case.exact(*case.parameters), case.make()
    # u = 1 / (1 + exp(-pi sinh t)): both tails fall doubly exponentially.
    at = [math.asinh(float(sp.logit(float(law.cdf(kink)))) / math.pi) for kink in kinks]
    near = {t + side * 4.0**-k for t in at for k in range(8) for side in (-1, 1)} | set(at)
    edges = np.array(sorted({-4.5, -1.5, 1.5, 4.5} | {t for t in near if abs(t) < 4}))
    middle, half = (edges[1:] + edges[:-1]) / 2, (edges[1:] - edges[:-1]) / 2
    t, weights = (middle[:, None] + np.outer(half, NODES)).ravel(), np.outer(half, WEIGHTS).ravel()
    p, q = sp.expit(math.pi * np.sinh(t)), sp.expit(-math.pi * np.sinh(t))
    x = np.concatenate([law.ppf(p[t < 0]), law.isf(q[t >= 0])])
    # A quantile may round to the end.
    return representable(torch.from_numpy(x), d.support), torch.from_numpy(weights * math.pi * np.cosh(t) * p * q)


def exact_average(case, g, *laws):
    """`E g(X)` by quadrature over the exact quantiles; the laws are those whose densities are in `g`."""
    x, weights = quadrature(case, *(float(d.mode) for d in laws if isinstance(d, KINKED)))
    return float(g(x) @ weights)


@pytest.mark.parametrize("case", EXACT, ids=ids)
def test_mean_variance_and_entropy_are_those_of_the_exact_law(case):
    d = case.make()
    if isinstance(d, rd.Truncated):
        pytest.skip("no closed moments for any law in a window")
    mean = exact_average(case, lambda x: x, d)
    deviation = math.sqrt(exact_average(case, lambda x: (x - mean) ** 2, d))
    entropy = -exact_average(case, d.log_prob, d)
    for name, truth, size in (("mean", mean, deviation), ("stddev", deviation, deviation), ("entropy", entropy, 1.0)):
        found = known(d, name)
        assert found is not None, f"{case.name} has no {name}"
        assert found.dtype == torch.float64
        assert found.shape == ()
        assert abs(float(found) - truth) <= 1e-8 * size, name


@pytest.mark.parametrize("case", OURS, ids=ids)
def test_the_mode_is_where_the_density_is_largest(case):
    d = case.make()
    if (mode := known(d, "mode")) is None:
        pytest.skip("no closed mode")
    assert mode.shape == d.batch_shape + d.event_shape
    if not mode.isfinite().all():
        pytest.skip("no mode for these parameters")
    x = rp.rsample(d, (20_000,), source=fresh())
    trusting = unvalidated(d)
    top = trusting.log_prob(mode)
    assert (trusting.log_prob(x) <= top + 1e-9).all()
    if case.exact is not None:
        assert (trusting.log_prob(mode + 0.01 * (x - mode)) <= top + 1e-9).all()


MOMENTS = [  # of laws with power tails: on both sides of where a moment ends
    (rd.LogLogistic(1.0, 1.0), math.inf, math.inf),
    (rd.LogLogistic(1.0, 1.5), st.fisk(1.5).mean(), math.inf),
    (rd.LogLogistic(1.0, 2.5), st.fisk(2.5).mean(), st.fisk(2.5).var()),
    (rd.Frechet(1.0, 0.9), math.inf, math.inf),
    (rd.Frechet(1.0, 2.0), math.gamma(0.5), math.inf),
    (rd.Frechet(1.0, 3.5), st.invweibull(3.5).mean(), st.invweibull(3.5).var()),
    (rd.Lomax(2.0, 1.0), math.inf, math.inf),
    (rd.Lomax(2.0, 2.0), 2.0, math.inf),
    (rd.Lomax(2.0, 3.0), 1.0, 3.0),
    (rd.GeneralizedExtremeValue(0.0, 1.0, 1.0), math.inf, math.inf),
    (rd.GeneralizedExtremeValue(0.0, 1.0, 0.5), 2 * (math.gamma(0.5) - 1), math.inf),
    (rd.GeneralizedExtremeValue(0.0, 1.0, 0.3), st.genextreme(-0.3).mean(), st.genextreme(-0.3).var()),
]


@pytest.mark.parametrize(("d", "mean", "variance"), MOMENTS, ids=lambda v: repr(v) if isinstance(v, Law) else "")
def test_moments_of_power_tails_are_infinite_where_they_are(d, mean, variance):
    for found, truth in ((d.mean, mean), (d.variance, variance)):
        assert float(found) == pytest.approx(truth, rel=1e-5)
    for name in ("mean", "variance"):  # no NaN on either side
        parameters = [vars(d)[key].clone().requires_grad_() for key in d.arg_constraints]
        slopes = torch.autograd.grad(getattr(type(d)(*parameters), name).sum(), parameters, allow_unused=True)
        assert all(s is None or not s.isnan() for s in slopes)


@pytest.mark.parametrize("concentration", [-0.3, -0.1001, -0.0999, -1e-5, -1e-12, 0.0, 1e-12, 1e-5, 0.0999, 0.1001, 0.3])
def test_moments_of_extremes_are_smooth_through_zero(concentration):
    mp = pytest.importorskip("mpmath")
    d = rd.GeneralizedExtremeValue(*double(0.0, 1.0, concentration))
    with mp.workdps(60):
        c = mp.mpf(concentration) if concentration else mp.mpf(10) ** -20
        first, second = mp.gamma(1 - c), mp.gamma(1 - 2 * c)
        assert float(d.mean) == pytest.approx(float((first - 1) / c), rel=1e-13)
        assert float(d.variance) == pytest.approx(float((second - first**2) / c**2), rel=1e-12)
    c = torch.tensor(concentration, dtype=torch.float64, requires_grad=True)
    for name in ("mean", "variance", "mode"):
        assert torch.autograd.gradcheck(lambda c, name=name: getattr(rd.GeneralizedExtremeValue(0.0, 1.0, c), name), (c,))


@pytest.mark.parametrize("case", SAMPLED, ids=ids)
def test_moments_and_entropy_are_those_of_samples(case):
    d = case.make()
    if isinstance(d, rd.PowerSpherical | rd.VonMisesFisher):  # whose rows move the direction off the sphere
        d = remade(d, loc=d.loc / d.loc.norm())
    x = rp.rsample(d, (min(case.draws, 100_000),), source=fresh())
    assert d.log_prob(x).shape == x.shape[:1] + d.batch_shape
    if (mean := known(d, "mean")) is not None and mean.isfinite().all():
        assert mean.shape == d.batch_shape + d.event_shape
        for column, truth in zip(x.reshape(len(x), -1).T, mean.flatten(), strict=True):
            assert mean_test(column, float(truth))
    if (variance := known(d, "variance")) is not None and variance.isfinite().all():
        for column, centre, truth in zip(x.reshape(len(x), -1).T, mean.flatten(), variance.flatten(), strict=True):
            assert mean_test((column - centre) ** 2, float(truth))
    if (entropy := known(d, "entropy")) is not None:
        assert entropy.shape == d.batch_shape
        for column, truth in zip(-d.log_prob(x).reshape(len(x), -1).T, entropy.flatten(), strict=True):
            assert mean_test(column, float(truth))


# Distribution functions


@pytest.mark.parametrize("case", UNIVARIATE, ids=ids)
def test_the_quantile_is_the_inverse_of_the_distribution_function(case):
    d = case.make()
    p = torch.tensor([1e-30, 1e-15, 1e-6, 0.01, 0.3, 0.5, 0.8, 0.99], dtype=torch.float64)
    x = d.icdf(p)
    assert d.support.check(x).all()
    # A value near a bound or a centre other than zero forgets digits of its tail.
    centre = d.icdf(torch.tensor(0.5, dtype=x.dtype))
    forgets = torch.finfo(x.dtype).eps * (x.abs() + (x - centre).abs()) * d.log_prob(x).exp()
    assert ((d.cdf(x) - p).abs() <= 1e-9 * p + 8 * forgets).all()
    log_q = torch.tensor([-69.0, -30.0, -1.0], dtype=torch.float64)
    x = icdf_from_log(d, log_survival=log_q)
    forgets = torch.finfo(x.dtype).eps * (x.abs() + (x - centre).abs()) * (d.log_prob(x) - log_q).exp()
    agree = (log_survival(d, x) - log_q).abs() <= 1e-9 * log_q.abs() + 8 * forgets
    assert (agree | (forgets > 0.1)).all()  # beside an upper end the values do not tell these tails apart


@pytest.mark.parametrize("case", EXACT, ids=ids)
def test_the_distribution_function_is_the_exact_one(case):
    d, law = case.make(), case.exact(*case.parameters)
    for p in (1e-12, 1e-3, 0.3, 0.9):
        x = float(law.ppf(p) if p < 0.5 else law.isf(1 - p))
        assert float(d.cdf(torch.tensor(x, dtype=torch.float64))) == pytest.approx(p, rel=1e-9)
        assert float(d.icdf(torch.tensor(p, dtype=torch.float64))) == pytest.approx(x, rel=1e-9, abs=1e-12)


# Divergences


def parameters_of(d):
    return {name: vars(d)[name] for name in d.arg_constraints if isinstance(vars(d).get(name), torch.Tensor)}


def remade(d, **changed):
    """The same law with some parameters changed."""
    kept = {name: getattr(d, name) for name in inspect.signature(type(d)).parameters if name in vars(d)}
    return type(d)(**{**kept, **parameters_of(d), **changed})


def neighbour(d):
    """The law with every parameter moved, where that is easy; None where it is not."""
    moved = {}
    for name, value in parameters_of(d).items():
        constraint = d.arg_constraints[name]
        inner = getattr(constraint, "base_constraint", constraint)
        if inner is constraints.real:
            moved[name] = value + 0.2
        elif inner in (constraints.positive, constraints.lower_cholesky, constraints.positive_definite):
            moved[name] = 1.2 * value
    return remade(d, **moved) if moved else None


SHARED = {rd.JohnsonSU: ("loc", "scale")}  # parameters that closed divergences need to be equal


@pytest.mark.parametrize("case", OURS, ids=ids)
def test_divergences(case):
    p = case.make()
    q = neighbour(p)
    if q is None:
        pytest.skip("no neighbour to compare with")
    for name in SHARED.get(type(p), ()):
        q = remade(q, **{name: vars(p)[name]})
    try:
        found = kl_divergence(p, q)
    except NotImplementedError:
        pytest.skip("no closed divergence")
    assert found.shape == p.batch_shape
    assert kl_divergence(p, p).abs().max() <= 1e-12
    assert (found > 0).all()
    assert (kl_divergence(q, p) > 0).all()
    x = rp.rsample(p, (min(case.draws, 50_000),), source=fresh())
    trusting = unvalidated(q)
    costs = p.log_prob(x) - trusting.log_prob(x)
    for column, truth in zip(costs.reshape(len(x), -1).T, found.flatten(), strict=True):
        assert mean_test(column, float(truth))
    if case in EXACT:  # the same by quadrature, to many digits
        exact = exact_average(case, lambda x: p.log_prob(x) - trusting.log_prob(x), p, q)
        assert float(found) == pytest.approx(exact, rel=1e-8, abs=1e-10)


def test_the_divergence_of_johnson_laws_needs_a_shared_transform():
    p, q = rd.JohnsonSU(0.0, 1.0, 0.0, 1.0), rd.JohnsonSU(0.0, 1.0, 0.5, 1.0)
    with pytest.raises(NotImplementedError, match=r"closed when they share loc and scale.*average p.log_prob"):
        kl_divergence(p, q)


def test_divergences_far_apart():
    p = rd.AsymmetricLaplace(*double(0.0, 1.0, 2.0))
    for loc in (-50.0, 50.0):
        q = rd.AsymmetricLaplace(*double(loc, 3.0, 0.5))
        # All of p lies on one side of q but for exp(-25): the mean distance decides.
        side = q.asymmetry if loc < 0 else 1 / q.asymmetry
        expected = (p.mean - q.loc).abs() * side / q.scale + torch.log(q.scale * 2.5) - p.entropy()
        assert torch.isclose(kl_divergence(p, q), expected, rtol=1e-9)


# Manners


@pytest.mark.parametrize("case", OURS, ids=ids)
def test_expand(case):
    d = case.make()
    shape = (2, 3, *d.batch_shape)
    wide = d.expand(shape)
    assert type(wide) is type(d)
    assert wide.batch_shape == shape
    assert wide.event_shape == d.event_shape
    assert wide._validate_args is d._validate_args
    x = rp.rsample(wide, (4,), source=fresh())
    assert torch.allclose(wide.log_prob(x), d.log_prob(x), rtol=1e-12)
    for name in ("mean", "variance", "mode", "entropy"):
        narrow, value = known(d, name), known(wide, name)
        if narrow is None:
            assert value is None
        else:
            assert value.shape == (shape if name == "entropy" else shape + d.event_shape)
            assert torch.allclose(value, narrow.expand_as(value), equal_nan=True)
    assert d.expand((0, *d.batch_shape)).rsample((2,)).shape == (2, 0, *d.batch_shape, *d.event_shape)
    assert rp.reparameterized(d).expand(shape).rsample((5,)).shape == (5, *shape, *d.event_shape)
    assert td.Independent(d, 0).expand(shape).rsample().shape == shape + d.event_shape


@pytest.mark.parametrize("case", OURS, ids=ids)
def test_samples_come_from_the_path(case):
    d = case.make(torch.float32)
    assert d.has_rsample
    torch.manual_seed(0)
    x = rp.rsample(d, (3,))
    for draw in (d.rsample, d.sample, td.Independent(d, 0).rsample, rp.reparameterized(d).rsample):
        torch.manual_seed(0)
        assert torch.equal(draw((3,)), x)
    assert d.rsample().shape == d.rsample(torch.Size()).shape == d.batch_shape + d.event_shape
    grown = case.law(*case.tensors(torch.float32, requires_grad=True))
    assert grown.rsample((2,)).requires_grad
    assert not grown.sample((2,)).requires_grad
    assert not rp.detached(grown).rsample((2,)).requires_grad


@pytest.mark.parametrize("case", OURS, ids=ids)
def test_copies_and_pickles(case):
    d = case.make()
    d.log_prob(d.sample())
    for again in (copy.copy, copy.deepcopy, lambda d: pickle.loads(pickle.dumps(d))):
        other = again(d)
        assert repr(other) == repr(d)
        assert repr(d).startswith(f"{type(d).__name__}(")
        x = rp.rsample(other, (3,), source=fresh())
        assert torch.equal(x, rp.rsample(d, (3,), source=fresh()))
        assert torch.equal(other.log_prob(x), d.log_prob(x))


@pytest.mark.parametrize("case", OURS, ids=ids)
def test_a_bad_parameter_is_named(case):
    d = case.make()
    given = parameters_of(d)
    if not given or d._validate_args is False:
        pytest.skip("made of another law, or without validation")
    for name, value in given.items():
        with pytest.raises(ValueError, match=rf"parameter {name}\b"):
            remade(d, **{name: torch.full_like(value, torch.nan)}, validate_args=True)


@pytest.mark.parametrize("law", CLASSES, ids=lambda law: law.__name__)
def test_documented(law):
    assert law.__doc__.count("\n") > 3
    assert ">>>" in law.__doc__


def outside(d):
    """Values that the law cannot give, of the shape of its events."""
    values = [-torch.inf, torch.inf]
    low, high = (None if end is None else float(torch.as_tensor(end).detach()) for end in bounds(d.support))
    if low is not None and math.isfinite(low):
        values += [low - 1, low - 1e-3 * max(1.0, abs(low)), -1e30]
    if high is not None and math.isfinite(high):
        values += [high + 1, high + 1e-3 * max(1.0, abs(high)), 1e30]
    return values


@pytest.mark.parametrize("case", UNIVARIATE, ids=ids)
def test_the_density_is_zero_outside_the_support(case):
    leaves = case.tensors(requires_grad=True)
    strict = case.law(*leaves)
    trusting = unvalidated(strict)
    inner = rp.rsample(strict, source=fresh()).detach()
    for value in outside(strict):
        x = torch.stack([torch.tensor(value, dtype=torch.float64), inner]).requires_grad_()
        density = trusting.log_prob(x)
        assert density[0] == -torch.inf
        assert density[1].isfinite()
        slopes = torch.autograd.grad(density[1], [x, *leaves], allow_unused=True, retain_graph=True)
        assert all(s is None or s.isfinite().all() for s in slopes)  # the value outside does not poison the others
        if math.isfinite(value):
            with pytest.raises(ValueError, match="within the support"):
                strict.log_prob(x)
            with pytest.raises(ValueError, match="within the support"):
                strict.cdf(x)
            assert trusting.cdf(x.detach())[0] == float(value > inner)
    assert trusting.log_prob(torch.tensor(torch.nan, dtype=torch.float64)).isnan()
    with pytest.raises(ValueError, match="within the support"):
        strict.log_prob(torch.tensor(torch.nan, dtype=torch.float64))


@pytest.mark.parametrize("case", OURS, ids=ids)
def test_single_precision_agrees_with_double(case):
    if not case.single:
        pytest.skip("float32 cannot hold this law near 1")
    single = case.make(torch.float32)
    wide = case.law(*[t.double() for t in case.tensors(torch.float32)])
    x = rp.rsample(single, (2000,), source=fresh())
    near = x.double().requires_grad_()
    exact = unvalidated(wide).log_prob(near)  # a rounded point of a sphere is off it
    (slope,) = torch.autograd.grad(exact.sum(), near)
    assert single.log_prob(x).dtype == torch.float32
    # One rounding of the value at most, and some of the result and of the terms that it is made of.
    moved = (slope * near).abs().reshape(*exact.shape, -1).sum(-1) if single.event_shape else (slope * near).abs()
    allowed = 1.2e-7 * (20 + 8 * exact.abs() + 4 * moved)
    assert ((single.log_prob(x).double() - exact).abs() <= allowed).all()
    for name in ("mean", "variance", "entropy"):
        narrow, value = known(single, name), known(wide, name)
        if value is not None and value.isfinite().all():
            assert torch.allclose(narrow.double(), value, rtol=1e-4, atol=1e-6), name


@pytest.mark.parametrize("case", OURS + EXTREMES, ids=ids)
def test_the_density_has_gradients_at_own_samples(case):
    leaves = case.tensors(torch.float32, requires_grad=True)
    d = case.law(*leaves)
    x = rp.rsample(d, (2000,), source=fresh()).detach().requires_grad_()
    density = d.log_prob(x)
    for slope in torch.autograd.grad(density.sum(), [x, *leaves], allow_unused=True):
        assert slope is None or not slope.isnan().any()


@pytest.mark.parametrize("case", UNIVARIATE, ids=ids)
def test_the_density_is_differentiable_twice(case):
    x = rp.rsample(case.make(), (3,), source=rp.Sobol(3)).detach().requires_grad_()

    def density(x, *parameters):
        return case.law(*parameters).log_prob(x)

    td.Distribution.set_default_validate_args(False)
    leaves = case.tensors(requires_grad=True)
    assert torch.autograd.gradcheck(density, (x, *leaves), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(density, (x, *leaves))


@pytest.mark.parametrize("case", OURS, ids=ids)
def test_moments_are_differentiable(case):
    d = case.make()
    leaves = case.tensors(requires_grad=True)
    for name in ("mean", "variance", "entropy"):
        value = known(d, name)
        if value is None or not value.isfinite().all():
            continue
        value = known(case.law(*leaves), name)
        if value.requires_grad:
            slopes = torch.autograd.grad(value.sum(), leaves, allow_unused=True)
            assert all(s is None or s.isfinite().all() for s in slopes), name


# The recipe


class Wedge(Univariate):
    """A law of the kind that users write."""

    arg_constraints = {"width": constraints.positive}
    support = constraints.positive

    def __init__(self, width, validate_args=None):
        self._set(validate_args, width=width)

    def _log_density(self, x):
        return x.log() - 2 * self.width.log() - (x / self.width) ** 2 / 2


@rp.path.register
def wedge_path(d: Wedge) -> rp.Path:
    return rp.Path(
        rp.noise_like(d.width, rp.noise.EXPONENTIAL),
        lambda eps: d.width * (2 * eps).sqrt(),
        lambda x: (x / d.width) ** 2 / 2,
    )


class Narrow(Wedge):
    """A subclass that adds nothing to the sampler keeps the path."""


class Shifted(Wedge):
    """One that brings its own sampler does not."""

    def rsample(self, sample_shape=()):
        return super().rsample(sample_shape) + 1


def test_a_law_by_the_recipe():
    width = torch.ones(3, requires_grad=True)
    for law in (Wedge, Narrow):
        for d in (
            law(width),
            rp.reparameterized(law(width)),
            td.Independent(law(width), 1),
            td.TransformedDistribution(law(width), td.ExpTransform()),
            law(2.0).expand((3,)),
            law(width.detach().bfloat16()),
        ):
            assert d.rsample((2,)).shape == (2, 3)
            assert rp.path(d).noise.shape == (3,)
            assert d.log_prob(d.sample((2,))).isfinite().all()
    assert law(width.detach().bfloat16()).rsample().dtype == torch.bfloat16
    assert torch.equal(Wedge(2.0).cdf(torch.tensor(2.0)), 1 - torch.exp(torch.tensor(-0.5)))
    assert torch.allclose(Wedge(2.0).icdf(torch.tensor(0.5)), torch.tensor(2 * math.sqrt(2 * math.log(2))))
    with pytest.raises(rp.NoPathError, match="Shifted has no explicit path, only its own sampler"):
        rp.path(Shifted(width))
    with pytest.raises(ValueError, match="parameter width"):
        Wedge(-1.0)
    assert repr(Wedge(2.0)) == "Wedge(width: 2.0)"


@pytest.mark.filterwarnings("default")
def test_a_law_by_the_recipe_compiles():
    td.Distribution.set_default_validate_args(False)

    def act(width):
        d = Wedge(width)
        wide = d.expand((2, 3))
        x = wide.rsample((4,))
        return x, wide.log_prob(x), d.cdf(x)

    x, density, p = torch.compile(act, fullgraph=True, backend="aot_eager")(torch.ones(3))
    assert x.shape == density.shape == p.shape == (4, 2, 3)
    assert density.isfinite().all()


def test_laws_go_through_function_transforms():
    widths = torch.tensor([1.0, 2.0, 3.0])

    def density(width):
        return Wedge(width, validate_args=False).log_prob(torch.tensor(1.0))

    expected = -2 / widths + 1 / widths**3
    assert torch.allclose(torch.func.vmap(torch.func.grad(density))(widths), expected)


# One by one


@pytest.mark.parametrize(("loc", "scale"), [(0.0, 5.0), (3.0, 1.0), (0.0, 2.0), (-8.0, 3.0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=["single", "bfloat16", "float16"])
def test_squashed_samples_have_a_density(loc, scale, dtype):
    d = TanhNormal(torch.tensor(loc, dtype=dtype), torch.tensor(scale, dtype=dtype))
    x = d.sample((100_000,))
    assert x.dtype == dtype
    assert (x.abs() < 1).all()
    assert d.log_prob(x).isfinite().all()
    x, density = sample_and_log_prob(d, (100_000,))
    assert (x.abs() < 1).all()
    assert density.isfinite().all()


@pytest.mark.parametrize("case", [c for c in OURS + EXTREMES if type(c.make()) in (TanhNormal, rd.LogitNormal)], ids=ids)
def test_the_joint_density_knows_what_the_sample_forgot(case):
    """In float32, against the same noise in float64."""
    single = case.make(torch.float32)
    wide = case.law(*[t.double() for t in case.tensors(torch.float32)])
    eps = rp.path(single).noise.draw((20_000,), source=fresh())
    x, density = sample_and_log_prob(single, (20_000,), source=rp.Replay(eps))
    assert torch.equal(x, rp.path(single).push(eps))
    _, exact = sample_and_log_prob(wide, (20_000,), source=rp.Replay(eps.double()))
    y = wide.loc + wide.scale * eps.double()
    slope = torch.log(torch.cosh(y)) * 2 if isinstance(wide, TanhNormal) else y.abs() + 2 * torch.log1p(torch.exp(-y.abs()))
    truth = -(eps.double() ** 2) / 2 - math.log(2 * math.pi) / 2 - wide.scale.log() + slope
    assert torch.allclose(exact, truth, rtol=1e-12)
    assert ((density - exact).abs() <= 4e-7 * (1 + y.abs() + exact.abs() + eps.double() ** 2)).all()


def test_the_joint_density_has_the_gradient_of_the_entropy():
    """The mean of -log p over samples differentiates to the entropy's slope: a z-test at 1e-9 on each of 400000 rows."""
    loc = torch.full((400_000,), 0.5, dtype=torch.float64, requires_grad=True)
    scale = torch.full((400_000,), 1.5, dtype=torch.float64, requires_grad=True)
    _, density = sample_and_log_prob(TanhNormal(loc, scale), source=fresh())
    found = torch.autograd.grad(-density.sum(), (loc, scale))
    m, s = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.5, 1.5))
    for slope, truth in zip(found, torch.autograd.grad(TanhNormal(m, s).entropy(), (m, s)), strict=True):
        assert mean_test(slope, float(truth))


def test_delta():
    value = torch.tensor([1.0, -2.0], requires_grad=True)
    d = Delta(value)
    for source in (None, rp.Sobol(0), rp.Antithetic(), fresh()):
        x = rp.rsample(d, (5,), source=source)
        assert torch.equal(x, value.expand(5, 2))
        (slope,) = torch.autograd.grad(x.sum(), value)
        assert torch.equal(slope, torch.tensor([5.0, 5.0]))
    assert torch.equal(d.log_prob(torch.tensor([1.0, 2.0])), torch.tensor([0.0, -torch.inf]))
    assert torch.equal(Delta(value, 0.5).log_prob(value), torch.tensor([0.5, 0.5]))
    assert torch.equal(Delta(value, 0.5).entropy(), torch.tensor([-0.5, -0.5]))
    assert torch.equal(d.mean, value)
    assert torch.equal(d.mode, value)
    assert torch.equal(d.variance, torch.zeros(2))
    assert torch.equal(d.cdf(torch.tensor([0.9, -1.9])), torch.tensor([0.0, 1.0]))
    assert torch.equal(d.icdf(torch.tensor(0.3)), value)
    assert d.expand((3, 2)).rsample((4,)).shape == (4, 3, 2)
    assert rp.path(d).pull(d.rsample((4,))).shape == (4, 2, 0)
    q = td.Normal(torch.zeros(2), 1.0)
    assert torch.equal(kl_divergence(d, q), -q.log_prob(value))
    assert kl_divergence(td.Independent(d, 1), td.Independent(q, 1)).shape == ()
    assert Delta(1.0).sample().dtype == torch.get_default_dtype()
    assert Delta(value.detach().half()).rsample().dtype == torch.float16
    with pytest.raises(ValueError, match="parameter value"):
        Delta(torch.nan)
    with pytest.raises(ValueError, match="parameter value"):
        Delta(torch.inf).rsample()


# Far out and at the ends


def finite_slopes(value, *leaves):
    return all(s is None or s.isfinite().all() for s in torch.autograd.grad(value.sum(), leaves, allow_unused=True))


@pytest.mark.parametrize(
    ("law", "parameters", "noise"),
    [
        (rd.JohnsonSU, (0.0, 0.05, 0.0, 1.0), 4.6),
        (rd.JohnsonSU, (0.0, 0.05, 0.0, 0.01), 4.6),
        (rd.SinhArcsinh, (0.0, 1.0, 0.5, 30.0), 6.0),
    ],
)
def test_samples_beyond_the_floats_have_gradients(law, parameters, noise):
    leaves = [torch.tensor(v, requires_grad=True) for v in parameters]
    d = law(*leaves)
    x = rp.path(d).push(torch.tensor(noise))
    assert x.isfinite()
    assert finite_slopes(x, *leaves)
    for at in (x.detach(), torch.tensor(3.4e38)):
        at.requires_grad_()
        density = d.log_prob(at)
        assert density.isfinite()
        assert finite_slopes(density, at, *leaves)


def test_moments_beyond_the_floats():
    leaves = [torch.tensor(v, requires_grad=True) for v in (0.05, 3.0, 1.0)]
    mean = rd.JohnsonSU(0.0, *leaves).mean
    assert mean == 3
    assert finite_slopes(mean, *leaves)
    assert rd.JohnsonSU(0.5, 0.05, 3.0, 1.0).mean == -math.inf
    assert (rd.SinhArcsinh(0.0, 1.0, torch.tensor([0.0, 0.5]), 30.0).variance == math.inf).all()


@pytest.mark.parametrize(
    ("loc", "scale"),
    [
        (-60.0, 2.0),
        (-40.0, 3.0),
        (40.0, 3.0),
        (20.0, 2.0),
        (10.0, 1.0),
        (-30.0, 1.0),
        (-20.0, 1.5),
        (-3.0, 4.0),
        (0.5, 0.3),
        (12.0, 0.3),
    ],
)
def test_variances_of_squashed_laws_keep_their_digits(loc, scale):
    with mp.workdps(40):

        def moment(k):  # of sigmoid(-|X|), in panels around where the integrand is largest
            m, s = -abs(mp.mpf(loc)), mp.mpf(scale)
            points = sorted({m + s * j for j in range(-14, 15)} | {m + k * s * s + s * j for j in range(-14, 15)} | {mp.mpf(0)})
            return mp.quad(lambda x: mp.npdf(x, m, s) / (1 + mp.exp(-x)) ** k, points)

        exact = float(moment(2) - moment(1) ** 2)
    found = rd.LogitNormal(*double(loc, scale)).variance
    assert abs(found.item() / exact - 1) < 1e-11
    assert torch.allclose(rd.TanhNormal(*double(loc / 2, scale / 2)).variance, 4 * found, rtol=1e-13, atol=0.0)
    single = rd.LogitNormal(loc, scale).variance
    assert single >= 0
    assert abs(single.double() - exact) < 1e-5 * exact + 1e-37


@pytest.mark.parametrize("concentration", [2.5, 100.0, 1e4, 1e6])
def test_variances_of_frechet_laws_keep_their_digits(concentration):
    with mp.workdps(60):
        u = 1 / mp.mpf(concentration)
        exact = float(mp.gamma(1 - 2 * u) - mp.gamma(1 - u) ** 2)
    assert abs(rd.Frechet(*double(1.0, concentration)).variance.item() / exact - 1) < 1e-12
    assert abs(rd.Frechet(1e-6, concentration).variance.item() / (1e-12 * exact) - 1) < 2e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("law", "parameters", "values"),
    [
        (rd.LogGamma, (2.0, 1.0), (700.0, 710.0, 800.0, 1e6)),
        (rd.GeneralizedNormal, (0.0, 1.0, 1000.0), (-1e30, -10.0, 10.0, 1e30)),
        (rd.SkewNormal, (0.0, 1.0, 2.0), (-3e38, -1e30, 1e18, 1e30, 3e38)),
        (rd.SkewNormal, (0.0, 1.0, -1e9), (-3e38, -1e10, 1e10)),
        (rd.InverseGaussian, (1.0, 2.0), (1e10, 1e30)),
    ],
)
def test_distribution_functions_far_out(law, parameters, values, dtype):
    leaves = [torch.tensor(v, dtype=dtype, requires_grad=True) for v in parameters]
    x = torch.tensor(values, dtype=dtype, requires_grad=True)
    found = law(*leaves).cdf(x)
    assert (found == (x > 0)).all()
    assert finite_slopes(found, x, *leaves)


def test_the_survival_of_an_inverse_gaussian_has_its_slope_far_out():
    leaves = [torch.tensor(v, requires_grad=True) for v in (1.0, 2.0, 1e30)]
    found = torch.stack(torch.autograd.grad(log_survival(rd.InverseGaussian(*leaves[:2]), leaves[2]), leaves))
    assert torch.allclose(found, torch.tensor([2e30, -0.5e30, -1.0]), rtol=1e-5)  # of -concentration x / (2 loc^2)


def test_densities_at_ends_and_cusps_have_gradients():
    ends = double(0.0, 1.0, 0.5)
    low, high, peak = (t.requires_grad_() for t in ends)
    density = rd.Triangular(low, high, peak).log_prob(torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert (density == -math.inf).all()
    assert finite_slopes(density, low, high, peak)
    loc, scale, power = (t.requires_grad_() for t in double(0.0, 2.0, 0.5))
    density = rd.GeneralizedNormal(loc, scale, power).log_prob(loc.detach())
    slopes = torch.stack(torch.autograd.grad(density, (loc, scale, power)))
    assert torch.allclose(slopes, torch.tensor([0.0, -0.5, 4 * sp.digamma(3.0)], dtype=torch.float64))
