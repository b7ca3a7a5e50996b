"""Whether a graphical model's rows look like the data, and what it fills gaps with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reparam.report import charts, laws
from reparam.report.chart import HUES, SERIES, Chart
from reparam.report.graphical import View, view
from reparam.report.pieces import Figure, Section, Subject
from reparam.report.samples import beside

__all__ = ["gaps", "new_rows"]

_DRAWS, _FEW, _SHOWN = 2000, 40, 6
# Gaps of a column that are drawn, and columns whose gaps are.
_GAPS, _COLUMNS = 24, 3
_LONGEST = 18


def new_rows(subject: Subject) -> Section | None:
    """Rows that the model makes, beside data."""
    seen = view(subject)
    model = seen.model
    named = {name: places for name, places in model.columns.places.items() if model.nodes[name].law is not None}
    part, words = subject.splits.test, "test data"
    alike = part.rows is not None and subject.splits.train.rows is not None and part.rows.equal(subject.splits.train.rows)
    if alike or len(part) < _FEW < len(subject.splits.train):
        part, words = subject.splits.train, "training data"
    data, n = part.x.double(), len(seen.x)
    given = [name for name, node in model.nodes.items() if node.law is None]
    repeats = -(-_DRAWS // n)
    draws = model.simulate(repeats * n, source=subject.source)
    made = {name: draws[name].double() for name in named}
    kinds = [name for name in named if _categories(model, name)]
    reals = {
        model.columns.names[place]: (place, made[name].reshape(len(made[name]), -1)[:, i])
        for name, places in named.items()
        for i, place in enumerate(places)
        if name not in kinds
    }
    figures = []
    if given and reals and n <= _FEW:
        name, (place, drawn) = next(iter(reals.items()))
        figures.append(_each_row(seen, name, seen.x[:, place].numpy(), drawn.reshape(repeats, -1)))
    elif reals:
        old = data[:, [place for place, _ in reals.values()]].numpy()
        new = torch.stack([drawn for _, drawn in reals.values()], 1).numpy()
        figures += _pictures(old, new, list(reals), _colours(model, data, made, kinds), words)
    if kinds:
        blocks = [
            _shares(f"shares-{i}", name, _categories(model, name), (data[:, named[name][0]], made[name]), words)
            for i, name in enumerate(kinds[:_COLUMNS])
        ]
        figures.append(Figure("Shares of the categories.", blocks, (words, "new rows"), wide=len(blocks) > 1))
    if not figures:
        return None
    lead = "Rows drawn from the model: what all rows share from its posterior, all else from the laws, parents first."
    return Section("New rows", lead, figures)


def _categories(model: Any, name: str) -> tuple[str, ...]:
    places = model.columns.places.get(name, ())
    known = model.columns.categories
    return tuple(known.get(model.columns.names[places[0]], ())) if len(places) == 1 else ()


def _colours(model: Any, data: Tensor, made: dict[str, Tensor], kinds: list[str]) -> tuple[np.ndarray, np.ndarray] | None:
    """Names of the category of each row, of data and of what was made, by the first column of few that has no gaps."""
    for name in kinds:
        names, codes = np.array(_categories(model, name)), data[:, model.columns.places[name][0]]
        if len(names) > len(HUES) or bool(codes.isnan().any()):
            continue
        seen, new = names[codes.long().numpy()], names[made[name].long().numpy()]
        if set(seen) == set(new):  # so that colours mean the same in both
            return seen, new
    return None


def _pictures(
    data: np.ndarray, made: np.ndarray, names: list[str], colours: tuple[np.ndarray, np.ndarray] | None, words: str
) -> list[Figure]:
    """Pairs of columns and the law of each."""
    figures = []
    whole = ~np.isnan(data).any(1)
    short = tuple(name if len(name) <= 24 else name[:23] + "…" for name in names)
    if data.shape[1] >= 2 and whole.sum() >= 10:
        seen, new = (None, None) if colours is None else (colours[0][whole], colours[1])
        pairs = beside(data[whole], made, test_labels=seen, labels=new, names=(words, "new rows"), columns=short)
        figures += pairs if new is None else [_keyed(pair, tuple(sorted(set(new)))) for pair in pairs]
    blocks = []
    for i in range(min(_SHOWN, data.shape[1])):
        column = data[~np.isnan(data[:, i]), i]
        blocks += charts.histograms(column[:, None], made[:, i : i + 1], short[i : i + 1], number=i + 1) if len(column) else []
    which = f"The first {len(blocks)} of {len(names)} columns" if len(blocks) < len(names) else "The columns"
    return [*figures, Figure(f"{which}, each by itself.", blocks, (words, "new rows"), wide=len(blocks) > 1)]


def _keyed(figure: Figure, kinds: tuple[str, ...]) -> Figure:
    """Two pairs of pictures at most, and what their colours mean."""
    caption = figure.caption.replace(" Colours are labels.", "")
    return replace(figure, caption=caption, pictures=figure.pictures[:4], key=kinds, colours=HUES)


def _each_row(view: View, name: str, seen: np.ndarray, made: Tensor) -> Figure:
    """What the model foretells of a new row with what is given of each training row, and what was seen there."""
    low, middle, high = np.quantile(made.numpy(), [0.05, 0.5, 0.95], axis=0)
    there = ~np.isnan(seen)
    inside = int(((low <= seen) & (seen <= high))[there].sum())
    labels = view.labels(range(len(seen)))
    drawn = laws.intervals("foretold", name, labels, middle, low, high, points=seen)
    caption = (
        f"Bars hold nine tenths of the {name} of new rows, to which is given what is given of each row; orange what was seen: "
        f"{inside} of {int(there.sum())} inside."
    )
    return Figure(caption, [drawn], ("new rows", "data"))


def _shares(identity: str, name: str, names: tuple[str, ...], codes: tuple[Tensor, Tensor], words: str) -> str:
    """The categories of data and of new rows, most frequent first."""
    counts = [values[~values.isnan()].long().bincount(minlength=len(names))[: len(names)].double() for values in codes]
    shares = [count / count.sum().clamp(min=1) for count in counts]
    order = shares[0].argsort(descending=True, stable=True)[:12].tolist()
    told = ", ".join(f"{names[i]} {shares[0][i]:.2f} and {shares[1][i]:.2f}" for i in order)
    chart = Chart(identity, f"Shares of {name}, {words} and new rows: {told}", width=3.3, height=0.7 + 0.3 * len(order))
    with chart as axis:
        for i, share in enumerate(shares):
            at = np.arange(len(order)) + (i - 0.5) * 0.34
            axis.barh(at, [float(share[k]) for k in order], color=SERIES[i], height=0.3)
        axis.set_yticks(range(len(order)), [names[k] if len(names[k]) <= _LONGEST else names[k][:17] + "…" for k in order])
        for text in axis.get_yticklabels():
            text.set_parse_math(False)
        axis.invert_yaxis()
        axis.set_xlim(0, None)
        axis.grid(visible=False, axis="y")
        axis.set_title(name, parse_math=False)
    return chart.svg


def gaps(subject: Subject) -> Section | None:
    """What stands in the gaps of the training rows, with intervals; beside what was hidden there."""
    seen = view(subject)
    model, truth = seen.model, seen.x
    holes = {name: ~there for name, there in seen.read()[1].items() if not bool(there.all()) and model.nodes[name].law is not None}
    holes = {name: away for name, away in holes.items() if len(model.columns.places[name]) == 1 and not _categories(model, name)}
    if not holes:
        return None
    found = model.posterior(list(holes), n=1000, source=subject.source)
    figures = []
    shown = [(name, away) for name, away in holes.items() if name not in found.supports][:_COLUMNS]
    for i, (name, away) in enumerate(shown):
        rows = away.nonzero()[:_GAPS, 0]
        low, middle, high = (line[rows].double().numpy() for line in found.quantile(name, (0.05, 0.5, 0.95)))
        hidden = truth[rows, model.columns.places[name][0]].numpy()
        known = truth[:, model.columns.places[name][0]][~away].numpy()
        points = None if np.isnan(hidden).any() else hidden
        labels = seen.labels(rows.tolist())
        level = float(known.mean()) if len(known) else None
        drawn = laws.intervals(f"gaps-{i}", name, labels, middle, low, high, points=points, level=level)
        told = (high - low).mean() / (3.29 * known.std()) if len(known) > 1 and known.std() > 0 else 1.0
        caption = (
            f"{int(away.sum())} gaps. The dotted line is the mean of the column; the intervals are {told:.0%} as wide as its own."
        )
        if points is not None:
            caption += f" Orange what was hidden: {int(((low <= hidden) & (hidden <= high)).sum())} of {len(rows)} inside."
        figures.append(Figure(caption, [drawn]))
    lead = "What stands in the gaps, given the rest of the row: the dot is the median, the bar holds nine tenths of the posterior."
    return Section("Gaps", lead, figures) if figures else None
