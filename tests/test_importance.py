"""Importance-weighted bounds against quadrature, enumeration and closed forms; their rates.

The model is that of tests/test_objectives.py with a weight: p(z) = N(0, 1), p(x | z) = N(weight z, 1), x = 1. Every statistical
assertion compares the mean of `M` independent estimates with its exact value; it raises a false alarm once in 1e9 runs, and
asserts that it would catch an error of 5 % of the truth's scale (or what the test says).
"""

import math
from itertools import product

import numpy
import pytest
import torch
from torch.distributions import (
    Bernoulli,
    Categorical,
    Exponential,
    Gamma,
    Independent,
    Normal,
    OneHotCategorical,
    Poisson,
    TanhTransform,
    TransformedDistribution,
    Uniform,
)

import reparam as rp
from reparam.objectives.importance import _without_each
from reparam.stats import mean_test

M = 400_000
EVIDENCE = -1.5155121234846454
MU, SIGMA, WEIGHT = 0.8, 0.6, 1.0
BOUNDS = {f.__name__: f for f in (rp.iwae, rp.stl, rp.dreg, rp.vimco)}
ALL = {**BOUNDS, "renyi": lambda *args, **options: rp.renyi(*args, 0.5, **options)}


def fresh(seed=0):
    return rp.Fresh(torch.Generator().manual_seed(seed))


def double(*values):
    return [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in values]


def prior():
    return Normal(torch.zeros((), dtype=torch.float64), 1.0)


def assert_mean(samples, truth, detects=0.05):
    verdict = mean_test(samples.detach(), float(truth))
    assert verdict.detectable <= detects * max(1.0, abs(float(truth))), f"too few samples to say: {verdict.detectable}"
    assert verdict, verdict


def estimates(objective, k, n=1, seed=0):
    """Values and gradients in mu, sigma and weight of `M` estimates."""
    leaves = [torch.full((M,), v, dtype=torch.float64, requires_grad=True) for v in (MU, SIGMA, WEIGHT)]
    q = Normal(*leaves[:2])
    bound = objective(lambda z: Normal(z * leaves[2], 1.0).log_prob(torch.ones(())), q, prior=prior(), k=k, n=n, source=fresh(seed))
    assert bound.shape == (M,)
    return bound.detach(), *torch.autograd.grad(bound.sum(), leaves)


def by_quadrature(bound_of, nodes=96, *, cut=False):
    """E of a function of two log-weights, and its derivatives; with `cut`, the gradient that leaves log q's parameters out."""
    mu, sigma, weight = double(MU, SIGMA, WEIGHT)
    x, p = (torch.as_tensor(a) for a in numpy.polynomial.hermite_e.hermegauss(nodes))
    z = mu + sigma * x
    q = Normal(mu.detach(), sigma.detach()) if cut else Normal(mu, sigma)
    log_w = prior().log_prob(z) + Normal(z * weight, 1.0).log_prob(torch.ones(())) - q.log_prob(z)
    pair = torch.stack([log_w.unsqueeze(1).expand(nodes, nodes), log_w.expand(nodes, nodes)])
    value = (bound_of(pair) * p.unsqueeze(1) * p).sum() / p.sum() ** 2
    return value.detach(), *torch.autograd.grad(value, (mu, sigma, weight))


def log_mean(log_w):
    return log_w.logsumexp(0) - math.log(len(log_w))


def test_quadrature_has_converged():
    for few, many in zip(by_quadrature(log_mean, 48), by_quadrature(log_mean, 96), strict=True):
        assert abs(few - many) < 1e-7


@pytest.mark.parametrize("name", BOUNDS)
def test_value_and_gradient_of_two_samples(name):
    exact = by_quadrature(log_mean)
    if name == "stl":  # its bias, as documented: what is cut has not mean zero
        biased = by_quadrature(log_mean, cut=True)
        assert abs(biased[1] - exact[1]) > 0.2
        exact = (exact[0], *biased[1:3], exact[3])
    for found, wanted in zip(estimates(BOUNDS[name], 2), exact, strict=True):
        assert_mean(found, wanted)


