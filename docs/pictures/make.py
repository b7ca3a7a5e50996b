"""Draw the pictures of the documentation: `python docs/pictures/make.py` writes them beside this file."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Polygon
from torch.distributions import Normal

import reparam as rp
from reparam.estimators import Estimator

INK, QUIET, RULE, CARD = "#1f2933", "#5f6c7b", "#d5dce4", "#fbfcfe"
BLUE, ORANGE, GREEN, RED = "#2563ab", "#d9730d", "#1a8a4f", "#c8372d"  # deterministic, random, gradient, no gradient
PALE = {BLUE: "#e6effa", ORANGE: "#fdeedd", GREEN: "#dff3e8"}

STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib; text is drawn as paths, so a reader needs no font
    "mathtext.fontset": "stix",
    "svg.fonttype": "path",
    "svg.hashsalt": "reparam",
    "text.color": INK,
}

Point = tuple[float, float]


def card(width: float, height: float) -> tuple[Figure, Axes]:
    """A rounded light card that reads on a white and on a black page; one unit is a hundredth of an inch."""
    figure = Figure(figsize=(width / 100, height / 100))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    shape = "round,pad=0,rounding_size=14"
    axes.add_patch(FancyBboxPatch((2, 2), width - 4, height - 4, boxstyle=shape, fc=CARD, ec=RULE, lw=1.2, zorder=0))
    return figure, axes


def arrow(axes: Axes, start: Point, end: Point, color: str, *, bend: float = 0, head: float = 15, **line: object) -> None:
    shape, curve = "-|>,head_length=0.5,head_width=0.25", f"arc3,rad={bend}"
    look = {"color": color, "lw": 2, "shrinkA": 0, "shrinkB": 0, "zorder": 4, **line}
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle=shape, connectionstyle=curve, mutation_scale=head, **look))


def label(axes: Axes, x: float, y: float, text: str, size: float, **look: object) -> None:
    axes.text(x, y, text, fontsize=size, **{"ha": "center", "va": "center_baseline", "zorder": 6, **look})


def circle(axes: Axes, x: float, y: float, text: str, color: str, radius: float = 30) -> None:
    axes.add_patch(Circle((x, y), radius, fc=PALE[color], ec=color, lw=2, zorder=3))
    label(axes, x, y, text, 20)


def box(axes: Axes, x: float, y: float, width: float, text: str, size: float = 20) -> None:
    shape = "round,pad=0,rounding_size=9"
    axes.add_patch(FancyBboxPatch((x - width / 2, y - 30), width, 60, boxstyle=shape, fc=PALE[BLUE], ec=BLUE, lw=2, zorder=3))
    label(axes, x, y, text, size)


def wavy(axes: Axes, x: float, y: float, text: str) -> None:
    turn = np.linspace(0, 2 * math.pi, 361)
    radius = 42 + 2.4 * np.cos(16 * turn)
    points = np.stack([x + radius * np.cos(turn), y + radius * np.sin(turn)], -1)
    axes.add_patch(Polygon(points, fc=PALE[ORANGE], ec=ORANGE, lw=2, joinstyle="round", zorder=3))
    label(axes, x, y, text, 17)


def die(axes: Axes, x: float, y: float, turn: float) -> None:
    """A die that shows five, turned by an angle in radians."""
    about = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    corners = np.array([[-12, -12], [12, -12], [12, 12], [-12, 12]]) @ about + (x, y)
    axes.add_patch(Polygon(corners, fc=ORANGE, ec=ORANGE, lw=4, joinstyle="round", zorder=5))
    for pip in np.array([[0, 0], [-7, -7], [7, -7], [7, 7], [-7, 7]]) @ about + (x, y):
        axes.add_patch(Circle(tuple(pip), 2.3, fc="white", ec="none", zorder=6))


def idea() -> Figure:
    figure, axes = card(1120, 400)
    row, low = 162, 129  # where the nodes stand, and where the backward arrows leave and meet them
    axes.plot([552, 552], [36, 364], color=RULE, lw=1.2)

    def forward(*ends: Point) -> None:
        for start, end in ends:
            arrow(axes, (start, row), (end, row), BLUE)

    def backward(start: Point, end: Point, color: str = GREEN, **line: object) -> None:
        arrow(axes, start, end, color, bend=-0.45, **line)

    def heading(x: float, head: str, tail: str) -> None:
        label(axes, x, 357, head, 16, ha="left", va="baseline", weight="bold")
        label(axes, x, 332, tail, 13, ha="left", va="baseline", color=QUIET)

    heading(44, "Before", "randomness inside")
    circle(axes, 74, row, r"$\theta$", BLUE)
    wavy(axes, 222, row, r"$z\sim q_\theta$")
    die(axes, 259, row + 41, 0.3)
    box(axes, 364, row, 60, r"$f$")
    box(axes, 480, row, 80, "cost", 15)
    forward((104, 178), (266, 334), (394, 440))
    backward((470, low), (374, low))
    backward((354, low), (242, low - 9))
    backward((203, low - 9), (86, low), "#a3aebb", ls=(0, (3, 2.4)), lw=1.8)
    axes.plot([135, 151], [82, 98], [135, 151], [98, 82], color=RED, lw=3.2, solid_capstyle="round", zorder=6)
    label(axes, 143, 52, "no gradient", 14, color=RED)

    heading(596, "After", "randomness at the input")
    circle(axes, 626, row, r"$\theta$", BLUE)
    circle(axes, 790, 274, r"$\varepsilon$", ORANGE)
    die(axes, 817, 299, 0.3)
    label(axes, 842, 275, "noise", 13, ha="left", color=ORANGE)
    box(axes, 790, row, 140, r"$z=g(\theta,\varepsilon)$", 18)
    box(axes, 926, row, 60, r"$f$")
    box(axes, 1040, row, 80, "cost", 15)
    forward((656, 720), (860, 896), (956, 1000))
    arrow(axes, (790, 244), (790, row + 30), ORANGE)
    backward((1030, low), (936, low))
    backward((916, low), (810, low))
    backward((770, low), (638, low))
    label(axes, 704, 52, r"$\nabla_{\!\theta}\,$cost", 15, color=GREEN)
    return figure


def gaussian() -> Figure:
    figure, axes = card(960, 580)
    mu, sigma = 0.7, 1.5
    middle, unit, noise_row, z_row, shift_row, stretch_row = 366, 78, 152, 290, 478, 430
    grid = np.linspace(-2.9, 2.9, 291)
    bell = 270 * np.exp(-(grid**2) / 2) / math.sqrt(2 * math.pi)
    for row, x, y, color in ((noise_row, grid, -bell, ORANGE), (z_row, mu + sigma * grid, bell / sigma, BLUE)):
        axes.fill_between(middle + unit * x, row, row + y, fc=PALE[color], ec="none", zorder=1)
        axes.plot(middle + unit * x, row + y, color=color, lw=2, zorder=2)
        axes.plot([44, 784], [row, row], color=QUIET, lw=1, zorder=2)

    for eps in (-1.95, -1.35, -0.85, -0.4, 0.4, 0.85, 1.35, 1.95):
        start, end = middle + unit * eps, middle + unit * (mu + sigma * eps)
        axes.add_patch(Circle((start, noise_row), 5, fc=ORANGE, ec="white", lw=1, zorder=5))
        axes.add_patch(Circle((end, z_row), 5, fc=BLUE, ec="white", lw=1, zorder=5))
        arrow(axes, (start, noise_row), (end, z_row), QUIET, lw=1.1, head=11, shrinkA=4, shrinkB=4)
        axes.plot([end, end], [z_row + 6, shift_row], color="#bcc6d1", lw=1, ls=(0, (1, 3)), zorder=2)
        for row, slope in ((shift_row, 1.0), (stretch_row, eps)):
            axes.add_patch(Circle((end, row), 2.6, fc=GREEN, ec="none", zorder=5))
            arrow(axes, (end, row), (end + 42 * slope, row), GREEN, head=12)

    label(axes, 44, 532, "A sample keeps its noise, so it knows how μ and σ move it", 15, ha="left", weight="bold")
    label(axes, middle, noise_row - 20, "$0$", 15, color=ORANGE)
    label(axes, middle + unit * mu, z_row + 20, r"$\mu$", 16, color=BLUE)
    for row, text, color in (
        (shift_row, r"$\partial z/\partial\mu=1$", GREEN),
        (stretch_row, r"$\partial z/\partial\sigma=\varepsilon$", GREEN),
        (z_row, r"$z=\mu+\sigma\varepsilon$", BLUE),
        (noise_row, r"$\varepsilon\sim N(0,1)$", ORANGE),
    ):
        label(axes, 802, row, text, 17, ha="left", color=color)
    return figure


def gradients(estimator: Estimator) -> np.ndarray:
    """Independent gradients in μ of E[(z + 0.3)²], z ~ Normal(μ, 1.3), at μ = 0.7: each one from two samples."""
    mu = torch.full((20_000,), 0.7, dtype=torch.float64, requires_grad=True)
    source = rp.Fresh(torch.Generator().manual_seed(0))
    rp.expect(lambda z: (z + 0.3) ** 2, Normal(mu, 1.3), estimator=estimator, n=2, source=source).sum().backward()
    return mu.grad.numpy()


def variance() -> Figure:
    """Histograms, each to its own height, and what they spread; the tails of the score function reach far past the picture."""
    figure, axes = card(960, 560)
    true, low, high = 2.0, -8.0, 12.0  # 2 (μ + 0.3), and the range of gradients that the picture shows
    left, right = 200, 790

    def place(gradient: np.ndarray | float) -> np.ndarray | float:
        return left + (right - left) * (gradient - low) / (high - low)

    variances = []
    looks = (
        ("Pathwise", rp.Pathwise(), GREEN, 348),
        ("LeaveOneOut", rp.LeaveOneOut(), BLUE, 228),
        ("Score", rp.Score(), ORANGE, 108),
    )
    for name, estimator, color, row in looks:
        found = gradients(estimator)
        variances.append(f"{found.var():.1f}")
        count, edges = np.histogram(found, bins=np.linspace(low, high, 81))
        axes.stairs(row + 84 * count / count.max(), place(edges), baseline=row, fill=True, fc=PALE[color], ec=color, lw=1.3)
        spread = found.mean() + found.std() * np.array([-1, 1])
        axes.plot(place(spread), [row - 12] * 2, color=color, lw=4, solid_capstyle="round", zorder=4)
        axes.add_patch(Circle((place(found.mean()), row - 12), 6, fc="white", ec=color, lw=2, zorder=6))
        label(axes, left - 24, row + 14, name, 14, ha="right", color=color, weight="bold")
        label(axes, right + 24, row + 14, variances[-1], 18, ha="left", color=color, weight="bold")
    axes.plot([place(true)] * 2, [86, 454], color=INK, lw=1.3, ls=(0, (4, 3)), zorder=5)
    label(axes, place(true) + 10, 448, "true gradient", 12, ha="left")
    label(axes, right + 24, 448, "variance", 12, ha="left", color=QUIET)
    for tick in range(-8, 13, 4):
        label(axes, place(tick), 66, f"{tick}".replace("-", "\N{MINUS SIGN}"), 12, color=QUIET)
    label(axes, place(true), 36, r"gradient in $\mu$ of $E\,[(z+0.3)^2]$,  $z\sim N(\mu,\,1.3^2)$,  at $\mu=0.7$", 13, color=QUIET)
    head = "One gradient, three estimators: variance {}, {} and {}".format(*variances)
    label(axes, 44, 512, head, 15, ha="left", weight="bold")
    tail = "20 000 estimates each, from two samples an estimate; bars: mean ± one standard deviation"
    label(axes, 44, 482, tail, 13, ha="left", color=QUIET)
    return figure


def main() -> None:
    with matplotlib.rc_context(STYLE):
        for draw in (idea, gaussian, variance):
            file = Path(__file__).with_name(f"{draw.__name__}.svg")
            draw().savefig(file, transparent=True, metadata={"Date": None, "Creator": None})
            print(file)


if __name__ == "__main__":
    main()
