"""What the sections of a run in an environment look at: an agent, and episodes that it has played."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from reparam.environments.episodes import Episode
from reparam.nn.state_space import State
from reparam.noise import Fresh, Noise

__all__ = ["Agent", "Names"]

# Draws of the policy whose spread is shown.
_DRAWS = 128


@dataclass(frozen=True)
class _Shared:
    """A source that takes draws for draws * rows, those of the first draw first, as so many draws for one row, alike for all.

    What a policy does at two places then differs by the places alone.
    """

    draws: int
    fresh: Fresh
    independent: ClassVar[bool] = True

    def draw(self, noise: Noise, rows: torch.Size) -> Tensor:
        shape = rows + noise.shape
        if not shape or shape[0] % self.draws:
            return self.fresh.draw(noise, rows)
        each = Noise(noise.kind, torch.Size([self.draws, 1, *shape[1:]]), noise.dtype, noise.device)
        drawn = self.fresh.draw(each, torch.Size())
        return drawn.expand(self.draws, shape[0] // self.draws, *shape[1:]).reshape(shape)


@dataclass(frozen=True)
class Names:
    """What the numbers of an environment are called.

    Attributes:
        observation: each of an observation, in order; none where they are pictures or many.
        action: each number of an action, or each choice of a single one.
    """

    observation: tuple[str, ...]
    action: tuple[str, ...]


# gymnasium does not say what its numbers are; these are from its documentation.
_KNOWN = {
    "Pendulum": Names(("cos θ", "sin θ", "angular velocity"), ("torque",)),
    "CartPole": Names(("cart's place", "cart's velocity", "pole's angle", "pole's velocity"), ("push left", "push right")),
    "MountainCar": Names(("place", "velocity"), ("left", "none", "right")),
    "MountainCarContinuous": Names(("place", "velocity"), ("force",)),
    "Acrobot": Names(("cos θ₁", "sin θ₁", "cos θ₂", "sin θ₂", "velocity 1", "velocity 2"), ("torque −1", "none", "torque +1")),
    "LunarLander": Names(
        ("x", "y", "velocity x", "velocity y", "angle", "angular velocity", "left leg", "right leg"),
        ("none", "left engine", "main engine", "right engine"),
    ),
}


@dataclass(frozen=True)
class Agent:
    """What the sections look at.

    Attributes:
        model: in evaluation mode; it acts.
        title: what the environment is called.
        episodes: of the test, in which it took the likeliest actions.
        shown: the first of them, with pictures where the environment draws any.
    """

    model: Any
    title: str
    episodes: Sequence[Episode]
    shown: Episode

    @property
    def spaces(self) -> Any:
        return self.model.spaces

    @cached_property
    def names(self) -> Names:
        """What the numbers are called: their own names where they are known, or else their places."""
        spaces, known = self.spaces, _KNOWN.get(self.title.rpartition("/")[2].split("-v")[0])
        seen = int(np.prod(spaces.observation)) if len(spaces.observation) == 1 else 0
        done = spaces.choices[0] if len(spaces.choices) == 1 else len(spaces.choices) or spaces.action[0]
        if known and len(known.observation) == seen and len(known.action) == done:
            return known
        kind = "choice" if spaces.choices else "action"
        actions = (
            (kind,) if done == 1 else tuple(f"{kind} {i}" for i in range(0 if len(spaces.choices) == 1 else 1, done + 1))[:done]
        )
        return Names(tuple(f"observation {i + 1}" for i in range(seen)), actions)

    @property
    def discount(self) -> float:
        return float(getattr(self.model.config, "discount", 1.0))

    @cached_property
    def visited(self) -> Tensor:
        """All observations of the test episodes, rows + shape."""
        return torch.cat([episode.observation for episode in self.episodes])

    def source(self) -> Fresh:
        """Noise that is the same each time, so that one section more or fewer changes no other."""
        return Fresh(torch.Generator().manual_seed(0))

    def in_units(self, action: Tensor) -> np.ndarray:
        """Actions in the environment's units, of numbers; choices as they are."""
        if self.spaces.choices:
            return action.numpy()
        found: np.ndarray = self.spaces.to_environment(action)
        return found

    @torch.no_grad()
    def mode(self, observation: Tensor) -> Tensor:
        """The likeliest action for each row, as if an episode began there."""
        action, _ = self.model.act(observation, None, torch.ones(len(observation), dtype=torch.bool), None)
        return torch.as_tensor(action)

    @torch.no_grad()
    def drawn(self, observation: Tensor, draws: int = _DRAWS) -> Tensor:
        """Actions drawn from the policy, draws x rows + action, as if an episode began in each row."""
        rows = observation.repeat(draws, *(1,) * (observation.dim() - 1))
        action, _ = self.model.act(rows, None, torch.ones(len(rows), dtype=torch.bool), _Shared(draws, self.source()))
        made: Tensor = action.unflatten(0, (draws, len(observation)))
        return made

    @torch.no_grad()
    def drawn_along(self, episode: Episode, draws: int = _DRAWS) -> Tensor:
        """Actions drawn from the policy at each step of an episode, draws x T + action, given what came before."""
        observation = episode.observation[:-1]
        first = torch.zeros(1, dtype=torch.bool)
        _, carry = self.model.act(observation[:1], None, ~first, None)
        if carry is None:  # an agent without memory: all steps at once
            return self.drawn(observation, draws)
        carry, made = None, []
        for t in range(len(observation)):
            seen = observation[t : t + 1]
            many: Any = None if carry is None else tuple(part.repeat(draws, *(1,) * (part.dim() - 1)) for part in carry)
            begins = (first if t else ~first).expand(draws)
            made.append(self.model.act(seen.expand(draws, *seen.shape[1:]), many, begins, self.source())[0])
            _, carry = self.model.act(seen, carry, first if t else ~first, None)
        return torch.stack(made, 1)

    @torch.no_grad()
    def probabilities(self, observation: Tensor, drawn: Tensor) -> np.ndarray:
        """Of each category of a single choice, rows x categories: by the policy's law, or as shares of draws x rows."""
        kinds = self.spaces.choices[0]
        if hasattr(self.model, "law"):
            law = self.model.law(observation)
            told: np.ndarray = getattr(law, "base_dist", law).probs.double().reshape(len(observation), -1).numpy()
            return told
        counted: np.ndarray = (drawn.reshape(*drawn.shape[:2], 1) == torch.arange(kinds)).double().mean(0).numpy()
        return counted

    @torch.no_grad()
    def values(self, observation: Tensor) -> Tensor | None:
        """What the model expects to earn from each row on, as if an episode began there; None where it cannot tell."""
        if hasattr(self.model, "values"):
            found: Tensor | None = self.model.values(observation)
            return found
        if getattr(self.model, "behaviour", None) is None:
            return None
        _, carry = self.model.act(observation, None, torch.ones(len(observation), dtype=torch.bool), None)
        worth: Tensor = self.model.behaviour.value(self.model.space.join(State(*carry[:2])))
        return worth

    @torch.no_grad()
    def values_along(self, episodes: Sequence[Episode]) -> list[Tensor] | None:
        """The same at each step of episodes, T each, given what came before it."""
        if getattr(self.model, "behaviour", None) is None:
            found = self.values(torch.cat([episode.observation[:-1] for episode in episodes]))
            return None if found is None else list(found.split([len(episode.reward) for episode in episodes]))
        states = self.states_along(episodes)
        return [self.model.behaviour.value(self.model.space.join(state)) for state in states]

    @torch.no_grad()
    def states_along(self, episodes: Sequence[Episode]) -> list[State]:
        """The states of a world model at each step of episodes, T + ... each, as it has them when it acts."""
        longest = max(len(episode.reward) for episode in episodes)
        carry, made = None, []
        for t in range(longest):
            # An episode that is over stands still: what is made of it then is cut off.
            seen = torch.stack([episode.observation[min(t, len(episode.reward) - 1)] for episode in episodes])
            _, carry = self.model.act(seen, carry, torch.full((len(episodes),), t == 0), None)
            made.append(carry[:2])
        deterministic, stochastic = (torch.stack(part, 1) for part in zip(*made, strict=True))
        lengths = [len(episode.reward) for episode in episodes]
        return [State(deterministic[i, :n], stochastic[i, :n]) for i, n in enumerate(lengths)]

    def to_go(self, episode: Episode) -> np.ndarray:
        """The discounted return from each step of an episode on, T."""
        rewards = episode.reward.double().numpy()
        found, after = np.zeros(len(rewards)), 0.0
        for t in range(len(rewards) - 1, -1, -1):
            after = found[t] = rewards[t] + self.discount * after
        return found
