"""Laws on circles and spheres against 30-digit quadrature (tests/oracle/von_mises.py) and closed forms."""

import json
import math
import sys
from pathlib import Path

import pytest
import torch
import torch.distributions as td
from scipy import special as sp
from torch.distributions import kl_divergence

import reparam as rp
from cases.circular import AngleLaw
from reparam.distributions.hyperspherical_uniform import HypersphericalUniform, unit
from reparam.distributions.power_spherical import PowerSpherical
from reparam.distributions.von_mises_fisher import VonMisesFisher
from reparam.special.von_mises import angle_hazard, angle_quantile, log_angle_integral, mean_cosine_deficit
from reparam.stats import mean_test

ORACLE = Path(__file__).parent / "oracle" / "von_mises.json"
ROWS = json.loads(ORACLE.read_text())
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["single", "double"])


def fresh(seed=0):
    return rp.Fresh(torch.Generator().manual_seed(seed))


def worst(found, truth):
    return float(((found.detach().double() - truth) / truth.abs()).abs().max())


def rows_of(n, dtype=torch.float64):
    """The rows of one dimension, those near the antipode of a nearly flat circle apart: t itself is rounded there."""
    rows = [r for r in ROWS if r["n"] == n]
    return {name: torch.tensor([float(r[name]) for r in rows], dtype=torch.float64).to(dtype) for name in rows[0] if name != "n"}


@DTYPES
@pytest.mark.parametrize("n", [0, 1, 3, 48, 998])
def test_angles_and_their_slopes_against_the_oracle(n, dtype):
    eps = torch.finfo(dtype).eps
    exact = rows_of(n)
    kappa = exact["kappa"].clone().to(dtype).requires_grad_()
    hazard = torch.where(exact["F"] < 0.5, -torch.log1p(-exact["F"]), -exact["Q"].log())
    noise = hazard.clone().to(dtype).requires_grad_()
    t = angle_quantile(noise, kappa, n)
    slope, along = torch.autograd.grad(t.sum(), (kappa, noise))
    # One rounding of the noise moves t by so much; kappa is exact in float32 but for 0.3 and the roundings of 1e-6.
    moved = eps * (along.double() * hazard).abs() + eps * (exact["slope"] * exact["kappa"]).abs()
    excess = ((t.detach().double() - exact["t"]).abs() - moved).clamp(min=0) / exact["t"]
    assert float(excess.max()) <= (1e-13 if dtype == torch.float64 else 16 * eps)
    assert worst(slope, exact["slope"]) <= (1e-10 if dtype == torch.float64 else 1e-3)
    if dtype == torch.float64:
        assert worst(angle_hazard(exact["t"], exact["kappa"], n), hazard) <= 1e-11


@pytest.mark.parametrize("n", [0, 1, 3, 48, 998])
def test_normaliser_and_mean_cosine_against_the_oracle(n):
    exact = rows_of(n)
    kappa = exact["kappa"].clone().requires_grad_()
    total, deficit = log_angle_integral(kappa, n), mean_cosine_deficit(kappa, n)
    (first,) = torch.autograd.grad(total.sum(), kappa, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), kappa)
    (spread,) = torch.autograd.grad(deficit.sum(), kappa)
    assert float((total.detach() - exact["log"]).abs().max()) <= 1e-12 * (1 + float(exact["log"].abs().max()))
    assert worst(deficit, exact["mean"]) <= 1e-12
    assert worst(-first, exact["mean"]) <= 1e-12
    assert worst(-spread, exact["spread"]) <= 1e-10
    assert worst(second, exact["spread"]) <= 1e-10


@pytest.mark.slow
def test_the_oracle_again():
    sys.path.insert(0, str(ORACLE.parent))
    import von_mises as oracle

    for row in ROWS[::10]:
        assert oracle.row(row["n"], row["kappa"], row["t"]) == row


