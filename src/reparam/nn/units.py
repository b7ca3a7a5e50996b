"""Between the units of data and numbers of the order of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from reparam.data import Values

__all__ = ["Units"]


class Units(nn.Module):
    """Data N + shape in their units, 0 and 1, counts 0..levels or reals, and the same with zero mean and unit variance.

    Mean and standard deviation are those of each column of a table of reals, of each channel of signals and images, and of all
    values of a table of counts, which have their unit in common.

    Args:
        shape: of a datum.
        values: what the numbers are: binary, counts or real.
        levels: the largest count.

    Attributes:
        levels: the largest count, 1 for binary data, None for reals.

    Raises:
        ValueError: for counts without levels.

    Example:
        >>> import torch
        >>> units = Units((2,), "real")
        >>> units.fit(torch.tensor([[0.0, 10.0], [2.0, 30.0]]))
        >>> units.standardise(torch.tensor([[2.0, 20.0]]))
        tensor([[1., 0.]])
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, shape: Sequence[int], values: Values, levels: int | None = None) -> None:
        super().__init__()
        if values == "counts" and levels is None:
            raise ValueError("values='counts' are 0..levels: give levels, or take values='real'")
        self.shape = torch.Size(shape)
        self.levels = {"binary": 1, "counts": levels}.get(values)
        grain = (shape[0], *(1 for _ in shape[1:])) if len(shape) > 1 or values == "real" else (1,)
        self.register_buffer("shift", torch.zeros(grain))
        self.register_buffer("scale", torch.ones(grain))

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Take mean and standard deviation from training data."""
        self.check(x, values=True)
        x = x.double()  # because the sums run over all data
        x = x.reshape(-1, 1) if len(self.shape) == 1 and len(self.shift) == 1 else x
        std, mean = torch.std_mean(x, [0, *range(2, x.dim())], correction=0)
        self.shift.copy_(mean.reshape(self.shift.shape))
        self.scale.copy_(torch.where(std > 0, std, 1.0).reshape(self.scale.shape))  # a constant column keeps its unit

    def standardise(self, x: Tensor) -> Tensor:
        return (x.to(self.shift.dtype) - self.shift) / self.scale

    def restore(self, z: Tensor) -> Tensor:
        """The inverse of `standardise`, with counts as reals."""
        return self.shift + self.scale * z

    def rounded(self, x: Tensor) -> Tensor:
        """Data that counts are: whole numbers 0..levels; reals as they are."""
        return x if self.levels is None else x.round().clamp(0, self.levels)

    @property
    def lattice(self) -> Tensor | None:
        """The standardised counts, in a shape that broadcasts from (levels + 1,) + shape; None of reals."""
        if self.levels is None:
            return None
        counts = torch.arange(self.levels + 1, dtype=self.shift.dtype, device=self.shift.device)
        return self.standardise(counts.reshape(-1, *(1 for _ in self.shape)))

    @property
    def log_scale(self) -> Tensor:
        """What the log-density of data is less in their units than standardised, in nats per datum."""
        return self.scale.log().expand(self.shape).sum()

    def check(self, x: Tensor, *, values: bool = False) -> None:
        """Raise ValueError for a batch of another shape, and with `values` when they are not in these units."""
        if x.dim() == 0 or x.shape[1:] != self.shape:
            raise ValueError(f"the batch has shape {tuple(x.shape)}: this model takes N x {' x '.join(map(str, self.shape))}")
        if x.is_complex():
            raise TypeError(f"the batch is {x.dtype}: give real numbers")
        if not values or not x.numel():
            return
        if not x.isfinite().all():
            raise ValueError("the batch has NaN or infinite values: drop or fill them")
        if self.levels is not None and not (x.min() >= 0 and x.max() <= self.levels and (x == x.round()).all()):
            wanted = "0 and 1" if self.levels == 1 else f"counts 0..{self.levels}"
            raise ValueError(
                f"the batch has values from {x.min():g} to {x.max():g}, this model is of {wanted}: give data in those units"
            )

    def extra_repr(self) -> str:
        return f"shape={tuple(self.shape)}, levels={self.levels}"
