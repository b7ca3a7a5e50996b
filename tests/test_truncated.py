"""Truncated laws against 60-digit arithmetic: far out in a tail, in narrow windows, across the mode, without an end."""

import math

import mpmath as mp
import pytest
import torch
import torch.distributions as td
from scipy import integrate

import reparam as rp
from reparam.distributions import Logistic
from reparam.distributions.truncated import Truncated
from reparam.distributions.truncated_normal import TruncatedNormal

INF = math.inf
WINDOWS = [
    (40.0, 41.0),
    (-41.0, -40.0),
    (40.0, INF),
    (-INF, -1e4),
    (1e6, INF),
    (0.0, 1e-8),
    (-1e-8, 1e-8),
    (38.0, 38.0 + 1e-3),
    (-1e5, 1e5),
    (-INF, INF),
    (0.0, INF),
    (-1.0, 2.0),
    (1.0, INF),
    (-3.0, 1e-3),
    (0.5, 3.0),
    (-30.0, 0.1),
]
EPS = [1e-12, 1e-6, 1e-3, 0.3, 0.7, 1.0, 3.0, 20.0, 34.0]


def mass(a, b):
    """The probability of (a, b) under a standard normal law."""
    if b < 0:
        a, b = -b, -a
    if a > 0:
        return (mp.erfc(a / mp.sqrt(2)) - mp.erfc(b / mp.sqrt(2))) / 2
    return (mp.erf(b / mp.sqrt(2)) - mp.erf(a / mp.sqrt(2))) / 2


def density(x):
    return mp.mpf(0) if mp.isinf(x) else mp.npdf(x)


def times_density(x):
    return mp.mpf(0) if mp.isinf(x) else x * mp.npdf(x)


def make(window, dtype=torch.float64):
    """A standard normal law in a window, and the window as its floats are."""
    low, high = (torch.tensor(end, dtype=dtype) for end in window)
    d = TruncatedNormal(torch.zeros((), dtype=dtype), torch.ones((), dtype=dtype), low, high)
    return d, mp.mpf(float(low)), mp.mpf(float(high))


@pytest.fixture(autouse=True)
def digits():
    with mp.workdps(60):
        yield


def error(found, exact):
    if mp.isinf(exact):
        return 0.0 if float(found) == float(exact) else INF
    return float(abs(mp.mpf(float(found)) - exact) / abs(exact)) if exact else abs(float(found))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["single", "double"])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_moments_entropy_and_density(window, dtype):
    d, a, b = make(window, dtype)
    z = mass(a, b)
    mean = (density(a) - density(b)) / z
    variance = 1 + (times_density(a) - times_density(b)) / z - mean**2
    entropy = mp.log(mp.sqrt(2 * mp.pi * mp.e) * z) + (times_density(a) - times_density(b)) / (2 * z)
    peak = a if a > 0 else b if b < 0 else mp.mpf(0)
    unit = torch.finfo(dtype).eps
    assert float(d.mode) == float(peak)
    assert error(d.mean, mean) < 30 * unit
    assert error(d.variance, variance) < 60 * unit
    assert error(d.entropy(), entropy) < 40 * unit
    for at in (peak, max(min(peak + 1 / (1 + abs(peak)), b), a), max(min(peak - 1 / (1 + abs(peak)), b), a)):
        x = torch.tensor(float(at), dtype=dtype)
        exact = -(mp.mpf(float(x)) ** 2) / 2 - mp.log(mp.sqrt(2 * mp.pi) * z)
        assert abs(float(d.log_prob(x)) - exact) < 60 * unit * max(1, abs(exact))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["single", "double"])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_samples_are_quantiles(window, dtype):
    """The error in `x` that the exact tails at `x` show, in units of its rounding, or of the window's where zero is inside."""
    d, a, b = make(window, dtype)
    p, z, unit = rp.path(d), mass(a, b), torch.finfo(dtype).eps
    for eps in EPS:
        noise = torch.tensor(eps, dtype=dtype)
        x = p.push(noise)
        at, e = mp.mpf(float(x)), mp.mpf(float(noise))
        wrong = mass(at, b) / z - mp.exp(-e) if e > mp.log(2) else mass(a, at) / z + mp.expm1(-e)
        width = min(b - a, mp.mpf(1))
        assert abs(wrong) / (density(at) / z) < unit * (4 * abs(at) + 32 * (width if a <= 0 <= b else abs(at - float(d.mode))))


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_cdf_and_its_inverses(window):
    d, a, b = make(window)
    z = mass(a, b)
    eps = torch.tensor(EPS, dtype=torch.float64)
    x = rp.path(d).push(eps)
    for value, found, eps_back in zip(x, d.cdf(x), rp.path(d).pull(x), strict=True):
        at = mp.mpf(float(value))
        below, above = mass(a, at) / z, mass(at, b) / z
        assert error(found, below) < 1e-12
        assert error(eps_back, -mp.log(above) if above < 0.5 else -mp.log1p(-below)) < 1e-12
    assert d.cdf(torch.tensor([float(a), float(b)], dtype=torch.float64)).tolist() == [0.0, 1.0]
    q = torch.tensor([1e-9, 0.1, 0.5, 0.9], dtype=torch.float64)
    width = min(float(b - a), 1.0)
    assert torch.allclose(d.icdf(q), rp.path(d).push(-torch.log1p(-q)), rtol=1e-14, atol=1e-12 * width)


