"""Whole episodes of an agent, always the same ones, and what they were worth."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from reparam.environments.copies import Copies
from reparam.environments.spaces import Spaces, check_known
from reparam.errors import BadInputError
from reparam.noise import Fresh, Noise, Source
from reparam.training.randomness import stream_seed

__all__ = ["Agent", "Episode", "Returns", "play"]

PATIENCE = 10_000  # steps, of an episode that nothing else ends


class Agent(Protocol):
    """Whatever acts."""

    spaces: Spaces

    def act(self, observation: Tensor, carry: Any, first: Tensor, source: Source | None) -> tuple[Tensor, Any]:
        """Actions for E observations, in the agent's units.

        Args:
            observation: E + observation.
            carry: what the agent remembers of its copies, a tuple of tensors of E rows; None before the first call.
            first: E, bool: where an episode begins and what was remembered does not count.
            source: None for the most likely action; otherwise the noise that it is drawn from.

        Returns:
            The actions, E + action, and what to remember.
        """
        ...


@dataclass(frozen=True)
class Episode:
    """An episode of T steps.

    Attributes:
        observation: (T + 1) + observation.
        action: T + action, in the agent's units: `action[t]` was done at `observation[t]`.
        reward: T, got for it.
        terminated: it came to its end; otherwise it was cut short.
        frames: pictures of each observation, if they were asked for.
    """

    observation: Tensor
    action: Tensor
    reward: Tensor
    terminated: bool
    frames: list[np.ndarray] | None = None


class _Own:
    """Noise that is each row's own: that of an episode depends on its seed only, and not on what is played beside it.

    A draw of another number of rows than there are copies comes from the first row's noise.
    """

    independent: ClassVar[bool] = True

    def __init__(self, rows: int) -> None:
        self._each = [torch.Generator() for _ in range(rows)]

    def begin(self, row: int, seed: int) -> None:
        self._each[row].manual_seed(seed)

    def draw(self, noise: Noise, rows: torch.Size) -> Tensor:
        shape = rows + noise.shape
        if not shape or shape[0] != len(self._each):
            return Fresh(self._each[0]).draw(_on_cpu(noise, shape), torch.Size()).to(noise.device)
        one = _on_cpu(noise, shape[1:])
        return torch.stack([Fresh(generator).draw(one, torch.Size()) for generator in self._each]).to(noise.device)


def _on_cpu(noise: Noise, shape: torch.Size) -> Noise:
    return Noise(noise.kind, shape, noise.dtype)


@torch.no_grad()
def play(
    agent: Agent,
    name: str | Callable[..., Any],
    *,
    episodes: int = 10,
    seed: int = 0,
    copies: int = 10,
    noise: bool = False,
    limit: int | None = None,
    render: bool = False,
) -> list[Episode]:
    """Let an agent play the first `episodes` of the stream "evaluation" of a seed.

    Episode i starts from the same state and its actions are drawn from the same noise, whatever `copies` is: it is the same
    episode as far as the agent's arithmetic does not depend on how many rows it has at once (matrix products round
    differently), and as its noise has a row for each copy.

    An environment whose episodes nothing ends, with no limit of its own and none given, is cut short after 10 000 steps, with a
    warning.

    Args:
        agent: a module is taken as it is: put it into evaluation mode before.
        name: of the environment, as `Copies` takes it.
        episodes: how many.
        seed: of their starts and of the noise.
        copies: at most so many side by side.
        noise: actions are drawn from the policy; otherwise they are the most likely ones.
        limit: steps after which an episode is cut short, in place of gymnasium's.
        render: keep a picture of each step: about a megabyte each.

    Raises:
        BadInputError: when the environment cannot be had or fails, or has other spaces than the agent.
    """
    if episodes < 1 or copies < 1:
        raise BadInputError(f"{episodes} episodes in {copies} copies of an environment were asked for: both are 1 or more")
    side = Copies(name, min(copies, episodes), seed, stream="evaluation", limit=limit, render=render, episodes=episodes)
    try:
        check_known(side.title, side.spaces, agent.spaces)
        return _played(agent, side, episodes, _Own(side.count) if noise else None)
    finally:
        side.close()


def _played(agent: Agent, side: Copies, episodes: int, source: _Own | None) -> list[Episode]:
    device = next((p.device for p in agent.parameters()), None) if isinstance(agent, torch.nn.Module) else None
    done: dict[int, Episode] = {}
    lived: list[_Life] = [_Life() for _ in range(side.count)]
    arrival, carry = side.start(), None
    while True:
        frames = side.frames() if side.renders else [None] * side.count
        for copy, number in enumerate(side.numbers):
            if number in done:  # it rests, or its next episode begins with the next step
                continue
            if arrival.first[copy]:
                lived[copy] = _Life()
                if source is not None:
                    source.begin(copy, stream_seed(side.seed, "evaluation noise", number))
            life = lived[copy]
            life.add(arrival.observation[copy], arrival.action[copy], arrival.reward[copy], frames[copy])
            terminated = bool(arrival.terminated[copy])
            over = terminated or bool(arrival.truncated[copy])
            if not over and side.limit is None and len(life.reward) > PATIENCE:
                warnings.warn(
                    f"{side.title} has no limit, and episode {number} was cut short after {PATIENCE} steps (--episode_limit)",
                    RuntimeWarning,
                    stacklevel=4,
                )
                side.leave(copy)
                over = True
            if over:
                done[number] = life.episode(terminated)
        if len(done) == episodes:
            return [done[number] for number in range(episodes)]
        acted = agent.act(arrival.observation.to(device), carry, arrival.first.to(device), source)
        if not isinstance(acted, tuple) or len(acted) != 2:
            raise BadInputError(f"the agent's act returned a {type(acted).__name__}: the actions and what to remember are wanted")
        action, carry = acted
        arrival = side.step(action.cpu())


class _Life:
    def __init__(self) -> None:
        self.observation: list[Tensor] = []
        self.action: list[Tensor] = []
        self.reward: list[Tensor] = []
        self.frames: list[np.ndarray] = []

    def add(self, observation: Tensor, action: Tensor, reward: Tensor, frame: np.ndarray | None) -> None:
        self.observation.append(observation)
        self.action.append(action)
        self.reward.append(reward)
        if frame is not None:
            self.frames.append(frame)

    def episode(self, terminated: bool) -> Episode:
        # The first arrival of an episode is where it begins: no action has led there.
        action, reward = torch.stack(self.action)[1:], torch.stack(self.reward)[1:]
        return Episode(torch.stack(self.observation), action, reward, terminated, self.frames or None)


@dataclass(frozen=True)
class Returns:
    """What an agent got in whole episodes: the return of one is the sum of its rewards.

    Attributes:
        rows: episodes.
        mean: of their returns.
        error: its standard error, over episodes; None for a single one.
        lowest, highest: of the returns.
        length: steps of an episode, on average.
        terminated: the share of episodes that came to an end of their own; the others were cut short.
    """

    rows: int
    mean: float
    error: float | None
    lowest: float
    highest: float
    length: float
    terminated: float

    @classmethod
    def of(cls, episodes: Sequence[Episode]) -> Self:
        """Of at least one episode.

        Example:
            >>> import torch
            >>> from reparam.environments.episodes import Episode, Returns
            >>> steps = torch.zeros(3, 1), torch.zeros(2, dtype=torch.long)
            >>> found = Returns.of([Episode(*steps, torch.tensor([1.0, each]), terminated=True) for each in (2.0, 4.0)])
            >>> for line in found.lines():
            ...     print(line)
              return  4.0 ± 1.0  over 2 episodes (worst 3.0, best 5.0)
              length  2 steps    100% came to an end of their own
        """
        if not episodes:
            raise BadInputError("no episodes were given: play at least one")
        sums = [float(episode.reward.double().sum()) for episode in episodes]
        n, mean = len(sums), sum(sums) / len(sums)
        error = math.sqrt(sum((each - mean) ** 2 for each in sums) / (n - 1) / n) if n > 1 else None
        length = sum(len(episode.reward) for episode in episodes) / n
        return cls(n, mean, error, min(sums), max(sums), length, sum(episode.terminated for episode in episodes) / n)

    def lines(self) -> list[str]:
        """For people, at a terminal."""
        value, length = f"{self._told(self.mean)}{self._error()}", f"{self.length:.4g} steps"
        wide = max(len(value), len(length))
        among = f" (worst {self._told(self.lowest)}, best {self._told(self.highest)})" if self.rows > 1 else ""
        return [
            f"  return  {value:{wide}}  over {self.rows} episode{'s' * (self.rows > 1)}{among}",
            f"  length  {length:{wide}}  {self.terminated:.0%} came to an end of their own",
        ]

    def tiles(self) -> list[tuple[str, str, str]]:
        """The headline numbers of a report: name, value, remark."""
        episodes = f"{self.rows} episodes" if self.rows > 1 else "one episode"
        among = f"{self._told(self.lowest)} to {self._told(self.highest)}"
        return [
            ("return", self._told(self.mean).replace("-", "−"), f"{self._error().lstrip()}, {episodes}".lstrip(", ")),
            ("worst and best", among.replace("-", "−"), "returns of an episode"),
            ("length", f"{self.length:.4g}", f"steps; {self.terminated:.0%} came to an end of their own"),
        ]

    def _error(self) -> str:
        return "" if self.error is None else f" ± {self._told(self.error)}"

    def _told(self, value: float) -> str:
        # As many digits as the error leaves meaning in, two of its own; where there is none, four digits of the mean.
        digits, scale = (2, self.error) if self.error else (4, abs(self.mean))
        places = min(max(digits - 1 - math.floor(math.log10(scale)), 0), 9) if scale else 1
        return f"{round(value, places) + 0.0:.{places}f}"  # a small negative number is 0, and not -0
