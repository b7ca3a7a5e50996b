"""Reports of graphical models: the drawing of the graph, and sections that are true to the model."""

import re

import numpy as np
import pytest
import torch
from torch.distributions import Bernoulli, HalfCauchy, Normal

from reparam.data import load, split
from reparam.data.frame import from_frame
from reparam.models.graphical import Config, Graphical, Node
from reparam.models.trained import data_of, model_of
from reparam.noise import Fresh
from reparam.report import laws
from reparam.report.graphical import view
from reparam.report.graphical_what_if import what_if
from reparam.report.network_graph import Variable, draw, gathered
from reparam.report.network_layout import Vertex, layout
from reparam.report.pieces import Subject
from reparam.report.sections import sections
from reparam.report.tables import crossed
from test_report import check
from test_report_models import FRAME, page_of, titles, trained


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Less of everything that takes long."""
    monkeypatch.setattr("reparam.report.graphical._DRAWS", 200)
    monkeypatch.setattr("reparam.report.graphical_check._DRAWS", 200)
    monkeypatch.setattr("reparam.report.graphical_gradients._DRAWS", 4)
    for name, value in {"_SEEN": 17, "_SET": 3, "_DRAWS": 500, "_ROWS": 400}.items():
        monkeypatch.setattr(f"reparam.report.graphical_what_if.{name}", value)


def random_graph(seed, n=14):
    """Vertices of random widths, each below some of the earlier ones; the first few above all others."""
    generator = np.random.default_rng(seed)
    made = []
    for i in range(n):
        upper = i < 3
        others = [v.name for v in made if not upper or v.upper]
        parents = generator.choice(others, min(len(others), generator.integers(0, 4)), replace=False) if others else ()
        made.append(Vertex(f"v{i}", tuple(map(str, parents)), float(generator.uniform(40, 150)), upper))
    return made


@pytest.mark.parametrize("seed", range(12))
def test_vertices_stand_below_their_parents_and_apart(seed):
    vertices = random_graph(seed)
    found = layout(vertices, 448)
    for v in vertices:
        x, layer = found.places[v.name]
        assert v.width / 2 - 1e-6 <= x <= found.width - v.width / 2 + 1e-6
        assert (layer < found.upper) == v.upper
        for parent in v.parents:
            assert found.places[parent][1] < layer
            assert len(found.edges[parent, v.name]) == layer - found.places[parent][1] + 1
        for other in vertices:
            place, level = found.places[other.name]
            if other is not v and level == layer:
                assert abs(place - x) >= (v.width + other.width) / 2


def test_a_tree_has_no_crossings_and_a_chain_is_straight():
    chain = [Vertex(f"v{i}", (f"v{i - 1}",) if i else (), 60) for i in range(5)]
    places = layout(chain, 448).places
    assert len({round(x, 6) for x, _ in places.values()}) == 1
    # As they are given the arrows cross.
    crossing = [Vertex("a", (), 60), Vertex("b", (), 60), Vertex("c", ("b",), 60), Vertex("d", ("a",), 60)]
    found = layout(crossing, 448).places
    assert (found["a"][0] - found["b"][0]) * (found["d"][0] - found["c"][0]) > 0


def test_variables_that_stand_alike_are_drawn_as_one():
    many = [Variable("class", "Categorical", "summed")]
    many += [Variable(f"x{i}", "Normal", "observed", ("class",), known=1.0) for i in range(20)]
    many += [Variable("kind", "Categorical", "observed", ("class", "x3"), known=1.0)]
    drawn = {v.name: v for v in gathered(many)}
    assert list(drawn) == ["class", "x0 … x19", "x3", "kind"]
    assert drawn["x0 … x19"].stands_for == 19
    assert drawn["kind"].parents == ("class", "x3")
    assert gathered(many[:5]) == many[:5]


def test_the_drawing_says_what_it_shows_and_escapes_names():
    picture = draw([Variable("<mu>", "Normal", "latent", shared=True), Variable("y", "Normal", "partly", ("<mu>",), known=0.4)], 8)
    check(picture)
    assert "<mu>" not in picture
    assert 'aria-label="&lt;mu>: latent; y given &lt;mu>: partly missing"' in picture
    assert picture.count("url(#graph-head)") == 1
    assert "each of 8 rows" in picture
    width = float(re.search(r'<rect class="pill"[^>]* width="([\d.]+)"', picture.split("partly")[-1])[1])
    known = float(re.search(r'<clipPath id="known-1"><rect [^>]* width="([\d.]+)"', picture)[1])
    assert known == pytest.approx(0.4 * width, abs=0.1)


@pytest.fixture(scope="module")
def schools(tmp_path_factory):
    config = {"graph": "eight_schools", "guide": "full_rank", "samples": 2}
    options = {"data": "eight_schools", "gaps": "keep", "validation_fraction": 0.0, "test_fraction": 0.0}
    return trained(tmp_path_factory.mktemp("schools"), "graphical", config, **options)


def test_eight_schools(schools):
    page = page_of(schools)
    found = ["The graph", "What was learned", "Row by row", "New rows", "What if", "What the trick buys"]
    assert check(page) == [*FRAME[0], *found, *FRAME[1]]
    assert "Graphical model on eight_schools" in page
    assert "Numbers at the top are of 8 training rows" in page
    assert "each of 8 rows" in page
    assert "is y, a measurement of theta" in page
    assert "here sigma is 11" in page
    assert len(page) < 1.5e6
    assert page_of(schools) == page


def test_rows_keep_their_numbers(schools):
    """A run has its rows in another order than the file; a chart's rows are those of the file."""
    model, splits = model_of(schools), data_of(schools)
    seen = view(Subject(model, splits, Fresh(torch.Generator())))
    assert seen.numbers == list(range(8))
    y = seen.read()[0]["y"]
    assert y.tolist() == [28, 8, -3, 7, -1, 1, 18, 12]
    assert not torch.equal(splits.train.x[:, model.columns.names.index("y")], y)


