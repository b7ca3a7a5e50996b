"""The VAE against a model whose likelihood is known, and every cell of its settings.

The known model is linear: z ~ N(0, I), x ~ N(shift + scale (W z + b), noise), so that p(x) and p(z | x) are Gaussian.
"""

import copy
import itertools
import math

import pytest
import torch
from torch.distributions import Binomial, MultivariateNormal, Normal, kl_divergence

import reparam as rp
from reparam.errors import BadInputError
from reparam.models.vae import VAE, Config
from reparam.nn.latent import DiagonalNormal, FullNormal
from reparam.nn.likelihood import LIKELIHOODS
from reparam.noise import Fresh, Replay
from reparam.stats import mean_test


def fresh(seed=0):
    return Fresh(torch.Generator().manual_seed(seed))


def counts(n, shape, levels, seed=0):
    return torch.randint(levels + 1, (n, *shape), generator=torch.Generator().manual_seed(seed)).float()


def data_for(likelihood, n, shape):
    """Data and levels that a likelihood takes."""
    if likelihood == "gaussian":
        return 5 + 3 * torch.randn(n, *shape, generator=torch.Generator().manual_seed(0)), None
    levels = 1 if likelihood == "bernoulli" else 4
    return counts(n, shape, levels), levels


# The linear model.


@pytest.fixture
def linear():
    """A linear VAE in double with random weights, data, and the exact law of the data."""
    torch.manual_seed(0)
    vae = VAE(Config(latent_dim=3, hidden=(), covariance="full", likelihood="gaussian"), (5,)).double()
    x = 10 + torch.randn(8, 5, dtype=torch.float64) @ torch.randn(5, 5, dtype=torch.float64)
    vae.start_at(x)
    with torch.no_grad():
        vae.decoder[0].weight.normal_()
        vae.decoder[0].bias.normal_()
        vae.likelihood.log_var.fill_(-0.5)
    W = vae.likelihood.scale[:, None] * vae.decoder[0].weight
    loc = vae.likelihood.shift + vae.likelihood.scale * vae.decoder[0].bias
    noise = torch.diag(vae.likelihood.scale**2 * (math.exp(-0.5) + vae.likelihood.FLOOR))
    return vae, x, MultivariateNormal(loc.detach(), (W @ W.T + noise).detach()), W.detach(), noise


def make_posterior_exact(vae, law, W, noise):
    precision = torch.eye(3, dtype=torch.float64) + W.T @ noise.inverse() @ W
    L = torch.linalg.cholesky(precision.inverse())
    gain = precision.inverse() @ W.T @ noise.inverse()  # E[z | x] = gain (x - loc)
    with torch.no_grad():
        head = vae.encoder[0]
        head.weight.zero_()
        head.weight[:3] = gain * vae.likelihood.scale
        offset = gain @ (vae.likelihood.shift - law.loc)
        head.bias.copy_(torch.cat([offset, 2 * L.diagonal().log(), L[tuple(torch.tril_indices(3, 3, -1))]]))


def test_one_importance_sample_is_enough_where_the_posterior_is_exact(linear, monkeypatch):
    vae, x, law, W, noise = linear
    make_posterior_exact(vae, law, W, noise)
    truth = law.log_prob(x)
    torch.testing.assert_close(exact_elbo(vae, x), truth)
    # Every weight is the likelihood itself, so that any number of samples says the same, in however many chunks.
    for k in (1, 7):
        torch.testing.assert_close(vae.log_likelihood(x, k, fresh()), truth)
    monkeypatch.setattr("reparam.models.vae._CHUNK", 80)  # two rows a chunk
    torch.testing.assert_close(vae.log_likelihood(x, 7, fresh()), truth)


def spoil(vae):
    """Move the posterior off the exact one, and widen it, so that importance weights are bounded."""
    with torch.no_grad():
        vae.encoder[0].bias[:3] += 0.2
        vae.encoder[0].bias[3:6] += 0.4


def exact_elbo(vae, x):
    """The ELBO of the linear model in closed form: the expectation of a quadratic."""
    q = vae.encode(x)
    p = vae.decode(q.mean)
    W = vae.likelihood.scale[:, None] * vae.decoder[0].weight
    spread = ((W @ q.scale_tril) ** 2).sum(-1) / p.base_dist.variance
    return p.log_prob(x) - 0.5 * spread.sum(-1) - kl_divergence(q, vae.prior)


