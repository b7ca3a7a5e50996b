"""Pictures of the plane: densities as colour, points, bent grids, and the ways that points take."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from reparam.report.chart import HUES, INK, MUTED, SERIES, Chart

__all__ = ["Window", "bent", "heat", "lattice", "scatter", "ways", "window"]

# Low and high ends of the first and the second column.
Window = tuple[float, float, float, float]

_WIDTH, _HEIGHT = 3.1, 2.9
# From little to much, clear at the low end, so that the page shows through: blue, violet, red, orange, readable on white and black.
_SHADES = np.array([[52, 110, 214], [96, 84, 206], [163, 69, 172], [214, 78, 104], [240, 140, 60]], dtype=float)


def window(points: np.ndarray) -> Window:
    """A frame around all but the outermost of points N x 2."""
    low, high = np.quantile(points, [0.003, 0.997], axis=0)
    room = 0.14 * np.where(high > low, high - low, 1.0)
    low, high = low - room, high + room
    return float(low[0]), float(high[0]), float(low[1]), float(high[1])


def lattice(frame: Window, side: int) -> np.ndarray:
    """The middles of side x side cells of a frame, row by row from below, as points (side^2) x 2."""
    x = frame[0] + (np.arange(side) + 0.5) / side * (frame[1] - frame[0])
    y = frame[2] + (np.arange(side) + 0.5) / side * (frame[3] - frame[2])
    return np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)


def heat(name: str, title: str, description: str, density: np.ndarray, frame: Window, points: np.ndarray | None = None) -> str:
    """A density on a square lattice as colour, with points on it."""
    chart = Chart(name, description, width=_WIDTH, height=_HEIGHT)
    with chart as axis:
        axis.imshow(_shaded(density), extent=frame, origin="lower", interpolation="none", aspect="auto")
        if points is not None:
            axis.scatter(points[:, 0], points[:, 1], s=2.2, color=INK, alpha=0.45, linewidths=0)
        _frame(axis, frame, title)
        axis.grid(visible=False)
    return chart.svg


def _shaded(density: np.ndarray) -> np.ndarray:
    """RGBA bytes, the greatest values alike, so that a single peak does not leave the rest empty."""
    finite = np.nan_to_num(density, nan=0.0, posinf=0.0)
    most = np.quantile(finite[finite > 0], 0.995) if (finite > 0).any() else 1.0
    share = np.clip(finite / most, 0, 1) ** 0.6
    place = share * (len(_SHADES) - 1)
    lower = np.minimum(place.astype(int), len(_SHADES) - 2)
    colour = _SHADES[lower] + (place - lower)[..., None] * (_SHADES[lower + 1] - _SHADES[lower])
    alpha = 255 * np.clip(1.5 * share, 0, 1)
    return np.concatenate([colour, alpha[..., None]], -1).round().astype(np.uint8)


def scatter(
    name: str,
    title: str,
    description: str,
    points: np.ndarray,
    frame: Window,
    *,
    labels: np.ndarray | None = None,
    series: int = 0,
    behind: np.ndarray | None = None,
    above: np.ndarray | None = None,
    ringed: np.ndarray | None = None,
    axes: tuple[str, str] = ("", ""),
) -> str:
    """Points in a frame, in the colour of a series, or of their labels; others behind them in grey, or above them in blue.

    Rings are drawn around those that are `ringed`.
    """
    chart = Chart(name, description, width=_WIDTH, height=_HEIGHT)
    with chart as axis:
        if behind is not None:
            axis.scatter(behind[:, 0], behind[:, 1], s=4, color=MUTED, alpha=0.3, linewidths=0)
        if labels is None:
            axis.scatter(points[:, 0], points[:, 1], s=5, color=SERIES[series], alpha=0.6, linewidths=0)
        else:
            for kind, colour in zip(sorted(set(labels.tolist())), itertools.cycle(HUES), strict=False):
                group = points[labels == kind]
                axis.scatter(group[:, 0], group[:, 1], s=5, color=colour, alpha=0.75, linewidths=0)
        if above is not None:
            axis.scatter(above[:, 0], above[:, 1], s=5, color=SERIES[0], alpha=0.8, linewidths=0)
        if ringed is not None:
            axis.scatter(ringed[:, 0], ringed[:, 1], s=26, facecolors="none", edgecolors=INK, linewidths=0.9)
        _frame(axis, frame, title)
        axis.set_xlabel(axes[0], parse_math=False)
        axis.set_ylabel(axes[1], parse_math=False)
    return chart.svg


def bent(
    name: str,
    title: str,
    description: str,
    lines: Sequence[Sequence[np.ndarray]],
    points: np.ndarray,
    angles: np.ndarray,
    frame: Window,
) -> str:
    """Lines, one group for each direction, each points T x 2; and points coloured by an angle, the same in each picture."""
    from matplotlib.colors import hsv_to_rgb

    chart = Chart(name, description, width=_WIDTH, height=_HEIGHT)
    with chart as axis:
        for group, colour in zip(lines, (MUTED, MUTED, INK), strict=False):
            for line in group:
                axis.plot(line[:, 0], line[:, 1], color=colour, linewidth=0.55, alpha=0.75)
        turn = (angles / (2 * np.pi)) % 1
        colours = hsv_to_rgb(np.stack([turn, np.full_like(turn, 0.72), np.full_like(turn, 0.86)], -1))
        axis.scatter(points[:, 0], points[:, 1], s=7, c=colours, linewidths=0, zorder=3)
        _frame(axis, frame, title)
        axis.grid(visible=False)
    return chart.svg


def ways(name: str, title: str, description: str, paths: np.ndarray, frame: Window | None, behind: np.ndarray | None) -> str:
    """The ways of points through the plane, T x N x 2: each a line that ends in a dot."""
    chart = Chart(name, description, width=_WIDTH, height=_HEIGHT)
    with chart as axis:
        if behind is not None:
            axis.scatter(behind[:, 0], behind[:, 1], s=4, color=MUTED, alpha=0.3, linewidths=0)
        axis.plot(paths[..., 0], paths[..., 1], color=SERIES[0], linewidth=0.6, alpha=0.6)
        axis.scatter(paths[0, :, 0], paths[0, :, 1], s=5, color=SERIES[1], linewidths=0, zorder=3)
        axis.scatter(paths[-1, :, 0], paths[-1, :, 1], s=8, color=SERIES[2], linewidths=0, zorder=3)
        _frame(axis, frame, title)
    return chart.svg


def _frame(axis: Any, frame: Window | None, title: str) -> None:
    if frame is not None:
        axis.set_xlim(frame[0], frame[1])
        axis.set_ylim(frame[2], frame[3])
    axis.set_title(title, parse_math=False)
    axis.locator_params(nbins=5)
