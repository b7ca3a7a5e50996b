"""Paths of Beta, Dirichlet, F, Student's t and LKJ: right in expectation to second order, where torch's own are not."""

import math

import pytest
import scipy.stats as st
import torch
import torch.distributions as td

import reparam as rp
from cases.beta import FACTOR, LogitBetaLaw, _correlation_scores
from reparam.distributions.beta_prime import BetaPrime
from reparam.distributions.lkj import LKJ, correlation
from reparam.distributions.log_dirichlet import LogDirichlet
from reparam.distributions.logit_beta import LogitBeta
from reparam.distributions.multivariate_student_t import MultivariateStudentT
from reparam.paths.beta import ratio_of_gammas
from reparam.paths.student import normal_over_chi
from reparam.special.beta import logit_beta_slopes
from reparam.stats import law_tests, mean_test


def fresh(seed=0):
    return rp.Fresh(torch.Generator().manual_seed(seed))


def leaf(*values):
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def jets(cost, parameters):
    """The gradient and the Hessian of a scalar."""
    (first,) = torch.autograd.grad(cost, parameters, create_graph=True)
    return first.detach(), torch.stack([torch.autograd.grad(g, parameters, retain_graph=True)[0] for g in first])


# In expectation


def test_the_hessian_of_beta():
    """Of `E[x^2] = a (a + 1) / (n (n + 1))`; through torch's own sampler it comes back as zeros."""
    p = leaf(2.0, 3.0)
    n = p.sum()
    gradient, hessian = jets(p[0] * (p[0] + 1) / (n * (n + 1)), p)
    assert torch.allclose(hessian, torch.tensor([[-0.0151, -0.0207], [-0.0207, 0.0404]], dtype=torch.float64), atol=5e-5)
    x = rp.rsample(td.Beta(p[0], p[1]), (4096,), source=rp.Sobol(0))
    found, bend = jets((x**2).mean(), p)
    assert torch.allclose(found, gradient, atol=1e-6)
    assert torch.allclose(bend, hessian, atol=1e-5)


@pytest.mark.parametrize("path", [rp.path, ratio_of_gammas], ids=["default", "ratio of gammas"])
def test_the_hessian_of_dirichlet(path):
    """Of `E[x_0^2 + x_0 x_1]`. The default gradient is no derivative of `push`, and right to second order all the same."""
    alpha = leaf(1.5, 0.8, 2.0)
    total = alpha.sum()
    gradient, hessian = jets(alpha[0] * (alpha[0] + 1 + alpha[1]) / (total * (total + 1)), alpha)
    x = path(td.Dirichlet(alpha)).draw((8192,), source=rp.Sobol(1))
    found, bend = jets((x[..., 0] ** 2 + x[..., 0] * x[..., 1]).mean(), alpha)
    assert torch.allclose(found, gradient, atol=2e-3 * gradient.abs().max())
    assert torch.allclose(bend, hessian, atol=5e-3 * hessian.abs().max())


def test_gradients_in_expectation_of_fresh_samples():
    """z-tests at 1e-9 of `d/d alpha E[log x_0]`, of small shapes too: torch's are half off there."""
    for values in ((1e-3, 2e-3, 5e-3), (0.5, 1.0, 3.0), (2.0, 50.0, 1e3)):
        alpha = torch.tensor(values, dtype=torch.float64)
        each = alpha.expand(20_000, 3).clone().requires_grad_()
        log_x = rp.rsample(LogDirichlet(each), source=fresh())
        (slopes,) = torch.autograd.grad(log_x[..., 0].sum(), each)
        total = float(alpha.sum())
        for k in range(3):
            truth = (torch.special.polygamma(1, alpha[0]) if k == 0 else 0.0) - torch.special.polygamma(
                1, torch.tensor(total).double()
            )
            assert mean_test(slopes[:, k], float(truth))


