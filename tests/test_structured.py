"""Structured laws against their values one by one, beside the rows of their estimators: corners, solvers, misuse, learning.

Statistical assertions raise a false alarm once in 1e9 runs; beside each stands what it would catch.
"""

import math
from itertools import combinations, permutations

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.stats import chisquare
from torch.distributions import Bernoulli, Gamma, Independent, Normal, Poisson, constraints, kl_divergence

import reparam as rp
from reparam.distributions import KSubset, PerturbAndMAP, PlackettLuce
from reparam.distributions.solver import matching, top_k
from reparam.estimators.permutation import sinkhorn
from reparam.stats import mean_test

LOGITS = torch.tensor([0.5, -1.0, 0.2, 1.1, 0.0, 0.2], dtype=torch.float64)


def fresh(seed=0):
    return rp.Fresh(torch.Generator().manual_seed(seed))


def subsets(n, k):
    return torch.tensor([[float(i in s) for i in range(n)] for s in combinations(range(n), k)], dtype=torch.float64)


def chances(logits, k):
    return (logits @ subsets(logits.shape[-1], k).T).softmax(-1)


def follows(found, expected):
    """Pearson's test that counts of values follow their probabilities."""
    return chisquare(found.numpy(), (expected / expected.sum() * found.sum()).numpy()).pvalue > 1e-9


# Subsets


@pytest.mark.parametrize("k", range(7))
def test_subset_is_as_its_values_say(k):
    logits = torch.stack([LOGITS, torch.zeros(6, dtype=torch.float64), 3 * LOGITS])
    d, values, p = KSubset(k, logits), subsets(6, k), chances(logits, k)
    close = {"rtol": 1e-12, "atol": 1e-13}
    torch.testing.assert_close(d.log_prob(values[:, None]).exp(), p.T, **close)
    torch.testing.assert_close(d.mean, p @ values, **close)
    torch.testing.assert_close(d.variance, (p @ values) * (1 - p @ values), rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(d.entropy(), -torch.xlogy(p, p).sum(-1), **close)
    torch.testing.assert_close(d.log_prob(d.mode).exp(), p.amax(-1), **close)
    assert torch.equal(d.enumerate_support(), values[:, None].expand(-1, 3, -1))
    assert torch.equal(d.enumerate_support(expand=False), values[:, None])
    q = KSubset(k, LOGITS.flip(-1))
    other = chances(LOGITS.flip(-1), k)
    torch.testing.assert_close(kl_divergence(d, q), (p * (p / other).log()).sum(-1), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("source", [fresh(), rp.Sobol(0)], ids=["fresh", "sobol"])
def test_subset_is_drawn_by_its_law(source):
    """20 values, 65536 rows: a probability off by 0.006 is caught. Sobol rows are closer to the law than independent ones."""
    d = KSubset(3, LOGITS)
    z = rp.sample(d, (65536,), source=source)
    assert d.support.check(z).all()
    found = (z @ subsets(6, 3).T == 3).double().sum(0)
    assert found.sum() == len(z)
    assert follows(found, chances(LOGITS, 3))


def test_subset_without_a_source_is_drawn_by_the_default_generator():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        z = KSubset(2, LOGITS.expand(4, 6)).sample((5,))
        torch.manual_seed(3)
        assert torch.equal(z, rp.sample(KSubset(2, LOGITS.expand(4, 6)), (5,)))
    assert z.shape == (5, 4, 6)
    assert (z.sum(-1) == 2).all()


def test_subset_has_derivatives_where_logits_tie():
    for k in (1, 2, 3):
        for logits in (torch.zeros(4, dtype=torch.float64), LOGITS[:4].clone()):
            logits.requires_grad_()
            for f in (lambda x, k=k: KSubset(k, x).mean, lambda x, k=k: KSubset(k, x).entropy()):
                assert torch.autograd.gradcheck(f, (logits,))
                assert torch.autograd.gradgradcheck(f, (logits,))
    logits = LOGITS.clone().requires_grad_()
    covariance = torch.autograd.functional.jacobian(lambda x: KSubset(2, x).mean, logits)
    p, values = chances(LOGITS, 2), subsets(6, 2)
    torch.testing.assert_close(covariance, values.T @ (p[:, None] * values) - torch.outer(p @ values, p @ values))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [100.0, 1e4])
def test_subset_of_extreme_logits(dtype, size):
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0, -1.0, 0.0])
    for k in range(7):
        logits = (size * signs).to(dtype).requires_grad_()
        d = KSubset(k, logits)
        # The totals are of the size of the logits, and so is their rounding: of 1e4 about 2e-12.
        torch.testing.assert_close(d.mean, (chances(logits.double(), k) @ subsets(6, k)).to(dtype), rtol=1e-6, atol=1e-11)
        torch.testing.assert_close(d.mean.sum().item(), float(k), rtol=1e-6, atol=1e-11)
        (slopes,) = torch.autograd.grad(d.mean[0] + d.entropy() + d.log_prob(d.mode), logits)
        assert slopes.isfinite().all()
        assert (d.sample((50,)).sum(-1) == k).all()


