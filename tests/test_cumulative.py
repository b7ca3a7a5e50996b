"""Distribution functions and quantiles: both tails, every side of the support, derivatives that torch lacks, refusals."""

import math

import mpmath
import pytest
import torch
import torch.distributions as td

import reparam as rp
from cases import explicit, ids
from reparam.distributions import GaussianCopula, Truncated
from reparam.paths import cdf, icdf, icdf_from_log, log_cdf, log_survival

D = torch.float64
EXACT = explicit.UNIVARIATE


def t(*values, dtype=D, grad=False):
    return torch.tensor(values if len(values) > 1 else values[0], dtype=dtype, requires_grad=grad)


@pytest.mark.parametrize("case", EXACT, ids=ids)
def test_probabilities_and_quantiles_are_exact_in_both_tails(case):
    d, exact = case.make(), case.exact(*case.parameters)
    p = torch.tensor([1e-12, 1e-6, 1e-3, 0.1, 0.4], dtype=D)
    low, high = icdf(d, p), icdf_from_log(d, log_survival=p.log())
    assert torch.allclose(low, torch.from_numpy(exact.ppf(p.numpy())), rtol=1e-7, atol=0)
    assert torch.allclose(high, torch.from_numpy(exact.isf(p.numpy())), rtol=1e-7, atol=0)
    assert torch.allclose(icdf_from_log(d, log_cdf=p.log()), low, rtol=1e-9, atol=0)
    few = 32 * torch.finfo(D).eps  # the path of Kumaraswamy keeps that far from 1
    for f, x in ((cdf, low), (lambda d, x: log_survival(d, x).exp(), high)):
        # Near an end that is not zero, a sample forgets digits of its rank: what its own rounding moves is allowed.
        rounding = (f(d, x * (1 + few)) - f(d, x * (1 - few))).abs()
        assert ((f(d, x) - p).abs() <= 1e-9 * p + rounding).all()
    x = icdf(d, t(0.2, 0.5, 0.9))
    assert torch.allclose(log_cdf(d, x).exp() + log_survival(d, x).exp(), t(1.0, 1.0, 1.0))


@pytest.mark.parametrize("dtype", [torch.float32, D], ids=["single", "double"])
@pytest.mark.parametrize("case", EXACT, ids=ids)
def test_outside_of_the_support_and_at_the_ends(case, dtype):
    d = case.law(*case.tensors(dtype))
    low, high = icdf(d, torch.tensor([0.0, 1.0], dtype=dtype))
    assert low < high
    for x, p in ((-math.inf, 0.0), (low, 0.0), (low - 1, 0.0), (high, 1.0), (high + 1, 1.0), (math.inf, 1.0)):
        x = torch.as_tensor(x, dtype=dtype).requires_grad_()
        for f, limit in (
            (cdf, p),
            (log_cdf, math.log(p) if p else -math.inf),
            (log_survival, math.log(1 - p) if p < 1 else -math.inf),
        ):
            value = f(d, x)
            assert value == limit, (f.__name__, x)
            assert torch.autograd.grad(value, x)[0] == 0
    assert cdf(d, torch.tensor(math.nan, dtype=dtype)).isnan()
    assert icdf(d, torch.tensor([-0.1, 1.1, math.nan], dtype=dtype)).isnan().all()


# Not where a step of the differences leaves the support.
SMOOTH = [c for c in EXACT if c.name != "kumaraswamy, both ends"]


@pytest.mark.parametrize("case", SMOOTH, ids=ids)
def test_derivatives_in_the_value_and_the_parameters(case):
    x = icdf(case.make(), t(1e-3, 0.3, 0.9)).requires_grad_()
    for f in (cdf, log_cdf, log_survival):
        assert torch.autograd.gradcheck(lambda x, *p, f=f: f(case.law(*p), x), (x, *case.tensors(requires_grad=True)), atol=1e-6)