def test_the_gradient_of_dirichlet_is_torchs_law():
    """`dx_i = s_i d alpha_i - x_i sum_j s_j d alpha_j`, to the accuracy of torch's own formula."""
    alpha = leaf(2.0, 0.8, 3.0)
    p = rp.path(td.Dirichlet(alpha))
    x = p.push(p.noise.draw((50,), source=fresh()))
    weights = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)
    (found,) = torch.autograd.grad((x * weights).sum(), alpha)
    at = x.detach()
    s = torch._dirichlet_grad(at, alpha.detach().expand_as(at), alpha.detach().sum().expand_as(at))
    expected = (s * (weights - (at * weights).sum(-1, keepdim=True))).sum(0)
    assert torch.allclose(found, expected, rtol=1e-3)


def per_sample(make, path, f, *values, n=20_000):
    """The gradient of `f` at each of `n` samples, in the first parameter."""
    leaves = [torch.full((n,), v, dtype=torch.float64, requires_grad=True) for v in values]
    x = path(make(*leaves)).draw((), source=fresh())
    return torch.autograd.grad(f(x).sum(), leaves[0])[0]


def test_the_default_of_beta_has_the_lower_variance():
    """0.42 of that through two gammas, for the mean of Beta(2, 3): `d/da a / (a + b) = b / (a + b)^2` by both."""
    one, two = (per_sample(td.Beta, path, lambda x: x, 2.0, 3.0) for path in (rp.path, ratio_of_gammas))
    for found in (one, two):
        assert mean_test(found, 3 / 25)
    assert 0.38 < float(one.var() / two.var()) < 0.47


def test_the_default_of_student_has_the_lower_variance():
    """0.52 of that of a normal over the root of a chi-square, for `df = 10` and the mean of the cosine; not so for `df = 3`."""
    one, two = (per_sample(td.StudentT, path, torch.cos, 10.0) for path in (rp.path, normal_over_chi))
    difference = one.mean() - two.mean()
    assert abs(difference) < 6.1 * ((one.var() + two.var()) / len(one)) ** 0.5
    assert 0.45 < float(one.var() / two.var()) < 0.6


def test_the_default_of_dirichlet_has_the_lower_variance():
    def slopes(path):
        each = torch.tensor([2.0, 1.0, 3.0], dtype=torch.float64).expand(20_000, 3).clone().requires_grad_()
        x = path(td.Dirichlet(each)).draw((), source=fresh())
        return torch.autograd.grad((x[..., 0] ** 2).sum(), each)[0]

    one, two = slopes(rp.path), slopes(ratio_of_gammas)
    assert (one.mean(0) - two.mean(0)).abs().max() < 6.1 * float(((one.var(0) + two.var(0)) / len(one)).max()) ** 0.5
    assert float(one.var(0).sum() / two.var(0).sum()) < 0.93  # 0.87


def test_alternatives_follow_the_law_and_refuse_others():
    x = ratio_of_gammas(td.Beta(torch.tensor(0.5).double(), 2.0)).draw((20_000,), source=rp.Antithetic(fresh()))
    assert (x > 0).all()
    assert all(law_tests(torch.from_numpy(st.beta(0.5, 2.0).cdf(x[:10_000].numpy()))))
    t = normal_over_chi(td.StudentT(torch.tensor(3.0).double(), 1.0, 2.0)).draw((20_000,), source=fresh())
    assert all(law_tests(torch.from_numpy(st.t(3.0, 1.0, 2.0).cdf(t.numpy()))))
    for f in (ratio_of_gammas, normal_over_chi):
        with pytest.raises(rp.NoPathError, match="Normal is no"):
            f(td.Normal(0.0, 1.0))


