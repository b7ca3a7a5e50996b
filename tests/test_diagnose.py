"""The meter: what is biased is flagged and what is not is not, variances are those of closed forms, tables, plots and misuse."""

import json
import math
import time
from dataclasses import dataclass, field
from typing import ClassVar

import matplotlib as mpl
import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Independent, MultivariateNormal, Normal, OneHotCategorical, Poisson, Uniform

import reparam as rp
from reparam.diagnostics import GradientMeter, diagnose_losses, gradient_moments, noise_shares
from reparam.diagnostics.entries import candidates, named, parameters_of
from reparam.diagnostics.tally import Tally, take, two_sided

MU, SIGMA, K = 0.7, 0.5, 0.0
PLENTY = 120.0  # seconds, so that the number of draws ends a comparison


def fresh(seed=0):
    return rp.Fresh(torch.Generator().manual_seed(seed))


def leaf(value):
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def square(z):
    return (z - K) ** 2


@dataclass(frozen=True)
class Shrunk:
    """The gradient of another estimator, times a constant: a bias of a known size."""

    of: object = field(default_factory=rp.LeaveOneOut)
    by: float = 0.8
    bias: ClassVar[str | None] = None

    def draw(self, q, n, source):
        return self.of.draw(q, n, source)

    def weigh(self, draw, cost):
        value = self.of.weigh(draw, cost)
        return value.detach() + self.by * (value - value.detach())


def test_a_known_bias_is_flagged_and_measured_and_none_is_not():
    """Gradients in mu 1.4 and sigma 1. A bias of 20 % is 0.2 √(1.4² + 1) = 0.344 along the gradient; at 800 draws of 16 rows its
    standard error is 0.05 or less, so it is flagged unless 2 of them are lost; the interval of 95 % is asked to hold at 5."""
    q = Normal(leaf(MU), leaf(SIGMA))
    entries = {"right": rp.LeaveOneOut(), "wrong": Shrunk(), "pathwise": rp.Pathwise()}
    found = rp.diagnose(square, q, entries, draws=800, seconds=PLENTY, source=fresh())
    assert [row.biased for row in found] == [False, True, False]
    wanted = -0.2 * math.hypot(1.4, 1.0)
    assert found["wrong"].bias == pytest.approx(wanted, abs=2.5 * found["wrong"].bias_error)
    assert found["wrong"].bias_error < 0.25 * abs(wanted)
    assert found["wrong"].bias_length == pytest.approx(abs(wanted), abs=2.5 * found["wrong"].bias_error)
    assert found["wrong"].norm == pytest.approx(math.hypot(1.4, 1.0), rel=1e-9)
    assert found.truth.startswith("quadrature")
    assert "wrong: biased by -0." in " ".join(str(found).split())
    assert found.recommendation.startswith("Use pathwise: unbiased as far as 800 draws show")


@pytest.mark.parametrize("seed", range(3))
def test_unbiased_estimators_of_many_elements_are_not_flagged(seed):
    """A false alarm has a probability of 1e-6 a row."""
    logits = torch.linspace(-3, 3, 30, dtype=torch.float64).requires_grad_()
    q = Independent(Bernoulli(logits=logits), 1)
    exact = torch.autograd.grad((logits.sigmoid() * 2.0).sum(), logits)[0]
    entries = [rp.LeaveOneOut(), rp.Score(), rp.DisARM(), rp.StraightThrough()]
    found = rp.diagnose(lambda z: 2.0 * z.sum(-1), q, entries, n=4, exact=exact, draws=300, seconds=PLENTY, source=fresh(seed))
    assert not any(row.biased for row in found)


def test_rare_events_are_no_bias():
    """A coin that shows heads once in 5000 draws: most comparisons see no gradient at all, and none may call that a bias."""
    q = Bernoulli(logits=leaf(-8.5))
    found = rp.diagnose(lambda z: z, q, [rp.Score(), rp.LeaveOneOut()], n=2, draws=200, seconds=PLENTY, source=fresh())
    assert not any(row.biased for row in found)
    seen = rp.diagnose(lambda z: 3.0 * z, Bernoulli(logits=leaf(-8.5)), {"none": rp.Score()}, n=2, draws=40, source=fresh(1))
    assert seen["none"].unseen
    assert "zero in each draw" in str(seen)
    assert seen.recommendation.startswith("None of these")


