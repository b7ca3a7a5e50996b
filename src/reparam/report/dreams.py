"""Whether a world model dreams true: the return that it imagines against the one that comes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from reparam.nn.state_space import State
from reparam.report.agent import Agent
from reparam.report.pieces import Figure, Section
from reparam.report.returns import against

__all__ = ["dreams"]

# Episodes, states of each from which the model dreams, and dreams of each state.
_EPISODES, _EACH, _DREAMS = 20, 12, 8


@torch.no_grad()
def dreams(agent: Agent) -> Section | None:
    """Rewards of as many steps as the actor learned from, imagined and real; None where no episode is that long."""
    horizon = int(agent.model.config.horizon)
    episodes = [episode for episode in agent.episodes[:_EPISODES] if len(episode.reward) > horizon]
    if not episodes:
        return None
    real: list[float] = []
    starts: list[State] = []
    weights = agent.discount ** np.arange(horizon)
    for episode, states in zip(episodes, agent.states_along(episodes), strict=True):
        at = np.unique(np.linspace(0, len(episode.reward) - horizon - 1, _EACH).round().astype(int))
        rewards = episode.reward.double().numpy()
        real += [float(weights @ rewards[t : t + horizon]) for t in at]
        starts.append(State(*(part[torch.from_numpy(at)] for part in states)))
    start = State(*(torch.cat(part) for part in zip(*starts, strict=True)))
    told = _dreamed(agent, start, horizon)
    came, dreamed = np.array(real), (told * torch.from_numpy(weights)).sum(-1).numpy()
    chart, words = against("dreams", "Return of the next steps", came, dreamed, ("that came", "imagined"))
    lead = (
        f"The actor learned from {horizon} imagined steps. If it had found a fault of the model to live on, what it imagines would "
        f"be better than what comes: from {len(came)} states of test episodes, {words}."
    )
    caption = (
        f"Discounted rewards of the next {horizon} steps, real ones across and imagined ones up (the mean of {_DREAMS} dreams)."
    )
    return Section("Dreams and what came", lead, [Figure(caption, [chart])])


def _dreamed(agent: Agent, start: State, horizon: int) -> Tensor:
    """Mean rewards of imagined steps, rows x horizon."""
    model: Any = agent.model
    space, source = model.space, agent.source()
    now = State(*(part.repeat(_DREAMS, *(1,) * (part.dim() - 1)) for part in start))
    rewards = []
    for _ in range(horizon):
        now = space.imagine(now, model.actions(model.behaviour.act(space.join(now))), source)
        rewards.append(model.mean_reward(space.join(now)))
    told: Tensor = torch.stack(rewards, -1).double().unflatten(0, (_DREAMS, -1)).mean(0)
    return told
