"""Known faults of samplers, one test each: what reparam offers is right where another sampler is not, or refused in words.

Statistical tests are z-tests at a false-alarm rate of 1e-9, of fixed draws; each says which error it would catch. Truths are
closed forms, 50-digit arithmetic, or scipy.
"""

import math
import multiprocessing
import os
import warnings

import mpmath
import numpy as np
import pytest
import scipy.special as sp
import scipy.stats as st
import torch
import torch.distributions as td
from torch.utils.data import DataLoader, Dataset

import reparam as rp
from reparam.distributions import LogDirichlet, LogitBeta, TanhNormal
from reparam.noise import EXPONENTIAL, NORMAL, UNIFORM, Noise
from reparam.paths import cdf, icdf, log_cdf, log_survival, sample_and_log_prob
from reparam.stats import law_tests, mean_test

F32, F64, F16, BF16 = torch.float32, torch.float64, torch.float16, torch.bfloat16

# Every fault of the list: the tests below must name each.
FAULTS = {
    "b01", "b02", "b03", "b04", "b06", "b07", "b09", "b10", "b12", "b13", "b15", "b16", "b17", "b18", "b19", "b20", "b21", "b22",
    "b25", "b27", "b28", "b30", "b31", "b42", "b48", "b49", "b50", "b51", "b52", "b53", "b54", "b56", "b57", "b58", "b59", "b61",
    "b63", "b64", "b65", "b66", "b72", "b76",
}  # fmt: skip
TESTS = {}


def fault(name):
    def register(test):
        TESTS[name] = test
        return test

    return register


def test_every_fault_has_its_test():
    assert set(TESTS) == FAULTS


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_fault(name):
    TESTS[name]()


def fresh(seed=0):
    return rp.Fresh(torch.Generator().manual_seed(seed))


def full(value, dtype=F32, n=1):
    return torch.full((n,), value, dtype=dtype)


def digits(f, *args):
    """`f` in 50-digit arithmetic."""
    with mpmath.workdps(50):
        return float(f(*[mpmath.mpf(a) for a in args]))


def close(found, truth, relative):
    found = float(found.detach()) if isinstance(found, torch.Tensor) else found
    assert abs(found - truth) <= relative * abs(truth), (found, truth)


def gamma_slope(a, z):
    """dz/da at fixed probability."""

    def slope(a, z):
        h = a * mpmath.mpf(10) ** -12
        below = lambda t: mpmath.gammainc(t, 0, z, regularized=True)  # noqa: E731
        return -(below(a + h) - below(a - h)) / (2 * h) / mpmath.exp((a - 1) * mpmath.log(z) - z - mpmath.loggamma(a))

    return digits(slope, a, z)


# Gamma, Beta, Dirichlet


def _log_gamma_law(dtype, a, **known):
    """A share of the draws are so small that no float holds them; those that are held follow the law, and no others are shifted."""
    n = 100_000
    d = td.Gamma(torch.tensor(a, dtype=dtype), torch.ones((), dtype=dtype))
    x = rp.rsample(d, (n,), source=fresh())
    tiny = torch.finfo(dtype).tiny
    # The held share is the probability below the floats: an atom there is the limit of representation, and no larger.
    share = float(sp.gammainc(a, tiny * (1 + 1e-6)))
    assert mean_test((x <= tiny * (1 + 1e-6)).double(), share)
    inside = x[x > tiny * (1 + 1e-6)].double()
    u = (torch.from_numpy(sp.gammainc(a, inside.numpy())) - share) / (1 - share)
    assert all(law_tests(u))
    # In logarithms nothing is lost: E log x = digamma(a), Var log x = trigamma(a).
    from reparam.distributions.log_gamma import LogGamma

    y = rp.rsample(LogGamma(d.concentration, d.rate), (n,), source=fresh()).double()
    verdict = mean_test(y, float(sp.digamma(a)))
    assert verdict, verdict
    assert verdict.detectable < 0.05 * abs(sp.digamma(a))
    assert len(torch.unique(y)) > 0.9 * n


@fault("b01")
def _():
    _log_gamma_law(F32, 0.01)


@fault("b02")
def _():
    _log_gamma_law(F64, 1e-3)


