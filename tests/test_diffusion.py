"""The diffusion model against laws that are known, every cell of its settings, and what it says of bad input.

Where a law is wanted, the network is one that knows the answer: of Gaussian data, v is linear in the noisy state.
"""

import dataclasses
import itertools
import math

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal

import reparam as rp
from reparam.data import from_tensor, load, split
from reparam.errors import BadInputError
from reparam.models.diffusion import Config, Diffusion, Sampling
from reparam.models.trained import DataOptions, model_of, record
from reparam.nn.noising import EDM, PREDICTIONS, VP, as_denoiser
from reparam.noise import Fresh
from reparam.objectives.denoising import WEIGHTINGS, denoising
from reparam.stats import law_tests, mean_test
from reparam.training import Run, Training, fit

GRID = {
    "schedule": ("cosine", "linear", "uniform", "edm"),
    "prediction": ("eps", "x0", "v"),
    "weighting": ("eps", "x0", "v", "min_snr"),
}


def fresh(seed=0):
    return Fresh(torch.Generator().manual_seed(seed))


def rings(n, seed=0):
    """Points of a ring of radius 3 about (5, -2), with a second coordinate a hundred times larger."""
    angle = 2 * math.pi * torch.rand(n, generator=torch.Generator().manual_seed(seed))
    return torch.stack([5 + 3 * angle.cos(), 100 * (-2 + 3 * angle.sin())], 1)


def steps(model, batch, n, rate):
    """The losses of so many steps of Adam, all with the same times and noise."""
    optimizer, losses = torch.optim.Adam(model.parameters(), rate), []
    for _ in range(n):
        optimizer.zero_grad()
        loss = model.loss(batch, fresh(1)).total
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# A law that is known.


class Gaussian(nn.Module):
    """The best network for data of N(0, covariance): v = a eps - b x has the expectation a b (I - C) (a² C + b² I)^-1 z."""

    def __init__(self, covariance):
        super().__init__()
        values, self.vectors = torch.linalg.eigh(covariance)
        self.values = nn.Parameter(values)

    def forward(self, z, log_snr, label=None):
        a2 = log_snr.sigmoid()[:, None]
        gain = (a2 * (1 - a2)).sqrt() * (1 - self.values) / (a2 * self.values + 1 - a2)
        return (z @ self.vectors * gain) @ self.vectors.T


@pytest.fixture(params=["cosine", "edm"])
def gaussian(request):
    """A model of N(loc, L C L) with that network, in double, and its law."""
    covariance = torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64)
    model = Diffusion(Config(hidden=(4,), schedule=request.param), (2,)).double()
    model.network = Gaussian(covariance)
    loc, scale = torch.tensor([3.0, -50.0], dtype=torch.float64), torch.tensor([0.5, 20.0], dtype=torch.float64)
    model.units.shift.copy_(loc)
    model.units.scale.copy_(scale)
    return model, MultivariateNormal(loc, scale[:, None] * covariance * scale)


def test_density_and_bound_are_in_the_units_of_the_data(gaussian):
    model, law = gaussian
    torch.manual_seed(0)
    x = law.sample((400,))
    truth = law.log_prob(x)
    torch.testing.assert_close(model.log_prob(x[:20]), truth[:20], atol=2e-3, rtol=0)
    bound = model.bound(x, k=256, source=fresh())
    torch.testing.assert_close(bound.total, bound.prior + bound.reconstruction + bound.diffusion)
    # Of the expectation over data, the bound is tight up to the noise of the cleanest state: it catches 0.2 nats.
    verdict = mean_test(bound.total + truth, 0.0)
    assert verdict, verdict
    assert verdict.detectable < 0.2


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "heun"])
def test_samples_follow_the_law(gaussian, sampler):
    """2000 samples of two values, whitened: the tests of a law, which see an error of a fifth of the standard deviation."""
    model, law = gaussian
    x = model.sample(2000, fresh(), sampler=sampler, steps=30 if sampler == "heun" else 150)
    white = torch.linalg.solve_triangular(law.scale_tril, (x - law.loc).mT, upper=False)
    for verdict in law_tests(torch.special.ndtr(white)):
        assert verdict, verdict