@pytest.mark.parametrize("name", BOUNDS)
def test_bounds_are_averaged(name):
    exact = by_quadrature(log_mean, cut=name == "stl")
    for found, wanted in zip(estimates(BOUNDS[name], 2, 3, seed=1), (by_quadrature(log_mean)[0], *exact[1:]), strict=True):
        assert_mean(found, wanted)


@pytest.mark.parametrize("alpha", [-1.0, 0.0, 0.5, 1.0, 2.0])
def test_renyi_of_two_samples(alpha):
    def bound(log_w):
        return log_w.mean(0) if alpha == 1 else ((1 - alpha) * log_w).logsumexp(0).sub(math.log(2)) / (1 - alpha)

    for found, wanted in zip(estimates(lambda f, q, **kw: rp.renyi(f, q, alpha, **kw), 2), by_quadrature(bound), strict=True):
        assert_mean(found, wanted)


@pytest.mark.parametrize("other", [rp.dreg, rp.vimco])
@pytest.mark.parametrize("law", ["gamma", "vector", "summed"])
def test_same_expected_gradient_for_other_laws(law, other):
    """Against `iwae` itself, whose gradient is plain differentiation: the mean difference of the gradients is zero."""
    draws = 100_000
    shape = (draws,) if law == "gamma" else (draws, 2)

    def gradients(objective, seed):
        a = torch.full(shape, 1.7, dtype=torch.float64, requires_grad=True)
        if law == "gamma":
            q, p = Gamma(a, 1.3), Gamma(torch.tensor(1.0, dtype=torch.float64), 1.0)
        else:
            q, p = Normal(0.4 * a, 0.7), Normal(torch.zeros(2, dtype=torch.float64), 1.0)
        if law == "vector":
            q, p = Independent(q, 1), Independent(p, 1)

        def log_density(z):
            return -((z - 1.0) ** 2) if law == "gamma" else -((z.sum(-1) - 1.0) ** 2)

        bound = objective(log_density, q, prior=p, k=3, source=fresh(seed))
        assert bound.shape == (draws,)
        return torch.autograd.grad(bound.sum(), a)[0].reshape(draws, -1)[:, 0]

    assert_mean(gradients(other, 0) - gradients(rp.iwae, 1), 0.0, detects=0.05)


# Discrete latents: every tuple of k values, enumerated.
LOGITS, LIKELIHOOD, PRIOR = [0.4, -0.3, 0.1, -0.6], [0.7, -0.9, -2.0, 0.3], [0.1, 0.4, 0.3, 0.2]


def enumerated(k, of):
    """Σ over all k values of P(values) · of(log_w, log_q, log P(values)), in the graph of the logits and of the likelihood."""
    logits, likelihood = double(LOGITS, LIKELIHOOD)
    index = torch.tensor(list(product(range(4), repeat=k))).T  # k, 4^k
    log_q = logits.log_softmax(-1)[index]
    log_w = likelihood[index] + torch.tensor(PRIOR, dtype=torch.float64).log()[index] - log_q
    total = of(log_w, log_q, log_q.sum(0).exp()).sum()
    return total.detach(), *torch.autograd.grad(total, (logits, likelihood), allow_unused=True, materialize_grads=True)


def discrete(objective, law=Categorical):
    leaves = [torch.tensor(v, dtype=torch.float64).expand(M, 4).clone().requires_grad_() for v in (LOGITS, LIKELIHOOD)]

    def log_density(z):
        if law is OneHotCategorical:
            return (z * leaves[1]).sum(-1)
        return leaves[1].expand((*z.shape, 4)).gather(-1, z.unsqueeze(-1)).squeeze(-1)

    p = law(torch.tensor(PRIOR, dtype=torch.float64))
    value = objective(log_density, law(logits=leaves[0]), prior=p, source=fresh(2))
    return value.detach(), *torch.autograd.grad(value.sum(), leaves, allow_unused=True, materialize_grads=True)


def assert_means(found, wanted):
    for estimate, truth in zip(found, wanted, strict=True):
        for column, exact in zip(estimate.reshape(M, -1).T, truth.reshape(-1), strict=True):
            if column.abs().max() == 0:
                assert exact == 0
            else:
                assert_mean(column, exact)


