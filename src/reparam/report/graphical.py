"""What a report shows of a graphical model: the graph, what was learned of all rows, and of each."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from reparam.report import laws, plane
from reparam.report.network_graph import Variable, draw, gathered, legend
from reparam.report.pieces import Figure, Section, Subject
from reparam.report.tables import table as table_of

__all__ = ["View", "by_row", "graph", "learned", "view"]

# Draws of the posterior and of the prior, and training rows that are looked at.
_DRAWS, _ROWS = 4000, 300
# Numbers that get a picture of their own, pairs of them, and rows with a name.
_SHOWN, _PAIRS, _NAMED = 6, 3, 30
# Correlations below this are not shown.
_LEAST = 0.3
# Half of the central 90% of a normal law, in standard deviations.
_Z90 = 1.645


@dataclass(frozen=True)
class View:
    """A model and its first training rows, in the order of their numbers, in which it answers questions about them.

    Attributes:
        model: that knows these rows and no others.
        x: the rows as the data have them, with what is hidden from the model.
        numbers: of the rows.
    """

    model: Any
    x: Tensor
    numbers: list[int]

    def read(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """By node that has columns, the values that the model sees, and where there are any."""
        values, there = self.model.columns.read(self.model.rows[0])
        return values, there

    def labels(self, places: Iterable[int]) -> list[str]:
        """What charts call some of the rows."""
        return [f"row {self.numbers[place]}" for place in places]


def view(subject: Subject) -> View:
    """The model with its first training rows: what questions about data are asked."""
    model, train = copy(subject.model), subject.splits.train
    numbers = torch.arange(len(train)) if train.rows is None else train.rows
    order = numbers.argsort()[:_ROWS]
    model.rows = tuple(part[order] for part in model.inputs(train)[:2])
    return View(model, train.x[order].double(), numbers[order].tolist())


def graph(subject: Subject) -> Section:
    """The graph as a drawing, and the plan as a table."""
    model = subject.model
    rows = model.inputs(subject.splits.train)[0]
    there = model.columns.read(rows)[1]
    steps = {step.node: step for step in model.plan()}
    variables = []
    for name, step in steps.items():
        known = float(there[name].double().mean()) if name in there else 0.0
        variables.append(Variable(name, step.law, _kind(step, known), step.parents, step.shared, known))
    drawn = gathered(variables)
    table = []
    for v in drawn:
        law = f"{v.note}, given {', '.join(v.parents)}" if v.parents else v.note
        seen = {"observed": "all rows", "given": "all rows", "partly": f"{v.known:.0%} of rows"}.get(v.kind, "")
        table.append((v.name, law, seen, _how(model, steps[v.name]) if v.name in steps else ""))
    shared = any(v.shared for v in variables)
    lead = "Each variable has a law given those that arrows come from. "
    lead += "What is in the frame is there once for each row; what is above it all rows share." if shared else ""
    picture = legend(drawn) + draw(drawn, len(rows))
    merged = sum(v.stands_for for v in drawn if v.stands_for > 1)
    caption = f"Variables that stand alike, {merged} of {len(variables)}, are drawn together. " if merged else ""
    caption += "Filled as far as it is observed." if any(v.kind == "partly" for v in variables) else ""
    plan = table_of(("variable", "law", "observed", "where it is not"), table)
    return Section("The graph", lead, [Figure(caption, [picture]), Figure("", [f'<div class="sliding plan">{plan}</div>'])])


def _kind(step: Any, known: float) -> str:
    if step.law in ("given", "function"):
        return str(step.law)
    if known > 0:
        return "observed" if known == 1 else "partly"
    return "summed" if step.how.startswith("summed") else "latent" if step.how.startswith("guide") else "unused"


def _how(model: Any, step: Any) -> str:
    if step.how.startswith("guide"):
        return f"guide: {model.guide.about(step.node)}"
    return f"{step.how}: {step.why}" if step.how.startswith("left out") else str(step.how)


def learned(subject: Subject) -> Section | None:
    """The posterior of what all rows share, beside the prior."""
    model = view(subject).model
    names = [name for name, node in model.nodes.items() if node.shared]
    if not names:
        return None
    found = model.posterior(names, n=_DRAWS, source=subject.source)
    names = [name for name in names if name not in found.supports]
    posterior = _numbers(found.joint(_DRAWS, source=subject.source), names)
    if not posterior:
        return None
    prior = _numbers(model.simulate(_DRAWS, prior=True, source=subject.source), names)
    shown = list(posterior)[:_SHOWN]
    blocks = [laws.marginal(f"shared-{i}", name, posterior[name], prior.get(name)) for i, name in enumerate(shown)]
    rest = "" if len(shown) == len(posterior) else f" The first {len(shown)} of {len(posterior)} are drawn."
    caption = f"Draws of the posterior, filled, and of the prior.{rest} Where the two agree, the data have said little."
    figures = [Figure(caption, blocks, ("posterior", "prior"), wide=len(blocks) > 1)]
    figures += _pairs(posterior)
    rows = []
    for name, draws in list(posterior.items())[:24]:
        low, high = np.quantile(draws, [0.05, 0.95])
        rows.append((name, *(f"{value:.3g}".replace("-", "−") for value in (draws.mean(), draws.std(), low, high))))
    table = table_of(("", "mean", "sd", "5%", "95%"), rows)
    figures.append(Figure(f"Of {_DRAWS:,} draws; sd is the standard deviation.", [table]))
    lead = "What all rows share, as the guide found it after the data, and as it was taken to be before."
    return Section("What was learned", lead, figures)


def _numbers(draws: dict[str, Tensor], names: list[str]) -> dict[str, np.ndarray]:
    """Draws of each number of some nodes, by its name and its place in a vector."""
    made: dict[str, np.ndarray] = {}
    for name in names:
        flat = draws[name].double().flatten(1) if draws[name].dim() > 1 else draws[name].double()[:, None]
        for place, column in enumerate(flat.numpy().T):
            made[name if flat.shape[1] == 1 else f"{name}[{place}]"] = column
    return made


def _pairs(posterior: dict[str, np.ndarray]) -> list[Figure]:
    """The pairs that go together most."""
    moving = {name: draws for name, draws in posterior.items() if draws.std() > 0}
    if len(moving) < 2:
        return []
    # Of ranks, which scales with long tails leave in peace.
    ranks = np.stack([draws.argsort().argsort() for draws in moving.values()])
    strength = np.triu(np.corrcoef(ranks), 1)
    blocks: list[str] = []
    names = list(moving)
    for place in np.argsort(-np.abs(strength), axis=None, kind="stable")[:_PAIRS]:
        a, b = divmod(int(place), len(names))
        if abs(strength[a, b]) < _LEAST and (blocks or len(names) > 2):
            break
        points = np.stack([moving[names[a]], moving[names[b]]], -1)[:800]
        title = f"correlation of ranks {strength[a, b]:.2f}".replace("-", "−")
        described = f"Draws of {names[a]} and {names[b]}"
        axes = (names[a], names[b])
        blocks.append(plane.scatter(f"shared-pair-{a}-{b}", title, described, points, plane.window(points), axes=axes))
    return [Figure("Draws of the posterior: what the data leave open together.", blocks, wide=len(blocks) > 1)] if blocks else []


def by_row(subject: Subject) -> Section | None:
    """Latent numbers of each row as intervals, beside what was measured of them."""
    seen = view(subject)
    model = seen.model
    names = [
        name
        for name, node in model.nodes.items()
        if not node.shared and node.law is not None and name not in model.columns.places and name not in model.enumerated
    ]
    names = [name for name in names if (law := model.plan().laws.get(name)) is None or not law.event_shape]
    if not names:
        return None
    found = model.posterior(names, n=1000, source=subject.source)
    names = [name for name in names if name not in found.supports and found.values[name].dim() == found.weights.dim()]
    measured = {name: at for name in names if (at := _measured(seen, name, subject)) is not None}
    # What was measured tells most; of others those that rest on most.
    names = [name for name in names if name in measured] or sorted(names, key=lambda name: -len(model.nodes[name].parents))
    figures = []
    for i, name in enumerate(names[:2]):
        low, middle, high = (line.double().numpy() for line in found.quantile(name, (0.05, 0.5, 0.95)))
        figures.append(_by_row(seen, f"rows-{i}", name, (low, middle, high), measured.get(name)))
    lead = "What is not seen of a row, given all data: the dot is the median, the bar holds nine tenths of the posterior."
    return Section("Row by row", lead, figures) if figures else None


def _by_row(
    seen: View,
    identity: str,
    name: str,
    ends: tuple[np.ndarray, np.ndarray, np.ndarray],
    measured: tuple[str, np.ndarray, np.ndarray] | None,
) -> Figure:
    low, middle, high = ends
    n = len(middle)
    if n <= _NAMED:
        order, labels = np.arange(n), seen.labels(range(n))
        caption = ""
    else:
        order, labels = np.argsort(middle)[:: max(1, -(-n // 150))], []
        caption = f"{len(order)} rows in the order of their medians. "
    if measured is None:
        drawn = laws.intervals(identity, name, labels, middle[order], low[order], high[order])
        return Figure(caption, [drawn])
    child, values, spread = measured
    errors = _Z90 * spread[order]
    drawn = laws.intervals(identity, name, labels, middle[order], low[order], high[order], points=values[order], spread=errors)
    ratio = float(middle.std() / values.std()) if values.std() > 0 else 1.0
    caption += (
        f"Orange is {child}, a measurement of {name}, with the 90% range of its own error. All rows together tell more: the "
        f"medians are spread {ratio:.0%} as much as the measurements."
    )
    return Figure(caption, [drawn], (name, child))


def _measured(seen: View, name: str, subject: Subject) -> tuple[str, np.ndarray, np.ndarray] | None:
    """An observed node whose mean is this one: its name, values and standard deviations by row."""
    model, (values, there) = seen.model, seen.read()
    for child, node in model.nodes.items():
        if name not in (node.parents or ()) or child not in there or not bool(there[child].all()):
            continue
        latent = [parent for parent in node.parents if parent not in there]
        if not all(bool(there[parent].all()) for parent in node.parents if parent in there):
            continue
        draws = model.posterior(latent, n=2, source=subject.source).joint(1)
        given = {parent: value[0] if value.dim() > 1 else value for parent, value in draws.items()}
        law = node.law(*(given.get(parent, values.get(parent)) for parent in node.parents))
        if not isinstance(law, Distribution) or law.event_shape or law.mean.shape != seen.x.shape[:1]:
            continue
        if torch.allclose(law.mean, given[name].to(law.mean.dtype)):
            return child, values[child].double().numpy(), law.stddev.detach().double().expand(len(seen.x)).numpy()
    return None