def test_imputed_values_follow_the_conditional_law(gaussian):
    """500 fillings of x_1 at a known x_0 that is 1.5 deviations off: a shift of 0.6 of the conditional deviation is caught.

    A single pass, which puts known values in and repeats nothing, is off by 0.75 of it and fails.
    """
    model, _ = gaussian
    x = torch.tensor([[3.0 + 0.5 * 1.5, math.nan]], dtype=torch.float64).expand(500, 2)
    mean, deviation = -50 + 20 * 0.8 * 1.5, 20 * 0.6
    for repeats, fine in ((10, True), (1, False)):
        filled = model.impute(x, ~x.isnan(), fresh(), steps=50, repeats=repeats)
        assert torch.equal(filled[:, 0], x[:, 0])
        verdicts = law_tests(torch.special.ndtr((filled[:, 1] - mean) / deviation))
        assert all(verdicts) == fine, [str(verdict) for verdict in verdicts]


def test_a_reward_of_samples_is_maximised_through_the_chain():
    """The first coordinate of samples rises by at least 2 deviations in 40 steps of Adam, with one gradient a step."""
    torch.manual_seed(0)
    model = Diffusion(Config(hidden=(32,)), (2,))
    source = fresh()
    before = model.sample(500, source, steps=10)[:, 0].mean()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        (-model.rsample(32, source, steps=10)[:, 0].mean()).backward()
        optimizer.step()
    assert model.sample(500, source, steps=10)[:, 0].mean() > before + 2


def test_the_gradient_through_the_chain_is_that_of_the_law(gaussian):
    """d E[w' x]^2 / d C by the chain against the closed form of Gaussian data: within 5 %, and 6.1 standard errors of it."""
    model, law = gaussian
    w = torch.tensor([0.7, -0.02], dtype=torch.float64)
    draws = []
    for seed in range(10):
        cost = ((model.rsample(1000, fresh(seed), sampler="heun", steps=20) - law.loc) @ w).square().mean()
        draws.append(torch.autograd.grad(cost, model.network.values)[0])
    # E = sum_i values_i (vectors_i' scale w)^2
    exact = (model.network.vectors.T @ (model.units.scale * w)) ** 2
    draws = torch.stack(draws)
    error = draws.std(0) / len(draws) ** 0.5
    assert (error < 0.02 * exact.norm()).all()
    assert ((draws.mean(0) - exact).abs() < 6.1 * error + 0.03 * exact.norm()).all()


# Settings.


@pytest.mark.parametrize(("schedule", "prediction", "weighting"), [*itertools.product(*GRID.values())])
def test_every_cell_learns(schedule, prediction, weighting):
    """In 20 steps of Adam, all with the same times and noise, the loss falls to at most 0.4 of what it was."""
    torch.manual_seed(0)
    x = rings(32)
    model = Diffusion(Config(hidden=(32,), schedule=schedule, prediction=prediction, weighting=weighting), (2,))
    model.units.fit(x)
    losses = steps(model, x, 21, 1e-2)
    assert losses[20] < 0.4 * losses[0]
    assert model.sample(3, fresh(), steps=3).isfinite().all()


@pytest.mark.parametrize(("schedule", "prediction", "weighting"), [*itertools.product(*GRID.values())])
def test_the_loss_is_that_of_its_settings(schedule, prediction, weighting):
    """An untrained network says zero: the loss is that of zeros with that schedule, prediction and weighting."""
    config = Config(hidden=(4,), schedule=schedule, prediction=prediction, weighting=weighting, times="independent", dropout=0.25)
    model, x = Diffusion(config, (2,)), rings(16)
    schedules = {"edm": EDM("lognormal")}.get(schedule) or VP(schedule)
    zero = as_denoiser(lambda z, log_snr: torch.zeros_like(z), PREDICTIONS[prediction](), schedules)
    source = fresh()
    expected = denoising(zero, x, schedules, weighting=WEIGHTINGS[weighting], times=source, source=source)
    torch.testing.assert_close(model.loss(x, fresh()).total, expected.mean())
    assert model.schedule == ({"edm": EDM("rho")}.get(schedule) or VP(schedule))
    assert [module.p for module in model.modules() if isinstance(module, nn.Dropout)] == [0.25]
    assert model._times(x.device, source) is source