@pytest.mark.parametrize("law", [Categorical, OneHotCategorical])
@pytest.mark.parametrize("k", [2, 3])
def test_vimco_of_a_discrete_latent(law, k):
    wanted = enumerated(k, lambda log_w, log_q, p: p * log_mean(log_w))
    assert_means(discrete(lambda *args, **options: rp.vimco(*args, k=k, **options), law), wanted)


def test_wake_phase_is_two_gradients():
    def model(log_w, log_q, p):
        return p.detach() * log_mean(log_w + log_q - log_q.detach())

    def proposal(log_w, log_q, p):
        return p.detach() * (log_w.detach().softmax(0) * log_q).sum(0)

    for part in (0, 1):
        wanted = enumerated(2, (model, proposal)[part])
        assert_means(discrete(lambda *args, part=part, **options: rp.wake_phase(*args, k=2, **options)[part]), wanted)
    logits = enumerated(2, model)[1]
    assert (logits == 0).all(), "the model's phase leaves the proposal alone"


def test_wake_proposal_approaches_the_posterior():
    """E_posterior ∇ log q, up to a bias of 1/k: at k = 100 below 0.02."""
    logits, likelihood = double(LOGITS, LIKELIHOOD)
    posterior = (likelihood.exp() * torch.tensor(PRIOR)).detach()
    wanted = posterior / posterior.sum() - logits.softmax(-1).detach()
    q = Categorical(logits=logits)
    wake = rp.wake_phase(
        lambda z: likelihood.detach()[z], q, prior=Categorical(torch.tensor(PRIOR)), k=100, n=20_000, source=fresh()
    )
    assert torch.allclose(torch.autograd.grad(wake.proposal, logits)[0], wanted, atol=0.02)
    assert wanted.abs().max() > 0.1


def test_sleep_phase_reaches_the_proposal_only():
    logits, dream = double([[0.1, 0.2, 0.3]] * 5, [1.0] * 5)
    q, z = Categorical(logits=logits), torch.arange(5) % 3
    assert torch.equal(rp.sleep_phase(q, z), q.log_prob(z))
    q = Normal(logits[:, 0], 1.0)
    assert torch.autograd.grad(rp.sleep_phase(q, dream).sum(), dream, allow_unused=True) == (None,)
    assert rp.sleep_phase(q, torch.zeros(7, 5)).shape == (7, 5)
    with pytest.raises(ValueError, match=r"latents of shape \(4,\)"):
        rp.sleep_phase(q, torch.zeros(4))


# The bound itself.


def exact_bound(k):
    """With the prior as proposal: E log S = ∫ (e^-t − E e^-tS) dt/t, S the sum of k weights p(x | z), by the trapezium rule."""
    z = torch.linspace(-13, 13, 6001, dtype=torch.float64)
    p = prior().log_prob(z).exp()
    p, w = p / p.sum(), Normal(z, 1.0).log_prob(torch.ones(())).exp()
    u = torch.linspace(-40, 60, 4001, dtype=torch.float64)
    t = u.exp()
    laplace = torch.stack([(p * (-ti * w).exp()).sum() for ti in t])
    return (torch.trapezoid((-t).exp() - laplace**k, u) - math.log(k)).item()


@pytest.mark.parametrize(("k", "stated", "digits"), [(1, -1.91894, 1e-5), (5, -1.558, 1e-3), (50, -1.5192, 1e-4)])
def test_values_at_the_prior(k, stated, digits):
    exact = exact_bound(k)
    # TRUTHS.md has -1.5207 for k = 50, from a simulation: the integral, the expansion in 1/k below and our samples say -1.5192.
    assert abs(exact - stated) < digits
    draws = 200_000
    q = Normal(torch.zeros(draws, dtype=torch.float64), 1.0)
    found = rp.iwae(lambda z: Normal(z, 1.0).log_prob(torch.ones(())), q, prior=prior(), k=k, source=fresh())
    assert_mean(found, exact, detects=0.02 / math.sqrt(k))


