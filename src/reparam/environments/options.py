"""What a person sets about the environment that an agent learns in."""

from __future__ import annotations

from dataclasses import dataclass

from reparam.environments.spaces import Spaces
from reparam.errors import BadInputError

__all__ = ["EnvironmentOptions"]


@dataclass(frozen=True)
class EnvironmentOptions:
    """The environment.

    Attributes:
        environment: an id that gymnasium knows, such as Pendulum-v1, or MODULE:FUNCTION of your own, which takes nothing (or
            render_mode, for pictures) and returns a gymnasium.Env.
        copies: of it, side by side.
        workers: a process for each copy, which pays where a step takes a millisecond or more.
        epoch_steps: steps in it, of all copies together, that make an epoch.
        evaluation_episodes: after each epoch, by which the best is picked.
        test_episodes: in the evaluation at the end of training; others than those.
        episode_limit: steps after which an episode is cut short, in place of the limit that gymnasium has for that id.
        memory: steps that are remembered, of models that learn from what they remember.

    Raises:
        BadInputError: for a value out of range, naming the field.
    """

    environment: str = "Pendulum-v1"
    copies: int = 1
    workers: bool = False
    epoch_steps: int = 1000
    evaluation_episodes: int = 10
    test_episodes: int = 100
    episode_limit: int | None = None
    memory: int = 1_000_000

    def __post_init__(self) -> None:
        if not self.environment:
            raise BadInputError("environment is '': give a gymnasium id, such as Pendulum-v1, or MODULE:FUNCTION")
        for name in ("copies", "epoch_steps", "evaluation_episodes", "test_episodes", "episode_limit", "memory"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise BadInputError(f"{name} is {value!r}: give at least 1")

    def spaces(self) -> Spaces:
        """What an agent sees in it and can do.

        Raises:
            BadInputError: when it cannot be made.
        """
        from reparam.environments.copies import Copies

        copies = Copies(self.environment, 1, seed=0, limit=self.episode_limit)
        try:
            return copies.spaces
        finally:
            copies.close()