@pytest.mark.parametrize(
    ("estimator", "mu", "sigma"),
    [
        (rp.Pathwise(), 4 * SIGMA**2, 4 * MU**2 + 8 * SIGMA**2),
        (
            rp.Score(),
            MU**4 / SIGMA**2 + 14 * MU**2 + 15 * SIGMA**2,
            2 * MU**4 / SIGMA**2 + 60 * MU**2 + 74 * SIGMA**2,
        ),
    ],
    ids=["pathwise", "score"],
)
def test_variances_have_their_closed_forms(estimator, mu, sigma):
    """Single rows, 3000 draws: six standard errors, that of the variance as the meter itself gives it."""
    q = Normal(leaf(MU), leaf(SIGMA))
    row = rp.diagnose(square, q, {"it": estimator}, n=1, draws=3000, seconds=PLENTY, source=fresh())["it"]
    assert row.draws == 3000
    assert row.variance == pytest.approx(mu + sigma, abs=6 * row.variance_error)
    assert row.variance_error < 0.2 * row.variance
    assert row.parts["loc"].variance == pytest.approx(mu, rel=0.25)
    assert row.parts["scale"].variance == pytest.approx(sigma, rel=0.4)
    assert row.snr == pytest.approx(math.hypot(1.4, 1.0) / math.sqrt(row.variance))
    assert row.efficiency == pytest.approx(1 / (row.variance * row.seconds))


def test_antithetic_noise_is_exact_in_the_location_and_hurts_the_scale():
    """Variance of a pair in mu 0, in sigma 8 σ² against half of 4 δ² + 8 σ² of two independent rows: with δ = 0.2, 1.85 times."""
    q = Normal(leaf(0.2), leaf(SIGMA))
    entries = [rp.Pathwise(), (rp.Pathwise(), rp.Antithetic), (rp.Pathwise(), lambda: rp.Sobol(seed=1))]
    found = rp.diagnose(square, q, entries, n=2, draws=2000, seconds=PLENTY, source=fresh())
    assert [row.name for row in found] == ["Pathwise", "Pathwise, antithetic", "Pathwise, Sobol"]
    pair = found["Pathwise, antithetic"].parts
    assert pair["loc"].variance < 1e-20
    assert pair["scale"].variance == pytest.approx(8 * SIGMA**2, rel=0.25)
    (text,) = found.warnings["Pathwise, antithetic"]
    assert text.startswith("raises the variance of scale 1.") or text.startswith("raises the variance of scale 2 times")
    assert text.endswith("lowers that of loc.")


def test_a_cost_with_a_step_shows_the_pathwise_estimator_blind():
    """E[z > 0] has a gradient in mu that no slope of the cost sees."""
    q = Normal(leaf(0.3), leaf(1.0))
    found = rp.diagnose(lambda z: (z > 0).double() + 0 * z, q, draws=200, seconds=PLENTY, source=fresh())
    assert found["Pathwise"].unseen
    assert not found["LeaveOneOut"].biased
    assert "Pathwise" not in found.recommendation.split(":")[0]
    assert found["LeaveOneOut"].norm == pytest.approx(math.exp(-0.045) / math.sqrt(2 * math.pi) * math.hypot(1, 0.3), rel=2e-3)


def test_pathwise_and_score_function_must_agree_for_a_long_run():
    q = MultivariateNormal(torch.full((6,), 0.1, dtype=torch.float64).requires_grad_(), torch.eye(6, dtype=torch.float64))
    smooth = rp.diagnose(lambda z: z.square().sum(-1), q, [rp.Pathwise()], draws=100, seconds=3.0, source=fresh())
    assert smooth.truth.startswith("a long run of Pathwise")
    assert not smooth["Pathwise"].biased
    stepped = rp.diagnose(
        lambda z: 3 * (z > 0).double().sum(-1) + z.sum(-1), q, [rp.Pathwise()], draws=500, seconds=6.0, source=fresh()
    )
    assert "disagree" in " ".join(stepped.notes)
    assert stepped.truth.startswith("a long run of LeaveOneOut")
    assert stepped["Pathwise"].biased


