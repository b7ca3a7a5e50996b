"""Latent variables: from the encoder's outputs to a posterior, and its divergence from the prior.

Each kind tells a model what it needs: `features` of the encoder, the `event` shape of a sample and its `width` for the decoder,
one `code` that stands for a posterior, and what to write down of it in `describe`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent, MultivariateNormal, Normal, OneHotCategorical
from torch.nn import functional as F

__all__ = ["BernoulliLatent", "CategoricalLatent", "DiagonalNormal", "FullNormal", "Posterior"]


class Posterior(NamedTuple):
    """What the encoder says of the latents.

    Attributes:
        q: their distribution, of event shape (dim,), or (dim, categories).
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
        self.dim = self.width = dim
        self.features = 2 * dim
        self.event = torch.Size([dim])
        self.register_buffer("origin", torch.zeros(dim), persistent=False)

    def forward(self, h: Tensor) -> Posterior:
        loc, log_var = h.chunk(2, -1)
        q = Normal(loc, torch.exp(0.5 * log_var), validate_args=False)
        # From log sigma^2, in four operations: at this size a step is made of the number of its operations.
        kl = 0.5 * torch.addcmul(torch.expm1(log_var) - log_var, loc, loc)
        return Posterior(Independent(q, 1, validate_args=False), kl)

    def prior(self) -> Distribution:
        return Independent(Normal(self.origin, torch.ones_like(self.origin), validate_args=False), 1, validate_args=False)

    def code(self, q: Distribution) -> Tensor:
        """The mean."""
        return q.mean

    def between(self, a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
        """The straight lines from codes `a` to codes `b`, N + event, at each `weight` from 0 to 1: weights + N + event."""
        return torch.lerp(a, b, weight[:, None, None])

    def describe(self, q: Distribution) -> dict[str, Tensor]:
        """Tables of a row a datum: means and standard deviations."""
        return {"mean": q.mean, "scale": q.stddev}


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


class BernoulliLatent(nn.Module):
    """`q(z|x) = prod Bernoulli(z_i; sigmoid(l_i))` from the logits `l`; the prior is a fair coin for each latent.

    The divergence is `log 2` minus the entropy, a latent.

    Args:
        dim: number of latents.
    """

    origin: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = self.width = self.features = dim
        self.event = torch.Size([dim])
        self.register_buffer("origin", torch.zeros(dim), persistent=False)

    def forward(self, h: Tensor) -> Posterior:
        size = h.abs()
        entropy = F.softplus(-size) + size * torch.sigmoid(-size)
        q = Bernoulli(logits=h, validate_args=False)
        return Posterior(Independent(q, 1, validate_args=False), math.log(2) - entropy)

    def prior(self) -> Distribution:
        return Independent(Bernoulli(logits=self.origin, validate_args=False), 1, validate_args=False)

    def code(self, q: Distribution) -> Tensor:
        """The most probable value of each latent."""
        return (q.mean > 0.5).to(self.origin.dtype)

    def between(self, a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
        """From codes `a` to codes `b`: of the latents that differ, a share `weight` is exchanged, the first ones first."""
        return _exchanged(a, b, a != b, weight)

    def describe(self, q: Distribution) -> dict[str, Tensor]:
        """A table of a row a datum: the probability of one, for each latent."""
        return {"probability": q.mean}


class CategoricalLatent(nn.Module):
    """`q(z|x) = prod OneHotCategorical(z_i; softmax(l_i))` from the logits `l`; the prior is uniform.

    The divergence is `log categories` minus the entropy, a latent.

    Args:
        dim: number of latents.
        categories: of each.
    """

    origin: Tensor

    def __init__(self, dim: int, categories: int) -> None:
        super().__init__()
        self.dim = dim
        self.width = self.features = dim * categories
        self.event = torch.Size([dim, categories])
        self.register_buffer("origin", torch.zeros(self.event), persistent=False)

    def forward(self, h: Tensor) -> Posterior:
        log_p = h.unflatten(-1, self.event).log_softmax(-1)
        kl = (log_p.exp() * (log_p + math.log(self.event[1]))).sum(-1)
        return Posterior(Independent(OneHotCategorical(logits=log_p, validate_args=False), 1, validate_args=False), kl)

    def prior(self) -> Distribution:
        return Independent(OneHotCategorical(logits=self.origin, validate_args=False), 1, validate_args=False)

    def code(self, q: Distribution) -> Tensor:
        """The most probable category of each latent, one-hot."""
        return F.one_hot(q.mean.argmax(-1), self.event[1]).to(self.origin.dtype)

    def between(self, a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
        """From codes `a` to codes `b`: of the latents that differ, a share `weight` is exchanged, the first ones first."""
        return _exchanged(a, b, (a != b).any(-1), weight)

    def describe(self, q: Distribution) -> dict[str, Tensor]:
        """A table of a row a datum: the probability of each category of each latent."""
        return {"probability": q.mean}


def _exchanged(a: Tensor, b: Tensor, differ: Tensor, weight: Tensor) -> Tensor:
    rank, count = differ.cumsum(-1), differ.sum(-1, keepdim=True)
    due = rank <= (weight[:, None, None] * count).round()
    return torch.where(due.reshape(due.shape + (1,) * (a.dim() - rank.dim())), b, a)
