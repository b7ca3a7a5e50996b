"""What an agent learns from: steps that it remembers, or rollouts of the policy that it has."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Replay", "Rollout"]


@dataclass(frozen=True)
class Replay:
    """Batches drawn from all that is remembered.

    Attributes:
        updates: of the model, for each step in the environment.
        warm_up: steps of random actions, before the first update.
        length: None for transitions; of sequences, how many arrivals each has.
    """

    updates: float = 1.0
    warm_up: int = 100
    length: int | None = None


@dataclass(frozen=True)
class Rollout:
    """What the policy as it is has just lived through, in minibatches, and then forgotten.

    Attributes:
        steps: of each copy of the environment, in a rollout.
        passes: over a rollout, before the next one.
    """

    steps: int = 128
    passes: int = 1

    def an_epoch(self, steps: int, copies: int) -> int:
        """How many rollouts make an epoch of about so many steps of all copies together."""
        return max(1, round(steps / (self.steps * copies)))