LAWS = {
    "gamma": (lambda a, b: td.Gamma(a, b), (1.5, 2.0), 0.7),
    "beta": (lambda a, b: td.Beta(a, b), (1.5, 2.5), 0.3),
    "student": (lambda v, m: td.StudentT(v, m), (3.0, 0.2), 0.7),
    "normal": (lambda m, s: td.Normal(m, s), (0.3, 2.0), 1.1),
    "gumbel": (lambda m, s: td.Gumbel(m, s), (0.3, 2.0), 1.1),
}


@pytest.mark.parametrize("name", LAWS)
def test_second_derivatives(name):
    law, parameters, x = LAWS[name]
    leaves = [t(p, grad=True) for p in (*parameters, x)]
    assert torch.autograd.gradgradcheck(lambda a, b, x: cdf(law(a, b), x), leaves)
    assert torch.autograd.gradgradcheck(lambda a, b, p: icdf(law(a, b), p), [*leaves[:2], t(0.3, grad=True)])


def test_the_derivative_of_gamma_in_its_shape():
    a = t(1.5, grad=True)
    (slope,) = torch.autograd.grad(cdf(td.Gamma(a, 1.0), t(1.0)), a)
    exact = mpmath.diff(lambda a: mpmath.gammainc(a, 0, 1, regularized=True), 1.5)
    assert slope.item() == pytest.approx(float(exact), rel=1e-10)


@pytest.mark.parametrize(
    ("found", "truth"),
    [
        (lambda: cdf(td.Normal(0.0, 1.0), -6.0), 9.865876450377e-10),
        (lambda: cdf(td.Normal(t(0.0), 1.0), t(-9.0)), 1.128588405953841e-19),
        (lambda: icdf(td.Normal(0.0, 1.0), 1e-10), -6.361340902404056),
        (lambda: icdf(td.Cauchy(0.0, 1.0), 1e-10), -3183098861.8),
        (lambda: cdf(td.Cauchy(0.0, 1.0), -1e8), 3.183098861837907e-9),
        (lambda: icdf(td.Laplace(0.0, 1.0), 1e-10), math.log(2e-10)),
        (lambda: cdf(td.Laplace(0.0, 1.0), -30.0), math.exp(-30) / 2),
        (lambda: cdf(td.Exponential(1.0), 1e-10), 1e-10),
        (lambda: cdf(td.Weibull(1.0, 2.0), 1e-5), 1e-10),
        (lambda: cdf(td.HalfNormal(1.0), 1e-8), 7.978845608e-9),
        (lambda: cdf(td.HalfCauchy(1.0), 1e-9), 6.366197723e-10),
        (lambda: icdf(td.Gumbel(0.0, 1.0), 1e-30), -math.log(30 * math.log(10))),
        (lambda: icdf(td.Gumbel(t(0.0), 1.0), t(1e-30)), -math.log(30 * math.log(10))),
        (lambda: cdf(td.HalfNormal(1.0, validate_args=False), -1.0), 0.0),
    ],
)
def test_tails_that_torch_loses(found, truth):
    assert found().item() == pytest.approx(truth, rel=4e-6, abs=0)  # 36 roundings of z in Normal.cdf(-6)


def test_through_transforms_that_rise_and_fall():
    d = td.TransformedDistribution(td.Exponential(t(2.0)), [td.AffineTransform(1.0, -2.0), td.ExpTransform()])
    x = t(-1.0, 0.0, 1e-20, 1.0, math.e, 5.0, math.inf)
    truth = [0.0, 0.0, 1e-20 / math.e, 1 / math.e, 1.0, 1.0, 1.0]  # x / e below e
    assert torch.allclose(cdf(d, x), t(*truth), rtol=1e-12, atol=0)
    assert torch.allclose(icdf(d, t(0.0, 0.3, 1.0)), t(0.0, 0.3 * math.e, math.e))
    scale = t(2.0, -2.0)
    signs = td.TransformedDistribution(td.Exponential(t(1.0, 1.0)), [td.AffineTransform(0.0, scale)])
    assert torch.allclose(cdf(signs, t(3.0, -3.0)), t(-math.expm1(-1.5), math.exp(-1.5)))


