"""Graphical models: densities and bounds with known truths, gaps, sums, estimators, what a run remembers, and what is refused."""

import copy
import itertools
import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn
from torch.distributions import (
    Bernoulli,
    Beta,
    Categorical,
    Dirichlet,
    Gamma,
    Independent,
    MultivariateNormal,
    Normal,
    OneHotCategorical,
    Poisson,
    Uniform,
)

import reparam as rp
from reparam.cli import main
from reparam.data import from_tensor, load, split
from reparam.data.frame import from_frame
from reparam.errors import ArtefactError, BadInputError
from reparam.graphical.density import largest_table, sum_out, trace
from reparam.graphical.laws import CategoricalTable, LinearNormal
from reparam.graphical.node import ordered
from reparam.models import graphical_examples
from reparam.models.graphical import Config, Graphical, Node, fit, select
from reparam.models.trained import DataOptions, record
from reparam.noise import Fresh
from reparam.stats import mean_test
from reparam.training import Run, Training
from reparam.training import fit as train

NAN = math.nan


def fresh(seed=0):
    return Fresh(torch.Generator().manual_seed(seed))


def normals(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def coin(p):
    return lambda: Bernoulli(p)


# A normal mean: the posterior, the bound at its best and the predictive density are known.
DATA = normals(20, seed=3) * 2 + 1


# Sprinkler: a network whose tables are exact; with rows of which some values are missing.
RAIN, SPRINKLER = 0.2, torch.tensor([0.4, 0.01])
WET = torch.tensor([[0.0, 0.8], [0.9, 0.99]])


def sprinkler():
    return [
        Node("rain", coin(RAIN)),
        Node("sprinkler", lambda rain: Bernoulli(SPRINKLER[rain.long()])),
        Node("wet", lambda sprinkler, rain: Bernoulli(WET[sprinkler.long(), rain.long()], validate_args=False)),
        Node("slip", lambda wet: Bernoulli(0.1 + 0.6 * wet)),
    ]


def sprinkler_log_p(row):
    """By adding up all complete rows that agree with one with gaps."""
    total = 0.0
    for full in itertools.product((0, 1), repeat=4):
        if all(math.isnan(a) or a == b for a, b in zip(row, full, strict=True)):
            r, s, w, _ = full
            ps = (RAIN, SPRINKLER[r].item(), WET[s, r].item(), 0.1 + 0.6 * w)
            total += math.prod(p if value else 1 - p for p, value in zip(ps, full, strict=True))
    return math.log(total) if total else -math.inf


def test_discrete_gaps_are_summed_exactly():
    rows = [list(row) for row in itertools.product((0.0, 1.0, NAN), repeat=4)]
    rows = [row for row in rows if not all(map(math.isnan, row)) and math.exp(sprinkler_log_p(row)) > 1e-9]
    names = ("rain", "sprinkler", "wet", "slip")
    model = Graphical(
        sprinkler(), data={name: torch.tensor(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    )
    found = model.joint(model.rows, {}).rows()
    assert torch.allclose(found, torch.tensor([sprinkler_log_p(row) for row in rows]), atol=1e-5)
    assert model.loss(model.rows).parts["elbo"].item() == pytest.approx(found.mean().item(), abs=1e-5)


def test_sums_by_elimination_are_sums_over_all():
    generator = torch.Generator().manual_seed(1)
    sizes, rows = (2, 3, 4, 2), 5
    scopes = [(0,), (0, 1), (1, 2), (2, 3), (0, 3), (1,)]
    factors = [
        torch.randn(*(size if i in scope else 1 for i, size in enumerate(sizes)), rows, generator=generator, dtype=torch.double)
        for scope in scopes
    ]
    everything = sum(factors[1:], factors[0])
    assert torch.allclose(sum_out(factors, 4), everything.flatten(0, 3).logsumexp(0))
    assert torch.allclose(sum_out(factors, 4, keep=(1,)), everything.logsumexp((0, 2, 3)))
    assert torch.allclose(sum_out(factors, 4, keep=(2, 0)), everything.logsumexp((1, 3)))


def test_a_chain_costs_no_more_than_its_links():
    names = [f"c{i}" for i in range(30)]
    assert largest_table([names[:1], *itertools.pairwise(names)], dict.fromkeys(names, 10)) == 100
    chain = [Node("c0", lambda: Categorical(torch.ones(10)))]
    for i in range(1, 30):
        chain.append(
            Node(f"c{i}", lambda c: Categorical(logits=-(torch.arange(10) - c[..., None]).abs().float()), parents=f"c{i - 1}")
        )
    model = Graphical([*chain, Node("y", lambda c: Normal(c.float(), 1.0), parents="c29")], data={"y": normals(5)})
    assert len(model.enumerated) == 30
    assert model.loss(model.rows).total.isfinite()


def test_what_is_observed_is_known_for_certain():
    model = Graphical(
        [
            Node("a", lambda: Categorical(torch.tensor([0.2, 0.3, 0.5]))),
            Node("v", lambda a: OneHotCategorical(torch.ones(2)), columns=("v0", "v1")),
            Node("y", lambda a, v: Normal(a + v[..., 0], 1.0)),
        ],
        data={"a": [0.0, None, 2.0], "v0": [1.0, 0.0, None], "v1": [0.0, 1.0, None], "y": [0.1, 0.2, 0.3]},
    )
    found = model.describe(model.rows)
    assert torch.allclose(found["a"][[0, 2]], torch.eye(3)[[0, 2]])
    assert torch.allclose(found["v"][:2], torch.eye(2))
    weight = torch.tensor([0.2, 0.3, 0.5]) * Normal(torch.arange(3.0), 1.0).log_prob(torch.tensor(0.2)).exp()
    assert torch.allclose(found["a"][1], weight / weight.sum())


def test_new_rows_have_no_part_in_the_latents_of_training_rows():
    """The bound of rows that a joint table does not know is E log p(row | s), however wide the law of the table is."""
    nodes = [
        Node("mu", lambda: Normal(0.0, 1.0), shared=True),
        Node("z", lambda: Normal(0.0, 1.0)),
        Node("y", lambda mu, z: Normal(mu + 0 * z, 1.0)),
    ]
    model = Graphical(nodes, Config(guide="mean_field", amortised=False, samples=4000), {"y": DATA})
    mu = model.draw_latents(20000, model.rows, fresh()).values["mu"]
    truth = Normal(mu, 1.0).log_prob(torch.tensor([0.0, 1.0])).mean().item()
    found = model.loss(model.read({"y": [0.0, 1.0]}), fresh()).parts["elbo"].item()
    assert found == pytest.approx(truth, abs=0.05)
    with torch.no_grad():
        model.guide.joint.log_sigma[1:] += 2
    assert model.loss(model.read({"y": [0.0, 1.0]}), fresh()).parts["elbo"].item() == pytest.approx(found, abs=0.05)


def test_what_cannot_happen_has_no_gradient():
    logits = nn.Parameter(torch.tensor([0.0, 1.0]))
    never = torch.tensor([[0.0, -torch.inf], [-torch.inf, 0.0]])
    model = Graphical(
        [
            Node("a", lambda: Categorical(logits=logits)),
            Node("b", lambda a: Categorical(logits=never[a])),
            Node("y", lambda b: Normal(b.float(), 1.0)),
        ],
        data={"y": [0.5, 2.0]},
    )
    model.loss(model.rows).total.backward()
    assert logits.grad.isfinite().all()
    by_hand = -torch.logsumexp(
        Categorical(logits=logits).logits[:, None] + Normal(torch.tensor([[0.0], [1.0]]), 1.0).log_prob(torch.tensor([0.5, 2.0])), 0
    ).mean()
    assert torch.allclose(model.loss(model.rows).total, by_hand)


def test_numbers_that_nothing_depends_on_are_left_out():
    rows = normals(40, 2)
    rows[::3, 0], rows[1::4, 1] = NAN, NAN
    model = Graphical(
        [
            Node("c", CategoricalTable(3)),
            Node("a", LinearNormal(given=(3,)), parents="c"),
            Node("b", LinearNormal(given=(3,), loc=1.0), parents="c"),
        ],
        data={"a": rows[:, 0], "b": rows[:, 1]},
    )
    locs, scales = ([getattr(model.nodes[name].law(torch.arange(3)), what) for name in "ab"] for what in ("loc", "scale"))
    by_class = torch.full((40, 3), -math.log(3))
    for i in range(2):
        term = Normal(locs[i], scales[i]).log_prob(rows[:, i, None].nan_to_num())
        by_class = by_class + torch.where(rows[:, i, None].isnan(), 0.0, term)
    assert torch.allclose(model.joint(model.rows, {}).rows(), by_class.logsumexp(1), atol=1e-5)
    probabilities = model.describe(model.rows)["c"]
    assert torch.allclose(probabilities, by_class.softmax(1), atol=1e-5)


def mean_model(**config):
    return Graphical(
        [Node("mu", lambda: Normal(0.0, 3.0), shared=True), Node("y", lambda mu: Normal(mu, 2.0))], Config(**config), {"y": DATA}
    )


def mean_truth():
    precision = 1 / 9 + len(DATA) / 4
    evidence = MultivariateNormal(torch.zeros(len(DATA)), 4 * torch.eye(len(DATA)) + 9).log_prob(DATA)
    return (DATA.sum() / 4 / precision).item(), precision**-0.5, evidence.item()


@pytest.mark.parametrize("guide", ["mean_field", "full_rank"])
def test_the_bound_is_the_evidence_where_the_guide_is_the_posterior(guide):
    model = mean_model(guide=guide, samples=64)
    fit(model, {"y": DATA}, steps=150, learning_rate=0.02, source=fresh())
    loc, scale, evidence = mean_truth()
    drawn = model.draw_latents(20000, model.rows, fresh(1)).values["mu"]
    assert drawn.mean().item() == pytest.approx(loc, abs=0.05 * scale)
    assert drawn.std().item() == pytest.approx(scale, rel=0.05)
    assert len(DATA) * model.loss(model.rows, fresh(2)).parts["elbo"].item() == pytest.approx(evidence, abs=0.05)


def test_rows_are_as_probable_as_the_posterior_has_it():
    model = mean_model(samples=64)
    fit(model, {"y": DATA}, steps=150, source=fresh())
    loc, scale, _ = mean_truth()
    truth = Normal(loc, math.hypot(2.0, scale)).log_prob(DATA).mean().item()
    found = model.evaluate(model.inputs({"y": DATA}), k=2000, source=fresh())
    assert found.log_likelihood == pytest.approx(truth, abs=0.01)
    assert found.rows == 20
    assert found.draws == 2000
    assert found.elbo < found.log_likelihood


def test_small_batches_estimate_the_whole():
    """With the same draws of what is shared, the mean over a partition is the value for all rows, in value and gradient."""
    model = mean_model(guide="mean_field", samples=4)
    x, index = model.rows
    whole = model.loss((x, index), fresh())
    whole.total.backward()
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    parts = [model.loss((x[rows], index[rows]), fresh()) for rows in torch.arange(20).split(5)]
    (sum(part.total for part in parts) / 4).backward()
    assert torch.allclose(sum(part.total for part in parts) / 4, whole.total, atol=1e-5)
    for gradient, parameter in zip(gradients, model.parameters(), strict=True):
        assert torch.allclose(gradient, parameter.grad, atol=1e-5)


# x -> y, both normal, with gaps in x, on which y depends: the evidence of each row is known.
def regression(rows):
    x = normals(rows, seed=5)
    y = 0.5 + 2 * x + 0.3 * normals(rows, seed=6)
    gaps = x.clone()
    gaps[::4] = NAN
    data = {"x": gaps, "y": y}
    nodes = [Node("x", lambda: Normal(0.0, 1.0)), Node("y", lambda x: Normal(0.5 + 2 * x, 0.3))]
    truth = torch.where(
        gaps.isnan(),
        Normal(0.5, math.hypot(2.0, 0.3)).log_prob(y),
        Normal(0.0, 1.0).log_prob(x) + Normal(0.5 + 2 * x, 0.3).log_prob(y),
    )
    return data, nodes, truth


@pytest.mark.parametrize("amortised", [True, False])
def test_a_gap_with_children_is_a_latent(amortised):
    data, nodes, truth = regression(40)
    model = Graphical(nodes, Config(guide="mean_field", amortised=amortised, samples=8))
    fit(model, data, steps=400, learning_rate=0.05, source=fresh())
    elbo = model.loss(model.rows, fresh(1)).parts["elbo"].item()
    # A normal that is exact for each gap; the network of an amortised guide comes near.
    assert elbo <= truth.mean().item() + 0.02
    assert elbo == pytest.approx(truth.mean().item(), abs=0.02 if not amortised else 0.1)
    assert {step.node: step.observed for step in model.plan()} == {"x": 30, "y": 40}


def test_gaps_that_training_had_not_are_drawn_from_their_laws():
    """The bound then is of E log p(y | x), x from its law, which is known."""
    data, nodes, _ = regression(40)
    full = {"x": data["x"].nan_to_num(), "y": data["y"]}
    model = Graphical(nodes, Config(samples=4000), full)
    assert model.guide is None
    batch = model.read({"y": [1.0]})
    truth = Normal(0.5, 0.3).log_prob(torch.tensor(1.0)).item() - 0.5 * (2 / 0.3) ** 2
    assert model.loss(batch, fresh()).parts["elbo"].item() == pytest.approx(
        truth, abs=8 * 0.5 * (2 / 0.3) ** 2 * 2**0.5 / 4000**0.5
    )


@pytest.mark.parametrize("estimator", [rp.Score(), rp.LeaveOneOut(), rp.Enumerate(), None], ids=str)
def test_discrete_latents_that_are_sampled_have_the_gradient_of_their_estimator(estimator):
    """Against the gradient of the bound by sums over the guide's values: one false alarm in 1e9, an error of 0.2 is caught."""
    rows, data = 4 if isinstance(estimator, rp.LeaveOneOut) else 1, {"y": [0.3, -1.2, 2.5]}

    def model_of(estimator, rows, **config):
        nodes = [
            Node("c", lambda: Categorical(torch.tensor([0.2, 0.3, 0.5])), estimator=estimator, draws=rows),
            Node("y", lambda c: Normal(c.float(), 1.0)),
        ]
        return Graphical(nodes, Config(amortised=False, samples=32, **config), data)

    model = model_of(estimator, rows) if estimator is not None else model_of(None, 1, enumerate=2)
    table = next(model.guide.parameters())
    assert table.shape == (3, 3)
    logits = normals(3, 3, seed=8)
    with torch.no_grad():
        table.copy_(logits)
    wanted = logits.clone().requires_grad_()
    q = wanted.log_softmax(-1)
    log_p = torch.tensor([0.2, 0.3, 0.5]).log() + Normal(torch.arange(3.0), 1.0).log_prob(torch.tensor(data["y"])[:, None])
    bound = (q.exp() * (log_p - q)).sum(-1).mean()
    (truth,) = torch.autograd.grad(-bound, wanted)
    source, values, gradients = fresh(), [], []
    exact = estimator is None or isinstance(estimator, rp.Enumerate)
    for _ in range(1 if exact else 150):
        loss = model.loss(model.rows, source)
        (gradient,) = torch.autograd.grad(loss.total, table)
        gradients.append(gradient)
        values.append(loss.parts["elbo"])
    if exact:
        assert torch.allclose(gradients[0], truth, atol=1e-5)
        assert torch.allclose(values[0], bound, atol=1e-5)
        return
    verdicts = [
        mean_test(torch.stack(gradients)[:, i, j], truth[i, j].item(), alpha=1e-9 / 9)
        for i, j in itertools.product(range(3), range(3))
    ]
    assert all(verdicts)
    assert max(verdict.detectable for verdict in verdicts) < 0.2
    assert truth.abs().max() > 0.2
    assert mean_test(torch.stack(values), bound.item())


@pytest.mark.parametrize("estimator", [rp.Score(), rp.LeaveOneOut(), rp.MeasureValued()], ids=str)
def test_continuous_latents_have_the_gradient_of_their_estimator(estimator):
    """Against quadrature, which is exact here: one false alarm in 1e9, an error of 0.2 is caught."""

    def model_of(estimator):
        node = Node("mu", lambda: Normal(0.0, 3.0), shared=True, estimator=estimator, draws=8)
        return Graphical(
            [node, Node("y", lambda mu: Normal(mu, 2.0))], Config(guide="mean_field", samples=64), {"y": torch.arange(5.0)}
        )

    def gradient(model, source):
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        found = torch.autograd.grad(model.loss(model.rows, source).total, parameters)
        return torch.cat([each.flatten() for each in found])

    truth, source = gradient(model_of(rp.Quadrature()), None), fresh()
    model = model_of(estimator)
    found = torch.stack([gradient(model, source) for _ in range(200)])
    verdicts = [mean_test(found[:, i], truth[i].item(), alpha=1e-9 / 2) for i in range(2)]
    assert len(truth) == 2
    assert all(verdicts)
    assert max(verdict.detectable for verdict in verdicts) < 0.2


@pytest.mark.parametrize("name", ["score", "leave_one_out", "measure_valued", "enumerate"])
def test_estimators_are_swapped_by_a_setting(name):
    nodes = [
        Node("mu", lambda: Normal(0.0, 1.0), shared=True),
        Node("c", coin(0.3)),
        Node("y", lambda mu, c: Normal(mu + 2 * c, 1.0)),
    ]
    data = {"y": normals(6)}
    if name != "enumerate":  # which is of discrete laws
        both = Graphical(nodes, Config(guide="mean_field", estimator=name), data)
        assert both.enumerated == ()
        assert {step.estimator.lower() for step in both.plan() if step.estimator} == {name.replace("_", "")}
        assert both.loss(both.rows, fresh()).total.isfinite()
    with pytest.raises(BadInputError, match="leave the estimator out"):
        Graphical(nodes, Config(estimator=name), data)
    coins = Graphical([Node("c", coin(0.3)), Node("y", lambda c: Normal(2 * c, 1.0))], Config(estimator=name), data)
    assert [step.estimator.lower() for step in coins.plan()] == [name.replace("_", ""), ""]
    coins.loss(coins.rows, fresh()).total.backward()


def test_a_sum_is_a_tighter_bound_than_a_sample():
    nodes = [Node("c", lambda: Bernoulli(0.5)), Node("y", lambda c: Normal(4 * c, 1.0))]
    data = {"y": [0.0, 4.0, 2.0]}
    exact = Graphical(nodes, Config(), data)
    sampled = Graphical(nodes, Config(enumerate=1, amortised=False), data)
    assert exact.enumerated == ("c",)
    assert sampled.enumerated == ()
    assert sampled.loss(sampled.rows).parts["elbo"] < exact.loss(exact.rows).parts["elbo"]


@pytest.mark.parametrize("source", [rp.Antithetic(fresh()), rp.Sobol(seed=0), fresh()], ids=lambda source: type(source).__name__)
def test_noise_comes_from_the_source(source):
    model = mean_model(samples=16)
    loss = model.loss(model.rows, source).total
    torch.manual_seed(99)
    again = {"Antithetic": rp.Antithetic(fresh()), "Sobol": rp.Sobol(seed=0), "Fresh": fresh()}[type(source).__name__]
    assert torch.equal(loss, model.loss(model.rows, again).total)


@pytest.mark.parametrize("guide", ["mean_field", "full_rank", "flow"])
def test_every_kind_of_latent_has_a_finite_gradient(guide):
    nodes = [
        Node("w", lambda: Dirichlet(torch.ones(3)), shared=True),
        Node("rate", lambda: Gamma(2.0, 1.0), shared=True),
        Node("loc", lambda: Independent(Normal(torch.zeros(3), 1.0), 1), shared=True),
        Node("share", lambda: Beta(2.0, 2.0)),
        Node("low", lambda: Uniform(0.0, 5.0)),
        Node("c", lambda w: Categorical(w)),
        Node("spot", lambda w: OneHotCategorical(w)),
        Node("y", lambda c, loc, low: Normal(select(loc, c) + low, 1.0)),
        Node("n", lambda rate, share: Poisson(rate * (1 + share))),
        Node("two", lambda spot, loc: Independent(Normal(torch.stack([(spot * loc).sum(-1)] * 2, -1), 1.0), 1), columns=("u", "v")),
    ]
    data = {"y": normals(6), "n": [0, 1, 2, 3, 4, None], "u": normals(6, seed=1), "v": normals(6, seed=2)}
    model = Graphical(nodes, Config(guide=guide, samples=2, amortised=True), data)
    loss = model.loss(model.rows, fresh())
    loss.total.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert loss.parts["elbo"].item() == pytest.approx((loss.parts["log_joint"] + loss.parts["entropy"]).item(), abs=1e-5)
    assert model.draw_latents(5, model.rows, fresh()).values["w"].shape == (5, 1, 3)


def test_supports_of_latents_have_coordinates_without_bounds():
    """The posterior of a scale with a law on a half-line, by weights of a grid."""
    half = partial(rp.distributions.TruncatedNormal, 0.0, 1.0, 0.0, torch.inf)
    model = Graphical([Node("s", lambda: half(), shared=True), Node("y", lambda s: Normal(0.0, s))], Config(), {"y": [0.5, -2.0]})
    fit(model, steps=100, learning_rate=0.02, source=fresh())
    grid = torch.linspace(0.01, 6, 2000)
    weight = (half().log_prob(grid) + Normal(0.0, grid).log_prob(torch.tensor([[0.5], [-2.0]])).sum(0)).softmax(0)
    found = model.draw_latents(20000, model.rows, fresh()).values["s"].mean().item()
    assert found == pytest.approx((weight * grid).sum().item(), rel=0.05)


def test_nothing_to_learn_is_said(tmp_path, monkeypatch):
    data = {"rain": [1.0, None, 0.0], "wet": [1.0, 1.0, 0.0]}
    assert fit(Graphical(sprinkler()), data) == []
    (tmp_path / "known_graph.py").write_text(
        "from torch.distributions import Normal\n"
        "from reparam.models.graphical import Node\n"
        "def nodes():\n    return [Node('y', lambda: Normal(0.0, 1.0))]\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInputError, match="nothing to learn"):
        Graphical.for_data(Config(graph="known_graph:nodes"), load("eight_schools", gaps="keep"))


def test_the_plan_says_what_becomes_of_each_node():
    nodes = [
        Node("x"),
        Node("p", lambda: Beta(1.0, 1.0), shared=True),
        Node("c", lambda p: Bernoulli(p)),
        Node("z", lambda: Normal(0.0, 1.0)),
        Node("f", lambda z, x: z * x),
        Node("y", lambda f, c: Normal(f + c, 1.0)),
        Node("later", lambda y: Normal(y, 1.0)),
    ]
    model = Graphical(nodes, Config(guide="mean_field"), {"x": [1.0, 2.0, 3.0], "y": [0.5, None, 1.0]})
    steps = {step.node: step for step in model.plan()}
    assert [steps[name].how.split(":")[0] for name in steps] == ["", "guide", "guide", "summed out", "", "left out", "left out"]
    assert list(steps) == ["x", "p", "z", "c", "f", "y", "later"]
    assert (steps["y"].observed, steps["y"].rows, steps["later"].observed) == (2, 3, None)
    text = str(model.plan())
    assert "2 of 3" in text
    assert "tables of up to 2 values" in text
    assert text.splitlines()[0].split() == ["node", "law", "parents", "values", "observed", "where", "not", "estimator", "why"]


def test_iris_is_a_network_with_hidden_species():
    data = load("iris", gaps="keep")
    parts = split(data, seed=0, validation=0.1, test=0.1)
    torch.manual_seed(0)
    model = Graphical.for_data(Config(), parts.train)
    assert model.config.graph == "iris"
    assert model.config.hide == ("species",)
    inputs = model.inputs(parts.train)
    species = list(data.columns).index("species")
    assert int((~inputs[0][:, species].isnan()).sum()) == 12
    assert model.inputs(parts.test)[0][:, species].isnan().all()
    optimiser = torch.optim.Adam(model.parameters(), 0.05)
    first = model.loss(inputs).parts["elbo"].item()
    for _ in range(100):
        optimiser.zero_grad()
        loss = model.loss(inputs)
        loss.total.backward()
        optimiser.step()
    assert loss.parts["elbo"].item() > first + 2
    found = model.evaluate(model.inputs(parts.test), k=3)
    assert found.accuracy["species"] >= 0.8 > found.chance["species"]
    assert any("species, hidden" in line for line in found.lines())
    assert len(found.tiles()) == 3
    again = Graphical.from_record(
        model.config, {"shape": [5], "columns": data.columns, "codec": data.codec.facts(), "sizes": {"train": len(parts.train)}}
    )
    again.load_state_dict(model.state_dict())
    assert again.evaluate(again.inputs(parts.test), k=3) == found


@pytest.mark.parametrize("guide", ["mean_field", "full_rank", "flow"])
def test_a_run_makes_the_same_model_again(guide):
    data = load("eight_schools", gaps="keep")
    model = Graphical.for_data(Config(guide=guide), data)
    facts = None if data.codec is None else data.codec.facts()
    record = {"shape": [2], "columns": data.columns, "codec": facts, "sizes": {"train": len(data)}}
    again = Graphical.from_record(model.config, record)
    assert {name: p.shape for name, p in again.state_dict().items()} == {name: p.shape for name, p in model.state_dict().items()}
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.loss(again.inputs(data), fresh()).total, model.loss(model.inputs(data), fresh()).total)
    assert again.inputs(data)[1].tolist() == list(range(8))


def test_the_rows_of_a_table_are_known_again():
    data = from_tensor(normals(30, 1), values="real")
    parts = split(data, seed=1, validation=0.2, test=0.2)
    model = Graphical(
        [Node("z", lambda: Normal(0.0, 1.0)), Node("x0", lambda z: Normal(z, 1.0))], Config(amortised=False), parts.train
    )
    assert model.inputs(parts.train)[1].tolist() == list(range(len(parts.train)))
    assert set(model.inputs(parts.test)[1].tolist()) == {-1}
    assert set(model.inputs(from_tensor(normals(4, 1, seed=1), values="real"))[1].tolist()) == {-1}
    # New rows, for which the table has no entries: their latents come from their law.
    assert model.loss(model.inputs(parts.test), fresh()).total.isfinite()
    # z | x0 is normal with half of x0 as its mean and a variance of 1 / 2: 0.15 is five standard errors where x0 is 2.5.
    found = model.describe(model.inputs(parts.test), fresh(), n=4000)["z"]
    assert torch.allclose(found, parts.test.x[:, 0] / 2, atol=0.15)


@pytest.mark.parametrize("hide", [None, ("x0",)])
def test_rows_of_another_table_are_new(hide):
    """Whatever their numbers are: rows of the same numbers are told apart by their values, gaps among them."""
    x = normals(30, 2)
    x[::4, 1] = NAN
    tables = [from_frame({"x0": x[:, 0], "x1": x[:, 1] + shift}) for shift in (0, 1)]
    parts, others = (split(data, seed=1, validation=0.2, test=0.2) for data in tables)
    nodes = [Node("m", lambda: Normal(0.0, 1.0), shared=True), Node("x0", lambda m: Normal(m, 1.0))]
    model = Graphical([*nodes, Node("x1", lambda x0: Normal(x0, 1.0))], Config(hide=hide), parts.train)
    gaps = others.train.x[:, 1].isnan()  # where x1 is a gap, the row is one of the table after all
    assert model.inputs(others.train)[1].tolist() == torch.where(gaps, torch.arange(len(gaps)), -1).tolist()
    # Another seed takes other rows of the same table for training: each is the one that it was.
    again = split(tables[0], seed=2, validation=0.2, test=0.2).train
    known = {row: place for place, row in enumerate(parts.train.rows.tolist())}
    assert model.inputs(again)[1].tolist() == [known.get(row, -1) for row in again.rows.tolist()]


def test_copies_and_precisions():
    model = Graphical(
        [Node("c", CategoricalTable(2)), Node("y", LinearNormal(given=(2,)), parents="c")], Config(), {"y": normals(10)}
    )
    twin = copy.deepcopy(model)
    twin.loss(twin.rows).total.backward()
    assert all(parameter.grad is not None for parameter in twin.parameters() if parameter.numel())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.state_dict().keys() >= {"laws.p(c).logits", "laws.p(y).bias"}
    double = copy.deepcopy(model).double()
    assert double.loss(double.inputs({"y": normals(10)})).total.dtype == torch.float64


def test_a_frame_has_the_categories_of_the_model():
    frame = {"kind": ["cat", "dog", "owl", "cat"], "size": [1.0, 2.0, 0.5, None]}
    nodes = [Node("kind", CategoricalTable(3)), Node("size", LinearNormal(given=(3,)), parents="kind")]
    model = Graphical(nodes, data=frame)
    assert model.inputs({"kind": ["owl"], "size": [1.0]})[0].tolist() == [[2.0, 1.0]]
    assert model.read({"kind": "dog"})[0].nan_to_num(-1).tolist() == [[1.0, -1.0]]
    with pytest.raises(BadInputError, match="other categories in column 'kind'"):
        model.inputs(from_frame({"kind": ["owl"], "size": [1.0]}))
    with pytest.raises(BadInputError, match="fox"):
        model.read({"kind": "fox"})
    with pytest.raises(BadInputError, match="did you mean 'size'"):
        model.read({"sise": 1.0})


def test_select_takes_from_vectors_by_places():
    values = normals(4, 1, 3)
    index = torch.tensor([[0, 1, 2, 0, 1]])
    found = select(values, index)
    assert found.shape == (4, 5)
    assert torch.equal(found, torch.stack([values[:, 0, i] for i in index[0]], -1))


def test_laws_of_plain_numbers_are_made_where_the_values_are():
    # Without a look at values, which this device has none of.
    law = partial(Normal, validate_args=False)
    nodes = ordered([Node("x"), Node("z", lambda: law(0.0, 1.0)), Node("y", lambda z, x: law(z + x, 1.0))])
    made = trace(nodes.values(), {"x": torch.zeros(3, device="meta")}, lambda node, law: law.sample(), 3)
    assert {value.device.type for value in made.values.values()} == {"meta"}


def lone(law=lambda: Normal(0.0, 1.0), **settings):
    return Node("y", law, **settings)


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        (lambda: [], "a graphical model is a list of nodes"),
        (lambda: ["y"], "a graphical model is a list of nodes"),
        (lambda: [lone(), lone()], "two nodes are called 'y'"),
        (lambda: [lone(lambda x: Normal(x, 1.0))], "parent 'x', which is no node"),
        (lambda: [Node("theta", coin(0.5)), lone(lambda thta: Normal(thta, 1.0))], "did you mean 'theta'"),
        (lambda: [Node("a", lambda y: Normal(y, 1.0)), lone(lambda a: Normal(a, 1.0))], "wait for each other"),
        (lambda: [lone(lambda y: Normal(y, 1.0))], "wait for each other"),
        (lambda: [Node("z", coin(0.5)), Node("s", lambda z: Normal(z, 1.0), shared=True), lone()], "is shared, one value for all"),
        (lambda: [lone(Normal(0.0, 1.0))], "give a function of its parents"),
        (lambda: [lone(Normal)], "give a function of its parents"),
        (lambda: [Node("", coin(0.5))], "give it a name"),
        (lambda: [lone(draws=0)], "how many values to draw"),
        (lambda: [lone(estimator=rp.Score)], "give an instance"),
        (lambda: [Node("y", parents=("z",))], "no law: a node that is given has none"),
    ],
)
def test_graphs_that_are_none_are_refused(nodes, words):
    with pytest.raises(BadInputError, match=words):
        ordered(nodes())


SCALE = Node("s", lambda: Gamma(2.0, 1.0), shared=True)
Y = {"y": [0.5, 1.5, 2.5]}


@pytest.mark.parametrize(
    ("nodes", "data", "words"),
    [
        ([lone(lambda: None)], Y, "node 'y': its law returned NoneType: does it lack its return"),
        ([lone(lambda: 1 / 0)], Y, "node 'y': its law fails with ZeroDivisionError on no parents"),
        ([lone(lambda: Normal(torch.zeros(2), 1.0))], Y, r"batch shape \(2,\) and event shape"),
        ([Node("mu", lambda: Normal(torch.zeros(3), 1.0), shared=True), lone(lambda mu: Normal(mu, 1.0))], Y, "Independent"),
        ([lone(lambda: Beta(1.0, 1.0))], Y, "node 'y': the value 1.5 in row 2 of those observed .* Beta on Interval"),
        ([lone(lambda: Categorical(torch.ones(2)))], {"y": [0.0, 1.0, 2.0]}, "the value 2.0 in row 3 .* Categorical"),
        ([SCALE, lone(lambda s: Uniform(0.0, s))], {"y": [-1.0, 1.0, 2.0]}, "node 'y': the value -1 is not in the support"),
        ([Node("x"), lone(lambda x: Normal(x, 1.0))], Y, "node 'x' has no law and no column"),
        ([Node("x"), lone(lambda x: Normal(x, 1.0))], Y | {"x": [1.0, None, 2.0]}, "its column has gaps"),
        ([Node("z", lambda: Normal(0.0, 1.0))], Y, "no node with a law is observed"),
        ([lone()], {"y": ["cat", "dog", "cat"]}, "its column has the categories cat, dog: give it a law of categories"),
        ([lone(shared=True)], Y, "is shared, and there is a column 'y'"),
        ([lone(columns="why")], Y, "column 'why', which the data have not"),
        ([Node("x", lambda: Normal(0.0, 1.0)), lone(lambda x: x)], Y, "is a function of its parents and has a column"),
        (
            [Node("s", lambda: Gamma(2.0, 1.0), shared=True), Node("u", lambda s: Uniform(0.0, s)), lone(lambda u: Normal(u, 1.0))],
            Y,
            "bounds of its support differ",
        ),
        ([Node("n", lambda: Poisson(3.0)), lone(lambda n: Normal(n, 1.0))], Y, "node 'n' is latent and Poisson"),
        ([lone()], [1, 2, 3], "a data frame or a dictionary"),
    ],
)
def test_models_that_do_not_fit_their_data_are_refused(nodes, data, words):
    def use():
        model = Graphical(nodes, Config(), data)
        model.loss(model.rows)

    with pytest.raises(BadInputError, match=words):
        use()


def test_vectors_are_whole_or_missing():
    node = Node("v", lambda: Independent(Normal(torch.zeros(2), 1.0), 1), columns=("a", "b"))
    model = Graphical([node], data={"a": [1.0, None, 2.0], "b": [0.0, None, 1.0]})
    assert model.loss(model.rows).total.isfinite()
    with pytest.raises(BadInputError, match="only some of the columns of node 'v'"):
        Graphical([node], data={"a": [1.0, None], "b": [0.0, 1.0]})


def test_before_data_there_is_nothing_to_fit():
    model = Graphical([Node("mu", lambda: Normal(0.0, 1.0), shared=True), Node("y", lambda mu: Normal(mu, 1.0))])
    with pytest.raises(BadInputError, match="has not seen data"):
        model.loss(torch.zeros(3, 1))
    with pytest.raises(BadInputError, match="has not seen data"):
        model.plan()


@pytest.mark.parametrize(
    "settings",
    [
        {"guide": "lowrank"},
        {"samples": 0},
        {"estimator": "gumbel"},
        {"draws": 0},
        {"classes": 1},
        {"enumerate": 0},
        {"transforms": 0},
        {"bins": 1},
        {"hidden": (0,)},
        {"shown": 1.5},
    ],
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(BadInputError, match=next(iter(settings))):
        Config(**settings)


def test_hidden_columns_are_there():
    with pytest.raises(BadInputError, match="hide='specis' is no column"):
        Graphical.for_data(Config(hide=("specis",)), load("iris", gaps="keep"))


@pytest.mark.parametrize(
    ("graph", "words"),
    [("eigth_schools", "did you mean eight_schools"), ("no_such_module:f", "there is no module"), ("iris", "has a column species")],
)
def test_graphs_by_unknown_names_are_refused(graph, words):
    with pytest.raises(BadInputError, match=words):
        Graphical.for_data(Config(graph=graph), load("eight_schools", gaps="keep"))


def test_a_graph_of_ones_own_is_imported_when_it_is_named(tmp_path, monkeypatch):
    (tmp_path / "my_graph.py").write_text(
        "from torch.distributions import Normal\n"
        "from reparam.models.graphical import Node\n"
        "def nodes():\n"
        "    return [Node('mu', lambda: Normal(0.0, 1.0), shared=True), Node('y', lambda mu: Normal(mu, 1.0))]\n"
        "def nothing():\n    return 3\n"
    )
    monkeypatch.chdir(tmp_path)
    data = load("eight_schools", gaps="keep")
    record = {"shape": [2], "columns": data.columns, "codec": None, "sizes": {"train": 8}}
    with pytest.raises(ArtefactError, match="files import nothing"):
        Graphical.from_record(Config(graph="my_graph:nodes"), record)
    model = Graphical.for_data(Config(graph="my_graph:nodes"), data)
    assert list(model.nodes) == ["mu", "y"]
    assert list(Graphical.from_record(model.config, record).nodes) == ["mu", "y"]
    with pytest.raises(BadInputError, match="must return a list of Node"):
        Graphical.for_data(Config(graph="my_graph:nothing"), data)


def test_a_run_of_ones_own_graph_is_opened_by_naming_it_again(tmp_path, monkeypatch, capsys):
    (tmp_path / "run_graph.py").write_text(
        "from torch.distributions import Normal\n"
        "from reparam.models.graphical import Node\n"
        "def nodes():\n"
        "    return [Node('mu', lambda: Normal(0.0, 9.0), shared=True), Node('y', lambda mu: Normal(mu, 1.0))]\n"
    )
    monkeypatch.chdir(tmp_path)
    data = load("eight_schools", gaps="keep")
    parts = split(data, seed=0, validation=0.0, test=0.0)
    model = Graphical.for_data(Config(graph="run_graph:nodes", guide="full_rank"), parts.train)
    training, options = Training(epochs=1, batch_size=8, threads=1), DataOptions(data="eight_schools", gaps="keep")
    options = replace(options, validation_fraction=0.0, test_fraction=0.0)
    with Run.create("run", record("graphical", model, training, options, data, parts)) as made:
        train(model, model.inputs(parts.train), model.inputs(parts.validation), training, made, progress=False)
    monkeypatch.setattr(graphical_examples, "_OWN", {})  # as a process that never heard of it
    assert main(["posterior", "run"]) == 3
    assert "--graph run_graph:nodes" in capsys.readouterr().err
    assert main(["posterior", "run", "--graph", "run_graph:nodes"]) == 0
    assert "mu" in capsys.readouterr().out


def test_a_mixture_serves_any_table():
    frame = {
        "size": [1.0, 2.0, None, 4.0, 5.0, 6.0],
        "kind": ["a", "b", "a", None, "c", "a"],
        "class": [1.0, 0.5, 0.2, 0.1, 3.0, 2.0],
    }
    data = from_frame(frame)
    model = Graphical.for_data(Config(classes=2), data)
    assert model.config.graph == "mixture"
    assert model.enumerated == ("latent class",)
    first = model.loss(model.rows).total
    optimiser = torch.optim.Adam(model.parameters(), 0.05)
    for _ in range(50):
        optimiser.zero_grad()
        model.loss(model.rows).total.backward()
        optimiser.step()
    assert model.loss(model.rows).total < first - 0.5
    assert model.sample(7, fresh()).shape == (7, 3)