def data_of(values, shape, n=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    if values == "real":
        return 5 + 3 * torch.randn(n, *shape, generator=generator), None
    levels = 1 if values == "binary" else 6
    return torch.randint(levels + 1, (n, *shape), generator=generator).float(), None if values == "binary" else levels


@pytest.mark.parametrize(
    ("network", "shape", "values", "times"),
    [
        ("mlp", (5,), "counts", "sobol"),
        ("mlp", (2, 3, 4), "real", "independent"),
        ("unet", (2, 9, 7), "real", "sobol"),
        ("unet", (1, 8, 8), "counts", "independent"),
        ("unet", (3, 11), "binary", "sobol"),
        ("signal", (9,), "binary", "independent"),
        ("signal", (1, 5, 6), "real", "sobol"),
    ],
)
def test_every_network_and_unit(network, shape, values, times):
    """In 10 steps with the same noise the loss falls to at most 0.97; samples and fillings are in the units of the data."""
    torch.manual_seed(0)
    x, levels = data_of(values, shape)
    label = torch.arange(32) % 2
    config = Config(network=network, hidden=(16,), channels=(8, 8), times=times, dropout=0.1)
    model = Diffusion(config, shape, values, levels, ("no", "yes"))
    model.units.fit(x)
    model.labels.fit(label)
    z = model.units.standardise(x)
    torch.testing.assert_close(model.units.restore(z), x, rtol=1e-4, atol=1e-4)
    assert abs(z.mean()) < 1e-4
    assert abs(z.std() - 1) < 0.1
    losses = steps(model, (x, label), 11, 3e-3)
    assert losses[10] < 0.97 * losses[0]
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    model.eval()
    sample = model.sample(4, fresh(), steps=4)
    assert sample.shape == (4, *shape)
    model.units.check(sample, values=True)
    assert torch.equal(sample, model.sample(4, fresh(), steps=4))
    assert model.trajectory(4, fresh(), frames=3, steps=4).shape == (3, 4, *shape)
    bound = model.bound(x, label=label, k=2, source=fresh())
    assert bound.total.shape == (32,)
    mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(3)) < 0.5
    filled = model.impute(torch.where(mask, x, math.nan), mask, fresh(), steps=3, repeats=2)
    assert torch.equal(filled[mask], x[mask])
    model.units.check(filled, values=True)


def test_times_of_low_discrepancy_are_a_function_of_the_source():
    model = Diffusion(Config(hidden=(8,)), (2,))
    x = rings(64)
    losses = [model.loss(x, fresh(seed)).total for seed in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]
    u = model._times(x.device, fresh()).draw(rp.noise.Noise(rp.noise.UNIFORM, torch.Size()), torch.Size([64]))
    assert (u * 64).long().unique().numel() == 64  # one in each of 64 cells


def test_validation_takes_several_times_and_hides_no_label():
    model = Diffusion(Config(hidden=(8,), label_dropout=0.9), (2,), classes=("a", "b"))
    seen = []
    model.network.register_forward_pre_hook(lambda module, args: seen.append(args[2]))
    x, label = rings(64), torch.arange(64) % 2
    model.loss((x, label))
    model.eval()
    model.loss((x, label))
    assert (seen[0] == 2).double().mean() > 0.7
    assert torch.equal(seen[1], label.repeat(4))


def test_each_noise_of_the_bound_has_the_label_of_its_datum():
    seen = []
    model = Diffusion(Config(hidden=(8,)), (2,), classes=("low", "high"))
    model.network.register_forward_pre_hook(lambda module, args: seen.append(args))
    label = torch.tensor([0, 0, 1, 0, 1])
    model.bound(20.0 * (2 * label - 1)[:, None].expand(5, 2), label=label, k=8, source=fresh())
    ((z, log_snr, told),) = seen
    clean = log_snr > 0  # z is about 20 or -20, at a deviation of at most 1
    assert clean.sum() > 10
    assert torch.equal((z[clean, 0] > 0).long(), told[clean])


