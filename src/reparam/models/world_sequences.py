"""Batches of sequences as a world model takes them, and what it says of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from reparam.training import Batch

if TYPE_CHECKING:
    from reparam.data import Data

__all__ = ["OpenLoop", "Sequences", "hide", "read", "recorded", "rewarded"]


class Sequences(NamedTuple):
    """A batch of sequences, B x T + ….

    Attributes:
        observation: data, in their units.
        action: that led to each; B x T x 0 where there are none.
        reward: got on the way there, NaN where it is not known.
        first: where an episode begins: what was before does not matter, nor does the action.
        terminated: where one comes to its end.
        mask: which steps are there; the others come last, and count nowhere.
    """

    observation: Tensor
    action: Tensor
    reward: Tensor
    first: Tensor
    terminated: Tensor
    mask: Tensor


class OpenLoop(NamedTuple):
    """What a model makes of sequences of which it sees the beginning.

    Attributes:
        reconstruction: B x T + shape, means of the data given states that have seen all of them.
        imagined: samples x B x (T - context) + shape, means of the data given states that have seen the first `context` only.
        reward: samples x B x (T - context), mean rewards likewise; None without rewards.
    """

    reconstruction: Tensor
    imagined: Tensor
    reward: Tensor | None


def recorded(data: Data, choices: Sequence[int]) -> Sequences:
    """Recorded sequences as a batch, for a model whose actions are so many `choices`, or numbers.

    Raises:
        ValueError: for choices that are not among these.
    """
    came = data.choices or ()
    if choices and (len(came) != len(choices) or any(a > b for a, b in zip(came, choices, strict=True))):
        told = f"choices of {', '.join(map(str, came))}" if came else "no choices"
        raise ValueError(f"its actions are {told}, and this model knows choices of {', '.join(map(str, choices))}")
    rows = data.x.shape[:2]
    none = torch.zeros(rows, dtype=torch.bool)
    unknown = torch.full(rows, math.nan)  # no reward is not a reward of 0
    given = {"action": torch.zeros(*rows, 0), "reward": unknown, "terminated": none, "mask": ~none} | dict(data.beside)
    return Sequences(observation=data.x, **given)


def read(batch: Batch, shape: torch.Size, action: torch.Size, dtype: torch.dtype) -> Sequences:
    """A batch of data and actions of some shapes, checked, with zeros where nothing is.

    Raises:
        ValueError: for other shapes.
    """
    if isinstance(batch, Tensor) or len(batch) != len(Sequences._fields):
        raise ValueError(f"a batch of sequences is a tuple of {', '.join(Sequences._fields)}")
    s = Sequences(*batch)
    rows, wanted = s.mask.shape, (shape, action, (), (), (), ())
    if len(rows) != 2 or not rows[1] or any(part.shape != (*rows, *each) for part, each in zip(s, wanted, strict=True)):
        came = ", ".join(f"{name} {tuple(part.shape)}" for name, part in zip(s._fields, s, strict=True))
        raise ValueError(
            f"the batch has {came}: this model takes B x T + {tuple(shape)}, B x T + {tuple(action)}, and B x T of the others"
        )
    hidden = ~s.mask
    return s._replace(
        observation=hide(s.observation.to(dtype), hidden), action=hide(s.action, hidden), reward=hide(s.reward.to(dtype), hidden)
    )


def hide(x: Tensor, where: Tensor) -> Tensor:
    """Zeros in rows + … where a mask over the rows says so."""
    return x.masked_fill(where.reshape(where.shape + (1,) * (x.dim() - where.dim())), 0)


def rewarded(s: Sequences) -> Tensor:
    """Where a reward is known: NaN says that it is not, and none leads to where an episode begins."""
    return s.mask & ~s.first & ~s.reward.isnan()
