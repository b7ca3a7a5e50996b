"""Laws over actions: what the last layer of a policy network says, as a distribution."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, Normal
from torch.nn.functional import pad

from reparam.distributions import TanhNormal
from reparam.errors import BadInputError

__all__ = ["Choices", "Head", "SquashedNormal", "head"]

# The logit of a category that is not there: its probability is 0 in every format, and sums over all stay finite.
_NEVER = -1e4


class Head(Protocol):
    """From the outputs of a network, rows + (width,), to a law over actions of batch shape rows.

    Attributes:
        width: the outputs that it takes.
    """

    @property
    def width(self) -> int: ...

    def __call__(self, outputs: Tensor) -> Distribution:
        """The law: it has `log_prob` and `entropy`, and `rp.sample` or `rp.sample_and_log_prob` draw from it."""
        ...

    def mode(self, outputs: Tensor) -> Tensor:
        """The action to take where none is to be drawn."""
        ...


@dataclass(frozen=True)
class SquashedNormal:
    """Actions in (-1, 1)^D as the hyperbolic tangent of independent normal variables, `a = tanh(loc + scale * eps)`.

    The outputs are D locations, and D numbers that a smooth, increasing function takes to logarithms of scales between `low` and
    `high`; zeros are loc 0 and scale 1, actions that are nearly uniform.

    Args:
        actions: D.
        low: the smallest logarithm of a scale, before the tangent.
        high: the largest.

    Raises:
        ValueError: unless low < 0 < high.

    Source: Haarnoja et al., arXiv:1812.05905.

    Example:
        >>> import torch, reparam as rp
        >>> head = SquashedNormal(2)
        >>> policy = head(torch.zeros(5, head.width))
        >>> action, log_prob = rp.sample_and_log_prob(policy)
        >>> action.shape, log_prob.shape, head.mode(torch.zeros(5, 4)).shape
        (torch.Size([5, 2]), torch.Size([5]), torch.Size([5, 2]))
    """

    actions: int
    low: float = -5.0
    high: float = 2.0

    def __post_init__(self) -> None:
        if not -math.inf < self.low < 0 < self.high < math.inf:
            raise ValueError(f"logarithms of scales from {self.low} to {self.high}: give a range around 0")

    @property
    def width(self) -> int:
        return 2 * self.actions

    def __call__(self, outputs: Tensor) -> Distribution:
        return Independent(TanhNormal(*self.parameters(outputs), validate_args=False), 1, validate_args=False)

    def normal(self, outputs: Tensor) -> Distribution:
        """The law of `atanh` of an action, for estimators that want a normal law; `tanh` takes its draws to actions."""
        return Independent(Normal(*self.parameters(outputs), validate_args=False), 1, validate_args=False)

    def mode(self, outputs: Tensor) -> Tensor:
        """`tanh(loc)`, the median."""
        return _whole(outputs)[..., : self.actions].tanh()

    def parameters(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Loc and scale of the normal law, each rows + (D,)."""
        loc, raw = _whole(outputs).chunk(2, -1)
        middle, half = (self.high + self.low) / 2, (self.high - self.low) / 2
        # The tangent passes 0 where raw does: there the scale is 1.
        return loc, (middle + half * torch.tanh(raw / half + math.atanh(-middle / half))).exp()


@dataclass(frozen=True)
class Choices:
    """One choice among categories, or several at once, independent given the outputs, which are the logits of all, joined.

    Args:
        choices: the number of categories of each choice.
        single: whether an action is one number, and not a vector of as many as there are choices.

    Raises:
        ValueError: for no choice, one without a category, or several as one number.

    Example:
        >>> import torch
        >>> head = Choices((2, 3))
        >>> policy = head(torch.zeros(5, head.width))
        >>> policy.sample().shape, policy.log_prob(policy.sample()).shape, head.mode(torch.zeros(5, 5)).shape
        (torch.Size([5, 2]), torch.Size([5]), torch.Size([5, 2]))
        >>> bool(torch.isclose(policy.entropy(), torch.tensor(6.0).log()).all())
        True
    """

    choices: tuple[int, ...]
    single: bool = False

    def __post_init__(self) -> None:
        if min(self.choices, default=0) < 1 or (self.single and len(self.choices) > 1):
            raise ValueError(
                f"choices={self.choices}, single={self.single}: give at least one category a choice, and one if single"
            )

    @property
    def width(self) -> int:
        return sum(self.choices)

    def __call__(self, outputs: Tensor) -> Distribution:
        law: Distribution = Categorical(logits=self.logits(outputs), validate_args=False)
        return law if self.single else Independent(law, 1, validate_args=False)

    def mode(self, outputs: Tensor) -> Tensor:
        """The likeliest category of each choice."""
        return self.logits(outputs).argmax(-1)

    def logits(self, outputs: Tensor) -> Tensor:
        """Rows + (categories,) of a single choice; else rows + (choices, most categories), those that are not there at -10000."""
        outputs = _whole(outputs)
        if self.single:
            return outputs
        most = max(self.choices)
        return torch.stack([pad(part, (0, most - part.shape[-1]), value=_NEVER) for part in outputs.split(self.choices, -1)], -2)


def head(action: tuple[int, ...], choices: tuple[int, ...] = ()) -> SquashedNormal | Choices:
    """What suits a space of actions: `choices` among categories, or without them D numbers in (-1, 1).

    Args:
        action: the shape of one action: (D,); () for one choice, (K,) for K of them.
        choices: the categories of each choice; none where actions are continuous.

    Raises:
        BadInputError: for continuous actions that are no vector.

    Example:
        >>> head((3,)), head((), (4,))
        (SquashedNormal(actions=3, low=-5.0, high=2.0), Choices(choices=(4,), single=True))
    """
    if choices:
        return Choices(tuple(choices), single=action == ())
    if len(action) != 1:
        raise BadInputError(f"actions have shape {tuple(action)}: a policy of continuous actions gives vectors, (D,)")
    return SquashedNormal(action[0])


def _whole(outputs: Tensor) -> Tensor:
    """At least single precision: a scale or a logit in half precision would lose what a policy learns last."""
    return outputs.float() if outputs.dtype in (torch.float16, torch.bfloat16) else outputs
