"""VAEs whose latents are coins or choices: every estimator trains them, the unbiased ones to the exact gradient."""

import math
import re
import statistics

import pytest
import torch
from torch.distributions import kl_divergence

from reparam.errors import BadInputError
from reparam.estimators import Enumerate
from reparam.models.evaluation import evaluate
from reparam.models.gradient import DEFAULTS, ESTIMATORS, Gradient, fitting
from reparam.models.vae import VAE, Config
from reparam.nn.latent import BernoulliLatent, CategoricalLatent
from reparam.noise import Fresh
from reparam.stats import mean_test
from reparam.training import Run, Training, fit

PAIRS = [(latent, name) for latent in ("bernoulli", "categorical") for name in fitting(latent)]
OBJECTIVES = [("normal", "iwae"), ("normal", "dreg"), ("normal", "stl"), ("bernoulli", "vimco"), ("categorical", "vimco")]


def fresh(seed=0):
    return Fresh(torch.Generator().manual_seed(seed))


def stripes(n=256, seed=0):
    """Two bits a datum, each of which fills half of 16 pixels, with one pixel in ten flipped."""
    generator = torch.Generator().manual_seed(seed)
    bits = torch.randint(2, (n, 2), generator=generator).float()
    x = bits.repeat_interleave(8, 1)
    return torch.where(torch.rand(x.shape, generator=generator) < 0.1, 1 - x, x)


def make(latent, **settings):
    torch.manual_seed(0)
    settings = {"latent_dim": 3, "categories": 3, "hidden": (16,), "likelihood": "bernoulli"} | settings
    vae = VAE(Config(latent=latent, **settings), (16,))
    vae.start_at(stripes())
    return vae


def train(vae, steps, source):
    x = stripes()
    optimizer = torch.optim.Adam(vae.parameters(), 1e-2)
    losses = []
    for step in range(steps):
        optimizer.zero_grad()
        loss = vae.loss(x[64 * (step % 4) :][:64], source)
        loss.total.backward()
        optimizer.step()
        losses.append(loss.total.item())
    return losses


# Training.


@pytest.mark.parametrize(("latent", "name"), PAIRS)
def test_every_estimator_trains(latent, name):
    """From the entropy of the mean, 16 log 2 = 11.1 nats, by more than one: the two bits are worth 5."""
    vae = make(latent, estimator=name, samples=4)
    losses = train(vae, 150, fresh())
    assert statistics.fmean(losses[:4]) > 10.5
    assert statistics.fmean(losses[-10:]) < 10
    parts = vae.eval().loss(stripes(), fresh()).parts
    assert ("relaxed_elbo" in parts) == (name == "gumbel_softmax")
    torch.testing.assert_close(parts["elbo"], parts["reconstruction"] - parts["kl"])


@pytest.mark.parametrize(("latent", "objective"), OBJECTIVES)
def test_every_objective_trains(latent, objective):
    vae = make(latent, objective=objective)
    assert vae.config.samples == 5
    assert vae.config.estimator is None
    losses = train(vae, 150, fresh())
    assert statistics.fmean(losses[-10:]) < 10
    parts = vae.eval().loss(stripes(), fresh()).parts
    assert parts["bound"] > parts["elbo"]  # by Jensen, for the same samples
    torch.testing.assert_close(parts["elbo"], parts["reconstruction"] - parts["kl"])


# Exactness.


def exact_gradient(vae, x, parameters):
    elbo = vae.elbo(x, estimator=Enumerate()).mean()
    return -elbo.detach(), torch.cat([g.flatten() for g in torch.autograd.grad(-elbo, parameters)])


@pytest.mark.parametrize(
    ("latent", "name"),
    [
        (latent, name)
        for latent, name in PAIRS
        if VAE(Config(latent=latent, latent_dim=2, estimator=name, likelihood="bernoulli"), (4,)).estimator(torch.zeros(1, 4)).bias
        is None
    ],
)
def test_unbiased_estimators_have_the_exact_gradient(latent, name):
    """Means of 200 gradients of 64 copies within 6 standard errors of the sum over all codes, in every weight."""
    vae = make(latent, estimator=name, samples=4).double()
    x = stripes(4).double()
    parameters = [*vae.encoder.parameters(), *vae.decoder.parameters()]
    value, truth = exact_gradient(vae, x, parameters)
    many, source, draws, values = x.repeat(64, 1), fresh(), [], []
    for _ in range(200):
        loss = vae.loss(many, source).total
        values.append(loss.detach())
        draws.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)]))
    verdict = mean_test(torch.stack(values), value.item())
    assert verdict, verdict
    draws = torch.stack(draws)
    error = draws.std(0) / math.sqrt(len(draws))
    assert ((draws.mean(0) - truth).abs() < 6 * error + 1e-9).all()
    assert error.max() < 0.2 * truth.norm()


