"""Paths of univariate laws through their quantile function, on exponential noise.

`eps = -log P(X > x)`, the cumulative hazard, unless a path says that it is `-log P(X <= x)`. The two tails are `exp(-eps)`
for large and `1 - exp(-eps)` for small `eps`; each formula works on the smaller of them, so that both are exact.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import (
    Cauchy,
    ContinuousBernoulli,
    Exponential,
    GeneralizedPareto,
    Gumbel,
    HalfCauchy,
    HalfNormal,
    Kumaraswamy,
    Laplace,
    Pareto,
    Weibull,
)

from reparam.noise import EXPONENTIAL, reflect_exponential
from reparam.paths.path import Path, noise_like, path, representable
from reparam.special import exprel, log1prel, normal_exp, normal_range
from reparam.special.tails import LOG2, hazard, smaller_tail


@path.register
def exponential_path(d: Exponential) -> Path:
    """`x = eps / rate`."""
    rate = d.rate
    return Path(noise_like(rate, EXPONENTIAL), lambda eps: normal_range(eps / rate), lambda x: x * rate)


@path.register
def weibull_path(d: Weibull) -> Path:
    """`log x = log scale + log(eps) / concentration`."""
    scale, concentration = d.scale, d.concentration

    def push(eps: Tensor) -> Tensor:
        return normal_exp(scale.log() + eps.log() / concentration)

    return Path(noise_like(scale, EXPONENTIAL), push, lambda x: torch.exp(concentration * (x.log() - scale.log())))


@path.register
def pareto_path(d: Pareto) -> Path:
    """`log x = log scale + eps / alpha`."""
    scale, alpha = d.scale, d.alpha

    def push(eps: Tensor) -> Tensor:
        return representable(normal_exp(scale.log() + eps / alpha), d.support)

    return Path(noise_like(scale, EXPONENTIAL), push, lambda x: alpha * (x.log() - scale.log()))


@path.register
def generalized_pareto_path(d: GeneralizedPareto) -> Path:
    """`x = loc + scale * (exp(c * eps) - 1) / c`, smooth through `c = 0`."""
    loc, scale, c = d.loc, d.scale, d.concentration
    info = torch.finfo(loc.dtype)
    # Beyond these `exp(c * eps)` is not a float, or `1 + c * z`, which log_prob forms, rounds to zero.
    limit = torch.where(c < 0, -math.log(4 * info.eps), math.log(info.max) - 5) / c.detach().abs()

    def push(eps: Tensor) -> Tensor:
        eps = torch.minimum(eps, limit)
        return representable(torch.addcmul(loc, scale, eps * exprel(c * eps)), d.support)

    def pull(x: Tensor) -> Tensor:
        z = (x - loc) / scale
        return z * log1prel(c * z)

    return Path(noise_like(loc, EXPONENTIAL), push, pull)


@path.register
def gumbel_path(d: Gumbel) -> Path:
    """`x = loc - scale * log(eps)`, with `eps = -log P(X <= x)`."""
    loc, scale = d.loc, d.scale

    def push(eps: Tensor) -> Tensor:
        return torch.addcmul(loc, scale, eps.log(), value=-1)

    return Path(noise_like(loc, EXPONENTIAL), push, lambda x: torch.exp((loc - x) / scale))


@path.register
def laplace_path(d: Laplace) -> Path:
    """`x = loc + scale * z`, `z = eps - log 2` in the upper half and `log(2 (1 - exp(-eps)))` in the lower."""
    loc, scale = d.loc, d.scale

    def push(eps: Tensor) -> Tensor:
        upper, tail = smaller_tail(eps)
        return torch.addcmul(loc, scale, torch.where(upper, eps - LOG2, torch.log(2 * tail)))

    def pull(x: Tensor) -> Tensor:
        z = (x - loc) / scale
        # Not of `abs`, which has no slope at the mode.
        return torch.where(z > 0, z + LOG2, -torch.log1p(-torch.exp(torch.where(z > 0, -z, z)) / 2))

    return Path(noise_like(loc, EXPONENTIAL), push, pull)


@path.register
def cauchy_path(d: Cauchy) -> Path:
    """`x = loc ± scale / tan(pi * tail)`."""
    loc, scale = d.loc, d.scale

    def push(eps: Tensor) -> Tensor:
        upper, tail = smaller_tail(eps)
        z = torch.tan(math.pi * tail).reciprocal()
        return torch.addcmul(loc, scale, torch.where(upper, z, -z))

    def pull(x: Tensor) -> Tensor:
        z = (x - loc) / scale
        return hazard(z > 0, torch.atan2(torch.ones_like(z), z.abs()) / math.pi)

    return Path(noise_like(loc, EXPONENTIAL), push, pull)


@path.register
def half_cauchy_path(d: HalfCauchy) -> Path:
    """`x = scale * tan(pi/2 * (1 - exp(-eps)))`."""
    scale = d.scale

    def push(eps: Tensor) -> Tensor:
        upper, tail = smaller_tail(eps)
        t = torch.tan(math.pi / 2 * tail)
        return normal_range(scale * torch.where(upper, t.reciprocal(), t))

    def pull(x: Tensor) -> Tensor:
        z = x / scale
        upper = z > 1
        t = torch.where(upper, torch.where(upper, z, 1.0).reciprocal(), z)
        return hazard(upper, torch.atan(t) * (2 / math.pi))

    return Path(noise_like(scale, EXPONENTIAL), push, pull)


@path.register
def half_normal_path(d: HalfNormal) -> Path:
    """`x = scale * z`, `P(|Z| > z) = exp(-eps)`; fresh samples are `scale * |normal noise|`."""
    scale = d.scale

    def push(eps: Tensor) -> Tensor:
        upper, tail = smaller_tail(eps)
        z = torch.where(upper, -torch.special.ndtri(tail / 2), math.sqrt(2) * torch.erfinv(tail))
        return normal_range(scale * z)

    def pull(x: Tensor) -> Tensor:
        z = x / scale
        small = z < 0.6745  # the median
        lower = -torch.log1p(-torch.erf(torch.where(small, z, 0.0) / math.sqrt(2)))
        return torch.where(small, lower, -torch.special.log_ndtr(-z) - LOG2)

    def sample(rows: torch.Size, generator: torch.Generator | None) -> Tensor:
        eps = torch.randn(rows + scale.shape, generator=generator, dtype=scale.dtype, device=scale.device)
        return normal_range(scale * eps.abs())

    return Path(noise_like(scale, EXPONENTIAL), push, pull, sample)


@path.register
def kumaraswamy_path(d: Kumaraswamy) -> Path:
    """`log x = log(1 - exp(-eps / b)) / a`, inside the open unit interval."""
    a, b = d.concentration1, d.concentration0
    info = torch.finfo(a.dtype)
    farthest = -math.log(4 * info.eps)  # beyond it 1 - x**a, which log_prob forms, rounds to zero

    def push(eps: Tensor) -> Tensor:
        log_x = -reflect_exponential((eps / b).clamp(max=farthest)) / a
        return normal_exp(log_x.clamp(max=-info.eps / 2))

    return Path(noise_like(a, EXPONENTIAL), push, lambda x: b * reflect_exponential(-a * x.log()))


@path.register
def continuous_bernoulli_path(d: ContinuousBernoulli) -> Path:
    """`x = log(1 + p (exp(l) - 1)) / l`, `p = 1 - exp(-eps)`, smooth through `l = 0`; `l` are the logits."""
    logits = d.logits
    near = logits.abs() < 1
    # Each branch sees only arguments it can bear, so that no infinite derivative leaks through `where`.
    small, large = torch.where(near, logits, 0.0), torch.where(near, 1.0, logits)

    def push(eps: Tensor) -> Tensor:
        p = -torch.expm1(-eps)
        grown = p * exprel(small)
        x = torch.where(near, grown * log1prel(small * grown), torch.logaddexp(-eps, large + torch.log(p)) / large)
        return representable(x, d.support)

    def pull(x: Tensor) -> Tensor:
        # The law of x with logits l is that of 1 - x with logits -l: exponents stay negative.
        flip = logits > 0
        m = torch.where(flip, -logits, logits)
        y, rest = torch.where(flip, 1 - x, x), torch.where(flip, x, 1 - x)
        below = y * exprel(m * y) / exprel(m)
        above = torch.exp(m * y) * rest * exprel(m * rest) / exprel(m)
        lower, upper = torch.where(flip, above, below), torch.where(flip, below, above)
        half = lower > 0.5
        return hazard(half, torch.where(half, upper, lower))

    return Path(noise_like(logits, EXPONENTIAL), push, pull)