def flowers(gaps=False, seed=0):
    generator = torch.Generator().manual_seed(seed)
    kind = torch.randint(0, 3, (90,), generator=generator)
    a = 2.0 * kind + 0.4 * torch.randn(90, generator=generator)
    b = a + 0.4 * torch.randn(90, generator=generator)
    if gaps:
        a[::9] = torch.nan
    return from_frame({"kind": [("red", "green", "blue")[k] for k in kind], "a": a, "b": b}, name="flowers")


def mixed(data, config, nodes=None):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        splits = split(data, seed=0)
        model = Graphical.for_data(config, splits.train) if nodes is None else Graphical(nodes, config, splits.train)
        return model.eval(), splits


@pytest.mark.parametrize(
    ("hide", "gaps", "wanted"),
    [
        ((), False, ["The graph", "Who is in which class", "New rows", "What if"]),
        (("kind",), False, ["The graph", "Who is in which class", "New rows", "What if"]),
        (("kind",), True, ["The graph", "Who is in which class", "Gaps", "New rows", "What if"]),
    ],
)
def test_mixtures(hide, gaps, wanted):
    assert titles(*mixed(flowers(gaps), Config(graph="mixture", classes=3, hide=hide))) == wanted


def test_hidden_categories_are_counted_against_what_was_found():
    from reparam.report.graphical_classes import classes

    data = flowers()
    nodes = [
        Node("kind", lambda: torch.distributions.Categorical(torch.ones(3) / 3)),
        Node("a", lambda kind: Normal(2.0 * torch.tensor([2.0, 1.0, 0.0])[kind.long()], 0.4)),  # blue, green, red
    ]
    model, splits = mixed(data, Config(hide=("kind",), shown=0.0), nodes)
    section = classes(Subject(model, splits, Fresh(torch.Generator().manual_seed(0))))
    # The classes are five standard deviations apart, so that by the best rule one in 160 is wrong.
    shown = re.search(r"Of (\d+) rows whose kind was hidden (\d+) are found right", section.figures[0].caption)
    assert int(shown[1]) == len(splits.train)
    assert int(shown[2]) >= 0.93 * len(splits.train)


def test_crossed_counts():
    table = crossed(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 1, 0]), ("a", "<b>"), ("x", "y"), "row", "column")
    assert [int(n) for n in re.findall(r"<td[^>]*>(\d+)</td>", table)] == [2, 0, 1, 1]
    assert "--share: 50%" in table
    assert "<b>" not in table


def test_what_is_seen_moves_its_cause_and_what_is_set_does_not(monkeypatch):
    """The curves are Bayes' rule, and setting an effect leaves its cause as it was."""
    drawn = {}
    original = laws.moves

    def moves(name, title, at, curves, label, **rest):
        drawn.update(at=at, curves=curves, **rest)
        return original(name, title, at, curves, label, **rest)

    monkeypatch.setattr(laws, "moves", moves)
    nodes = [Node("cause", lambda: Bernoulli(torch.tensor(0.3))), Node("effect", lambda cause: Normal(2 * cause, 1.0))]
    effect = torch.randn(60, generator=torch.Generator().manual_seed(0)) + 1
    model, splits = mixed(from_frame({"effect": effect}, name="effects"), Config(), nodes)
    section = what_if(Subject(model, splits, Fresh(torch.Generator().manual_seed(0))))
    assert section.title == "What if"
    at = torch.from_numpy(drawn["at"])
    odds = (Normal(2.0, 1.0).log_prob(at) - Normal(0.0, 1.0).log_prob(at)).exp() * 0.3 / 0.7
    *_, one = drawn["curves"].values()
    *_, kept = drawn["set_to"].values()
    np.testing.assert_allclose(one, odds / (1 + odds), atol=1e-4)
    np.testing.assert_allclose(kept, 0.3, atol=1e-4)


