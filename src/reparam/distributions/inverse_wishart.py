"""The inverse of a Wishart matrix."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import constraints

from reparam.distributions.law import Law
from reparam.distributions.matrix_normal import cholesky_of
from reparam.noise import readable
from reparam.paths.path import Path, path
from reparam.paths.wishart import bartlett_noise, bartlett_pull, bartlett_push, bartlett_sample, definite
from reparam.special.tails import LOG2

__all__ = ["InverseWishart"]


class InverseWishart(Law):
    """A random covariance matrix whose inverse has a Wishart law: the conjugate prior of a normal law's covariance.

    Formula: `p(X) ~ |X|^-(df + p + 1)/2 exp(-trace(S X^-1) / 2)` for matrices of size `p`; `X^-1` is Wishart(df, S^-1).

    Args:
        df: degrees of freedom, `batch`; above `p - 1`.
        scale_matrix: `S`, `batch + (p, p)`, symmetric and positive definite.
        scale_tril: its Cholesky factor, instead.

    Raises:
        ValueError: for parameters out of range; unless one of `scale_matrix` and `scale_tril` is given.

    Source: Gupta and Nagar (2000), Matrix Variate Distributions, section 3.4.

    Example:
        >>> import torch
        >>> q = InverseWishart(torch.tensor(5.0), 4 * torch.eye(2))
        >>> q.rsample((3,)).shape, q.mean
        (torch.Size([3, 2, 2]), tensor([[2., 0.],
                [0., 2.]]))
    """

    arg_constraints = {"df": constraints.positive, "scale_tril": constraints.lower_cholesky}
    support = constraints.positive_definite
    df: Tensor
    scale_tril: Tensor

    def __init__(
        self,
        df: Tensor | float,
        scale_matrix: Tensor | None = None,
        scale_tril: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        given = scale_matrix if scale_tril is None else scale_tril
        if given is None or (scale_matrix is not None and scale_tril is not None):
            raise ValueError("InverseWishart takes one of scale_matrix and scale_tril")
        if given.dim() < 2 or given.shape[-1] != given.shape[-2]:
            raise ValueError(f"InverseWishart: the scale has shape {tuple(given.shape)}; it must end in a square matrix")
        size = given.shape[-1]
        df = torch.as_tensor(df, dtype=given.dtype, device=given.device)
        check = self._validate_args if validate_args is None else validate_args
        if check and readable(df) and bool((df <= size - 1).any()):
            raise ValueError(
                f"InverseWishart: df is {df.min().item():g} at least; matrices of size {size} need more than {size - 1}"
            )
        batch_shape = torch.broadcast_shapes(df.shape, given.shape[:-2])
        factor = given if scale_tril is not None else cholesky_of(given, "InverseWishart: scale_matrix", check)
        self.df = df.expand(batch_shape)
        self.scale_tril = factor.expand(batch_shape + given.shape[-2:])
        super().__init__(batch_shape, given.shape[-2:], validate_args)

    @property
    def scale_matrix(self) -> Tensor:
        return self.scale_tril @ self.scale_tril.mT

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        size = self.event_shape[-1]
        root, failed = torch.linalg.cholesky_ex(value)
        inside = failed == 0
        root = torch.where(inside[..., None, None], root, torch.eye(size, dtype=root.dtype, device=root.device))
        # trace(S X^-1) = |root^-1 scale_tril|^2
        trace = torch.linalg.solve_triangular(root, self.scale_tril, upper=False).square().sum((-2, -1))
        constant = self.df * size / 2 * LOG2 + torch.mvlgamma(self.df / 2, size)
        log_prob: Tensor = self.df * _half_log_det(self.scale_tril) - (self.df + size + 1) * _half_log_det(root) - trace / 2
        return torch.where(inside, log_prob - constant, -torch.inf)

    @property
    def mean(self) -> Tensor:
        """The scale over `df - p - 1`; NaN where that is not positive."""
        rest = (self.df - self.event_shape[-1] - 1)[..., None, None]
        return self.scale_matrix / torch.where(rest > 0, rest, torch.nan)

    @property
    def mode(self) -> Tensor:
        return self.scale_matrix / (self.df + self.event_shape[-1] + 1)[..., None, None]

    @property
    def variance(self) -> Tensor:
        """Of each entry; NaN where `df <= p + 3`."""
        scale = self.scale_matrix
        diagonal = scale.diagonal(dim1=-2, dim2=-1)
        rest = (self.df - self.event_shape[-1])[..., None, None]
        rest = torch.where(rest > 3, rest, torch.nan)
        spread = (rest + 1) * scale.square() + (rest - 1) * diagonal.unsqueeze(-1) * diagonal.unsqueeze(-2)
        return spread / (rest * (rest - 1).square() * (rest - 3))


def _half_log_det(factor: Tensor) -> Tensor:
    return factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)


@path.register
def inverse_wishart_path(d: InverseWishart) -> Path:
    """`x = (L A^-T) (L A^-T)^T`, `A` Bartlett's factor of a Wishart matrix with unit scale and `L` that of the scale."""
    df, factor = d.df, d.scale_tril.double()
    size, dtype = d.event_shape[-1], d.scale_tril.dtype

    def finish(bartlett: Tensor) -> Tensor:
        return definite(torch.linalg.solve_triangular(bartlett.mT, factor, upper=True, left=False), dtype)

    def pull(x: Tensor) -> Tensor:
        root = torch.linalg.solve_triangular(factor, torch.linalg.cholesky(x.double()), upper=False)
        # Of root root^T = A^-T A^-1 the upper factor, through that of the matrix turned round.
        turned = torch.linalg.cholesky((root @ root.mT).flip((-2, -1))).flip((-2, -1))
        unit = torch.eye(size, dtype=turned.dtype, device=turned.device).expand_as(turned)
        return bartlett_pull(df, torch.linalg.solve_triangular(turned.mT, unit, upper=False)).to(dtype)

    return Path(
        bartlett_noise(df, size),
        lambda eps: finish(bartlett_push(df, size, eps)),
        pull,
        lambda rows, generator: finish(bartlett_sample(df, size, rows, generator)),
    )
