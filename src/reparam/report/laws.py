"""Pictures of laws: prior and posterior of a number, intervals by row, and how a law moves with a value."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reparam.report.chart import CARD, HUES, INK, MUTED, SERIES, Chart

__all__ = ["bands", "intervals", "levels", "marginal", "moves", "stacked"]

_BINS = 44


def marginal(name: str, title: str, posterior: np.ndarray, prior: np.ndarray | None) -> str:
    """The densities of draws of the posterior, filled, and of the prior, a line.

    The frame is where the posterior is, and as much of the prior around it as leaves the posterior a third of the width.
    """
    low, high = np.quantile(posterior, [0.003, 0.997])
    width = max(high - low, 1e-6 * max(1.0, abs(high)))
    if prior is not None:
        start, end = np.quantile(prior, [0.03, 0.97])
        low, high = min(low, max(start, low - width)), max(high, min(end, high + width))
    # Where the law ends, as at 0 for scales, the frame does.
    least = posterior.min() if prior is None else min(posterior.min(), prior.min())
    room = 0.02 * (high - low)
    low, high = 0.0 if least >= 0 and low < 5 * room else low - room, high + room
    said = f"mean {posterior.mean():.3g}, standard deviation {posterior.std():.3g}"
    chart = Chart(name, f"Posterior of {title}: {said}", width=3.3, height=1.9)
    with chart as axis:
        for draws, filled in ((posterior, True), (prior, False)):
            if draws is None:
                continue
            heights, edges = np.histogram(draws, bins=_BINS, range=(low, high))
            heights = heights / (len(draws) * (edges[1] - edges[0]))
            if filled:
                axis.stairs(heights, edges, fill=True, color=SERIES[0], alpha=0.35)
                axis.stairs(heights, edges, color=SERIES[0], linewidth=1.4)
            else:
                axis.stairs(heights, edges, color=SERIES[1], linewidth=1.4)
        axis.set_title(title, parse_math=False)
        axis.set_yticks([])
        axis.set_ylim(0, None)
        axis.set_xlim(low, high)
    return chart.svg


def intervals(
    name: str,
    title: str,
    labels: Sequence[str],
    middle: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    *,
    points: np.ndarray | None = None,
    spread: np.ndarray | None = None,
    level: float | None = None,
    wide: bool = False,
) -> str:
    """An interval a row with its middle; beside it a point with a spread of its own, such as what was measured.

    Args:
        name: of the chart on its page.
        title: above it.
        labels: of the rows, or none, where there are too many.
        middle: of each row.
        low: ends of the intervals.
        high: the other ends.
        points: beside them.
        spread: to both sides of the points.
        level: a line at a value, such as the mean of all.
        wide: over the width of the page.
    """
    n = len(middle)
    tall = 0.75 + (0.27 * n if labels else 2.4)
    chart = Chart(name, f"{title}: {n} intervals", width=5.4 if wide else 4.4, height=min(tall, 9.0))
    place = np.arange(n)
    with chart as axis:
        thick = 3.4 if labels else max(0.6, min(3.0, 160 / n))
        shift = 0.17 if points is not None and labels else 0.0
        axis.hlines(place - shift, low, high, color=SERIES[0], linewidth=thick, alpha=0.55)
        axis.scatter(middle, place - shift, s=16 if labels else thick**2, color=SERIES[0], linewidths=0, zorder=3)
        if points is not None:
            if spread is not None:
                axis.hlines(place + shift, points - spread, points + spread, color=SERIES[1], linewidth=1.0, alpha=0.8)
            axis.scatter(points, place + shift, s=14 if labels else 3, color=SERIES[1], linewidths=0, zorder=3)
        if level is not None:
            axis.axvline(level, color=MUTED, linewidth=0.9, linestyle=(0, (2, 3)))
        axis.set_ylim(n - 0.4, -0.6)
        axis.set_yticks(place if labels else [], list(labels) if labels else None)
        axis.grid(visible=False, axis="y")
        axis.set_title(title, parse_math=False)
    return chart.svg


def moves(
    name: str,
    title: str,
    at: np.ndarray,
    curves: Mapping[str, np.ndarray],
    label: str,
    *,
    set_at: np.ndarray | None = None,
    set_to: Mapping[str, np.ndarray] | None = None,
    rug: np.ndarray | None = None,
) -> str:
    """Probabilities of categories by a value: curves where it is seen, dotted lines where it is set; data as a rug.

    Each curve bears its name where it is highest.
    """
    from matplotlib.patheffects import withStroke

    chart = Chart(name, f"{title}, by {label}: {', '.join(curves)}", width=4.4, height=2.9)
    with chart as axis:
        for (kind, values), colour in zip(curves.items(), itertools.cycle(HUES), strict=False):
            axis.plot(at, values, color=colour)
            if set_to is not None and set_at is not None:
                axis.plot(set_at, set_to[kind], color=colour, linewidth=1.2, linestyle=(0, (1, 2)))
            top = np.flatnonzero(values >= np.nanmax(values) - 0.01)
            best = int(top[len(top) // 2])
            look: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 8.5, "weight": "bold", "color": colour}
            here = axis.text(at[best], 1.06, kind, **look, parse_math=False)
            here.set_path_effects([withStroke(linewidth=3, foreground=CARD)])
        axis.set_ylim(-0.07, 1.14)
        _rug(axis, rug, -0.07)
        axis.set_title(title, parse_math=False)
        axis.set_xlabel(label, parse_math=False)
        axis.margins(x=0.01)
    return chart.svg


def bands(
    name: str,
    title: str,
    at: np.ndarray,
    middle: np.ndarray,
    ranges: Sequence[tuple[np.ndarray, np.ndarray]],
    label: str,
    *,
    set_at: np.ndarray | None = None,
    set_to: np.ndarray | None = None,
    rug: np.ndarray | None = None,
    points: tuple[np.ndarray, np.ndarray] | None = None,
    extra: Sequence[np.ndarray] = (),
    wide: bool = False,
) -> str:
    """A curve with bands around it, the first ones wider and paler; data as points and as a rug.

    Args:
        name: of the chart on its page.
        title: above it.
        at: where the curve is known.
        middle: the curve.
        ranges: low and high ends of each band.
        label: of `at`.
        set_at: where another curve is known.
        set_to: that curve, dotted.
        rug: marks on the lower edge.
        points: across and up.
        extra: thin curves.
        wide: over more of the page.
    """
    known = middle[~np.isnan(middle)]
    told = f"from {known[0]:.3g} to {known[-1]:.3g}"
    chart = Chart(name, f"{title}, by {label}: {told}", width=5.6 if wide else 4.4, height=3.0)
    with chart as axis:
        for i, (low, high) in enumerate(ranges):
            axis.fill_between(at, low, high, color=SERIES[0 if i else 1] if len(ranges) > 1 else SERIES[0], alpha=0.28, linewidth=0)
        for values in extra:
            axis.plot(at, values, color=SERIES[0], linewidth=0.6, alpha=0.5)
        if points is not None:
            axis.scatter(*points, s=7, color=INK, alpha=0.35, linewidths=0)
        axis.plot(at, middle, color=SERIES[0])
        if set_to is not None and set_at is not None:
            axis.plot(set_at, set_to, color=INK, linewidth=1.2, linestyle=(0, (1, 2)))
        bottom, top = axis.get_ylim()
        bottom -= 0.05 * (top - bottom)
        axis.set_ylim(bottom, top)
        _rug(axis, rug, bottom)
        axis.set_title(title, parse_math=False)
        axis.set_xlabel(label, parse_math=False)
        axis.margins(x=0.01)
    return chart.svg


def stacked(
    name: str, title: str, at: np.ndarray, curves: Mapping[str, np.ndarray], label: str, *, rug: np.ndarray | None = None
) -> str:
    """Positive parts of a whole on top of each other, by a value."""
    told = ", ".join(f"{part} {values[0]:.2g} and {values[-1]:.2g}" for part, values in curves.items())
    chart = Chart(name, f"{title}, by {label}; at the ends {told}", width=4.4, height=3.0)
    with chart as axis:
        below = np.zeros_like(at)
        for colour, values in zip(SERIES, curves.values(), strict=False):
            axis.fill_between(at, below, below + values, color=colour, alpha=0.45, linewidth=0)
            below = below + values
            axis.plot(at, below, color=colour, linewidth=1.2)
        top = float(below.max()) or 1.0
        axis.set_ylim(-0.05 * top, 1.05 * top)
        _rug(axis, rug, -0.05 * top)
        axis.set_title(title)
        axis.set_xlabel(label, parse_math=False)
        axis.margins(x=0.01)
    return chart.svg


def levels(name: str, title: str, values: Mapping[str, float]) -> str:
    """Numbers of any sign as bars from zero, a row each, with their names."""
    told = ", ".join(f"{key} {value:.2g}" for key, value in values.items())
    chart = Chart(name, f"{title}: {told}", width=4.4, height=0.8 + 0.25 * len(values))
    with chart as axis:
        axis.barh(range(len(values)), list(values.values()), color=SERIES[0], height=0.62)
        axis.axvline(0, color=MUTED, linewidth=0.8)
        axis.set_yticks(range(len(values)), list(values))
        for text in axis.get_yticklabels():
            text.set_parse_math(False)
        axis.invert_yaxis()
        axis.grid(visible=False, axis="y")
        axis.set_xlabel(title)
    return chart.svg


def _rug(axis: Any, rug: np.ndarray | None, level: float) -> None:
    if rug is not None:
        axis.plot(rug, np.full(len(rug), level), "|", color=INK, markersize=7, markeredgewidth=0.6, alpha=0.35, clip_on=False)