@pytest.mark.parametrize(
    ("make", "f", "truth", "exact"),
    [
        (lambda a: Poisson(a.exp()), lambda z: z**2, "a tail of 1e-12", lambda a: a.exp() + (2 * a).exp()),
        (lambda a: Categorical(logits=torch.stack([a, -a])), lambda z: 2.0 * z, "sum over all", lambda a: 2 * (-2 * a).sigmoid()),
        (lambda a: Normal(torch.stack([a, 2 * a]), 1.0), lambda z: z.prod(-1), "quadrature", lambda a: 2 * a * a),
        (
            lambda a: Bernoulli(logits=torch.stack([a, 2 * a])),
            lambda z: z.prod(-1),
            "sum",
            lambda a: a.sigmoid() * (2 * a).sigmoid(),
        ),
    ],
    ids=["counts", "choice", "batch summed", "coins summed"],
)
def test_truths_are_exact(make, f, truth, exact):
    """A cost that sums the batch is enumerated and integrated jointly."""
    a = leaf(0.4)
    found = rp.diagnose(f, make(a), {"it": rp.LeaveOneOut()}, draws=10, source=fresh())
    assert truth in found.truth
    (wanted,) = torch.autograd.grad(exact(a), a)
    assert found["it"].norm == pytest.approx(abs(wanted.item()), rel=1e-6)


def test_default_set_leaves_out_with_reasons():
    found = rp.diagnose(lambda z: (z - 0.45) ** 2, Bernoulli(logits=leaf(0.3)), n=2, draws=5, seconds=PLENTY)
    names = {row.name for row in found}
    assert {"Enumerate", "DisARM", "LeaveOneOut", "Score", "REBAR"} <= names
    assert "differentiable" in found.left_out["Pathwise"]
    assert not names & set(found.left_out)
    assert found.recommendation.startswith("Use Enumerate: exact here")
    every = {name for name in rp.estimators.__all__ if hasattr(getattr(rp.estimators, name), "weigh") and name != "Estimator"}
    mentioned = {name.split("(")[0].split(",")[0] for name in names | set(found.left_out)}
    assert every <= mentioned


def test_an_estimator_without_noise_whose_error_is_rounding_is_exact():
    q = Normal(leaf(MU), leaf(SIGMA))
    found = rp.diagnose(square, q, [rp.estimators.Quadrature(200), rp.Pathwise(), rp.Score()], draws=50, source=fresh())
    assert found.recommendation.startswith("Use Quadrature(nodes=200): exact here")
    assert "Pathwise" in found.recommendation
    coarse = rp.diagnose(square, q, [rp.estimators.Quadrature(3), rp.Pathwise()], draws=50, source=fresh())
    assert coarse["Quadrature(nodes=3)"].biased
    assert coarse.recommendation.startswith("Use Pathwise")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_gradient_that_is_zero_but_for_rounding_is_called_zero(dtype):
    """(z - 0.5)² is the same for both values of a coin: no verdict may rest on the last digits of the sums."""
    logits = torch.tensor([1.0, 0.5], dtype=dtype, requires_grad=True)
    q = Independent(Bernoulli(logits=logits), 1)
    entries = [rp.StraightThrough(), rp.GumbelSoftmax(0.5), rp.LeaveOneOut(), rp.DisARM(), rp.WithoutReplacement(), rp.Score()]
    found = rp.diagnose(lambda z: ((z - 0.5) ** 2).sum(-1), q, entries, n=8, draws=40, seconds=PLENTY, source=fresh())
    for name in ("LeaveOneOut", "DisARM", "WithoutReplacement"):
        row = found[name]
        assert (row.biased, row.unseen, row.bias, row.bias_error, row.variance, row.norm) == (False, False, 0, 0, 0, 0), name
        assert math.isnan(row.snr)
    assert not found["Score"].biased
    assert 0 < found["Score"].bias_error < 0.2
    assert found.recommendation.startswith("The gradient is zero here")
    assert "Without noise: LeaveOneOut, DisARM and WithoutReplacement." in found.recommendation
    assert "of its length" not in str(found)
    assert "of the gradient, and yet" not in str(found)
    assert any("seems not to depend on z" in note for note in found.notes)
    found.plot().canvas.draw()


