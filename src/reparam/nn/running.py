"""Mean and scale of what arrives bit by bit, such as the observations of an agent: part of the model, and of its checkpoint."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["RunningNormal"]

# Standardised values end here: what was constant until now is no reason for an output of thousands.
_MOST = 10.0
# Of the mean square: a value that varies less is rounding.
_LEAST = 1e-12


class RunningNormal(nn.Module):
    """The mean and the variance, element by element, of all that `update` was ever given, in float64.

    Batches are merged by Chan's formula, so that the result is that of the concatenation, to rounding, however it was cut. Elements
    that have not varied keep scale 1; before the first update, mean and scale are 0 and 1.

    Args:
        shape: of one datum; () for numbers, such as rewards.

    Attributes:
        count: the data so far.
        mean, variance: of them (divided by the count), float64.

    Source: Chan, Golub and LeVeque (1979), "Updating formulae and a pairwise algorithm for computing sample variances".

    Example:
        >>> import torch
        >>> running = RunningNormal((2,))
        >>> running.update(torch.tensor([[0.0, 5.0], [2.0, 5.0]]))
        >>> running.update(torch.tensor([[4.0, 5.0]]))
        >>> running.mean.tolist(), [round(v, 3) for v in running.variance.tolist()], int(running.count)
        ([2.0, 5.0], [2.667, 0.0], 3)
        >>> running.standardise(torch.tensor([2.0, 6.0]))
        tensor([0., 1.])
    """

    count: Tensor
    mean: Tensor
    squares: Tensor
    shift: Tensor
    scale: Tensor

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = torch.Size(shape)
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(self.shape, dtype=torch.float64))
        self.register_buffer("squares", torch.zeros(self.shape, dtype=torch.float64))
        # What standardising needs, in the format of the network: looked at far more often than changed.
        self.register_buffer("shift", torch.zeros(self.shape))
        self.register_buffer("scale", torch.ones(self.shape))

    @property
    def variance(self) -> Tensor:
        return self.squares / self.count.clamp(min=1)

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        """Take in data, rows + shape, with any rows; none are fine.

        Raises:
            ValueError: for another shape, or values that are not finite, which nothing would forget.
        """
        rows = x.dim() - len(self.shape)
        if rows < 0 or x.shape[rows:] != self.shape:
            raise ValueError(f"data of shape {tuple(x.shape)} came: rows + {tuple(self.shape)} are wanted")
        x = x.reshape(-1, *self.shape).to(self.mean)
        if not len(x):
            return
        mean, total = x.mean(0), self.count + len(x)
        away = mean - self.mean
        squares = self.squares + (x - mean).square().sum(0) + away.square() * (self.count * len(x) / total)
        if not squares.isfinite().all():
            raise ValueError("the data have NaN or infinite values, or too large ones: their mean would never be finite again")
        self.mean += away * (len(x) / total)
        self.squares.copy_(squares)
        self.count.copy_(total)
        self.shift.copy_(self.mean)
        noise = _LEAST * self.mean.square()
        self.scale.copy_(torch.where(squares > total * noise, (squares / total).sqrt(), 1.0))

    def standardise(self, x: Tensor) -> Tensor:
        """`(x - mean) / scale`, between -10 and 10."""
        return ((x - self.shift) / self.scale).clamp(-_MOST, _MOST)

    def rescale(self, x: Tensor) -> Tensor:
        """`x / scale`: what must keep its zero, such as a reward."""
        return x / self.scale

    def extra_repr(self) -> str:
        return f"shape={tuple(self.shape)}, count={int(self.count)}"