# What torch gets wrong


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_small_shapes_have_no_atoms_in_the_middle(dtype):
    """Of Beta(1e-3, 1e-3) 0.46 % lie between .01 and .99; of torch's own samples a quarter is one half exactly."""
    a = torch.tensor(1e-3, dtype=dtype)
    x = rp.rsample(td.Beta(a, a), (50_000,), source=fresh())
    middle = float(LogitBetaLaw(1e-3, 1e-3).cdf(math.log(99)) - LogitBetaLaw(1e-3, 1e-3).cdf(-math.log(99)))
    assert mean_test(((x > 0.01) & (x < 0.99)).double(), middle)
    assert (x == 0.5).sum() <= 1
    largest = rp.rsample(td.Dirichlet(torch.full((4,), 1e-4, dtype=dtype)), (20_000,), source=fresh()).max(-1).values
    assert largest.mean() > 0.9995  # the mean of the largest is .9998, and .433 by torch's own sampler


def test_the_sign_of_the_gradient_of_a_narrow_beta():
    """Beta(5, 1e5): `dx/da` is positive always; 22 % of torch's are negative. And none is infinite."""
    for dtype in (torch.float32, torch.float64):
        a = torch.full((16_384,), 5.0, dtype=dtype, requires_grad=True)
        x = rp.rsample(td.Beta(a, torch.tensor(1e5, dtype=dtype)), source=fresh())
        (slope,) = torch.autograd.grad(x.sum(), a)
        assert (slope > 0).all()
        assert slope.isfinite().all()
    x = torch.tensor(0.00011603720211313873, dtype=torch.float64)
    by_a, _ = logit_beta_slopes(torch.tensor(5.0).double(), torch.tensor(1e5).double(), torch.logit(x))
    assert float(by_a * x * (1 - x)) == pytest.approx(1.5285043414622368e-05, rel=1e-12)


@pytest.mark.parametrize("shapes", [(1e-3, 1e-3), (1e-2, 1e4), (1e5, 1e-3), (1e5, 1e5)])
def test_gradients_are_finite(shapes):
    a, b = (torch.full((16_384,), v, requires_grad=True) for v in shapes)
    x = rp.rsample(td.Beta(a, b), source=fresh())
    assert all(s.isfinite().all() for s in torch.autograd.grad(x.sum(), (a, b)))


# Correlation matrices


@pytest.mark.parametrize("concentration", [0.3, 1.0, 4.0])
def test_correlations_of_the_factor(concentration):
    c = torch.tensor(concentration, dtype=torch.float64)
    factor = rp.rsample(td.LKJCholesky(4, c), (30_000,), source=fresh())
    for verdict in law_tests(_correlation_scores(factor @ factor.mT, 4, c)):
        assert verdict


@pytest.mark.parametrize("concentration", [1e-4, 0.5, 1e3])
@pytest.mark.parametrize("dim", [2, 3, 30])
def test_factors_pass_their_own_support_check(dim, concentration):
    for dtype in (torch.float32, torch.float64):
        d = td.LKJCholesky(dim, torch.tensor(concentration, dtype=dtype))
        x = rp.rsample(d, (1000,), source=fresh())
        assert d.support.check(x).all()
        assert d.log_prob(x).isfinite().all()
        assert correlation.check(rp.rsample(LKJ(dim, torch.tensor(concentration, dtype=dtype)), (100,), source=fresh())).all()


def test_the_gradient_in_the_concentration():
    """`E[r^2] = 1 / (2 c + d - 1)` of every correlation."""
    c = leaf(1.3)
    r = rp.rsample(LKJ(3, c[0]), (4096,), source=rp.Sobol(2))
    truth, bend = jets(1 / (2 * c[0] + 2), c)
    for i, j in ((1, 0), (2, 0), (2, 1)):
        found, second = jets((r[:, i, j] ** 2).mean(), c)
        assert torch.allclose(found, truth, rtol=2e-2)
        assert torch.allclose(second, bend, rtol=5e-2)


@pytest.mark.parametrize("dim", [2, 3, 5])
def test_the_density_of_matrices(dim):
    """That of torch's factor over the Jacobian of `L L'`, `prod L_ii^(d - i)`."""
    c = torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64)
    factor = rp.rsample(td.LKJCholesky(dim, c), (5,), source=fresh())
    powers = torch.arange(dim - 1, -1, -1, dtype=torch.float64)
    jacobian = (powers * factor.diagonal(dim1=-2, dim2=-1).log()).sum(-1)
    assert torch.allclose(LKJ(dim, c).log_prob(factor @ factor.mT), td.LKJCholesky(dim, c).log_prob(factor) - jacobian, atol=1e-6)