@pytest.mark.parametrize("latent", [BernoulliLatent(4), CategoricalLatent(4, 3)])
def test_divergence_is_that_of_the_laws(latent):
    h = 5 * torch.randn(6, latent.features, generator=torch.Generator().manual_seed(0))
    h[0] = 0
    q, kl = latent(h)
    assert kl.shape == (6, 4)
    # Torch's divergence of coins does not broadcast.
    torch.testing.assert_close(kl.sum(-1), kl_divergence(q, latent.prior().expand(q.batch_shape)), rtol=1e-4, atol=1e-5)
    assert kl[0].abs().max() < 1e-6
    certain, bits = latent(1e4 * h), math.log(2 if latent.event == (4,) else 3)
    torch.testing.assert_close(certain.kl[1:], torch.full((5, 4), bits))


@pytest.mark.parametrize("latent", ["bernoulli", "categorical"])
def test_log_likelihood_tends_to_the_sum_over_all_codes(latent):
    vae = make(latent)
    x = stripes(8)
    codes = Enumerate().draw(vae.prior, 1, None).value
    exact = (vae.decode(codes[:, None]).log_prob(x) + vae.prior.log_prob(codes)[:, None]).logsumexp(0)
    assert (vae.log_likelihood(x, 20_000, fresh()) - exact).abs().max() < 0.05
    assert vae.log_likelihood(x.repeat(500, 1), 1, fresh()).mean() < exact.mean()


# Use.


@pytest.mark.parametrize(("latent", "event"), [("bernoulli", (3,)), ("categorical", (3, 3))])
@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_answers_have_the_shapes_of_the_latents(latent, event, network):
    shape = (1, 8, 8) if network == "conv" else (16,)
    torch.manual_seed(0)
    config = Config(latent=latent, latent_dim=3, categories=3, hidden=(8,), channels=(4,), network=network, likelihood="bernoulli")
    vae = VAE(config, shape).eval()
    x = torch.randint(2, (6, *shape), generator=torch.Generator().manual_seed(0)).float()
    vae.start_at(x)
    q = vae.encode(x)
    assert (q.batch_shape, q.event_shape) == ((6,), event)
    code = vae.code(x)
    assert code.shape == (6, *event)
    assert set(code.unique().tolist()) <= {0.0, 1.0}
    assert (q.log_prob(code)[None] >= q.log_prob(Enumerate().draw(q, 1, None).value) - 1e-5).all()
    assert vae.describe(x)["probability"].shape == (6, *event)
    assert vae.decode(torch.zeros(4, 6, *event)).log_prob(x).shape == (4, 6)
    assert vae.reconstruct(x).shape == x.shape
    assert vae.sample(5, fresh()).shape == (5, *shape)
    assert vae.active_units(x).shape == (3,)
    way = vae.interpolate(x[:2], x[2:4], 7)
    assert way.shape == (7, 2, *shape)
    assert torch.equal(way[0], vae.reconstruct(x[:2]))
    assert torch.equal(way[-1], vae.reconstruct(x[2:4]))
    found = evaluate(vae, x, k=3, source=fresh())
    assert found.latent_dim == 3
    assert found.elbo == pytest.approx(found.reconstruction - found.kl, abs=1e-4)


def test_codes_on_the_way_differ_latent_by_latent():
    a, b = torch.tensor([[0.0, 1, 0, 1, 0]]), torch.tensor([[1.0, 1, 1, 0, 1]])
    way = BernoulliLatent(5).between(a, b, torch.linspace(0, 1, 5))[:, 0]
    assert [(row != a[0]).sum().item() for row in way] == [0, 1, 2, 3, 4]
    assert torch.equal(way[1], torch.tensor([1.0, 1, 0, 1, 0]))
    one_hot = torch.eye(3)
    way = CategoricalLatent(2, 3).between(one_hot[None, [0, 1]], one_hot[None, [2, 1]], torch.tensor([0.0, 0.4, 0.6, 1.0]))
    assert way.argmax(-1).squeeze(1).tolist() == [[0, 1], [0, 1], [2, 1], [2, 1]]


def test_temperature_falls_with_the_steps_of_training_only():
    vae = make("categorical", estimator="gumbel_softmax", temperature=1.0, temperature_floor=0.9, temperature_rate=0.01)
    assert vae.gradient.temperature == 1.0
    train(vae, 3, fresh())
    assert vae.gradient.temperature == pytest.approx(math.exp(-0.03))
    assert vae.estimator(stripes(1)).temperature == vae.gradient.temperature
    vae.eval().loss(stripes(), fresh())
    assert vae.gradient.temperature == pytest.approx(math.exp(-0.03))
    other = make("categorical", estimator="gumbel_softmax", temperature=1.0, temperature_floor=0.9, temperature_rate=0.01)
    other.load_state_dict(vae.state_dict())
    assert other.gradient.temperature == vae.gradient.temperature
    train(vae.train(), 20, fresh())
    assert vae.gradient.temperature == 0.9


