"""What a variational autoencoder is made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from reparam.errors import BadInputError
from reparam.models.gradient import DEFAULTS, check
from reparam.nn.likelihood import LIKELIHOODS
from reparam.nn.network import ACTIVATIONS
from reparam.nn.sequence import NETWORKS
from reparam.objectives import dreg, iwae, stl, vimco

__all__ = ["OBJECTIVES", "Config"]

#: Objectives of several samples by name: the latents that they serve, and what they are.
OBJECTIVES: dict[str, tuple[tuple[str, ...], Callable[..., Tensor]]] = {
    "iwae": (("normal",), iwae),
    "dreg": (("normal",), dreg),
    "stl": (("normal",), stl),
    "vimco": (("bernoulli", "categorical"), vimco),
}


@dataclass(frozen=True)
class Config:
    """What a VAE is made of.

    Attributes:
        latent: the family of the latent variables: normal, bernoulli for coins, categorical for choices.
        latent_dim: number of latent variables.
        categories: of each latent, for categorical.
        objective: what is maximised: elbo; or a bound from several samples, iwae, dreg or stl for normal latents, vimco for others.
        estimator: of the gradient through the latents, for elbo. For normal: pathwise (the default), score, score_learned,
            leave_one_out, measure_valued. For bernoulli and categorical: disarm (the default), score, score_learned,
            leave_one_out, rebar, relax, muprop, measure_valued, stochastic_triple; biased: gumbel_softmax, st_gumbel, gumbel_rao,
            straight_through, reinmax. For bernoulli also arm, for categorical arsm.
        samples: of the latents of each datum at a step; by default the fewest that the estimator takes, 5 for an objective of
            several.
        temperature: of a relaxation, or of what else the estimator has one for.
        temperature_floor: below which the temperature does not fall.
        temperature_rate: the temperature at step t is temperature * exp(-rate * t), while above its floor.
        covariance: of the posterior of one datum: diagonal, or full through a Cholesky factor; for normal.
        network: mlp for vectors and images, their default; conv for images of at least 8 x 8; gru, the default, or transformer for
            texts.
        hidden: widths of the dense hidden layers of the encoder; the decoder mirrors them. Of gru and transformer, that of each
            layer, all the same.
        channels: channels of the convolutions of the encoder, each of which halves the image; for conv.
        activation: elu, gelu, relu, silu, softplus or tanh.
        likelihood: of the data given the latents: bernoulli for 0/1, binomial or categorical for counts, gaussian for reals,
            autoregressive for texts. By default what the data's values call for.
        binarize: draw each element as 0 or 1, anew at each step, with the (scaled) datum as probability.
        beta: weight of the KL divergence in the loss; the reported ELBO keeps weight 1 (beta-VAE).
        free_bits: nats a latent dimension may use in the batch mean at no cost in the loss (arXiv:1606.04934); by default none,
            and a quarter for texts, whose decoders would rather do without latents.
        word_dropout: the share of its own codes that the decoder of a text is not shown in training, so that it asks the latents
            (arXiv:1511.06349).
    """

    latent: Literal["normal", "bernoulli", "categorical"] = "normal"
    latent_dim: int = 16
    categories: int = 10
    objective: Literal["elbo", "iwae", "dreg", "stl", "vimco"] = "elbo"
    estimator: str | None = None
    samples: int | None = None
    temperature: float = 1.0
    temperature_floor: float = 0.5
    temperature_rate: float = 0.0
    covariance: Literal["diagonal", "full"] = "diagonal"
    network: Literal["mlp", "conv", "gru", "transformer"] | None = None
    hidden: tuple[int, ...] = (256,)
    channels: tuple[int, ...] = (32, 64)
    activation: Literal["elu", "gelu", "relu", "silu", "softplus", "tanh"] = "relu"
    likelihood: Literal["bernoulli", "binomial", "categorical", "gaussian", "autoregressive"] | None = None
    binarize: bool = False
    beta: float = 1.0
    free_bits: float | None = None
    word_dropout: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))
        object.__setattr__(self, "channels", tuple(self.channels))
        for name, known in _CHOICES.items():
            if (value := getattr(self, name)) not in known:
                raise BadInputError(f"{name}={value!r}: give one of {', '.join(str(choice) for choice in known if choice)}")
        if self.latent_dim < 1 or min((*self.hidden, *self.channels), default=1) < 1:
            raise BadInputError(
                f"latent_dim={self.latent_dim}, hidden={self.hidden}, channels={self.channels}: widths must be positive"
            )
        if self.categories < 2:
            raise BadInputError(f"categories={self.categories}: a latent has at least 2")
        if self.covariance == "full" and self.latent != "normal":
            raise BadInputError(f"covariance='full' is for latent='normal', and {self.latent!r} was given: leave one out")
        if self.samples is not None and self.samples < 1:
            raise BadInputError(f"samples={self.samples}: give at least 1")
        self._check_objective()
        self._check_texts()
        for name in ("temperature", "temperature_floor"):
            if not 0 < getattr(self, name) < math.inf:
                raise BadInputError(f"{name}={getattr(self, name)}: give a positive, finite number")
        if self.temperature_rate and self.temperature_floor > self.temperature:
            raise BadInputError(f"temperature={self.temperature} falls, and temperature_floor={self.temperature_floor} is above it")
        for name in ("beta", "free_bits", "temperature_rate"):
            if not 0 <= (getattr(self, name) or 0.0) < math.inf:
                raise BadInputError(f"{name}={getattr(self, name)}: give a finite number that is not negative")
        if self.binarize and self.likelihood not in (None, "bernoulli"):
            raise BadInputError(f"binarize=True is for likelihood='bernoulli', and {self.likelihood!r} was given: leave one out")

    def _check_objective(self) -> None:
        if self.objective == "elbo":
            check(self.estimator or DEFAULTS[self.latent], self.latent, self.samples)
            return
        fit = [name for name, (latents, _) in OBJECTIVES.items() if self.latent in latents]
        if self.objective not in fit:
            raise BadInputError(
                f"objective={self.objective!r} does not serve latent={self.latent!r}: give one of elbo, {', '.join(fit)}"
            )
        if self.estimator is not None:
            raise BadInputError(
                f"objective={self.objective!r} has a gradient of its own, and estimator={self.estimator!r}: leave one out"
            )
        if self.objective == "vimco" and self.samples == 1:
            raise BadInputError("samples=1: objective='vimco' takes at least 2")
        if self.beta != 1 or self.free_bits:
            raise BadInputError(f"beta={self.beta} and free_bits={self.free_bits} are for objective='elbo': leave them out")

    def _check_texts(self) -> None:
        texts = self.likelihood == "autoregressive"
        if self.likelihood and self.network and texts != (self.network in NETWORKS):
            fit = NETWORKS if texts else ("mlp", "conv")
            raise BadInputError(f"network={self.network!r} does not serve likelihood={self.likelihood!r}: give {' or '.join(fit)}")
        if not 0 <= self.word_dropout < 1:
            raise BadInputError(f"word_dropout={self.word_dropout}: give a share, from 0 to below 1")
        if self.word_dropout and (self.likelihood not in (None, "autoregressive") or self.network in ("mlp", "conv")):
            raise BadInputError(f"word_dropout={self.word_dropout} is for texts: leave it out")


_CHOICES: dict[str, tuple[str | None, ...]] = {
    "objective": ("elbo", *OBJECTIVES),
    "latent": tuple(DEFAULTS),
    "covariance": ("diagonal", "full"),
    "network": (None, "mlp", "conv", *NETWORKS),
    "activation": tuple(ACTIVATIONS),
    "likelihood": (None, *LIKELIHOODS, "autoregressive"),
}
