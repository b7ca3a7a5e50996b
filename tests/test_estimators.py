"""Gradient estimators against closed forms: means and variances, nesting, derivatives, misuse.

Every statistical assertion compares a mean or a variance of `M` independent gradient estimates with its exact value. It
raises a false alarm once in 1e9 runs, and asserts that it would catch a mean that is off by 13 % of its scale (a variance
by 26 %) in the noisiest row; most rows catch ten times less.
"""

import math

import numpy
import pytest
import torch
from torch.distributions import (
    AffineTransform,
    Bernoulli,
    Binomial,
    Categorical,
    Geometric,
    Independent,
    NegativeBinomial,
    Normal,
    OneHotCategorical,
    Poisson,
    TanhTransform,
    TransformedDistribution,
    Uniform,
)

import reparam as rp
from reparam.stats import mean_test

M = 2_000_000
LIMIT = 6.1  # standard errors: 1e-9


def fresh(seed=0):
    return rp.Fresh(torch.Generator().manual_seed(seed))


def gradients(f, law, parameters, estimator, n=1, source=None):
    """`M` independent estimates of the gradient in each parameter: one element of a batch each."""
    leaves = [torch.full((M,), value, dtype=torch.float64, requires_grad=True) for value in parameters]
    value = rp.expect(f, law(*leaves), estimator=estimator, n=n, source=source or fresh())
    return torch.autograd.grad(value.sum(), leaves)


def assert_mean(samples, truth):
    if samples.std() < 1e-12:  # exact estimators: nothing but rounding
        assert (samples - truth).abs().max() < 1e-12
        return
    verdict = mean_test(samples, truth)
    assert verdict.detectable <= 0.13 * max(1.0, abs(truth)), "too few samples for the test to mean anything"
    assert verdict, verdict


def assert_variance(samples, truth):
    if truth == 0:
        assert samples.var() < 1e-24
        return
    verdict = mean_test((samples - samples.mean()) ** 2, truth)
    assert verdict.detectable <= 0.26 * truth, "too few samples for the test to mean anything"
    assert verdict, verdict


# f(x) = (x - k)^2 under Normal(mu, sigma): the closed forms of single-sample gradients.
K, MU, SIGMA = -0.3, 0.7, 1.3
D = MU - K
V = D**4 / SIGMA**2 + 14 * D**2 + 15 * SIGMA**2
B = D**2 + 3 * SIGMA**2
QUADRATIC = {
    "pathwise": (rp.Pathwise(), 1, None, 4 * SIGMA**2, 4 * D**2 + 8 * SIGMA**2),
    "score": (rp.Score(), 1, None, V, 2 * D**4 / SIGMA**2 + 60 * D**2 + 74 * SIGMA**2),
    "score, best baseline for mu": (rp.Score(baseline=B), 1, None, V - B**2 / SIGMA**2, None),
    "pathwise, antithetic pair": (rp.Pathwise(), 2, rp.Antithetic(fresh(1)), 0.0, 8 * SIGMA**2),
    "leave one out": (rp.LeaveOneOut(), 4, None, None, None),
}


@pytest.mark.parametrize("row", QUADRATIC)
def test_quadratic_under_normal(row):
    estimator, n, source, variance_mu, variance_sigma = QUADRATIC[row]
    by_mu, by_sigma = gradients(lambda z: (z - K) ** 2, Normal, (MU, SIGMA), estimator, n, source)
    assert_mean(by_mu, 2 * D)
    assert_mean(by_sigma, 2 * SIGMA)
    if variance_mu is not None:
        assert_variance(by_mu, variance_mu)
    if variance_sigma is not None:
        assert_variance(by_sigma, variance_sigma)