def test_subset_never_takes_a_logit_of_minus_infinity():
    logits = torch.tensor([0.0, -math.inf, 1.0, 0.5], dtype=torch.float64, requires_grad=True)
    d, rest = KSubset(2, logits), KSubset(2, logits[[0, 2, 3]])
    torch.testing.assert_close(d.mean[[0, 2, 3]], rest.mean)
    torch.testing.assert_close(d.entropy(), rest.entropy())
    assert d.mean[1] == 0
    assert (d.sample((200,))[:, 1] == 0).all()
    assert d.log_prob(torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=torch.float64)) == -math.inf
    (slopes,) = torch.autograd.grad(d.entropy() + d.mean[0] + d.log_prob(d.mode), logits)
    assert slopes.isfinite().all()
    with pytest.raises(ValueError, match="fewer than 4 are above minus infinity"):
        KSubset(4, logits)


def test_subset_of_many():
    logits = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    d = KSubset(50, logits)
    torch.testing.assert_close(d.mean.sum().item(), 50.0, rtol=1e-6, atol=0.0)
    torch.testing.assert_close(d.mean, KSubset(50, logits.double()).mean.float(), rtol=1e-6, atol=0.0)
    assert (d.sample((3,)).sum(-1) == 50).all()
    assert not d.has_enumerate_support
    with pytest.raises(NotImplementedError, match="too many to list"):
        d.enumerate_support()


def test_subset_in_half_precision():
    for dtype in (torch.float16, torch.bfloat16):
        d = KSubset(2, LOGITS.to(dtype))
        assert d.sample((5,)).dtype == dtype
        torch.testing.assert_close(d.mean, KSubset(2, LOGITS.to(dtype).double()).mean.to(dtype))


def test_subset_misuse():
    with pytest.raises(TypeError, match=r"k as an integer.*got 2\.0"):
        KSubset(2.0, LOGITS)
    for k in (-1, 7):
        with pytest.raises(ValueError, match=rf"k={k} and logits of shape \(6,\)"):
            KSubset(k, LOGITS)
    with pytest.raises(ValueError, match="logits"):
        KSubset(2, LOGITS * math.nan)
    with pytest.raises(ValueError, match="support"):
        KSubset(2, LOGITS).log_prob(subsets(6, 3)[0])
    assert KSubset(2, LOGITS, validate_args=False).log_prob(subsets(6, 3)[0]) == -math.inf
    with pytest.raises(ValueError, match="nothing in common"):
        kl_divergence(KSubset(2, LOGITS), KSubset(3, LOGITS))
    with pytest.raises(rp.NoPathError, match=r"rp\.Enumerate\(\), rp\.LeaveOneOut"):
        KSubset(2, LOGITS).rsample()


def test_what_is_chosen():
    assert isinstance(rp.choose(KSubset(2, LOGITS)).estimator, rp.Enumerate)
    assert isinstance(rp.choose(KSubset(10, torch.zeros(100)), n=4).estimator, rp.LeaveOneOut)
    assert isinstance(rp.choose(PlackettLuce(torch.zeros(3))).estimator, rp.Enumerate)
    assert isinstance(rp.choose(PlackettLuce(torch.zeros(30)), n=4).estimator, rp.LeaveOneOut)
    assert isinstance(rp.choose(PerturbAndMAP(torch.zeros(30), top_k(2)), n=4).estimator, rp.LeaveOneOut)
    scores = torch.zeros(5, requires_grad=True)
    rp.expect(lambda z: z[..., 0], PerturbAndMAP(scores, top_k(2)), n=4, source=fresh()).backward()
    assert scores.grad.isfinite().all()


