"""Invertible maps from data to noise, each with its log-determinant, and chains of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Bijection", "Chain", "Pair"]

Pair = tuple[Tensor, Tensor]


class Bijection(nn.Module):
    """An invertible map `z = f(x)` of vectors, `rows + (D,)`, that may depend on a context, `rows + (C,)`.

    Both directions return the log-determinant of the way from data to noise, `log |det dz/dx|`, of shape `rows`: whichever end
    is given, `log p(x) = log p(z) + log |det dz/dx|`.

    Source: Papamakarios et al., "Normalizing Flows for Probabilistic Modeling and Inference", arXiv:1912.02762.
    """

    def forward(self, x: Tensor, context: Tensor | None = None) -> Pair:
        """`z = f(x)` and `log |det dz/dx|`."""
        raise NotImplementedError

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Pair:
        """`x = f^-1(z)` and `log |det dz/dx|` there."""
        raise NotImplementedError


class Chain(Bijection):
    """One bijection after the other: the first one sees the data, the last one gives the noise.

    Args:
        parts: at least one.

    Example:
        >>> import torch
        >>> from reparam.nn.preprocess import Logit, Standardise
        >>> chain = Chain(Logit(0.0, 1.0), Standardise(3))
        >>> x = torch.rand(5, 3)
        >>> z, log_det = chain(x)
        >>> torch.allclose(chain.inverse(z)[0], x, atol=1e-5), log_det.shape
        (True, torch.Size([5]))
    """

    def __init__(self, *parts: Bijection) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Pair:
        total = torch.zeros((), dtype=x.dtype, device=x.device)
        for part in self.parts:
            x, log_det = part(x, context)
            total = total + log_det
        return x, total

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Pair:
        total = torch.zeros((), dtype=z.dtype, device=z.device)
        for part in reversed(self.parts):
            z, log_det = part.inverse(z, context)  # type: ignore[operator]
            total = total + log_det
        return z, total