THETA, F0, F1 = 0.3, 0.8, 2.5
PHI = math.log(THETA / (1 - THETA))
DELTA, W = F1 - F0, THETA * (1 - THETA)
BERNOULLI = {
    "score": (rp.Score(), 1, W * ((1 - THETA) * F1 + THETA * F0) ** 2),
    "leave one out, 2 rows": (rp.LeaveOneOut(), 2, DELTA**2 * W * (0.5 - W)),
    "enumerate": (rp.Enumerate(), 1, 0.0),
}


@pytest.mark.parametrize("row", BERNOULLI)
def test_bernoulli(row):
    estimator, n, variance = BERNOULLI[row]
    (gradient,) = gradients(lambda z: F0 + DELTA * z, lambda phi: Bernoulli(logits=phi), (PHI,), estimator, n)
    assert_mean(gradient, W * DELTA)
    assert_variance(gradient, variance)


def test_value_is_the_estimate_of_the_expectation():
    q = Normal(torch.full((M,), MU, dtype=torch.float64), SIGMA)
    for estimator in (rp.Pathwise(), rp.Score(), rp.Score(baseline=2.0), rp.LeaveOneOut()):
        value = rp.expect(lambda z: (z - K) ** 2, q, estimator=estimator, n=2, source=fresh())
        assert_mean(value, D**2 + SIGMA**2)


@pytest.mark.parametrize("estimator", [rp.Score(), rp.Score(baseline=1.0), rp.LeaveOneOut()])
def test_second_derivative_of_score_estimators_is_unbiased(estimator):
    phi = torch.full((M,), PHI, dtype=torch.float64, requires_grad=True)
    value = rp.expect(lambda z: F0 + DELTA * z, Bernoulli(logits=phi), estimator=estimator, n=2, source=fresh())
    (first,) = torch.autograd.grad(value.sum(), phi, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), phi)
    assert_mean(second, DELTA * W * (1 - 2 * THETA))


def test_direct_dependence_of_the_cost_is_differentiated():
    # d/dw E[w z] = E[z], beside the gradient through the law.
    for estimator in (rp.Score(), rp.LeaveOneOut(), rp.Enumerate()):
        w = torch.full((M,), 2.0, dtype=torch.float64, requires_grad=True)
        q = Bernoulli(torch.full((M,), THETA, dtype=torch.float64))
        value = rp.expect(lambda z: w * z, q, estimator=estimator, n=2, source=fresh())  # noqa: B023
        (gradient,) = torch.autograd.grad(value.sum(), w)
        assert_mean(gradient, THETA)


def test_enumerate_is_exact_for_joint_supports():
    logits = torch.tensor([[0.3, -1.0, 2.0], [0.0, 0.5, -0.5]], dtype=torch.float64, requires_grad=True)
    q = Independent(Bernoulli(logits=logits), 1)
    f = lambda z: (z.sum(-1) - 1.3) ** 2  # noqa: E731
    value = rp.expect(f, q, estimator=rp.Enumerate())
    p = logits.sigmoid()
    truth = (p.sum(-1) - 1.3) ** 2 + (p * (1 - p)).sum(-1)
    assert torch.allclose(value, truth, rtol=1e-12)
    got, want = (torch.autograd.grad(v.sum(), logits, retain_graph=True)[0] for v in (value, truth))
    assert torch.allclose(got, want, rtol=1e-10)


def test_enumerate_covers_every_finite_support():
    logits = torch.tensor([0.2, -0.4, 1.0], dtype=torch.float64)
    categorical = rp.expect(lambda z: z.double() ** 2, Categorical(logits=logits), estimator=rp.Enumerate())
    one_hot = rp.expect(lambda z: (z @ torch.arange(3.0).double()) ** 2, OneHotCategorical(logits=logits), estimator=rp.Enumerate())
    p = logits.softmax(-1)
    assert torch.allclose(categorical, p[1] + 4 * p[2])
    assert torch.allclose(one_hot, categorical)
    p = torch.tensor(0.3, dtype=torch.float64)
    assert torch.allclose(rp.expect(lambda z: z, Binomial(5, p), estimator=rp.Enumerate()), 5 * p)