def test_guidance_goes_from_the_unknown_label_to_the_label_and_beyond():
    torch.manual_seed(0)
    model = Diffusion(Config(hidden=(16,)), (2,), classes=("a", "b"))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    z, log_snr, label = torch.randn(6, 2), torch.linspace(-5, 5, 6), torch.arange(6) % 2
    plain, told = model.denoiser()(z, log_snr), model.denoiser(label)(z, log_snr)
    assert not torch.allclose(plain, told)
    for guidance in (0.0, 1.0, 2.5):
        torch.testing.assert_close(model.denoiser(label, guidance)(z, log_snr), plain + guidance * (told - plain))


# Moons: trained as a person would, once for the tests that follow.


@pytest.fixture(scope="module")
def moons(tmp_path_factory):
    """A model of the two moons after 600 steps of a small network, its run, its splits and the result of training."""
    path = tmp_path_factory.mktemp("moons")
    options = DataOptions(data="moons")
    data, splits = options.load()
    torch.manual_seed(0)
    model = Diffusion.for_data(Config(hidden=(64, 64)), splits.train)
    training = Training(epochs=12, batch_size=32, learning_rate=3e-3, ema=0.99, patience=0, threads=1, checkpoint_every=100)
    with Run.create(path, record("diffusion", model, training, options, data, splits)) as run:
        result = fit(model, model.inputs(splits.train), model.inputs(splits.validation), training, run, progress=False)
        run.load_weights(model, "best")
    return model.eval(), path, splits, result


def test_training_lowers_the_validation_loss(moons):
    """From 1, of a network that says nothing, to below 0.75; the best epoch is the one with the lowest loss."""
    _, _, _, result = moons
    losses = [row["validation/loss"] for row in result.history]
    assert result.best == min(losses) < 0.75


def test_samples_are_of_the_label_that_was_asked_for(moons):
    """Of 400 samples of each label at least 90 % lie nearer to their own arc than to the other.

    A model of which 97 % do fails with a probability below 1e-9, one of which 80 % do passes with one below 1e-6.
    """
    model, *_ = moons
    for place, name in enumerate(model.classes):
        x = model.sample(400, fresh(place), label=name, steps=50)
        assert (distance(x, place) < distance(x, 1 - place)).double().mean() > 0.9
    drawn = model.sample(400, fresh(9), steps=50)
    verdict = mean_test((distance(drawn, 0) < distance(drawn, 1)).double(), 0.5)
    assert verdict, verdict


def distance(x, place):
    """From points to the half circle of a moon, about."""
    x = x - torch.tensor([[0.0, 0.0], [1.0, 0.5]])[place]
    x = x * torch.tensor([1.0, 1.0 - 2 * place])
    ends = torch.stack([(x - torch.tensor([end, 0.0])).norm(dim=1) for end in (-1.0, 1.0)]).amin(0)
    return torch.where(x[:, 1] > 0, (x.norm(dim=1) - 1).abs(), ends)


def test_a_run_gives_the_model_back(moons):
    model, path, splits, _ = moons
    with Run.open(path) as run:
        again = model_of(run)
    assert again.classes == model.classes == ("0", "1")
    assert again.config == model.config
    for options in ({"label": "1", "guidance": 2.0}, {"sampler": "heun"}, {}):
        assert torch.equal(again.sample(7, fresh(), steps=10, **options), model.sample(7, fresh(), steps=10, **options))
    x, y = splits.test.x, splits.test.places
    assert torch.equal(again.loss((x, y), fresh()).total, model.loss((x, y), fresh()).total)