def test_bounds_tighten_from_the_elbo_to_the_likelihood(linear):
    vae, x, law, W, noise = linear
    make_posterior_exact(vae, law, W, noise)
    spoil(vae)
    truth, elbo = law.log_prob(x), exact_elbo(vae, x)
    for datum, bound, gap in zip(x, elbo, truth - elbo, strict=True):
        one = vae.log_likelihood(datum.expand(40_000, 5), 1, fresh())
        verdict = mean_test(one, bound.item())
        assert verdict, verdict
        assert verdict.detectable < gap / 4
    means = [vae.log_likelihood(x.repeat(500, 1), k, fresh()).view(500, 8).mean(0) for k in (1, 5, 50)]
    assert (means[0] < means[1]).all()
    assert (means[1] < means[2]).all()
    # The weights' relative variance is below 20, so at this k the standard error is 0.01 and the bias 1e-4.
    assert (vae.log_likelihood(x, 200_000, fresh()) - truth).abs().max() < 0.07


@pytest.mark.parametrize("estimator", [None, rp.Pathwise(), rp.LeaveOneOut()])
def test_value_and_gradient_are_unbiased(linear, estimator):
    """Means of 400 gradients of a batch of 8000 within 6.1 standard errors of the closed form; these are below 2 % of its norm."""
    vae, x, law, W, noise = linear
    make_posterior_exact(vae, law, W, noise)
    spoil(vae)
    parameters = list(vae.parameters())
    exact = -exact_elbo(vae, x).mean()
    truth = torch.cat([g.flatten() for g in torch.autograd.grad(exact, parameters)])
    many, source, draws, values = x.repeat(1000, 1), fresh(), [], []
    for _ in range(400 if estimator is None else 100):
        if estimator is None:
            loss = vae.loss(many, source).total
        else:
            loss = -vae.elbo(many, estimator=estimator, n=2, source=source).mean()
        values.append(loss.detach())
        draws.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)]))
    verdict = mean_test(torch.stack(values), exact.item())
    assert verdict, verdict
    draws = torch.stack(draws)
    error = draws.std(0) / math.sqrt(len(draws))
    assert error.max() < (0.02 if estimator is None else 0.2) * truth.norm()
    assert ((draws.mean(0) - truth).abs() < 6.1 * error + 1e-9).all()