def nested_truth(mu, w):
    """E[(z - c)^2] for z ~ N(mu, 1), c ~ Categorical(softmax([w z, -z, 0])), by Gauss-Hermite quadrature."""
    nodes, weights = numpy.polynomial.hermite_e.hermegauss(80)
    z = mu + torch.as_tensor(nodes)
    p = torch.stack([w * z, -z, 0 * z], -1).softmax(-1)
    inner = (p * (z[:, None] - torch.arange(3.0)) ** 2).sum(-1)
    return (inner * torch.as_tensor(weights)).sum() / math.sqrt(2 * math.pi)


def chain(mu, w):
    def model(sample):
        z = sample("z", Normal(mu, 1.0))
        c = sample("c", Categorical(logits=torch.stack([w * z, -z, 0 * z], -1)))
        return (z - c) ** 2

    return model


@pytest.mark.parametrize("outer", [rp.Pathwise(), rp.Score(), rp.LeaveOneOut()], ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("inner", [rp.Enumerate(), rp.Score(baseline=1.0), rp.LeaveOneOut()], ids=lambda e: type(e).__name__)
def test_graph_mixes_estimators_node_by_node(outer, inner):
    mu, w = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.4, 0.8))
    truth = nested_truth(mu, w)
    truths = torch.autograd.grad(truth, (mu, w))
    leaves = [torch.full((M // 2,), v.item(), dtype=torch.float64, requires_grad=True) for v in (mu, w)]
    value = rp.graph(chain(*leaves), estimators={"z": outer, "c": inner}, n=2, batch_shape=(M // 2,), source=fresh())
    assert_mean(value.detach(), truth.item())
    for got, want in zip(torch.autograd.grad(value.sum(), leaves), truths, strict=True):
        assert_mean(got, want.item())


def test_expect_nests_in_expect():
    mu, w = (torch.full((M // 2,), v, dtype=torch.float64, requires_grad=True) for v in (0.4, 0.8))

    def outer(z):
        law = Categorical(logits=torch.stack([w * z, -z, 0 * z], -1))
        return rp.expect(lambda c: (z - c) ** 2, law, estimator=rp.LeaveOneOut(), n=3, source=fresh(1))

    value = rp.expect(outer, Normal(mu, 1.0), estimator=rp.Score(), n=2, source=fresh(2))
    one = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.4, 0.8)]
    truths = torch.autograd.grad(nested_truth(*one), one)
    for got, want in zip(torch.autograd.grad(value.sum(), (mu, w)), truths, strict=True):
        assert_mean(got, want.item())


@pytest.mark.parametrize("n", [1, {"a": 3, "b": 2}])
def test_graph_with_nodes_that_do_not_depend_on_each_other(n):
    # E[(a b - 1)^2] with a ~ N(m, 1), b ~ Bernoulli(p): (m^2 + 1) p - 2 m p + 1.
    m, p = 0.6, 0.3
    leaves = [torch.full((M // 2,), v, dtype=torch.float64, requires_grad=True) for v in (m, p)]

    def model(sample):
        a = sample("a", Normal(leaves[0], 1.0))
        b = sample("b", Bernoulli(leaves[1]))
        return (a * b - 1) ** 2

    value = rp.graph(model, estimators={"b": rp.Score()}, n=n, batch_shape=(M // 2,), source=fresh())
    by_m, by_p = torch.autograd.grad(value.sum(), leaves)
    assert_mean(by_m, (2 * m - 2) * p)
    assert_mean(by_p, m**2 + 1 - 2 * m)


def test_graph_with_a_global_node_beside_a_batch():
    # One scale shared by the batch, one latent for each of three data: E[sum_i (s z_i)^2] = sum_i (1 + m_i^2) E[s^2].
    m = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)
    rows = 2_000
    for estimator in (rp.Pathwise(), rp.LeaveOneOut()):
        scale = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)

        def model(sample):
            s = sample("s", Normal(scale, 1.0))  # noqa: B023
            z = sample("z", Normal(m, 1.0))
            return ((s * z) ** 2).sum(-1)

        runs = [
            torch.autograd.grad(
                rp.graph(model, estimators={"s": estimator}, n={"s": rows, "z": 100}, batch_shape=(3,), source=fresh(seed)), scale
            )[0]
            for seed in range(40)
        ]
        runs = torch.stack(runs)
        error = runs.std() / math.sqrt(len(runs))
        truth = 2 * 0.5 * (3 + m.square().sum())
        # 40 runs: Student's t at 8.0 has a false-alarm rate of 1e-9.
        assert error < 0.05 * truth
        assert abs(runs.mean() - truth) < 8.0 * error


def test_keeping_the_batch_gives_each_element_credit_for_its_own_cost():
    logits = torch.zeros(64, requires_grad=True)
    totals = {}
    for kept in (True, False):
        draws = []
        for seed in range(200):
            f = (lambda z: z) if kept else (lambda z: z.sum(-1))
            value = rp.expect(f, Bernoulli(logits=logits), estimator=rp.LeaveOneOut(), n=4, source=fresh(seed))
            draws.append(torch.autograd.grad(value.sum(), logits)[0])
        totals[kept] = torch.stack(draws).var(0).sum()
    # 64 costs instead of one share the blame: the variance grows by a factor of about 64.
    assert totals[False] > 20 * totals[True]


def test_choice_is_explained():
    assert str(rp.choose(Bernoulli(0.3))) == "Bernoulli: Enumerate, because its 2 values can be summed exactly"
    assert isinstance(rp.choose(Normal(0.0, 1.0)).estimator, rp.Pathwise)
    assert isinstance(rp.choose(Independent(Normal(torch.zeros(3), 1.0), 1)).estimator, rp.Pathwise)
    assert isinstance(rp.choose(Poisson(3.0), n=4).estimator, rp.StochasticTriple)
    counts = Independent(Poisson(torch.full((20,), 3.0)), 1)
    assert isinstance(rp.choose(counts, n=4).estimator, rp.LeaveOneOut)
    assert isinstance(rp.choose(counts).estimator, rp.Score)
    large = Independent(Bernoulli(torch.full((20,), 0.5)), 1)
    assert isinstance(rp.choose(large, n=4).estimator, rp.LeaveOneOut)
    # Gamma has torch's own differentiable sampler, von Mises has none.
    assert isinstance(rp.choose(torch.distributions.Gamma(2.0, 1.0)).estimator, rp.Pathwise)
    # A straight-through class calls itself reparameterised; it is discrete and biased, so it is never picked as pathwise.
    straight = torch.distributions.OneHotCategoricalStraightThrough(torch.ones(3) / 3)
    assert isinstance(rp.choose(straight).estimator, rp.Enumerate)


def test_a_generator_fixes_discrete_draws():
    for law in (Bernoulli(0.3), Categorical(torch.ones(4)), Independent(OneHotCategorical(torch.ones(5, 4)), 1)):
        a, b = (rp.sample(law, (50,), source=fresh(3)) for _ in range(2))
        assert torch.equal(a, b)
        assert a.shape == (50, *law.batch_shape, *law.event_shape)
        assert a.dtype == law.sample().dtype


def test_discrete_draws_follow_their_law_in_the_tail():
    # 1e7 draws at 1e-6: 10 expected, Poisson; 0 or more than 36 has probability 5e-5 + 1e-10. Steps of 2^-24 would give 1e-6 still;
    # at 1e-9 they give 6e-8, so 200 expected of 1e10 draws are out of reach here: the comparison is tested on the noise itself.
    tiny = Bernoulli(torch.full((10_000_000,), 1e-6))
    count = rp.sample(tiny, source=fresh(1)).sum()
    assert 0 < count <= 36
    eps = torch.tensor([1e-10, 1e-8])
    assert rp.sample(Bernoulli(torch.full((2,), 1e-9)), source=rp.Replay(eps)).tolist() == [1.0, 0.0]


def test_categorical_draws_follow_their_law():
    p = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)
    counts = torch.bincount(rp.sample(Categorical(p), (M,), source=fresh(5)), minlength=4)
    z = (counts - M * p) / (M * p * (1 - p)).sqrt()
    assert z.abs().max() < LIMIT


def test_source_is_refused_where_only_torch_samples():
    with pytest.raises(NotImplementedError, match="takes no noise source"):
        rp.expect(lambda z: z, Poisson(3.0), estimator=rp.Score(), source=rp.Sobol(seed=0))
    assert rp.expect(lambda z: z, Poisson(3.0), estimator=rp.Score(), source=fresh()).isfinite()


class TestMisuse:
    q = Normal(torch.zeros(5, requires_grad=True), 1.0)

    def test_cost_of_a_wrong_shape_shows_both(self):
        with pytest.raises(ValueError, match=r"\(4, 3\).*rows \(4,\) \+ a leading part of batch \(5,\)"):
            rp.expect(lambda z: z[:, :3], self.q, n=4)
        with pytest.raises(ValueError, match=r"shape \(\)"):
            rp.expect(lambda z: z.sum(), self.q, n=4)
        with pytest.raises(TypeError, match="got float"):
            rp.expect(lambda z: 1.0, self.q)

    def test_rows_must_be_a_positive_integer(self):
        for n in (0, -1, 2.0, True):
            with pytest.raises(ValueError, match="positive integer"):
                rp.expect(lambda z: z, self.q, estimator=rp.Pathwise(), n=n)

    def test_leave_one_out_needs_two_rows(self):
        with pytest.raises(ValueError, match="at least 2 rows"):
            rp.expect(lambda z: z, self.q, estimator=rp.LeaveOneOut())

    def test_a_cost_without_gradient_is_not_pathwise(self):
        with pytest.raises(ValueError, match="no gradient in the sample"):
            rp.expect(lambda z: (z > 0).float(), self.q, estimator=rp.Pathwise())
        w = torch.ones((), requires_grad=True)  # whose gradient does not hide that q has none
        q = Normal(torch.zeros(3, requires_grad=True), 1.0)
        with pytest.raises(ValueError, match="no gradient in the sample"):
            rp.expect(lambda z: w * (z > 0), q, estimator=rp.Pathwise())

    def test_pathwise_refuses_discrete_laws(self):
        with pytest.raises(rp.NoPathError, match="Bernoulli is discrete"):
            rp.expect(lambda z: z, Bernoulli(0.5), estimator=rp.Pathwise())

    def test_enumerate_refuses_what_it_cannot_list(self):
        with pytest.raises(NotImplementedError, match="Poisson has no finite support"):
            rp.expect(lambda z: z, Poisson(3.0), estimator=rp.Enumerate())
        with pytest.raises(ValueError, match="1048576 values"):
            rp.expect(lambda z: z.sum(-1), Independent(Bernoulli(torch.full((20,), 0.5)), 1), estimator=rp.Enumerate())
        with pytest.raises(ValueError, match="must keep them"):
            rp.expect(lambda z: z.sum(-1), Bernoulli(torch.full((3,), 0.5)), estimator=rp.Enumerate())

    def test_baseline_must_not_depend_on_the_row(self):
        with pytest.raises(ValueError, match="must not depend on the row"):
            rp.expect(lambda z: z, self.q, estimator=rp.Score(baseline=torch.zeros(2, 5)), n=2)

    def test_graph_names(self):
        def model(sample):
            return sample("z", Normal(0.0, 1.0)) + sample("x", Normal(0.0, 1.0))

        with pytest.raises(ValueError, match="did you mean 'z'"):
            rp.graph(model, estimators={"zz": rp.Score()})
        with pytest.raises(ValueError, match="drawn twice"):
            rp.graph(lambda sample: sample("z", Normal(0.0, 1.0)) + sample("z", Normal(0.0, 1.0)))
        with pytest.raises(ValueError, match="node 'x' must be a positive integer"):
            rp.graph(model, n={"x": 0})

    def test_graph_shapes(self):
        def model(sample):
            z = sample("z", Normal(0.0, 1.0))
            return z + sample("w", Normal(torch.zeros(5), 1.0)).sum(-1)

        with pytest.raises(ValueError, match=r"node 'w' has batch shape \(5,\).*z=4.*batch_shape"):
            rp.graph(model, n=4)
        with pytest.raises(ValueError, match=r"b=2 \+ a=4.*shape \(4,\)"):
            rp.graph(lambda s: s("a", Normal(0.0, 1.0)) + 0 * s("b", Normal(0.0, 1.0))[0], n={"a": 4, "b": 2})


class TestTransforms:
    """`torch.func` and forward mode go through `expect`; noise inside `vmap` needs torch's own `randomness` argument."""

    mu = torch.tensor(0.3, dtype=torch.float64)
    eps = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)

    def pathwise(self, mu):
        return rp.expect(lambda z: (z - 1) ** 2, Normal(mu, 1.0), estimator=rp.Pathwise(), n=3, source=rp.Replay(self.eps))

    def enumerated(self, mu):
        return rp.expect(lambda z: (z - 1) ** 2, Bernoulli(logits=mu), estimator=rp.Enumerate())

    def test_grad_and_jvp(self):
        truth = 2 * (self.mu + self.eps - 1).mean()
        assert torch.allclose(torch.func.grad(self.pathwise)(self.mu), truth)
        assert torch.allclose(torch.func.jvp(self.pathwise, (self.mu,), (torch.ones_like(self.mu),))[1], truth)
        p = self.mu.sigmoid()
        assert torch.allclose(torch.func.grad(self.enumerated)(self.mu), -p * (1 - p))

    def test_hessian(self):
        assert torch.allclose(torch.func.hessian(self.pathwise)(self.mu), torch.tensor(2.0, dtype=torch.float64))
        p = self.mu.sigmoid()
        assert torch.allclose(torch.func.hessian(self.enumerated)(self.mu), -p * (1 - p) * (1 - 2 * p))
        score = lambda mu: rp.expect(lambda z: z, Bernoulli(logits=mu), estimator=rp.LeaveOneOut(), n=4)  # noqa: E731
        assert torch.func.jacfwd(torch.func.jacrev(score), randomness="same")(self.mu).isfinite()

    def test_vmap(self):
        mus = torch.tensor([0.0, 1.0], dtype=torch.float64)
        p = mus.sigmoid()
        assert torch.allclose(torch.vmap(torch.func.grad(self.enumerated))(mus), -p * (1 - p))
        fresh_noise = lambda mu: rp.expect(lambda z: z, Normal(mu, 1.0), estimator=rp.Pathwise())  # noqa: E731
        a, b = torch.vmap(fresh_noise, randomness="different")(torch.zeros(2))
        assert a != b

    @pytest.mark.slow
    def test_compile(self):
        for f in (self.pathwise, self.enumerated):
            assert torch.allclose(torch.compile(f, fullgraph=True)(self.mu), f(self.mu))


class TestSources:
    """Estimators under noise whose rows depend on each other."""

    @pytest.mark.parametrize("make", [lambda: rp.Antithetic(fresh(4)), lambda: rp.Sobol(4)], ids=["antithetic", "sobol"])
    @pytest.mark.parametrize(
        "estimator", [rp.Pathwise(), rp.Score(), rp.Score(baseline=2.0)], ids=["pathwise", "score", "constant"]
    )
    def test_unbiased(self, make, estimator):
        rows, batch = 4, 5_000  # a Sobol point has as many dimensions as the batch has elements
        mu, sigma = (torch.full((batch,), v, dtype=torch.float64, requires_grad=True) for v in (MU, SIGMA))
        source, runs = make(), []
        for _ in range(40):
            value = rp.expect(lambda z: (z - K) ** 2, Normal(mu, sigma), estimator=estimator, n=rows, source=source)
            runs.append(torch.stack(torch.autograd.grad(value.sum(), (mu, sigma))))
        for gradient, truth in zip(torch.cat(runs, 1), (2 * D, 2 * SIGMA), strict=True):
            verdict = mean_test(gradient, truth)
            assert verdict.detectable < 0.4 * truth
            assert verdict, verdict

    @pytest.mark.parametrize("source", [rp.Antithetic(), rp.Sobol(0)])
    def test_other_rows_are_no_baseline_when_rows_depend_on_each_other(self, source):
        q = Normal(torch.zeros(3), 1.0)
        with pytest.raises(ValueError, match="depend on each other"):
            rp.expect(lambda z: z, q, estimator=rp.LeaveOneOut(), n=2, source=source)
        assert isinstance(rp.choose(Independent(Poisson(torch.ones(20)), 1), 4, source).estimator, rp.Score)


class TestCorners:
    def test_a_caching_transform_keeps_its_gradient(self):
        for cache in (0, 1):
            shift = torch.tensor(0.5, requires_grad=True)
            shifted = TransformedDistribution(Normal(torch.zeros(M), 1.0), [AffineTransform(shift, 1.0, cache_size=cache)])
            value = rp.expect(lambda z: z, shifted, estimator=rp.LeaveOneOut(), n=2).mean()
            # d/d shift E[z] = 1; a leave-one-out estimate of it from two rows has a standard deviation of 1, so this is 7 sigma.
            assert abs(torch.autograd.grad(value, shift)[0] - 1) < 7 / math.sqrt(M)

    def test_a_saturated_sample_has_a_finite_score(self):
        for cache in (0, 1):
            loc = torch.zeros(1000, requires_grad=True)
            squashed = TransformedDistribution(Normal(loc, 30.0), [TanhTransform(cache_size=cache)])
            value = rp.expect(lambda z: z, squashed, estimator=rp.LeaveOneOut(), n=2)
            assert torch.autograd.grad(value.sum(), loc)[0].isfinite().all()

    def test_score_refuses_a_support_that_moves(self):
        high = torch.tensor(2.0, requires_grad=True)
        for estimator in (rp.Score(), rp.LeaveOneOut()):
            with pytest.raises(ValueError, match="support of Uniform depends on a parameter"):
                rp.expect(lambda z: z, Uniform(torch.tensor(0.0), high), estimator=estimator, n=2)
        assert rp.expect(lambda z: z, Uniform(0.0, 2.0), estimator=rp.Score(), n=2).isfinite()

    def test_enumerate_is_exact_for_tiny_probabilities(self):
        p = torch.tensor([1e-9, 0.0], dtype=torch.float64, requires_grad=True)
        value = rp.expect(lambda z: 1e9 * z, Bernoulli(p))
        assert torch.allclose(value, torch.tensor([1.0, 0.0], dtype=torch.float64), rtol=1e-12)
        assert torch.allclose(torch.autograd.grad(value.sum(), p)[0], torch.full((2,), 1e9, dtype=torch.float64))
        for law in (Categorical, OneHotCategorical):
            tiny = torch.tensor([1 - 1e-12, 1e-12], dtype=torch.float64)
            cost = (lambda z: 1e12 * z) if law is Categorical else (lambda z: 1e12 * z[..., 1])
            assert torch.allclose(rp.expect(cost, law(tiny)), torch.ones((), dtype=torch.float64))

    def test_what_cannot_happen_costs_nothing(self):
        logits = torch.tensor([0.3, -torch.inf, 0.1], requires_grad=True)
        table = torch.tensor([1.0, torch.inf, 2.0])
        value = rp.expect(lambda z: table[z], Categorical(logits=logits))
        truth = torch.tensor([0.3, 0.1]).softmax(0)
        assert torch.allclose(value, truth @ torch.tensor([1.0, 2.0]))
        gradient = torch.autograd.grad(value, logits)[0]
        assert torch.allclose(gradient, torch.stack([-truth.prod(), 0 * truth[0], truth.prod()]))

    def test_enumerated_rows_may_be_written_into(self):
        rp.expect(lambda z: z.mul_(2.0), Bernoulli(torch.full((3,), 0.5)))

    def test_averaging_over_the_rows_of_a_node_is_refused(self):
        mean = torch.zeros((), requires_grad=True)
        with pytest.raises(ValueError, match=r"\(1,\).*rows \(8,\)"):
            rp.graph(lambda s: s("z", Normal(mean, 1.0)).mean(0, keepdim=True), estimators={"z": rp.Score()}, n=8)


class TestSlips:
    """What people type by mistake gets one clear error."""

    q = Normal(torch.zeros(3), 1.0)

    def test_expect(self):
        with pytest.raises(TypeError, match=r"must be a torch\.distributions\.Distribution, got 3"):
            rp.expect(lambda z: z, 3)
        with pytest.raises(TypeError, match=r"give an instance, Pathwise\(\)"):
            rp.expect(lambda z: z, self.q, estimator=rp.Pathwise)
        with pytest.raises(TypeError, match="methods draw and weigh"):
            rp.expect(lambda z: z, self.q, estimator="score")
        with pytest.raises(TypeError, match=r"cost\.float\(\)"):
            rp.expect(lambda z: z > 0, self.q)
        assert rp.expect(lambda z: z, self.q, n=numpy.int64(4)).shape == (3,)
        for baseline in (torch.zeros(7), torch.zeros(1, 3)):
            with pytest.raises(ValueError, match="must broadcast"):
                rp.expect(lambda z: z, self.q, estimator=rp.Score(baseline=baseline))

    def test_graph(self):
        model = lambda s: s("z", Normal(0.0, 1.0))  # noqa: E731
        with pytest.raises(TypeError, match="dict by node name"):
            rp.graph(model, estimators=rp.Score())
        assert rp.graph(lambda s: s("z", self.q), batch_shape=3).shape == (3,)

    def test_a_law_that_says_little(self):
        class Plain(torch.distributions.Distribution):
            arg_constraints = {}

            def sample(self, sample_shape=()):
                return torch.zeros(sample_shape)

            def log_prob(self, value):
                return -value

        assert rp.expect(lambda z: z, Plain(validate_args=False), n=4).shape == ()
        with pytest.raises(NotImplementedError, match="implement expand"):
            rp.graph(lambda s: s("a", Normal(0.0, 1.0)) + s("b", Plain(validate_args=False)))


@pytest.mark.parametrize(
    ("law", "estimator"),
    [
        *((law, rp.LeaveOneOut()) for law in (Bernoulli, Binomial, Geometric, NegativeBinomial)),
        *((law, rp.Enumerate(tail=1e-9)) for law in (Bernoulli, Binomial, Geometric, NegativeBinomial)),
        (Bernoulli, rp.DisARM()),
    ],
)
def test_a_law_follows_parameters_that_move_in_place(law, estimator):
    """Torch computes probabilities from logits once and keeps them: a step of an optimiser would leave samples behind."""
    w = torch.full((), -2.0, dtype=torch.float64, requires_grad=True)
    counts = (3,) if law in (Binomial, NegativeBinomial) else ()
    q = law(*counts, logits=w)
    q.probs, rp.sample(q, (2,))
    with torch.no_grad():
        w.fill_(1.0)
    new = law(*counts, logits=w)
    found, wanted = (rp.expect(lambda z: (z - 0.4) ** 2, d, estimator=estimator, n=64, source=fresh()) for d in (q, new))
    assert found == wanted
    assert torch.autograd.grad(found, w) == torch.autograd.grad(wanted, w)