def test_evaluation_in_numbers_and_words(moons):
    """The moons of noise 0.08 and known label have an entropy of about 0.04 nats, an untrained model says 2: half is learned."""
    model, _, splits, _ = moons
    x, label = model.inputs(splits.test)
    found = model.evaluate((x[:60], label[:60]), k=16, source=fresh())
    assert found.rows == 60
    assert found.labelled
    assert found.bound == pytest.approx(found.diffusion + found.reconstruction + found.prior, abs=1e-6)
    assert found.bits is None
    assert -0.2 < found.ode < 1
    assert abs(found.bound - found.ode) < 6 * (found.bound_error + found.ode_error)
    assert [line.startswith("  ") for line in found.lines()] == [True] * 3
    assert [len(tile) for tile in found.tiles()] == [3] * 3
    unlabelled = model.evaluate(splits.test.x[:1], k=3, source=fresh())
    assert not unlabelled.labelled
    assert unlabelled.bound_error is None


@pytest.mark.parametrize("values", ["binary", "counts"])
def test_evaluation_of_counts_is_of_probabilities(values):
    """An untrained model of coins that are fair has no bound below log 2 for each."""
    x, levels = data_of(values, (6,), n=50)
    model = Diffusion(Config(hidden=(8,)), (6,), values, levels).eval()
    model.units.fit(x)
    found = model.evaluate(x, k=64, source=fresh())
    assert found.ode is None
    assert found.bits == pytest.approx(found.bound / 6 / math.log(2))
    assert found.bits > (1 if values == "binary" else math.log2(7))
    assert len(found.lines()) == len(found.tiles()) == 3


def test_resumes_bit_for_bit(tmp_path):
    splits = split(load("moons"), seed=0, validation=0.1, test=0.1)

    def train(path, epochs):
        torch.manual_seed(0)
        model = Diffusion.for_data(Config(hidden=(8,), dropout=0.2), splits.train)
        training = Training(epochs=epochs, batch_size=256, ema=0.9, threads=1)
        with Run.create(path, {"model": {}, "data": {}}) as run:
            result = fit(model, model.inputs(splits.train), model.inputs(splits.validation), training, run, progress=False)
        return model.state_dict(), [{k: v for k, v in row.items() if k != "seconds"} for row in result.history]

    train(tmp_path / "twice", 2)
    torch.manual_seed(7)  # whatever the process did meanwhile
    twice, once = train(tmp_path / "twice", 4), train(tmp_path / "once", 4)
    assert once[1] == twice[1]
    assert all(torch.equal(once[0][name], twice[0][name]) for name in once[0])


# Labels.


def test_other_data_may_have_their_labels_in_another_order():
    x = rings(6)
    model = Diffusion(Config(hidden=(4,)), (2,), classes=("cat", "dog", "eel"))
    data = from_tensor(x, torch.tensor([5, 7, 5, 7, 7, 5]), name="pets")
    with pytest.raises(BadInputError, match="label '5' is none that this model knows: give one of cat, dog, eel"):
        model.inputs(data)
    numbers = Diffusion(Config(hidden=(4,)), (2,), classes=("7", "9", "5"))
    assert numbers.inputs(data)[1].tolist() == [2, 0, 2, 0, 0, 2]
    assert torch.equal(numbers.inputs(from_tensor(x, name="none")), x)
    assert torch.equal(Diffusion(Config(hidden=(4,)), (2,)).inputs(data), x)
    assert not Diffusion.for_data(Config(hidden=(4,), conditional=False), data).classes


def test_labels_are_drawn_as_often_as_they_come():
    model = Diffusion(Config(hidden=(4,)), (2,), classes=("a", "b", "c"))
    model.labels.fit(torch.tensor([0, 2, 2, 2]))
    drawn = model.labels.draw(4000, fresh())
    assert not (drawn == 1).any()
    verdict = mean_test((drawn == 2).double(), 0.75)
    assert verdict, verdict


