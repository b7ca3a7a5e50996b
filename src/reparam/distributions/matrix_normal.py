"""A normal law of matrices whose rows and columns are correlated."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import constraints, register_kl

from reparam.distributions.law import Law
from reparam.noise import NORMAL, readable
from reparam.paths.path import Path, noise_like, path

__all__ = ["MatrixNormal", "cholesky_of"]


class MatrixNormal(Law):
    """A random matrix `X = loc + A E B^T` with standard normal `E`: `Cov(X_ij, X_kl) = (A A^T)_ik (B B^T)_jl`.

    Only the product of the two covariances is determined: a factor can be moved from one to the other.

    Args:
        loc: the mean, `batch + (n, p)`.
        row_scale_tril: `A`, lower triangular with a positive diagonal, `batch + (n, n)`.
        column_scale_tril: `B`, `batch + (p, p)`.
        row_covariance: `A A^T`, instead of `A`.
        column_covariance: `B B^T`, instead of `B`.

    Raises:
        ValueError: when not one of factor and covariance is given for rows and columns each, or a shape does not fit.

    Source: Gupta & Nagar (2000), "Matrix Variate Distributions", ch. 2.

    Example:
        >>> import torch
        >>> d = MatrixNormal(torch.zeros(2, 3), row_covariance=torch.eye(2), column_covariance=2 * torch.eye(3))
        >>> d.rsample((5,)).shape, d.variance[0, 0]
        (torch.Size([5, 2, 3]), tensor(2.0000))
    """

    arg_constraints = {
        "loc": constraints.independent(constraints.real, 2),
        "row_scale_tril": constraints.lower_cholesky,
        "column_scale_tril": constraints.lower_cholesky,
    }
    support = constraints.independent(constraints.real, 2)

    def __init__(
        self,
        loc: Tensor,
        row_scale_tril: Tensor | None = None,
        column_scale_tril: Tensor | None = None,
        *,
        row_covariance: Tensor | None = None,
        column_covariance: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        if loc.dim() < 2:
            raise ValueError(f"MatrixNormal: loc has shape {tuple(loc.shape)}; it must be a matrix or a batch of them")
        check = self._validate_args if validate_args is None else validate_args
        rows = _factor("row", row_scale_tril, row_covariance, loc.shape[-2], check)
        columns = _factor("column", column_scale_tril, column_covariance, loc.shape[-1], check)
        batch_shape = torch.broadcast_shapes(loc.shape[:-2], rows.shape[:-2], columns.shape[:-2])
        self.loc = loc.expand(batch_shape + loc.shape[-2:])
        self.row_scale_tril = rows.expand(batch_shape + rows.shape[-2:])
        self.column_scale_tril = columns.expand(batch_shape + columns.shape[-2:])
        super().__init__(batch_shape, loc.shape[-2:], validate_args)

    @property
    def row_covariance(self) -> Tensor:
        return self.row_scale_tril @ self.row_scale_tril.mT

    @property
    def column_covariance(self) -> Tensor:
        return self.column_scale_tril @ self.column_scale_tril.mT

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        rows, columns = self.row_scale_tril.square().sum(-1), self.column_scale_tril.square().sum(-1)
        return rows.unsqueeze(-1) * columns.unsqueeze(-2)

    def _half_log_det(self) -> Tensor:
        """Half of the log-determinant of the covariance of all entries."""
        n, p = self.event_shape
        return p * _log_det(self.row_scale_tril) + n * _log_det(self.column_scale_tril)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        z = _whiten(value - self.loc, self.row_scale_tril, self.column_scale_tril)
        return -z.square().sum((-2, -1)) / 2 - self._half_log_det() - self.event_shape.numel() / 2 * math.log(2 * math.pi)

    def entropy(self) -> Tensor:
        return self._half_log_det() + self.event_shape.numel() / 2 * (1 + math.log(2 * math.pi))


def _factor(name: str, factor: Tensor | None, covariance: Tensor | None, size: int, check: bool) -> Tensor:
    if factor is not None and covariance is None:
        return _sized(f"{name}_scale_tril", factor, size)
    if covariance is None or factor is not None:
        raise ValueError(f"MatrixNormal takes one of {name}_scale_tril and {name}_covariance")
    _sized(f"{name}_covariance", covariance, size)
    return cholesky_of(covariance, f"MatrixNormal: {name}_covariance", check)


def cholesky_of(matrix: Tensor, what: str, check: bool) -> Tensor:
    """The Cholesky factor, with words for a matrix that has none."""
    if check and readable(matrix) and not constraints.positive_definite.check(matrix).all():
        finite = bool(matrix.isfinite().all())
        least = f"its smallest eigenvalue is {torch.linalg.eigvalsh(matrix).min().item():g}" if finite else "it is not finite"
        raise ValueError(f"{what} is not symmetric and positive definite; {least}")
    return torch.linalg.cholesky(matrix)  # type: ignore[no-any-return]


def _sized(name: str, given: Tensor, size: int) -> Tensor:
    if given.shape[-2:] != (size, size):
        raise ValueError(f"MatrixNormal: {name} has shape {tuple(given.shape)}; for this loc it must end in ({size}, {size})")
    return given


def _log_det(factor: Tensor) -> Tensor:
    return factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def _whiten(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """`A^-1 x B^-T`."""
    z = torch.linalg.solve_triangular(rows, x, upper=False)
    return torch.linalg.solve_triangular(columns.mT, z, upper=True, left=False)  # type: ignore[no-any-return]


@path.register
def matrix_normal_path(d: MatrixNormal) -> Path:
    """`X = loc + A eps B^T`."""
    loc, rows, columns = d.loc, d.row_scale_tril, d.column_scale_tril
    return Path(noise_like(loc, NORMAL), lambda eps: loc + rows @ eps @ columns.mT, lambda x: _whiten(x - loc, rows, columns))


@register_kl(MatrixNormal, MatrixNormal)  # type: ignore[untyped-decorator]
def _kl(p: MatrixNormal, q: MatrixNormal) -> Tensor:
    if p.event_shape != q.event_shape:
        raise ValueError(f"the matrices have different shapes, {tuple(p.event_shape)} and {tuple(q.event_shape)}")
    rows = torch.linalg.solve_triangular(q.row_scale_tril, p.row_scale_tril, upper=False).square().sum((-2, -1))
    columns = torch.linalg.solve_triangular(q.column_scale_tril, p.column_scale_tril, upper=False).square().sum((-2, -1))
    distance = _whiten(p.loc - q.loc, q.row_scale_tril, q.column_scale_tril).square().sum((-2, -1))
    moved: Tensor = (rows * columns + distance - p.event_shape.numel()) / 2
    return moved + q._half_log_det() - p._half_log_det()
