"""Gaussian latents: from the encoder's outputs to a posterior, and its divergence from the standard normal prior."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

__all__ = ["DiagonalNormal", "FullNormal", "Posterior"]


class Posterior(NamedTuple):
    """What the encoder says of the latents.

    Attributes:
        q: their distribution, of event shape (dim,).
        kl: its divergence from the prior in nats, of shape batch + (dim,): that of each latent given those before it.
    """

    q: Distribution
    kl: Tensor


class DiagonalNormal(nn.Module):
    """`q(z|x) = N(mu, diag(sigma^2))` from the outputs `(mu, log sigma^2)`; the prior is N(0, I).

    The divergence is `(mu^2 + sigma^2 - 1 - log sigma^2) / 2` a latent.

    Args:
        dim: number of latents.
    """

    origin: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.features = 2 * dim
        self.register_buffer("origin", torch.zeros(dim), persistent=False)

    def forward(self, h: Tensor) -> Posterior:
        loc, log_var = h.chunk(2, -1)
        q = Normal(loc, torch.exp(0.5 * log_var), validate_args=False)
        # From log sigma^2, in four operations: at this size a step is made of the number of its operations.
        kl = 0.5 * torch.addcmul(torch.expm1(log_var) - log_var, loc, loc)
        return Posterior(Independent(q, 1, validate_args=False), kl)

    def prior(self) -> Distribution:
        return Independent(Normal(self.origin, torch.ones_like(self.origin), validate_args=False), 1, validate_args=False)


class FullNormal(DiagonalNormal):
    """`q(z|x) = N(mu, L L^T)` from the outputs `mu`, `2 log diag L` and the entries of L below the diagonal, by rows.

    The divergence is `(mu_i^2 + sum_j L_ij^2 - 1 - 2 log L_ii) / 2` a latent.

    Args:
        dim: number of latents.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.features = 2 * dim + dim * (dim - 1) // 2
        self._below = tuple(torch.tril_indices(dim, dim, -1))

    def forward(self, h: Tensor) -> Posterior:
        loc, log_var, below = h.split([self.dim, self.dim, self.features - 2 * self.dim], -1)
        tril = torch.diag_embed(torch.exp(0.5 * log_var))
        rows, columns = self._below
        tril[..., rows, columns] = below
        kl = 0.5 * (loc.square() + tril.square().sum(-1) - 1 - log_var)
        return Posterior(MultivariateNormal(loc, scale_tril=tril, validate_args=False), kl)

    def prior(self) -> Distribution:
        eye = torch.eye(self.dim, dtype=self.origin.dtype, device=self.origin.device)
        return MultivariateNormal(self.origin, scale_tril=eye, validate_args=False)