def quantile(loc, scale, low, high, eps):
    a, b = (low - loc) / scale, (high - loc) / scale
    # The smaller tail of the base, by Newton's method on its logarithm from the float64 root.
    q = (
        mass(a, b) * mp.exp(-mp.mpf(eps)) + mass(b, mp.inf)
        if a + b > 0
        else -mass(a, b) * mp.expm1(-mp.mpf(eps)) + mass(-mp.inf, a)
    )
    sign = 1 if a + b > 0 else -1
    z = mp.mpf(max(sign * a, sign * b) if min(abs(a), abs(b)) > 3 else 0)
    z = min(abs(a), abs(b)) if a * b > 0 else z
    for _ in range(100):
        tail = mp.erfc(z / mp.sqrt(2)) / 2
        step = tail / mp.npdf(z) * mp.log(tail / q)
        z += step
        if abs(step) < mp.mpf(10) ** -45:
            break
    return loc + sign * scale * z


@pytest.mark.parametrize(
    "parameters",
    [(0.0, 1.0, 40.0, 41.0), (0.0, 1.0, -41.0, -40.0), (0.0, 1.0, 38.0, 38.001), (-40.0, 1.0, 0.0, 2.0), (0.3, 1.2, -1.0, 2.0),
     (0.0, 1.0, 1.0, 1.5), (0.5, 2.0, -9.0, -1.0), (0.0, 1.0, -1e-4, 1e-4), (0.3, 1.2, 0.2999, 0.303), (0.3, 1.2, 0.3, 1.4),
     (0.3, 1.2, -0.8, 0.31)],
    ids=str,
)  # fmt: skip
def test_gradients_in_all_four_parameters(parameters):
    """Each partial derivative of each sample against differences of the 60-digit quantile.

    Where the mode is inside, `dx/dscale` is a difference of numbers of the width of the window, `dx/dloc` in a wide one too.
    """
    loc, scale, low, high = parameters
    eps = [1e-6, 0.1, 0.7, 2.0, 10.0]
    leaves = [torch.tensor(v, dtype=torch.float64).expand(len(eps)).clone().requires_grad_() for v in parameters]
    x = rp.path(TruncatedNormal(*leaves)).push(torch.tensor(eps, dtype=torch.float64))
    found = torch.autograd.grad(x.sum(), leaves)
    h = mp.mpf(10) ** -15
    for i, e in enumerate(eps):
        for k in range(4):
            rounding = 1e-18 if not low < loc < high or (k == 0 and high - low < scale) else 2e-14 * min(high - low, 1)
            moved = [[mp.mpf(v) + s * h * (j == k) for j, v in enumerate(parameters)] for s in (1, -1)]
            exact = (quantile(*moved[0], e) - quantile(*moved[1], e)) / (2 * h)
            assert abs(float(found[k][i]) - exact) < 1e-10 * abs(exact) + rounding, (i, k, float(found[k][i]), float(exact))


@pytest.mark.parametrize("window", [(-1.0, 2.0), (1.0, 3.0), (-5.0, -2.0), (0.0, INF), (40.0, INF)], ids=str)
def test_gradients_of_moments(window):
    leaves = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.2, 1.1, *window)]
    finite = [leaf for leaf in leaves if leaf.isfinite()]
    x = TruncatedNormal(*leaves).mean.detach()

    def facts(*finite):
        d = TruncatedNormal(*finite, *leaves[len(finite) :])
        return d.mean, d.variance, d.entropy(), d.log_prob(x), d.cdf(x)

    inside = [leaf if k < 2 else leaf.detach() for k, leaf in enumerate(finite)]
    assert torch.autograd.gradcheck(facts, inside)
    assert torch.autograd.gradgradcheck(facts, inside)
    if len(finite) == 4:
        assert torch.autograd.gradcheck(lambda *bounds: facts(*leaves[:2], *bounds), leaves[2:])