def test_limit_is_the_evidence():
    """The gap is χ²(posterior, prior) / 2k up to terms in 1/k²."""
    k, draws = 2000, 4000
    second = Normal(0.0, math.sqrt(1.5)).log_prob(torch.ones(())).exp().item() / (2 * math.sqrt(math.pi))
    chi2 = second / math.exp(2 * EVIDENCE) - 1
    q = Normal(torch.zeros(draws, dtype=torch.float64), 1.0)
    found = rp.iwae(lambda z: Normal(z, 1.0).log_prob(torch.ones(())), q, prior=prior(), k=k, source=fresh())
    assert_mean(found, EVIDENCE - chi2 / (2 * k), detects=0.002)


def test_renyi_limits_are_ordered():
    """1/s log E w^s for s = 1 − α at the prior, in closed form; less its bias for k samples."""
    k, draws = 500, 4000

    def log_moment(s):  # log E p(x | z)^s
        return -0.5 * s * math.log(2 * math.pi) - 0.5 * math.log1p(s) - 0.5 * s / (1 + s)

    q = Normal(torch.zeros(draws, dtype=torch.float64), 1.0)
    values = []
    for alpha in (-1.0, 0.0, 0.5, 1.2):
        s = 1 - alpha
        bias = (math.exp(log_moment(2 * s) - 2 * log_moment(s)) - 1) / (2 * k * s)
        found = rp.renyi(lambda z: Normal(z, 1.0).log_prob(torch.ones(())), q, alpha, prior=prior(), k=k, source=fresh())
        values.append(log_moment(s) / s)
        assert_mean(found, values[-1] - bias, detects=0.01)
    assert values[0] > EVIDENCE > values[2] > -1.9189385 > values[3]
    assert abs(values[1] - EVIDENCE) < 1e-12


@pytest.mark.parametrize("alpha", [1 + 1e-9, 1 - 1e-9, 1 + 1e-6, 1 - 1e-6])
def test_renyi_is_smooth_at_the_evidence_lower_bound(alpha):
    def value(alpha):
        mu = torch.tensor(0.8, requires_grad=True)
        bound = rp.renyi(lambda z: -((z - 1) ** 2), Normal(mu, 0.6), alpha, k=64, source=fresh())
        return torch.stack([bound, torch.autograd.grad(bound, mu)[0]])

    assert torch.allclose(value(alpha), value(1.0), rtol=1e-5)


# Rates.


def test_signal_to_noise_rates():
    """Slopes of log SNR in log K for the mean of the proposal, K = 16 … 1024: TRUTHS.md.

    Each is the mean of the slopes of 20 independent blocks, of standard error below 0.008, so that an error of 0.05 is six of
    them. The mean gradient of `iwae` is that of `dreg`, which is known far better.
    """
    ks, blocks, draws = (16, 64, 256, 1024), 20, 300
    log_k = torch.tensor(ks, dtype=torch.float64).log()
    sigma = math.sqrt(0.5) * math.exp(0.1)
    mean, deviation = {}, {}
    for name in ("dreg", "iwae", "stl"):
        moments = []
        for k in ks:
            mu = torch.full((blocks, draws), 0.8, dtype=torch.float64, requires_grad=True)
            q = Normal(mu, sigma)
            bound = BOUNDS[name](lambda z: Normal(z, 1.0).log_prob(torch.ones(())), q, prior=prior(), k=k, source=fresh(k))
            (g,) = torch.autograd.grad(bound.sum(), mu)
            moments.append((g.mean(1), g.std(1)))
        mean[name], deviation[name] = (torch.stack(m, -1) for m in zip(*moments, strict=True))

    def slope(name, signal):
        snr = (signal.abs() / deviation[name]).log()
        centred = log_k - log_k.mean()
        slopes = (snr * centred).sum(-1) / centred.pow(2).sum()
        assert slopes.std() / math.sqrt(blocks) < 0.008
        return slopes.mean().item()

    assert abs(slope("dreg", mean["dreg"]) - 0.5) < 0.05
    assert abs(slope("iwae", mean["dreg"].mean(0)) + 0.5) < 0.05
    assert abs(slope("stl", mean["stl"]) - 0.5) < 0.05
    # Biased: its mean is another one, by more than ten standard errors at every K.
    error = (mean["stl"] - mean["dreg"]).mean(0)
    noise = ((mean["stl"] - mean["dreg"]).var(0) / blocks).sqrt()
    assert (error.abs() > 10 * noise).all()


