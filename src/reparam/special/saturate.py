"""Exponentials that stay inside the normal floats."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["bounded_quotient", "finite_sinh", "normal_exp", "normal_range"]


def normal_exp(log_x: Tensor) -> Tensor:
    """`exp(log_x)`, held at the smallest or largest normal float where it would leave them, with zero gradient there.

    Example:
        >>> import torch
        >>> normal_exp(torch.tensor([-1e4, 0.0, 1e4]))
        tensor([1.1755e-38, 1.0000e+00, 3.4028e+38])
    """
    info = torch.finfo(log_x.dtype)
    # The logarithms of the limits, rounded towards zero, so that their exponentials do not round outwards.
    inwards = 1.0 - info.eps
    return log_x.clamp(math.log(info.tiny) * inwards, math.log(info.max) * inwards).exp()


def finite_sinh(x: Tensor) -> Tensor:
    """`sinh(x)`, held inside the floats, with zero gradient where it would leave them.

    Example:
        >>> import torch
        >>> bool(finite_sinh(torch.tensor([-1e4, 1e4])).isfinite().all())
        True
    """
    largest = math.log(torch.finfo(x.dtype).max) - 1
    return torch.sinh(x.clamp(-largest, largest))


def normal_range(x: Tensor) -> Tensor:
    """`x > 0`, held inside the positive normal floats, with zero gradient where it would leave them."""
    info = torch.finfo(x.dtype)
    return x.clamp(info.tiny, info.max)


def bounded_quotient(x: Tensor, scale: Tensor) -> Tensor:
    """`x / scale` for a positive scale, held inside the floats, with zero gradient where it is held.

    Where the slope in the scale, the quotient over it, is beyond the floats, it is taken by the logarithm of the scale.

    Example:
        >>> import torch
        >>> bounded_quotient(torch.tensor([1.0, -3e38]), torch.tensor(0.1))
        tensor([ 1.0000e+01, -3.4028e+38])
    """
    info = torch.finfo(x.dtype)
    beyond = (x / scale / scale).isinf()
    far = (x * torch.exp(-torch.where(beyond, scale, 1.0).log())).clamp(info.min, info.max)
    return torch.where(beyond, far, torch.where(beyond, 0.0, x) / scale)
