"""The Bayesian neural network as a model: its bound, its posterior where that is known, what it predicts, and what it refuses."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Categorical, Normal, StudentT

import reparam as rp
from reparam.data import from_tensor, load, split
from reparam.errors import BadInputError
from reparam.models.bnn import BNN, ClassPrediction, Config, Prediction
from reparam.models.bnn_evaluation import calibration_error, evaluate
from reparam.nn.response import ClassResponse, RealResponse
from reparam.nn.weight_prior import FanIn
from reparam.noise import Fresh
from reparam.stats import detectable_mean, law_tests, mean_test

LIKELIHOODS = ("normal", "heteroscedastic", "student_t", "categorical")


def fresh(seed=0):
    return Fresh(torch.Generator().manual_seed(seed))


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def wave(n=60, seed=0):
    """Noisy heights of a sine, in units that are not of the order of one."""
    x = 100 + 10 * normal(n, 1, seed=seed)
    return x, 50 + 20 * torch.sin((x - 100) / 6) + 2 * normal(n, 1, seed=seed + 1)


def made(likelihood="normal", n=60, **settings):
    """A network for waves, or for whether a wave is high, and its data."""
    x, y = wave(n)
    config = Config(**{"hidden": (16,), "annealing": 0, "likelihood": likelihood} | settings)
    if likelihood == "categorical":
        y = (y[:, 0] > 50).long()
        bnn = BNN(config, (1,), num_data=n, classes=("low", "high"))
    else:
        bnn = BNN(config, (1,), num_data=n, responses=("height",))
    bnn.start_at(x, y)
    return bnn, (x, y)


def trained(bnn, batch, steps, rate=2e-2):
    """The losses of steps on the whole batch, with a learning rate that falls to zero."""
    optimizer, losses, source = torch.optim.Adam(bnn.parameters(), rate), [], fresh()
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        optimizer.zero_grad()
        loss = bnn.loss(batch, source)
        loss.total.backward()
        optimizer.step()
        losses.append(loss.total.item())
    return losses


# The bound.


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("method", ["local", "flipout", "weights"])
def test_the_loss_falls(likelihood, method):
    """By half a nat a datum in 150 steps for reals, by a fifth of a nat for classes, and predictions are finite."""
    bnn, batch = made(likelihood, method=method)
    losses = trained(bnn, batch, 150)
    fall = sum(losses[:5]) / 5 - sum(losses[-20:]) / 20
    assert fall > (0.2 if likelihood == "categorical" else 0.5)
    found = bnn.eval().predict(batch[0], k=20, source=fresh())
    assert all(bool(part.isfinite().all()) for part in (found.mean, found.epistemic, found.aleatoric, found.total))


def test_the_parts_add_up_and_annealing_weighs_the_divergence_alone():
    bnn, batch = made(annealing=4)
    for step in range(6):
        assert float(bnn.weight) == min(1.0, (step + 1) / 4)
        weight = bnn.weight
        loss = bnn.loss(batch, fresh(step))
        parts = loss.parts
        torch.testing.assert_close(parts["elbo"], parts["log_likelihood"] - parts["divergence"])
        torch.testing.assert_close(loss.total.detach(), weight * parts["divergence"] - parts["log_likelihood"])
    assert int(bnn.step) == 6
    bnn.eval()
    loss = bnn.loss(batch, fresh())
    torch.testing.assert_close(loss.total, -loss.parts["elbo"])
    assert int(bnn.step) == 6


def test_evaluation_within_the_annealing_has_the_whole_divergence():
    bnn, batch = made(annealing=100)
    loss = bnn.eval().loss(batch, fresh())
    torch.testing.assert_close(loss.total, -loss.parts["elbo"])


@pytest.mark.parametrize(("training", "looks"), [(True, 3), (False, 8)])
def test_draws_of_a_step(training, looks):
    """As many as `samples`, and in validation at least eight: calls of the network in one loss."""
    bnn, batch = made(samples=3)
    calls = []
    bnn.net.register_forward_hook(lambda *_: calls.append(1))
    bnn.train(training).loss(batch, fresh())
    assert len(calls) == looks


def test_the_divergence_is_that_of_the_training_set_whatever_the_batch():
    bnn, (x, y) = made()
    whole, half = bnn.loss((x, y), fresh()).parts["divergence"], bnn.loss((x[:30], y[:30]), fresh()).parts["divergence"]
    assert whole == half
    torch.testing.assert_close(whole, bnn.net.kl().detach() / 60)


def test_likelihoods_are_in_the_units_of_the_response():
    """In millimetres the log-likelihood is log 1000 less than in metres, and errors are a thousandfold."""
    found = []
    for unit in (1.0, 1000.0):
        torch.manual_seed(0)
        x, y = wave()
        bnn = BNN(Config(hidden=(8,), annealing=0), (1,), num_data=60, responses=("height",))
        bnn.start_at(x, y * unit)
        found.append((bnn.loss((x, y * unit), fresh()).parts, bnn.eval().evaluate((x, y * unit), k=10, source=fresh())))
    (parts, one), (scaled, other) = found
    torch.testing.assert_close(parts["log_likelihood"] - scaled["log_likelihood"], torch.tensor(math.log(1000)), atol=1e-3, rtol=0)
    assert one.log_likelihood - other.log_likelihood == pytest.approx(math.log(1000), abs=1e-3)
    assert other.rmse["height"] == pytest.approx(1000 * one.rmse["height"], rel=1e-4)
    assert other.coverage == pytest.approx(one.coverage, abs=0.02)


def linear(n=64):
    """A linear layer in one standardised input, known noise and N(0, 1) prior: the posterior is a product of known normals.

    With noise s in units of the response, both precisions are 1 + N / s^2, and the mean of the weight is N / s^2 mean(x y) / that.
    """
    x = normal(n, 1)
    x = (x - x.mean()) / x.std(correction=0)
    y = 0.7 * x + 0.5 * normal(n, 1, seed=5)
    bnn = BNN(Config(annealing=0, prior="normal"), (1,), num_data=n, responses=("y",), network=nn.Linear(1, 1))
    bnn.start_at(x, y)
    bnn.response.log_noise.requires_grad_(False)
    z, s = bnn.response.units.standardise(y), (bnn.response.noise / bnn.response.units.scale).detach()
    return bnn, (x, y), z, s, 1 + n / s**2


@pytest.mark.parametrize("likelihood", LIKELIHOODS[:3])
@pytest.mark.parametrize("unit", [1e-20, 1e30])
def test_responses_in_units_whose_squares_leave_the_floats(likelihood, unit):
    bnn, (x, y) = made(likelihood)
    bnn.start_at(x, y * unit)
    reference, _ = made(likelihood)
    reference.load_state_dict(
        bnn.state_dict() | {key: reference.state_dict()[key] for key in reference.state_dict() if "units" in key}
    )
    loss, plain = bnn.loss((x, y * unit), fresh()).total, reference.loss((x, y), fresh()).total
    torch.testing.assert_close(loss - math.log(unit), plain, rtol=0, atol=1e-4)
    found = bnn.eval().evaluate((x, y * unit), k=5, source=fresh())
    wanted = reference.eval().evaluate((x, y), k=5, source=fresh())
    assert found.rmse["height"] == pytest.approx(unit * wanted.rmse["height"], rel=1e-4)
    assert found.log_likelihood == pytest.approx(wanted.log_likelihood - math.log(unit), abs=1e-4)
    assert found.coverage == wanted.coverage


def test_it_finds_the_posterior_of_linear_regression():
    """Standard deviations within 5 %, means within a tenth of them. Each step sees the data 16 times, for less noise."""
    bnn, (x, y), z, s, precision = linear()
    trained(bnn, (x.repeat(16, 1), y.repeat(16, 1)), 500, 3e-2)
    found = bnn.net.posterior()
    for name, mean in {"weight": (x * z).sum() / s**2 / precision, "bias": z.sum() / s**2 / precision}.items():
        torch.testing.assert_close(found[name].scale.flatten(), precision.rsqrt(), rtol=0.05, atol=0)
        torch.testing.assert_close(found[name].loc.flatten(), mean.reshape(1), rtol=0, atol=0.1 * float(precision.rsqrt()))


def test_at_the_posterior_the_bound_is_the_evidence():
    """The mean over 300 losses, at a false-alarm rate of 1e-9: 1 nat of the evidence of the whole set would be caught."""
    bnn, (x, y), z, s, precision = linear()
    n = len(x)
    with torch.no_grad():
        bnn.net.module.weight.copy_((x * z).sum() / s**2 / precision)
        bnn.net.module.bias.copy_(z.sum() / s**2 / precision)
        for log_scale in bnn.net.log_scale.parameters():
            log_scale.copy_(-0.5 * precision.log())
    bnn.eval()
    source = fresh()
    bounds = torch.stack([n * bnn.loss((x, y), source).parts["elbo"].double() for _ in range(300)])
    design = torch.cat([x, torch.ones(n, 1)], 1).double()
    covariance = design @ design.T + s.double() ** 2 * torch.eye(n)
    prior = torch.distributions.MultivariateNormal(torch.zeros(n, dtype=torch.float64), covariance)
    evidence = prior.log_prob(z[:, 0].double()) - n * bnn.response.units.scale.double().log()
    verdict = mean_test(bounds, evidence.item())
    assert verdict, verdict
    assert detectable_mean(300, bounds.std().item()) < 1


# What it predicts.


def test_far_from_the_data_it_is_less_sure():
    """Beyond the data the epistemic part is at least thrice that on them; the learned noise is at most twice the true one."""
    x = 2 * normal(120, 1)
    y = x.abs() + 0.1 * normal(120, 1, seed=2)
    bnn = BNN(Config(annealing=200), (1,), num_data=120, responses=("y",))
    bnn.start_at(x, y)
    trained(bnn, (x, y), 500, 3e-2)
    found = bnn.eval().predict(torch.tensor([[-1.0], [1.0], [20.0]]), k=200, source=fresh())
    at, there, beyond = found.epistemic[:, 0]
    assert beyond > 3 * max(at, there)
    assert 0.08 < float(found.aleatoric[0, 0]) < 0.2


def test_a_prediction_is_the_mixture_of_its_draws():
    loc = normal(4000, 1, 1)
    found = Prediction(Normal(3 * loc, 4.0), ("y",))
    torch.testing.assert_close(found.epistemic, 3 * loc[:, 0].std(0, correction=0)[None])
    torch.testing.assert_close(found.total**2, found.epistemic**2 + found.aleatoric**2)
    mixture = torch.distributions.MixtureSameFamily(Categorical(torch.ones(4000)), Normal(3 * loc[:, 0, 0], 4.0))
    y = torch.tensor([[1.5]])
    torch.testing.assert_close(found.log_prob(y), mixture.log_prob(y)[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.cdf(y)[0], mixture.cdf(y)[0], rtol=1e-4, atol=1e-4)
    for p in (0.01, 0.3, 0.5, 0.99):
        torch.testing.assert_close(found.cdf(found.quantile(p)), torch.tensor([[p]]), rtol=0, atol=1e-5)


def test_the_noise_of_a_mixture_has_the_mean_of_the_variances():
    found = Prediction(Normal(torch.zeros(2, 1, 1), torch.tensor([[[3.0]], [[4.0]]])), ("y",))
    torch.testing.assert_close(found.aleatoric, torch.tensor([[12.5]]).sqrt())
    assert found.sample(5, fresh()).shape == (5, 1, 1)  # of two networks


def test_quantiles_of_students_t():
    df = torch.tensor(5.0)
    one = Prediction(StudentT(df.expand(1, 1, 1), torch.ones(1, 1, 1), 2.0), ("y",))
    torch.testing.assert_close((one.quantile(0.975) - 1) / 2, torch.tensor([[2.570582]]), rtol=1e-5, atol=0)
    two = Prediction(StudentT(df.expand(2, 1, 1), torch.tensor([[[-1.0]], [[2.0]]]), 2.0), ("y",))
    for p in (0.001, 0.6, 0.999):
        torch.testing.assert_close(two.cdf(two.quantile(p)), torch.tensor([[p]]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("likelihood", LIKELIHOODS[:3])
def test_draws_have_the_law_of_the_prediction(likelihood):
    """800 draws at one point, each of a network of its own, are uniform by their cdf: at 1e-9, 0.23 off would be caught."""
    bnn, (x, _) = made(likelihood)
    found = bnn.eval().predict(x[:1].expand(800, 1), k=800, source=fresh())
    draws = found.sample(800, fresh(1))
    assert draws.shape == (800, 800, 1)
    u = found.cdf(draws[:, :, 0].diagonal()[:, None])[:, 0].double()
    for verdict in law_tests(u):
        assert verdict, verdict


def test_uncertainties_of_classes():
    law = Categorical(probs=torch.tensor([[[0.99, 0.01], [0.5, 0.5], [1.0, 0.0]], [[0.01, 0.99], [0.5, 0.5], [1.0, 0.0]]]))
    found = ClassPrediction(law, ("no", "yes"))
    total = torch.tensor([math.log(2), math.log(2), 0.0])
    torch.testing.assert_close(found.total, total, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.epistemic, torch.tensor([math.log(2) - law.entropy()[0, 0], 0.0, 0.0]), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.log_prob(torch.tensor([1, 0, 0])).exp(), torch.tensor([0.5, 0.5, 1.0]), atol=1e-5, rtol=0)
    assert found.labels[2] == "no"
    draws = found.sample(9, fresh())
    assert draws.shape == (9, 3)
    assert draws[:, 2].eq(0).all()


def test_a_thousand_sure_classes_leave_nothing_open():
    logits = torch.full((3, 2, 1000), -200.0, dtype=torch.float64)
    logits[..., 7] = 0.0
    found = ClassPrediction(Categorical(logits=logits), tuple(map(str, range(1000))))
    assert found.epistemic.max() < 1e-12


def test_a_draw_at_the_very_end_is_a_class():
    """Probabilities that sum to less than one by rounding, and a uniform number beyond that sum."""
    law = Categorical(probs=torch.tensor([[[0.7, 0.1, 0.2]]]))
    law.probs.mul_(1 - 1e-6)
    end = rp.Replay(torch.full((1, 1, 1), 1 - 1e-9, dtype=torch.float64))
    assert ClassPrediction(law, ("a", "b", "c")).sample(1, end).tolist() == [[2]]


def test_draws_of_classes_come_as_often_as_they_are_probable():
    """30000 draws of three classes, the first each by a calibrated test at 1e-9: 0.02 off would be caught."""
    found = ClassPrediction(Categorical(probs=torch.tensor([[[0.2, 0.3, 0.5]], [[0.6, 0.3, 0.1]]])), ("a", "b", "c"))
    draws = found.sample(30000, fresh())[:, 0]
    for place, p in enumerate((0.4, 0.3, 0.3)):
        verdict = mean_test((draws == place).double(), p)
        assert verdict, verdict


def test_predictions_do_not_depend_on_the_batch():
    bnn, (x, _) = made()
    bnn.eval()
    together = bnn.predict(x, k=7, source=fresh()).mean
    torch.testing.assert_close(bnn.predict(x, k=7, source=fresh(), batch_size=13).mean, together, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(bnn.predict(x[:5], k=7, source=fresh()).mean, together[:5], rtol=1e-5, atol=1e-4)


def test_many_networks_are_drawn_a_few_at_a_time(monkeypatch):
    monkeypatch.setattr("reparam.models.bnn._CHUNK", 100)
    bnn, (x, _) = made()
    assert bnn.eval().law(x, 7, fresh()).batch_shape == (7, 60, 1)


def test_sources_of_noise_are_the_callers():
    bnn, batch = made()
    for source in (fresh, lambda: rp.Sobol(seed=0), lambda: rp.Antithetic(fresh())):
        a, b = (bnn.predict(batch[0], k=8, source=source()).mean for _ in range(2))
        assert torch.equal(a, b)
    mirrored = bnn.law(batch[0], 2, rp.Antithetic(fresh()))
    assert not torch.equal(mirrored.mean[0], mirrored.mean[1])


# What it is worth.


def test_evaluation_against_what_is_known():
    """A thousand responses with their true law: RMSE and log-likelihood of the noise, coverage of the levels."""
    law = Normal(torch.zeros(1, 4000, 2), torch.tensor([1.0, 3.0]).expand(1, 4000, 2))
    y = normal(4000, 2) * torch.tensor([1.0, 3.0])
    found = evaluate(Prediction(law, ("a", "b")), y)
    assert found.rmse == pytest.approx({"a": 1.0, "b": 3.0}, rel=0.06)  # five standard errors of 1 / sqrt(2 n)
    expected = -2 * 0.5 * math.log(2 * math.pi * math.e) - math.log(3.0)
    assert abs(found.log_likelihood - expected) < 5 * found.log_likelihood_error
    for level, share in found.coverage.items():
        assert abs(share - float(level)) < 5 * math.sqrt(0.25 / 8000)
    assert (found.epistemic["a"], found.aleatoric["b"]) == (0.0, pytest.approx(3.0))
    assert "RMSE" in "\n".join(found.lines())
    assert [name for name, _, _ in found.tiles()][:2] == ["RMSE of a", "RMSE of b"]


def test_coverage_is_of_central_intervals():
    """Responses at a thousand quantiles, and ones that all lie low, at the quantile 0.067."""
    law = Normal(torch.zeros(1, 1000, 1), 1.0)
    y = Normal(0.0, 1.0).icdf((torch.arange(1000) + 0.5) / 1000)[:, None]
    found = evaluate(Prediction(law, ("y",)), y).coverage
    assert found == pytest.approx({level: float(level) for level in found})
    low = evaluate(Prediction(law, ("y",)), torch.full((1000, 1), -1.5)).coverage
    assert low == {"0.5": 0.0, "0.8": 0.0, "0.9": 1.0, "0.95": 1.0}


def test_calibration_errors_do_not_cancel():
    """Too sure where it is sure, and too unsure where it is not: 0.4 off in each of two bins."""
    confidence, right = torch.tensor([0.6, 0.6, 0.9, 0.9]), torch.tensor([True, True, True, False])
    assert calibration_error(confidence, right) == pytest.approx(0.4)


def test_evaluation_of_classes():
    law = Categorical(probs=torch.tensor([[[0.8, 0.2]] * 10]))
    found = evaluate(ClassPrediction(law, ("no", "yes")), torch.tensor([0] * 7 + [1] * 3))
    assert found.accuracy == pytest.approx(0.7)
    assert found.calibration_error == pytest.approx(0.1, abs=1e-6)
    assert found.log_likelihood == pytest.approx(0.7 * math.log(0.8) + 0.3 * math.log(0.2), abs=1e-6)
    assert "accuracy" in "\n".join(found.lines())
    assert len(found.tiles()) == 3
    assert calibration_error(torch.tensor([1.0]), torch.tensor([True])) == 0.0


def test_one_datum_has_no_standard_error():
    bnn, (x, y) = made()
    assert bnn.eval().evaluate((x[:1], y[:1]), k=3).log_likelihood_error is None


def test_it_learns_diabetes_better_than_the_mean():
    """In 300 steps the test RMSE is below 60, that of the mean is 76; nine of ten responses or so lie in 90 % intervals."""
    splits = split(load("diabetes"), seed=0)
    bnn = BNN.for_data(Config(annealing=150), splits.train)
    trained(bnn, bnn.inputs(splits.train), 300)
    found = bnn.eval().evaluate(bnn.inputs(splits.test), k=100, source=fresh())
    assert found.rmse["progression"] < 60
    assert 0.75 <= found.coverage["0.9"] <= 1.0


def test_it_learns_breast_cancer():
    splits = split(load("breast_cancer"), seed=0)
    bnn = BNN.for_data(Config(annealing=50), splits.train)
    assert (bnn.classes, bnn.config.likelihood) == (("benign", "malignant"), "categorical")
    trained(bnn, bnn.inputs(splits.train), 200)
    found = bnn.eval().evaluate(bnn.inputs(splits.test), k=50, source=fresh())
    assert found.accuracy > 0.9
    assert found.log_likelihood > -0.3


# Networks and data.


@pytest.mark.parametrize(("shape", "network"), [((1, 8, 8), "conv"), ((2, 3, 4), "mlp"), ((5,), "mlp")])
def test_networks_for_shapes(shape, network):
    x, y = normal(20, *shape), normal(20, 2)
    bnn = BNN(Config(hidden=(8,), channels=(4,), annealing=0), shape, num_data=20, responses=("a", "b"))
    bnn.start_at(x, y)
    assert bnn.config.network == network
    losses = trained(bnn, (x, y), 30)
    assert losses[-1] < losses[0]
    assert bnn.eval().predict(x, k=3).mean.shape == (20, 2)


def test_a_network_of_ones_own():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(1, 8), nn.Linear(8, 1)

        def forward(self, x):
            return x + self.last(torch.tanh(self.first(x)))

    x, y = wave()
    bnn = BNN(Config(annealing=0), (1,), num_data=60, responses=("height",), network=Residual())
    bnn.start_at(x, y)
    losses = trained(bnn, (x, y), 60)
    assert losses[-1] < losses[0] - 0.3
    wrong = BNN(Config(), (1,), num_data=60, responses=("height",), network=nn.Linear(1, 3))
    with pytest.raises(ValueError, match=r"the network gives \(60, 3\): N x 1 is wanted"):
        wrong.loss((x, y))


def test_the_network_is_made_again_from_its_record():
    x, y = wave()
    data = from_tensor(x, response=y)
    bnn = BNN.for_data(Config(hidden=(4,), likelihood="student_t", annealing=0), data)
    facts = {"shape": [1], "sizes": {"train": 60, "validation": 7, "test": 8}, "responses": ["response"], "classes": None}
    again = BNN.from_record(bnn.config, facts)
    again.load_state_dict(bnn.state_dict())
    assert torch.equal(bnn.eval().predict(x, 5, fresh()).mean, again.eval().predict(x, 5, fresh()).mean)
    assert again.net.num_data == 60


def test_in_double():
    bnn, (x, y) = made()
    loss = bnn.double().loss((x.double(), y.double()), fresh())
    loss.total.backward()
    assert loss.total.dtype == torch.float64
    assert bnn.eval().predict(x.double(), k=3).mean.dtype == torch.float64


def test_labels_of_other_data_are_found_by_name():
    x = normal(6, 2)
    bnn = BNN(Config(), (2,), num_data=6, classes=("a", "b", "c"))
    import numpy as np

    data = from_tensor(x, np.array(["c", "a", "c", "a", "a", "c"]))
    assert bnn.inputs(data)[1].tolist() == [2, 0, 2, 0, 0, 2]
    with pytest.raises(BadInputError, match=r"label 'z' is none that this model knows: give one of a, b, c$"):
        bnn.inputs(from_tensor(x, np.array(["z", "a", "z", "a", "a", "z"])))


# What is refused.


@pytest.mark.parametrize(
    ("settings", "pattern"),
    [
        ({"activation": "sine"}, r"activation='sine': give one of elu, gelu"),
        ({"method": "exact"}, r"method='exact': give one of local, flipout, weights$"),
        ({"prior": "flat"}, r"prior='flat': give one of normal, fan_in, empirical, mixture$"),
        ({"likelihood": "poisson"}, r"likelihood='poisson': give one of normal"),
        ({"hidden": (0,)}, r"widths must be positive$"),
        ({"samples": 0}, r"samples=0"),
        ({"annealing": -1}, r"annealing=-1"),
        ({"posterior_scale": 0.0}, r"posterior_scale=0.0: give a positive, finite number$"),
        ({"prior": "normal", "prior_scale": math.nan}, r"prior_scale=nan: give a positive"),
        (
            {"prior": "empirical", "prior_scale": 2.0},
            r"prior='empirical' finds its scale, and prior_scale=2.0 was given: leave one out$",
        ),
        ({"prior": "mixture", "prior_scale": 1e-3}, r"below that of the narrow part"),
    ],
)
def test_settings_that_are_refused(settings, pattern):
    with pytest.raises(BadInputError, match=pattern):
        Config(**settings)


@pytest.mark.parametrize("prior", ["empirical", "normal", "fan_in", "mixture"])
def test_priors(prior):
    bnn, batch = made(prior=prior)
    losses = trained(bnn, batch, 60)
    assert losses[-1] < losses[0]


def test_scales_of_priors():
    assert Config(prior="fan_in", prior_scale=2.0).weight_prior() == FanIn(2.0, 2.0)
    assert Config(prior="normal", prior_scale=2.0).weight_prior().stddev == 2.0
    wide, narrow = Config(prior="mixture", prior_scale=2.0).weight_prior().component_distribution.stddev
    assert (wide, narrow) == (2.0, pytest.approx(math.exp(-6)))


def test_data_that_are_refused():
    x = normal(10, 2)
    with pytest.raises(BadInputError, match=r"nothing to be predicted: name the column or array of a response"):
        BNN.for_data(Config(), from_tensor(x))
    with pytest.raises(BadInputError, match=r"is for a response, and the data have labels.*take likelihood='categorical'$"):
        BNN.for_data(Config(likelihood="normal"), from_tensor(x, torch.arange(10) % 2))
    with pytest.raises(BadInputError, match=r"all labels of the training data are '0': at least 2 classes are wanted$"):
        BNN.for_data(Config(), from_tensor(x, torch.zeros(10)))
    bnn = BNN.for_data(Config(), from_tensor(x, response=normal(10, 1)))
    with pytest.raises(BadInputError, match=r"data has no response, which this model predicts: give data with it"):
        bnn.inputs(from_tensor(x))
    with pytest.raises(BadInputError, match=r"the responses of data are response_1, response_2, and this model is of response"):
        bnn.inputs(from_tensor(x, response=normal(10, 2)))
    with pytest.raises(BadInputError, match="is read as a table with gaps and categories"):
        BNN.for_data(Config(), load("iris", gaps="keep"))
    with pytest.raises(BadInputError, match="tokens"):
        BNN.for_data(Config(), load_texts())
    with pytest.raises(BadInputError, match="gaps"):
        BNN.for_data(Config(), load("iris", gaps="keep"))


def load_texts():
    from reparam.data.text import from_lines

    return from_lines(["one", "two", "three"])


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        (lambda x, y: (x[:, :0], y), r"the batch has shape"),
        (lambda x, y: (x, y[:, 0]), r"the responses have shape \(60,\): give N x 1, height$"),
        (lambda x, y: (x[:3], y), r"3 data and 60 responses were given"),
        (lambda x, y: (x, y * math.nan), r"NaN"),
        (lambda x, y: x, r"the batch is a tensor: give \(x, y\)"),
    ],
)
def test_batches_that_are_refused(change, pattern):
    bnn, batch = made()
    with pytest.raises(ValueError, match=pattern):
        bnn.loss(change(*batch))


@pytest.mark.parametrize("places", [torch.tensor([0.0, 1.0]), torch.tensor([0, 2]), torch.tensor([[0], [1]])])
def test_places_that_are_refused(places):
    with pytest.raises(ValueError, match="the labels"):
        ClassResponse(("a", "b")).check(places)


def test_arguments_that_are_refused():
    bnn, (x, y) = made()
    with pytest.raises(ValueError, match="NaN or infinite"):
        bnn.eval().loss((x * math.nan, y))
    with pytest.raises(ValueError, match="k=0 draws"):
        bnn.predict(x, k=0)
    with pytest.raises(ValueError, match="0 data are evaluated"):
        bnn.evaluate((x[:0], y[:0]))
    with pytest.raises(ValueError, match="NaN or infinite"):
        bnn.predict(x * math.inf)
    with pytest.raises(ValueError, match="num_data=0"):
        BNN(Config(), (1,), num_data=0, responses=("y",))
    with pytest.raises(ValueError, match="the law of a response is 'poisson'"):
        RealResponse("poisson", ("y",))
    found = bnn.predict(x, k=2)
    for p in (0.0, 1.0, math.nan):
        with pytest.raises(ValueError, match="between 0 and 1"):
            found.quantile(p)
        with pytest.raises(ValueError, match="between 0 and 1"):
            found.interval(p)


def test_it_is_settled_after_the_annealing():
    bnn, batch = made(annealing=2)
    found = []
    for _ in range(3):
        found.append(bnn.settled)
        bnn.loss(batch)
    assert found == [False, False, True]


def test_a_prediction_leaves_other_noise_alone():
    """Of torch's generator, and of the source that is given: the divergence from a mixture is sampled."""
    bnn, (x, _) = made(prior="mixture")
    state, source = torch.get_rng_state(), fresh()
    bnn.predict(x, 3, source)
    assert torch.equal(torch.get_rng_state(), state)
    other = fresh()
    bnn.net.weights(3, source=other)
    assert torch.equal(source.generator.get_state(), other.generator.get_state())


