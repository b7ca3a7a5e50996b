"""Charts as inline SVG whose colours are the page's, so that they follow its light and dark themes."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from cycler import cycler
from matplotlib.ticker import FixedLocator, MaxNLocator

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["agreement", "bars", "curves", "histograms", "projection", "ratios", "rounded", "table"]

# Stand-ins that matplotlib can draw with, and the style sheet's names that replace them in the SVG.
INK, MUTED, LINE, CARD = "#010203", "#010204", "#010205", "#010206"
SERIES = ("#0102a1", "#0102a2", "#0102a3", "#0102a4")
_NAMES = {INK: "ink", MUTED: "muted", LINE: "line", CARD: "card", **{colour: f"series-{i}" for i, colour in enumerate(SERIES)}}
# Ten hues that can be told apart on white and on black (Paul Tol's "muted" and "bright" schemes).
_LABELS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#999999", "#ee8866", "#44aa99", "#bb88dd")
# More kinds than this share colours, and a legend of them would not be read.
_MOST_NAMED = 20
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "reparam",
    "font.size": 8,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.prop_cycle": cycler(color=SERIES),
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "figure.constrained_layout.use": True,
}


class _Chart:
    """A figure in the page's style; `svg` is the markup when the block ends."""

    def __init__(self, name: str, description: str, *, width: float = 4.4, height: float = 2.6) -> None:
        self._name, self._description = name, description
        self._size = width, height
        self.svg = ""

    def __enter__(self) -> Axes:
        from matplotlib.figure import Figure

        self._style = matplotlib.rc_context(_STYLE)
        self._style.__enter__()
        self._figure: Figure = Figure(figsize=self._size)
        return self._figure.subplots()

    def __exit__(self, *error: Any) -> None:
        if error[0] is None:
            self.svg = self._markup()
        self._style.__exit__(*error)

    def _markup(self) -> str:
        text = io.StringIO()
        self._figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        svg = text.getvalue()
        svg = svg[svg.index("<svg") :]
        for colour, name in _NAMES.items():
            svg = svg.replace(colour, f"var(--{name})")
        # Several figures share a page: their ids are kept apart.
        svg = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{self._name}-", svg)
        svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
        svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
        label = f'role="img" aria-label="{_quoted(self._description)}"'
        return re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', rf'<svg class="chart" {label} \1>', svg, count=1)


def _quoted(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")


def curves(history: Sequence[Mapping[str, Any]], best: int) -> list[str]:
    """A chart for each term of the loss by epoch, training and validation, with the best epoch marked."""
    names = [name.removeprefix("validation/") for name in history[0] if name.startswith("validation/")]
    names.sort(key=lambda name: name != "elbo")
    return [_curve(history, name, best) for name in names]


def ratios(history: Sequence[Mapping[str, Any]], groups: Sequence[str]) -> str:
    """The signal to noise of the gradient by epoch, for each part of the model that a meter followed."""
    last = ", ".join(f"{group} {history[-1][f'snr/{group}']:.2g}" for group in groups)
    chart = _Chart("snr", f"Signal to noise of the gradient of one step by epoch; in the last: {last}", width=3.3, height=2.3)
    with chart as axis:
        for group in groups:
            values = [row.get(f"snr/{group}", np.nan) for row in history]
            axis.plot([row["epoch"] for row in history], values, label=group, marker="o" if len(history) == 1 else "")
        axis.set_yscale("log")
        axis.set_title("Signal to noise of the gradient")
        axis.set_xlabel("epoch")
    return chart.svg


def _curve(history: Sequence[Mapping[str, Any]], name: str, best: int) -> str:
    title = name.upper() if name in ("elbo", "kl") else name.replace("_elbo", " ELBO").capitalize().replace("elbo", "ELBO")
    epochs = [row["epoch"] for row in history]
    parts = {part: [row[f"{part}/{name}"] for row in history] for part in ("train", "validation")}
    shown = next(row for row in history if row["epoch"] == best)
    values = ", ".join(f"{part} {shown[f'{part}/{name}']:.2f}" for part in parts)
    chart = _Chart(f"curve-{name}", f"{title} by epoch, in nats per datum; at epoch {best}: {values}", width=3.3, height=2.3)
    with chart as axis:
        for part, drawn in parts.items():
            axis.plot(epochs, drawn, label=part, marker="o" if len(epochs) == 1 else "")
        axis.axvline(best, color=MUTED, linewidth=0.8, linestyle=(0, (2, 3)))
        _zoom(axis, [value for values in zip(*parts.values(), strict=True) for value in values])
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


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of texts; the first of each row names it."""
    cells = ["".join(f"<th>{_quoted(name)}</th>" for name in head)]
    for first, *others in rows:
        cells.append(f'<th scope="row">{_quoted(first)}</th>' + "".join(f"<td>{_quoted(text)}</td>" for text in others))
    return "<table>" + "".join(f"<tr>{row}</tr>" for row in cells) + "</table>"


def bars(values: Mapping[str, float], label: str, *, mark: str | None = None) -> str:
    """Positive numbers on a logarithmic scale, a bar each, with their names and values; one marked among the others."""
    shown = {name: rounded(value, 3) for name, value in values.items()}
    chart = _Chart("variance", f"{label}: " + ", ".join(map(" ".join, shown.items())), height=0.5 + 0.48 * len(values))
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
    chart = _Chart("latent", "Posterior means in two dimensions" + (", coloured by label" if kinds else ""), width=4.2, height=4.0)
    with chart as axis:
        groups = [points[labels == kind] for kind in kinds] or [points]
        for group, colour in zip(groups, itertools.cycle(_LABELS), strict=False):
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


def agreement(original: np.ndarray, other: np.ndarray) -> str:
    """Original values against reconstructed ones, each column standardised by the originals."""
    mean, deviation = original.mean(0), original.std(0)
    deviation[deviation == 0] = 1
    a, b = (((values - mean) / deviation).ravel()[:4000] for values in (original, other))
    chart = _Chart("agreement", "Reconstructed values against the originals", width=4.2, height=4.0)
    with chart as axis:
        axis.scatter(a, b, s=7, color=SERIES[0], alpha=0.4, linewidths=0)
        span = [float(min(a.min(), b.min())), float(max(a.max(), b.max()))]
        axis.plot(span, span, color=MUTED, linewidth=0.8)
        axis.set_xlabel("original (standardised by column)")
        axis.set_ylabel("reconstruction")
    return chart.svg


def histograms(data: np.ndarray, samples: np.ndarray, most: int = 6) -> list[str]:
    """The first columns of data and of samples, a chart each, as densities over each other."""
    return [_histogram(data[:, column], samples[:, column], column + 1) for column in range(min(most, data.shape[1]))]


def _histogram(data: np.ndarray, samples: np.ndarray, number: int) -> str:
    chart = _Chart(f"column-{number}", f"Densities of column {number}, of data and of samples", width=3.3, height=1.9)
    with chart as axis:
        edges = np.histogram_bin_edges(np.concatenate([data, samples]), bins=24).tolist()
        for values in (data, samples):
            axis.hist(values, bins=edges, density=True, histtype="step", linewidth=1.4)
        axis.set_title(f"column {number}")
        axis.set_yticks([])
    return chart.svg
