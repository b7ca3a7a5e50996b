"""The normal law in both tails, against mpmath at 60 digits."""

import mpmath as mp
import pytest
import torch

from reparam.distributions import ExponentiallyModifiedNormal
from reparam.special.normal import hazard_from_normal, log_ndtr, log_ndtri, normal_excess, normal_from_hazard, normal_ratio

LOWER = [-1e4, -1e3, -100.0, -40.0, -20.0, -10.0, -6.01]
MIDDLE = [-5.9, -5.0, -3.0, -1.0, -0.3, -1e-3, 0.0, 0.5, 1.0, 2.0, 3.0, 5.0]
LOG_P = [-1e5, -1e4, -700.0, -100.0, -61.0, -59.0, -10.0, -3.0, -1.0, -0.5, -0.1, -1e-3, -1e-8, -1e-16, -1e-36]
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["single", "double"])


def log_ndtr_jet(z):
    """log Phi(z) and three derivatives."""
    with mp.workdps(60):
        z = mp.mpf(z)
        ratio = mp.npdf(z) / (mp.erfc(-z / mp.sqrt(2)) / 2)
        excess = ratio + z
        bend = -ratio * excess
        return [mp.log(mp.erfc(-z / mp.sqrt(2)) / 2), ratio, bend, -bend * excess - ratio * (1 + bend)]


def jet(f, at, order):
    at = at.clone().requires_grad_()
    derivatives = [f(at)]
    for _ in range(order):
        derivatives += torch.autograd.grad(derivatives[-1].sum(), at, create_graph=True)
    return [d.tolist() for d in derivatives]


def units(found, truth, dtype):
    """The error in units of the last place."""
    return float(abs(mp.mpf(found) - truth) / max(abs(truth), mp.mpf("1e-320"))) / torch.finfo(dtype).eps


@DTYPES
def test_log_ndtr_and_three_derivatives(dtype):
    z = torch.tensor(LOWER + MIDDLE, dtype=dtype)
    for at, *found in zip(z.tolist(), *jet(log_ndtr, z, 3), strict=True):
        truth = log_ndtr_jet(at)
        # In the upper tail the value has the condition number z**2; near zero the excess z + ratio loses digits of its own.
        assert units(found[0], truth[0], dtype) <= 4 + at**2 * (at > 0)
        assert units(found[1], truth[1], dtype) <= 4
        assert units(found[2], truth[2], dtype) <= (4 if at < -5 else 60)
        assert units(found[3], truth[3], dtype) <= (8 if at < -5 else 8_000)


@DTYPES
def test_the_upper_tail_underflows_to_zero(dtype):
    for found in jet(log_ndtr, torch.tensor([40.0, 1e4], dtype=dtype), 3):
        assert found == [0.0, 0.0]


@DTYPES
def test_quantiles_of_log_probabilities(dtype):
    log_p = torch.tensor(LOG_P, dtype=dtype)
    for at, value, slope, bend in zip(log_p.tolist(), *jet(log_ndtri, log_p, 2), strict=True):
        with mp.workdps(60):
            # On the smaller tail, which both sides hold to full precision.
            log_tail = mp.mpf(at) if at < -0.7 else mp.log(-mp.expm1(mp.mpf(at)))
            sign = -1 if at < -0.7 else 1
            truth = mp.findroot(lambda z, s=sign, t=log_tail: mp.log(mp.erfc(s * z / mp.sqrt(2)) / 2) - t, mp.mpf(value))
            _, ratio, curve, _ = log_ndtr_jet(truth)
            condition = float(abs(at / (ratio * truth)))
        assert units(value, truth, dtype) <= 4 + condition
        # The slope is exp(z**2 / 2) in the upper tail, which moves with z itself.
        assert units(slope, 1 / ratio, dtype) <= 8 + 4 * float(truth) ** 2 * (at > -0.7)
        if -curve / ratio**3 < torch.finfo(dtype).max:
            assert units(bend, -curve / ratio**3, dtype) <= 100 + 8 * float(truth) ** 2 * (at > -0.7)