# Orders


def test_order_is_as_its_values_say():
    """24 orders, 50000 rows: a probability off by 0.006 is caught."""
    logits = LOGITS[:4]
    d, orders = PlackettLuce(logits), torch.tensor(list(permutations(range(4))))
    weights = logits.exp()
    p = torch.stack([math.prod(weights[o[i]] / weights[o[i:]].sum() for i in range(4)) for o in orders])
    torch.testing.assert_close(d.log_prob(orders).exp(), p)
    assert torch.equal(d.enumerate_support(), orders)
    assert torch.equal(d.mode, orders[p.argmax()])
    z = rp.sample(d, (50_000,), source=fresh())
    assert d.support.check(z).all()
    found = (z[:, None] == orders).all(-1).double().sum(0)
    assert follows(found, p)


def test_order_of_extreme_logits():
    for dtype in (torch.float32, torch.float64):
        logits = torch.tensor([100.0, -100.0, 100.0, 0.0], dtype=dtype, requires_grad=True)
        d = PlackettLuce(logits)
        torch.testing.assert_close(d.log_prob(d.mode).item(), -math.log(2), rtol=1e-5, atol=0.0)
        torch.testing.assert_close(d.log_prob(torch.tensor([1, 3, 0, 2])).item(), -300 - 3 * math.log(2), rtol=1e-5, atol=0.0)
        (slopes,) = torch.autograd.grad(d.log_prob(d.mode), logits)
        assert slopes.isfinite().all()
        assert (d.sample((20,))[:, 3] == 1).all()


def test_order_of_a_batch_and_misuse():
    d = PlackettLuce(LOGITS).expand((3, 2))
    assert d.batch_shape == (3, 2)
    assert d.sample((5,)).shape == (5, 3, 2, 6)
    assert d.log_prob(d.sample((5,))).shape == (5, 3, 2)
    assert d.enumerate_support().shape == (720, 3, 2, 6)
    with pytest.raises(ValueError, match="finite logits"):
        PlackettLuce(torch.tensor([0.0, -math.inf]))
    with pytest.raises(ValueError, match="got one number"):
        PlackettLuce(torch.tensor(0.0))
    with pytest.raises(ValueError, match="support"):
        PlackettLuce(LOGITS).log_prob(torch.tensor([0, 1, 2, 3, 4, 4]))
    unchecked = PlackettLuce(LOGITS, validate_args=False)
    assert unchecked.log_prob(torch.tensor([0, 1, 2, 3, 4, 9])) == -math.inf
    with pytest.raises(NotImplementedError, match="30! orders"):
        PlackettLuce(torch.zeros(30)).enumerate_support()


# Solvers


