"""What a world model is made of: what its sequences hold, and the networks for that."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from reparam.environments.spaces import Spaces
from reparam.errors import BadInputError
from reparam.estimators import Estimator, Pathwise, ReinMax, Score, StraightThrough
from reparam.models.gradient import Gradient
from reparam.models.world_config import ESTIMATORS, Config
from reparam.nn.behaviour import Behaviour
from reparam.nn.likelihood import LIKELIHOODS, GaussianLikelihood, Likelihood
from reparam.nn.network import conv_decoder, conv_encoder, mlp
from reparam.nn.stochastic import Gaussian, OneHot, Stochastic

if TYPE_CHECKING:
    from reparam.data import Data

__all__ = ["Layout", "behaviour", "decided", "gradient", "likelihood", "networks", "refit", "scaled", "stochastic"]

_BY_VALUES: dict[str, Literal["bernoulli", "binomial", "gaussian"]] = {
    "binary": "bernoulli",
    "counts": "binomial",
    "real": "gaussian",
}
#: Estimators of the gradient of an actor, by name.
ESTIMATORS_OF_ACTORS: dict[str, Estimator] = {
    "pathwise": Pathwise(),
    "reinmax": ReinMax(),
    "score": Score(),
    "straight_through": StraightThrough(),
}
# Of a new scale in the moving average.
_RATE = 0.05
# Both sides of a picture have at least so many pixels before it is seen through convolutions.
_PICTURE = 16


@dataclass(frozen=True)
class Layout:
    """What the sequences of a world hold at each step.

    Attributes:
        shape: of one datum.
        values: what its numbers are: real, binary or counts.
        levels: the largest count.
        action: the shape of an action, or None without actions.
        choices: categories of each choice, where actions are choices.
        reward: whether there are rewards.
        terminated: whether it is said where episodes come to their end.
    """

    shape: tuple[int, ...]
    values: str
    levels: int | None = None
    action: tuple[int, ...] | None = None
    choices: tuple[int, ...] = ()
    reward: bool = False
    terminated: bool = False

    @classmethod
    def of_data(cls, data: Data) -> Layout:
        """Of recorded sequences."""
        action = data.beside.get("action")
        return cls(
            tuple(data.shape[1:]),
            data.values,
            1 if data.values == "binary" else data.levels,
            None if action is None else tuple(action.shape[2:]),
            tuple(data.choices or ()),
            "reward" in data.beside,
            "terminated" in data.beside,
        )

    @classmethod
    def of_spaces(cls, spaces: Spaces) -> Layout:
        """Of what is lived through in an environment."""
        levels = 1 if spaces.values == "binary" else spaces.levels
        return cls(spaces.observation, spaces.values, levels, spaces.action, spaces.choices, True, True)

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Layout:
        """What a run remembers of its data; `facts` gave the entry "beside"."""
        levels = 1 if record["values"] == "binary" else record["levels"]
        beside = record["beside"]
        action = None if beside["action"] is None else tuple(beside["action"])
        return cls(
            tuple(record["shape"]),
            record["values"],
            levels,
            action,
            tuple(beside["choices"]),
            beside["reward"],
            beside["terminated"],
        )

    def facts(self) -> dict[str, Any]:
        """What else than shape, values and levels a record is to hold, under "beside"."""
        action = None if self.action is None else list(self.action)
        return {"action": action, "choices": list(self.choices), "reward": self.reward, "terminated": self.terminated}


def decided(config: Config, layout: Layout, *, acts: bool) -> Config:
    """With every choice made that a default leaves open: for sequences of a layout, of data or of one that acts.

    Raises:
        BadInputError: for a likelihood that does not fit the values, or an estimator that does not let the actor learn.
    """
    name = config.likelihood or _BY_VALUES[layout.values]
    if layout.values == "real" and name != "gaussian":
        raise BadInputError(f"likelihood={name!r} is of whole numbers, and these are reals: take 'gaussian'")
    if name == "bernoulli" and layout.levels != 1:
        raise BadInputError(f"likelihood='bernoulli' is of 0 and 1, not counts 0..{layout.levels}: take 'binomial'")
    estimator = config.estimator or ESTIMATORS[config.latent][0]
    if acts and estimator == "leave_one_out":
        raise BadInputError(
            "estimator='leave_one_out': the actor learns through the latents, which passes no gradient: give another"
        )
    pictures = len(layout.shape) == 3 and min(layout.shape[1:]) >= _PICTURE
    return replace(
        config,
        likelihood=name,
        network=config.network or ("conv" if pictures else "mlp"),
        estimator=estimator,
        samples=config.samples or (2 if estimator == "leave_one_out" else 1),
        scale=config.scale or ("learned" if acts else "fitted"),
        representation=(0.1 if acts else 1.0) if config.representation is None else config.representation,
        free_bits=float(acts) if config.free_bits is None else config.free_bits,
    )


def stochastic(config: Config) -> Stochastic:
    """The family of the latents."""
    if config.latent == "gaussian":
        return Gaussian(config.latent_dim)
    return OneHot(config.latent_dim, config.categories, config.unimix)


def likelihood(config: Config, layout: Layout) -> Likelihood:
    """The law of a datum, given the decoder's outputs."""
    made = LIKELIHOODS[str(config.likelihood)](layout.shape, layout.levels or 1)
    return scaled(made, config) if isinstance(made, GaussianLikelihood) else made