def test_the_derivative_of_the_mean_length_in_five_dimensions():
    """0.14739 at kappa = 2, in closed form and as the gradient of a mean of samples; some samplers give 0.12766."""
    kappa = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    loc = unit(torch.tensor([0.3, -1.0, 2.0, 0.1, -0.5], dtype=torch.float64))
    d = VonMisesFisher(loc, kappa)
    length = sp.ive(2.5, 2.0) / sp.ive(1.5, 2.0)
    exact = 1 - length**2 - 4 * length / 2
    (closed,) = torch.autograd.grad(d.mean @ loc, kappa)
    assert math.isclose(float(closed), exact, rel_tol=1e-12)
    assert math.isclose(exact, 0.14739, abs_tol=5e-6)
    for draw in (lambda k: rp.rsample(VonMisesFisher(loc, k), source=fresh()), lambda k: pushed(VonMisesFisher(loc, k))):
        each = kappa.detach().expand(20_000).clone().requires_grad_()
        (slopes,) = torch.autograd.grad((draw(each) @ loc).sum(), each)
        assert mean_test(slopes, exact)


def pushed(d):
    p = rp.path(d)
    return p.push(p.noise.draw((), source=fresh(1)))


@pytest.mark.parametrize("kappa", [0.05, 1.5, 30.0])
def test_gradients_of_circular_means_in_expectation(kappa):
    """E cos x = A(kappa), with derivative 1 - A^2 - A/kappa; E cos(x - a) turns with loc."""
    length = sp.ive(1, kappa) / sp.ive(0, kappa)
    for draw in (lambda d: rp.rsample(d, source=fresh()), pushed):
        k = torch.full((20_000,), kappa, dtype=torch.float64, requires_grad=True)
        loc = torch.full((20_000,), 3.0, dtype=torch.float64, requires_grad=True)
        x = draw(td.VonMises(loc, k))
        assert x.abs().max() <= math.pi
        along, across = torch.cos(x - 3.0), torch.cos(x - 2.0)
        assert mean_test(torch.autograd.grad(along.sum(), k, retain_graph=True)[0], 1 - length**2 - length / kappa)
        assert mean_test(torch.autograd.grad(across.sum(), loc)[0], -length * math.sin(1.0))


@pytest.mark.parametrize("d", [2, 3, 50])
def test_gradients_in_the_direction(d):
    """E v.x = A v.loc: its gradient along the sphere is A times the part of v at a right angle to loc."""
    at = torch.zeros(d, dtype=torch.float64)
    for first in (1.0, -1.0):  # the pole that samples are built at, and its opposite
        at[0] = first
        loc = at.expand(20_000, d).clone().requires_grad_()
        q = VonMisesFisher(loc, torch.tensor(5.0, dtype=torch.float64))
        (slopes,) = torch.autograd.grad(pushed(q)[:, 1].sum(), loc)
        assert mean_test(slopes[:, 1], float(q.mean[0].detach() @ at))


def test_quantiles_of_the_cosine_in_three_dimensions():
    """There it has a closed form: w = 1 + log(1 - P(W > w) (1 - exp(-2 kappa))) / kappa."""
    noise = torch.tensor([1e-12, 1e-3, 0.5, 2.0, 20.0], dtype=torch.float64)
    for kappa in (1e-3, 2.0, 500.0):
        t = angle_quantile(noise, torch.tensor(kappa, dtype=torch.float64), 1)
        lacking = -torch.log1p(torch.expm1(-noise) * -math.expm1(-2 * kappa)) / (2 * kappa)
        assert torch.allclose(torch.sin(t / 2) ** 2, lacking, rtol=1e-12)


@DTYPES
@pytest.mark.parametrize("d", [2, 3, 50, 1000])
@pytest.mark.parametrize("kappa", [0.0, 1e-6, 2.0, 1e8])
def test_densities_and_entropies(d, kappa, dtype):
    q = VonMisesFisher(unit(torch.linspace(-1, 2, d, dtype=dtype)), torch.tensor(kappa, dtype=dtype))
    x = rp.rsample(q, (500,), source=fresh())
    surprise = -q.log_prob(x)
    assert surprise.isfinite().all()
    assert abs(float(surprise.mean() - q.entropy())) <= 6.1 * (float(surprise.std()) / 500**0.5) + 1e-4 * abs(float(q.entropy()))