def test_nothing_is_left_of_the_noise_at_the_posterior():
    for objective in (rp.dreg, rp.stl):
        mu, sigma = double(0.5, math.sqrt(0.5))
        bound = objective(lambda z: Normal(z, 1.0).log_prob(torch.ones(())), Normal(mu, sigma), prior=prior(), k=10, source=fresh())
        assert abs(bound.item() - EVIDENCE) < 1e-12
        for gradient in torch.autograd.grad(bound, (mu, sigma)):
            assert abs(gradient) < 1e-12


# Shapes and numbers.


@pytest.mark.parametrize("name", ALL)
def test_a_batch_that_the_density_sums_is_one_datum(name):
    g = torch.Generator().manual_seed(0)
    mu = torch.randn(4, 3, dtype=torch.float64, generator=g)
    p = Normal(torch.zeros(3, dtype=torch.float64), 1.0)

    def log_density(z):
        return -((z - 1.0) ** 2).sum(-1)

    summed = ALL[name](log_density, Normal(mu, 0.8), prior=p, k=5, n=2, source=fresh())
    joined = ALL[name](log_density, Independent(Normal(mu, 0.8), 1), prior=Independent(p, 1), k=5, n=2, source=fresh())
    assert summed.shape == (4,)
    assert torch.allclose(summed, joined)


@pytest.mark.parametrize("name", [*ALL, "wake"])
@pytest.mark.parametrize("impossible", ["some", "all"])
def test_impossible_samples(name, impossible):
    mu = torch.zeros(200, requires_grad=True)

    def log_density(z):
        possible = z > 0.5 if impossible == "some" else z > 50
        return torch.where(possible, -(z**2), -math.inf)

    if name == "wake":
        bound = sum(rp.wake_phase(log_density, Normal(mu, 1.0), k=2, source=fresh()))
    else:
        bound = ALL[name](log_density, Normal(mu, 1.0), k=2, source=fresh())
    (g,) = torch.autograd.grad(bound.sum(), mu)
    assert g.isfinite().all()
    assert not bound.isnan().any()
    assert (bound == -math.inf).all() if impossible == "all" else bound.isfinite().any()
    assert (g == 0).all() if impossible == "all" else (g != 0).any()


