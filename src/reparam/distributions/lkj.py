"""The law of correlation matrices of Lewandowski, Kurowicka and Joe."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.constraints import Constraint

from reparam.distributions.law import Law
from reparam.noise import Source
from reparam.paths.joint import sample_and_log_prob
from reparam.paths.lkj import lkj_vine_path
from reparam.paths.path import Path, path
from reparam.special.beta import logit_beta_quantile
from reparam.special.tails import LOG2, log_sech_squared

__all__ = ["LKJ", "correlation"]

Inverse = Callable[[Tensor], Tensor]
Sampler = Callable[[torch.Size, torch.Generator | None], Tensor]


class _Correlation(Constraint):
    """Symmetric, ones on the diagonal, and no eigenvalue below zero by more than rounding."""

    event_dim = 2

    def check(self, value: Tensor) -> Tensor:
        tolerance = 10 * value.shape[-1] * torch.finfo(value.dtype).eps
        symmetric = ((value - value.mT).abs() <= tolerance).flatten(-2).all(-1)
        unit = ((value.diagonal(dim1=-2, dim2=-1) - 1).abs() <= tolerance).all(-1)
        positive: Tensor = torch.linalg.eigvalsh(value)[..., 0] >= -tolerance
        return symmetric & unit & positive


correlation = _Correlation()


class LKJ(Law):
    """Correlation matrices `R` with density proportional to `det(R)^(concentration - 1)`.

    One is the uniform law; every entry off the diagonal is of law Beta(b, b) on (-1, 1), `b = concentration + dim / 2 - 1`. For
    numerical work with the matrix torch's `LKJCholesky`, the law of the factor, is the better one.

    Args:
        dim: the number of rows, at least 2.
        concentration: positive, of shape `batch`.

    Source: Lewandowski, Kurowicka and Joe (2009), "Generating random correlation matrices based on vines and extended onion
    method".

    Example:
        >>> import torch
        >>> R = LKJ(3, torch.tensor(2.0)).rsample((5,))
        >>> R.shape, torch.equal(R.diagonal(dim1=-2, dim2=-1), torch.ones(5, 3))
        (torch.Size([5, 3, 3]), True)
    """

    arg_constraints = {"concentration": constraints.positive}
    support = correlation

    def __init__(self, dim: int, concentration: Tensor | float = 1.0, validate_args: bool | None = None) -> None:
        if dim < 2:
            raise ValueError(f"LKJ was given dim={dim}; a correlation matrix has at least two rows")
        self.dim = dim
        self.concentration = torch.as_tensor(
            concentration, dtype=None if isinstance(concentration, Tensor) else torch.get_default_dtype()
        )
        super().__init__(self.concentration.shape, torch.Size([dim, dim]), validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        """The log-density with respect to the entries below the diagonal; minus infinity for a singular matrix.

        Samples of a small concentration round to singular ones; `sample_and_log_prob` has their density.
        """
        if self._validate_args:
            self._validate_sample(value)
        factor, failed = torch.linalg.cholesky_ex(value)
        regular = failed == 0
        pivots = torch.where(regular.unsqueeze(-1), factor.diagonal(dim1=-2, dim2=-1), 1.0)
        density = 2 * (self.concentration - 1) * pivots.log().sum(-1) - self._log_normalizer()
        return torch.where(regular, density, -torch.inf)

    def _vine(self) -> tuple[Tensor, Tensor]:
        """The parameters of the partial correlations, tree by tree, and how many there are of each."""
        tree = torch.arange(1, self.dim, device=self.concentration.device)
        return self.concentration.unsqueeze(-1) + (self.dim - 1 - tree) / 2, self.dim - tree

    def _log_normalizer(self) -> Tensor:
        b, count = self._vine()
        return (count * (2 * torch.lgamma(b) - torch.lgamma(2 * b) + (2 * b - 1) * LOG2)).sum(-1)

    @property
    def mean(self) -> Tensor:
        """The unit matrix."""
        one = torch.eye(self.dim, dtype=self.concentration.dtype, device=self.concentration.device)
        return one.expand(self.batch_shape + self.event_shape)

    @property
    def mode(self) -> Tensor:
        """The unit matrix, for a concentration above one."""
        return torch.where(self.concentration[..., None, None] > 1, self.mean, torch.nan)

    @property
    def variance(self) -> Tensor:
        """`1 / (2 concentration + dim - 1)` off the diagonal."""
        return (1 - self.mean) / (2 * self.concentration + self.dim - 1)[..., None, None]

    def entropy(self) -> Tensor:
        b, count = self._vine()
        log_det = (count * 2 * (LOG2 + torch.digamma(b) - torch.digamma(2 * b))).sum(-1)
        return self._log_normalizer() - (self.concentration - 1) * log_det


@path.register
def lkj_path(d: LKJ) -> Path:
    """`R = L L'`, `L` by the path of the factor."""
    base = lkj_vine_path(d.dim, d.concentration)
    one = torch.eye(d.dim, dtype=torch.bool, device=d.concentration.device)
    pull, fast = cast(Inverse, base.pull), cast(Sampler, base.sample)

    def square(factor: Tensor) -> Tensor:
        return torch.where(one, 1.0, (factor @ factor.mT).clamp(-1.0, 1.0))

    return Path(
        base.noise,
        lambda eps: square(base.push(eps)),
        lambda matrix: pull(torch.linalg.cholesky(matrix)),
        lambda rows, generator: square(fast(rows, generator)),
    )


@sample_and_log_prob.register
def _joint(d: LKJ, rows: torch.Size, source: Source | None) -> tuple[Tensor, Tensor]:
    """With the determinant from the logits of the vine: the product of `1 - r^2 = sech(y / 2)^2`, where the matrix is singular."""
    p = path.part(d)
    eps = p.noise.draw(rows, source=source)
    column = torch.tril_indices(d.dim, d.dim, -1, device=eps.device)[1]
    b = d.concentration.double().unsqueeze(-1) + (d.dim - 2 - column) / 2
    y = logit_beta_quantile(b, b, eps.double())
    log_det = log_sech_squared(y / 2).sum(-1)
    density = (d.concentration - 1) * log_det - d._log_normalizer()
    return p.push(eps), density.to(d.concentration.dtype)