@pytest.mark.parametrize("n", [0, 1, 2, 3, 8])
def test_matching_is_that_of_scipy(n):
    scores = torch.randn(40, n, n, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
    scores[:10] = scores[:10].round()  # with ties
    found = matching(scores)
    assert found.shape == scores.shape
    assert found.dtype == scores.dtype
    if n:
        assert (found.sum(-1) == 1).all()
        assert (found.sum(-2) == 1).all()
        for score, z in zip(scores, found, strict=True):
            rows, columns = linear_sum_assignment(score.numpy(), maximize=True)
            torch.testing.assert_close((score * z).sum().item(), score.numpy()[rows, columns].sum())


def test_solvers_refuse_what_they_cannot_solve():
    with pytest.raises(ValueError, match=r"square matrices.*\(2, 3\)"):
        matching(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="finite"):
        matching(torch.full((2, 2), math.nan))
    for k in (-1, 2.0, True):
        with pytest.raises(ValueError, match="top_k takes the number"):
            top_k(k)


def scipy_matching(scores):
    z = torch.zeros(scores.shape, dtype=scores.dtype).reshape(-1, *scores.shape[-2:])
    for value, score in zip(z, scores.reshape(z.shape), strict=True):
        value[linear_sum_assignment(score.numpy(), maximize=True)] = 1
    return z.reshape(scores.shape)


def test_any_solver_serves():
    scores = torch.randn(3, 5, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    ours, theirs = PerturbAndMAP(scores, matching, event_dim=2), PerturbAndMAP(scores, scipy_matching, event_dim=2)
    assert torch.equal(rp.sample(ours, (4,), source=fresh()), rp.sample(theirs, (4,), source=fresh()))
    price = (torch.arange(25.0) ** 2 / 100).reshape(5, 5)  # no sum of a price for each row and one for each column
    for estimator in (rp.ImplicitMLE(), rp.LeaveOneOut(), rp.GumbelSinkhorn(1.0), rp.GumbelSinkhorn(1.0, hard=True)):
        found = [
            torch.autograd.grad(
                rp.expect(lambda z: (z**2 * price).sum((-1, -2)), q, estimator=estimator, n=8, source=fresh()).sum(), scores
            )
            for q in (ours, theirs)
        ]
        assert torch.equal(*[f[0] for f in found])
        assert found[0][0].abs().sum() > 0


def fails(scores):
    raise KeyError("no tree")


@pytest.mark.parametrize(
    ("solver", "error", "says"),
    [
        (fails, RuntimeError, r"the solver fails failed with KeyError\('no tree'\) on scores of shape \(2, 3, 4\)"),
        (lambda s: s.argmax(-1), ValueError, r"returned shape \(2, 3\) for scores of shape \(2, 3, 4\)"),
        (lambda s: s.numpy(), TypeError, "returned a ndarray, not a tensor"),
        (lambda s: s / 0, ValueError, "not finite"),
    ],
    ids=["fails", "shape", "type", "infinite"],
)
def test_what_a_solver_got_wrong_is_said(solver, error, says):
    q = PerturbAndMAP(torch.zeros(3, 4, requires_grad=True), solver)
    for estimator in (rp.ImplicitMLE(), rp.LeaveOneOut()):
        with pytest.raises(error, match=says):
            rp.expect(lambda z: z.sum(-1), q, estimator=estimator, n=2)


def test_a_solver_may_write_into_its_scores():
    scores = torch.zeros(4, requires_grad=True)

    def careless(s):
        z = top_k(1)(s)
        s.fill_(math.nan)
        return z

    for estimator in (rp.ImplicitMLE(), rp.LeaveOneOut()):
        (slopes,) = torch.autograd.grad(
            rp.expect(lambda z: z[..., 0], PerturbAndMAP(scores, careless), estimator=estimator, n=4, source=fresh()), scores
        )
        assert slopes.isfinite().all()


def test_perturbed_law_misuse():
    scores = torch.zeros(3, 4)
    with pytest.raises(TypeError, match="takes a solver"):
        PerturbAndMAP(scores, None)
    for event_dim in (-1, 3, 1.0):
        with pytest.raises(ValueError, match=r"scores of shape \(3, 4\) and event_dim="):
            PerturbAndMAP(scores, matching, event_dim=event_dim)
    with pytest.raises(TypeError, match="noise of PerturbAndMAP"):
        PerturbAndMAP(scores, matching, noise=1.0)
    with pytest.raises(ValueError, match=r"broadcasts to \(4,\); got batch \(3,\)"):
        PerturbAndMAP(scores, top_k(1), Normal(torch.zeros(3), 1.0))
    with pytest.raises(ValueError, match=r"broadcasts to \(4,\); got batch \(2, 4\)"):
        PerturbAndMAP(scores, top_k(1), Normal(torch.zeros(2, 4), 1.0))
    with pytest.raises(NotImplementedError, match=r"rp\.LeaveOneOut\(\), n=2"):
        PerturbAndMAP(scores, top_k(1)).log_prob(scores)


def test_noise_is_taken_as_constant():
    spread = torch.tensor(2.0, requires_grad=True)
    scores = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    q = PerturbAndMAP(scores, top_k(1), Normal(0.0, spread)).expand((3,))
    assert q.sample().dtype == torch.float64
    value = rp.expect(lambda z: z[..., 0], q, estimator=rp.LeaveOneOut(), n=4).sum()
    assert torch.autograd.grad(value, spread, allow_unused=True) == (None,)


class SumOfGammas(rp.distributions.Law):
    """The sum of k of them is nearly a Gumbel variable; arXiv:2106.01798, section 3.2."""

    arg_constraints = {"scale": constraints.positive}
    support = constraints.real

    def __init__(self, k, scale):
        self.k, self.scale = k, scale
        super().__init__(scale.shape)


@rp.path.register
def sum_of_gammas_path(d: SumOfGammas) -> rp.Path:
    i = torch.arange(1, 11, dtype=d.scale.dtype)
    gammas = rp.path(Gamma(torch.full((*d.batch_shape, 10), 1 / d.k, dtype=d.scale.dtype), i / d.k))

    def total(x):
        return d.scale / d.k * (x.sum(-1) - math.log(10))

    return rp.Path(
        gammas.noise, lambda eps: total(gammas.push(eps)), None, lambda rows, generator: total(gammas.sample(rows, generator))
    )


def test_noise_may_be_any_law_with_a_path():
    """The mean of the noise is (1 + 1/2 + ... + 1/10 - log 10) / 2; an error of 0.03 is caught."""
    noise = SumOfGammas(2, torch.tensor(1.0))
    scores = torch.zeros(4, requires_grad=True)
    q = PerturbAndMAP(scores, top_k(2), noise)
    x = rp.sample(q.perturbed, (20_000,), source=fresh())
    verdict = mean_test(x[:, 0].double(), (sum(1 / i for i in range(1, 11)) - math.log(10)) / 2)
    assert verdict.detectable < 0.1
    assert verdict
    rp.expect(lambda z: (z[..., 0] - 1) ** 2, q, estimator=rp.ImplicitMLE(), n=50, source=fresh()).backward()
    assert scores.grad[0] < 0


# Estimators

SCORES = torch.tensor([[0.5, -1.0, 0.2], [0.0, 0.7, -0.3]], dtype=torch.float64)


def matched(scores):
    square = scores.unsqueeze(-1) * torch.tensor([1.0, -0.5, 0.2], dtype=scores.dtype)
    return PerturbAndMAP(square, matching, event_dim=2)


SERVED = {
    "SIMPLE": (rp.SIMPLE(), lambda s: KSubset(2, s), 1),
    "implicit MLE": (rp.ImplicitMLE(0.5), lambda s: PerturbAndMAP(s, top_k(2)), 1),
    "score": (rp.LeaveOneOut(), lambda s: PerturbAndMAP(s, top_k(2)), 1),
    "Sinkhorn": (rp.GumbelSinkhorn(0.8), matched, 2),
    "Sinkhorn, hard": (rp.GumbelSinkhorn(0.8, hard=True), matched, 2),
}
served = pytest.mark.parametrize("name", SERVED)


def gradient_of(value, scores):
    return torch.autograd.grad(value.sum(), scores)[0]


@served
def test_a_batch_may_be_summed_or_be_an_event(name):
    """The gradient of a sum of costs is the same however it was summed; the score function gives credit for all of the sum."""
    estimator, law, dims = SERVED[name]
    scores = SCORES.clone().requires_grad_()

    def f(z):
        return (z**2 * torch.arange(1.0, 4.0, dtype=z.dtype)).flatten(-dims).sum(-1)

    kept = gradient_of(rp.expect(f, law(scores), estimator=estimator, n=16, source=fresh()), scores)
    summed = gradient_of(rp.expect(lambda z: f(z).sum(-1), law(scores), estimator=estimator, n=16, source=fresh()), scores)
    joint = Independent(law(scores), 1)
    event = gradient_of(rp.expect(lambda z: f(z).sum(-1), joint, estimator=estimator, n=16, source=fresh()), scores)
    torch.testing.assert_close(summed, event)
    if name == "score":
        assert not torch.allclose(kept, event)
    else:
        torch.testing.assert_close(kept, event)


@served
def test_a_draw_may_be_shared_by_the_rows_of_another_node(name):
    estimator, law, dims = SERVED[name]
    scores = SCORES.clone().requires_grad_()

    def f(z):
        return (z**2 * torch.arange(1.0, 4.0, dtype=z.dtype)).flatten(-dims).sum(-1)

    def model(sample):
        b = sample("b", Bernoulli(torch.full((2,), 0.5, dtype=torch.float64)))
        return f(sample("z", law(scores))) + 0 * b

    alone = rp.expect(f, law(scores), estimator=estimator, n=4, source=fresh())
    sources = {"z": fresh()}
    estimators = {"z": estimator, "b": rp.Score()}
    shared = rp.graph(model, estimators=estimators, n={"z": 4, "b": 3}, batch_shape=(2,), source=sources)
    torch.testing.assert_close(shared, alone)
    torch.testing.assert_close(gradient_of(shared, scores), gradient_of(alone, scores))


@served
def test_without_a_graph_there_is_a_value(name):
    estimator, law, dims = SERVED[name]
    with torch.no_grad():
        value = rp.expect(lambda z: z.flatten(-dims).sum(-1), law(SCORES), estimator=estimator, n=2)
    torch.testing.assert_close(value, torch.full((2,), 2.0 if dims == 1 else 3.0, dtype=torch.float64))


@served
def test_a_cost_without_slopes_is_refused(name):
    estimator, law, dims = SERVED[name]
    if name == "score":
        return
    scores = SCORES.clone().requires_grad_()
    with pytest.raises(ValueError, match="no gradient in the sample"):
        rp.expect(lambda z: (z > 0.5).double().flatten(-dims).sum(-1), law(scores), estimator=estimator, n=2)


def test_a_law_that_is_not_served_is_refused():
    for estimator in (rp.SIMPLE(), rp.ImplicitMLE(), rp.GumbelSinkhorn(1.0)):
        for q in (Poisson(3.0), Independent(Poisson(torch.ones(2)), 1)):
            with pytest.raises(NotImplementedError, match=rf"{type(estimator).__name__} is for .* use "):
                rp.expect(lambda z: z, q, estimator=estimator, n=2)
    with pytest.raises(ValueError, match=r"square matrices of scores, got an event of shape \(3,\)"):
        rp.expect(lambda z: z.sum(-1), PerturbAndMAP(SCORES, top_k(1)), estimator=rp.GumbelSinkhorn(1.0), n=2)


def test_settings_that_are_refused():
    for strength in (0.0, -1.0, math.inf, math.nan, "1"):
        with pytest.raises(ValueError, match="strength of ImplicitMLE"):
            rp.ImplicitMLE(strength)
    for temperature in (0.0, -1.0, math.nan, torch.tensor(0.0)):
        with pytest.raises(ValueError, match="must be positive and finite"):
            rp.GumbelSinkhorn(temperature)
    with pytest.raises(ValueError, match="number of iterations"):
        rp.GumbelSinkhorn(1.0, 0)
    q = PerturbAndMAP(SCORES.clone().requires_grad_(), top_k(1))
    foreign = rp.LeaveOneOut().draw(q, 2, None)
    with pytest.raises(ValueError, match="the estimator that drew it"):
        rp.ImplicitMLE().weigh(foreign, foreign.value.sum(-1))


def test_sinkhorn_is_doubly_stochastic_and_tends_to_the_matching():
    scores = torch.randn(20, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    soft = sinkhorn(scores, 200)
    for dim in (-1, -2):
        torch.testing.assert_close(soft.sum(dim), torch.ones(20, 5, dtype=torch.float64), rtol=1e-6, atol=0.0)
    torch.testing.assert_close(sinkhorn(scores / 1e-3, 5000), matching(scores), rtol=0.0, atol=0.05)
    assert sinkhorn(1e4 * scores).isfinite().all()


def test_temperature_may_be_learned():
    temperature = torch.tensor(1.0, requires_grad=True)
    q = PerturbAndMAP(torch.zeros(3, 3), matching, event_dim=2)
    rp.expect(lambda z: z[..., 0, 0] ** 2, q, estimator=rp.GumbelSinkhorn(temperature), n=8, source=fresh()).backward()
    assert temperature.grad.abs() > 0


def test_torch_func():
    """SIMPLE by `grad` and `vmap`, from noise that is given."""
    u = torch.rand(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def loss(logits):
        q = KSubset(2, logits, validate_args=False)
        return rp.expect(lambda z: (z[..., 0] - 0.3) ** 2 + z[..., 1], q, estimator=rp.SIMPLE(), n=4, source=rp.Replay(u))

    logits = LOGITS.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(loss(logits), logits)
    torch.testing.assert_close(torch.func.grad(loss)(LOGITS), wanted)
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(loss))(torch.stack([LOGITS, LOGITS]))[1], wanted)


@pytest.mark.parametrize(
    ("estimator", "law"),
    [(rp.SIMPLE(), KSubset), (rp.LeaveOneOut(), KSubset), (rp.LeaveOneOut(), lambda k, x, **known: PlackettLuce(x, **known))],
    ids=["SIMPLE", "subset", "order"],
)
def test_compile(estimator, law):
    def loss(logits):
        return rp.expect(lambda z: (z[..., 0] - 0.3) ** 2, law(2, logits, validate_args=False), estimator=estimator, n=4)

    logits = torch.zeros(3, requires_grad=True)
    (slopes,) = torch.autograd.grad(torch.compile(loss, backend="aot_eager", fullgraph=True)(logits), logits)
    torch.testing.assert_close(slopes.sum().item(), 0.0, rtol=0.0, atol=1e-6)


# Learning


def selection():
    """Which two of eight features does y depend on?"""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(200, 8, generator=g)
    y = x[:, 1] - 2 * x[:, 4]

    def f(z):
        w = torch.tensor([0.0, 1.0, 0.0, 0.0, -2.0, 0.0, 0.0, 0.0])
        return ((z * w) @ x.T - y).square().mean(-1)

    return 8, f


def ordering():
    """Which order sorts x?"""
    x = torch.tensor([0.3, -1.0, 2.0, 0.9, -0.2])
    wanted = x.sort().values

    def f(z):
        return ((z @ x if z.is_floating_point() and z.dim() > 1 and z.shape[-2:] == (5, 5) else x[z]) - wanted).square().sum(-1)

    return 5, f


EDGES = list(combinations(range(4), 2))


def spanning_tree(scores):
    """Of the six edges between four nodes, the three of the best tree."""
    z = torch.zeros_like(scores).reshape(-1, 6)
    for value, score in zip(z, scores.reshape(-1, 6).double(), strict=True):
        weights = torch.zeros(4, 4, dtype=torch.float64)
        weights[tuple(zip(*EDGES, strict=True))] = torch.exp(-score)
        tree = minimum_spanning_tree(weights.numpy()).toarray()
        value.copy_(torch.tensor([tree[edge] > 0 for edge in EDGES]))
    return z.reshape(scores.shape)


def star():
    """Which tree has no edge but those of node 2?"""
    away = torch.tensor([float(2 not in edge) for edge in EDGES])
    return 6, lambda z: (z * away).sum(-1)


LEARNERS = {
    "SIMPLE": (rp.SIMPLE(), lambda s: KSubset(2, s), selection),
    "score of subsets": (rp.LeaveOneOut(), lambda s: KSubset(2, s), selection),
    "implicit MLE": (rp.ImplicitMLE(), lambda s: PerturbAndMAP(s, top_k(2)), selection),
    "score through a solver": (rp.LeaveOneOut(), lambda s: PerturbAndMAP(s, top_k(2)), selection),
    "score of orders": (rp.LeaveOneOut(), PlackettLuce, ordering),
    "Sinkhorn": (rp.GumbelSinkhorn(1.0), lambda s: PerturbAndMAP(s.reshape(5, 5), matching, event_dim=2), ordering),
    "spanning tree": (rp.ImplicitMLE(), lambda s: PerturbAndMAP(s, spanning_tree), star),
    "matching": (rp.ImplicitMLE(), lambda s: PerturbAndMAP(s.reshape(5, 5), matching, event_dim=2), ordering),
}


@pytest.mark.parametrize("name", LEARNERS)
def test_it_learns(name):
    """The mean cost over samples of the discrete law falls below a tenth of what it was."""
    estimator, law, problem = LEARNERS[name]
    size, f = problem()
    scores = torch.zeros(size**2 if name in ("Sinkhorn", "matching") else size, requires_grad=True)
    optimizer, source = torch.optim.Adam([scores], lr=0.1), fresh(1)

    def mean_cost():
        return f(rp.sample(law(scores.detach()), (200,), source=fresh(2))).mean()

    before = mean_cost()
    for _ in range(200):
        optimizer.zero_grad()
        rp.expect(f, law(scores), estimator=estimator, n=8, source=source).backward()
        optimizer.step()
    assert mean_cost() < before / 10
