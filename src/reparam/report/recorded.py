"""What the sections of a world model look at: sequences that it has not learned from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reparam.data import Splits
from reparam.environments.episodes import Episode
from reparam.models.world_sequences import Sequences
from reparam.noise import Fresh
from reparam.report import charts
from reparam.report.agent import Agent
from reparam.report.images import is_image

__all__ = ["Recorded", "lived", "recorded"]

# Sequences that are looked at, steps of them, and steps of an episode.
_ROWS, _STEPS, _LIVED = 64, 400, 64


@dataclass(frozen=True)
class Recorded:
    """What the sections look at.

    Attributes:
        model: in evaluation mode.
        batch: sequences, without gaps at their ends where enough of them are long enough.
        context: steps of each that are seen before the rest is imagined.
        names: of the numbers of a datum; none of pictures.
        what: such a sequence is called.
        range: of the values, for pictures.
    """

    model: Any
    batch: Sequences
    context: int
    names: tuple[str, ...]
    what: str
    range: tuple[float, float]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.model.shape)

    @property
    def image(self) -> bool:
        return is_image(self.shape)

    @property
    def one(self) -> Sequences:
        """The first sequence alone."""
        return Sequences(*(part[:1] for part in self.batch))

    def source(self) -> Fresh:
        """Noise that is the same each time, so that one section more or fewer changes no other."""
        return Fresh(torch.Generator().manual_seed(0))

    def pictures(self, x: Tensor) -> np.ndarray:
        """Data in their units as images in [0, 1]."""
        low, high = self.range
        return ((x.double() - low) / ((high - low) or 1.0)).numpy()


def recorded(model: Any, splits: Splits) -> Recorded:
    """Of the test data of a run on recorded sequences."""
    test, train = splits.test, splits.train
    batch = _even(Sequences(*model.inputs(test)))
    span = (0.0, float(train.levels or 1)) if train.values != "real" else (train.x.min().item(), train.x.max().item())
    size = int(np.prod(tuple(model.shape)))
    names = () if is_image(tuple(model.shape)) else charts.short(test.columns, size)
    return Recorded(model, batch, max(1, batch.mask.shape[1] // 2), names, "test sequence", span)


def lived(agent: Agent) -> Recorded:
    """Of the beginnings of the test episodes of an agent."""
    batch = _even(_joined(agent.episodes[:_ROWS], agent.spaces), most=_LIVED)
    x = batch.observation
    span = (0.0, float(agent.spaces.levels or 1)) if agent.spaces.values != "real" else (x.min().item(), x.max().item())
    names = () if is_image(agent.spaces.observation) else agent.names.observation
    if not names and not is_image(agent.spaces.observation):
        names = charts.short(None, int(np.prod(agent.spaces.observation)))
    return Recorded(agent.model, batch, max(1, batch.mask.shape[1] // 4), names, "test episode", span)


def _joined(episodes: Sequence[Episode], spaces: Any) -> Sequences:
    """Episodes as a batch, filled up with zeros: the action beside a datum led to it."""
    rows, steps = len(episodes), max(len(episode.reward) for episode in episodes) + 1
    x = torch.zeros(rows, steps, *spaces.observation)
    action = torch.zeros(rows, steps, *spaces.action, dtype=episodes[0].action.dtype)
    reward, mask = torch.zeros(rows, steps), torch.zeros(rows, steps, dtype=torch.bool)
    terminated, first = mask.clone(), mask.clone()
    first[:, 0] = True
    for i, episode in enumerate(episodes):
        n = len(episode.reward) + 1
        x[i, :n], action[i, 1:n], reward[i, 1:n], mask[i, :n] = episode.observation, episode.action, episode.reward, True
        terminated[i, n - 1] = episode.terminated
    return Sequences(x, action, reward, first, terminated, mask)


def _even(batch: Sequences, most: int = _STEPS) -> Sequences:
    """The sequences that are as long as half of them are, cut to that length; at most so many steps."""
    lengths = batch.mask.sum(1)
    steps = max(1, min(most, int(lengths.median())))
    # An episode that begins in the middle cannot be foreseen: those that have none come first, where there are any.
    whole = (lengths >= steps) & ~batch.first[:, 1:steps].any(1)
    rows = (whole if whole.any() else lengths >= steps).nonzero().squeeze(1)[:_ROWS]
    return Sequences(*(part[rows, :steps] for part in batch))
