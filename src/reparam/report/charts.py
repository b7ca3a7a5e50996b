"""Charts of numbers: curves by epoch, bars, densities, and points of the plane."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import FixedLocator, MaxNLocator

from reparam.report.chart import CARD, HUES, MUTED, SERIES, Chart
from reparam.training import Monitor
from reparam.training.config import ELBO

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["agreement", "bars", "columns", "curves", "histograms", "lines", "projection", "quantiles", "ratios", "rounded", "short"]

# More kinds than this share colours, and a legend of them would not be read.
_MOST_NAMED = 20
# Of the name of a column.
_LETTERS = 24


def curves(history: Sequence[Mapping[str, Any]], best: int, monitor: Monitor = ELBO, *, truth: float | None = None) -> list[str]:
    """A chart for each term of the loss by epoch, training and validation, with the best epoch marked.

    Args:
        history: of the run, a row an epoch.
        best: the epoch to mark.
        monitor: what the model is judged by: it comes first, and has the model's own words.
        truth: a value that this rises to, drawn as a line.
    """
    names = [name.removeprefix("validation/") for name in history[0] if name.startswith("validation/")]
    # A part that is always 0, and the whole that the others then are, tell nothing more.
    idle = {name for name in names if all(row[f"{part}/{name}"] == 0 for row in history for part in ("train", "validation"))}
    names = [monitor.part] if idle and len(names) - len(idle) <= 2 and monitor.part in names else names
    names.sort(key=lambda name: name != monitor.part)
    return [_curve(history, name, best, monitor, truth if name == monitor.part else None) for name in names]


def ratios(history: Sequence[Mapping[str, Any]], groups: Sequence[str]) -> str:
    """The signal to noise of the gradient by epoch, for each part of the model that a meter followed."""
    last = ", ".join(f"{group} {history[-1][f'snr/{group}']:.2g}" for group in groups)
    chart = Chart("snr", f"Signal to noise of the gradient of one step by epoch; in the last: {last}", width=3.3, height=2.3)
    with chart as axis:
        for group in groups:
            values = [row.get(f"snr/{group}", np.nan) for row in history]
            axis.plot([row["epoch"] for row in history], values, label=group, marker="o" if len(history) == 1 else "")
        known = [value for group in groups for row in history if np.isfinite(value := row.get(f"snr/{group}", np.nan))]
        if positive := [value for value in known if value > 0]:
            # Noise may hide a gradient altogether: what is 0 then stays in the picture.
            axis.set_yscale("log") if len(positive) == len(known) else axis.set_yscale("symlog", linthresh=min(positive))
        axis.set_title("Signal to noise of the gradient")
        axis.set_xlabel("epoch")
    return chart.svg


def _curve(history: Sequence[Mapping[str, Any]], name: str, best: int, monitor: Monitor, truth: float | None) -> str:
    words = monitor.words if name == monitor.part else name.replace("_elbo", " ELBO").replace("_", " ")
    title = "KL" if name == "kl" else words[0].upper() + words[1:]
    epochs = [row["epoch"] for row in history]
    parts = {part: [row[f"{part}/{name}"] for row in history] for part in ("train", "validation")}
    shown = next(row for row in history if row["epoch"] == best)
    values = ", ".join(f"{part} {shown[f'{part}/{name}']:.4g}" for part in parts)
    chart = Chart(f"curve-{name}", f"{title} by epoch; at epoch {best}: {values}", width=3.3, height=2.3)
    with chart as axis:
        for part, drawn in parts.items():
            axis.plot(epochs, drawn, label=part, marker="o" if len(epochs) == 1 else "")
        axis.axvline(best, color=MUTED, linewidth=0.8, linestyle=(0, (2, 3)))
        _zoom(axis, [value for values in zip(*parts.values(), strict=True) for value in values])
        if truth is not None:
            axis.axhline(truth, color=SERIES[3], linewidth=1.2)
            low, high = axis.get_ylim()
            axis.set_ylim(min(low, truth), max(high, truth + 0.04 * (high - low)))
        axis.set_title(title)
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True) if len(epochs) > 1 else FixedLocator(epochs))
    return chart.svg


def _zoom(axis: Axes, values: Sequence[float]) -> None:
    """Leave out the first descent when it would flatten everything after it."""
    finite = np.asarray([v for v in values if np.isfinite(v)])
    if len(finite) < 20:
        return
    low, high = np.quantile(finite, [0.05, 1]) if finite[0] < np.median(finite) else np.quantile(finite, [0, 0.95])
    room = 0.08 * (high - low) or 1.0
    axis.set_ylim(low - room, high + room)


def bars(values: Mapping[str, float], label: str, *, mark: str | None = None, name: str = "variance") -> str:
    """Positive numbers on a logarithmic scale, a bar each, with their names and values; one marked among the others."""
    shown = {name: rounded(value, 3) for name, value in values.items()}
    chart = Chart(name, f"{label}: " + ", ".join(map(" ".join, shown.items())), height=0.5 + 0.48 * len(values))
    with chart as axis:
        colours = SERIES[: len(values)] if mark is None else [SERIES[0] if name == mark else MUTED for name in values]
        axis.barh(range(len(values)), list(values.values()), color=colours, height=0.42)
        axis.set_xscale("log")
        axis.set_xlim(min(values.values()) / 3, max(values.values()) * 1.5)
        for place, (name, text) in enumerate(shown.items()):
            look: dict[str, Any] = {"transform": axis.get_yaxis_transform(), "va": "bottom"}
            axis.text(0, place - 0.28, name, ha="left", **look)
            axis.text(1, place - 0.28, text, ha="right", weight="bold", **look)
        axis.set_ylim(len(values) - 0.6, -0.75)
        axis.set_yticks([])
        axis.set_xlabel(label)
        axis.minorticks_off()
        axis.grid(visible=False, axis="y")
    return chart.svg


def columns(name: str, title: str, values: Sequence[float]) -> str:
    """Upright bars from zero, in the order given."""
    shown = ", ".join(f"{value:.2g}" for value in values[:12])
    chart = Chart(name, f"{title}: {shown}{', …' if len(values) > 12 else ''}", width=4.2, height=2.4)
    with chart as axis:
        axis.bar(range(1, len(values) + 1), values, color=SERIES[0], width=0.8)
        axis.set_title(title)
        axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axis.grid(visible=False, axis="x")
    return chart.svg


def rounded(value: float, digits: int) -> str:
    """A positive number to a few significant digits: thousands apart, and with a power of ten from ten millions on."""
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    if int(exponent) >= 7:
        return f"{mantissa} × 10" + str(int(exponent)).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{float(f'{mantissa}e{exponent}'):,.{max(0, digits - 1 - int(exponent))}f}"


def projection(points: np.ndarray, labels: np.ndarray | None, axes_names: tuple[str, str]) -> str:
    """Points of the plane, coloured by label; each label stands at the median of its points."""
    from matplotlib.patheffects import withStroke

    kinds = [] if labels is None else np.unique(labels).tolist()
    chart = Chart("latent", "Posterior means in two dimensions" + (", coloured by label" if kinds else ""), width=4.2, height=4.0)
    with chart as axis:
        groups = [points[labels == kind] for kind in kinds] or [points]
        for group, colour in zip(groups, itertools.cycle(HUES), strict=False):
            axis.scatter(group[:, 0], group[:, 1], s=6, color=colour, alpha=0.75, linewidths=0)
        if 1 < len(kinds) <= _MOST_NAMED:
            for kind, group in zip(kinds, groups, strict=True):
                look: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 11, "weight": "bold"}
                x, y = np.median(group, 0)
                axis.text(x, y, str(kind), **look, path_effects=[withStroke(linewidth=3, foreground=CARD)])
        axis.set_aspect("equal", "datalim")
        axis.set_xlabel(axes_names[0])
        axis.set_ylabel(axes_names[1])
    return chart.svg


def short(names: tuple[str, ...] | None, n: int) -> tuple[str, ...]:
    """What charts call columns: their own names, short and as plain text, or their numbers."""
    if names is None or len(names) != n:
        return tuple(f"column {i + 1}" for i in range(n))
    return tuple((name if len(name) <= _LETTERS else name[: _LETTERS - 1] + "…") for name in names)


def lines(
    name: str,
    title: str,
    x: Sequence[float],
    series: Mapping[str, Sequence[float]],
    label: str,
    *,
    log: str = "",
    level: float | None = None,
    alike: bool = False,
) -> str:
    """Curves over x, one a series in the order of the colours.

    Args:
        name: of the chart on its page.
        title: above it.
        x: where the curves are known.
        series: by their names, which the description of the picture tells with their last values.
        label: of x.
        log: the axes that are logarithmic: "x", "y" or both.
        level: a horizontal line.
        alike: the curves are draws of one kind: in one colour, and not described one by one.
    """
    last = "" if alike else "; at the end: " + ", ".join(f"{key} {values[-1]:.3g}" for key, values in series.items())
    chart = Chart(name, f"{title}, by {label}{last}", width=3.6, height=2.5)
    with chart as axis:
        for values in series.values():
            look: dict[str, Any] = {"color": SERIES[0], "linewidth": 0.7, "alpha": 0.6} if alike else {"linewidth": 1.6}
            axis.plot(x, values, marker="o" if len(x) <= 12 else "", markersize=3, **look)
        if level is not None:
            axis.axhline(level, color=MUTED, linewidth=0.9, linestyle=(0, (2, 3)))
        if "x" in log:
            axis.set_xscale("log")
            axis.set_xticks(x, [f"{value:g}" for value in x])
            axis.minorticks_off()
        if "y" in log:
            axis.set_yscale("log")
        axis.set_title(title, parse_math=False)
        axis.set_xlabel(label, parse_math=False)
    return chart.svg


def quantiles(
    name: str, title: str, columns: Sequence[np.ndarray], expected: np.ndarray, band: tuple[np.ndarray, np.ndarray]
) -> str:
    """Sorted values against those of a law, a faint curve for each column: on the diagonal they agree.

    Args:
        name: of the chart on its page.
        title: above it.
        columns: sorted values, as many as are expected.
        expected: quantiles of the law.
        band: where values of the law would lie, low and high.
    """
    chart = Chart(name, f"{title}: sorted values against the quantiles of the law", width=3.3, height=3.1)
    with chart as axis:
        axis.fill_between(expected, band[0], band[1], color=MUTED, alpha=0.25, linewidth=0)
        axis.plot(expected, expected, color=MUTED, linewidth=0.8)
        for column in columns:
            axis.plot(expected, column, color=SERIES[0], linewidth=1.2, alpha=max(0.25, len(columns) ** -0.5))
        span = (expected[-1] - expected[0]) or 1.0
        found = np.concatenate([*columns, expected])
        axis.set_xlim(expected[0] - 0.05 * span, expected[-1] + 0.05 * span)
        # Values far away are cut off: they would press the rest together.
        axis.set_ylim(max(found.min(), expected[0] - span) - 0.05 * span, min(found.max(), expected[-1] + span) + 0.05 * span)
        axis.set_title(title)
        axis.set_xlabel("expected")
        axis.set_ylabel("found")
    return chart.svg


def agreement(
    original: np.ndarray,
    other: np.ndarray,
    axes: tuple[str, str] = ("original (standardised by column)", "reconstruction"),
) -> str:
    """Original values against others that should be near, each column standardised by the originals."""
    mean, deviation = original.mean(0), original.std(0)
    deviation[deviation == 0] = 1
    a, b = (((values - mean) / deviation).ravel()[:4000] for values in (original, other))
    chart = Chart("agreement", f"Dots: {axes[0]} across, {axes[1]} up", width=4.2, height=4.0)
    with chart as axis:
        axis.scatter(a, b, s=7, color=SERIES[0], alpha=0.4, linewidths=0)
        span = [float(min(a.min(), b.min())), float(max(a.max(), b.max()))]
        axis.plot(span, span, color=MUTED, linewidth=0.8)
        axis.set_xlabel(axes[0])
        axis.set_ylabel(axes[1])
    return chart.svg


def histograms(data: np.ndarray, samples: np.ndarray, names: Sequence[str], most: int = 6, number: int = 1) -> list[str]:
    """The first columns of data and of samples, a chart each, as densities over each other; the number is that of the first."""
    return [_histogram(data[:, i], samples[:, i], i + number, names[i]) for i in range(min(most, data.shape[1]))]


def _histogram(data: np.ndarray, samples: np.ndarray, number: int, name: str) -> str:
    chart = Chart(f"column-{number}", f"Densities of {name}, of data and of samples", width=3.3, height=1.9)
    with chart as axis:
        both = np.concatenate([data, samples])
        low, high = np.quantile(both, [0.002, 0.998])  # a single wild sample would flatten all others
        if not high > low:
            low, high = both.min() - 0.5, both.max() + 0.5
        for values in (data, samples):
            # Shares of all values, those outside too: the area that is seen is what lies inside.
            weights = np.full(len(values), 24 / ((high - low) * max(1, len(values))))
            axis.hist(values, bins=24, range=(low, high), weights=weights, histtype="step", linewidth=1.4)
        axis.set_title(name, parse_math=False)
        axis.set_yticks([])
    return chart.svg
