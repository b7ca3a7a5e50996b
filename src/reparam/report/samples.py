"""Samples of a model beside data, as what they are: pictures, sounds, texts, or points and columns."""

from __future__ import annotations

import numpy as np
import torch

from reparam.report import charts, plane
from reparam.report.audio import sampled_sounds
from reparam.report.images import grid
from reparam.report.pieces import ACROSS, Figure, Section, Subject
from reparam.report.text import sampled_texts

__all__ = ["beside", "samples"]

# Rows of samples by label, how many in a row, points of the plane, and samples of data of many columns, which take a flow long.
_LABELS, _EACH, _POINTS, _FEWER = 10, 8, 600, 600
# Pairs of columns that are shown.
_PAIRS = 3
_LEADS = {
    "trajectory": "New data: noise, from which the noise was taken away step by step.",
    "law": "New data: noise, pushed through the flow.",
    "decode": "New data: latents drawn from the prior, decoded.",
}


def samples(subject: Subject) -> Section | None:
    """New data, by label where the model knows labels."""
    if getattr(subject.model.config, "target", None) is not None or hasattr(subject.model, "plan"):
        return None  # without data they are shown beside the target, and rows of a graph in their own way
    lead = next((text for method, text in _LEADS.items() if hasattr(subject.model, method)), "New data.")
    shown = {"image": _images, "audio": sampled_sounds, "text": sampled_texts}.get(subject.kind, _vectors)
    return Section("Samples", lead, shown(subject))


def _images(subject: Subject) -> list[Figure]:
    names = subject.classes[:_LABELS]
    if names:
        x = subject.by_label(torch.arange(len(names)).repeat_interleave(_EACH))
        caption = f"A row for each label: {', '.join(names)}" + ("." if len(names) == len(subject.classes) else ", and others.")
        return [Figure(caption, [grid(subject.pictures(x.float()), _EACH, f"Samples by label, a row each: {', '.join(names)}")])]
    x = subject.model.sample(8 * ACROSS, subject.source, **subject.options(**subject.quick))
    blocks = [grid(subject.pictures(block.float()), ACROSS, "Samples of the model") for block in x.chunk(2)]
    of_latents = (
        "Means of p(x | z), z drawn from the prior." if hasattr(subject.model, "decode") else "Drawn by chance, none left out."
    )
    return [Figure(of_latents, blocks)]


def _vectors(subject: Subject) -> list[Figure]:
    test = subject.splits.test
    data = test.x[:2000].flatten(1).double().numpy()
    labels = None
    n = 2000 if data.shape[1] <= 4 else _FEWER
    if subject.classes and test.y is not None and test.classes == subject.classes:
        places = test.places.repeat(-(-n // len(test)))[:n]  # as many of each label as in the data
        x, labels = subject.by_label(places), np.array(subject.classes)[places.numpy()]
    else:
        x = subject.model.sample(n, subject.source, **subject.options(noisy=True, **subject.quick))
    made = x.flatten(1).double().numpy()
    columns = charts.short(test.columns, data.shape[1])
    figures = beside(data, made, test_labels=None if labels is None else subject.labels(), labels=labels, columns=columns)
    if data.shape[1] != 2:
        densities = charts.histograms(data, made, columns)
        which = "How the first columns are distributed." if data.shape[1] > len(densities) else "How the columns are distributed."
        figures.append(Figure(which, densities, ("test data", "samples"), wide=len(densities) > 2))
    return figures


def beside(
    data: np.ndarray,
    made: np.ndarray,
    *,
    test_labels: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    names: tuple[str, str] = ("test data", "samples"),
    columns: tuple[str, ...] | None = None,
) -> list[Figure]:
    """Points of data and of samples side by side: the plane itself, or pairs of columns that go together most.

    Args:
        data: N x D.
        made: M x D.
        test_labels: of the data, for colours; or none.
        labels: of the samples.
        names: what the two are.
        columns: what the columns are called; their numbers by default.
    """
    columns = columns or charts.short(None, data.shape[1])
    if data.shape[1] < 2:
        return []
    pairs = [(0, 1)] if data.shape[1] == 2 else _related(data)
    apart = data.shape[1] == 2 or labels is not None
    blocks = []
    for a, b in pairs:
        seen, new = data[:_POINTS][:, [a, b]], made[:_POINTS][:, [a, b]]
        frame = plane.window(seen if len(seen) >= 20 else np.concatenate([seen, new]))
        axes = ("", "") if data.shape[1] == 2 else (columns[a], columns[b])
        if not apart:
            title = f"{names[0]} and {names[1]}, {axes[0]} and {axes[1]}"
            blocks.append(plane.scatter(f"pair-{a}-{b}", "", title, new, frame, series=1, above=seen, axes=axes))
            continue
        for series, (name, points, kinds) in enumerate(((names[0], seen, test_labels), (names[1], new, labels))):
            kinds = None if kinds is None else kinds[:_POINTS]
            identity, where = f"{name.replace(' ', '-')}-{a}-{b}", f"{name}, {columns[a]} and {columns[b]}"
            blocks.append(plane.scatter(identity, name, where, points, frame, labels=kinds, series=series, axes=axes))
    coloured = " Colours are labels." if labels is not None else ""
    if data.shape[1] == 2:
        caption = f"{len(data[:_POINTS])} {names[0]} beside {len(made[:_POINTS])} {names[1]}.{coloured}"
        return [Figure(caption, blocks, wide=True)]
    if apart:
        return [Figure(f"Columns that go together most, {names[0]} beside {names[1]}.{coloured}", blocks, wide=True)]
    return [Figure("Columns that go together most.", blocks, names, wide=True)]


def _related(data: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of columns that tell most of each other, each column once, the first ones where there are ties.

    By the correlation of their values, of their distances from the mean, or of one with the other: where the width of a column
    goes with another one, the values alone show nothing.
    """
    spread = data.std(0)
    moving = np.flatnonzero(spread > 0)[:60]
    if len(moving) < 2:
        return [(0, 1)]
    z = (data[:, moving] - data[:, moving].mean(0)) / spread[moving]
    away = np.abs(z) - np.abs(z).mean(0)
    away /= np.where(away.std(0) > 0, away.std(0), 1.0)
    crossed = np.abs(z.T @ away)
    strength = np.max([np.abs(z.T @ z), np.abs(away.T @ away), crossed, crossed.T], axis=0) / len(z)
    found: list[tuple[int, int]] = []
    # Nearly equal columns make a line, of which there is nothing to see.
    strength[strength > 0.97] = 0.97 - (strength[strength > 0.97] - 0.97)
    for place in np.argsort(-np.triu(strength, 1), axis=None, kind="stable"):
        a, b = divmod(int(place), len(moving))
        if a < b and all(column not in pair for pair in found for column in (a, b)):
            found.append((a, b))
        if len(found) == _PAIRS:
            break
    return [(int(moving[a]), int(moving[b])) for a, b in found]
