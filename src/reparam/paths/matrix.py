"""Paths that multiply normal noise by a matrix."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import LowRankMultivariateNormal, MultivariateNormal

from reparam.noise import NORMAL
from reparam.paths.path import Path, noise_like, path


def _columns(v: Tensor, batch: int) -> tuple[Tensor, torch.Size]:
    """Gather the rows in front of `batch` dimensions beside the event: `batch + (rows, event)`, and the shape of the rows."""
    rows = v.shape[: v.dim() - 1 - batch]
    return v.reshape(math.prod(rows), *v.shape[len(rows) :]).movedim(0, -2), rows


def _rows(columns: Tensor, rows: torch.Size) -> Tensor:
    """The inverse of `_columns`."""
    v = columns.movedim(-2, 0)
    return v.reshape(rows + v.shape[1:])


def _apply(matrix: Tensor, eps: Tensor, batch: int) -> Tensor:
    """`matrix @ eps` for every row, reading the matrix once and not once a row."""
    if matrix.dim() == 2:
        return eps @ matrix.mT
    columns, rows = _columns(eps, batch)
    return _rows(columns @ matrix.mT, rows)


@path.register
def multivariate_normal_path(d: MultivariateNormal) -> Path:
    """`x = loc + L eps`, `L` the Cholesky factor of the covariance, whichever way that was given."""
    loc, factor = d.loc, d._unbroadcasted_scale_tril
    batch = len(d.batch_shape)

    def push(eps: Tensor) -> Tensor:
        return loc + _apply(factor, eps, batch)

    def pull(x: Tensor) -> Tensor:
        columns, rows = _columns(x - loc, batch)
        return _rows(torch.linalg.solve_triangular(factor.mT, columns, upper=True, left=False), rows)

    return Path(noise_like(loc, NORMAL), push, pull)


@path.register
def low_rank_multivariate_normal_path(d: LowRankMultivariateNormal) -> Path:
    """`x = loc + sqrt(diagonal) * eps_1 + W eps_2`: the noise is longer than the sample, so there is no `pull`."""
    loc, factor = d.loc, d._unbroadcasted_cov_factor
    deviation = d._unbroadcasted_cov_diag.sqrt()
    size, rank = factor.shape[-2:]
    batch = len(d.batch_shape)

    def push(eps: Tensor) -> Tensor:
        own, shared = eps.split([size, rank], dim=-1)
        return torch.addcmul(loc, deviation, own) + _apply(factor, shared, batch)

    return Path(noise_like(loc, NORMAL, d.batch_shape + torch.Size([size + rank])), push)