@fault("b03")
def _():
    a, n = 1e-3, 20_000
    d = td.Beta(full(a, F64)[0], full(a, F64)[0])
    x = rp.rsample(d, (n,), source=fresh())
    assert not ((x - 0.5).abs() < 1e-9).any()  # expected 1e-8 of them
    middle = st.beta(a, a).cdf(0.99) - st.beta(a, a).cdf(0.01)
    assert mean_test(((x > 0.01) & (x < 0.99)).double(), middle)  # .46 %; catches 0.6 % more, where torch has 24 %
    logit = rp.rsample(LogitBeta(full(a, F64)[0], full(a, F64)[0]), (n,), source=fresh())
    u = torch.from_numpy(
        np.where(logit < 0, 0.5 * np.exp(np.minimum(a * logit.numpy(), 0)), 1 - 0.5 * np.exp(-a * logit.abs().numpy()))
    )
    far = logit.abs() > 50  # there the law is that of an exponential variate on either side, to 1e-18
    assert far.double().mean() > 0.9
    assert mean_test((logit > 0).double(), 0.5)
    # P(logit < y) = C exp(a y) / a, C = 1 / B(a, a): as good as uniform below.
    held = u[far & (logit < 0)]
    scale = math.exp(-sp.betaln(a, a)) / a / 0.5
    assert all(law_tests((held * scale) / (0.5 * math.exp(-50 * a) * scale)))


@fault("b04")
def _():
    a, k, n = 1e-4, 4, 20_000
    d = td.Dirichlet(full(a, F64, k))
    x = rp.rsample(d, (n,), source=fresh())
    assert not ((x - 1 / k).abs().amax(-1) < 1e-9).any()
    # P(no component above .99) is about (k - 1) 2 a log 99 = .28 %, so E max > .9986.
    top = x.amax(-1)
    assert top.mean() > 0.995
    for corner in (x.argmax(-1) == torch.arange(k).unsqueeze(1)).double():
        assert mean_test(corner, 1 / k)
    assert torch.allclose(x.sum(-1), torch.ones(n, dtype=F64))
    assert rp.rsample(LogDirichlet(full(a, F64, k)), (n,), source=fresh()).isfinite().all()


@fault("b06")
def _():
    z = 0.00011603720211313873
    truth = 1.5285043414622368e-05  # 50 digits
    a, b = full(5.0, F64).requires_grad_(), full(1e5, F64)
    p = rp.path(td.Beta(a, b))
    with torch.no_grad():
        eps = p.pull(full(z, F64))
    x = p.push(eps)
    close(x, z, 1e-10)
    close(torch.autograd.grad(x.sum(), a)[0], truth, 1e-8)
    # d mean / da = b / (a + b)^2 = 1e-5, and every sample rises with a.
    a = full(5.0, F64, 20_000).requires_grad_()
    (slopes,) = torch.autograd.grad(rp.rsample(td.Beta(a, full(1e5, F64)), source=fresh()).sum(), a)
    assert (slopes > 0).all()
    verdict = mean_test(slopes, 1e5 / (1e5 + 5) ** 2)
    assert verdict, verdict
    assert verdict.detectable < 0.05 * 1e-5


@fault("b07")
def _():
    a = full(2.0**16 + 1039, F32, 16384).requires_grad_()
    (slopes,) = torch.autograd.grad(rp.rsample(td.Beta(a, full(1.5, F32, 16384)), source=fresh()).sum(), a)
    assert slopes.isfinite().all()
    assert (slopes >= 0).all()
    total = 2.0**16 + 1039 + 1.5
    verdict = mean_test(slopes, 1.5 / total**2)
    # A float32 near one has steps of 6e-8, so that its own slope, the distance to one over a, carries their noise.
    assert verdict, verdict


@fault("b09")
def _():
    worst = 0.0
    for a in (1e-3, 1e-2, 0.1, 0.5, 1.0, 3.0, 8.1, 10.0, 100.0, 1e3, 1e5):
        for q in (1e-6, 1e-4, 0.01, 0.5, 0.99, 0.9999, 1 - 1e-6):
            z = float(sp.gammaincinv(a, q))
            if z > 1e-300 and a <= 1e3:
                leaf = full(a, F64).requires_grad_()
                p = rp.path(td.Gamma(leaf, full(1.0, F64)))
                with torch.no_grad():
                    eps = p.pull(full(z, F64))
                x = p.push(eps)
                (slope,) = torch.autograd.grad(x.sum(), leaf)
                truth = gamma_slope(a, float(x.detach()))
                worst = max(worst, abs(float(slope) - truth) / truth)
    assert worst < 1e-8, worst


@fault("b10")
def _():
    from reparam.distributions.log_gamma import LogGamma

    a, n = 1e-3, 100_000
    truth = float(sp.polygamma(1, a))  # d/da E log x
    for dtype in (F32, F64):
        leaf = full(a, dtype, n).requires_grad_()
        y = rp.rsample(LogGamma(leaf, full(1.0, dtype)), source=fresh())
        (slopes,) = torch.autograd.grad(y.sum(), leaf)
        verdict = mean_test(slopes, truth)
        assert verdict, verdict
        assert verdict.detectable < 0.05 * truth


# Gumbel, geometric, uniform