def test_moments_of_matrices():
    d = LKJ(3, torch.tensor(1.7, dtype=torch.float64))
    x = rp.rsample(d, (20_000,), source=fresh())
    assert mean_test(x[:, 2, 1] ** 2, float(d.variance[2, 1]))
    assert mean_test(-d.log_prob(x), float(d.entropy()))
    assert torch.equal(d.mean, torch.eye(3, dtype=torch.float64))
    assert d.expand((2,)).rsample((5,)).shape == (5, 2, 3, 3)
    singular = LKJ(2, torch.tensor(1.7), validate_args=False).log_prob(torch.ones(2, 2))
    assert singular == -torch.inf
    with pytest.raises(ValueError, match="at least two rows"):
        LKJ(1)


# Distributions that torch lacks


def test_beta_prime_and_logit_beta():
    d = BetaPrime(torch.tensor(2.5, dtype=torch.float64), 4.0)
    exact = st.betaprime(2.5, 4.0)
    x = torch.tensor([0.01, 0.5, 3.0], dtype=torch.float64)
    assert torch.allclose(d.log_prob(x), torch.from_numpy(exact.logpdf(x.numpy())))
    assert float(d.mean) == pytest.approx(exact.mean())
    assert float(d.variance) == pytest.approx(exact.var())
    assert float(d.entropy()) == pytest.approx(float(exact.entropy()), rel=1e-6)
    y = LogitBeta(torch.tensor(2.5, dtype=torch.float64), 4.0)
    samples = y.rsample((20_000,))
    assert mean_test(-y.log_prob(samples), float(y.entropy()))
    assert mean_test(samples, float(y.mean))
    assert mean_test((samples - y.mean) ** 2, float(y.variance))
    assert torch.allclose(y.log_prob(x.log()) - x.log(), d.log_prob(x))
    beta = td.kl_divergence(td.Beta(2.5, 4.0), td.Beta(1.0, 2.0))
    for law in (LogitBeta, BetaPrime):
        assert torch.allclose(td.kl_divergence(law(2.5, 4.0), law(1.0, 2.0)), beta)
    assert BetaPrime(2.0, torch.tensor([0.5, 1.5, 3.0])).mean.tolist() == [math.inf, 4.0, 1.0]
    assert BetaPrime(2.0, torch.tensor([1.5, 3.0])).variance.tolist() == [math.inf, 2.0]


def test_log_dirichlet():
    alpha = torch.tensor([[2.0, 0.8, 3.0], [0.1, 0.2, 0.3]], dtype=torch.float64)
    d = LogDirichlet(alpha)
    y = d.rsample((20_000,))
    torch_law = td.TransformedDistribution(d, td.ExpTransform())
    x = y[:10, 0].exp()
    assert torch.allclose(torch_law.log_prob(x[:, None])[:, 0], td.Dirichlet(alpha[0]).log_prob(x))
    for row in range(2):
        assert mean_test(-d.log_prob(y)[:, row], float(d.entropy()[row]))
        for k in range(3):
            assert mean_test(y[:, row, k], float(d.mean[row, k]))
            assert mean_test((y[:, row, k] - d.mean[row, k]) ** 2, float(d.variance[row, k]))
    other = alpha.flip(-1)
    assert torch.allclose(td.kl_divergence(d, LogDirichlet(other)), td.kl_divergence(td.Dirichlet(alpha), td.Dirichlet(other)))
    assert LogDirichlet(torch.ones(1)).rsample((3,)).tolist() == [[0.0]] * 3
    with pytest.raises(ValueError, match="at least one dimension"):
        LogDirichlet(torch.tensor(1.0))


