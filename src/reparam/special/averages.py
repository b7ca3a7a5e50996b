"""Expectations under simple laws by sums over fixed nodes: exact to rounding for smooth functions, differentiable.

The rule is the trapezoidal one on the real line, whose error falls exponentially with the number of nodes.
Source: Trefethen and Weideman (2014), "The exponentially convergent trapezoidal rule".
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = [
    "exponential_average",
    "logistic_average",
    "normal_average",
    "sigmoid_moments",
    "softplus_mean",
]

Function = Callable[[Tensor], Tensor]


def _nodes(end: float, step: float, like: Tensor) -> Tensor:
    count = round(end / step)
    return torch.arange(-count, count + 1, dtype=like.dtype, device=like.device).mul(step)


def _sum(f: Function, nodes: Tensor, weights: Tensor, like: Tensor) -> Tensor:
    """`sum_i weights_i f(nodes_i)`, where `f` takes nodes in front of the shape of `like`."""
    nodes, weights = (t.reshape(-1, *[1] * like.dim()) for t in (nodes, weights))
    return (weights * f(nodes)).sum(0)


def normal_average(f: Function, like: Tensor) -> Tensor:
    """`E f(Z)` for standard normal Z; `f` is smooth on the scale of one, and takes nodes in front of the shape of `like`.

    Example:
        >>> import torch
        >>> scale = torch.tensor([0.5, 1.0])
        >>> normal_average(lambda z: (scale * z).exp(), scale)
        tensor([1.1331, 1.6487])
    """
    step = 0.125
    z = _nodes(14.0, step, like)
    return _sum(f, z, torch.exp(-z * z / 2) * (step / math.sqrt(2 * math.pi)), like)


def logistic_average(f: Function, like: Tensor) -> Tensor:
    """`E f(L)` for standard logistic L, like `normal_average`."""
    step = 0.375
    x = _nodes(42.0, step, like)
    return _sum(f, x, torch.sigmoid(x) * torch.sigmoid(-x) * step, like)


def exponential_average(f: Function, like: Tensor) -> Tensor:
    """`E f(X)` for standard exponential X, like `normal_average`; `f` may grow like a logarithm at zero.

    Example:
        >>> import torch
        >>> exponential_average(torch.log, torch.ones(()))  # minus Euler's constant
        tensor(-0.5772)
    """
    step = 0.0625
    t = _nodes(4.25, step, like)
    x = torch.exp(t - torch.exp(-t))
    return _sum(f, x, torch.exp(-x) * x * (1 + torch.exp(-t)) * step, like)


def _split(scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where a sigmoid is smooth on the scale of the normal; the scales there, and those elsewhere."""
    smooth = scale < 2.0
    return smooth, torch.where(smooth, scale, 1.0), torch.where(smooth, 2.0, scale)


def sigmoid_moments(loc: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of `sigmoid(X)` for `X ~ Normal(loc, scale)`.

    A sum over the nodes of the normal, or, for wide normals, of the logistic law: `E sigmoid(X) = P(L < X)`. Means above 1/2 are
    the complements of those below, so that small variances keep their digits.

    Example:
        >>> import torch
        >>> sigmoid_moments(torch.tensor(0.0), torch.tensor(1.0))
        (tensor(0.5000), tensor(0.0434))
    """
    loc, scale = torch.broadcast_tensors(loc, scale)
    smooth, narrow, wide = _split(scale)
    upper = loc > 0
    low = torch.where(upper, -loc, loc)
    near = normal_average(lambda z: torch.sigmoid(low + narrow * z), loc)
    spread = normal_average(lambda z: (torch.sigmoid(low + narrow * z) - near).square(), loc)
    far, square = _power_mean(1, low, wide), _power_mean(2, low, wide)
    mean = torch.where(smooth, near, far)
    return torch.where(upper, 1 - mean, mean), torch.where(smooth, spread, square - far.square())


def _power_mean(k: int, loc: Tensor, scale: Tensor) -> Tensor:
    """`E sigmoid(X)^k` for `k` of 1 and 2, where `loc <= 0` and the scale is wide: `P(max(L_1, ..., L_k) < X)`.

    From `sigmoid(x)^k = exp(k x) sigmoid(-x)^k`, it is `exp(k loc + (k scale)^2 / 2)` times that of the mean `-(loc + k scale^2)`:
    where this is positive it is within the nodes, and `loc` may be beyond them.
    """
    shifted = loc + k * scale.square()
    beyond = shifted < 0
    center = torch.where(beyond, -shifted, loc)
    factor = torch.exp(torch.where(beyond, k * (loc + shifted) / 2, 0.0))
    return factor * logistic_average(lambda x: k * torch.sigmoid(x) ** (k - 1) * torch.special.ndtr((center - x) / scale), loc)


def softplus_mean(loc: Tensor, scale: Tensor) -> Tensor:
    """`E log(1 + exp(X))` for `X ~ Normal(loc, scale)`, as `E (X - L)_+` with a logistic L for wide normals.

    Example:
        >>> import torch
        >>> softplus_mean(torch.tensor(0.0), torch.tensor(1.0))
        tensor(0.8061)
    """
    loc, scale = torch.broadcast_tensors(loc, scale)
    smooth, narrow, wide = _split(scale)
    near = normal_average(lambda z: -torch.nn.functional.logsigmoid(-(loc + narrow * z)), loc)

    def above(x: Tensor) -> Tensor:
        z = (loc - x) / wide
        positive_part: Tensor = z * torch.special.ndtr(z) + torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
        return wide * positive_part

    return torch.where(smooth, near, logistic_average(above, loc))