def test_a_regression_shows_its_line(monkeypatch):
    """With a slope that is known, 2, and noise of standard deviation 1: the median and the 90% range, but for chance.

    Of 500 draws the median has a standard error of .056 and the ends of .1: five of them are allowed at each of 17 places, for a
    false alarm in one of ten thousand runs.
    """
    drawn = {}
    original = laws.bands

    def bands(name, title, at, middle, ranges, label, **rest):
        drawn.update(at=at, middle=middle, low=ranges[0][0], high=ranges[0][1], **rest)
        return original(name, title, at, middle, ranges, label, **rest)

    monkeypatch.setattr(laws, "bands", bands)
    x = torch.randn(60, generator=torch.Generator().manual_seed(0))
    y = 2 * x + torch.randn(60, generator=torch.Generator().manual_seed(1))
    nodes = [Node("x"), Node("y", lambda x: Normal(2 * x, 1.0))]
    model, splits = mixed(from_frame({"x": x, "y": y}, name="line"), Config(), nodes)
    section = what_if(Subject(model, splits, Fresh(torch.Generator().manual_seed(0))))
    assert section.lead == "The line is what a new row's y is taken to be at each x."
    assert drawn["set_to"] is None
    assert len(drawn["points"][0]) == len(splits.train)
    np.testing.assert_allclose(drawn["middle"], 2 * drawn["at"], atol=0.28)
    np.testing.assert_allclose(drawn["low"], 2 * drawn["at"] - 1.645, atol=0.5)
    np.testing.assert_allclose(drawn["high"], 2 * drawn["at"] + 1.645, atol=0.5)


def test_many_rows_are_drawn_in_order(monkeypatch):
    monkeypatch.setattr("reparam.report.graphical._ROWS", 50)
    nodes = [
        Node("level", lambda: Normal(0.0, 1.0), shared=True),
        Node("spread", lambda: HalfCauchy(1.0), shared=True),
        Node("z", lambda level, spread: Normal(level, spread)),
        Node("y", lambda z: Normal(z, 0.5)),
    ]
    y = torch.randn(120, generator=torch.Generator().manual_seed(0))
    model, splits = mixed(from_frame({"y": y}, name="many"), Config(guide="mean_field"), nodes)
    found = {section.title: section for section in sections(model, splits)}
    assert list(found) == ["The graph", "What was learned", "Row by row", "New rows", "What if", "What the trick buys"]
    assert "50 rows in the order of their medians" in found["Row by row"].figures[0].caption


@pytest.mark.parametrize("guide", ["mean_field", "full_rank"])
def test_the_score_function_has_the_gradient_of_the_path(guide):
    """By the means of 150 estimates each, at 6 standard errors: 20 coordinates give a false alarm in one of a million runs.

    The smallest error that is seen is 3 standard deviations of one estimate with a path; the gradient itself is 5 or more of them.
    The baseline is what makes it so small: without one the score function has a standard error 15 times as large.
    """
    from reparam.report.graphical_gradients import _path, _scored

    config = Config(graph="eight_schools", guide=guide, samples=8)
    splits = split(load("eight_schools", gaps="keep"), seed=0, validation=0, test=0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Graphical.for_data(config, splits.train)
    seen = view(Subject(model.eval(), splits, Fresh(torch.Generator())))
    with torch.no_grad():
        model.guide.joint.loc.add_(0.3)  # away from the optimum, where the gradient is not zero
    parameters = [model.guide.joint.loc, model.guide.joint.log_sigma]
    generator = torch.Generator().manual_seed(1)

    def moments(loss):
        each = [torch.cat(torch.autograd.grad(loss(), parameters)).double() for _ in range(150)]
        return torch.stack(each).mean(0), torch.stack(each).var(0) / 150

    path, path_error = moments(lambda: _path(seen.model, Fresh(generator)))
    score, score_error = moments(lambda: _scored(seen, generator, baseline=True))
    z = (path - score) / (path_error + score_error).sqrt()
    assert z.abs().max() < 6
    assert (path / path_error.sqrt()).abs().max() > 5 * 150**0.5 / 2  # there is something to see


def test_names_may_be_anything():
    """They are no part of markup or of identities, and no formulas."""
    names = ('a "b" <i>$_c$', "x y $\\", "kind & 'co'")
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(80, generator=generator)
    x[::7] = torch.nan
    data = from_frame({names[0]: x, names[1]: torch.randn(80, generator=generator), names[2]: ["<b>", "$_$"] * 40}, name="odd")
    model, splits = mixed(data, Config(graph="mixture", classes=2))
    found = sections(model, splits)
    assert [section.title for section in found] == ["The graph", "Who is in which class", "Gaps", "New rows", "What if"]
    page = "".join(picture for section in found for figure in section.figures for picture in figure.pictures)
    check(page)
    assert "<i>$" not in page
    assert "<b>" not in page
    assert all(re.fullmatch(r"[\w.-]+", name) for name in re.findall(r'id="([^"]*)"', page))


def test_what_is_all_observed_has_no_posterior_to_show():
    nodes = [Node("a", lambda: Normal(0.0, 1.0)), Node("b", lambda a: Normal(a, 1.0))]
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    model, splits = mixed(from_frame({"a": x[:, 0], "b": x[:, 0] + x[:, 1]}, name="two"), Config(), nodes)
    assert titles(model, splits) == ["The graph", "New rows", "What if"]
