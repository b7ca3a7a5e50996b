"""Identities between the functions of torch's laws and ours: densities, distribution functions, entropies, divergences, samples."""

import itertools

import pytest
import torch
import torch.distributions as td

import reparam as rp
from cases import UNIVARIATE, holds, ids
from reparam.paths import cdf, icdf, icdf_from_log, log_cdf, log_survival
from reparam.stats import mean_test
from reparam.testing.distributions import _Integral, normalisation

F64 = torch.float64
TORCH = [
    case
    for case in UNIVARIATE
    if type(case.make()).__module__.startswith("torch.") and case.subject().one_value_each() is not None and case.density
]
# Torch's density of the first takes float32 only, its Bessel functions in that of the other are good to 2e-7.
QUADRATURE = [case for case in TORCH if case.law not in (td.GeneralizedPareto, td.VonMises)]
LINE = [case for case in TORCH if case.law is not td.VonMises]  # a circle has no lower end


def fresh(seed=0):
    return rp.Fresh(torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("case", QUADRATURE, ids=ids)
def test_densities_integrate_to_one(case):
    holds(normalisation, case)


@pytest.mark.parametrize("case", QUADRATURE, ids=ids)
def test_entropies_are_those_of_the_samples(case):
    """By quadrature over the noise: to 1e-7, without randomness."""
    d = case.make()
    try:
        entropy = d.entropy()
    except NotImplementedError:
        pytest.skip("torch has no entropy of this law")
    integral = _Integral(case.subject())
    found = integral.mean(-integral.log_density)
    assert torch.allclose(found, entropy, rtol=1e-6, atol=1e-6), (float(found), float(entropy))


@pytest.mark.parametrize("case", LINE, ids=ids)
def test_quantiles_invert_distribution_functions_to_the_far_tails(case):
    """`cdf(icdf(u)) = u` for u from 1e-30, and the same above: each between the values a few units of the last place apart."""
    d = case.make()
    room = 256 * torch.finfo(F64).eps

    def around(x):
        return x - room * x.abs() - 1e-300, x + room * x.abs() + 1e-300

    u = torch.logspace(-30, -0.4, 60, dtype=F64)
    low, high = around(icdf(d, u))
    slack = 1e-10
    assert (cdf(d, low) <= u * (1 + slack)).all()
    assert (cdf(d, high) >= u * (1 - slack)).all()
    log_u = u.log()
    low, high = around(icdf_from_log(d, log_cdf=log_u))
    assert (log_cdf(d, low) <= log_u + slack * (1 + log_u.abs())).all()
    assert (log_cdf(d, high) >= log_u - slack * (1 + log_u.abs())).all()
    low, high = around(icdf_from_log(d, log_survival=log_u))
    assert (log_survival(d, low) >= log_u - slack * (1 + log_u.abs())).all()
    assert (log_survival(d, high) <= log_u + slack * (1 + log_u.abs())).all()


@pytest.mark.parametrize("case", LINE, ids=ids)
def test_the_two_tails_add_up(case):
    d = case.make()
    x = rp.rsample(d, (200,), source=rp.Sobol(0))
    assert torch.allclose(log_cdf(d, x).exp() + log_survival(d, x).exp(), torch.ones(200, dtype=F64), atol=1e-12)
    assert torch.allclose(log_cdf(d, x).exp(), cdf(d, x), rtol=1e-12)


def at(*values):
    return [torch.tensor(v, dtype=F64) for v in values]


PAIRS = {
    "normal": (td.Normal, at(0.3, 1.2), at(-0.5, 2.0)),
    "laplace": (td.Laplace, at(0.3, 1.2), at(-0.5, 2.0)),
    "gumbel": (td.Gumbel, at(0.3, 1.2), at(-0.5, 2.0)),
    "exponential": (td.Exponential, at(1.2), at(0.4)),
    "half-normal": (td.HalfNormal, at(1.2), at(2.0)),
    "cauchy": (td.Cauchy, at(0.3, 1.2), at(-0.5, 2.0)),
    "pareto": (td.Pareto, at(2.0, 3.0), at(1.0, 1.5)),
    "gamma": (td.Gamma, at(0.3, 1.2), at(2.5, 0.7)),
    "beta": (td.Beta, at(0.7, 2.0), at(3.0, 1.5)),
    "dirichlet": (td.Dirichlet, at([0.7, 2.0, 1.0]), at([3.0, 1.5, 0.9])),
    "multivariate normal": (
        lambda m, f: td.MultivariateNormal(m, scale_tril=f),
        at([0.0, 1.0], [[1.0, 0.0], [0.5, 2.0]]),
        at([0.3, 0.0], [[2.0, 0.0], [-0.5, 1.0]]),
    ),
    "independent": (lambda m, s: td.Independent(td.Laplace(m, s), 1), at([0.0, 1.0], [1.0, 2.0]), at([0.3, 0.0], [0.7, 1.0])),
}


@pytest.mark.parametrize("name", PAIRS)
def test_divergences_are_those_of_the_samples(name):
    """`KL(p, q) = E_p[log p - log q] >= 0` and `KL(p, p) = 0`; errors of 5 % are caught."""
    law, a, b = PAIRS[name]
    p, q = law(*a), law(*b)
    x = rp.rsample(p, (100_000,), source=fresh())
    truth = td.kl_divergence(p, q)
    verdict = mean_test(p.log_prob(x) - q.log_prob(x), float(truth))
    assert verdict, verdict
    assert abs(verdict.detectable) < 0.1 * float(truth) + 0.02
    for one, other in itertools.product((p, q), repeat=2):
        assert float(td.kl_divergence(one, other)) >= -1e-12
    assert abs(float(td.kl_divergence(p, p))) < 1e-12


SHAPES = (1e-4, 1e-2, 0.5, 1.0, 30.0, 1e3, 1e5)
LAWS = {
    "gamma": (td.Gamma, (SHAPES, (1.0, 1e-3))),
    "inverse gamma": (td.InverseGamma, (SHAPES, (1.0,))),
    "chi-squared": (td.Chi2, (SHAPES,)),
    "beta": (td.Beta, (SHAPES, SHAPES)),
    "student": (td.StudentT, ((1e-2, 0.5, 1.0, 30.0, 1e5),)),
    "fisher": (td.FisherSnedecor, ((0.5, 3.0, 1e3), (0.5, 3.0, 1e3))),
    "von mises": (td.VonMises, ((0.5, -3.0), (1e-6, 0.1, 10.0, 1e4))),
    "weibull": (td.Weibull, ((1.0,), (0.05, 0.5, 1.0, 1e3))),
    "kumaraswamy": (td.Kumaraswamy, (SHAPES[1:-1], SHAPES[1:-1])),
    "pareto": (td.Pareto, ((1.3,), SHAPES[1:])),
    "gumbel": (td.Gumbel, ((-1e3, 0.0), (1e-3, 1e3))),
    "laplace": (td.Laplace, ((-1e3, 0.0), (1e-3, 1e3))),
    "cauchy": (td.Cauchy, ((-1e3, 0.0), (1e-3, 1e3))),
    "half-cauchy": (td.HalfCauchy, ((1e-3, 1e3),)),
    "uniform": (td.Uniform, ((-1.0, 0.0, 1.0), (2.0, 64.0))),
    "normal": (td.Normal, ((-1e3, 0.0), (1e-3, 1e3))),
    "log-normal": (td.LogNormal, ((-3.0, 0.0), (1e-2, 3.0))),
}
# Where samples are held inside the floats, or are so far out that torch's formula of the density leaves them on the way.
OVERFLOWS = {
    ("inverse gamma", "float64", (1e-4, 1.0)),
    ("inverse gamma", "float64", (1e-2, 1.0)),
    ("student", "float64", (1e-2,)),
    ("kumaraswamy", "float16", (1e-2, 1e3)),
}
DTYPES = {"float32": torch.float32, "float64": F64, "bfloat16": torch.bfloat16, "float16": torch.float16}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LAWS)
def test_own_samples_have_a_density_in_every_cell(name, dtype):
    """Finite samples inside the support with a finite density; the density in float64, where torch's formula is at its best."""
    law, axes = LAWS[name]
    kind = DTYPES[dtype]
    bad = []
    for values in itertools.product(*axes):
        parameters = [torch.tensor(v, dtype=kind) for v in values]
        if not all(p.isfinite() and (p != 0 or v == 0) for p, v in zip(parameters, values, strict=True)):
            continue  # half precision does not hold the parameters
        d = law(*parameters)
        x = rp.rsample(d, (500,), source=fresh())
        exact = law(*[p.double() for p in parameters], validate_args=False)
        dense = (name, dtype, values) in OVERFLOWS or exact.log_prob(x.double()).isfinite().all()
        if not (x.isfinite().all() and d.support.check(x).all() and dense):
            bad.append(values)
    assert not bad, bad
