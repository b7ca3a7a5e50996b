"""Charts over the steps of an episode: what an agent saw, what it did, and what it earned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator

from reparam.report.agent import Agent
from reparam.report.chart import MUTED, SERIES, Chart
from reparam.report.pieces import Figure

__all__ = ["acted", "earned", "lively", "over_time", "seen"]

# Series of one chart, choices whose probabilities are curves, and numbers of an observation that are shown.
_MOST, _SEEN = len(SERIES), 6


def over_time(
    name: str,
    title: str,
    description: str,
    series: Mapping[str, np.ndarray],
    *,
    bands: Sequence[tuple[np.ndarray, np.ndarray] | None] = (),
    dots: bool = False,
    label: str = "step",
    start: int = 0,
    mark: float | None = None,
    limits: tuple[float, float] | None = None,
    size: tuple[float, float] = (3.6, 2.3),
) -> str:
    """Curves over steps, each with a band around it where there is one.

    Args:
        name: of the chart on its page.
        title: above it.
        description: of the picture in words.
        series: of equal length, NaN where there is nothing.
        bands: low and high of each series.
        dots: a dot for each value, and no line.
        label: of the axis.
        start: the first step.
        mark: a step to draw a line at.
        limits: of the values.
        size: width and height in inches.
    """
    chart = Chart(name, description, width=size[0], height=size[1])
    with chart as axis:
        for place, (values, colour) in enumerate(zip(series.values(), SERIES, strict=False)):
            steps = np.arange(start, start + len(values))
            if place < len(bands) and (band := bands[place]) is not None:
                axis.fill_between(steps, *band, color=colour, alpha=0.22, linewidth=0)
            look = (
                {"linestyle": "", "marker": ".", "markersize": 2.5} if dots else {"linewidth": 1.3 if len(values) <= 250 else 0.8}
            )
            axis.plot(steps, values, color=colour, **look)
        if mark is not None:
            axis.axvline(mark, color=MUTED, linewidth=0.9, linestyle=(0, (2, 3)))
        if limits is not None:
            axis.set_ylim(*limits)
        axis.set_title(title, parse_math=False)
        axis.set_xlabel(label)
        axis.margins(x=0.02)
        axis.xaxis.set_major_locator(MaxNLocator(5 if size[0] < 3 else 9, integer=True))
    return chart.svg


def seen(agent: Agent) -> Figure | None:
    """The numbers of the observations; those that move most, where there are many."""
    names, x = agent.names.observation, agent.shown.observation
    if not names:
        return None
    values, charts = x.double().numpy(), []
    places = lively(values, _SEEN)
    for place in places:
        name, one = names[place], values[:, place]
        described = f"{name} by step, from {one.min():.3g} to {one.max():.3g}"
        charts.append(over_time(f"seen-{place}", name[0].upper() + name[1:], described, {name: one}, size=(2.2, 1.5)))
    few = "What it saw" if len(places) == len(names) else f"What it saw: the {len(places)} of {len(names)} numbers that move most"
    return Figure(f"{few}, by step.", charts, wide=True, small=True)


def acted(agent: Agent) -> Figure:
    """The actions, within what the policy would draw."""
    episode, spaces = agent.shown, agent.spaces
    drawn = agent.drawn_along(episode)
    if not spaces.choices:
        low, high = (agent.in_units(drawn.quantile(q, 0)) for q in (0.16, 0.84))
        done = agent.in_units(episode.action)
        places = lively(done, _MOST)
        key = tuple(agent.names.action[place] for place in places)
        wide = ", ".join(f"{name} {(high - low)[:, place].mean():.3g}" for name, place in zip(key, places, strict=True))
        chart = over_time(
            "acted",
            "Actions" if len(key) > 1 else key[0][0].upper() + key[0][1:],
            f"Actions by step; the mean width of the middle two thirds of what the policy draws: {wide}",
            {name: done[:, place] for name, place in zip(key, places, strict=True)},
            bands=[(low[:, place], high[:, place]) for place in places],
        )
        return Figure(
            "What it did; the band holds the middle two thirds of the actions that its policy draws there.",
            [chart],
            key if len(key) > 1 else (),
        )
    if len(spaces.choices) == 1 and spaces.choices[0] <= _MOST:
        shares = agent.probabilities(episode.observation[:-1], drawn)
        key = agent.names.action
        means = ", ".join(f"{name} {share:.2f}" for name, share in zip(key, shares.mean(0), strict=True))
        two = len(key) == 2  # whose probabilities mirror each other
        series = {name: shares[:, place] for place, name in enumerate(key) if not two or place == 1}
        title = f"Probability of “{key[1]}”" if two else "Probability of each choice"
        chart = over_time("acted", title, f"Probability of each choice by step; on average {means}", series, limits=(-0.04, 1.04))
        return Figure("How sure its policy was of what to do.", [chart], () if two else key)
    done = episode.action.reshape(len(episode.action), -1).double().numpy()
    places = lively(done, _MOST)
    key = tuple(agent.names.action[place] for place in places) if len(spaces.choices) > 1 else ("choice",)
    series = {name: done[:, place] for name, place in zip(key, places, strict=True)}
    chart = over_time("acted", "Choices", f"Choices by step, from {done.min():.0f} to {done.max():.0f}", series, dots=True)
    return Figure("What it chose.", [chart], key if len(key) > 1 else ())


def earned(agent: Agent) -> list[Figure]:
    """The rewards; and what was still to be earned, beside what the model expected."""
    episode = agent.shown
    reward, figures, caption = episode.reward.double().numpy(), [], ""
    if reward.min() < reward.max():
        described = f"Reward by step, from {reward.min():.3g} to {reward.max():.3g}, {reward.sum():.4g} in all"
        figures.append(Figure("What each step earned.", [over_time("reward", "Reward", described, {"reward": reward})]))
    else:
        caption = f"Each step earned {reward[0]:.3g}. "
    expected = agent.values_along([episode])
    if expected is None:
        return figures
    real, told = agent.to_go(episode), expected[0].double().numpy()
    described = f"Discounted return to come by step: at the start it was {real[0]:.4g}, and {told[0]:.4g} were expected"
    chart = over_time("to-go", "Return to come, discounted", described, {"real": real, "expected": told})
    caption += f"The return to come is discounted by {agent.discount:g} a step: what came, and what the model's values said."
    if not episode.terminated:
        caption += " What came ends where the episode was cut short, which the values know nothing of."
    return [*figures, Figure(caption, [chart], ("real", "expected by the values"))]


def lively(values: np.ndarray, most: int) -> list[int]:
    """The columns that move most from step to step, relative to their range; all of them, in order, where they are few."""
    if values.shape[1] <= most:
        return list(range(values.shape[1]))
    spread = values.std(0)
    return sorted(np.argsort(-spread, kind="stable")[:most].tolist())