@fault("b12")
def _():
    d = td.Gumbel(torch.tensor(0.0), torch.tensor(1.0))
    generator = torch.Generator().manual_seed(0)
    # P(g > 13) = 2.26e-6: 2e7 draws expect 45.2, and a Poisson count leaves 12 < n < 92 with a probability of 1e-9.
    beyond = sum(int((rp.rsample(d, (2_000_000,), source=rp.Fresh(generator)) > 13).sum()) for _ in range(10))
    assert 12 < beyond < 92
    # Above 16, where torch's sampler ends: the quantile of every noise there, and noise that reaches there.
    for tail in (1e-7, 1e-9, 1e-15):
        close(rp.path(d).push(torch.tensor(tail)), -math.log(tail), 1e-6)
    assert float(Noise(EXPONENTIAL, torch.Size([])).draw(source=rp.Replay(torch.tensor(2.0**-54)))) == 2.0**-54


@fault("b13")
def _():
    x = rp.rsample(td.Gumbel(torch.tensor(0.0, dtype=BF16), torch.tensor(1.0, dtype=BF16)), (1_000_000,), source=fresh()).double()
    assert not (x < -3.5).any()  # expected 4e-9 of them
    assert mean_test((x > 6.2).double(), -math.expm1(-math.exp(-6.203125)))  # 6.2 lies below this edge between bfloat16 values
    assert mean_test(x, 0.5772156649)


@fault("b15")
def _():
    for p, dtype in ((0.01, BF16), (0.01, F16), (0.3, F32), (1e-6, F64)):
        chance = torch.tensor(p, dtype=dtype)
        p = float(chance)
        for d in (td.Geometric(chance), td.Geometric(logits=torch.tensor(math.log(p) - math.log1p(-p), dtype=dtype))):
            exact = p if vars(d).get("probs") is not None else float(sp.expit(float(d.logits)))
            x = rp.sample(d, (500_000,), source=fresh()).double()
            verdict = mean_test(x, 1 / exact - 1)
            assert verdict, verdict
            assert verdict.detectable < 0.02 / exact
            if exact > 1e-3:
                assert mean_test((x == 0).double(), exact)


@fault("b16")
def _():
    for low, high, dtype in ((1e6, 1e6 + 1, F32), (1.0, 2.0, BF16), (1.0, 2.0, F16)):
        d = td.Uniform(torch.tensor(low, dtype=dtype), torch.tensor(high, dtype=dtype))
        assert d.log_prob(rp.rsample(d, (1_000_000,), source=fresh())).isfinite().all()


@fault("b17")
def _():
    x = rp.rsample(td.Uniform(torch.tensor(-3e38), torch.tensor(3e38)), (100_000,), source=fresh())
    assert x.isfinite().all()
    assert all(law_tests(x.double() / 6e38 + 0.5))


# Discrete laws


@fault("b18")
def _():
    k, n = 2**24, 200_000
    weights = torch.full((k,), 0.1)
    categories = rp.sample(td.Categorical(weights), (n,), source=fresh())
    counts = rp.sample(td.Multinomial(n, weights), source=fresh(1))
    drawn = counts.nonzero().squeeze(-1)
    several = torch.repeat_interleave(drawn, counts[drawn].long())
    assert counts.sum() == n
    for x in (categories, several):
        # Uniform on the lattice, spread over its cells: a wrong mass of an eighth by 2 % is caught.
        u = (x.double() + torch.rand(n, dtype=F64, generator=torch.Generator().manual_seed(1))) / k
        assert all(law_tests(u))
    # Weights far apart, zero ones among them, and in half precision.
    p = torch.tensor([0.0, 0.25, 0.0, 0.125, 0.625, 0.0])
    for dtype in (F32, F64, BF16):
        shares = torch.bincount(rp.sample(td.Categorical(p.to(dtype)), (n,), source=fresh(2)), minlength=6).double() / n
        assert ((shares - p.double()).abs() <= 6.11 * (p * (1 - p) / n).sqrt()).all()
    assert (rp.sample(td.Categorical(p), source=rp.Replay(torch.tensor(1 - 2.0**-53, dtype=F64)))) == 4
    assert (rp.sample(td.Categorical(p), source=rp.Replay(torch.tensor(2.0**-54, dtype=F64)))) == 1


