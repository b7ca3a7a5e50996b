"""The two tails of exponential noise `eps = -log P(X > x)`: each formula works on the smaller of them, so that both are exact."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["LOG2", "hazard", "smaller_tail"]

LOG2 = math.log(2.0)


def smaller_tail(eps: Tensor) -> tuple[Tensor, Tensor]:
    """Whether the upper tail is the smaller one, and the probability of the smaller one.

    Example:
        >>> import torch
        >>> smaller_tail(torch.tensor([1e-30, 100.0]))
        (tensor([False,  True]), tensor([1.0000e-30, 3.7835e-44]))
    """
    upper = eps > LOG2
    return upper, torch.where(upper, torch.exp(-eps), -torch.expm1(-eps))


def hazard(upper: Tensor, tail: Tensor) -> Tensor:
    """The exponential noise of a tail probability below one: of the upper tail where `upper`, else of the lower.

    Example:
        >>> import torch
        >>> hazard(torch.tensor([False, True]), torch.tensor([1e-30, 1e-30]))
        tensor([1.0000e-30, 6.9078e+01])
    """
    return torch.where(upper, -torch.log(tail), -torch.log1p(-tail))
