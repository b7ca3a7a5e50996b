"""What an agent sees and what it can do, in plain numbers, and actions in the agent's units and in the environment's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal, Self, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from reparam.errors import BadInputError

__all__ = ["Spaces", "check_known"]


@dataclass(frozen=True)
class Spaces:
    """The observations and actions of an environment.

    An agent's actions are in units of its own: real numbers in [-1, 1] (float32), or choices 0, 1, 2, ... (int64). The
    environment's are `low + (action + 1) (high - low) / 2`, what lies outside of [-1, 1] clipped, or `low + action`.

    Attributes:
        observation: the shape of one observation.
        values: what its numbers are: "real", "binary" (0 and 1), or "counts" (0, 1, ..., `levels`: pictures of 8 bits).
        levels: the largest count.
        kind: of the actions.
        action: the shape of one action: (D,) for D numbers; () for one choice, (K,) for K of them.
        choices: how many categories each choice has.
        low, high: the bounds of each number, in the environment's units; for choices, `low` is where each starts to count.

    Raises:
        BadInputError: for fields that contradict each other.

    Example:
        >>> import torch
        >>> from reparam.environments.spaces import Spaces
        >>> spaces = Spaces((3,), "real", None, "continuous", (1,), low=(-2.0,), high=(2.0,))
        >>> spaces.to_environment(torch.tensor([[-1.0], [0.5]])).tolist(), spaces.width
        ([[-2.0], [1.0]], 1)
    """

    observation: tuple[int, ...]
    values: Literal["real", "binary", "counts"]
    levels: int | None
    kind: Literal["continuous", "discrete"]
    action: tuple[int, ...]
    choices: tuple[int, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        wrong = None
        if self.values not in ("real", "binary", "counts") or (self.levels is None) == (self.values == "counts"):
            wrong = f"values={self.values!r} with levels={self.levels!r}"
        elif not all(isinstance(n, int) and n > 0 for n in (*self.observation, *self.action, *self.choices)):
            wrong = f"a shape of observation={self.observation}, action={self.action}, choices={self.choices}"
        elif self.kind == "continuous":
            if len(self.action) != 1 or not len(self.low) == len(self.high) == self.action[0] or self.choices:
                wrong = f"continuous actions of shape {self.action} with {len(self.low)} lower and {len(self.high)} upper bounds"
            elif not all(math.isfinite(b - a) and a < b for a, b in zip(self.low, self.high, strict=True)):
                wrong = f"bounds from {self.low} to {self.high}"
        elif self.kind != "discrete":
            wrong = f"kind={self.kind!r}"
        elif len(self.action) > 1 or len(self.choices) != math.prod(self.action) or len(self.low) not in (0, len(self.choices)):
            wrong = f"actions of shape {self.action} with {len(self.choices)} choices"
        if wrong:
            raise BadInputError(f"an environment's spaces have {wrong}, which contradicts itself or leaves nothing to do")

    @property
    def width(self) -> int:
        """How many numbers encode an action: D, or the number of categories of all choices together."""
        return sum(self.choices) if self.kind == "discrete" else self.action[0]

    @property
    def words(self) -> str:
        """For people.

        Example:
            >>> from reparam.environments.spaces import Spaces
            >>> print(Spaces((3,), "real", None, "continuous", (1,), low=(-2.0,), high=(2.0,)).words)
            observations of 3 real numbers, actions of 1 real number in [-2, 2]
            >>> print(Spaces((84, 84), "counts", 255, "discrete", (), (4,)).words)
            observations of 84 x 84 counts up to 255, 4 actions to choose from
        """
        seen = {"real": "real numbers", "binary": "zeros and ones", "counts": f"counts up to {self.levels}"}[self.values]
        size = " x ".join(map(str, self.observation))
        if self.kind == "continuous":
            ends = sorted({f"[{a:g}, {b:g}]" for a, b in zip(self.low, self.high, strict=True)})
            number = f"{self.width} real number{'s' * (self.width > 1)} in {ends[0] if len(ends) == 1 else 'ranges of their own'}"
            return f"observations of {size} {seen}, actions of {number}"
        many = " x ".join(map(str, self.choices))
        return f"observations of {size} {seen}, {many} actions to choose from"

    def encode(self, action: Tensor) -> Tensor:
        """Actions as numbers for a network, rows + action -> rows + (width,): themselves, or their one-hot codes joined."""
        if self.kind == "continuous":
            return action
        each = action.reshape(*action.shape[: action.dim() - len(self.action)], len(self.choices)).unbind(-1)
        return torch.cat([one_hot(a, n) for a, n in zip(each, self.choices, strict=True)], -1).to(torch.get_default_dtype())

    def random(self, rows: int, generator: torch.Generator | None = None) -> Tensor:
        """Uniform actions, rows + action, in the agent's units."""
        if self.kind == "continuous":
            return 2 * torch.rand((rows, *self.action), generator=generator) - 1
        each = [torch.randint(n, (rows,), generator=generator) for n in self.choices]
        return torch.stack(each, -1).reshape(rows, *self.action)

    def to_environment(self, action: Tensor) -> np.ndarray:
        """Actions in the environment's units, rows + action: float32 within the bounds, or int64.

        Raises:
            BadInputError: for actions of another shape, that are not finite, or that are none of the choices: an agent's bug.
        """
        given = action.detach().cpu().numpy()
        if given.shape[given.ndim - len(self.action) :] != self.action:
            raise BadInputError(
                f"an agent gave actions of shape {given.shape}; this environment takes rows of shape {self.action}: "
                "look at what the agent's act returns"
            )
        low, half, least, most = self._units
        if self.kind == "continuous":
            wide = given.astype(np.float64)
            if np.count_nonzero(np.isfinite(wide)) != wide.size:
                raise BadInputError("an agent gave actions that are not finite: look at what its act returns, and at its weights")
            with np.errstate(over="ignore"):
                theirs = (low + (wide + 1.0) * half).astype(np.float32)
            inside: np.ndarray = np.minimum(np.maximum(theirs, least), most)
            return inside
        if given.dtype.kind not in "iu" or not ((given >= 0) & (given <= most - low)).all():
            raise BadInputError(
                f"an agent gave actions of {action.dtype}, from {given.min():g} to {given.max():g}; this environment takes "
                f"integers below {' x '.join(map(str, self.choices))}: look at what the agent's act returns"
            )
        chosen: np.ndarray = (given + low).astype(np.int64)
        return chosen

    def from_environment(self, action: np.ndarray) -> Tensor:
        """Actions in the agent's units, of actions in the environment's: the way back, for what lies within the bounds."""
        low, half = self._units[:2]
        if self.kind == "continuous":
            return torch.from_numpy(((np.asarray(action, dtype=np.float64) - low) / half - 1.0).astype(np.float32))
        return torch.from_numpy(np.asarray(np.asarray(action).astype(np.int64) - low))

    @cached_property
    def _units(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The least action and half of the range, in the environment's units; and the ends, of the type that it is given."""
        if self.kind == "continuous":
            low, high = np.array(self.low), np.array(self.high)
            least, most = low.astype(np.float32), high.astype(np.float32)
            # The float32 next to a bound may lie outside of it.
            least = np.where(least < low, np.nextafter(least, np.float32(np.inf)), least)
            most = np.where(most > high, np.nextafter(most, np.float32(-np.inf)), most)
            return low, 0.5 * (high - low), least, most
        low = np.array(self.low or (0,) * len(self.choices), dtype=np.int64).reshape(self.action)
        many = np.array(self.choices, dtype=np.int64).reshape(self.action)
        return low, many // 2, low, low + many - 1

    def facts(self) -> dict[str, Any]:
        """The fields as JSON holds them: lists for tuples."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Self:
        """The spaces that `facts` told.

        Raises:
            BadInputError: when they are no such facts.
        """
        try:
            fields = {name: tuple(value) if isinstance(value, list | tuple) else value for name, value in facts.items()}
            return cls(**cast(Any, fields))
        except (TypeError, AttributeError) as error:
            raise BadInputError(f"no spaces of an environment: {error}") from error


def check_known(title: str, found: Spaces, known: Spaces) -> None:
    """Refuse an environment whose spaces are not those that an agent was made for.

    Raises:
        BadInputError: saying both.
    """
    if found == known:
        return
    here, there = found.words, known.words
    if here == there:
        one, other = found.facts(), known.facts()
        names = [name for name in one if one[name] != other[name]]
        here, there = (" and ".join(f"{name}={facts[name]}" for name in names) for facts in (one, other))
    raise BadInputError(f"{title} has {here}, and the agent was made for {there}: give it what it knows, or make another agent")