@fault("b19")
def _():
    with pytest.raises(ValueError, match=r"samples need finite parameters"):
        rp.sample(td.Poisson(torch.tensor(math.inf)))
    with pytest.raises(ValueError, match=r"Poisson: counts come at a rate of inf; samples need"):
        rp.sample(td.Poisson(torch.tensor([1.0, math.inf]), validate_args=False))
    # Variances too, which torch's sampler misses by 40 % from a rate of 1e16 on: errors of 6 % are caught.
    for rate in (0.0, 1e-3, 3.0, 1e6, 0.999e9, 1.001e9, 1e15, 1e16, 4e18, 1e19, 1e25):
        x = rp.sample(td.Poisson(torch.tensor(rate, dtype=F64)), (40_000,), source=fresh())
        assert (x >= 0).all()
        for verdict in (mean_test(x, rate), mean_test((x - rate) ** 2, rate)):
            assert verdict, (rate, verdict)
        if rate > 1e5:  # the law of the counts, by its normal limit: off by .2 / sqrt(rate)
            assert all(law_tests(torch.special.ndtr((x - rate) / math.sqrt(rate))))
            assert verdict.detectable < 0.1 * rate
    x = torch.func.vmap(lambda rate: rp.sample(td.Poisson(rate, validate_args=False), (1000,)), randomness="different")(
        torch.tensor([3.0, 1e19], dtype=F64)
    )
    rate = torch.tensor([3.0, 1e19], dtype=F64)
    assert ((x.mean(-1) - rate).abs() < 6.11 * (rate / 1000).sqrt()).all()
    assert rp.sample(td.Poisson(torch.tensor(3.0, dtype=BF16)), (10,)).dtype == BF16


@fault("b20")
def _():
    with pytest.raises(ValueError, match=r"NegativeBinomial: counts come at a rate of inf; samples need finite parameters"):
        rp.sample(td.NegativeBinomial(torch.tensor(10.0), logits=torch.tensor(800.0)))
    for n, logits in ((10.0, 1.5), (0.3, -2.0), (1e3, 20.0), (0.0, 3.0), (10.0, 50.0), (10.0, 30.0)):
        for d in (
            td.NegativeBinomial(torch.tensor(n, dtype=F64), logits=torch.tensor(logits, dtype=F64)),
            td.NegativeBinomial(torch.tensor(n, dtype=F64), torch.tensor(float(sp.expit(min(logits, 30))), dtype=F64)),
        ):
            logits = min(logits, 30) if vars(d).get("probs") is not None else logits
            x = rp.sample(d, (100_000,), source=fresh())
            assert (x >= 0).all()
            verdict = mean_test(x, n * math.exp(logits))
            assert verdict, verdict
            if 0 < n < 1:
                assert mean_test((x == 0).double(), float(st.nbinom.pmf(0, n, sp.expit(-logits))))


@fault("b21")
def _():
    d = td.Bernoulli(full(1e-9, F32, 10_000_000))
    # 4e7 draws expect .04 ones; three or more of them have a probability of 1e-5, where torch's sampler expects 2.4 of them.
    assert sum(int(rp.sample(d, source=fresh(seed)).sum()) for seed in range(4)) < 3
    tiny = td.Bernoulli(torch.tensor(1e-9))
    assert [float(rp.sample(tiny, source=rp.Replay(torch.tensor(u)))) for u in (0.9e-9, 1.1e-9)] == [1.0, 0.0]
    assert mean_test(rp.sample(td.Bernoulli(full(1e-5, F32, 4_000_000)), source=fresh()), float(torch.tensor(1e-5)))


# Densities of own samples


@fault("b22")
def _():
    for a in (0.2, 0.01):
        d = td.Kumaraswamy(torch.tensor(a), torch.tensor(a))
        x = rp.rsample(d, (300_000,), source=fresh())
        assert (x < 1).all()
        assert d.log_prob(x).isfinite().all()


@fault("b25")
def _():
    for k, n in ((1000, 4000), (10, 100_000)):
        d = td.RelaxedOneHotCategorical(torch.tensor(0.1), logits=torch.zeros(k))
        assert d.log_prob(rp.rsample(d, (n,), source=fresh())).isfinite().all()


@fault("b27")
def _():
    for dtype, loc, scale in ((F32, 0.0, 5.0), (BF16, 3.0, 1.0), (F16, 3.0, 1.0)):
        base = td.Normal(torch.tensor(loc, dtype=dtype), torch.tensor(scale, dtype=dtype))
        d = td.TransformedDistribution(base, [td.TanhTransform()])
        x = rp.rsample(d, (100_000,), source=fresh())
        assert (x.abs() < 1).all()
        assert d.log_prob(x).isfinite().all()
        _, log_prob = sample_and_log_prob(d, (100_000,), source=fresh())
        assert log_prob.isfinite().all()
        own = TanhNormal(base.loc, base.scale)
        assert own.log_prob(rp.rsample(own, (100_000,), source=fresh())).isfinite().all()