# Bad input.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"network": "conv"}, "network='conv': give one of None, mlp, unet, signal"),
        ({"schedule": "cos"}, "schedule='cos': give one of cosine, linear, uniform, edm"),
        ({"prediction": "epsilon"}, "prediction='epsilon': give one of eps, x0, v"),
        ({"weighting": "snr"}, "weighting='snr': give one of"),
        ({"times": "random"}, "times='random': give one of sobol, independent"),
        ({"hidden": ()}, r"hidden=\(\): give at least one width"),
        ({"channels": (8, 0)}, r"channels=\(8, 0\): give at least one width, and positive ones"),
        ({"dropout": 1.0}, "dropout=1.0: give a share from 0 to below 1"),
        ({"label_dropout": math.nan}, "label_dropout=nan: give a share"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(BadInputError, match=message):
        Config(**settings)


@pytest.mark.parametrize(
    ("settings", "shape", "more", "message"),
    [
        ({"network": "unet"}, (5,), {}, r"have shape \(5,\): use mlp or signal"),
        ({"channels": (8,) * 5}, (1, 8, 8), {}, "has 5 scales, and data of shape"),
        ({"conditional": True}, (5,), {}, "conditional=True, and the data have no labels"),
        ({}, (5,), {"values": "tokens"}, "the data are texts: use vae"),
        ({}, (5,), {"values": "counts"}, "values='counts' are 0..levels: give levels"),
    ],
)
def test_settings_that_do_not_fit_the_data(settings, shape, more, message):
    with pytest.raises(ValueError, match=message):
        Diffusion(Config(**settings), shape, **more)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": "2"}, "label '2' is none that this model knows: give one of 0, 1"),
        ({"label": ["0", "1"]}, r"\(2,\) labels were given for 3 data"),
        ({"label": torch.tensor([0, 1, 2])}, r"places of classes, whole numbers 0..1"),
        ({"label": torch.tensor([0.0, 1.0, 1.0])}, "places of classes, whole numbers"),
        ({"label": torch.tensor([True, False, True])}, "places of classes, whole numbers"),
        ({"label": 0}, "label=0: give the name of a class, one of 0, 1"),
        ({"label": [0, 1, 1]}, "label 0 is none that this model knows"),
        ({"steps": 0}, "steps=0: give a whole number, at least 1"),
        ({"steps": 2.5}, "steps=2.5: give a whole number"),
        ({"sampler": "euler"}, "sampler='euler': give one of ddpm, ddim, heun"),
        ({"guidance": -1.0}, "guidance=-1.0: give a finite number, at least 0"),
        ({"guidance": math.nan}, "guidance=nan"),
    ],
)
@pytest.mark.parametrize("method", ["sample", "rsample", "trajectory"])
def test_bad_sampling(options, message, method):
    model = Diffusion(Config(hidden=(4,)), (2,), classes=("0", "1"))
    with pytest.raises(BadInputError, match=message):
        getattr(model, method)(3, **options)


def test_labels_and_guidance_want_a_model_with_labels():
    model = Diffusion(Config(hidden=(4,)), (2,))
    with pytest.raises(BadInputError, match="label='1', and this model was trained without labels: leave it out"):
        model.sample(3, label="1")
    with pytest.raises(BadInputError, match="guidance=2, and this model was trained without labels: leave it out"):
        model.sample(3, guidance=2.0)
    with pytest.raises(BadInputError, match="guidance=0"):
        model.impute(torch.zeros(3, 2), torch.ones(3, 2, dtype=torch.bool), guidance=0.0)


@pytest.mark.parametrize(
    ("values", "batch", "error", "message"),
    [
        ("real", torch.zeros(5, 2), ValueError, r"has shape \(5, 2\): this model takes N x 3"),
        ("real", torch.tensor(1.0), ValueError, r"has shape \(\)"),
        ("real", torch.full((5, 3), math.nan), ValueError, "NaN or infinite values: drop or fill them"),
        ("real", torch.ones(5, 3, dtype=torch.complex64), TypeError, "complex64: give real numbers"),
        ("counts", torch.full((5, 3), 7.0), ValueError, "values from 7 to 7, this model is of counts 0..6"),
        ("binary", torch.full((5, 3), 0.5), ValueError, "values from 0.5 to 0.5, this model is of 0 and 1"),
    ],
)
@pytest.mark.parametrize("method", ["loss", "bound", "impute"])
def test_bad_batches(values, batch, error, message, method):
    model = Diffusion(Config(hidden=(4,)), (3,), values, 6)
    more = (torch.ones_like(batch, dtype=torch.bool),) if method == "impute" else ()
    with pytest.raises(error, match=message) as caught:
        getattr(model, method)(batch, *more)
    assert "\n" not in str(caught.value)


