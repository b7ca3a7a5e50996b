"""How an agent learned: its return by steps in the environment, and the parts of its loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator

from reparam.report.chart import MUTED, SERIES, Chart
from reparam.report.charts import ratios
from reparam.report.pieces import Figure, Section

__all__ = ["learning"]

# Charts that have room beside the learning curve.
_BESIDE = 6
# What the parts of losses are called, where their names alone do not say.
_TITLES = {"elbo": "ELBO", "kl": "KL", "imagined": "Imagined return"}


def learning(history: Sequence[Mapping[str, Any]], best: int, evaluation: Any) -> Section:
    """Returns of training and of validation episodes, and each part of the loss.

    Args:
        history: of the run, a row an epoch.
        best: the epoch whose weights are shown.
        evaluation: the `Returns` of those weights over the test episodes.
    """
    shown = next(row for row in history if row["epoch"] == best)
    caption = (
        f"The dotted line marks epoch {best}, after {shown['train/steps']:,.0f} steps, whose weights this page shows; the point on "
        f"it is the mean return of {evaluation.rows} test episodes, with twice its standard error. In training actions are drawn "
        "from the policy, in validation the likeliest are taken."
    )
    key = ("training episodes", "validation episodes", "test episodes")
    section = Section(
        "Learning curve",
        "Return of an episode, by steps in the environment: higher is better.",
        [Figure(caption, [_returns(history, shown, evaluation)], key)],
    )
    if parts := _parts(history):
        watched = "What training watched, by steps: means of each epoch."
        charts = [_part(history, name) for name in parts]
        section.figures.append(Figure(watched, charts, wide=len(parts) > _BESIDE, small=True))
    if groups := [name.removeprefix("snr/") for name in history[-1] if name.startswith("snr/")]:
        noise = "Of one step's gradient in each part of the model, the noise of the minibatch included."
        section.figures.append(Figure(noise, [ratios(history, groups)], tuple(groups)))
    return section


def _returns(history: Sequence[Mapping[str, Any]], shown: Mapping[str, Any], evaluation: Any) -> str:
    steps = [row["train/steps"] for row in history]
    description = (
        f"Return by steps in the environment; at epoch {shown['epoch']}, after {shown['train/steps']:.0f} steps: training "
        f"{_told(shown.get('train/return'))}, validation {_told(shown['validation/return'])}, test {evaluation.mean:.4g}"
    )
    chart = Chart("returns", description, width=4.4, height=3.2)
    with chart as axis:
        for part in ("train", "validation"):
            _plot(axis, steps, [row.get(f"{part}/return", math.nan) for row in history])
        axis.axvline(shown["train/steps"], color=MUTED, linewidth=0.8, linestyle=(0, (2, 3)))
        error = 2 * (evaluation.error or 0.0)
        axis.errorbar(
            shown["train/steps"], evaluation.mean, yerr=error, color=SERIES[2], marker="o", markersize=4, capsize=3, linewidth=1.4
        )
        _by_steps(axis)
    return chart.svg


def _parts(history: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the training columns hold beside returns and steps, where it is known and ever changes."""
    names = [name.removeprefix("train/") for name in history[0] if name.startswith("train/")]
    found = []
    for name in names:
        values = [row.get(f"train/{name}", math.nan) for row in history]
        known = {value for value in values if not math.isnan(value)}
        if name not in ("return", "steps") and known and known != {0.0}:
            found.append(name)
    return found


def _part(history: Sequence[Mapping[str, Any]], name: str) -> str:
    steps, values = [row["train/steps"] for row in history], [row.get(f"train/{name}", math.nan) for row in history]
    title = _TITLES.get(name, name[0].upper() + name[1:].replace("_", " "))
    known = [value for value in values if math.isfinite(value)]
    chart = Chart(
        f"part-{name}", f"{title} by steps; in the last epoch {_told(known[-1] if known else None)}", width=2.4, height=1.6
    )
    with chart as axis:
        _plot(axis, steps, values)
        axis.set_title(title)
        _by_steps(axis)
    return chart.svg


def _plot(axis: Any, steps: Sequence[float], values: Sequence[float]) -> None:
    """A line through what is known; dots where there is little of it."""
    known = np.isfinite(values)
    few = known.sum() <= 12
    axis.plot(np.asarray(steps)[known], np.asarray(values)[known], marker="o" if few else "", markersize=3)


def _by_steps(axis: Any) -> None:
    axis.set_xlim(left=0)
    axis.xaxis.set_major_locator(MaxNLocator(4))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.set_xlabel("steps in the environment")


def _told(value: float | None) -> str:
    return "none ended" if value is None or math.isnan(value) else f"{value:.4g}"