@fault("b28")
def _():
    pre = torch.linspace(-8.9, 8.9, 399)
    d = td.TransformedDistribution(td.Normal(torch.tensor(0.0), torch.tensor(2.0)), [td.TanhTransform()])
    x, found = sample_and_log_prob(d, (399,), source=rp.Replay(pre / 2))
    assert torch.allclose(x, pre.tanh().clamp(-1 + 2**-24, 1 - 2**-24))
    wide = pre.double()
    truth = st.norm(0, 2).logpdf(wide.numpy()) - 2 * (math.log(2) - wide - torch.nn.functional.softplus(-2 * wide)).numpy()
    assert np.abs(found.double().numpy() - truth).max() < 5e-6  # torch: .046


# Wishart and mixtures


@fault("b30")
def _():
    d = td.Wishart(torch.tensor(14.0, dtype=F64), torch.eye(4, dtype=F64))
    d._bartlett_sampling = None  # nothing is drawn and thrown away: this is never called
    x = rp.rsample(d, (20_000,), source=fresh())
    # log det of a Wishart matrix is the sum of the logs of chi-squared numbers with df, df - 1, ...
    log_det = torch.linalg.slogdet(x).logabsdet
    verdict = mean_test(log_det, sum(float(sp.digamma((14 - i) / 2)) + math.log(2) for i in range(4)))
    assert verdict, verdict
    # The mean of x is df times the scale.
    for i in range(4):
        assert all(law_tests(torch.from_numpy(st.chi2(14).cdf(x[:, i, i].numpy()))))
    # Barely regular, where the smallest pivot has a tenth of a degree of freedom: in float64 log det follows the law.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of these parameters when a Wishart is made
        thin, wide = (td.Wishart(torch.tensor(9.1, dtype=dtype), torch.eye(10, dtype=dtype)) for dtype in (F32, F64))
    x = rp.rsample(thin, (5_000,), source=fresh())
    assert x.isfinite().all()
    assert torch.equal(x, x.mT)
    y = rp.rsample(wide, (20_000,), source=fresh())
    for i in (0, 9):
        assert all(law_tests(torch.from_numpy(st.chi2(9.1).cdf(y[:, i, i].numpy()))))


@fault("b31")
def _():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rp.rsample(td.Wishart(torch.tensor(14.0, dtype=F64), torch.eye(4, dtype=F64)), (20_000,), source=fresh())


@fault("b42")
def _():
    logits = torch.zeros(2, requires_grad=True)
    loc = torch.tensor([0.0, 1e20], requires_grad=True)
    d = td.MixtureSameFamily(td.Categorical(logits=logits), td.Normal(loc, torch.ones(2)))
    x, log_prob = sample_and_log_prob(d, (1000,), source=fresh())
    assert x.isfinite().all()
    assert log_prob.isfinite().all()
    for value in (x, log_prob):
        for slope in torch.autograd.grad(value.sum(), (logits, loc), retain_graph=True, allow_unused=True):
            assert slope is None or slope.isfinite().all()
    # Where every component underflows, the logarithms of its tails do not, and have finite derivatives.
    weights = torch.zeros(2, dtype=F64, requires_grad=True)
    d = td.MixtureSameFamily(td.Categorical(logits=weights), td.Normal(torch.tensor([0.0, 1.0], dtype=F64), 1.0))
    far = log_survival(d, torch.tensor(1e3, dtype=F64))
    truth = float(st.norm.logsf(999.0)) + math.log(0.5)  # the other component is e^-999 of it
    close(far, truth, 1e-10)
    (slope,) = torch.autograd.grad(far, weights)
    assert torch.allclose(slope, torch.tensor([-0.5, 0.5], dtype=F64), atol=1e-6)


# Distribution functions


def _at(law, function, points, dtype, relative, *parameters):
    d = law(*[torch.tensor(v, dtype=dtype) for v in parameters])
    for point, truth in points.items():
        close(function(d, torch.tensor(point, dtype=dtype)), truth, relative)


@fault("b48")
def _():
    _at(td.Normal, cdf, {-6.0: sp.ndtr(-6), -13.0: sp.ndtr(-13)}, F32, 2e-5, 0.0, 1.0)
    _at(td.Normal, cdf, {-9.0: sp.ndtr(-9), -37.0: sp.ndtr(-37)}, F64, 1e-12, 0.0, 1.0)
    _at(td.Normal, log_cdf, {-300.0: float(sp.log_ndtr(-300))}, F64, 1e-12, 0.0, 1.0)


@fault("b49")
def _():
    for dtype, relative in ((F32, 1e-6), (F64, 1e-12)):
        _at(
            td.Normal,
            icdf,
            {p: float(sp.ndtri(float(torch.tensor(p, dtype=dtype)))) for p in (1e-10, 1e-30)},
            dtype,
            relative,
            0.0,
            1.0,
        )


@fault("b50")
def _():
    _at(td.Cauchy, icdf, {1e-10: -1 / math.tan(math.pi * 1e-10)}, F32, 1e-6, 0.0, 1.0)
    _at(td.Cauchy, cdf, {-1e8: math.atan(1e-8) / math.pi}, F32, 1e-6, 0.0, 1.0)


