"""Paths of Gamma and of what is a power or a multiple of it: in logarithms, where mass near zero has room.

All is computed in float64 and rounded once: for small shapes `log x` is far below the logarithms of the floats, and for large
ones its spread is below the spacing of float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Gamma, InverseGamma

from reparam.noise import EXPONENTIAL, Fresh, Noise
from reparam.paths.path import Path, noise_like, path
from reparam.special.gamma import log_gamma_hazard, log_gamma_quantile, log_gamma_slope
from reparam.special.slopes import with_slopes

__all__ = ["exp_as", "gamma_based", "log_gamma_push", "log_gamma_sample"]


def log_gamma_push(concentration: Tensor, eps: Tensor) -> Tensor:
    """The log of a Gamma variable with `-log P(X > x) = eps`, in float64, differentiable in both to any order.

    Example:
        >>> import torch
        >>> log_gamma_push(torch.tensor([1e-6, 2.0]), torch.tensor(1.0)).float()
        tensor([-4.5868e+05,  7.6370e-01])
    """
    return log_gamma_quantile(concentration.double(), eps.double())


def log_gamma_sample(concentration: Tensor, rows: torch.Size, generator: torch.Generator | None) -> Tensor:
    """Logs of Gamma variables, of shape `rows` + that of the concentration, in float64; the gradient of `log_gamma_push`.

    Marsaglia and Tsang's rejection at the shape `a + 1`, and `log G(a) = log G(a + 1) + log(U) / a`, which never underflows.

    Example:
        >>> import torch
        >>> log_gamma_sample(torch.tensor([1e-6, 1.0]), torch.Size([1000]), None).isfinite().all()
        tensor(True)
    """
    shape = concentration.double().expand(rows + concentration.shape)
    with torch.no_grad():
        a = shape.detach().contiguous()
        eps = Noise(EXPONENTIAL, a.shape, a.dtype, a.device).draw(source=Fresh(generator))
        log_x = torch._standard_gamma(a + 1, generator=generator).log() - eps / a
    return with_slopes(log_x, lambda log_x, a: (log_gamma_slope(a, log_x),), shape)


def exp_as(log_x: Tensor, dtype: torch.dtype) -> Tensor:
    """`exp(log_x)` of a float64 logarithm in another dtype, held inside its normal floats, with zero gradient where it is held.

    Example:
        >>> import torch
        >>> exp_as(torch.tensor([-1e4, 0.0], dtype=torch.float64), torch.float32)
        tensor([1.1755e-38, 1.0000e+00])
    """
    info = torch.finfo(dtype)
    inwards = 1.0 - torch.finfo(log_x.dtype).eps
    low, high = math.log(info.tiny) * inwards, math.log(info.max) * inwards
    held = log_x.clamp(low, high)
    return held.exp().to(dtype).clamp(info.tiny, info.max)


def gamma_based(concentration: Tensor, finish: Callable[[Tensor], Tensor], start: Callable[[Tensor], Tensor]) -> Path:
    """The path of a function of a Gamma variable: `finish` takes its log, in float64, and `start` gives that back."""

    def pull(x: Tensor) -> Tensor:
        return log_gamma_hazard(concentration.double(), start(x.double())).to(concentration.dtype)

    return Path(
        noise_like(concentration, EXPONENTIAL),
        lambda eps: finish(log_gamma_push(concentration, eps)),
        pull,
        lambda rows, generator: finish(log_gamma_sample(concentration, rows, generator)),
    )


@path.register
def gamma_path(d: Gamma) -> Path:
    """`log x = log G - log rate`, `G` the quantile of Gamma(concentration, 1); Chi2 too.

    Samples below or above the floats are held at their ends, with zero gradient there: with float32 and a concentration of 0.01
    that is 42 % of them. `LogGamma` is the law without that limit.
    """
    rate, dtype = d.rate.double(), d.rate.dtype
    return gamma_based(d.concentration, lambda log_g: exp_as(log_g - rate.log(), dtype), lambda x: x.log() + rate.log())


@path.register
def inverse_gamma_path(d: InverseGamma) -> Path:
    """`log x = log rate - log G`, with `eps = -log P(X <= x)`, `G` the quantile of Gamma(concentration, 1)."""
    rate, dtype = d.rate.double(), d.rate.dtype
    return gamma_based(d.concentration, lambda log_g: exp_as(rate.log() - log_g, dtype), lambda x: rate.log() - x.log())