def test_a_bias_where_the_gradient_is_zero_is_an_absolute_number():
    q = Bernoulli(logits=leaf(0.0))
    found = rp.diagnose(
        lambda z: z, q, {"it": rp.StraightThrough(), "right": rp.Score()}, exact=torch.zeros((), dtype=torch.float64),
        draws=100, seconds=PLENTY, source=fresh(),
    )  # fmt: skip
    assert found["it"].biased
    assert found["it"].bias == pytest.approx(0.25, rel=1e-6)
    assert found.warnings["it"][0].startswith("biased by 0.25 ± 0, where the gradient is zero")


@pytest.mark.parametrize(
    "make",
    [lambda: OneHotCategorical(logits=leaf([1.0, 0.5, 0.3])), lambda: Independent(Normal(leaf([1.0, 0.5]), leaf(1.0)), 1)],
    ids=["choice", "normal"],
)
def test_a_cost_that_does_not_depend_on_z(make):
    """The interval of the score function's bias is that of its noise: in the logits' common direction there is none."""
    entries = [rp.LeaveOneOut(), rp.Score()]
    found = rp.diagnose(
        lambda z: torch.full(z.shape[:-1], 2.0).to(z), make(), entries, n=8, draws=100, seconds=PLENTY, source=fresh()
    )
    score = found["Score"]
    assert score.variance > 0.1
    assert score.bias_error == pytest.approx(1.96 * math.sqrt(score.variance / score.draws), rel=1e-6)
    assert torch.tensor(score.along).std() > 0.1 * math.sqrt(score.variance)
    assert not any(row.biased or row.unseen for row in found)
    assert found.recommendation.startswith("The gradient is zero here")
    assert "seems not to depend on z" in str(found)


def test_a_small_gradient_is_not_called_zero():
    """2e-4 from terms of 0.1, in single precision."""
    q = Bernoulli(logits=torch.tensor(0.0, requires_grad=True))
    found = rp.diagnose(lambda z: (z - 0.4996) ** 2, q, [rp.LeaveOneOut()], draws=30, seconds=PLENTY, source=fresh())
    assert found["LeaveOneOut"].norm == pytest.approx(2e-4, rel=1e-2)
    assert not found.recommendation.startswith("The gradient is zero")
    assert not found.notes


def test_few_draws_give_no_verdict():
    """Three draws of a coin's score function are often the same, and then seem to have no noise."""
    q = Bernoulli(logits=leaf(-3.0))
    for seed in range(5):
        found = rp.diagnose(lambda z: z + 1.0, q, [rp.Score()], n=1, draws=3, source=fresh(seed))
        assert not found["Score"].biased


def test_infinite_variance_is_suspected_and_a_bounded_one_is_not():
    """Gradients of z, a ratio of normals, have no variance; those of tanh z have."""
    w = leaf(1.0)

    def heavy():
        a, b = torch.randn(2, dtype=torch.float64, generator=generator)
        return w * a / b

    generator = torch.Generator().manual_seed(0)
    losses = {"heavy": heavy, "light": lambda: heavy().tanh()}
    found = diagnose_losses(losses, [w], draws=1000, seconds=PLENTY)
    assert any("infinite variance" in text for text in found.warnings["heavy"])
    assert "light" not in found.warnings
    assert found["heavy"].tail == pytest.approx(1.0, abs=0.6)
    assert math.isnan(found["light"].bias)
    assert "not compared with a truth" in str(found)


def test_losses_are_compared_with_a_reference():
    w = torch.ones(3, dtype=torch.float64, requires_grad=True)
    source = fresh()

    def loss(rows, scale=1.0):
        eps = rp.Noise(rp.noise.NORMAL, torch.Size([3]), torch.float64).draw(rows, source=source)
        return lambda: scale * ((w * eps).sum(-1) ** 2).mean()

    def drawn(rows, scale=1.0):
        return lambda: loss(rows, scale)()

    found = diagnose_losses(
        {"few": drawn(2), "many": drawn(16), "double": drawn(16, 2.0)}, {"w": w}, reference=["many", "few"], draws=400, seconds=6.0
    )
    assert [row.biased for row in found] == [False, False, True]
    assert 4 < found["few"].variance / found["many"].variance < 16
    assert list(found["few"].parts) == ["w"]
    assert found.n is None