@fault("b51")
def _():
    _at(td.Laplace, icdf, {1e-10: math.log(2e-10)}, F32, 1e-6, 0.0, 1.0)
    _at(td.Laplace, cdf, {-30.0: math.exp(-30) / 2}, F32, 1e-5, 0.0, 1.0)


@fault("b52")
def _():
    _at(td.Exponential, cdf, {1e-10: 1e-10}, F32, 1e-6, 1.0)
    _at(td.Weibull, cdf, {1e-5: 1e-10}, F32, 1e-5, 1.0, 2.0)
    _at(td.HalfNormal, cdf, {1e-8: math.erf(1e-8 / math.sqrt(2))}, F32, 1e-6, 1.0)
    _at(td.HalfCauchy, cdf, {1e-9: 2e-9 / math.pi}, F32, 1e-6, 1.0)


@fault("b53")
def _():
    for dtype in (F32, F64):
        _at(td.Gumbel, icdf, {1e-30: -math.log(-math.log(1e-30))}, dtype, 1e-6, 0.0, 1.0)
        shifted = [td.AffineTransform(torch.tensor(1.0, dtype=dtype), torch.tensor(-2.0, dtype=dtype))]
        d = td.TransformedDistribution(td.Exponential(torch.tensor(1.0, dtype=dtype)), shifted)  # P(1 - 2 e <= x)
        close(icdf(d, torch.tensor(1e-30, dtype=dtype)), 1 + 2 * math.log(1e-30), 1e-6)


@fault("b54")
def _():
    for validate in (True, False):
        assert cdf(td.HalfNormal(torch.tensor(1.0), validate_args=validate), torch.tensor(-1.0)) == 0
    for d in (td.Exponential(1.0), td.Gamma(torch.tensor(2.0), 1.0), td.Uniform(0.0, 1.0), td.Beta(torch.tensor(2.0), 1.0)):
        assert cdf(d, torch.tensor(-1.0)) == 0


@fault("b58")
def _():
    for a in (0.3, 1.5, 40.0):
        leaf = torch.tensor(a, dtype=F64, requires_grad=True)
        u = cdf(td.Gamma(leaf, torch.tensor(1.0, dtype=F64)), torch.tensor(1.2 * a, dtype=F64))
        close(u, float(sp.gammainc(a, 1.2 * a)), 1e-12)
        truth = digits(lambda a, z: mpmath.diff(lambda t: mpmath.gammainc(t, 0, z, regularized=True), a), a, 1.2 * a)
        close(torch.autograd.grad(u, leaf)[0], truth, 1e-8)
    leaf = torch.tensor(1.0, dtype=F64, requires_grad=True)
    u = cdf(td.Beta(leaf, torch.tensor(2.0, dtype=F64)), torch.tensor(0.3, dtype=F64))
    close(u, 0.51, 1e-12)
    truth = digits(lambda a, x: mpmath.diff(lambda t: mpmath.betainc(t, 2, 0, x, regularized=True), a), 1.0, 0.3)
    close(torch.autograd.grad(u, leaf)[0], truth, 1e-8)
    leaf = torch.tensor(3.0, dtype=F64, requires_grad=True)
    u = cdf(td.StudentT(leaf), torch.tensor(0.3, dtype=F64))
    close(u, float(st.t(3).cdf(0.3)), 1e-12)
    h = 1e-4
    close(torch.autograd.grad(u, leaf)[0], float(st.t(3 + h).cdf(0.3) - st.t(3 - h).cdf(0.3)) / (2 * h), 1e-6)
    close(icdf(td.Gamma(torch.tensor(1.0, dtype=F64), torch.tensor(2.0, dtype=F64)), 0.3), -math.log(0.7) / 2, 1e-12)
    loc = torch.zeros(2, requires_grad=True)
    mixture = td.MixtureSameFamily(td.Categorical(torch.ones(2)), td.Normal(loc, torch.ones(2)))
    for d in (mixture, td.VonMises(loc, 1.0)):
        (slope,) = torch.autograd.grad(rp.rsample(d, (100,)).sum(), loc)
        assert slope.isfinite().all()
        assert (slope != 0).all()
    # No closed form of this one is known: torch has none, and nothing here pretends to.
    with pytest.raises(NotImplementedError):
        td.kl_divergence(td.StudentT(torch.tensor(3.0)), td.StudentT(torch.tensor(4.0)))


# Generators, derivatives of higher order, half precision


