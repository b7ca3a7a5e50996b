"""How a policy gradient is taken."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from reparam.errors import BadInputError
from reparam.nn.network import ACTIVATIONS

__all__ = ["Config"]


@dataclass(frozen=True)
class Config:
    """How a policy gradient is taken.

    Attributes:
        objective: ppo, whose clipped ratios let several updates use the same steps (arXiv:1707.06347); reinforce, the score
            function, each step once: give it a batch_size that takes a rollout of all copies at once, and a larger learning_rate.
        baseline: what the return of a step is compared with: value, a learned function of its observation, which also stands for
            what comes after the rollout's end; leave_one_out, the mean return of the other copies' steps; moving_average, that of
            past rollouts; or none. Without a value function returns end with the rollout, or where the episode is cut short:
            take rollouts that are longer than episodes, or than 1 / (1 - discount). The value function learns by as many
            updates as the policy: by the few of reinforce slowly, which the others serve better.
        discount: of a reward, for each step that it is away; gamma.
        decay: lambda of generalised advantages (arXiv:1506.02438): 1 takes whole returns, less trusts the value function, for less
            variance. By default 0.95 for ppo, and 1 for reinforce and without a value function.
        rollout: steps of each copy of the environment, before the policy is updated.
        reuse: passes over a rollout. By default 10 for ppo; reinforce takes 1, as its gradient is that of the policy that acted.
        ratio_clip: of ppo: how far the probability of an action, over that when it was taken, may pay to move from 1.
        value_clip: how far it may pay to move a value from what it was when the rollout was made, in units of the (scaled) rewards;
            0 lets it.
        entropy_bonus: nats of entropy are worth so much in the loss.
        value_weight: of the squared error of the values, halved, in the loss. Policy and value have a network each, so that with
            Adam it matters only where gradients are clipped.
        normalise_advantages: to mean 0 and variance 1 over a rollout. By default for ppo; the score function would be biased.
        normalise_observations: by their running mean and standard deviation.
        normalise_rewards: divide them by the running standard deviation of their discounted sums.
        hidden: widths of the hidden layers of each network.
        activation: elu, gelu, relu, silu, softplus or tanh.
    """

    objective: Literal["ppo", "reinforce"] = "ppo"
    baseline: Literal["value", "leave_one_out", "moving_average", "none"] = "value"
    discount: float = 0.99
    decay: float | None = None
    rollout: int = 64
    reuse: int | None = None
    ratio_clip: float = 0.2
    value_clip: float = 0.0
    entropy_bonus: float = 0.0
    value_weight: float = 0.5
    normalise_advantages: bool | None = None
    normalise_observations: bool = True
    normalise_rewards: bool = True
    hidden: tuple[int, ...] = (64, 64)
    activation: Literal["elu", "gelu", "relu", "silu", "softplus", "tanh"] = "tanh"

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))
        for name, known in _CHOICES.items():
            if (value := getattr(self, name)) not in known:
                raise BadInputError(f"{name}={value!r}: give one of {', '.join(known)}")
        if min(self.hidden, default=1) < 1:
            raise BadInputError(f"hidden={self.hidden}: widths must be positive")
        for name in ("discount", "decay"):
            if (value := getattr(self, name)) is not None and not 0 <= value <= 1:
                raise BadInputError(f"{name}={value}: give a number from 0 to 1")
        if self.rollout < 2:
            raise BadInputError(f"rollout={self.rollout}: give at least 2 steps, as one of them may be a restart")
        if self.reuse is not None and self.reuse < 1:
            raise BadInputError(f"reuse={self.reuse}: give at least 1 pass over a rollout")
        for name in ("value_clip", "entropy_bonus", "value_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise BadInputError(f"{name}={getattr(self, name)}: give a finite number, at least 0")
        if not 0 < self.ratio_clip < math.inf:
            raise BadInputError(f"ratio_clip={self.ratio_clip}: give a positive, finite number")
        if self.objective == "reinforce" and self.reuse not in (None, 1):
            raise BadInputError(
                f"objective='reinforce' with reuse={self.reuse}: from the second pass on the policy is not the one that acted, and "
                "the score function is biased: take objective='ppo', or reuse=1"
            )
        if self.baseline != "value" and self.decay not in (None, 1.0):
            raise BadInputError(
                f"decay={self.decay} with baseline={self.baseline!r}: below 1 it wants values to trust: take baseline='value', or "
                "leave it out"
            )

    def decided(self) -> Config:
        """The same, with every choice made."""
        ppo = self.objective == "ppo"
        decay = 0.95 if ppo and self.baseline == "value" else 1.0
        reuse = 10 if ppo else 1
        return replace(
            self,
            decay=decay if self.decay is None else float(self.decay),
            reuse=reuse if self.reuse is None else self.reuse,
            normalise_advantages=ppo if self.normalise_advantages is None else self.normalise_advantages,
        )


_CHOICES: dict[str, tuple[str, ...]] = {
    "objective": ("ppo", "reinforce"),
    "baseline": ("value", "leave_one_out", "moving_average", "none"),
    "activation": tuple(ACTIVATIONS),
}
