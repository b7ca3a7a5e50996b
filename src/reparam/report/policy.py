"""A policy as a picture: what it does, how sure it is, and what it expects, over a plane of observations."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from reparam.report.agent import Agent
from reparam.report.chart import SERIES, Chart
from reparam.report.maps import Map, Scale, around, rising
from reparam.report.pieces import Figure, Section
from reparam.report.plane import lattice
from reparam.report.planes import plane_of

__all__ = ["policy"]

# Cells of a side, draws in each, visited states that are shown, and numbers of an observation up to which there is a picture.
_SIDE, _DRAWS, _VISITED, _NUMBERS = 41, 64, 600, 32


def policy(agent: Agent) -> Section | None:
    """Maps of the action, of its spread, and of the values; None where observations are pictures or too many numbers."""
    shape = agent.spaces.observation
    if len(shape) != 1 or not 1 <= shape[0] <= _NUMBERS:
        return None
    if shape[0] == 1:
        return _line(agent)
    plane = plane_of(agent)
    observation = plane.observation(lattice(plane.frame, _SIDE))
    some = agent.visited[:: max(1, math.ceil(len(agent.visited) / _VISITED))]
    maps = Map(plane.axes, plane.frame, plane.point(some))
    pictures, caption = _actions(agent, observation, maps)
    if (values := agent.values(observation)) is not None:
        shown = _square(values.double().numpy())
        pictures.append(maps.draw("values", "Expected return", shown, rising(shown)))
        caption += "; and the discounted return that its values expect"
    lead = f"What it does at each {plane.axes[0]} and {plane.axes[1]}{plane.words}. Dots are states of the test episodes."
    return Section("The policy", lead, [Figure(f"{caption}.", pictures, wide=len(pictures) > 1)])


def _actions(agent: Agent, observation: Tensor, maps: Map) -> tuple[list[str], str]:
    """Maps of what it does, and what they are."""
    spaces, names = agent.spaces, agent.names.action
    drawn = agent.drawn(observation, _DRAWS)
    if not spaces.choices:
        mode, spread = agent.in_units(agent.mode(observation)), agent.in_units(drawn).std(0)
        made = []
        for place in range(min(2, mode.shape[1])):
            bound = max(abs(spaces.low[place]), abs(spaces.high[place]))
            shown = _square(mode[:, place])
            made.append(maps.draw(f"action-{place}", names[place].capitalize(), shown, around(bound)))
        if mode.shape[1] == 1:
            shown = _square(spread[:, 0])
            made.append(maps.draw("spread", f"Spread of the {names[0]}", shown, rising(shown, low=0.0)))
            return made, f"The likeliest {names[0]}, and the standard deviation of what its policy draws there"
        return made, "The likeliest action" + ("" if mode.shape[1] == 2 else ", of its first two numbers")
    if len(spaces.choices) > 1:
        mode = agent.mode(observation).double().numpy()[:, :2]
        squares = [_square(column) for column in mode.T]
        made = [maps.draw(f"action-{i}", names[i].capitalize(), one, rising(one)) for i, one in enumerate(squares)]
        return made, "The likeliest of each of its first two choices"
    shares = agent.probabilities(observation, drawn)
    if spaces.choices[0] == 2:
        title = f"Probability of “{names[1]}”"
        return [maps.draw("probability", title, _square(shares[:, 1]), around(1.0, centre=0.5))], "What it does, and how sure it is"
    likeliest, sure = _square(shares.argmax(1)), _square(shares.max(1))
    made = [
        maps.kinds("choices", "Likeliest choice", likeliest, names),
        maps.draw("sure", "Its probability", sure, Scale(0.0, 1.0)),
    ]
    return made, "What it does most likely, and how likely"


def _square(values: np.ndarray) -> np.ndarray:
    return np.asarray(values).reshape(_SIDE, _SIDE)


def _line(agent: Agent) -> Section:
    """The same over the one number that the agent sees."""
    name, values = agent.names.observation[0], agent.visited[:, 0].double().numpy()
    low, high = float(values.min()), float(values.max())
    at = np.linspace(low, high if high > low else low + 1.0, _SIDE)
    drawn = agent.drawn(torch.from_numpy(at).float()[:, None], _DRAWS)
    if len(agent.spaces.choices) == 1:
        lines = agent.probabilities(torch.from_numpy(at).float()[:, None], drawn)
        title, bands = "Probability of each choice", None
    else:
        flat = torch.as_tensor(agent.in_units(drawn)).double().flatten(2)
        lines, title = flat.mean(0).numpy(), "Mean action"
        bands = (flat.quantile(0.16, 0).numpy(), flat.quantile(0.84, 0).numpy())
    names = agent.names.action[: min(len(SERIES), lines.shape[1])]
    ends = ", ".join(f"{kind} {lines[0, i]:.3g} to {lines[-1, i]:.3g}" for i, kind in enumerate(names))
    chart = Chart("policy", f"{title} by {name}, from its least to its most: {ends}", width=4.2, height=2.6)
    with chart as axis:
        for i, colour in zip(range(len(names)), SERIES, strict=False):
            if bands is not None:
                axis.fill_between(at, bands[0][:, i], bands[1][:, i], color=colour, alpha=0.22, linewidth=0)
            axis.plot(at, lines[:, i], color=colour)
        axis.set_title(title)
        axis.set_xlabel(name, parse_math=False)
    band = "" if bands is None else " The band holds the middle two thirds of what it draws."
    return Section("The policy", f"What it does at each {name}.{band}", [Figure("", [chart.svg], names)])