@pytest.mark.parametrize("window", [(-1.0, 2.0), (1.0, 3.0), (-5.0, -2.0), (0.0, INF)], ids=str)
def test_divergence(window):
    p, q = (TruncatedNormal(torch.tensor(m, dtype=torch.float64), s, *window) for m, s in ((0.2, 1.1), (-0.7, 1.6)))

    def integrand(x):
        x = torch.tensor(x, dtype=torch.float64)
        return float(p.log_prob(x).exp() * (p.log_prob(x) - q.log_prob(x)))

    exact, _ = integrate.quad(integrand, window[0], min(window[1], 30.0), epsabs=1e-12)
    assert abs(float(td.kl_divergence(p, q)) - exact) < 1e-9
    narrower = TruncatedNormal(torch.tensor(0.2, dtype=torch.float64), 1.1, window[0] + 0.1, window[1])
    assert td.kl_divergence(q, narrower) == INF
    assert td.kl_divergence(narrower, q).isfinite()


def test_mean_is_that_of_the_samples():
    d = TruncatedNormal(torch.tensor([0.0, -3.0, 2.0]), 1.5, torch.tensor([-1.0, 0.0, -9.0]), torch.tensor([2.0, INF, 1.0]))
    x = rp.rsample(d, (100_000,), source=rp.Sobol(0))
    assert torch.allclose(x.mean(0), d.mean, atol=1e-3)
    assert torch.allclose(x.var(0), d.variance, rtol=1e-2)


def test_batches_and_expansion():
    d = TruncatedNormal(torch.zeros(3), 1.0, torch.tensor([[0.0], [2.0]]), None)
    assert d.batch_shape == (2, 3)
    assert d.rsample((5,)).shape == (5, 2, 3)
    wide = d.expand((4, 2, 3))
    assert wide.sample().shape == wide.mean.shape == wide.low.shape == (4, 2, 3)
    assert wide.log_prob(wide.sample()).shape == (4, 2, 3)
    assert TruncatedNormal(torch.zeros(0), 1.0, 0.0).rsample((2,)).shape == (2, 0)


@pytest.mark.parametrize("make", [lambda a, b: TruncatedNormal(0.0, 1.0, a, b), lambda a, b: Truncated(td.Normal(0.0, 1.0), a, b)])
def test_empty_windows_are_refused(make):
    for window in ((1.0, 1.0), (2.0, -1.0), (math.nan, 1.0)):
        with pytest.raises(ValueError, match="low must lie below high"):
            make(*window)


def test_a_law_without_a_distribution_function_is_refused():
    with pytest.raises(NotImplementedError, match="discrete"):
        Truncated(td.Poisson(3.0), 1.0, 4.0)
    with pytest.raises(ValueError, match="univariate"):
        Truncated(td.MultivariateNormal(torch.zeros(2), torch.eye(2)), 0.0, 1.0)


