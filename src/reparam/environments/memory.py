"""The last that an agent has lived through: a ring of arrivals, from which it learns."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reparam.data.check import check_room
from reparam.environments.copies import Arrival
from reparam.environments.spaces import Spaces
from reparam.errors import BadInputError

__all__ = ["Memory"]


class Memory:
    """The last arrivals of E copies, `capacity` of them in all: a ring of T = capacity // E times, T x E.

    Observations that are counts or binary are kept as bytes. What is not yet filled takes no memory where the system gives pages
    as they are written, as Linux and macOS do.

    Args:
        capacity: arrivals, over all copies.
        count: how many copies, E.
        spaces: what they see and do.

    Raises:
        BadInputError: for less than two arrivals a copy, and for more than half of the machine's memory can hold.

    Example:
        >>> import torch
        >>> from reparam.environments.copies import Copies
        >>> from reparam.environments.memory import Memory
        >>> copies = Copies("Pendulum-v1", 2, seed=0)
        >>> memory = Memory(1000, 2, copies.spaces)
        >>> memory.add(copies.start())
        >>> for _ in range(10):
        ...     memory.add(copies.step(torch.zeros(2, 1)))
        >>> observation, action, reward, following, terminated = memory.transitions(32, torch.Generator().manual_seed(0))
        >>> memory.steps, following.shape
        (20, torch.Size([32, 3]))
        >>> copies.close()
    """

    def __init__(self, capacity: int, count: int, spaces: Spaces) -> None:
        times = capacity // count if count > 0 else 0
        if times < 2:
            raise BadInputError(
                f"a memory of {capacity} for {count} copies of an environment was asked for: an arrival and the one before it, of "
                f"each copy, are the least, {2 * count}"
            )
        byte = spaces.values != "real"
        real = spaces.kind == "continuous"
        each = math.prod(spaces.observation) * (1 if byte else 4) + math.prod(spaces.action) * (4 if real else 8) + 7
        # A checkpoint makes two copies of it for a moment.
        check_room(3 * times * count * each, f"a memory of {capacity:,} steps of {each:,} bytes, with its checkpoints,")
        self.count, self.spaces, self._times = count, spaces, times
        self.steps, self._time = 0, 0
        flag = ((), torch.bool)
        kinds: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
            "observation": (spaces.observation, torch.uint8 if byte else torch.float32),
            "action": (spaces.action, torch.float32 if real else torch.int64),
            "reward": ((), torch.float32),
            "first": flag,
            "terminated": flag,
            "truncated": flag,
        }
        self._kept = {name: torch.empty((times, count, *shape), dtype=dtype) for name, (shape, dtype) in kinds.items()}
        # The same memory, as writing one row through numpy costs a fifth of what it does through torch.
        self._rows = {name: kept.numpy() for name, kept in self._kept.items()}

    def __len__(self) -> int:
        """Times that are held, of each copy."""
        return min(self._time, self._times)

    def add(self, arrival: Arrival) -> None:
        """Remember an arrival, in place of the oldest when there is no room."""
        at = self._time % self._times
        for (name, rows), value in zip(self._rows.items(), arrival, strict=True):
            if value.shape != rows.shape[1:]:
                raise BadInputError(
                    f"an arrival's {name} has shape {tuple(value.shape)}; this memory holds {rows.shape[1:]} of each"
                )
            rows[at] = value.numpy()
        self._time += 1
        self.steps += self.count - int(np.count_nonzero(self._rows["first"][at]))

    def transitions(self, size: int, generator: torch.Generator | None = None) -> tuple[Tensor, ...]:
        """`size` steps, uniform over all that are held whole, with their beginning and their end; the same may come twice.

        Returns:
            observation, action, reward, next observation, terminated: of `size` rows each, `terminated` bool. A step at
            whose end an episode was cut short is not terminated.

        Raises:
            BadInputError: when no step is held.
        """
        self._refuse(2, "a step")
        oldest, n = self._time - len(self), len(self) - 1
        first = self._rows["first"].reshape(-1)
        befores, afters, found = [], [], 0
        for _ in range(1000):
            # A place drawn uniformly, and again until it is no restart: of three in a row, one or more are steps.
            drawn = torch.randint(n * self.count, (size - found + size // 16 + 1,), generator=generator).numpy()
            time, copy = oldest + drawn // self.count, drawn % self.count
            after = (time + 1) % self._times * self.count + copy
            step = ~first[after]
            befores.append((time % self._times * self.count + copy)[step][: size - found])
            afters.append(after[step][: size - found])
            found += len(afters[-1])
            if found == size:
                break
        else:
            raise BadInputError("the memory holds restarts of episodes and no step: remember more of them")
        before, after = np.concatenate(befores), np.concatenate(afters)
        return (
            self._at("observation", before),
            self._at("action", after),
            self._at("reward", after),
            self._at("observation", after),
            self._at("terminated", after),
        )

    def sequences(self, size: int, length: int, generator: torch.Generator | None = None) -> tuple[Tensor, ...]:
        """`size` stretches of `length` arrivals of one copy, their starts uniform over all that are held; restarts are `first`.

        Returns:
            observation, action (that led here), reward, first, terminated, mask (true everywhere): `size` x `length` + ...

        Raises:
            BadInputError: when fewer arrivals than that are held, of each copy.
        """
        self._refuse(length, f"a sequence of {length} arrivals")
        oldest, starts = self._time - len(self), len(self) - length + 1
        drawn = torch.randint(starts * self.count, (size, 1), generator=generator).numpy()
        time = oldest + drawn // self.count + np.arange(length)
        index = time % self._times * self.count + drawn % self.count
        parts = [self._at(name, index) for name in ("observation", "action", "reward", "first", "terminated")]
        return (*parts, torch.ones(size, length, dtype=torch.bool))

    def last(self, length: int) -> Arrival:
        """The last `length` arrivals of each copy, `length` x E + ...

        Raises:
            BadInputError: when fewer are held.
        """
        self._refuse(length, f"a rollout of {length} arrivals")
        time = np.arange(self._time - length, self._time)[:, None]
        index = time % self._times * self.count + np.arange(self.count)
        return Arrival(*(self._at(name, index) for name in self._rows))

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """What `restore` needs: numbers as JSON, and the filled part of the ring, which is no copy: it changes with the memory."""
        facts = {"steps": self.steps, "time": self._time, "times": self._times, "count": self.count}
        return facts, {name: kept[: len(self)] for name, kept in self._kept.items()}

    def restore(self, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Hold what `state` told, in the same places.

        Raises:
            BadInputError: for the state of a memory of another size or other spaces.
        """
        if (facts["times"], facts["count"]) != (self._times, self.count):
            raise BadInputError(
                f"the state is of a memory of {facts['times']} times {facts['count']} arrivals, and this has room for "
                f"{self._times} times {self.count}: keep the number of copies and the size of the memory"
            )
        filled = min(facts["time"], self._times)
        for name, kept in self._kept.items():
            if tensors[name].shape != (filled, *kept.shape[1:]) or tensors[name].dtype != kept.dtype:
                raise BadInputError(
                    f"the state's {name} is {tensors[name].dtype} of shape {tuple(tensors[name].shape)}; this memory holds "
                    f"{kept.dtype} of shape {(filled, *kept.shape[1:])}: it is of another environment"
                )
        for name, kept in self._kept.items():
            kept[:filled] = tensors[name]
        self.steps, self._time = facts["steps"], facts["time"]

    def _at(self, name: str, index: np.ndarray) -> Tensor:
        rows = self._rows[name]
        found = torch.from_numpy(rows.reshape(-1, *rows.shape[2:]).take(index, axis=0))
        return found.float() if name == "observation" else found

    def _refuse(self, length: int, what: str) -> None:
        if len(self) < length:
            raise BadInputError(
                f"{what} was asked for, and the memory holds {len(self)} arrivals of each copy, of at most {self._times}: "
                + ("remember more of them first" if length <= self._times else "give it more room")
            )
