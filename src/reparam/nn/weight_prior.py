"""Priors of the weights of a Bayesian network, and how far the posterior of a tensor of weights is from one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, MixtureSameFamily, Normal, kl_divergence

from reparam.noise import Source
from reparam.paths import rsample

__all__ = ["EmpiricalBayes", "FanIn", "WeightPrior", "divergence", "fan_in", "scale_mixture"]

# From the name of a tensor of weights and its posterior, whose mean has the shape of the tensor, to the prior of each weight.
WeightPrior = Callable[[str, Normal], Distribution]


def fan_in(weight: Tensor) -> int:
    """How many inputs a unit has: the size of a row of a tensor of weights, 1 for a vector.

    Example:
        >>> import torch
        >>> fan_in(torch.nn.Linear(3, 5).weight), fan_in(torch.nn.Conv2d(2, 5, 3).weight), fan_in(torch.nn.Linear(3, 5).bias)
        (3, 18, 1)
    """
    return max(1, math.prod(weight.shape[1:]))


@dataclass(frozen=True)
class FanIn:
    """`N(0, gain^2 / fan_in)` for each weight, `N(0, bias^2)` for the entries of vectors.

    With it the law of a unit's input does not depend on how many units come before: networks of any width start from
    functions of the same size.

    Args:
        gain: the standard deviation of a unit whose inputs have mean square 1; sqrt(2) keeps it through layers of ReLU.
        bias: the standard deviation of vectors.

    Raises:
        ValueError: for standard deviations that are not positive.

    Source: Neal, "Bayesian Learning for Neural Networks" (1996).

    Example:
        >>> import torch
        >>> from torch.distributions import Normal
        >>> FanIn()("weight", Normal(torch.zeros(5, 100), 1.0)).stddev
        tensor(0.1000)
    """

    gain: float = 1.0
    bias: float = 1.0

    def __post_init__(self) -> None:
        for name, value in (("gain", self.gain), ("bias", self.bias)):
            if not 0 < value < math.inf:
                raise ValueError(f"{name}={value}: a standard deviation of the prior is positive and finite")

    def __call__(self, name: str, q: Normal) -> Normal:
        w = q.loc
        scale = self.gain / math.sqrt(fan_in(w)) if w.dim() > 1 else self.bias
        return _normal(torch.tensor(scale, dtype=w.dtype, device="cpu"))  # a number, which needs no copy to a GPU


@dataclass(frozen=True)
class EmpiricalBayes:
    """`N(0, s^2)` for each weight, with the best s for each tensor, which is known: `s^2 = mean of (mu^2 + sigma^2)`.

    That is the s at which the divergence from the prior is least, so the evidence lower bound of the best prior: type-II maximum
    likelihood of the scale. With a shape and a rate, s^2 has an inverse-gamma hyperprior, and its most probable value is taken,

        s^2 = (rate + sum of (mu^2 + sigma^2) / 2) / (shape + 1 + n / 2),   n the number of weights of the tensor,

    so that small tensors borrow from it: `rate / (shape + 1)` is where s^2 lies without any weights.

    Args:
        shape: of the hyperprior, as many as `2 shape` weights weigh.
        rate: of the hyperprior.

    Raises:
        ValueError: when they are negative, or one is zero and the other is not.

    Source: MacKay, "A practical Bayesian framework for backpropagation networks" (1992); Wu et al., "Deterministic variational
        inference for robust Bayesian neural networks", arXiv:1810.03958, for the closed form.

    Example:
        >>> import torch
        >>> from torch.distributions import Normal
        >>> EmpiricalBayes()("weight", Normal(torch.tensor([[3.0, -3.0]]), 4.0)).stddev
        tensor(5.)
    """

    shape: float = 0.0
    rate: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.shape < math.inf and 0 <= self.rate < math.inf) or (self.shape > 0) != (self.rate > 0):
            raise ValueError(f"shape={self.shape}, rate={self.rate}: give two positive numbers, or none")

    def __call__(self, name: str, q: Normal) -> Normal:
        # Cut from the gradient: at the best scale the divergence, with the hyperprior, has no slope in it.
        wide = torch.promote_types(q.loc.dtype, torch.float32)
        square = q.loc.detach().to(wide).square() + q.scale.detach().to(wide).square()
        if not self.rate:
            return _normal(square.mean().sqrt())
        return _normal(((self.rate + square.sum() / 2) / (self.shape + 1 + square.numel() / 2)).sqrt())


def scale_mixture(wide: float = 1.0, narrow: float = math.exp(-6), share: float = 0.5) -> MixtureSameFamily:
    """`share N(0, wide^2) + (1 - share) N(0, narrow^2)`: most weights near zero, some free.

    Its divergence has no closed form and is sampled.

    Args:
        wide: the standard deviation of those that are free.
        narrow: that of those near zero.
        share: of the free ones.

    Raises:
        ValueError: when `0 < narrow <= wide` or `0 < share < 1` does not hold.

    Source: Blundell et al., "Weight uncertainty in neural networks", arXiv:1505.05424.

    Example:
        >>> scale_mixture().mean
        tensor(0.)
    """
    if not (0 < narrow <= wide < math.inf and 0 < share < 1):
        raise ValueError(f"wide={wide}, narrow={narrow}, share={share}: give 0 < narrow <= wide, and a share between 0 and 1")
    # Nothing is looked at later, which on a GPU would be waited for.
    weights = Categorical(torch.tensor([share, 1 - share]), validate_args=False)
    parts = Normal(torch.zeros(2), torch.tensor([wide, narrow]), validate_args=False)
    return MixtureSameFamily(weights, parts, validate_args=False)


def divergence(q: Normal, log_scale: Tensor, prior: Distribution, source: Source | None = None) -> Tensor:
    """KL(q ‖ prior), summed over the weights of a tensor, in nats; closed form where torch knows the pair.

    Otherwise unbiased, the entropy in closed form and one fresh draw of each weight: `-H(q) - log prior(w)`.

    Args:
        q: the posterior.
        log_scale: the logarithm of its scale, from which that was made.
        prior: of each weight.
        source: of noise.

    Example:
        >>> import torch
        >>> divergence(Normal(torch.ones(4), 1.0), torch.zeros(4), Normal(0.0, 1.0))
        tensor(2.)
    """
    # Half precision holds no sum over many weights.
    wide = torch.promote_types(log_scale.dtype, torch.float32)
    loc, scale, log_scale = q.loc.to(wide), q.scale.to(wide), log_scale.to(wide)
    if type(prior) is Normal and not prior.batch_shape:  # in few operations: of many weights this is much of what a step costs
        square = scale.square().sum() + (loc - prior.loc).square().sum()
        return square / (2 * prior.scale.square()) + (prior.scale.log() - 0.5) * log_scale.numel() - log_scale.sum()
    q = Normal(loc, scale, validate_args=False)
    try:
        each: Tensor = kl_divergence(q, prior)
    except NotImplementedError:
        each = -(q.entropy() + prior.log_prob(rsample(q, source=source)))
    return each.sum()


def _normal(scale: Tensor) -> Normal:
    return Normal(torch.zeros_like(scale), scale, validate_args=False)
