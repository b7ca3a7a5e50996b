"""The two tails of exponential noise `eps = -log P(X > x)`: each formula works on the smaller of them, so that both are exact."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

__all__ = ["LOG2", "hazard", "log_sech_squared", "smaller_tail"]

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


def log_sech_squared(y: Tensor) -> Tensor:
    """`log(1 - tanh(y)**2)`, also where the tanh is 1 to rounding.

    Example:
        >>> import torch
        >>> log_sech_squared(torch.tensor([0.0, 1e4]))
        tensor([     0.0000, -19998.6133])
    """
    return logsigmoid(2 * y) + logsigmoid(-2 * y) + 2 * LOG2
