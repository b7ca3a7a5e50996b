"""Every path gives samples of its law: in the bulk, in both tails, in half precision and at the ends of the floats.

The law: union of a Kolmogorov, a chi-squared and four moment checks at a total false-alarm rate of 1e-9 a row, with n = 300000
fixed draws; catches a scale off by 2 %, a shift of 0.02 standard deviations, a tail cut at 1e-3 (the sabotaged samplers below).
"""

import math

import numpy as np
import pytest
import torch
import torch.distributions as td
from scipy import special as sp

import reparam as rp
from cases import CASES, EXTREME, UNIVARIATE, Case, holds, ids
from reparam.noise import EXPONENTIAL, NORMAL
from reparam.stats import law_tests, mean_test
from reparam.testing.paths import density, float32, fresh_sampler, half_precision, law, support

N = 300_000


def fresh(seed=0):
    return rp.Fresh(torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("check", [law, fresh_sampler, support, float32], ids=lambda check: check.__name__)
@pytest.mark.parametrize("case", CASES, ids=ids)
def test_samples(case, check):
    if check is support and case.law is td.GeneralizedPareto:
        pytest.skip("torch's own density of this law takes float32 only; see the extremes below")
    holds(check, case)


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_each_sample_has_the_density_of_its_noise(case):
    if case.law is td.GeneralizedPareto:
        pytest.skip("torch's own density of this law takes float32 only")
    holds(density, case)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("case", CASES, ids=ids)
def test_samples_follow_the_law_closely(case, seed):
    holds(law, case, draws=20 * case.draws, seed=seed, single=False)


# Fault injection: the checks above must see each of these.
SABOTAGE = {
    "scale off by 2 %": lambda x: 1.02 * x,
    "shifted by 2 % of a deviation": lambda x: x + 0.02,
    "tails clamped": lambda x: x.clamp(-3.0, 3.0),
    "tails moved inside": lambda x: torch.where(x.abs() > 3.0, x / 4, x),
    "one per cent atoms": lambda x: torch.where(torch.arange(len(x)) % 100 == 0, 0.0, x),
    "rounded to steps of 1/64": lambda x: (x * 64).round() / 64,
    "a normal scale mixture": lambda x: x * (1 + 0.08 * torch.where(torch.arange(len(x)) % 2 == 0, 1.0, -1.0)),
    "a repeated draw": lambda x: torch.cat([x[: N // 50]] * 50),
}


@pytest.mark.parametrize("fault", SABOTAGE)
def test_sabotaged_samplers_are_caught(fault):
    x = rp.rsample(td.Normal(torch.tensor(0.0, dtype=torch.float64), 1.0), (N,), source=fresh())
    assert all(law_tests(torch.special.ndtr(x)))
    assert not all(law_tests(torch.special.ndtr(SABOTAGE[fault](x))))


def test_swapped_parameters_are_caught():
    case = next(c for c in UNIVARIATE if c.name == "weibull")
    swapped = td.Weibull(*reversed(case.tensors()))
    assert not all(law_tests(case.uniforms(rp.rsample(swapped, (N,), source=fresh()))))


def tail_errors(case: Case, tail: float):
    """Errors of the sample at both tails, in units of the last place of the exact quantile, and the sample itself."""
    p = rp.path(case.make(torch.float32))
    truth = case.exact(*[float(torch.tensor(v, dtype=torch.float32)) for v in case.parameters])
    for upper in (False, True):
        if p.noise.kind is EXPONENTIAL:
            far = upper != case.falling
            eps = torch.tensor(-math.log(tail) if far else -math.log1p(-tail), dtype=torch.float64).float()
            tail_of_eps = math.exp(-float(eps)) if far else -math.expm1(-float(eps))
        elif p.noise.kind is NORMAL:
            eps = torch.tensor(sp.ndtri(tail)).float() * (-1 if upper else 1)
            tail_of_eps = float(sp.ndtr(-abs(float(eps))))
        else:  # uniform noise has one fine tail only
            if upper:
                continue
            eps = torch.tensor(tail)
            tail_of_eps = float(eps)
        exact = float(truth.isf(tail_of_eps) if upper else truth.ppf(tail_of_eps))
        x = float(p.push(eps))
        yield abs(x - exact) / (abs(exact) * torch.finfo(torch.float32).eps), exact


@pytest.mark.parametrize("tail", [1e-15, 1e-12, 1e-9, 1e-6, 1e-3])
@pytest.mark.parametrize("case", UNIVARIATE, ids=ids)
def test_both_tails_are_right_in_single_precision(case, tail):
    if not case.single:
        pytest.skip("float32 cannot hold this law near 1")
    # x = exp(log x) carries the rounding of log x: |log x| units of the last place.
    for error, exact in tail_errors(case, tail):
        assert error <= 6 + abs(math.log(abs(exact))), f"{error:.1f} units at {exact:g}"


def test_a_clamped_tail_is_caught():
    """Torch's own Gumbel in float32 ends near 16; through the same measure it fails by far."""
    case = next(c for c in UNIVARIATE if c.name == "gumbel")
    u = torch.tensor(1.0) - torch.finfo(torch.float32).eps
    largest = float(0.5 - 2.0 * (-(u.log())).log())
    exact = float(case.exact(*case.parameters).isf(1e-12))
    assert abs(largest - exact) / (exact * torch.finfo(torch.float32).eps) > 1e6


def test_the_gumbel_tail_is_sampled():
    # P(g > 16) = 1.125e-7: 2e7 draws expect 2.25, so an empty tail has probability 0.1; 13 instead: expects 45.2.
    generator = torch.Generator().manual_seed(0)
    d = td.Gumbel(torch.zeros(()), torch.ones(()))
    beyond = sum(int((rp.rsample(d, (2_000_000,), source=rp.Fresh(generator)) > 13).sum()) for _ in range(10))
    assert 12 < beyond < 92  # Poisson(45.2) leaves this interval with probability 1e-9


def test_noise_reaches_far_into_both_tails():
    """53-bit uniforms whatever the dtype: the tails are not cut at the 2^-24 of float32 uniforms."""
    eps = rp.Noise(EXPONENTIAL, torch.Size([10_000_000])).draw(source=fresh())
    assert eps.min() < 1e-5  # expected 1e-7; above with probability exp(-100)
    assert eps.max() > 12  # expected 16.1; below with probability exp(-61)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        x = rp.rsample(td.Laplace(torch.zeros((), dtype=dtype), 1.0), (1_000_000,), source=fresh())
        assert 9.5 < x.float().max() < 37  # expected 13.1; below with probability exp(-37)
        assert -37 < x.float().min() < -9.5


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_half_precision_is_single_precision_rounded_once(case):
    holds(half_precision, case)


def test_half_precision_saturates():
    for d in (td.LogNormal(torch.zeros((), dtype=torch.float16), 10.0), td.Cauchy(torch.zeros((), dtype=torch.float16), 1e4)):
        x = rp.rsample(d, (10_000,), source=fresh())
        assert x.dtype == torch.float16
        assert x.max() == torch.finfo(torch.float16).max
        assert d.support.check(x).all()


def test_gumbel_in_bfloat16():
    d = td.Gumbel(torch.zeros((), dtype=torch.bfloat16), torch.ones((), dtype=torch.bfloat16))
    x = rp.rsample(d, (1_000_000,), source=fresh()).double()
    assert not (x < -3.5).any()  # expected 4e-9 of them
    assert mean_test((x > 6.2).double(), -math.expm1(-math.exp(-6.203125)))  # 6.2 lies below this edge between bfloat16 values
    assert mean_test(x, 0.57722)


@pytest.mark.parametrize("case", EXTREME, ids=ids)
def test_own_samples_are_inside_the_support_with_finite_density_and_gradient(case):
    leaves = case.tensors(torch.float32, requires_grad=True)
    d = case.law(*leaves)
    x = rp.rsample(d, (20_000 if case.name != "relaxed one-hot, cold and long" else 1_000,), source=fresh())
    assert x.isfinite().all()
    assert d.support.check(x).all()
    if case.density:
        assert d.log_prob(x.detach()).isfinite().all()
    weights = torch.linspace(-1, 1, x.numel()).reshape(x.shape) / x.detach().abs().clamp(min=1)
    for slope in torch.autograd.grad((weights * x).sum(), leaves):
        assert not slope.isnan().any()
        if case.name != "exponential, fast":  # where the slope, -x / rate, is below the floats
            assert (slope != 0).any()


@pytest.mark.parametrize(("low", "high"), [(1.0, 2.0), (0.0, 1.0), (-3.0, -1.0), (1000.0, 1001.0)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
def test_half_precision_uniforms_stay_below_the_upper_end(low, high, dtype):
    if dtype == torch.bfloat16 and low == 1000.0:
        pytest.skip("bfloat16 has no values between 1000 and 1001")
    d = td.Uniform(torch.tensor(low, dtype=dtype), torch.tensor(high, dtype=dtype))
    x = rp.rsample(d, (200_000,), source=fresh())
    assert (x >= low).all()
    assert (x < high).all()
    assert d.log_prob(x).isfinite().all()
    if low == 0.0:
        assert (x > 0).all()
        # The last value below the end takes the mass that rounds to the end: a quarter of a spacing of bias at most.
        assert abs(float(x.double().mean()) - 0.5) < 6.1 * 0.2887 / math.sqrt(200_000) + float(torch.finfo(dtype).eps) ** 2


def test_relaxed_samples_pass_torchs_own_validation():
    for size in (10, 1000):
        d = td.RelaxedOneHotCategorical(torch.tensor(0.1), logits=torch.zeros(size))
        x = rp.rsample(d, (100_000 // size * 10,), source=fresh())
        assert (x > 0).all()
        assert d.log_prob(x).isfinite().all()


def test_mixed_precision_parameters_compute_in_the_wider_type():
    d = td.Normal(torch.zeros(3, dtype=torch.bfloat16), torch.ones(3))
    assert rp.rsample(d).dtype == torch.float32
    assert np.isfinite(rp.rsample(d).numpy()).all()