def test_leave_one_out_bounds_by_definition():
    log_w = torch.randn(1, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 300
    log_w[0, 1, 0] = log_w[0, 3, 0] = log_w[0, 3, 1] = -math.inf
    found = _without_each(log_w)
    for i in range(5):
        others = torch.cat([log_w[:, :i], log_w[:, i + 1 :]], 1)
        wanted = torch.cat([others, others.mean(1, keepdim=True)], 1).logsumexp(1) - math.log(5)
        assert torch.allclose(found[:, i], wanted, rtol=1e-12)


def test_gradient_of_vimco_by_definition():
    """(L − L₋ᵢ) ∇ log q(zᵢ) − w̃ᵢ ∇ log q(zᵢ), summed over the samples that were drawn."""
    logits, likelihood = double(LOGITS, LIKELIHOOD)
    drawn = []
    q = Categorical(logits=logits)
    bound = rp.vimco(lambda z: drawn.append(z) or likelihood.detach()[z], q, k=5, source=fresh(3))
    (found,) = torch.autograd.grad(bound, logits, retain_graph=True)
    log_q = q.log_prob(drawn[0])
    log_w = (likelihood[drawn[0]] - log_q).detach()
    wanted = torch.zeros(4, dtype=torch.float64)
    for i in range(5):
        others = torch.cat([log_w[:i], log_w[i + 1 :]])
        without = log_mean(torch.cat([others, others.mean(0, keepdim=True)]))
        (score,) = torch.autograd.grad(log_q[i], logits, retain_graph=True)
        wanted += (log_mean(log_w) - without - log_w.softmax(0)[i]) * score
    assert torch.allclose(found, wanted)


def test_nothing_is_differentiated_through_scored_samples():
    mu = torch.zeros(5, requires_grad=True)
    for law in (Normal(mu, 1.0), TransformedDistribution(Normal(mu, 1.0), [TanhTransform(cache_size=1)])):
        wake = rp.wake_phase(lambda z: -(z**2), law, k=3)
        assert not wake.model.requires_grad
        assert wake.proposal.requires_grad


def test_a_relaxed_proposal():
    logits = torch.zeros(3, requires_grad=True)
    p = rp.relaxed(Bernoulli(logits=torch.full((3,), -1.0)), 0.5)
    for objective in (rp.iwae, rp.dreg):
        bound = objective(lambda z: -((z - 0.3) ** 2), rp.relaxed(Bernoulli(logits=logits), 0.5), prior=p, k=4, source=fresh())
        assert (torch.autograd.grad(bound.sum(), logits)[0] != 0).all()


def test_a_transform_that_remembers_its_inverse():
    gradients = []
    for cache_size in (0, 1):
        loc = torch.zeros(5, dtype=torch.float64, requires_grad=True)
        q = TransformedDistribution(Normal(loc, 0.5), [TanhTransform(cache_size=cache_size)])
        gradients.append(torch.autograd.grad(rp.dreg(lambda z: -((z - 0.3) ** 2), q, k=4, source=fresh()).sum(), loc)[0])
    assert torch.allclose(*gradients, rtol=1e-9)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch itself, where it breaks the graph of dreg
def test_transforms_of_torch():
    p = Normal(torch.zeros(()), 1.0, validate_args=False)

    def bound(objective, noise):
        def of(mu):
            q = Normal(mu, 1.0, validate_args=False)  # the compiler cannot look at numbers
            return objective(lambda z: -((z - 1.0) ** 2), q, prior=p, k=4, source=rp.Replay(noise)).sum()

        return of

    mu, noise = torch.tensor([0.3, 0.5]), torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    for name, objective in ALL.items():
        leaf = mu.clone().requires_grad_()
        (wanted,) = torch.autograd.grad(bound(objective, noise)(leaf), leaf)
        assert torch.allclose(torch.func.grad(bound(objective, noise))(mu), wanted), name
        assert torch.allclose(torch.func.vmap(torch.func.grad(bound(objective, noise)))(mu.expand(3, 2)), wanted), name
        leaf = mu.clone().requires_grad_()
        compiled = torch.compile(bound(objective, noise), backend="aot_eager", fullgraph=name != "dreg")  # as documented
        assert torch.allclose(torch.autograd.grad(compiled(leaf), leaf)[0], wanted), name


@pytest.mark.parametrize("objective", [rp.dreg, rp.vimco])
def test_second_derivatives_are_refused(objective):
    mu = torch.zeros((), requires_grad=True)
    bound = objective(lambda z: -((z - 1.0) ** 2), Normal(mu, 1.0), k=4)
    (g,) = torch.autograd.grad(bound, mu, create_graph=True)
    with pytest.raises(NotImplementedError, match="first derivatives only"):
        torch.autograd.grad(g, mu)


@pytest.mark.parametrize("objective", [rp.dreg, rp.vimco])
def test_mixed_second_derivatives_are_refused(objective):
    """The weights in the gradient of q are constants, so that its derivative in the model would lack a share."""
    mu, weight = double(0.3, 0.7)
    bound = objective(lambda z: -((z * weight - 1.0) ** 2), Normal(mu, 1.0), k=4)
    (g,) = torch.autograd.grad(bound, mu, create_graph=True)
    with pytest.raises((NotImplementedError, RuntimeError), match=r"first derivatives only|not have been used in the graph"):
        torch.autograd.grad(g, weight)


def test_dreg_refuses_forward_mode():
    with pytest.raises(NotImplementedError, match="use reverse mode"):
        torch.func.jvp(lambda mu: rp.dreg(lambda z: -(z**2), Normal(mu, 1.0), k=2), (torch.zeros(3),), (torch.ones(3),))


@pytest.mark.parametrize("name", [name for name in ALL if name != "dreg"])
def test_forward_mode_is_reverse_mode(name):
    eps, tangent = torch.randn(4, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([1.0, -2.0])

    def bound(mu):
        return ALL[name](lambda z: -((z - 1.0) ** 2), Normal(mu, 1.0), k=4, source=rp.Replay(eps)).sum()

    mu = torch.tensor([0.3, 0.5], requires_grad=True)
    wanted = torch.autograd.grad(bound(mu), mu)[0] @ tangent
    assert torch.allclose(torch.func.jvp(bound, (mu.detach(),), (tangent,))[1], wanted)


@pytest.mark.parametrize("name", ALL)
def test_precisions_may_differ_and_batches_be_empty(name):
    mu = torch.zeros(3, requires_grad=True)
    bound = ALL[name](lambda z: -((z.double() - 1.0) ** 2), Normal(mu, 1.0), k=4)
    (g,) = torch.autograd.grad(bound.sum(), mu)
    assert (bound.dtype, g.dtype) == (torch.float64, torch.float32)
    assert (g != 0).all()
    assert ALL[name](lambda z: -(z**2), Normal(mu[:0], 1.0), k=4, n=2).shape == (0,)


# Bad use.


@pytest.mark.parametrize("name", ALL)
def test_wrong_use_is_an_error(name):
    objective, q = ALL[name], Normal(torch.zeros(3), 1.0)
    for k in (0, -1, 2.5, True, None):
        with pytest.raises(ValueError, match="number of samples k must be a positive integer"):
            objective(lambda z: -(z**2), q, k=k)
    with pytest.raises(ValueError, match="number of bounds n must be a positive integer"):
        objective(lambda z: -(z**2), q, k=2, n=0)
    with pytest.raises(ValueError, match="leading part of batch"):
        objective(lambda z: -(z**2).mean(), q, k=2)
    with pytest.raises(ValueError, match="the cost has shape"):
        objective(lambda z: -(z**2).sum(0), q, k=2)
    with pytest.raises(ValueError, match="event shapes must be equal"):
        objective(lambda z: -(z**2), q, prior=Independent(Normal(torch.zeros(3), 1.0), 1), k=2)
    with pytest.raises(ValueError, match="the bound is minus infinity"):
        objective(lambda z: -(z**2), q, prior=Exponential(torch.ones(())), k=2)
    with pytest.raises(TypeError, match=r"expected a torch.distributions.Distribution, got the class Normal"):
        objective(lambda z: -(z**2), q, prior=Normal, k=2)


@pytest.mark.parametrize("name", [name for name in ALL if name != "vimco"])
def test_a_law_without_a_path_is_sent_to_vimco(name):
    for q in (Bernoulli(torch.full((3,), 0.5)), Poisson(torch.ones(3))):
        with pytest.raises(
            rp.NoPathError, match=rf"{name} differentiates through the samples: use rp.vimco.*LeaveOneOut.*is discrete"
        ):
            ALL[name](lambda z: -(z**2), q, k=2)


def test_vimco_needs_two():
    with pytest.raises(ValueError, match="vimco needs k=2"):
        rp.vimco(lambda z: -(z**2), Bernoulli(torch.full((3,), 0.5)), k=1)


@pytest.mark.parametrize("objective", [rp.dreg, rp.vimco])
def test_rows_that_depend_on_each_other_are_refused(objective):
    with pytest.raises(ValueError, match="depend on each other"):
        objective(lambda z: -(z**2), Normal(torch.zeros(3), 1.0), k=2, source=rp.Sobol(seed=0))


@pytest.mark.parametrize("objective", [rp.dreg, rp.stl, rp.vimco, rp.wake_phase])
def test_a_support_that_moves_is_refused(objective):
    with pytest.raises(ValueError, match=r"support of Uniform.* or rp.iwae"):
        objective(lambda z: -z, Uniform(0.0, torch.tensor(2.0, requires_grad=True)), k=2)


@pytest.mark.parametrize("alpha", [math.inf, math.nan, "0.5"])
def test_an_order_that_is_no_finite_number(alpha):
    with pytest.raises(ValueError, match="alpha must be a finite number"):
        rp.renyi(lambda z: -z, Normal(0.0, 1.0), alpha, k=2)
