"""The path of a Wishart matrix: Bartlett's triangular factor, its diagonal by quantiles of chi-squared laws."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Wishart

from reparam.noise import NORMAL, Fresh, Noise
from reparam.paths.gamma import log_gamma_push, log_gamma_sample
from reparam.paths.path import Path, noise_like, path
from reparam.special.gamma import log_gamma_hazard
from reparam.special.normal import hazard_from_normal, normal_from_hazard
from reparam.special.tails import LOG2

__all__ = ["bartlett_noise", "bartlett_pull", "bartlett_push", "bartlett_sample", "definite"]


def _shapes(df: Tensor, size: int) -> Tensor:
    """Half the degrees of freedom of the diagonal: `df`, `df - 1`, ..."""
    df = df.double().unsqueeze(-1)
    return (df - torch.arange(size, dtype=df.dtype, device=df.device)) / 2


def _triangle(diagonal: Tensor, below: Tensor) -> Tensor:
    """The lower triangular matrix of a diagonal and of the entries below it, row by row."""
    size = diagonal.shape[-1]
    rows, columns = torch.tril_indices(size, size, -1, device=diagonal.device)
    place = torch.full((size, size), diagonal.shape[-1] + below.shape[-1], device=diagonal.device)
    place = place.diagonal_scatter(torch.arange(size, device=diagonal.device))
    place = place.index_put((rows, columns), torch.arange(size, size + below.shape[-1], device=diagonal.device))
    entries = torch.cat([diagonal, below, torch.zeros_like(diagonal[..., :1])], -1)
    return entries[..., place]


def bartlett_noise(df: Tensor, size: int) -> Noise:
    """Normal noise for the entries of the factor: the diagonal first."""
    return noise_like(df, NORMAL, df.shape + torch.Size([size * (size + 1) // 2]))


def _finish(log_g: Tensor, below: Tensor) -> Tensor:
    # The squares of the diagonal, and their inverses, stay well inside the floats of float64.
    return _triangle(((LOG2 + log_g) / 2).clamp(min=-170.0).exp(), below)


def bartlett_push(df: Tensor, size: int, eps: Tensor) -> Tensor:
    """A lower triangular factor of a Wishart matrix with unit scale, in float64.

    Source: Bartlett (1933), On the theory of statistical regression.
    """
    diagonal, below = eps.double().split([size, size * (size - 1) // 2], -1)
    return _finish(log_gamma_push(_shapes(df, size), hazard_from_normal(diagonal)), below)


def bartlett_sample(df: Tensor, size: int, rows: torch.Size, generator: torch.Generator | None) -> Tensor:
    """The same law as that of `bartlett_push`, and at equal values the same gradient."""
    below = Noise(NORMAL, df.shape + torch.Size([size * (size - 1) // 2]), torch.float64, df.device)
    log_g = log_gamma_sample(_shapes(df, size), rows, generator)
    return _finish(log_g, below.draw(tuple(rows), source=Fresh(generator)))


def bartlett_pull(df: Tensor, factor: Tensor) -> Tensor:
    """The noise of a factor."""
    size = factor.shape[-1]
    log_g = 2 * factor.diagonal(dim1=-2, dim2=-1).log() - LOG2
    rows, columns = torch.tril_indices(size, size, -1, device=factor.device)
    diagonal = normal_from_hazard(log_gamma_hazard(_shapes(df, size), log_g))
    return torch.cat([diagonal, factor[..., rows, columns]], -1)


def definite(factor: Tensor, dtype: torch.dtype) -> Tensor:
    """`factor factor^T`, rounded, with a diagonal that is raised by what the rounding of the other entries could take from it.

    A matrix beyond the floats is scaled to their end, and a diagonal below them is moved there.
    """
    info = torch.finfo(dtype)
    matrix = factor @ factor.mT
    matrix = matrix * (info.max / 2 / matrix.abs().amax((-2, -1), keepdim=True)).clamp(max=1.0)
    size = matrix.shape[-1]
    diagonal = matrix.diagonal(dim1=-2, dim2=-1)
    raised = (diagonal * (1 + 2 * size * info.eps)).clamp(min=info.tiny)
    return (matrix + torch.diag_embed(raised - diagonal)).to(dtype)


@path.register
def wishart_path(d: Wishart) -> Path:
    """`x = (L A) (L A)^T`, `A` Bartlett's factor and `L` that of the scale.

    Where `df` is near the dimension less one, matrices are nearer to singular than a float matrix can be: the diagonal is raised by
    a few units in the last place, so that every sample has a Cholesky factor.
    """
    df, factor = d.df, d._unbroadcasted_scale_tril.double()
    size, dtype = d.event_shape[-1], d._unbroadcasted_scale_tril.dtype
    df = df.expand(d.batch_shape).to(dtype)

    def pull(x: Tensor) -> Tensor:
        root = torch.linalg.cholesky(x.double())
        return bartlett_pull(df, torch.linalg.solve_triangular(factor, root, upper=False)).to(dtype)

    return Path(
        bartlett_noise(df, size),
        lambda eps: definite(factor @ bartlett_push(df, size, eps), dtype),
        pull,
        lambda rows, generator: definite(factor @ bartlett_sample(df, size, rows, generator), dtype),
    )
