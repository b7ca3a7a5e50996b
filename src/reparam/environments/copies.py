"""Copies of an environment side by side, each of whose episodes starts from a seed of its own, so that a run can resume."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from reparam.environments.spaces import Spaces
from reparam.errors import BadInputError
from reparam.training.randomness import stream_seed

__all__ = ["Arrival", "Copies"]


class Arrival(NamedTuple):
    """Where an action has led, one row for each of E copies.

    Attributes:
        observation: E + observation, float32.
        action: that led here, E + action, in the agent's units; zeros where an episode begins.
        reward: got on the way here, E; 0 where an episode begins.
        first: a new episode begins here and the action was not used, E.
        terminated: the episode came to its end here, E.
        truncated: it was cut short here, E.
    """

    observation: Tensor
    action: Tensor
    reward: Tensor
    first: Tensor
    terminated: Tensor
    truncated: Tensor


class Copies:
    r"""`count` copies of an environment side by side.

    After the end of an episode the next step of that copy starts another one, and the action it is given is not used. The k-th
    episode of copy e starts from `reset(seed=stream_seed(seed, stream, e + k count))`: no two episodes of a stream share a seed,
    and a run that resumes finds the ones that the run that never stopped finds. What an environment does must follow from that
    seed and its actions, which `restore` checks.

    Args:
        name: what gymnasium calls the environment, `MODULE:FUNCTION`, or a function that returns a `gymnasium.Env`.
        count: how many copies.
        seed: of the run.
        stream: of the seeds: training and evaluation see different episodes.
        limit: steps after which an episode is cut short, in place of gymnasium's for that name.
        workers: a process for each copy: the same numbers, sooner where a step takes a millisecond or more.
        render: whether `frames` are wanted.
        episodes: how many of the stream there are, from the first; a copy that has none left rests: its arrivals stand still.

    Raises:
        BadInputError: when there is no such environment or it cannot be made; while it runs, when it fails or shows what its
            spaces do not allow, with the copy, the episode and the step.

    Example:
        >>> import torch
        >>> from reparam.environments.copies import Copies
        >>> copies = Copies("Pendulum-v1", 2, seed=0)
        >>> arrival = copies.start()
        >>> arrival.observation.shape, arrival.first
        (torch.Size([2, 3]), tensor([True, True]))
        >>> copies.step(torch.zeros(2, 1)).reward < 0
        tensor([True, True])
        >>> copies.close()
    """

    def __init__(
        self,
        name: str | Callable[..., Any],
        count: int,
        seed: int,
        *,
        stream: str = "train",
        limit: int | None = None,
        workers: bool = False,
        render: bool = False,
        episodes: int | None = None,
    ) -> None:
        from reparam.environments.make import title_of
        from reparam.environments.seat import Here, Seat, Workers

        if count < 1 or (limit is not None and limit < 1):
            raise BadInputError(f"{count} copies of an environment with limit={limit} were asked for: both are 1 or more")
        self.title, self.count, self.seed, self.stream, self._episodes = title_of(name), count, seed, stream, episodes
        seats = [partial(Seat, name, limit, render, copy) for copy in range(count)]
        self._seats: Here | Workers = Workers(seats) if workers else Here(seats)
        try:
            abouts = self._seats.each([("about", ())] * count)
            if any(spaces != abouts[0][0] for spaces, _ in abouts):
                raise BadInputError(f"the copies of {self.title} have different spaces: let it make the same environment each time")
        except BadInputError:
            self._seats.close()
            raise
        self.spaces: Spaces
        self.limit: int | None
        self.spaces, self.limit = abouts[0]
        self.renders, self._closed = render, False
        self._arrival: Arrival | None = None
        self._dtype = np.float32 if self.spaces.values == "real" else np.uint8
        self._episode = [-1] * count
        self._over = [True] * count
        self._digest = [0] * count
        self._actions: list[list[np.ndarray]] = [[] for _ in range(count)]

    @property
    def arrival(self) -> Arrival:
        """The last one."""
        if self._arrival is None:
            raise BadInputError(f"no episode of {self.title} has begun: call start first")
        return self._arrival

    @property
    def numbers(self) -> list[int]:
        """For each copy, which episode of the stream it is in: e + k count."""
        return [copy + k * self.count for copy, k in enumerate(self._episode)]

    def start(self) -> Arrival:
        """Begin the first episode of each copy."""
        self._episode, self._over, self._arrival = [-1] * self.count, [True] * self.count, None
        return self.step(torch.zeros(self.count, *self.spaces.action, dtype=_dtype(self.spaces)))

    def step(self, action: Tensor) -> Arrival:
        """Do an action in each copy, E + action, in the agent's units; begin an episode where the one before has ended.

        Raises:
            BadInputError: for actions of another shape or that are not finite, and for whatever the environment does wrong.
        """
        if self._closed:
            raise BadInputError(f"{self.title} was closed: make Copies anew")
        if action.shape[:1] != (self.count,):
            raise BadInputError(f"an agent gave {tuple(action.shape)} for actions of {self.count} copies: a row for each is wanted")
        action = action.detach().cpu()
        done = self.spaces.to_environment(action)
        calls: list[tuple[str, tuple[Any, ...]] | None] = []
        for copy in range(self.count):
            if not self._over[copy]:
                calls.append(("step", (done[copy],)))
            elif self._episodes is not None and self._number(copy, 1) >= self._episodes:
                calls.append(None)
            else:
                calls.append(("begin", (self._episode[copy] + 1, stream_seed(self.seed, self.stream, self._number(copy, 1)))))
        return self._took(calls, self._seats.each(calls), action)

    def _number(self, copy: int, ahead: int = 0) -> int:
        return copy + (self._episode[copy] + ahead) * self.count

    def _took(self, calls: list[tuple[str, tuple[Any, ...]] | None], answers: list[Any], action: Tensor) -> Arrival:
        observation = np.zeros((self.count, *self.spaces.observation), dtype=self._dtype)
        reward = np.zeros(self.count, dtype=np.float32)
        first, terminated, truncated = np.zeros((3, self.count), dtype=np.bool_)
        led = action.numpy().astype(np.float32 if self.spaces.kind == "continuous" else np.int64)
        for copy, (call, seen) in enumerate(zip(calls, answers, strict=True)):
            if call is None:
                if self._arrival is not None:
                    observation[copy] = self._arrival.observation[copy].numpy()
                led[copy] = 0
                continue
            observation[copy], reward[copy], terminated[copy], truncated[copy], self._digest[copy] = seen
            self._over[copy] = seen.terminated or seen.truncated
            if call[0] == "begin":
                first[copy] = True
                led[copy] = 0
                self._episode[copy] += 1
                self._actions[copy] = []
            else:
                self._actions[copy].append(led[copy])
        shown = torch.from_numpy(observation)
        self._arrival = Arrival(
            shown if self._dtype is np.float32 else shown.float(),
            torch.from_numpy(led),
            torch.from_numpy(reward),
            torch.from_numpy(first),
            torch.from_numpy(terminated),
            torch.from_numpy(truncated),
        )
        return self._arrival

    def leave(self, copy: int) -> None:
        """Leave the episode of a copy where it is: its next step begins another."""
        self._over[copy] = True

    def frames(self) -> list[np.ndarray]:
        """A picture of each copy as it is now, height x width x 3."""
        return self._seats.each([("frame", ())] * self.count)

    def close(self) -> None:
        """Give back what the environments hold; nothing can be asked after that but the state."""
        self._closed = True
        self._seats.close()

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """What `restore` needs: the episode that each copy is in, and what it did there; JSON, and tensors."""
        kept = [[] if over else actions for over, actions in zip(self._over, self._actions, strict=True)]
        facts = {
            "stream": [self.title, self.count, self.seed, self.stream],
            "episodes": list(self._episode),
            "over": list(self._over),
            "steps": [len(actions) for actions in kept],
            "digests": list(self._digest),
        }
        if self._arrival is None:
            return facts, {}
        rows = [action for actions in kept for action in actions]
        did = torch.from_numpy(np.stack(rows)) if rows else self._arrival.action[:0]
        return facts, {"actions": did, **self._arrival._asdict()}

    def restore(self, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Bring the copies to where `state` was told: the same seeds, the same actions.

        What the environment then shows is compared with what it showed. One that does not repeat draws a warning, and the
        episodes that cannot be continued are left: the next step begins others.

        Raises:
            BadInputError: for the state of other copies than these.
        """
        own = [self.title, self.count, self.seed, self.stream]
        if list(facts["stream"]) != own:
            raise BadInputError(
                f"the state is of (environment, copies, seed, stream) {facts['stream']}, and these copies are {own}"
            )
        self._episode, self._over, self._digest = list(facts["episodes"]), list(facts["over"]), list(facts["digests"])
        self._arrival, self._actions = None, [[] for _ in range(self.count)]
        if not tensors:
            return
        self._arrival = Arrival(**{name: tensors[name].clone() for name in Arrival._fields})
        for copy, actions in enumerate(tensors["actions"].split(list(facts["steps"]))):
            self._actions[copy] = list(actions.numpy().copy())
        self._again()

    def _again(self) -> None:
        calls: list[tuple[str, tuple[Any, ...]] | None] = []
        for copy, actions in enumerate(self._actions):
            seed = stream_seed(self.seed, self.stream, self._number(copy))
            done = list(self.spaces.to_environment(torch.from_numpy(np.stack(actions)))) if actions else []
            calls.append(None if self._over[copy] else ("again", (self._episode[copy], seed, done)))
        answers = self._seats.each(calls)
        odd = [copy for copy, seen in enumerate(answers) if seen is not None and seen.digest != self._digest[copy]]
        if not odd:
            return
        from reparam.environments.make import EnvironmentWarning

        first = odd[0]
        warnings.warn(
            f"{self.title} does not repeat: after the same seed and the same {len(self._actions[first])} actions, episode "
            f"{self._episode[first]} of copy {first} shows something else than before. {len(odd)} of {self.count} copies begin a "
            "new episode, and the run is not the one that never stopped: let all that is random in it come from the seed of reset",
            EnvironmentWarning,
            stacklevel=3,
        )
        for copy in odd:
            self.leave(copy)


def _dtype(spaces: Spaces) -> torch.dtype:
    return torch.float32 if spaces.kind == "continuous" else torch.int64