def test_densities_against_bessel_functions():
    for d in (2, 3, 7):
        for kappa in (0.5, 20.0):
            loc = unit(torch.linspace(-1, 2, d, dtype=torch.float64))
            x = unit(torch.linspace(1, -0.3, d, dtype=torch.float64))
            order = d / 2 - 1
            exact = order * math.log(kappa) - d / 2 * math.log(2 * math.pi) - math.log(sp.ive(order, kappa)) - kappa
            found = VonMisesFisher(loc, kappa).log_prob(x)
            assert math.isclose(float(found), exact + kappa * float(loc @ x), rel_tol=1e-12)
    x = unit(torch.tensor([0.3, 0.4], dtype=torch.float64))
    angle = torch.atan2(x[1], x[0])
    flat = VonMisesFisher(torch.tensor([1.0, 0.0], dtype=torch.float64), 3.0).log_prob(x)
    assert torch.isclose(flat, td.VonMises(torch.zeros((), dtype=torch.float64), 3.0).log_prob(angle), rtol=1e-6)


def test_divergences():
    at, other = (unit(torch.tensor(v, dtype=torch.float64)) for v in ([0.3, -1.0, 2.0], [1.0, 1.0, 0.5]))
    p, q = VonMisesFisher(at, 4.0), VonMisesFisher(other, 1.5)
    x = rp.rsample(p, (20_000,), source=fresh())
    assert mean_test(p.log_prob(x) - q.log_prob(x), float(kl_divergence(p, q)))
    assert abs(float(kl_divergence(p, p))) < 1e-14
    flat = HypersphericalUniform(3, dtype=torch.float64)
    for law in (p, PowerSpherical(at, 4.0)):
        x = rp.rsample(law, (20_000,), source=fresh())
        assert mean_test(law.log_prob(x) - flat.log_prob(x), float(kl_divergence(law, flat)))
        for moment, exact in ((x, law.mean), ((x - law.mean) ** 2, law.variance)):
            for k in range(3):
                assert mean_test(moment[:, k], float(exact[k]))


def test_a_direction_takes_two_dimensions():
    for law in (VonMisesFisher, PowerSpherical):
        with pytest.raises(ValueError, match="a last dimension of at least 2"):
            law(torch.ones(1), 1.0)
        with pytest.raises(ValueError, match="loc"):
            law(torch.ones(3), 1.0, validate_args=True)
    with pytest.raises(ValueError, match="at least 2"):
        HypersphericalUniform(1)


def test_the_oracle_and_the_table_agree():
    """The law that the samples are compared with, against the oracle's tails."""
    for row in ROWS:
        if row["kappa"] <= 100 and row["n"] <= 3:
            assert math.isclose(AngleLaw(row["kappa"], row["n"]).cdf(row["t"]), float(row["F"]), rel_tol=0, abs_tol=1e-9)


@pytest.mark.parametrize("law", [VonMisesFisher, PowerSpherical])
def test_off_the_sphere_there_is_no_density(law):
    d = law(torch.tensor([1.0, 0.0]), torch.tensor(2.0), validate_args=False)
    assert d.log_prob(torch.tensor([5.0, 0.0])) == -math.inf
    assert d.log_prob(d.sample((99,))).isfinite().all()


@pytest.mark.parametrize("law", [VonMisesFisher, PowerSpherical])
def test_divergences_between_spheres_of_different_dimensions_are_refused(law):
    with pytest.raises(ValueError, match="2 and 5"):
        kl_divergence(law(torch.tensor([1.0, 0.0]), 2.0), HypersphericalUniform(5))
    assert kl_divergence(HypersphericalUniform(3), HypersphericalUniform(3, (2,))).tolist() == [0, 0]