def test_a_run_taken_up_again_goes_on_with_its_temperature(tmp_path):
    def run(name, *epochs):
        for count in epochs:
            vae = make("categorical", estimator="gumbel_softmax", temperature_rate=0.05)
            with Run.create(tmp_path / name, {"model": name}) as made:
                training = Training(epochs=count, batch_size=64, threads=1, device="cpu")
                fit(vae, stripes(), stripes(64, seed=1), training, made, progress=False)
        return vae.state_dict()

    stopped, straight = run("stopped", 1, 3), run("straight", 3)
    assert straight["gradient.step"] == 12
    assert stopped.keys() == straight.keys()
    assert all(torch.equal(stopped[name], straight[name]) for name in straight)


def test_relaxed_bound_is_beside_the_one_of_hard_samples():
    vae = make("bernoulli", estimator="gumbel_softmax", temperature=2.0)
    train(vae, 200, fresh())
    vae.eval()
    loss = vae.loss(stripes(), fresh())
    torch.testing.assert_close(loss.parts["relaxed_elbo"], -loss.total.detach())
    x = stripes().repeat(20, 1)
    hard = vae.elbo(stripes(), estimator=Enumerate()).mean()
    assert vae.loss(x, fresh()).parts["elbo"] == pytest.approx(hard.item(), abs=0.1)
    assert abs(vae.loss(x, fresh()).parts["relaxed_elbo"] - hard) > 0.2


def test_what_is_learned_is_trained_and_saved():
    for name, prefix in (
        ("score_learned", "gradient.learned.2.weight"),
        ("relax", "gradient.learned.net.2.weight"),
        ("rebar", "gradient.learned.scale"),
    ):
        vae = make("bernoulli", estimator=name)
        before = vae.state_dict()[prefix].clone()
        train(vae, 5, fresh())
        assert not torch.equal(vae.state_dict()[prefix], before), name


def test_gaussian_weights_have_no_new_names():
    """Runs that were trained before there were other latents still load."""
    assert {name.split(".")[0] for name in make("normal").state_dict()} == {"encoder", "decoder"}


# Settings.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"estimator": "disarm"},
            r"estimator='disarm' is for latent='bernoulli' or 'categorical', not 'normal': give one of .*pathwise",
        ),
        ({"latent": "bernoulli", "estimator": "pathwise"}, r"is for latent='normal', not 'bernoulli': give one of arm, "),
        ({"latent": "bernoulli", "estimator": "nonsense"}, r"estimator='nonsense': for latent='bernoulli' give one of arm, "),
        ({"latent": "bernoulli", "estimator": "disarm", "samples": 3}, r"samples=3: estimator='disarm' takes a multiple of 2"),
        ({"latent": "bernoulli", "estimator": "leave_one_out", "samples": 1}, r"samples=1: .* takes at least 2"),
        ({"latent": "bernoulli", "samples": 0}, r"samples=0: give at least 1"),
        ({"latent": "categorical", "temperature": 0.0}, r"temperature=0.0: give a positive, finite number"),
        ({"latent": "categorical", "temperature_floor": -1.0}, r"temperature_floor=-1.0: give a positive"),
        (
            {"latent": "categorical", "temperature": 0.4, "temperature_rate": 0.1},
            r"temperature=0.4 falls, and temperature_floor=0.5",
        ),
        ({"latent": "categorical", "categories": 1}, r"categories=1: a latent has at least 2"),
        ({"latent": "bernoulli", "covariance": "full"}, r"covariance='full' is for latent='normal'"),
        ({"latent": "poisson"}, r"latent='poisson': give one of normal, bernoulli, categorical"),
        (
            {"latent": "bernoulli", "objective": "iwae"},
            r"objective='iwae' does not serve latent='bernoulli': give one of elbo, vimco",
        ),
        ({"objective": "iwae", "estimator": "pathwise"}, r"objective='iwae' has a gradient of its own"),
        ({"objective": "dreg", "beta": 2.0}, r"are for objective='elbo'"),
        ({"latent": "bernoulli", "objective": "vimco", "samples": 1}, r"objective='vimco' takes at least 2"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(BadInputError, match=message):
        Config(**settings)


def test_defaults_serve_their_latents():
    assert all(latent in ESTIMATORS[name].latents for latent, name in DEFAULTS.items())
    assert all(re.search(rf"\b{name}\b", Config.__doc__) for name in ESTIMATORS)
    assert make("bernoulli").config.estimator == "disarm"
    assert make("bernoulli").config.samples == 2
    assert (make("normal").config.estimator, make("normal").gradient) == ("pathwise", None)
    assert "temperature" not in repr(Gradient("disarm", torch.Size([3]), 4))