def test_labels_of_a_batch_are_checked():
    x, label = rings(6), torch.tensor([0, 1, 2, 0, 1, 2])
    model = Diffusion(Config(hidden=(4,)), (2,), classes=("a", "b"))
    with pytest.raises(BadInputError, match=r"whole numbers 0\.\.1"):
        model.loss((x, label))
    with pytest.raises(BadInputError, match=r"\(3,\) labels were given for 6 data"):
        model.loss((x, label[:3].clamp(max=1)))
    with pytest.raises(BadInputError, match="labels, and this model was trained without labels"):
        Diffusion(Config(hidden=(4,)), (2,)).loss((x, label))


def test_a_model_that_hides_no_label_knows_no_unknown_one():
    model = Diffusion(Config(hidden=(4,), label_dropout=0), (2,), classes=("a", "b"))
    x = rings(4)
    assert model.sample(4, steps=2).shape == model.sample(4, steps=2, label="a").shape == (4, 2)
    model.bound(x, label="a")
    for wants_unknown in (
        lambda: model.sample(4, guidance=2.0),
        lambda: model.bound(x),
        lambda: model.log_prob(x),
        lambda: model.loss(x),
        lambda: model.impute(x, x > 0),
    ):
        with pytest.raises(BadInputError, match="trained with label_dropout=0, so it knows no data of unknown label"):
            wants_unknown()


def test_no_data_is_fine_where_nothing_is_averaged():
    model = Diffusion(Config(hidden=(4,)), (2,))
    x = torch.zeros(0, 2)
    assert model.sample(0, steps=2).shape == model.impute(x, x > 0, steps=2).shape == (0, 2)
    assert model.bound(x).total.shape == (0,)
    with pytest.raises(BadInputError, match="0 data and k=2 noises for each: at least one of each"):
        model.evaluate(x, k=2)
    with pytest.raises(BadInputError, match="4 data and k=0 noises"):
        model.evaluate(rings(4), k=0)


def test_spectrograms_are_signals_of_many_channels():
    class Codec:
        kind = "audio"

        def facts(self):
            return {"kind": "audio"}

    data = dataclasses.replace(from_tensor(torch.randn(4, 1, 5, 6), name="sounds"), codec=Codec())
    assert Diffusion.for_data(Config(channels=(8,)), data).config.network == "signal"
    assert Diffusion.for_data(Config(channels=(8,), network="unet"), data).config.network == "unet"


def test_bad_imputation():
    model = Diffusion(Config(hidden=(4,)), (3,))
    x = torch.zeros(2, 3)
    for mask in (torch.ones(2, 3), torch.ones(3, dtype=torch.bool)):
        with pytest.raises(ValueError, match="booleans of the shape of x are wanted"):
            model.impute(x, mask)
    for option, least in (("steps", 2), ("repeats", 1)):
        with pytest.raises(BadInputError, match=f"{option}={least - 1}: give a whole number, at least {least}"):
            model.impute(x, x == 0, **{option: least - 1})
    with pytest.raises(BadInputError, match=r"repeats=2\.5: give a whole number"):
        model.impute(x, x == 0, repeats=2.5)
    with pytest.raises(BadInputError, match="frames=0: give a whole number"):
        model.trajectory(3, frames=0)
    with pytest.raises(BadInputError, match="n=-1: give how many"):
        model.sample(-1)


def test_counts_have_no_density():
    with pytest.raises(BadInputError, match=r"log_prob is of reals, and this model is of counts 0..6: use bound"):
        Diffusion(Config(hidden=(4,)), (3,), "counts", 6).log_prob(torch.zeros(2, 3))


def test_options_of_the_command_line_are_those_of_sample():
    import inspect

    parameters = inspect.signature(Diffusion.sample).parameters
    options = {field.name: field.default for field in dataclasses.fields(Sampling)}
    assert options == {name: parameters[name].default for name in options}
    assert {*options, "self", "n", "source"} == set(parameters)