def test_the_budget_ends_a_comparison():
    q = Normal(leaf(MU), leaf(SIGMA))

    def slow(z):
        time.sleep(0.01)
        return square(z)

    found = rp.diagnose(slow, q, [rp.Pathwise(), rp.Score()], draws=100_000, seconds=1.0)
    assert 2 <= found["Pathwise"].draws < 100
    assert "time was up" in str(found)
    assert found["Pathwise"].seconds >= 0.01


def test_gradients_that_are_not_finite_are_counted_and_left_out():
    q = Normal(leaf(0.0), 1.0)

    def f(z):
        return z * torch.where(z.detach() > 1, math.inf, 1.0)

    found = rp.diagnose(f, q, {"it": rp.Pathwise()}, n=1, exact=[torch.ones(())], draws=200, source=fresh())
    assert 10 < found["it"].broken < 70
    assert found["it"].draws == 200 - found["it"].broken
    assert any("not finite" in text for text in found.warnings["it"])
    assert found.recommendation.startswith("None of these")


def test_table_data_and_plot():
    q = Normal(leaf(MU), leaf(SIGMA))
    found = rp.diagnose(square, q, [rp.Pathwise(), rp.Score(), rp.estimators.Quadrature()], draws=60, source=fresh())
    lines = str(found).splitlines()
    assert lines[0].split()[:4] == ["estimator", "bias", "±", "95"]
    assert len({len(line) for line in lines[:4]}) == 1 or all(line.rstrip() == line for line in lines)
    assert max(map(len, lines)) <= 132
    assert repr(found) == str(found)
    facts = json.loads(json.dumps(found.to_dict()))
    assert [row["name"] for row in facts["rows"]] == ["Pathwise", "Score", "Quadrature"]
    assert facts["rows"][0]["parts"]["loc"]["variance"] > 0
    assert facts["recommendation"] == found.recommendation
    with pytest.raises(KeyError, match="there are Pathwise, Score"):
        found["Pathwize"]
    before = dict(mpl.rcParams)
    figure = found.plot()
    assert len(figure.axes) == 4
    figure.canvas.draw()
    assert dict(mpl.rcParams) == before


def test_parameters_are_found_and_named():
    layer = torch.nn.Linear(2, 3)
    scale = leaf(0.5)
    q = Independent(Normal(layer(torch.ones(2)).double(), scale.exp()), 1)
    assert {name: p.shape for name, p in parameters_of(q).items()} == {
        "parameter 0": layer.weight.shape,
        "parameter 1": layer.bias.shape,
        "scale": scale.shape,
    } or set(map(id, parameters_of(q).values())) == {id(layer.weight), id(layer.bias), id(scale)}
    found = rp.diagnose(lambda z: z.square().sum(-1), q, [rp.Pathwise()], draws=5)  # twice through the graph of the law
    assert len(found["Pathwise"].parts) == 3
    outer = leaf(2.0)
    found = rp.diagnose(lambda z: outer * z, Normal(leaf(1.0), 1.0), [rp.Pathwise()], parameters={"outer": outer}, draws=5)
    assert found["Pathwise"].norm == pytest.approx(1.0)
    with pytest.raises(ValueError, match="no tensor of the distribution requires a gradient"):
        rp.diagnose(square, Normal(0.0, 1.0), [rp.Pathwise()])
    with pytest.raises(ValueError, match="requires no gradient"):
        rp.diagnose(square, q, [rp.Pathwise()], parameters=[torch.ones(2)])


