"""The evidence lower bound against closed forms, with the limits of tests/test_estimators.py."""

import math

import pytest
import torch
from torch.distributions import (
    Bernoulli,
    Beta,
    Binomial,
    Categorical,
    Cauchy,
    Dirichlet,
    Exponential,
    Gamma,
    Independent,
    LogNormal,
    MixtureSameFamily,
    Normal,
    OneHotCategorical,
    Poisson,
    TanhTransform,
    TransformedDistribution,
    Uniform,
    VonMises,
    kl_divergence,
)

import reparam as rp
from reparam.objectives import analytic, sampled, sticking
from test_estimators import M, assert_mean, assert_variance, fresh

# p(z) = N(0, 1), p(x | z) = N(z, 1), x = 1: log p(x) = log N(1; 0, 2), posterior N(1/2, 1/2).
X = torch.tensor(1.0, dtype=torch.float64)
EVIDENCE = -1.5155121234846454


def prior():
    return Normal(torch.zeros((), dtype=torch.float64), 1.0)


def log_likelihood(z):
    return Normal(z, 1.0).log_prob(X)


def log_joint(z):
    return prior().log_prob(z) + log_likelihood(z)


def parameters(mu, sigma):
    return [torch.full((M,), value, dtype=torch.float64, requires_grad=True) for value in (mu, sigma)]