@fault("b56")
def _():
    one = torch.tensor(1.5)
    laws = [
        td.Gamma(one, one), td.Normal(one, one), td.Dirichlet(torch.ones(3)), td.Beta(one, one), td.StudentT(one), td.Chi2(one),
        td.VonMises(one, one), td.LKJCholesky(3, one), td.Wishart(torch.tensor(4.0), torch.eye(3)), td.InverseGamma(one, one),
        td.FisherSnedecor(one, one), td.MultivariateNormal(torch.zeros(2), torch.eye(2)), td.Uniform(0 * one, one),
        td.MixtureSameFamily(td.Categorical(torch.ones(2)), td.Normal(torch.zeros(2), 1.0)), td.Bernoulli(one / 2),
        td.Categorical(torch.ones(3)), td.OneHotCategorical(torch.ones(3)), td.Binomial(5, one / 2), td.Geometric(one / 2),
        td.Multinomial(5, torch.ones(3)), td.Poisson(one), td.NegativeBinomial(one, one / 2),
    ]  # fmt: skip
    for d in laws:
        state = torch.get_rng_state()
        a, b, c = (rp.sample(d, (50,), source=fresh(seed)) for seed in (1, 1, 2))
        assert torch.equal(a, b), d
        assert not torch.equal(a, c), d
        assert torch.equal(torch.get_rng_state(), state), d
        if not d.support.is_discrete:
            assert torch.equal(rp.rsample(d, (50,), source=fresh(1)), a)


@fault("b57")
def _():
    a = torch.tensor(1.5, dtype=F64, requires_grad=True)

    def draw(a):
        return rp.rsample(td.Gamma(a, torch.tensor(1.0, dtype=F64), validate_args=False), source=fresh())

    def push(a):
        return rp.path(td.Gamma(a, torch.tensor(1.0, dtype=F64))).push(torch.tensor(0.7, dtype=F64))

    for function in (draw, push):
        (slope,) = torch.autograd.grad(function(a), a, create_graph=True)
        (bend,) = torch.autograd.grad(slope, a)
        assert bend.isfinite()
        assert bend != 0
    h = 1e-3
    truth = float((push(a + h) - 2 * push(a) + push(a - h)).detach()) / h**2
    close(torch.autograd.grad(torch.autograd.grad(push(a), a, create_graph=True)[0], a)[0], truth, 1e-5)
    _, tangent = torch.func.jvp(push, (a.detach(),), (torch.ones_like(a),))
    close(tangent, float(torch.autograd.grad(push(a), a)[0].detach()), 1e-12)
    x = torch.func.vmap(lambda a: rp.rsample(td.Dirichlet(a, validate_args=False)), randomness="different")(torch.ones(3, 4))
    assert torch.allclose(x.sum(-1), torch.ones(3))
    assert len(torch.unique(x, dim=0)) == 3


@fault("b59")
def _():
    for dtype in (F16, BF16):
        one = torch.tensor(1.5, dtype=dtype)
        for d in (
            td.Gamma(one, one),
            td.Dirichlet(torch.ones(3, dtype=dtype)),
            td.StudentT(2 * one),
            td.MultivariateNormal(torch.zeros(2, dtype=dtype), scale_tril=torch.eye(2, dtype=dtype)),
            td.Binomial(10, one / 5),
            td.Beta(one, one),
            td.VonMises(one, one),
        ):
            x = rp.sample(d, (1000,), source=fresh())
            assert x.dtype == dtype
            assert x.isfinite().all()
    assert mean_test(rp.sample(td.Binomial(10, torch.tensor(0.5, dtype=BF16)), (100_000,), source=fresh()), 5.0)


@fault("b61")
def _():
    for temperature in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match=r"the temperature of a relaxation is .*; it must be positive and finite"):
            rp.relaxed(td.Categorical(logits=torch.zeros(4)), temperature)
    with pytest.raises(ValueError, match="must be positive and finite"):
        rp.rsample(td.RelaxedOneHotCategorical(torch.tensor(0.0), logits=torch.zeros(4), validate_args=False))
    with pytest.raises(ValueError):  # torch looks at the logits before we do
        rp.rsample(rp.relaxed(td.Categorical(logits=torch.full((4,), -math.inf)), 0.5))


# Seeds and streams: what holds today


