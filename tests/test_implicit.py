"""Paths from distribution functions, and the optimal-transport path: values, derivatives to third order, sources, refusals."""

import math

import pytest
import torch
import torch.distributions as td

import reparam as rp
from reparam.paths import implicit, optimal_transport, ratio_of_gammas
from reparam.stats import law_tests, mean_test

D = torch.float64


def t(*values, dtype=D, grad=True):
    return torch.tensor(values if len(values) > 1 else values[0], dtype=dtype, requires_grad=grad)


def fresh(seed=0):
    return rp.Fresh(torch.Generator().manual_seed(seed))


def normal_cdf(x, m, s):
    return torch.erfc((m - x) / s / math.sqrt(2)) / 2  # torch.special.ndtr ends at -8


def weibull_cdf(x, scale, k):
    return -torch.expm1(-((x / scale) ** k))


def mixture_cdf(x, logits):
    """Two normals: the parameter has one dimension more than the law."""
    return (torch.softmax(logits, -1) * torch.special.ndtr(x.unsqueeze(-1) - torch.tensor([-1.0, 2.0], dtype=x.dtype))).sum(-1)


BIVARIATE = [
    lambda x, before, r: torch.special.ndtr(x),
    lambda x, before, r: torch.special.ndtr((x - r * before[0]) / (1 - r * r).sqrt()),
]

LAWS = {
    "normal": (lambda m, s: implicit(normal_cdf, m, s), ((0.3, -1.0), (0.5, 2.0))),
    "weibull": (lambda s, k: implicit(weibull_cdf, s, k, support=td.constraints.positive), ((1.5, 0.2), (0.7, 3.0))),
    "power": (lambda k: implicit(lambda x, k: x**k, k, support=td.constraints.unit_interval), ((0.3, 4.0),)),
    "with density": (
        lambda m, s: implicit(normal_cdf, m, s, log_prob=lambda x, m, s: td.Normal(m, s, validate_args=False).log_prob(x)),
        ((0.3, -1.0), (0.5, 2.0)),
    ),
    "of a distribution": (lambda m, s: implicit(td.Laplace(m, s)), ((0.3, -1.0), (0.5, 2.0))),
    "weights": (lambda w: implicit(mixture_cdf, w, shape=()), ((0.2, 0.8),)),
    "two dimensions": (lambda r: implicit(BIVARIATE, r), (0.6,)),
}