# The parts.


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_log_densities_are_normalised_and_equal_the_distributions(name):
    levels = {"bernoulli": 1, "gaussian": 1}.get(name, 4)
    likelihood = LIKELIHOODS[name]((2,), levels).double()
    if name == "gaussian":
        likelihood.fit(torch.tensor([[100.0, -1.0], [104.0, -1.5]], dtype=torch.float64))
        grid = torch.linspace(-400, 600, 400_001, dtype=torch.float64)
        weight = 1000 / 400_000
    else:
        grid, weight = torch.arange(levels + 1, dtype=torch.float64), 1.0
    h = torch.randn(*likelihood.prefix, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = grid[:, None].expand(-1, 2)
    nll = likelihood.nll(h.expand(len(grid), *h.shape), x)
    torch.testing.assert_close((-nll).exp().sum(0) * weight, torch.ones(2, dtype=torch.float64), rtol=1e-6, atol=0)
    d = likelihood(h.expand(len(grid), *h.shape))
    assert (d.batch_shape, d.event_shape) == ((len(grid),), (2,))
    torch.testing.assert_close(-nll.sum(-1), d.log_prob(x), rtol=1e-6, atol=1e-6)
    mean = ((-nll).exp() * x).sum(0) * weight
    torch.testing.assert_close(d.mean[0], mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(d.variance[0], ((-nll).exp() * (x - mean) ** 2).sum(0) * weight, rtol=1e-5, atol=1e-6)


def test_gaussian_variance_has_a_floor():
    likelihood = LIKELIHOODS["gaussian"]((2,), 1)
    likelihood.fit(torch.tensor([[0.0, 7.0], [20.0, 7.0]]))  # the second column is constant
    with torch.no_grad():
        likelihood.log_var.fill_(-1000)
    torch.testing.assert_close(likelihood(torch.zeros(2)).stddev, torch.tensor([1e-2, 1e-3]))


@pytest.mark.parametrize("kind", [DiagonalNormal, FullNormal])
def test_divergence_splits_by_latent(kind):
    latent = kind(4)
    q, kl = latent(torch.randn(6, latent.features, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(kl.sum(-1), kl_divergence(q, latent.prior()))
    first = Normal(q.mean[:, 0], q.variance[:, 0].sqrt())
    torch.testing.assert_close(kl[:, 0], kl_divergence(first, Normal(0.0, 1.0)))


# Settings.


@pytest.mark.parametrize(
    ("likelihood", "network", "covariance"), [*itertools.product(LIKELIHOODS, ("mlp", "conv"), ("diagonal", "full"))]
)
def test_every_cell_trains_and_answers(likelihood, network, covariance):
    torch.manual_seed(0)
    shape = (2, 9, 11) if network == "conv" else (7,)
    x, levels = data_for(likelihood, 6, shape)
    config = Config(latent_dim=3, hidden=(8,), channels=(4, 5), network=network, covariance=covariance, likelihood=likelihood)
    vae = VAE(config, shape, levels)
    vae.start_at(x)
    loss = vae(x, fresh())
    loss.total.backward()
    assert loss.total.isfinite()
    assert set(loss.parts) == {"elbo", "reconstruction", "kl"}
    assert not any(part.requires_grad for part in loss.parts.values())
    torch.testing.assert_close(loss.parts["elbo"], -loss.total.detach())
    torch.testing.assert_close(loss.parts["elbo"], loss.parts["reconstruction"] - loss.parts["kl"])
    for name, parameter in vae.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name
    assert vae.encode(x).mean.shape == (6, 3)
    assert vae.decode(torch.zeros(4, 6, 3)).log_prob(x).shape == (4, 6)
    assert vae.reconstruct(x).shape == x.shape
    assert vae.sample(5, fresh()).shape == (5, *shape)
    assert vae.interpolate(x[:2], x[2:4], 7).shape == (7, 2, *shape)
    assert vae.log_likelihood(x, 3, fresh()).shape == (6,)
    assert vae.active_units(x).shape == (3,)
    noisy = vae.sample(50, fresh(), noisy=True)
    vae.likelihood.check(noisy)
    assert noisy.std() > 0
    assert torch.equal(noisy, vae.sample(50, fresh(), noisy=True))


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_first_output_is_the_mean_of_the_data(likelihood, network):
    x, levels = data_for(likelihood, 50, (2, 8, 8))
    if likelihood != "gaussian":
        x[:, 0] = 0  # a channel that never changes
    vae = VAE(Config(latent_dim=2, hidden=(4,), network=network, likelihood=likelihood), (2, 8, 8), levels)
    vae.start_at(x)
    expected = x.mean(0) if network == "mlp" else x.mean((0, 2, 3)).view(2, 1, 1).expand(2, 8, 8)
    mean = vae.decode(torch.zeros(1, 2)).mean[0]
    torch.testing.assert_close(mean, expected, rtol=0, atol=(levels or 15) / 40)


def test_log_likelihood_of_gaussian_data_is_in_their_units():
    x, _ = data_for("gaussian", 20, (4,))
    config = Config(latent_dim=2, hidden=(8,), likelihood="gaussian")
    torch.manual_seed(0)
    vae = VAE(config, (4,))
    vae.start_at(x)
    scaled = copy.deepcopy(vae)
    scaled.start_at(100 * x)
    # The model of 100 x is that of x, stretched: its density is lower by the Jacobian.
    torch.testing.assert_close(scaled.encode(100 * x).mean, vae.encode(x).mean, rtol=1e-4, atol=1e-5)
    shift = vae.log_likelihood(x, 5, fresh()) - scaled.log_likelihood(100 * x, 5, fresh())
    torch.testing.assert_close(shift, torch.full((20,), 4 * math.log(100)), rtol=1e-4, atol=0)


def test_beta_and_free_bits_change_the_loss_and_not_the_elbo():
    torch.manual_seed(0)
    x = counts(16, (6,), 1)
    plain = VAE(Config(latent_dim=3, hidden=(8,), likelihood="bernoulli"), (6,))

    def loss(**settings):
        vae = VAE(Config(latent_dim=3, hidden=(8,), likelihood="bernoulli", **settings), (6,))
        vae.load_state_dict(plain.state_dict())
        loss = vae.loss(x, fresh())
        loss.total.backward()
        return loss, vae

    reference, _ = loss()
    half, _ = loss(beta=0.5)
    free, free_model = loss(free_bits=2.0)
    without, without_model = loss(beta=0.0)
    for other in (half, free, without):
        torch.testing.assert_close(other.parts, reference.parts)
    kl = reference.parts["kl"]
    torch.testing.assert_close(half.total.detach(), reference.total.detach() - 0.5 * kl)
    assert kl < 2.0
    torch.testing.assert_close(free.total.detach(), reference.total.detach() - kl + 3 * 2.0)
    # No latent has used its allowance, so the divergence has no gradient.
    for a, b in zip(free_model.parameters(), without_model.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_free_bits_charge_the_batch_mean_of_each_latent():
    vae = VAE(Config(latent_dim=2, hidden=(), likelihood="bernoulli", free_bits=0.5, beta=3.0), (2,))
    with torch.no_grad():  # means (2 x_0, 0.1), variances 1: divergences (2 x_0, 0.005), of batch mean (0.75 * 2, 0.005)
        vae.encoder[0].weight.zero_()
        vae.encoder[0].weight[0, 0] = 2.0
        vae.encoder[0].bias.copy_(torch.tensor([0.0, 0.1, 0.0, 0.0]))
    loss = vae.loss(torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [1.0, 0.0]]), fresh())
    torch.testing.assert_close(loss.parts["kl"], torch.tensor(1.505))
    torch.testing.assert_close(loss.total.detach(), -loss.parts["reconstruction"] + 3 * (1.5 + 0.5))


def test_binarize_draws_each_element_anew():
    x = counts(4000, (3,), 4)
    vae = VAE(Config(latent_dim=2, hidden=(4,), likelihood="bernoulli", binarize=True), (3,), levels=4)
    vae.start_at(x)
    once, seen = vae._observed(x, fresh(0))
    again, _ = vae._observed(x, fresh(1))
    assert once is seen
    assert set(once.unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(once, again)
    for level in range(5):
        verdict = mean_test(once[x == level], level / 4) if 0 < level < 4 else once[x == level].eq(level / 4).all()
        assert verdict, verdict
    assert vae.reconstruct(x).max() > 1  # in the units of the data
    assert vae.loss(x, fresh()).total.isfinite()
    with pytest.raises(ValueError, match=r"from 0 to 5: binarize=True takes 0..4"):
        vae.encode(torch.tensor([[0.0, 5.0, 1.0]]))


@pytest.mark.parametrize("rate", [0.07, 0.8])
def test_noisy_counts_follow_the_binomial_law(rate):
    d = Binomial(torch.tensor([4.0, 16.0]), probs=torch.tensor(rate))
    x = rp.paths.sample(d, (20_000,), source=fresh())
    for column, levels in enumerate((4, 16)):
        mean, deviation = levels * rate, (levels * rate * (1 - rate)) ** 0.5
        verdict = mean_test(x[:, column], mean)
        assert verdict, verdict
        assert verdict.detectable < deviation / 10
        # The square of the standardised count has expectation 1.
        verdict = mean_test(((x[:, column] - mean) / deviation) ** 2, 1.0)
        assert verdict, verdict


# Use.


def test_training_on_digits_lowers_the_loss():
    """From the entropy of the mean digit, about 250 nats, to less than 190 in four epochs."""
    from reparam.data import load

    digits = load("digits")
    torch.manual_seed(0)
    vae = VAE.for_data(Config(latent_dim=8, hidden=(128,)), digits)
    assert vae.config.likelihood == "binomial"
    optimizer = torch.optim.Adam(vae.parameters(), 2e-3)
    source = fresh()
    start = vae.loss(digits.x, source).parts["elbo"]
    for _ in range(4):
        for batch in digits.x.split(64):
            optimizer.zero_grad()
            vae.loss(batch, source).total.backward()
            optimizer.step()
    end = vae.loss(digits.x, source).parts["elbo"]
    assert -280 < start < -230
    assert end > -190
    some = digits.x[:100]
    assert vae.log_likelihood(some, 50, source).mean() > vae.elbo(some, source=source).mean() + 1


def test_noise_comes_from_the_source_alone():
    x = counts(8, (6,), 1)
    vae = VAE(Config(latent_dim=3, likelihood="bernoulli"), (6,))
    before = torch.get_rng_state()
    assert torch.equal(vae.loss(x, fresh()).total, vae.loss(x, fresh()).total)
    assert not torch.equal(vae.loss(x, fresh(0)).total, vae.loss(x, fresh(1)).total)
    vae.sample(4, fresh(), noisy=True)
    vae.log_likelihood(x, 4, fresh())
    assert torch.equal(before, torch.get_rng_state())
    q = vae.encode(x)
    eps = torch.zeros(8, 3)
    expected = vae.decode(q.mean).log_prob(x).mean()
    torch.testing.assert_close(vae.loss(x, Replay(eps)).parts["reconstruction"], expected.detach())


def test_statistics_travel_with_the_weights():
    x, _ = data_for("gaussian", 30, (4,))
    config = Config(latent_dim=2, hidden=(8,), likelihood="gaussian")
    vae = VAE(config, (4,))
    vae.start_at(x)
    other = VAE(config, (4,))
    other.load_state_dict(vae.state_dict())
    assert torch.equal(other.loss(x, fresh()).total, vae.loss(x, fresh()).total)


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_other_precisions(likelihood, covariance):
    x, levels = data_for(likelihood, 16, (6,))
    torch.manual_seed(0)
    vae = VAE(Config(latent_dim=3, hidden=(8,), likelihood=likelihood, covariance=covariance), (6,), levels)
    vae.start_at(x)
    reference = vae.loss(x, Replay(torch.ones(16, 3))).total
    with torch.autocast("cpu", torch.bfloat16):
        loss = vae.loss(x, Replay(torch.ones(16, 3)))
    loss.total.backward()
    assert loss.total.dtype == torch.float32
    torch.testing.assert_close(loss.total, reference, rtol=0.02, atol=0)
    double = copy.deepcopy(vae).double()
    total = double.loss(x, Replay(torch.ones(16, 3, dtype=torch.float64))).total
    torch.testing.assert_close(total.float(), reference)


@pytest.mark.parametrize(("likelihood", "covariance"), [("bernoulli", "diagonal"), ("binomial", "full"), ("gaussian", "diagonal")])
def test_loss_is_one_graph(likelihood, covariance):
    x, levels = data_for(likelihood, 16, (6,))
    vae = VAE(Config(latent_dim=3, hidden=(8,), likelihood=likelihood, covariance=covariance, free_bits=0.1), (6,), levels)
    compiled = torch.compile(vae.loss, backend="eager", fullgraph=True)
    source = Replay(torch.ones(16, 3))
    torch.testing.assert_close(compiled(x, source).total, vae.loss(x, source).total)
    compiled(x).total.backward()


@pytest.mark.slow
def test_compiled_loss_equals_the_plain_one():
    x, levels = data_for("binomial", 16, (6,))
    vae = VAE(Config(latent_dim=3, hidden=(8,), likelihood="binomial"), (6,), levels)
    source = Replay(torch.ones(16, 3))
    loss = torch.compile(vae.loss)(x, source)
    torch.testing.assert_close(loss.total, vae.loss(x, source).total)
    loss.total.backward()
    assert all(p.grad.isfinite().all() for p in vae.parameters())


def test_distributed_data_parallel(tmp_path):
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        x = counts(8, (6,), 1)
        vae = VAE(Config(latent_dim=3, likelihood="bernoulli"), (6,))
        parallel = torch.nn.parallel.DistributedDataParallel(vae)
        loss = parallel(x, fresh())
        loss.total.backward()
        assert torch.equal(loss.total, vae.loss(x, fresh()).total)
        assert all(p.grad is not None for p in vae.parameters())
    finally:
        torch.distributed.destroy_process_group()


# Misuse.


@pytest.fixture
def bernoulli():
    return VAE(Config(latent_dim=2, hidden=(4,), likelihood="bernoulli"), (3,))


@pytest.mark.parametrize("method", ["loss", "encode", "reconstruct", "active_units"])
@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        (torch.zeros(5, 4), ValueError, r"the batch has shape \(5, 4\): this model takes N x 3"),
        (torch.zeros(3), ValueError, r"shape \(3,\)"),
        (torch.tensor(1.0), ValueError, r"shape \(\)"),
        (torch.zeros(5, 3, dtype=torch.complex64), TypeError, "complex64: give real numbers"),
        (torch.full((5, 3), 255.0), ValueError, "values from 255 to 255, this model is of 0 and 1"),
        (torch.full((5, 3), 0.5), ValueError, "values from 0.5 to 0.5, this model is of 0 and 1"),
        (torch.full((5, 3), math.nan), ValueError, "values from nan to nan"),
    ],
)
def test_bad_batches(bernoulli, method, batch, error, message):
    with pytest.raises(error, match=message) as caught:
        getattr(bernoulli, method)(batch)
    assert "\n" not in str(caught.value)


def test_values_are_looked_at_first_and_in_evaluation_but_not_each_step(bernoulli):
    good, bad = torch.ones(4, 3), torch.full((4, 3), 2.0)
    bernoulli.loss(good)
    bernoulli.loss(bad)
    bernoulli.eval()
    with pytest.raises(ValueError, match="0 and 1"):
        bernoulli.loss(bad)


def test_gaussian_refuses_nan():
    vae = VAE(Config(latent_dim=2, hidden=(4,), likelihood="gaussian"), (3,))
    with pytest.raises(ValueError, match="NaN or infinite values: drop or fill them"):
        vae.loss(torch.tensor([[1.0, math.nan, 2.0]]))


def test_integers_and_booleans_are_taken(bernoulli):
    x = counts(8, (3,), 1)
    for dtype in (torch.uint8, torch.int64, torch.bool, torch.float64, torch.float16):
        assert torch.equal(bernoulli.loss(x.to(dtype), fresh()).total, bernoulli.loss(x, fresh()).total)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"network": "lstm"}, "network=.lstm.: give one of mlp, conv, gru, transformer"),
        ({"likelihood": "poisson"}, "likelihood='poisson': give one of"),
        ({"activation": "Relu"}, "activation='Relu': give one of elu, gelu, relu"),
        ({"latent_dim": 0}, "latent_dim=0"),
        ({"hidden": (64, 0)}, r"hidden=\(64, 0\)"),
        ({"beta": -1.0}, "beta=-1.0: give a finite number"),
        ({"free_bits": math.nan}, "free_bits=nan: give a finite number"),
        ({"binarize": True, "likelihood": "gaussian"}, "binarize=True is for likelihood='bernoulli'"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(BadInputError, match=message):
        Config(**settings)


@pytest.mark.parametrize(
    ("settings", "shape", "levels", "message"),
    [
        ({}, (3,), None, "a likelihood is wanted"),
        ({"likelihood": "binomial"}, (3,), None, "give levels"),
        ({"likelihood": "bernoulli"}, (3,), 16, r"not counts 0..16: take 'binomial', or binarize=True"),
        ({"likelihood": "bernoulli", "network": "conv"}, (64,), None, r"takes images .* the data have shape \(64,\): use mlp"),
        ({"likelihood": "bernoulli", "network": "conv"}, (1, 7, 20), None, "H, W >= 8"),
        (
            {"likelihood": "bernoulli", "network": "conv", "channels": (4, 4, 4, 4)},
            (1, 8, 8),
            None,
            "has 4 stages, data of shape \\(1, 8, 8\\) allow 1 to 3",
        ),
    ],
)
def test_settings_that_do_not_fit_the_data(settings, shape, levels, message):
    with pytest.raises(BadInputError, match=message):
        VAE(Config(**settings), shape, levels)


def test_for_data_chooses_the_likelihood():
    from reparam.data import from_tensor

    chosen = {
        "bernoulli": from_tensor(counts(9, (4,), 1), name="bits"),
        "binomial": from_tensor(counts(9, (4,), 5), name="tallies"),
        "gaussian": from_tensor(counts(9, (4,), 5) / 7, name="reals"),
    }
    for likelihood, data in chosen.items():
        vae = VAE.for_data(Config(latent_dim=2), data)
        assert vae.config.likelihood == likelihood
        assert vae.loss(data.x).total.isfinite()
    assert VAE.for_data(Config(binarize=True), chosen["binomial"]).config.likelihood == "bernoulli"
    with pytest.raises(BadInputError, match="likelihood='binomial' is of whole numbers, reals has reals: take 'gaussian'"):
        VAE.for_data(Config(likelihood="binomial"), chosen["gaussian"])
