"""The planes of observations that a policy is drawn over: those of known environments, or of the two numbers that matter most."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from reparam.report.agent import Agent
from reparam.report.plane import Window

__all__ = ["Plane", "plane_of"]

# Observations whose change shows what the policy depends on.
_PROBES = 256


@dataclass(frozen=True)
class Plane:
    """A plane of observations.

    Attributes:
        axes: what its coordinates are called.
        frame: their range.
        observation: from points N x 2 to observations N x D.
        point: from observations to points of the plane.
        words: what holds of the numbers that it leaves out.
    """

    axes: tuple[str, str]
    frame: Window
    observation: Callable[[np.ndarray], Tensor]
    point: Callable[[Tensor], np.ndarray]
    words: str = ""


def plane_of(agent: Agent) -> Plane:
    """The plane for an agent that sees at least two numbers."""
    names = agent.names.observation
    if names[0] == "cos θ" and len(names) == 3:
        return _pendulum()
    if names[0] == "cart's place" and len(names) == 4:
        seen = agent.visited[:, 2:]
        frame = _symmetric(seen.double().numpy())
        return _of_columns(
            2, 3, ("pole's angle", "pole's velocity"), frame, torch.zeros(4), ", with the cart at rest in the middle"
        )
    seen = agent.visited
    values = seen.double().numpy()
    a, b = (0, 1) if len(names) == 2 else _that_matter(agent)
    frame = (*_range(values[:, a]), *_range(values[:, b]))
    words = "" if len(names) == 2 else ", the two numbers that its action depends on most, with the others at their means"
    return _of_columns(a, b, (names[a], names[b]), frame, seen.mean(0), words)


def _pendulum() -> Plane:
    def observation(points: np.ndarray) -> Tensor:
        angle, velocity = torch.from_numpy(points).unbind(-1)
        return torch.stack([angle.cos(), angle.sin(), velocity], -1).float()

    def point(x: Tensor) -> np.ndarray:
        found: np.ndarray = torch.stack([torch.atan2(x[:, 1], x[:, 0]), x[:, 2]], -1).double().numpy()
        return found

    frame = (-math.pi, math.pi, -8.0, 8.0)
    return Plane(("angle (0: upright)", "angular velocity"), frame, observation, point)


def _of_columns(a: int, b: int, axes: tuple[str, str], frame: Window, rest: Tensor, words: str) -> Plane:
    def observation(points: np.ndarray) -> Tensor:
        x = rest.float().repeat(len(points), 1)
        x[:, [a, b]] = torch.from_numpy(points).float()
        return x

    def point(x: Tensor) -> np.ndarray:
        found: np.ndarray = x[:, [a, b]].double().numpy()
        return found

    return Plane(axes, frame, observation, point, words)


def _that_matter(agent: Agent) -> tuple[int, int]:
    """The two numbers whose change by a standard deviation changes what the policy draws most."""
    seen = agent.visited
    probes = seen[torch.linspace(0, len(seen) - 1, min(_PROBES, len(seen))).round().long()]
    deviation = seen.std(0, correction=0)
    before = _means(agent, probes)
    effect = []
    for column in range(seen.shape[1]):
        moved = probes.clone()
        moved[:, column] += deviation[column]
        effect.append(float((_means(agent, moved) - before).abs().mean()) if deviation[column] > 0 else -1.0)
    a, b = sorted(np.argsort(-np.array(effect), kind="stable")[:2].tolist())
    return a, b


def _means(agent: Agent, observation: Tensor) -> Tensor:
    """Of encoded actions, rows + (width,), the same noise each time."""
    encoded: Tensor = agent.spaces.encode(agent.drawn(observation, 16))
    return encoded.double().mean(0)


def _range(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [0.005, 0.995])
    room = 0.08 * (high - low) or 1.0
    return float(low - room), float(high + room)


def _symmetric(values: np.ndarray) -> Window:
    """Around zero, twice as far as an agent that does well comes: what it does in trouble is to be seen too."""
    a, b = (2 * max(float(np.quantile(np.abs(values[:, i]), 0.995)), floor) for i, floor in ((0, 0.05), (1, 0.25)))
    return -a, a, -b, b
