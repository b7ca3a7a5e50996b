"""From the settings of a VAE to what it is made of."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import nn

from reparam.models.gradient import DEFAULTS, ESTIMATORS, Gradient
from reparam.models.vae_config import Config
from reparam.nn.latent import BernoulliLatent, CategoricalLatent, DiagonalNormal, FullNormal
from reparam.nn.likelihood import LIKELIHOODS, Likelihood
from reparam.nn.network import conv_decoder, conv_encoder, mlp
from reparam.nn.sequence import SequenceEncoder
from reparam.nn.token_likelihood import TokenLikelihood

__all__ = ["Latent", "decided", "gradient", "latent", "likelihood", "networks"]

Latent = DiagonalNormal | BernoulliLatent | CategoricalLatent

# Samples of an objective of several.
_SEVERAL = 5
# Nats a latent of a text.
_FREE_BITS = 0.25


def decided(config: Config) -> Config:
    """With every choice made that a default leaves open."""
    texts = config.likelihood == "autoregressive"
    free_bits = (_FREE_BITS if texts and config.objective == "elbo" else 0.0) if config.free_bits is None else config.free_bits
    config = replace(config, network=config.network or ("gru" if texts else "mlp"), free_bits=free_bits)
    if config.objective != "elbo":
        return replace(config, samples=config.samples or _SEVERAL)
    estimator = config.estimator or DEFAULTS[config.latent]
    return replace(config, estimator=estimator, samples=config.samples or ESTIMATORS[estimator].rows)


def latent(config: Config) -> Latent:
    """The family of the latents."""
    if config.latent == "bernoulli":
        return BernoulliLatent(config.latent_dim)
    if config.latent == "categorical":
        return CategoricalLatent(config.latent_dim, config.categories)
    return (FullNormal if config.covariance == "full" else DiagonalNormal)(config.latent_dim)


def likelihood(config: Config, shape: torch.Size, levels: int) -> Likelihood:
    """The law of a datum of a shape, given the decoder's outputs."""
    if config.likelihood == "autoregressive":
        return TokenLikelihood(shape, levels, str(config.network), config.hidden)
    return LIKELIHOODS[str(config.likelihood)](shape, levels)


def gradient(config: Config, event: torch.Size, inputs: int) -> Gradient | None:
    """The estimator of the ELBO; one differentiable sample needs none, as its step is the one to be fast."""
    if config.estimator is None or (config.estimator, config.samples) == ("pathwise", 1):
        return None
    return Gradient(
        config.estimator,
        event,
        inputs,
        samples=config.samples,
        temperature=config.temperature,
        floor=config.temperature_floor,
        rate=config.temperature_rate,
    )


def networks(config: Config, shape: torch.Size, latent: Latent, likelihood: Likelihood) -> tuple[nn.Module, nn.Sequential]:
    """The encoder, from a datum to what its posterior is made of, and the decoder, from latents to the likelihood's outputs."""
    inputs, outputs = math.prod(shape), math.prod(likelihood.outputs)
    hidden, mirrored = config.hidden, config.hidden[::-1]
    if config.likelihood == "autoregressive":
        context = nn.Linear(latent.width, outputs)
        nn.init.xavier_uniform_(context.weight)  # it is as loud as what stands for a code
        reader = SequenceEncoder(str(config.network), likelihood.levels, inputs, hidden, latent.features)
        return reader, nn.Sequential(context)
    if config.network == "conv":
        return (
            conv_encoder(shape, config.channels, hidden, latent.features, config.activation),
            conv_decoder(latent.width, mirrored, config.channels, shape, outputs // inputs, config.activation),
        )
    encoder = mlp((inputs, *hidden, latent.features), config.activation)
    return encoder, mlp((latent.width, *mirrored, outputs), config.activation)
