"""Continuous stand-ins for discrete laws: the logistic and the Gumbel-softmax relaxations."""

from __future__ import annotations

from functools import singledispatch
from numbers import Real

import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Independent,
    OneHotCategorical,
    RelaxedBernoulli,
    RelaxedOneHotCategorical,
)
from torch.distributions.relaxed_bernoulli import LogitRelaxedBernoulli
from torch.distributions.relaxed_categorical import ExpRelaxedCategorical

from reparam.noise import EXPONENTIAL, readable
from reparam.paths.parameters import check_distribution
from reparam.paths.path import Path, noise_like, path

__all__ = ["check_temperature", "relaxed"]


def relaxed(d: Distribution, temperature: float | Tensor) -> Distribution:
    """The continuous relaxation of a discrete distribution: differentiable, and biased for the discrete law.

    Costs and gradients are those of the relaxed law. It tends to the discrete one as the temperature falls, while the
    variance of the gradient grows.

    Args:
        d: a Bernoulli, Categorical or OneHotCategorical, or an Independent of one.
        temperature: one positive number; as a tensor it may be learned.

    Returns:
        Torch's RelaxedBernoulli, or RelaxedOneHotCategorical (for a Categorical too: its samples are on the simplex).

    Raises:
        TypeError: when the temperature is neither a number nor a tensor.
        ValueError: when the temperature is not positive and finite, or is a tensor of several.
        NotImplementedError: for another class.

    Source: arXiv:1611.00712, arXiv:1611.01144.

    Example:
        >>> import torch, reparam as rp
        >>> logits = torch.zeros(10, requires_grad=True)
        >>> z = rp.rsample(rp.relaxed(torch.distributions.Categorical(logits=logits), 0.5), (4,))
        >>> torch.allclose(z.sum(-1), torch.ones(4))
        True
    """
    return _relax(d, check_temperature(temperature))


def check_temperature(temperature: float | Tensor) -> float | Tensor:
    """A number, or a tensor of one as a scalar tensor; refused when it is not positive and finite.

    Raises:
        TypeError: when the temperature is neither a number nor a tensor.
        ValueError: when it is not positive and finite, or is a tensor of several.
    """
    _check_positive(temperature)
    if isinstance(temperature, Tensor):
        # Torch lines several temperatures up with the categories when it samples, and with the batch in log_prob.
        if temperature.numel() != 1:
            raise ValueError(f"the temperature of a relaxation has shape {tuple(temperature.shape)}; it must be one number")
        return temperature.reshape(())
    return temperature


@singledispatch
def _relax(d: Distribution, temperature: float | Tensor) -> Distribution:
    check_distribution(d)
    raise NotImplementedError(
        f"{type(d).__name__} has no relaxation; Bernoulli, Categorical, OneHotCategorical and Independent of these have one. "
        "Take the gradient of an expectation with rp.expect(f, d) instead"
    )


@_relax.register
def _(d: Bernoulli, temperature: float | Tensor) -> Distribution:
    return RelaxedBernoulli(*_given(d, temperature), validate_args=d._validate_args)


@_relax.register
def _(d: Categorical, temperature: float | Tensor) -> Distribution:
    return RelaxedOneHotCategorical(*_given(d, temperature), validate_args=d._validate_args)


@_relax.register
def _(d: OneHotCategorical, temperature: float | Tensor) -> Distribution:
    return _relax(d._categorical, temperature)


@_relax.register
def _(d: Independent, temperature: float | Tensor) -> Distribution:  # type: ignore[type-arg]
    return Independent(_relax(d.base_dist, temperature), d.reinterpreted_batch_ndims, validate_args=d._validate_args)


def _given(d: Bernoulli | Categorical, temperature: float | Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The temperature as a tensor, and probabilities or logits, whichever `d` was made of."""
    t = torch.as_tensor(temperature, dtype=d._param.dtype, device=d._param.device)
    return (t, d.probs, None) if "probs" in vars(d) else (t, None, d.logits)


def _check_positive(temperature: float | Tensor) -> None:
    if isinstance(temperature, Tensor):
        if not readable(temperature):
            return
        bad = ~((temperature > 0) & temperature.isfinite())
        value = temperature.detach()[bad][0].item() if bad.any() else 1.0
    elif isinstance(temperature, Real):
        value = float(temperature)
    else:
        raise TypeError(f"the temperature of a relaxation is {temperature!r}; it must be a number or a tensor")
    if not 0.0 < value < float("inf"):
        raise ValueError(f"the temperature of a relaxation is {value}; it must be positive and finite")


@path.register
def logit_relaxed_bernoulli_path(d: LogitRelaxedBernoulli) -> Path:
    """`x = (logits + logistic noise) / temperature`; RelaxedBernoulli is its sigmoid."""
    logits, temperature = d.logits, d.temperature
    _check_positive(temperature)

    def push(eps: Tensor) -> Tensor:
        logistic = eps + torch.log(-torch.expm1(-eps))
        return (logits + logistic) / temperature

    def pull(x: Tensor) -> Tensor:
        logistic = x * temperature - logits
        return torch.logaddexp(logistic, torch.zeros_like(logistic))

    return Path(noise_like(logits, EXPONENTIAL), push, pull)


def _scores(d: ExpRelaxedCategorical | RelaxedOneHotCategorical, eps: Tensor) -> Tensor:
    return (d.logits - eps.log()) / d.temperature


@path.register
def exp_relaxed_categorical_path(d: ExpRelaxedCategorical) -> Path:
    """`x = log_softmax((logits + Gumbel noise) / temperature)`: K values of noise for K - 1 of freedom, so no `pull`."""
    _check_positive(d.temperature)
    return Path(noise_like(d.logits, EXPONENTIAL), lambda eps: torch.log_softmax(_scores(d, eps), -1))


@path.register
def relaxed_one_hot_categorical_path(d: RelaxedOneHotCategorical) -> Path:
    """`x = softmax((logits + Gumbel noise) / temperature)`, held off zero so that `log_prob` is finite."""
    _check_positive(d.temperature)
    tiny = torch.finfo(d.logits.dtype).tiny
    return Path(noise_like(d.logits, EXPONENTIAL), lambda eps: torch.softmax(_scores(d, eps), -1).clamp(min=tiny))