def scaled(likelihood: GaussianLikelihood, config: Config) -> GaussianLikelihood:
    """A normal law, whose scale no gradient moves unless the config says so."""
    if config.scale != "learned":
        log_var = likelihood.log_var.detach()
        del likelihood.log_var
        likelihood.register_buffer("log_var", log_var)
    return likelihood


@torch.no_grad()
def refit(likelihood: GaussianLikelihood, h: Tensor, x: Tensor, there: Tensor) -> None:
    """Move the scale towards that of the residuals of data x given outputs h, rows + shape each, where they are there: a moving
    average, whose weights fall by a twentieth at each step.

    The best scale is known, and Adam's steps of a fixed size towards its logarithm are many (arXiv:2006.13202).
    """
    square = (likelihood.standardise(x) - h).square()[there]
    dims = (0, 2, 3) if square.dim() == 4 else (0,)
    best = (square.mean(dims, keepdim=True)[0] - likelihood.FLOOR).clamp(min=likelihood.FLOOR).log()
    if len(square):
        likelihood.log_var.lerp_(best, _RATE)


def gradient(config: Config) -> Gradient | None:
    """The estimator, where it is none of those that a state-space model has by itself."""
    if config.estimator in ("pathwise", "straight_through", "leave_one_out"):
        return None
    return Gradient(
        str(config.estimator),
        stochastic(config).event,
        0,
        temperature=config.temperature,
        floor=config.temperature_floor,
        rate=config.temperature_rate,
    )


def behaviour(config: Config, features: int, spaces: Spaces) -> Behaviour:
    """An actor and a critic of states that so many features tell.

    Raises:
        BadInputError: for an estimator that does not suit the actions.
    """
    acts, suited = ("choices", ("straight_through", "reinmax", "score")) if spaces.choices else ("reals", ("pathwise", "score"))
    if config.actor_gradient not in (None, *suited):
        raise BadInputError(f"actor_gradient={config.actor_gradient!r}: actions are {acts}, give one of {', '.join(suited)}")
    named = None if config.actor_gradient is None else ESTIMATORS_OF_ACTORS[config.actor_gradient]
    return Behaviour(
        features,
        spaces.action,
        spaces.choices,
        hidden=config.actor_hidden,
        activation=config.activation,
        estimator=named,
        horizon=config.horizon,
        discount=config.discount,
        decay=config.decay,
        entropy=config.entropy,
        rate=config.target_rate,
        starts=config.starts,
    )


def networks(config: Config, layout: Layout, features: int, outputs: int) -> tuple[nn.Module, nn.Module]:
    """The encoder, from a datum to as many numbers as the last of `hidden`, and the decoder, from a state to so many outputs."""
    *inner, embedded = config.hidden
    mirrored = config.hidden[::-1]
    if config.network == "conv":
        stages = outputs // math.prod(layout.shape)
        return (
            conv_encoder(layout.shape, config.channels, inner, embedded, config.activation),
            conv_decoder(features, mirrored, config.channels, layout.shape, stages, config.activation),
        )
    encoder = nn.Sequential(nn.Flatten(), *mlp((math.prod(layout.shape), *inner, embedded, embedded), config.activation))
    return encoder, mlp((features, *mirrored, outputs), config.activation)