@pytest.mark.parametrize("name", LAWS)
def test_derivatives(name):
    make, values = LAWS[name]
    leaves = [torch.tensor(v, dtype=D, requires_grad=True) for v in values]
    u = make(*leaves).noise.draw((3,), source=rp.Sobol(1)).requires_grad_()

    def push(u, *leaves):
        return make(*leaves).push(u)

    assert torch.autograd.gradcheck(push, (u, *leaves), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(push, (u, *leaves))
    assert torch.allclose(make(*leaves).pull(push(u, *leaves)), u, rtol=1e-9)


def test_values_reach_both_ends_of_the_floats():
    p = implicit(weibull_cdf, t(1.0), t(0.02), support=td.constraints.positive)
    u = torch.tensor([1e-5, 1e-2, 0.5, 1 - 1e-6], dtype=D)
    assert torch.allclose(p.push(u), torch.exp(50 * torch.log(-torch.log1p(-u))), rtol=1e-6)
    far = implicit(normal_cdf, t(1e8, dtype=torch.float32), t(1e-3, dtype=torch.float32))
    assert far.push(torch.tensor(0.3)) == 1e8
    u = torch.tensor([1e-300, 1e-30], dtype=D)
    assert torch.allclose(implicit(normal_cdf, t(0.0), t(1.0)).push(u), torch.special.ndtri(u), rtol=1e-12)


def test_the_third_derivative():
    a = t(0.4)
    x = y = implicit(lambda x, a: -torch.expm1(-((x / a.exp()) ** 2)), a, support=td.constraints.positive).push(t(0.3, grad=False))
    for _ in range(3):
        (y,) = torch.autograd.grad(y, a, create_graph=True)
        assert torch.isclose(y, x)  # x is proportional to exp(a)


def test_a_third_derivative_in_weights():
    u, w = t(0.4, grad=False), t(0.2, 0.8)

    def bend(w):
        (first,) = torch.autograd.grad(implicit(mixture_cdf, w, shape=()).push(u), w, create_graph=True)
        return torch.autograd.grad(first[0], w, create_graph=True)[0]

    assert torch.autograd.gradcheck(bend, (w,))


def test_sources_and_fresh_samples():
    m, s = t(0.3), t(2.0)
    p = implicit(normal_cdf, m, s)
    assert p.sample is None
    for source in (None, fresh(), rp.Sobol(0), rp.Antithetic(fresh())):
        assert p.draw((5,), source=source).shape == (5,)
    # A distribution brings its own sampler; the gradient at its samples is that of the path there.
    q = implicit(td.Gumbel(m, s))
    x = q.draw((100_000,))
    for verdict in law_tests(torch.exp(-torch.exp(-(x.detach() - 0.3) / 2))):
        assert verdict
    assert torch.allclose(torch.autograd.grad(x.mean(), s)[0], ((x.detach() - 0.3) / 2).mean())
    assert torch.equal(q.draw((5,), source=fresh()), q.draw((5,), source=fresh()))

    def sampler(rows, generator):
        return 0.3 + 2 * torch.randn(rows, generator=generator, dtype=D)

    x = implicit(normal_cdf, m, s, sample=sampler).draw((5,), source=fresh())
    assert torch.allclose(torch.autograd.grad(x.sum(), s)[0], ((x - 0.3) / 2).sum())


def test_transforms():
    u, s = t(0.2, 0.7, grad=False), t(2.0, grad=False)

    def cost(m):
        return (implicit(normal_cdf, m, s, shape=(2,)).push(u) ** 2).sum()

    slopes = torch.func.vmap(torch.func.grad(cost))(t(0.1, 0.2, 0.3, grad=False))
    assert torch.allclose(slopes, 4 * t(0.1, 0.2, 0.3, grad=False) + 4 * torch.special.ndtri(u).sum())
    assert torch.allclose(torch.func.hessian(cost)(t(0.1)), t(4.0))


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_compiles_to_one_graph():
    u, m, s = t(0.2, 0.7, grad=False), t(0.1), t(2.0)
    x = torch.compile(lambda m, s: implicit(normal_cdf, m, s, shape=(2,)).push(u), fullgraph=True, backend="aot_eager")(m, s)
    assert torch.allclose(x, m + s * torch.special.ndtri(u))
    assert torch.allclose(torch.autograd.grad(x.sum(), m)[0], t(2.0))


def test_a_law_of_ones_own_is_registered():
    class Ramp(td.Distribution):
        arg_constraints = {"power": td.constraints.positive}
        support = td.constraints.unit_interval

        def __init__(self, power):
            self.power = power
            super().__init__(power.shape)

        def cdf(self, value):
            return value**self.power

        def log_prob(self, value):
            return self.power.log() + (self.power - 1) * value.log()

    @rp.path.register
    def ramp_path(d: Ramp) -> rp.Path:
        return implicit(d)

    power = t(0.5, 3.0)
    x = rp.rsample(Ramp(power), (20_000,), source=rp.Sobol(0))
    (slope,) = torch.autograd.grad(x.mean(0).sum(), power)  # of power / (power + 1)
    assert torch.allclose(slope, (power + 1) ** -2, rtol=1e-3)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: implicit(lambda x, m: x - m, t(0.0)), ValueError, "is .*, which is no probability"),
        (lambda: implicit(lambda x, m: torch.sigmoid(m - x), t(0.0)), ValueError, "a distribution function rises"),
        (lambda: implicit(lambda x, m: torch.sigmoid(x - m.detach()), t(0.0)), ValueError, "no derivative in parameter 0"),
        (lambda: implicit(lambda x, m: 2 * torch.sigmoid(x - m), t(0.0)), ValueError, "is 2 at .* must be 1 there"),
        (lambda: implicit(lambda x, m: 0.5 * torch.sigmoid(x - m), t(0.0)), ValueError, "is 0.5 at .* must be 1 there"),
        (lambda: implicit(lambda x, m: 0.3 + 0 * x.atan() * m, t(0.0)), ValueError, "is 0.3 at .* must be 0 there"),
        (
            lambda: implicit(lambda x, m: x * m, t(0.5), support=td.constraints.unit_interval),
            ValueError,
            "is 0.5 at 1, .* must be 1",
        ),
        (lambda: implicit(lambda x, m: x * m * math.nan, t(0.0)), ValueError, "is nan at"),
        (lambda: implicit([BIVARIATE[0], lambda x, b, r: BIVARIATE[1](x, b, r) / 2], t(0.5)), ValueError, "is 0.5 at"),
        (lambda: implicit(lambda x, m, s: torch.sigmoid(x - m), t(0.0), t(1.0)), ValueError, "no derivative in parameter 1"),
        (lambda: implicit(lambda x, m: torch.sigmoid(x - m)[..., None], t(0.0)), ValueError, r"gave shape \(3, 1\) for values of"),
        (lambda: implicit(td.Gamma(t(2.0), 1.0)), ValueError, "no derivative in a parameter that requires one"),
        (
            lambda: implicit(td.MultivariateNormal(torch.zeros(2), torch.eye(2))),
            rp.NoPathError,
            "conditional distribution functions",
        ),
        (lambda: implicit(normal_cdf, t(0.0, dtype=torch.float16), t(1.0)), TypeError, "is torch.float16; it must be"),
        (lambda: implicit(normal_cdf, 0.0, t(1.0)), TypeError, "is float; it must be a tensor"),
        (lambda: implicit(td.Normal(t(0.0).half(), 1.0)), TypeError, "half precision"),
        (lambda: implicit(3), TypeError, "3 is no law"),
        (lambda: implicit([]), TypeError, "is no law"),
        (lambda: implicit(BIVARIATE, t(0.5), log_prob=normal_cdf), TypeError, "belongs to a univariate law"),
    ],
)
def test_refusals(make, error, match):
    with pytest.raises(error, match=match):
        make()


