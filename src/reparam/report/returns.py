"""What an agent earned, over many episodes; and what it expected to earn."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from reparam.report.agent import Agent
from reparam.report.chart import INK, MUTED, SERIES, Chart
from reparam.report.pieces import Figure, Section, minus

__all__ = ["against", "returns"]

# Pairs of an expected and a real return, and the episodes that they are from.
_PAIRS, _EPISODES = 700, 100


def returns(agent: Agent, evaluation: Any) -> Section:
    """How returns are distributed; how long episodes were, where that differs; and expected against real returns."""
    earned = np.array([float(episode.reward.double().sum()) for episode in agent.episodes])
    lengths = np.array([len(episode.reward) for episode in agent.episodes], dtype=float)
    one = len(earned) == 1
    lead = f"{len(earned)} test episode{'' if one else 's'}, from first states that training never saw."
    if np.ptp(earned) == 0:
        lead += f" {'It' if one else 'Each'} returned {minus(f'{earned[0]:.4g}')}."
    figures = []
    if np.ptp(earned) > 0:
        low, middle, high = np.quantile(earned, [0.1, 0.5, 0.9])
        caption = f"The line is their mean, {evaluation.mean:.4g}; a mark below each return. Their median is {middle:.4g}."
        caption = minus(caption)
        described = (
            f"Returns of {len(earned)} episodes: mean {evaluation.mean:.4g}, a tenth below {low:.4g}, a tenth above {high:.4g}"
        )
        figures.append(Figure(caption, [_spread("earned", "Return of an episode", described, earned)]))
    if np.ptp(lengths) > 0 and not np.allclose(lengths, earned):  # where each step earns 1 it is the same picture
        described = f"Lengths of {len(lengths)} episodes: from {lengths.min():.0f} to {lengths.max():.0f} steps"
        caption = f"{sum(episode.terminated for episode in agent.episodes)} of them ended by themselves; the others were cut short."
        figures.append(Figure(caption, [_spread("lengths", "Steps of an episode", described, lengths)]))
    if (figure := _expected(agent)) is not None:
        figures.append(figure)
    return Section("Returns", lead, figures)


def _spread(name: str, title: str, description: str, values: np.ndarray) -> str:
    """A histogram, with a mark for each value and a line at the mean."""
    chart = Chart(name, description, width=4.2, height=2.4)
    with chart as axis:
        axis.hist(values, bins=min(24, max(6, len(values) // 4)), color=SERIES[0], alpha=0.75)
        top = axis.get_ylim()[1]
        axis.vlines(values, -0.07 * top, -0.02 * top, color=INK, linewidth=0.6, alpha=0.6)
        axis.axvline(values.mean(), color=SERIES[1], linewidth=1.6)
        axis.set_ylim(-0.09 * top, top)
        axis.set_title(title)
        axis.set_yticks([])
        axis.grid(visible=False)
    return chart.svg


def _expected(agent: Agent) -> Figure | None:
    """Expected against real discounted returns, of states of the first half of each episode: the others end too soon to tell."""
    episodes = [episode for episode in agent.episodes[:_EPISODES] if len(episode.reward) > 1]
    told = agent.values_along(episodes) if episodes else None
    if told is None:
        return None
    real = np.concatenate([agent.to_go(episode)[: len(episode.reward) // 2] for episode in episodes])
    expected = torch.cat([values[: len(values) // 2] for values in told]).double().numpy()
    some = np.linspace(0, len(real) - 1, min(_PAIRS, len(real))).round().astype(int)
    axes = ("discounted return that came", "expected")
    chart, words = against("expected", "What the values expect", real[some], expected[some], axes)
    caption = f"States of the first half of each test episode, discounted by {agent.discount:g} a step; {words}."
    caption += " What is expected is for actions that are drawn, and these episodes took the likeliest"
    caption += "; it counts the price of entropy too." if hasattr(agent.model, "temperature") else "."
    return Figure(caption, [chart])


def against(name: str, title: str, real: np.ndarray, told: np.ndarray, axes: tuple[str, str]) -> tuple[str, str]:
    """What came across and what was told up, with the line where they agree; and how they differ, in words."""
    bias, alike = float((told - real).mean()), _correlation(told, real)
    words = f"{axes[1]} ones are {abs(bias):.3g} too {'high' if bias > 0 else 'low'} on average"
    words += f", and their correlation with what came is {alike:.2f}" if alike is not None else ""
    chart = Chart(name, f"Dots: {axes[0]} across, {axes[1]} up; {words}", width=4.2, height=3.2)
    with chart as axis:
        axis.scatter(real, told, s=5, color=SERIES[0], alpha=0.35, linewidths=0)
        span = [float(min(real.min(), told.min())), float(max(real.max(), told.max()))]
        axis.plot(span, span, color=MUTED, linewidth=0.8)
        axis.set_title(title)
        axis.set_xlabel(axes[0])
        axis.set_ylabel(axes[1])
    return chart.svg, words


def _correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    if len(a) < 3 or a.std() < 1e-9 or b.std() < 1e-9:
        return None
    return float(np.corrcoef(a, b)[0, 1])