@pytest.mark.parametrize("form", [analytic, sampled, sticking], ids=lambda form: form.__name__)
@pytest.mark.parametrize("estimator", [rp.Pathwise(), rp.LeaveOneOut()], ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("with_prior", [True, False])
def test_value_and_gradient(form, estimator, with_prior):
    mu, sigma = 0.8, 0.6
    leaves = parameters(mu, sigma)
    q = Normal(*leaves)
    if with_prior:
        value = rp.elbo(log_likelihood, q, prior=prior(), kl=form, estimator=estimator, n=2, source=fresh())
    else:
        value = rp.elbo(log_joint, q, kl=form, estimator=estimator, n=2, source=fresh())
    posterior = Normal(0.5, math.sqrt(0.5))
    assert_mean(value.detach(), EVIDENCE - kl_divergence(Normal(mu, sigma), posterior).item())
    by_mu, by_sigma = torch.autograd.grad(value.sum(), leaves)
    assert_mean(by_mu, -(mu - 0.5) / 0.5)
    assert_mean(by_sigma, 1 / sigma - sigma / 0.5)


def test_bound_at_the_prior():
    q = Normal(torch.zeros(M, dtype=torch.float64), 1.0)
    assert_mean(rp.elbo(log_likelihood, q, prior=prior(), source=fresh()), -1.9189385332046727)


def test_gradient_variance_at_the_posterior():
    sigma = math.sqrt(0.5)
    leaves = parameters(0.5, sigma)
    total = rp.elbo(log_joint, Normal(*leaves), kl=sampled, source=fresh())
    by_mu, by_sigma = torch.autograd.grad(total.sum(), leaves)
    assert_variance(by_mu, 1 / sigma**2)
    assert_variance(by_sigma, 2 / sigma**2)
    stuck = rp.elbo(log_joint, Normal(*leaves), kl=sticking, source=fresh())
    for gradient in torch.autograd.grad(stuck.sum(), leaves):
        # Exactly zero in exact arithmetic: every sample gives the difference of two equal numbers of size at most 1e2.
        assert gradient.abs().max() < 1e-12


def test_bound_is_tight_at_the_posterior():
    q = Normal(torch.full((5,), 0.5, dtype=torch.float64), math.sqrt(0.5))
    assert torch.allclose(rp.elbo(log_joint, q, kl=sampled), torch.full((5,), EVIDENCE, dtype=torch.float64), rtol=1e-12)


def test_default_is_closed_form_where_there_is_one():
    q = Normal(torch.zeros(3, dtype=torch.float64), 2.0)
    value = rp.elbo(lambda z: 0 * z, q, prior=prior())
    assert torch.allclose(value, -kl_divergence(q, prior()))
    # Normal against Cauchy has no closed form in torch: sampled, and an explicit wish is refused by torch's own message.
    cauchy = Cauchy(torch.zeros((), dtype=torch.float64), 1.0)
    eps = torch.randn(1, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    z = 2 * eps
    value = rp.elbo(lambda z: 0 * z, q, prior=cauchy, source=rp.Replay(eps))
    assert torch.allclose(value, (cauchy.log_prob(z) - q.log_prob(z))[0])
    with pytest.raises(NotImplementedError):
        rp.elbo(lambda z: 0 * z, q, prior=cauchy, kl=analytic)


def test_batch_dimensions_that_the_density_sums_are_summed_in_the_divergence():
    mu = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    q, p = Normal(mu, 1.0), Normal(torch.zeros(3, dtype=torch.float64), 1.0)
    eps = torch.zeros(1, 4, 3, dtype=torch.float64)
    per_datum = rp.elbo(lambda z: 0 * z.sum(-1), q, prior=p, source=rp.Replay(eps))
    joined = rp.elbo(lambda z: 0 * z.sum(-1), Independent(q, 1), prior=Independent(p.expand((3,)), 1), source=rp.Replay(eps))
    assert per_datum.shape == (4,)
    assert torch.allclose(per_datum, joined)


def test_discrete_latent_is_exact():
    logits = torch.tensor([0.3, -0.2], dtype=torch.float64, requires_grad=True)
    q, p = Categorical(logits=logits), Categorical(torch.tensor([0.5, 0.5], dtype=torch.float64))
    likelihood = torch.tensor([0.2, 0.7], dtype=torch.float64)
    value = rp.elbo(lambda z: likelihood[z].log(), q, prior=p)
    posterior = Categorical(likelihood)
    assert torch.allclose(value, (likelihood.mean()).log() - kl_divergence(q, posterior))
    by_kl = torch.autograd.grad(-kl_divergence(Categorical(logits=logits), posterior), logits)[0]
    assert torch.allclose(torch.autograd.grad(value, logits)[0], by_kl)


def test_wrong_shape_is_an_error():
    with pytest.raises(ValueError, match="leading part of batch"):
        rp.elbo(lambda z: z.mean(), Bernoulli(torch.full((3,), 0.5)), n=2)


@pytest.mark.parametrize("batch", [(), (1,), (3,), (1, 3), (4, 1)])
def test_a_prior_that_broadcasts(batch):
    """For every pair, whether torch's closed form broadcasts or not; the closed form is that of the prior written out."""
    logits = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    p = Bernoulli(torch.full(batch, 0.3, dtype=torch.float64))
    q = Bernoulli(logits=logits)
    wanted = -kl_divergence(q, p.expand((4, 3)))
    assert torch.allclose(rp.elbo(lambda z: 0.0 * z, q, prior=p, kl=analytic), wanted)
    assert torch.allclose(rp.elbo(lambda z: 0.0 * z, q, prior=p), wanted)
    if batch == (3,):
        joined = rp.elbo(lambda z: 0.0 * z.sum(-1), Independent(q, 1), prior=Independent(p, 1), estimator=rp.LeaveOneOut(), n=2)
        assert torch.allclose(joined, wanted.sum(-1))


@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize("form", [None, sampled, sticking])
@pytest.mark.parametrize("estimator", [rp.GumbelSoftmax(0.5), rp.REBAR(), rp.MuProp()], ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("law", [Bernoulli, OneHotCategorical])
def test_log_probabilities_between_values_are_refused(law, estimator, form, validate):
    """Where torch does not check, it returns a number that is the log-probability of nothing."""
    q = Independent(law(logits=torch.zeros(3, 3, requires_grad=True), validate_args=validate), 1)
    q = q if law is OneHotCategorical else Independent(q, 1)
    options = {} if form is None else {"kl": form}

    def log_joint(z):
        return z.reshape(len(z), -1).sum(-1)

    with pytest.raises(ValueError, match=r"no values of the discrete q.*use kl=analytic.*LeaveOneOut"):
        rp.elbo(log_joint, q, estimator=estimator, n=2, **options)
    assert rp.elbo(log_joint, q, kl=analytic, estimator=estimator, n=2).isfinite().all()


@pytest.mark.parametrize("estimator", [rp.GumbelSoftmax(0.5, hard=True), rp.GumbelRao(0.5, 2), rp.StraightThrough(), rp.ReinMax()])
def test_log_probabilities_without_a_slope_are_refused(estimator):
    """Torch turns a one-hot vector into an index: the slope of log q(z) would be missing, and so the entropy's gradient."""
    q = OneHotCategorical(logits=torch.zeros(3, requires_grad=True))
    with pytest.raises(ValueError, match=r"no slope in z.*use kl=analytic"):
        rp.elbo(lambda z: z[..., 0], q, estimator=estimator)


def test_straight_through_coins_have_sampled_log_probabilities():
    """They are linear in a coin, and so the gradient of the entropy is right in the mean: -theta (1 - theta) phi."""
    phi = torch.full((M,), 0.8, dtype=torch.float64, requires_grad=True)
    value = rp.elbo(lambda z: 0.0 * z, Bernoulli(logits=phi), kl=sticking, estimator=rp.StraightThrough(), source=fresh())
    theta = 1 / (1 + math.exp(-0.8))
    assert torch.allclose(torch.autograd.grad(value.sum(), phi)[0], torch.tensor(-theta * (1 - theta) * 0.8, dtype=torch.float64))


def test_the_divergence_does_not_broadcast_the_density():
    q = Normal(torch.zeros(3), 1.0)
    for f in (lambda z: (-(z**2)).sum(-1, keepdim=True), lambda z: -(z**2).mean(0, keepdim=True), lambda z: -(z**2).mean(0)):
        with pytest.raises(ValueError, match="the cost has shape"):
            rp.elbo(f, q, prior=Normal(0.0, 1.0), n=2)
    with pytest.raises(TypeError, match="the cost must be a tensor"):
        rp.elbo(lambda z: None, q, n=2)


def test_a_prior_of_another_shape_is_an_error():
    q = Independent(Normal(torch.zeros(3), 1.0), 1)
    with pytest.raises(ValueError, match=r"event shape \(3,\), the prior \(\) and \(\): event shapes must be equal"):
        rp.elbo(lambda z: 0 * z.sum(-1), q, prior=Normal(0.0, 1.0))
    with pytest.raises(ValueError, match="broadcast to that of q"):
        rp.elbo(lambda z: 0 * z, Normal(0.0, 1.0), prior=Normal(torch.arange(5.0), 1.0), n=5)


def test_sticking_refuses_a_support_that_moves():
    high = torch.tensor(2.0, requires_grad=True)
    with pytest.raises(ValueError, match="support of Uniform"):
        rp.elbo(lambda z: 0 * z, Uniform(torch.tensor(0.0), high), kl=sticking)


@pytest.mark.parametrize("cache_size", [0, 1])
def test_sticking_knows_the_inverse_of_a_saturated_value(cache_size):
    loc = torch.zeros(1000, requires_grad=True)
    q = TransformedDistribution(Normal(loc, 30.0), [TanhTransform(cache_size=cache_size)])
    value = rp.elbo(lambda z: 0 * z, q, kl=sticking)
    assert value.isfinite().all()
    assert torch.autograd.grad(value.sum(), loc)[0].isfinite().all()


def test_an_unknown_form_of_the_divergence_is_an_error():
    with pytest.raises(TypeError, match="give one of"):
        rp.elbo(lambda z: 0 * z, Normal(0.0, 1.0), kl="analytic")


def test_an_impossible_category_is_left_out():
    logits = torch.tensor([0.0, -torch.inf], requires_grad=True)
    value = rp.elbo(lambda z: torch.tensor([0.5, 0.5])[z].log(), Categorical(logits=logits))
    assert torch.allclose(value, torch.tensor(0.5).log())
    assert torch.autograd.grad(value, logits)[0].isfinite().all()


# A latent that all data share.
DATA = torch.tensor([0.3, -1.2, 2.0, 0.7, 1.1, -0.4], dtype=torch.float64)


@pytest.mark.parametrize("form", [None, sampled, sticking])
@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_minibatches_add_up_to_the_bound_of_the_whole_set(form, size):
    """With the same noise, N times the mean over all minibatches is the bound of the set as one datum, and so is its gradient."""
    options = {} if form is None else {"kl": form}
    eps = torch.randn(4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = []
    for whole in (True, False):
        mu = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
        q = Normal(mu, 0.5)
        if whole:
            value = rp.elbo(
                lambda w: Normal(w.unsqueeze(-1), 1.0).log_prob(DATA).sum(-1),
                q,
                prior=prior(),
                n=4,
                source=rp.Replay(eps),
                **options,
            )
        else:
            bounds = [
                rp.elbo(
                    lambda w, batch=batch: Normal(w.unsqueeze(-1), 1.0).log_prob(batch).mean(-1),
                    q,
                    prior=prior(),
                    num_data=len(DATA),
                    n=4,
                    source=rp.Replay(eps),
                    **options,
                )
                for batch in DATA.split(size)
            ]
            value = len(DATA) * torch.stack(bounds).mean()
        found.append(torch.stack([value.detach(), *torch.autograd.grad(value, mu)]))
    assert torch.allclose(*found, rtol=1e-12)


def test_shared_latent_is_right_at_its_posterior():
    """There the bound is log p(all data) / N, and sticking the landing has no gradient left."""
    count, variance = len(DATA), 1 / (1 + len(DATA))
    loc = (DATA.sum() * variance).clone().requires_grad_()
    evidence = torch.distributions.MultivariateNormal(torch.zeros_like(DATA), torch.eye(count).double() + 1).log_prob(DATA)
    value = rp.elbo(
        lambda w: Normal(w.unsqueeze(-1), 1.0).log_prob(DATA).mean(-1),
        Normal(loc, math.sqrt(variance)),
        prior=prior(),
        kl=sticking,
        num_data=count,
    )
    assert torch.allclose(value, evidence / count)
    assert torch.autograd.grad(value, loc)[0].abs() < 1e-12


def test_shared_weights_of_any_shape_count_once():
    q = Normal(torch.zeros(3, 2, dtype=torch.float64), 0.5)
    p = Normal(torch.zeros((), dtype=torch.float64), 1.0)
    value = rp.elbo(lambda w: 0.0 * w.sum((-1, -2)), q, prior=p, num_data=100)
    assert torch.allclose(value, -kl_divergence(q, p).sum() / 100)


def test_num_data_needs_a_prior_and_a_number():
    with pytest.raises(ValueError, match="num_data needs the prior"):
        rp.elbo(log_joint, Normal(0.0, 1.0), num_data=10)
    for wrong in (0, -5, math.nan, torch.tensor([3.0, 4.0])):
        with pytest.raises(ValueError, match="number of at least 1"):
            rp.elbo(log_likelihood, Normal(0.0, 1.0), prior=prior(), num_data=wrong)


@pytest.mark.parametrize(
    ("q", "p"),
    [
        (Normal(torch.zeros(3), 1.0), Exponential(1.0)),
        (Independent(Normal(torch.zeros(3), 1.0), 1), Independent(Uniform(torch.zeros(3), torch.ones(3)), 1)),
        (Gamma(torch.ones(3), 1.0), Beta(2.0, 2.0)),
        (Uniform(torch.zeros(3), torch.tensor([1.0, 1.0, 2.5])), Uniform(0.0, 2.0)),
        (Poisson(torch.ones(3)), Binomial(5, torch.tensor(0.5))),
        (
            MixtureSameFamily(Categorical(torch.ones(2)), Uniform(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 3.0]))),
            Beta(2.0, 2.0),
        ),
    ],
    ids=str,
)
def test_a_posterior_beyond_the_prior_is_an_error(q, p):
    with pytest.raises(ValueError, match="the bound is minus infinity"):
        rp.elbo(lambda z: 0.0 * z.reshape((1, *q.batch_shape, -1)).sum(-1), q, prior=p)


def test_a_discrete_posterior_has_no_continuous_prior():
    with pytest.raises(ValueError, match="one is discrete and the other is not"):
        rp.elbo(lambda z: 0.0 * z, Poisson(torch.ones(3)), prior=Normal(0.0, 5.0))


@pytest.mark.parametrize(
    ("q", "p"),
    [
        (Beta(torch.ones(3), 2.0), Uniform(0.0, 1.0)),
        (LogNormal(torch.zeros(3), 1.0), Exponential(1.0)),
        (Uniform(torch.zeros(3), 1.0), Normal(0.0, 1.0)),
        (Dirichlet(torch.ones(2, 3)), Dirichlet(2 * torch.ones(3))),
        (Bernoulli(torch.full((3,), 0.5)), Bernoulli(0.3)),
        (Bernoulli(torch.full((3,), 0.5)), Poisson(1.0)),
        (Binomial(3, torch.full((3,), 0.5)), Poisson(1.0)),
        (VonMises(torch.zeros(3), 1.0), Normal(0.0, 1.0)),
        (TransformedDistribution(Normal(torch.zeros(3), 1.0), TanhTransform()), Uniform(-1.0, 1.0)),
        (MixtureSameFamily(Categorical(torch.ones(2)), Normal(torch.zeros(2), 1.0)), Normal(0.0, 1.0)),
    ],
    ids=str,
)
def test_a_posterior_within_the_prior_is_none(q, p):
    assert rp.elbo(lambda z: 0.0 * z.reshape((z.shape[0], *q.batch_shape, -1)).sum(-1), q, prior=p, n=2).isfinite().all()