# Optimal transport


def covariance():
    a = torch.tensor([[1.0, 0.3, -0.5], [0.2, 0.8, 0.1], [0.0, -0.4, 0.6]], dtype=D)
    return (a @ a.mT + 0.1 * torch.eye(3, dtype=D)).requires_grad_()


def test_transport_samples_are_those_of_the_law():
    d = td.MultivariateNormal(t(0.1, 0.2, 0.3), covariance())
    x = optimal_transport(d).draw((64,), source=rp.Sobol(0))
    assert torch.allclose(x, rp.rsample(d, (64,), source=rp.Sobol(0)))


def test_transport_velocities_solve_the_lyapunov_equation():
    """dx = A (x - loc), A symmetric with A S + S A = dS: also where eigenvalues are equal."""
    direction = torch.tensor([[1.0, 0.2, 0.0], [0.2, -0.5, 0.3], [0.0, 0.3, 0.7]], dtype=D)
    for s in (covariance().detach(), torch.eye(3, dtype=D), torch.diag(torch.tensor([1.0, 1.0 + 1e-12, 4.0], dtype=D))):
        eps = torch.randn(3, 3, dtype=D, generator=torch.Generator().manual_seed(0))

        def push(h, s=s, eps=eps):
            return optimal_transport(td.MultivariateNormal(torch.zeros(3, dtype=D), s + h * direction, validate_args=False)).push(
                eps
            )

        x, v = torch.func.jvp(push, (t(0.0, grad=False),), (t(1.0, grad=False),))
        a = torch.linalg.solve(x, v).mT  # of rows: v = A x
        assert torch.allclose(a, a.mT, atol=1e-9)
        assert torch.allclose(a @ s + s @ a, direction, atol=1e-9)


