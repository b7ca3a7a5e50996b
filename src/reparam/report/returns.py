"""What an agent earned, over many episodes; and what it expected to earn."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from reparam.report.agent import Agent
from reparam.report.chart import INK, MUTED, SERIES, Chart
from reparam.report.pieces import Figure, Section, minus

__all__ = ["returns"]

# Pairs of an expected and a real return.
_PAIRS = 1500


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
        caption = f"The line is their mean, {evaluation.mean:.4g}; a mark below each return. Half of them are above {middle:.4g}."
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
    halves = [episode for episode in agent.episodes if len(episode.reward) > 1]
    if not halves or agent.values(halves[0].observation[:1]) is None:
        return None
    seen = torch.cat([episode.observation[: len(episode.reward) // 2] for episode in halves])
    real = np.concatenate([agent.to_go(episode)[: len(episode.reward) // 2] for episode in halves])
    some = torch.linspace(0, len(seen) - 1, min(_PAIRS, len(seen))).round().long()
    told = agent.values(seen[some])
    assert told is not None
    real, expected = real[some.numpy()], told.double().numpy()
    bias, alike = float((expected - real).mean()), _correlation(expected, real)
    words = f"on average they are {abs(bias):.3g} too {'high' if bias > 0 else 'low'}"
    words += f", and their correlation with what came is {alike:.2f}" if alike is not None else ""
    chart = Chart("expected", f"Dots: the discounted return that came across, the expected one up; {words}", width=4.2, height=3.2)
    with chart as axis:
        axis.scatter(real, expected, s=5, color=SERIES[0], alpha=0.35, linewidths=0)
        span = [float(min(real.min(), expected.min())), float(max(real.max(), expected.max()))]
        axis.plot(span, span, color=MUTED, linewidth=0.8)
        axis.set_title("What the values expect")
        axis.set_xlabel("discounted return that came")
        axis.set_ylabel("expected")
    caption = f"States of the first half of each test episode, discounted by {agent.discount:g} a step. On the line the values are "
    caption += f"right: {words}."
    return Figure(caption, [chart.svg])


def _correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    if len(a) < 3 or a.std() < 1e-9 or b.std() < 1e-9:
        return None
    return float(np.corrcoef(a, b)[0, 1])
