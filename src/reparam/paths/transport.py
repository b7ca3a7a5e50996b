"""The gradient of the multivariate normal of lowest variance: along the optimal transport between neighbouring laws."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from reparam.noise import NORMAL
from reparam.paths.parameters import check_distribution, check_parameters
from reparam.paths.path import HALF, NoPathError, Path, noise_like

__all__ = ["optimal_transport"]


def optimal_transport(d: MultivariateNormal) -> Path:
    """The path `x = loc + T (x_0 - loc_0)`, `T` the optimal transport from the law as it stands, `loc_0` and `S_0`, to the law.

    `T = S_0^{-1/2} (S_0^{1/2} S S_0^{1/2})^{1/2} S_0^{-1/2}`, one where `S = S_0`, so that samples are those of `rp.path(d)`; its
    derivative `A` is symmetric and solves `A S_0 + S_0 A = dS`. Of all the ways to move samples with their law this is the
    shortest, and its gradient mostly has a lower variance than that of the Cholesky factor. Derivatives of expectations are right
    to third order. They are not those of `push` at fixed noise: the way depends on where it starts. There is no `pull`.

    Raises:
        NoPathError: for another law.
        TypeError: for half precision.

    Source: Jankowiak and Obermeyer, arXiv:1806.01851.

    Example:
        >>> import torch, reparam as rp
        >>> from reparam.paths import optimal_transport
        >>> covariance = torch.eye(3).requires_grad_()
        >>> x = optimal_transport(torch.distributions.MultivariateNormal(torch.zeros(3), covariance)).draw((64,))
        >>> torch.autograd.grad((x**2).sum(-1).mean(), covariance)[0].shape
        torch.Size([3, 3])
    """
    check_distribution(d)
    if not isinstance(d, MultivariateNormal):
        raise NoPathError(f"optimal transport is known here for MultivariateNormal, not for {type(d).__name__}: use rp.path(d)")
    if not check_parameters(d).isdisjoint(HALF):
        raise TypeError("optimal transport takes float32 or float64")
    loc, factor = d.loc, d._unbroadcasted_scale_tril
    covariance = factor @ factor.mT
    values, vectors = torch.linalg.eigh(covariance.detach())
    values = values.clamp(min=torch.finfo(values.dtype).tiny)
    sums = values.unsqueeze(-1) + values.unsqueeze(-2)
    # T = 1 + A, T S_0 T = S: in the eigenvectors' basis A_ij (s_i + s_j) + (A S_0 A)_ij = (S - S_0)_ij, one division for each
    # element, stable also where eigenvalues are equal. A is zero where it stands, so that each round adds an order of derivatives.
    moved = vectors.mT @ (covariance - covariance.detach()) @ vectors
    a = moved / sums
    for _ in range(2):
        a = (moved - (a * values.unsqueeze(-2)) @ a) / sums

    def push(eps: Tensor) -> Tensor:
        centred = _apply(factor.detach(), eps)
        return loc + centred + _apply(vectors, _apply(a, _apply(vectors.mT, centred)))

    return Path(noise_like(loc, NORMAL), push)


def _apply(matrix: Tensor, x: Tensor) -> Tensor:
    return (matrix @ x.unsqueeze(-1)).squeeze(-1)
