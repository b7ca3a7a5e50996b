"""An agent and the environment that it learns in, as a stream of batches."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from reparam.environments.copies import Arrival, Copies
from reparam.environments.episodes import play
from reparam.environments.experience import Replay, Rollout
from reparam.environments.memory import Memory
from reparam.environments.options import EnvironmentOptions
from reparam.environments.spaces import check_known
from reparam.errors import ArtefactError, BadInputError
from reparam.training import Batch, Training
from reparam.training.config import each, pick, rows_of
from reparam.training.randomness import data_order, source_of, stream_seed

__all__ = ["Interaction"]


class Interaction:
    """What [`fit`][reparam.training.fit] takes in place of data: the model acts, remembers, and learns from what it remembers.

    All that it draws, from the first state of an episode to the rows of a batch, is a function of the seed and of how much of its
    kind was drawn before: a run that was stopped goes on in the same bits, in an environment that repeats when it is given the same
    seed and actions.

    Args:
        agent: the model; its `learns_from` says what of.
        options: the environment, and how much of it there is.
        training: whose seed and batch size count here.

    Raises:
        BadInputError: for an environment that cannot be used, or with other spaces than the agent's.

    Example:
        >>> from reparam.environments.options import EnvironmentOptions
        >>> from reparam.environments.spaces import Spaces
        >>> from reparam.models.sac import SAC, Config
        >>> options = EnvironmentOptions(environment="Pendulum-v1", epoch_steps=100)
        >>> agent = SAC.for_environment(Config(hidden=(16,), random_steps=10), options.spaces())
        >>> with Interaction(agent, options, Training(batch_size=4)) as stream:
        ...     observation, action, *_ = stream.batch(agent, epoch=0, number=0)
        >>> stream.batches, observation.shape, action.shape
        (100, torch.Size([4, 3]), torch.Size([4, 1]))
    """

    def __init__(self, agent: Any, options: EnvironmentOptions, training: Training) -> None:
        self._options, self._training = options, training
        self._plan: Replay | Rollout = agent.learns_from
        self._copies = Copies(
            options.environment, options.copies, training.seed, limit=options.episode_limit, workers=options.workers
        )
        spaces = self._copies.spaces
        try:
            check_known(options.environment, spaces, agent.spaces)
        except BadInputError:
            self.close()
            raise
        plan, count = self._plan, options.copies
        if isinstance(plan, Rollout) and training.noise != "fresh":
            self.close()
            raise BadInputError(f"noise is {training.noise}, of draws in a loss, and this agent's draws nothing: leave it out")
        if isinstance(plan, Replay):
            self.batches = max(1, round(options.epoch_steps * plan.updates))
            capacity = options.memory
        else:
            self._minibatches = max(1, plan.steps * count // training.batch_size)
            self.batches = plan.an_epoch(options.epoch_steps, count) * plan.passes * self._minibatches
            capacity = (plan.steps + 1) * count
        self._memory = Memory(capacity, count, spaces)
        self._started = False
        self._carry: tuple[Tensor, ...] | None = None
        self._rollout: Batch = ()
        self._updates = self._acts = 0
        self._running = torch.zeros(count, dtype=torch.float64)  # the returns of the episodes that go on
        self._ended: list[float] = []  # and of those that ended in this epoch

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the environment."""
        self._copies.close()

    def batch(self, model: nn.Module, epoch: int, number: int) -> Batch:
        made = self._replayed(model, self._plan) if isinstance(self._plan, Replay) else self._rolled(model, self._plan)
        self._updates += 1
        device = _device(model)
        return each(lambda tensor: tensor.to(device), made)

    def _replayed(self, model: nn.Module, plan: Replay) -> Batch:
        wanted = max(plan.warm_up, math.ceil((self._updates + 1) / plan.updates), (plan.length or 1) * self._options.copies)
        while self._memory.steps < wanted:
            self._act(model, at_random=self._memory.steps < plan.warm_up)
        generator = torch.Generator().manual_seed(stream_seed(self._training.seed, "replay", self._updates))
        if plan.length is None:
            return self._memory.transitions(self._training.batch_size, generator)
        return self._memory.sequences(self._training.batch_size, plan.length, generator)

    def _rolled(self, model: Any, plan: Rollout) -> Batch:
        turn, number = divmod(self._updates % (plan.passes * self._minibatches), self._minibatches)
        if not turn and not number:
            rows = 0
            while rows < self._minibatches:  # which an environment of shortest episodes, all restarts, may fail to give at once
                for _ in range(plan.steps):
                    self._act(model)
                self._rollout = model.prepare(self._memory.last(plan.steps + 1))
                rows = rows_of(self._rollout)
        order = data_order(self._training.seed, self._updates // self._minibatches, rows_of(self._rollout))
        return pick(self._rollout, order.tensor_split(self._minibatches)[number].to(_tuple(self._rollout)[0].device))

    @torch.no_grad()
    def _act(self, model: Any, *, at_random: bool = False) -> None:
        """One step of all copies."""
        seed, device = self._training.seed, _device(model)
        if not self._started:
            self._see(model, self._copies.start())
            self._started = True
        now = self._copies.arrival
        if at_random:
            generator = torch.Generator().manual_seed(stream_seed(seed, "random actions", self._acts))
            action = self._copies.spaces.random(self._options.copies, generator)
        else:
            source = source_of("fresh", stream_seed(seed, "actions", self._acts), device)
            carry = self._carry and tuple(part.to(device) for part in self._carry)  # of a checkpoint it is on the CPU
            action, self._carry = model.act(now.observation.to(device), carry, now.first.to(device), source)
        self._acts += 1
        self._see(model, self._copies.step(action.cpu()))

    def _see(self, model: Any, arrival: Arrival) -> None:
        if hasattr(model, "see"):
            model.see(arrival)
        self._memory.add(arrival)
        self._running[arrival.first] = 0.0  # also where an episode was given up, of an environment that did not repeat
        self._running += arrival.reward
        if (over := arrival.terminated | arrival.truncated).any():
            self._ended += self._running[over].tolist()
            self._running[over] = 0.0

    def _parts(self) -> dict[str, Copies | Memory]:
        return {"copies": self._copies, "memory": self._memory}

    def where(self) -> str:
        return f"from the first {self._memory.steps} steps in {self._options.environment}"

    def lived(self) -> dict[str, float]:
        mean = sum(self._ended) / len(self._ended) if self._ended else math.nan
        self._ended = []
        return {"return": mean, "steps": float(self._memory.steps)}

    def validate(self, model: Any, names: Sequence[str]) -> dict[str, float]:
        options, seed = self._options, stream_seed(self._training.seed, "validation episodes", 0)
        found = play(
            model,
            options.environment,
            episodes=options.evaluation_episodes,
            seed=seed,
            copies=min(10, options.evaluation_episodes),
            limit=options.episode_limit,
        )
        return {"return": sum(float(episode.reward.sum()) for episode in found) / len(found)}

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        facts: dict[str, Any] = {
            "updates": self._updates,
            "acts": self._acts,
            "ended": self._ended,
            "started": self._started,
        }
        tensors = {"running": self._running}
        for name, part in self._parts().items():
            facts[name], held = part.state()
            tensors |= {f"{name}/{key}": tensor for key, tensor in held.items()}
        lists = {"carry": self._carry or (), "rollout": _tuple(self._rollout)}
        tensors |= {f"{name}/{i}": tensor for name, held in lists.items() for i, tensor in enumerate(held)}
        return facts, tensors

    def restore(self, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        try:
            if (came := len(tensors["running"])) != self._options.copies:
                raise BadInputError(
                    f"the run has {came} {'copy' if came == 1 else 'copies'} of its environment, and copies is "
                    f"{self._options.copies}: give {came}, or --restart"
                )
            self._updates, self._acts, self._ended = facts["updates"], facts["acts"], list(facts["ended"])
            self._running = tensors["running"].clone()
            if facts["started"]:
                for name, part in self._parts().items():
                    part.restore(facts[name], _under(name, tensors))
                self._started = True
            self._carry = tuple(_listed("carry", tensors)) or None
            self._rollout = tuple(_listed("rollout", tensors))
        except (KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
            if isinstance(error, BadInputError):
                raise
            raise ArtefactError(
                f"the last checkpoint has no state of an environment that fits: {error}; restart the run"
            ) from error


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _tuple(batch: Batch) -> tuple[Tensor, ...]:
    return (batch,) if isinstance(batch, Tensor) else batch


def _under(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}/"): tensor for key, tensor in tensors.items() if key.startswith(f"{name}/")}


def _listed(name: str, tensors: Mapping[str, Tensor]) -> list[Tensor]:
    held = _under(name, tensors)
    return [held[str(i)] for i in range(len(held))]