@pytest.mark.parametrize(
    ("base", "window"),
    [
        (td.Gumbel(0.5, 2.0), (-1.0, 4.0)),
        (td.Laplace(0.0, 1.0), (None, -2.0)),
        (td.Cauchy(0.0, 1.0), (3.0, None)),
        (td.Exponential(2.0), (-1.0, 3.0)),
        (td.TransformedDistribution(td.Normal(0.0, 1.0), [td.AffineTransform(1.0, -2.0)]), (-1.0, 1.0)),
        (td.Normal(0.0, 1.0), (None, None)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_any_law(base, window):
    d = Truncated(base, *window)
    low, high = (float(torch.as_tensor(end)) for end in (d.support.lower_bound, d.support.upper_bound))
    total, _ = integrate.quad(lambda x: float(d.log_prob(torch.tensor(x)).exp()), max(low, -40), min(high, 40), limit=200)
    assert abs(total - (1 if high < INF else float(d.cdf(torch.tensor(40.0))))) < 1e-5
    x = d.rsample((1000,))
    assert ((low <= x) & (x <= high)).all()
    assert torch.allclose(d.cdf(d.icdf(torch.tensor([0.1, 0.5, 0.9]))), torch.tensor([0.1, 0.5, 0.9]), atol=1e-5)
    assert d.expand((4, 2)).rsample((3,)).shape == (3, 4, 2)


def test_any_law_agrees_with_the_normal_one():
    eps = torch.tensor([1e-3, 0.4, 1.2, 9.0], dtype=torch.float64)
    zero = torch.zeros((), dtype=torch.float64)
    for window in ((40.0, 41.0), (-3.0, -1.0), (-1.0, 2.0), (38.0, None)):
        one, other = TruncatedNormal(zero, 1.0, *window), Truncated(td.Normal(zero, 1.0), *window)
        x = rp.path(one).push(eps)
        assert torch.allclose(rp.path(other).push(eps), x, rtol=1e-13)
        assert torch.allclose(other.log_prob(x), one.log_prob(x), rtol=0, atol=1e-10)


def test_a_bound_outside_the_support_does_nothing():
    d = Truncated(td.Exponential(torch.tensor(2.0, dtype=torch.float64)), low=-1.0)
    eps = torch.tensor([0.1, 3.0], dtype=torch.float64)
    assert torch.allclose(rp.path(d).push(eps), eps / 2)
    assert torch.allclose(d.log_prob(eps), d.base_dist.log_prob(eps))


@pytest.mark.parametrize("bound", ["low", "high"])
def test_derivatives_are_smooth_where_the_mode_leaves_the_window(bound):
    """At loc = bound the formula changes: values, gradients and Hessians do not, and at equality itself they are right."""
    eps = torch.tensor([0.05, 0.7, 4.0], dtype=torch.float64)

    def facts(theta):
        loc, scale, end = theta
        d = TruncatedNormal(loc, scale, **{bound: end})
        x = rp.path(d).push(eps)
        return torch.cat([x, torch.stack([d.mean, d.variance, d.entropy()]), d.log_prob(x.detach()), d.cdf(x.detach())])

    def jets(loc):
        theta = torch.tensor([loc, 1.3, 0.5], dtype=torch.float64)
        gradient = torch.func.jacrev(facts)
        return facts(theta), gradient(theta), torch.func.jacrev(gradient)(theta)

    for below, at, above in zip(jets(0.5 - 1e-7), jets(0.5), jets(0.5 + 1e-7), strict=True):
        assert torch.allclose(below, above, rtol=1e-5, atol=1e-5)
        assert torch.allclose(at, (below + above) / 2, rtol=1e-5, atol=1e-5)


def test_a_law_that_is_flat_in_its_window():
    leaves = [torch.tensor(v, requires_grad=True) for v in (0.0, 1e30, -1.0, 2.0)]
    d = TruncatedNormal(*leaves)
    u = torch.tensor([1e-6, 0.25, 0.9])
    x = rp.path(d).push(-torch.log1p(-u))
    assert torch.allclose(x, -1 + 3 * u, atol=1e-6)
    by_loc, by_scale, by_low, by_high = torch.autograd.grad(x.sum(), leaves)
    assert by_loc.abs() < 1e-6
    assert by_scale.abs() < 1e-6
    assert torch.allclose(torch.stack([by_low, by_high]), torch.stack([(1 - u).sum(), u.sum()]))


@pytest.mark.parametrize(
    ("base", "low", "high"),
    [
        (td.Normal(0.0, 1.0), -41.0, -40.0),
        (td.Normal(0.0, 1.0), None, -40.0),
        (td.InverseGamma(2.0, 1.0), 0.001, 0.002),
        (td.Gumbel(0.0, 1.0), -8.0, -7.0),
    ],
    ids=["normal", "normal, open", "inverse gamma", "gumbel"],
)
def test_windows_in_lower_tails_are_sampled(base, low, high):
    d = Truncated(base, low, high)
    x = d.rsample((1000,))
    assert d.support.check(x).all()
    assert len(x.unique()) > 50
    assert d.log_prob(x).isfinite().all()


def test_windows_out_of_reach_are_refused():
    with pytest.raises(ValueError, match=r"Truncated Logistic: the window from -101.0 to -100.0 lies further out"):
        Truncated(Logistic(0.0, 1.0), -101.0, -100.0)


def test_a_laplace_law_cut_at_its_mode_has_its_gradient():
    loc, low = (torch.zeros((), dtype=torch.float64, requires_grad=True) for _ in range(2))
    density = Truncated(td.Laplace(loc, 1.0), low, 1.0).log_prob(torch.tensor(0.7, dtype=torch.float64))
    slopes = torch.autograd.grad(density, [loc, low])
    # Moving the mode moves the mass by p(0) and the density at 0.7 by as much of itself; to the right, as a limit.
    assert torch.allclose(slopes[0], torch.zeros((), dtype=torch.float64), atol=1e-12)
    assert torch.allclose(slopes[1], torch.tensor(1 / math.expm1(1) + 1, dtype=torch.float64))
