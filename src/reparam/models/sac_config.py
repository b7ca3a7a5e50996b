"""What a soft actor-critic is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from reparam.errors import BadInputError
from reparam.nn.network import ACTIVATIONS

__all__ = ["ActorEstimator", "Config"]

ActorEstimator = Literal["pathwise", "score", "score_learned", "leave_one_out", "measure_valued", "quadrature"]

# Nodes of a quadrature for each number of an action, by how many an action has; beyond, they are too many.
_NODES = {1: 32, 2: 16, 3: 8}
_FEWEST_NODES, _MOST_ROWS = 8, 1024


@dataclass(frozen=True)
class Config:
    """What a soft actor-critic is made of.

    Attributes:
        hidden: widths of the hidden layers, of the policy and of each critic.
        activation: elu, gelu, relu, silu, softplus or tanh.
        critics: how many; the smallest of their values counts.
        discount: of a reward for each step that it is later, below 1.
        target_rate: by which the slow critics, from which targets are made, follow at each update.
        temperature: what a nat of entropy is worth, in units of reward; where it is learned, at first.
        learned_temperature: whether the temperature is learned, so that the entropy comes to `target_entropy`.
        target_entropy: in nats, of actions between -1 and 1; by default minus the numbers in an action.
        normalise_observations: standardise observations by the mean and the deviation of all so far.
        normalise_rewards: divide rewards by the standard deviation of all so far.
        reward_scale: what rewards are multiplied by.
        updates: for each step in the environment.
        random_steps: at first, with actions drawn uniformly, before any update.
        estimator: of the policy's gradient: pathwise, through the action (arXiv:1812.05905); score, with a moving average for a
            baseline, or score_learned, with a network; leave_one_out; measure_valued, by differences of the critics; quadrature,
            over fixed nodes, for actions of up to three numbers, without variance and off by some per cent. Only the first
            differentiates the critics.
        actions: drawn for each state where the policy learns; for quadrature the nodes for each number of an action. By default the
            fewest that the estimator takes, or 32, 16 or 8 nodes.
    """

    hidden: tuple[int, ...] = (64, 64)
    activation: Literal["elu", "gelu", "relu", "silu", "softplus", "tanh"] = "relu"
    critics: int = 2
    discount: float = 0.99
    target_rate: float = 0.005
    temperature: float = 1.0
    learned_temperature: bool = True
    target_entropy: float | None = None
    normalise_observations: bool = True
    normalise_rewards: bool = False
    reward_scale: float = 1.0
    updates: float = 1.0
    random_steps: int = 100
    estimator: ActorEstimator = "pathwise"
    actions: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))
        for name, known in {"activation": tuple(ACTIVATIONS), "estimator": get_args(ActorEstimator)}.items():
            if (value := getattr(self, name)) not in known:
                raise BadInputError(f"{name}={value!r}: give one of {', '.join(known)}")
        for name, least in {"critics": 1, "random_steps": 0, "actions": 1}.items():
            if (value := getattr(self, name)) is not None and value < least:
                raise BadInputError(f"{name}={value}: give at least {least}")
        if min(self.hidden, default=1) < 1:
            raise BadInputError(f"hidden={self.hidden}: widths must be positive")
        if not 0 <= self.discount < 1:
            raise BadInputError(f"discount={self.discount}: give a number from 0 to below 1")
        if not 0 < self.target_rate <= 1:
            raise BadInputError(f"target_rate={self.target_rate}: give a number from above 0 to 1")
        for name in ("temperature", "reward_scale", "updates"):
            if not 0 < getattr(self, name) < math.inf:
                raise BadInputError(f"{name}={getattr(self, name)}: give a positive, finite number")
        if self.target_entropy is not None:
            if not math.isfinite(self.target_entropy):
                raise BadInputError(f"target_entropy={self.target_entropy}: give a finite number of nats")
            if not self.learned_temperature:
                raise BadInputError(f"target_entropy={self.target_entropy} is for a temperature that is learned: leave one out")
        if self.estimator == "leave_one_out" and self.actions == 1:
            raise BadInputError("actions=1: estimator='leave_one_out' compares the actions of a state: give at least 2")

    def draws(self, width: int) -> int:
        """The actions of `width` numbers each that are drawn for a state, or the nodes for each of these numbers.

        Raises:
            BadInputError: for an estimator that does not take so many numbers.
        """
        if self.estimator != "quadrature":
            return self.actions or (2 if self.estimator == "leave_one_out" else 1)
        nodes = self.actions or _NODES.get(width, _FEWEST_NODES)
        if nodes < _FEWEST_NODES:
            raise BadInputError(f"actions={nodes}: the nodes of estimator='quadrature' are at least {_FEWEST_NODES}")
        if nodes**width > _MOST_ROWS:
            raise BadInputError(
                f"estimator='quadrature' takes {nodes} nodes for each of the {width} numbers of an action: {nodes**width} actions "
                f"a state, where {_MOST_ROWS} are the most; use pathwise, leave_one_out or measure_valued"
            )
        return nodes
