"""What a world model is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from reparam.errors import BadInputError
from reparam.nn.likelihood import LIKELIHOODS
from reparam.nn.network import ACTIVATIONS

__all__ = ["ESTIMATORS", "Config", "Sampling"]

#: Estimators of the gradient through latents that follow each other, by family, the default first. The others of a VAE ask for the
#: costs of several values of a latent, each of which would have a future of its own.
ESTIMATORS = {
    "gaussian": ("pathwise", "leave_one_out"),
    "categorical": ("straight_through", "st_gumbel", "gumbel_softmax", "gumbel_rao", "reinmax", "leave_one_out"),
}


@dataclass(frozen=True)
class Sampling:
    """How a world model samples sequences.

    Attributes:
        length: steps of a sequence; by default as many as those have that it was trained on.
        noisy: draw each datum from its law given the state, not the mean of that.
    """

    length: int | None = None
    noisy: bool = False


@dataclass(frozen=True)
class Config:
    """What a world model is made of, and how it learns.

    Attributes:
        latent: the stochastic part of a state: gaussian, or categorical.
        latent_dim: number of latent variables.
        categories: of each, for categorical.
        unimix: the share of the uniform law in that of each category, for categorical.
        deterministic: width of the recurrent part of a state.
        hidden: widths of the dense hidden layers of the encoder and of the heads; the decoder mirrors them.
        channels: channels of the convolutions of the encoder, each of which halves the picture; for conv.
        network: mlp, or conv for pictures, where it is the default if they are at least 16 x 16.
        activation: elu, gelu, relu, silu, softplus or tanh.
        likelihood: of the data given the state: bernoulli for 0/1, binomial or categorical for counts, gaussian for reals. By
            default what the data's values call for.
        scale: of the gaussian likelihoods of data and rewards: fitted, a moving average of what the residuals have, for each column
            or channel; learned, by its gradient; or one, a standard deviation of the data. By default fitted for data, and learned
            in environments.
        estimator: of the gradient through the latents. For gaussian: pathwise (the default), leave_one_out. For categorical:
            straight_through (the default), st_gumbel, gumbel_softmax, gumbel_rao, reinmax, leave_one_out.
        samples: of the states of each sequence at a step; by default 1, and 2 for leave_one_out.
        temperature: of a relaxation, or of what else the estimator has one for.
        temperature_floor: below which the temperature does not fall.
        temperature_rate: the temperature at step t is temperature * exp(-rate * t), while above its floor.
        dynamics: weight of the divergence that moves the prior towards the posterior.
        representation: weight of the divergence that moves the posterior towards the prior. The plain bound has both weights 1,
            the default for data; in environments this is 0.1 by default.
        free_bits: nats of a step up to which a divergence costs nothing; by default none for data, 1 in environments.
        sequence_length: steps of the sequences that are learned from, in an environment; files bring theirs.
        updates: for each step in an environment.
        random_steps: of the beginning, in an environment, with random actions and without updates.
        horizon: steps that the actor and the critic imagine ahead.
        discount: of rewards, for each step.
        decay: lambda of their returns: 0 is one step and the value after it, 1 all rewards and the last value.
        entropy: weight of the entropy of the actor's choices, in units of the spread of the returns.
        actor_hidden: widths of the hidden layers of the actor and of the critic.
        actor_gradient: estimator of the gradient of the returns in the policy: pathwise (the default) or score for continuous
            actions; straight_through (the default), reinmax or score for choices.
        target_rate: with which the slow critic follows.
        starts: states of a batch from which something is imagined; 0 takes all.
    """

    latent: Literal["gaussian", "categorical"] = "gaussian"
    latent_dim: int = 16
    categories: int = 16
    unimix: float = 0.01
    deterministic: int = 128
    hidden: tuple[int, ...] = (128,)
    channels: tuple[int, ...] = (16, 32)
    network: Literal["mlp", "conv"] | None = None
    activation: Literal["elu", "gelu", "relu", "silu", "softplus", "tanh"] = "silu"
    likelihood: Literal["bernoulli", "binomial", "categorical", "gaussian"] | None = None
    scale: Literal["fitted", "learned", "one"] | None = None
    estimator: str | None = None
    samples: int | None = None
    temperature: float = 1.0
    temperature_floor: float = 0.5
    temperature_rate: float = 0.0
    dynamics: float = 1.0
    representation: float | None = None
    free_bits: float | None = None
    sequence_length: int = 32
    updates: float = 0.25
    random_steps: int = 1000
    horizon: int = 15
    discount: float = 0.99
    decay: float = 0.95
    entropy: float = 1e-3
    actor_hidden: tuple[int, ...] = (128, 128)
    actor_gradient: Literal["pathwise", "score", "straight_through", "reinmax"] | None = None
    target_rate: float = 0.02
    starts: int = 64

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))
        object.__setattr__(self, "channels", tuple(self.channels))
        object.__setattr__(self, "actor_hidden", tuple(self.actor_hidden))
        for name, known in _CHOICES.items():
            if (value := getattr(self, name)) not in known:
                raise BadInputError(f"{name}={value!r}: give one of {', '.join(str(choice) for choice in known if choice)}")
        if min(self.latent_dim, self.deterministic, *self.hidden, *self.channels) < 1 or not self.hidden:
            raise BadInputError(
                f"latent_dim={self.latent_dim}, deterministic={self.deterministic}, hidden={self.hidden}, channels="
                f"{self.channels}: give positive widths, and at least one hidden layer"
            )
        if self.categories < 2:
            raise BadInputError(f"categories={self.categories}: a latent has at least 2")
        if not 0 <= self.unimix < 1:
            raise BadInputError(f"unimix={self.unimix}: give a share, from 0 to below 1")
        for name in ("temperature", "temperature_floor"):
            if not 0 < getattr(self, name) < math.inf:
                raise BadInputError(f"{name}={getattr(self, name)}: give a positive, finite number")
        if self.temperature_rate and self.temperature_floor > self.temperature:
            raise BadInputError(f"temperature={self.temperature} falls, and temperature_floor={self.temperature_floor} is above it")
        for name in ("dynamics", "representation", "free_bits", "temperature_rate"):
            if not 0 <= (getattr(self, name) or 0.0) < math.inf:
                raise BadInputError(f"{name}={getattr(self, name)}: give a finite number that is not negative")
        self._check_estimator()
        self._check_behaviour()

    def _check_estimator(self) -> None:
        known = ESTIMATORS[self.latent]
        if self.estimator is not None and self.estimator not in known:
            raise BadInputError(
                f"estimator={self.estimator!r} does not serve the latents of a sequence, latent={self.latent!r}: give one of "
                f"{', '.join(known)}"
            )
        least = 2 if self.estimator == "leave_one_out" else 1
        if self.samples is not None and self.samples < least:
            raise BadInputError(f"samples={self.samples}: give at least {least}" + (" for leave_one_out" if least > 1 else ""))

    def _check_behaviour(self) -> None:
        for name, least in {"sequence_length": 2, "horizon": 1, "random_steps": 0, "starts": 0}.items():
            if getattr(self, name) < least:
                raise BadInputError(f"{name}={getattr(self, name)}: give at least {least}")
        for name in ("discount", "decay", "target_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise BadInputError(f"{name}={getattr(self, name)}: give a number from 0 to 1")
        if not 0 < self.updates < math.inf or not 0 <= self.entropy < math.inf:
            raise BadInputError(f"updates={self.updates}, entropy={self.entropy}: give a positive rate, and no negative weight")
        if min(self.actor_hidden, default=1) < 1:
            raise BadInputError(f"actor_hidden={self.actor_hidden}: widths must be positive")


_CHOICES: dict[str, tuple[str | None, ...]] = {
    "latent": tuple(ESTIMATORS),
    "network": (None, "mlp", "conv"),
    "activation": tuple(ACTIVATIONS),
    "likelihood": (None, *LIKELIHOODS),
    "scale": (None, "fitted", "learned", "one"),
    "actor_gradient": (None, "pathwise", "score", "straight_through", "reinmax"),
}