def test_where_all_samples_round_to_one_value():
    d = td.Gumbel(torch.tensor(1e8), 1e-3)
    assert cdf(d, torch.tensor([1e8 - 10, 1e8 + 100])).tolist() == [0.0, 1.0]


def test_half_precision_and_batches():
    d = td.Normal(torch.zeros(3, 1, dtype=torch.bfloat16), torch.ones(2, dtype=torch.bfloat16))
    p = cdf(d, torch.full((4, 1, 1), 0.5, dtype=torch.bfloat16))
    assert p.dtype == torch.bfloat16
    assert p.shape == (4, 3, 2)
    assert cdf(td.Normal(torch.zeros(0), 1.0), 1.0).shape == (0,)
    assert cdf(td.Normal(0.0, 1.0), t(0.3)).dtype == D  # as wide as the value


def test_under_transforms():
    x = t(0.2, 0.9)
    slope = torch.func.vmap(torch.func.grad(lambda m, x: cdf(td.Normal(m, 1.0, validate_args=False), x)), (None, 0))(t(0.1), x)
    assert torch.allclose(slope, -td.Normal(t(0.1), 1.0).log_prob(x).exp())
    assert torch.allclose(torch.func.jacfwd(lambda p: icdf(td.Gumbel(t(0.0), 1.0), p))(t(0.3)), -1 / (t(0.3) * t(0.3).log()))


@pytest.mark.parametrize(
    "d",
    [
        td.Independent(td.Normal(torch.zeros(2), 1.0), 1),
        td.MultivariateNormal(torch.zeros(2), torch.eye(2)),
        td.TransformedDistribution(td.Normal(0.0, 1.0), td.AbsTransform()),
        td.Dirichlet(torch.ones(3)),
    ],
    ids=lambda d: type(d).__name__,
)
def test_what_has_no_distribution_function_is_refused(d):
    with pytest.raises(rp.NoPathError, match="has no distribution function here"):
        cdf(d, 0.5)


def test_a_circle_has_no_distribution_function():
    circle = td.VonMises(t(0.0, 2.0), t(1.0, 2.0))
    mixture = td.MixtureSameFamily(td.Categorical(probs=t(0.4, 0.6)), circle)
    vectors = td.MixtureSameFamily(td.Categorical(probs=t(0.4)[None]), td.Independent(td.VonMises(torch.zeros(1, 2), 1.0), 1))
    moved = td.TransformedDistribution(circle, td.AffineTransform(1.0, 2.0))
    for refused in (
        lambda: cdf(circle, 0.5),
        lambda: icdf(moved, 0.5),
        lambda: rp.path(mixture),
        lambda: rp.path(vectors),
        lambda: rp.rsample(mixture),
        lambda: rp.rsample(Truncated(circle, -2.0, 0.0)),
        lambda: rp.rsample(GaussianCopula([circle, circle], torch.eye(2, dtype=D))),
    ):
        with pytest.raises(rp.NoPathError, match=r"lie on a circle.* use the score function"):
            refused()


def test_bad_calls():
    class Shy(td.Transform):
        bijective = True
        domain = codomain = td.constraints.real

        def _call(self, x):
            return x + 1

        def _inverse(self, y):
            return y - 1

    with pytest.raises(rp.NoPathError, match="Shy does not say that it is monotone"):
        cdf(td.TransformedDistribution(td.Normal(0.0, 1.0), Shy()), 0.5)
    for given in ({}, {"log_cdf": -1.0, "log_survival": -1.0}):
        with pytest.raises(TypeError, match="takes one of log_cdf"):
            icdf_from_log(td.Normal(0.0, 1.0), **given)
    with pytest.raises(rp.NoPathError, match="Poisson is discrete"):
        cdf(td.Poisson(1.0), 0.5)
