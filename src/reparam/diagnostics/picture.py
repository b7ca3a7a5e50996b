"""A diagnosis in pictures. Each function draws on axes that it is given; matplotlib is imported by `plot` only."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from reparam.diagnostics.words import duration, efficiency, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from reparam.diagnostics.diagnose import Diagnosis

__all__ = ["biases", "distributions", "efficiencies", "plot", "variances"]

_BINS = 60


def plot(diagnosis: Diagnosis) -> Figure:
    """Four panels: efficiency, variance, bias with its interval, and how the draws are distributed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 1.6 + 0.62 * len(diagnosis.rows)), layout="constrained")
    axes = figure.subplots(2, 2)
    for axis, draw in zip(axes.flat, (efficiencies, variances, biases, distributions), strict=True):
        draw(axis, diagnosis)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(diagnosis.recommendation, fontsize=9, wrap=True)
    return figure


def efficiencies(axis: Axes, diagnosis: Diagnosis, colour: str = "C0", flagged: str = "C3") -> None:
    """Relative efficiency, a bar each on a logarithmic scale; those without noise have a word in its place."""
    values = [row.relative if math.isfinite(row.relative) else None for row in diagnosis.rows]
    said = [f"{efficiency(row)} · {duration(row.seconds)}" for row in diagnosis.rows]
    _bars(axis, diagnosis, values, said, colour, flagged)
    axis.set_title("efficiency, 1 / (variance × time), of the best")


def variances(axis: Axes, diagnosis: Diagnosis, colour: str = "C0", flagged: str = "C3") -> None:
    """Total variance, a bar each on a logarithmic scale."""
    values = [row.variance if 0 < row.variance < math.inf else None for row in diagnosis.rows]
    _bars(axis, diagnosis, values, [number(row.variance, 2) for row in diagnosis.rows], colour, flagged)
    axis.set_title("variance of an estimate")


def biases(axis: Axes, diagnosis: Diagnosis, colour: str = "C0", flagged: str = "C3") -> None:
    """The bias and its 95 % interval, as a share of the true gradient's length where that is not zero."""
    for place, row in enumerate(diagnosis.rows):
        scale = row.norm or 1.0
        if math.isfinite(row.bias):
            look: dict[str, Any] = {"color": flagged if row.biased else colour, "fmt": "o", "markersize": 4, "capsize": 3}
            axis.errorbar(row.bias / scale, place, xerr=row.bias_error / scale, **look)
    axis.axvline(0, color=axis.xaxis.label.get_color(), linewidth=0.8)
    _names(axis, diagnosis)
    axis.set_title("bias ± 95 %, in lengths of the true gradient" if any(row.norm for row in diagnosis.rows) else "bias ± 95 %")


def distributions(axis: Axes, diagnosis: Diagnosis, colour: str = "C0", flagged: str = "C3") -> None:
    """A histogram each of the draws' components along the true gradient, which the line marks."""
    drawn = [np.asarray(row.along) for row in diagnosis.rows]
    truth = diagnosis.rows[0].norm
    low, high = _span(drawn, truth)
    edges = np.linspace(low, high, _BINS + 1)
    for place, (row, values) in enumerate(zip(diagnosis.rows, drawn, strict=True)):
        if not len(values):
            continue
        counts, _ = np.histogram(values, edges)
        heights = 0.8 * counts / max(counts.max(), 1)
        look: dict[str, Any] = {"color": flagged if row.biased else colour, "alpha": 0.75, "linewidth": 0}
        axis.fill_between(np.repeat(edges, 2)[1:-1], place + 0.4, place + 0.4 - np.repeat(heights, 2), **look)
    if diagnosis.truth is not None:
        axis.axvline(truth, color=axis.xaxis.label.get_color(), linewidth=0.8, linestyle=(0, (2, 2)))
    axis.set_xlim(low, high)
    _names(axis, diagnosis)
    axis.set_title("the estimates, along " + ("the true gradient" if truth else "some direction"))


def _span(drawn: list[np.ndarray], truth: float) -> tuple[float, float]:
    """What shows the middle of most of the distributions: a wide one may leave the frame."""
    widths = [np.quantile(values, [0.02, 0.98]) for values in drawn if len(values)]
    spread = [float(high - low) for low, high in widths if high > low]
    reach = 0.75 * float(np.quantile(spread, 0.75)) if spread else 0.0
    middle = float(np.median([np.median(values) for values in drawn if len(values)])) if widths else 0.0
    low, high = min(middle - reach, truth), max(middle + reach, truth)
    room = 0.05 * (high - low) or 0.5 * abs(truth) or 1.0
    return low - room, high + room


def _bars(axis: Axes, diagnosis: Diagnosis, values: list[float | None], said: list[str], colour: str, flagged: str) -> None:
    finite = [value for value in values if value is not None]
    low = min(finite, default=0.1) / 4
    axis.set_xscale("log")
    axis.set_xlim(low, max(finite, default=1.0) * 1.3)
    for place, (row, value, text) in enumerate(zip(diagnosis.rows, values, said, strict=True)):
        if value is not None:
            axis.barh(place, value - low, left=low, height=0.55, color=flagged if row.biased else colour)
        axis.text(1.01, place, text, transform=axis.get_yaxis_transform(), va="center", fontsize=7)
    axis.minorticks_off()
    _names(axis, diagnosis)


def _names(axis: Axes, diagnosis: Diagnosis) -> None:
    axis.set_yticks(range(len(diagnosis.rows)), [row.name for row in diagnosis.rows], fontsize=7)
    axis.set_ylim(len(diagnosis.rows) - 0.4, -0.6)
    axis.grid(visible=False, axis="y")