def test_transport_gradients_are_right_in_expectation_to_second_order():
    """E[x x'] and E[(x'x)^2] by symmetric third-degree noise: exact averages over the sign patterns and axes of a normal law."""
    # 27 Gauss-Hermite points in three dimensions integrate polynomials up to degree five in each.
    node, weight = torch.tensor([-math.sqrt(3), 0.0, math.sqrt(3)], dtype=D), torch.tensor([1 / 6, 2 / 3, 1 / 6], dtype=D)
    eps, w = torch.cartesian_prod(node, node, node), torch.cartesian_prod(weight, weight, weight).prod(-1)

    def mean(s, make):
        x = make(td.MultivariateNormal(torch.zeros(3, dtype=D), s @ s.mT)).push(eps)
        return (w * (x**2).sum(-1) * x[:, 0] * x[:, 1]).sum()

    s = torch.linalg.cholesky(covariance().detach()).requires_grad_()
    found, exact = (torch.autograd.grad(mean(s, make), s, create_graph=True)[0] for make in (optimal_transport, rp.path))
    assert torch.allclose(found, exact)
    direction = torch.linspace(-1, 1, 9, dtype=D).reshape(3, 3)
    found, exact = (torch.autograd.grad((g * direction).sum(), s)[0] for g in (found, exact))
    assert torch.allclose(found, exact)


def test_transport_lowers_the_variance():
    s, loc = covariance(), torch.zeros(3, dtype=D)

    def variance(make):
        eps = torch.randn(1000, 3, dtype=D, generator=torch.Generator().manual_seed(0))

        def gradient(eps):
            return torch.func.grad(lambda s: make(td.MultivariateNormal(loc, s, validate_args=False)).push(eps).square().prod())(
                s.detach()
            )

        g = torch.func.vmap(gradient)(eps)
        return ((g + g.mT) / 2).var(0).sum()

    assert variance(optimal_transport) < 0.8 * variance(rp.path)


def test_transport_in_batches_and_refusals():
    d = td.MultivariateNormal(torch.zeros(4, 3), covariance().float())
    assert optimal_transport(d).draw((5,)).shape == (5, 4, 3)
    with pytest.raises(rp.NoPathError, match="not for Normal"):
        optimal_transport(td.Normal(0.0, 1.0))
    with pytest.raises(TypeError, match="float32 or float64"):
        optimal_transport(td.MultivariateNormal(torch.zeros(2).half(), scale_tril=torch.eye(2).half()))


# The estimator that takes a path


@pytest.mark.parametrize("path", [None, optimal_transport, rp.path], ids=["default", "transport", "named"])
def test_pathwise_by_a_path(path):
    s = covariance()
    cost = rp.expect(
        lambda x: (x**2).sum(-1), td.MultivariateNormal(torch.zeros(3, dtype=D), s), estimator=rp.Pathwise(path=path), n=20_000
    )
    (g,) = torch.autograd.grad(cost, s)
    assert torch.allclose((g + g.mT) / 2, torch.eye(3, dtype=D), atol=0.1)


def test_pathwise_by_a_ratio_of_gammas():
    a = t(2.0)
    x = torch.stack([
        torch.autograd.grad(
            rp.expect(lambda x: x**2, td.Beta(a, t(3.0)), estimator=rp.Pathwise(path=ratio_of_gammas), n=50, source=fresh(i)), a
        )[0]
        for i in range(200)
    ])  # fmt: skip
    # E x^2 = a (a + 1) / ((a + 3) (a + 4))
    assert mean_test(x, 5 / 30 - 6 * 11 / 900)
    with pytest.raises(rp.NoPathError, match="no ratio of gammas"):
        rp.expect(lambda x: x, td.Normal(a, 1.0), estimator=rp.Pathwise(path=ratio_of_gammas))