def test_misuse():
    mu = leaf(0.0)
    q = Normal(mu, 1.0)
    with pytest.raises(TypeError, match=r"a list or a dict of them by name: wrap the one, \[Pathwise\]"):
        rp.diagnose(square, q, rp.Pathwise())
    with pytest.raises(TypeError, match="the class Pathwise: give an instance"):
        rp.diagnose(square, q, [rp.Pathwise])
    with pytest.raises(TypeError, match="a pair of one and a noise source; got a tuple of 3"):
        rp.diagnose(square, q, [(rp.Pathwise(), None, None)])
    with pytest.raises(TypeError, match="no noise source"):
        rp.diagnose(square, q, [(rp.Pathwise(), "sobol")])
    with pytest.raises(TypeError, match=r"torch\.distributions\.Distribution"):
        rp.diagnose(square, mu, [rp.Pathwise()])
    with pytest.raises(ValueError, match="n must be a positive integer"):
        rp.diagnose(square, q, [rp.Pathwise()], n=0)
    with pytest.raises(ValueError, match="at least 2 draws"):
        rp.diagnose(square, q, [rp.Pathwise()], draws=1)
    with pytest.raises(ValueError, match="more than 0; got 0"):
        rp.diagnose(square, q, [rp.Pathwise()], seconds=0)
    with pytest.raises(ValueError, match=r"exact has shapes \[\(2,\)\]"):
        rp.diagnose(square, q, [rp.Pathwise()], exact=torch.ones(2))
    with pytest.raises(ValueError, match="LeaveOneOut needs at least 2 rows"):
        rp.diagnose(square, q, [rp.LeaveOneOut()], n=1)
    with pytest.raises(ValueError, match="reference 'b' is none of the losses: a"):
        diagnose_losses({"a": lambda: mu * 1}, [mu], reference="b")
    with pytest.raises(TypeError, match="a dict of functions by name"):
        diagnose_losses({}, [mu])


def test_names_of_entries():
    entries = [rp.Score(), rp.Score(baseline=2.0), rp.Score(rp.MovingAverage()), (rp.Score(), rp.Sobol(seed=3)), rp.Score()]
    assert list(named(entries)) == ["Score", "Score(baseline=2)", "Score(MovingAverage)", "Score, Sobol", "Score (2)"]
    serve, left_out = candidates(lambda candidate: None)
    assert len(serve) > 15
    assert all(reason.endswith("a surrogate or a baseline") for reason in left_out.values())


def test_a_bound_that_moves_is_left_to_the_pathwise_estimator():
    found = rp.diagnose(square, Uniform(0.0, leaf(2.0)), draws=200, seconds=6.0, source=fresh())
    assert "depends on a parameter" in found.left_out["Score"]
    assert found["Pathwise"].norm == pytest.approx(8 / 6, rel=0.1)
    assert not found["Pathwise"].biased


def test_tally_matches_moments_by_hand():
    w = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    drawn = []

    def loss():
        drawn.append(torch.randn(4, dtype=torch.float64, generator=generator).exp())
        return (w * drawn[-1]).sum()

    generator = torch.Generator().manual_seed(0)
    tally = Tally(loss, [w])
    take([tally], 300, PLENTY)
    x = torch.stack(drawn[-300:])
    torch.testing.assert_close(tally.mean, x.mean(0))
    torch.testing.assert_close(tally.variance, x.var(0))
    central = x - x.mean(0)
    torch.testing.assert_close(tally.kurtosis, (central**4).mean(0) / (central**2).mean(0) ** 2)


def test_chances_are_those_of_student():
    """Two-sided, three elements, 12 degrees of freedom: P(|t| > 3.0545) = 0.01 (tables)."""
    error = torch.tensor([3.0545, 0.0, -1.0], dtype=torch.float64)
    assert two_sided(error, torch.ones(3), torch.full((3,), 12.0)) == pytest.approx(0.03, rel=1e-3)
    assert two_sided(torch.tensor([0.1]), torch.zeros(1), torch.ones(1)) < 1e-6
    assert two_sided(torch.zeros(2), torch.zeros(2), torch.ones(2)) == 1.0