@DTYPES
def test_hazards_invert_each_other_in_both_tails(dtype):
    z = torch.tensor([-8.0, -3.0, -0.1, 0.3, 2.0, 40.0, 1e4], dtype=dtype)
    there = normal_from_hazard(hazard_from_normal(z))
    assert torch.allclose(there, z, rtol=64 * torch.finfo(dtype).eps, atol=0)
    eps = torch.tensor([1e-30, 1e-8, 0.5, 0.7, 3.0, 60.0, 1e5], dtype=dtype)
    assert torch.allclose(hazard_from_normal(normal_from_hazard(eps)), eps, rtol=400 * torch.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("f", [log_ndtr, normal_ratio, lambda z: log_ndtri(-z.exp())], ids=["log_ndtr", "ratio", "log_ndtri"])
def test_every_way_to_differentiate(f):
    z = torch.tensor([-50.0, -6.1, -2.0, 0.3, 1.5], dtype=torch.float64)
    if f not in (log_ndtr, normal_ratio):
        z = torch.tensor([-8.0, -2.0, 0.3, 1.5, 6.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(f, z.clone().requires_grad_(), check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(f, z.clone().requires_grad_())
    slopes = torch.func.vmap(torch.func.grad(f))(z)
    assert torch.allclose(torch.func.vmap(torch.func.jacfwd(f))(z), slopes)
    assert f(z[:0]).shape == (0,)
    assert f(z[0]).shape == ()


@pytest.mark.filterwarnings("default")  # torch's compiler warns of its own doings
@pytest.mark.parametrize("f", [log_ndtr, log_ndtri], ids=lambda f: f.__name__)
def test_compiles_to_one_graph(f):
    x = torch.tensor([-50.0, -6.1, -2.0, -0.3, -0.01], dtype=torch.float64, requires_grad=True)
    compiled = torch.compile(f, fullgraph=True, backend="aot_eager")(x)
    assert torch.allclose(compiled, f(x))
    (found,), (truth,) = torch.autograd.grad(compiled.sum(), x), torch.autograd.grad(f(x).sum(), x)
    assert torch.allclose(found, truth)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("f", [log_ndtr, normal_ratio, normal_excess, lambda z: log_ndtri(-(z.abs()))])
def test_half_precision_is_single_precision_rounded_once(f, dtype):
    z = torch.tensor([-20.0, -3.0, -0.5, 1.0, 3.0], dtype=dtype)
    assert torch.equal(f(z), f(z.float()).to(dtype))


@pytest.mark.parametrize("rate", [1e-4, 0.01, 0.5, 2.0, 1e4])
@DTYPES
def test_the_sum_of_normal_and_exponential(rate, dtype):
    """Its distribution function, to relative precision, and its density: the slope of that."""
    x = torch.tensor([-12.0, -5.0, -1.0, -0.1, 0.0, 0.5, 2.0, 4.0, 8.0, 30.0, 1e3], dtype=dtype, requires_grad=True)
    d = ExponentiallyModifiedNormal(torch.tensor(0.0, dtype=dtype), 1.0, rate)
    cdf = d.cdf(x)
    (slope,) = torch.autograd.grad(cdf.sum(), x)
    x, cdf = x.detach(), cdf.detach()
    for i, z in enumerate(map(mp.mpf, x.tolist())):
        with mp.workdps(60):
            k = mp.mpf(float(d.rate))
            rest = mp.exp(k * (k / 2 - z)) * mp.erfc((k - z) / mp.sqrt(2)) / 2
            truth, density = mp.erfc(-z / mp.sqrt(2)) / 2 - rest, k * rest
            log_density = mp.log(density)
        allowed = 200 * torch.finfo(dtype).eps
        if truth > 1e-37:
            assert abs(mp.mpf(float(cdf[i])) - truth) <= allowed * truth
        assert abs(mp.mpf(float(d.log_prob(x[i]))) - log_density) <= allowed * (1 + abs(log_density))
        assert abs(mp.mpf(float(slope[i])) - density) <= allowed * (1 + density)


def test_the_sum_of_normal_and_exponential_outside_and_in_half_precision():
    d = ExponentiallyModifiedNormal(0.0, 1.0, 2.0, validate_args=False)
    infinite = torch.tensor([-torch.inf, torch.inf])
    assert d.log_prob(infinite).tolist() == [-torch.inf, -torch.inf]
    assert d.cdf(infinite).tolist() == [0.0, 1.0]
    with pytest.raises(NotImplementedError, match="inverse"):
        d.icdf(torch.tensor(0.5))
    with pytest.raises(NotImplementedError, match=r"ExponentiallyModifiedNormal has no entropy in closed form.*-d\.log_prob"):
        d.entropy()
    half = ExponentiallyModifiedNormal(torch.tensor(0.0, dtype=torch.bfloat16), 1.0, 2.0)
    x = half.sample((5,))
    assert torch.equal(half.log_prob(x), d.log_prob(x.float()).bfloat16())
