"""A world model in an environment: how it acts, what it makes of what arrives, and what its actor and its critic learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from reparam.environments.copies import Arrival
from reparam.errors import BadInputError
from reparam.models.world_sequences import Sequences, hide
from reparam.nn.behaviour import Behaviour, Lesson
from reparam.nn.running import RunningNormal
from reparam.nn.state_space import State
from reparam.noise import Source
from reparam.paths import sample

if TYPE_CHECKING:
    from reparam.models.world import World

__all__ = ["act", "lesson", "see"]


@torch.no_grad()
def act(
    world: World, observation: Tensor, carry: tuple[Tensor, ...] | None, first: Tensor, source: Source | None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Actions for E observations, and what to remember: the states, and the actions, encoded."""
    if world.behaviour is None:
        raise BadInputError("this world was learned from recorded sequences: it has no actor (train it in an environment)")
    space = world.space
    if carry is None:
        carry = (*space.start(len(first)), space.origin.expand(len(first), world.actions.width))
    h, z, action = (hide(part, first) for part in carry)
    h = space.advance(State(h, z), action)
    q = space.posterior(h, world.embed(observation.to(space.origin.dtype)[:, None])[:, 0])
    z = space.stochastic.code(q) if source is None else sample(q, source=source)
    chosen = world.behaviour.act(space.join(State(h, z)), source)
    return chosen, (h, z, world.actions(chosen))


def see(world: World, arrival: Arrival) -> None:
    """Take what arrives in training into the scales of data and rewards."""
    device = world.steps.device
    x, reward = arrival.observation.to(device), arrival.reward[~arrival.first][:, None].to(device)
    seen: dict[str, tuple[Tensor, nn.Module]] = {"reward": (reward, cast(nn.Module, world.reward_likelihood))}
    if "observation" in world.scales:
        seen["observation"] = (x.movedim(-3, -1) if len(world.shape) == 3 else x.flatten(-len(world.shape)), world.likelihood)
    for name, (value, likelihood) in seen.items():
        running = cast(RunningNormal, world.scales[name])
        running.update(value)
        for statistic in ("shift", "scale"):
            known = likelihood.get_buffer(statistic)
            known.copy_(getattr(running, statistic).reshape(known.shape))


def lesson(world: World, behaviour: Behaviour, state: State, s: Sequences, source: Source | None) -> Lesson:
    """The losses of the actor and the critic, from all states that something follows on."""
    goes_on = (s.mask & ~s.terminated).repeat(len(state.deterministic) // len(s.mask), 1)
    start = State(*(part.detach()[goes_on] for part in state))
    model = [world.space, cast(nn.Module, world.reward), cast(nn.Module, world.continuation)]
    return behaviour.loss(start, world.space, world.mean_reward, world.goes_on, source, model=model)