def test_minibatch_noise_and_sampling_noise_are_told_apart():
    """x ~ N(0, s²) in minibatches of 8, z = w + 0.5 ε: the gradient of (x - z)² has variance 4 s²/8 from data, 4·0.25 from ε."""
    generator = torch.Generator().manual_seed(0)
    for deviation, share in ((4.0, 1 / 9), (0.5, 8 / 9)):
        w = torch.zeros(5, dtype=torch.float64, requires_grad=True)
        batches = [deviation * torch.randn(8, 5, dtype=torch.float64, generator=generator) for _ in range(200)]
        source = fresh()
        found = noise_shares(
            lambda x, w=w, s=source: ((x - rp.rsample(Normal(w, 0.5), source=s)) ** 2).sum(-1).mean(), batches, [w]
        )
        assert found.sampling == pytest.approx(5 * 4 * 0.25, rel=0.2)
        assert found.sampling_share == pytest.approx(share, abs=0.06)
        assert ("larger minibatches" if share < 0.5 else "better estimator") in str(found)
    with pytest.raises(ValueError, match="at least 2 of them, got 1"):
        noise_shares(lambda x: (x * w).sum(), batches[:1], [w])


def gradients(meter, w, mean, deviation, steps, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        w.grad = mean + deviation * torch.randn(w.shape, dtype=w.dtype, generator=generator)
        meter.update()


def test_meter_finds_the_ratio_of_a_steady_gradient():
    """100 elements, mean 0.3, deviation 1: an SNR of 0.3; about 200 steps count, so both moments are known to a few percent."""
    w = torch.nn.Parameter(torch.zeros(100, dtype=torch.float64))
    meter = GradientMeter({"w": [w]})
    assert math.isnan(meter.snr()["w"])
    gradients(meter, w, 0.3, 1.0, 1)
    assert math.isnan(meter.snr()["w"])
    gradients(meter, w, 0.3, 1.0, 600)
    signal, noise = meter.moments()["w"]
    assert noise == pytest.approx(100, rel=0.05)
    assert signal == pytest.approx(9, rel=0.25)
    assert meter.snr()["w"] == pytest.approx(0.3, rel=0.15)
    assert meter.snr()["w"] == pytest.approx((signal / noise) ** 0.5)


def test_meter_is_unbiased_after_few_steps():
    """Five steps, 4000 elements of mean 0.5 and deviation 1, so that chance averages out: noise 4000, signal 1000."""
    w = torch.nn.Parameter(torch.zeros(4000, dtype=torch.float64))
    meter = GradientMeter({"w": [w]}, decay=0.9)
    gradients(meter, w, 0.5, 1.0, 5)
    signal, noise = meter.moments()["w"]
    assert noise == pytest.approx(4000, rel=0.07)
    assert signal == pytest.approx(1000, rel=0.2)


def test_meter_follows_gradient_moments_in_a_model():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).double()
    source = fresh()
    noise = rp.Noise(rp.noise.NORMAL, torch.Size([16, 3]), torch.float64)

    def loss():
        return (model(1.0 + noise.draw(source=source)) ** 2).mean()

    meter = GradientMeter(model)
    for _ in range(600):
        model.zero_grad()
        loss().backward()
        meter.update()
    assert list(meter.snr()) == ["0", "2"]
    for name, found in meter.snr().items():
        wanted = gradient_moments(loss, model.get_submodule(name).parameters(), 2000).snr
        assert found == pytest.approx(wanted, rel=0.25)


def test_meter_goes_on_from_its_state_and_skips_what_is_not_finite():
    w = torch.nn.Parameter(torch.zeros(7))
    one, other = GradientMeter({"w": [w]}), GradientMeter({"w": [w]})
    gradients(one, w, 0.3, 1.0, 10)
    other.load_state_dict(one.state_dict())
    w.grad = torch.full((7,), math.inf)
    other.update()
    assert other.moments() == one.moments()
    gradients(one, w, 0.3, 1.0, 5, seed=1)
    gradients(other, w, 0.3, 1.0, 5, seed=1)
    assert other.snr() == one.snr()
    w.grad = None
    one.update()
    with pytest.raises(ValueError, match="this meter has v"):
        GradientMeter({"v": torch.nn.Linear(2, 2)}).load_state_dict(one.state_dict())
    with pytest.raises(ValueError, match="decay"):
        GradientMeter({"w": [w]}, decay=1.0)
    with pytest.raises(ValueError, match="no group"):
        GradientMeter({"w": [torch.zeros(3)]})
    with pytest.raises(TypeError, match="by name; got list"):
        GradientMeter([w])