@fault("b63")
def _():
    # A seed of ours has 64 bits, and all of them count.
    one = Noise(UNIFORM, torch.Size([8]))
    draws = [one.draw(4, source=rp.Sobol(seed)) for seed in (7, 7 + 2**32, 7 + 5 * 2**40)]
    assert not any(torch.equal(draws[i], draws[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    with pytest.raises(ValueError, match="must lie between 0 and 2\\^64 - 1"):
        rp.Sobol(2**64)
    # Fresh noise takes no seed: a torch.Generator, which keeps 32 bits of its own on the CPU. A limit of torch's generators.
    with pytest.raises(TypeError, match=r"is no noise source: pass one such as .*rp.Fresh\(generator\) for a torch.Generator"):
        rp.rsample(td.Normal(0.0, 1.0), source=7)
    assert torch.equal(one.draw(4, source=fresh(7)), one.draw(4, source=fresh(7 + 2**32)))


@fault("b64")
def _():
    # Quantile noise: a prefix is a prefix whatever the length, and float32 has the noise of float64.
    for kind in (UNIFORM, EXPONENTIAL):
        long = Noise(kind, torch.Size([1000]), F64).draw(source=fresh())
        for n in (1, 15, 16, 17, 100):
            assert torch.equal(Noise(kind, torch.Size([n]), F64).draw(source=fresh()), long[:n])
            assert torch.equal(Noise(kind, torch.Size([n])).draw(source=fresh()), long[:n].float())
    # Normal noise is torch.randn, whose stream depends on length and dtype: a limit of torch's generators. Of one shape it is one.
    a, b = (Noise(NORMAL, torch.Size([15])).draw(source=fresh()) for _ in range(2))
    assert torch.equal(a, b)
    # The layout of the parameters does not count.
    strided = torch.zeros(200)[::2]
    d, e = (td.Normal(loc, 1.0) for loc in (strided, strided.contiguous()))
    assert torch.equal(rp.rsample(d, source=fresh()), rp.rsample(e, source=fresh()))


class Noisy(Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        fresh_each = rp.rsample(td.Gumbel(torch.zeros(1), 1.0)).item()
        keyed = rp.rsample(td.Gumbel(torch.zeros(1), 1.0), source=rp.Sobol(seed=index)).item()
        return torch.tensor([fresh_each, keyed], dtype=F64)


@fault("b65")
def _():
    # The default source follows the generator that torch seeds anew for every worker and epoch; a source made of the index is the
    # same whatever the number of workers.
    torch.manual_seed(0)
    loader = DataLoader(Noisy(), batch_size=None, num_workers=2, multiprocessing_context="fork")
    first, second = (torch.stack(list(loader)) for _ in range(2))
    alone = torch.stack(list(DataLoader(Noisy(), batch_size=None)))
    assert len(set(torch.cat([first, second])[:, 0].tolist())) == 16
    assert len(set(first[:, 1].tolist())) == 8
    assert torch.equal(first[:, 1], second[:, 1])
    assert torch.equal(first[:, 1], alone[:, 1])


def _child(queue, seed):
    queue.put((seed, rp.rsample(td.Gumbel(torch.zeros(3), 1.0), source=rp.Sobol(seed)).tolist()))


@fault("b66")
def _():
    # A forked process inherits torch's generator, and so fresh noise without a generator of its own; sources that are given a
    # seed of their own are apart, and what the seed says.
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    children = [context.Process(target=_child, args=(queue, seed)) for seed in (1, 2)]
    for child in children:
        child.start()
    drawn = dict(queue.get(timeout=60) for _ in children)
    for child in children:
        child.join()
    assert drawn[1] != drawn[2]
    assert drawn[1] == rp.rsample(td.Gumbel(torch.zeros(3), 1.0), source=rp.Sobol(1)).tolist()
    assert os.getpid() not in [child.pid for child in children]


@fault("b72")
def _():
    # Fresh normal noise is torch.randn and ends at 5.77 in float32, as its documentation says; every other source reaches on.
    assert "in float32 ends at 5.77" in " ".join(rp.Fresh.__doc__.split())
    tails = torch.tensor([2.0**-54, 1e-12, 1e-9], dtype=F64)
    eps = NORMAL.quantile(tails).float()
    assert torch.allclose(eps, torch.from_numpy(sp.ndtri(tails.numpy())).float())
    d = td.Normal(torch.tensor(1.0), torch.tensor(2.0))
    x = rp.rsample(d, (3,), source=rp.Replay(eps))
    assert torch.allclose(x, 1 + 2 * eps)
    assert x.min() < 1 - 2 * 8
    # Laws on exponential noise have whole tails from fresh noise too: the largest of 1e7 is beyond 12 but with probability e^-61.
    assert Noise(EXPONENTIAL, torch.Size([10_000_000])).draw(source=fresh()).max() > 12


@fault("b76")
def _():
    n = 2_000_000
    for dtype in (BF16, F16):
        for u in (
            rp.rsample(td.Uniform(torch.zeros((), dtype=dtype), torch.ones((), dtype=dtype)), (n,), source=fresh()),
            Noise(UNIFORM, torch.Size([n]), dtype).draw(source=fresh()),
        ):
            assert (u > 0).all()
            assert (u < 1).all()
            # A value just below one takes what rounds to one: less than half a spacing of that mass, and a spacing of distance.
            room = float(torch.finfo(dtype).eps) ** 2
            assert abs(float(u.double().mean()) - 0.5) < 6.11 * 0.2887 / math.sqrt(n) + room