def test_weights_from_within_the_annealing_are_told():
    bnn, batch = made(annealing=10)
    bnn.loss(batch)
    with pytest.warns(RuntimeWarning, match=r"of step 1, within annealing=10"):
        bnn.eval().predict(batch[0], k=2)


def test_weights_that_have_learned_nothing_are_told():
    bnn, (x, _) = made(prior="normal")
    with torch.no_grad():
        for parameter in bnn.net.parameters():
            parameter.zero_()
    with pytest.warns(RuntimeWarning, match=r"have learned nothing: their posterior is the prior, 0 nats from it"):
        bnn.predict(x, k=2)


def test_the_default_does_not_give_up_on_a_sine():
    """Eighty rows of it, 400 steps: the predicted mean is off by at most 0.85 of what a constant is off, and the weights tell."""
    x = 6 * torch.rand(80, 1, generator=torch.Generator().manual_seed(0)) - 3
    y = torch.sin(2 * x) + 0.1 * normal(80, 1)
    bnn = BNN(Config(annealing=200), (1,), num_data=80, responses=("y",))
    bnn.start_at(x, y)
    trained(bnn, (x, y), 400)
    found = bnn.eval().evaluate((x, y), k=50, source=fresh())
    assert found.rmse["y"] < 0.85 * float(y.std())
    assert bnn.net.kl().item() > 10