def test_a_long_dirichlet():
    alpha = torch.linspace(1e-3, 2.0, 1000, requires_grad=True)
    x = rp.rsample(td.Dirichlet(alpha), (20,), source=fresh())
    assert (x > 0).all()
    assert torch.allclose(x.sum(-1), torch.ones(20), atol=1e-5)
    (slope,) = torch.autograd.grad((x**2).sum(), alpha)
    assert slope.isfinite().all()
    one = torch.tensor([0.5], requires_grad=True)
    assert torch.autograd.grad(rp.rsample(td.Dirichlet(one), (3,)).sum(), one)[0].tolist() == [0.0]


def test_multivariate_student():
    df, loc, factor = (torch.tensor(v, dtype=torch.float64) for v in (4.5, [0.3, -1.0, 2.0], FACTOR))
    d = MultivariateStudentT(df, loc, factor)
    x = rp.rsample(d, (20_000,), source=fresh())
    exact = st.multivariate_t(loc.numpy(), (factor @ factor.mT).numpy(), 4.5)
    assert torch.allclose(d.log_prob(x[:50]), torch.from_numpy(exact.logpdf(x[:50].numpy())))
    assert torch.allclose(MultivariateStudentT(df, loc, scale_matrix=factor @ factor.mT).log_prob(x[:5]), d.log_prob(x[:5]))
    assert float(d.entropy()) == pytest.approx(float(exact.entropy()))
    assert torch.allclose(d.covariance_matrix, 4.5 / 2.5 * factor @ factor.mT)
    assert torch.allclose(d.variance, d.covariance_matrix.diagonal())
    normal = MultivariateStudentT(torch.tensor(1e12, dtype=torch.float64), loc, factor)
    assert torch.allclose(normal.log_prob(x[:5]), td.MultivariateNormal(loc, scale_tril=factor).log_prob(x[:5]))
    assert d.expand((2,)).rsample((5,)).shape == (5, 2, 3)
    with pytest.raises(ValueError, match="exactly one of them"):
        MultivariateStudentT(df, loc)


def test_the_gradient_of_the_multivariate_student_in_its_degrees_of_freedom():
    """That of the univariate law, for a projection: `E[cos t]` by both routes."""
    df = torch.full((20_000,), 6.0, dtype=torch.float64, requires_grad=True)
    x = rp.rsample(MultivariateStudentT(df, torch.zeros(2).double(), torch.eye(2).double()), source=fresh())
    (found,) = torch.autograd.grad(x[:, 1].cos().sum(), df)
    one = torch.tensor(6.0, dtype=torch.float64, requires_grad=True)
    (truth,) = torch.autograd.grad(rp.rsample(td.StudentT(one), (4096,), source=rp.Sobol(0)).cos().mean(), one)
    assert mean_test(found, float(truth))


def test_lkj_samples_that_round_to_singular_matrices_have_a_density():
    x, log_prob = rp.sample_and_log_prob(LKJ(4, torch.tensor(1e-3)), (500,), source=fresh())
    assert x.isfinite().all()
    assert log_prob.isfinite().all()
    d = LKJ(4, torch.tensor(2.0, dtype=torch.float64))
    x, log_prob = rp.sample_and_log_prob(d, (50,), source=fresh())
    torch.testing.assert_close(log_prob, d.log_prob(x))


def test_the_density_of_a_heavy_multivariate_t_does_not_overflow():
    df = torch.tensor(1.0, requires_grad=True)
    log_prob = MultivariateStudentT(df, torch.zeros(3), torch.eye(3)).log_prob(torch.tensor([1e20, 0.0, 0.0]))
    torch.testing.assert_close(log_prob.detach(), torch.tensor(-2 * math.log(math.pi) - 80 * math.log(10)))
    assert torch.autograd.grad(log_prob, df)[0].isfinite()


def test_a_scale_matrix_that_is_not_definite_is_named():
    with pytest.raises(ValueError, match=r"scale_matrix .* smallest eigenvalue is -1"):
        MultivariateStudentT(3.0, torch.zeros(2), scale_matrix=-torch.eye(2))
