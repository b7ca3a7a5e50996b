"""From the units of the data to numbers of the order of one, without bounds and steps; every change of density is counted."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from reparam.data import DataWarning
from reparam.errors import BadInputError
from reparam.nn.bijection import Bijection, Pair
from reparam.noise import UNIFORM, Noise, Source

__all__ = ["Logit", "Standardise", "check_columns", "dequantise", "quantise"]


class Standardise(Bijection):
    """`z = (x - shift) / scale`, the mean and the standard deviation of each column of the training data.

    Args:
        dim: number of columns.

    Example:
        >>> import torch
        >>> standardise = Standardise(2)
        >>> standardise.fit(torch.tensor([[0.0, 10.0], [2.0, 30.0]]))
        >>> standardise(torch.tensor([2.0, 20.0]))[0]
        tensor([1., 0.])
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("shift", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Take the statistics of data N x D; a constant column keeps its unit."""
        # In double, because the sums run over all data.
        std, mean = torch.std_mean(x.double(), 0, correction=0)
        self.shift.copy_(mean)
        self.scale.copy_(torch.where(std > 0, std, 1.0))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Pair:
        return (x - self.shift) / self.scale, -self.scale.log().sum().expand(x.shape[:-1])

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Pair:
        return torch.addcmul(self.shift, self.scale, z), -self.scale.log().sum().expand(z.shape[:-1])


class Logit(Bijection):
    """`z = log(x - low) - log(high - x)`, with both ends moved outwards by a millionth of the width, where data may lie.

    Args:
        low, high: the ends of the data's interval.

    Raises:
        ValueError: when they are not in order.

    Example:
        >>> import torch
        >>> z, log_det = Logit(0.0, 1.0)(torch.tensor([0.0, 0.5, 1.0]))
        >>> z.round(decimals=1)
        tensor([-13.8000,   0.0000,  13.8000])
    """

    MARGIN = 1e-6

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        if not low < high:
            raise ValueError(f"the interval of the data is from {low} to {high}: give its lower end first")
        self.low, self.high = float(low), float(high)
        self.margin = self.MARGIN * (high - low)

    @property
    def interval(self) -> tuple[float, float]:
        """The ends of what `inverse` gives, margins included."""
        return self.low - self.margin, self.high + self.margin

    def forward(self, x: Tensor, context: Tensor | None = None) -> Pair:
        # From both ends, so that neither is rounded away.
        least = torch.finfo(x.dtype).tiny
        z = (x - self.low + self.margin).clamp(min=least).log() - (self.high - x + self.margin).clamp(min=least).log()
        return z, self._log_det(z)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Pair:
        # Half of the values are counted from each end.
        low, high = self.interval
        width = high - low
        return torch.where(z < 0, low + width * z.sigmoid(), high - width * (-z).sigmoid()), self._log_det(z)

    def _log_det(self, z: Tensor) -> Tensor:
        width = torch.tensor(self.high - self.low + 2 * self.margin, dtype=z.dtype, device=z.device)
        return (-logsigmoid(z) - logsigmoid(-z) - width.log()).sum(-1)

    def extra_repr(self) -> str:
        return f"low={self.low:g}, high={self.high:g}"


def dequantise(x: Tensor, source: Source | None = None, rows: int | None = None) -> Tensor:
    """Counts N + shape as reals: `x + u` with `u` uniform on (0, 1); with `rows`, so many times: rows + N + shape.

    The probability of counts is then the integral of a density over a cell of volume one, and by Jensen's inequality
    `log P(x) = log E p(x + u) >= E log p(x + u)`.

    Source: Theis et al., "A note on the evaluation of generative models", arXiv:1511.01844.

    Example:
        >>> import torch
        >>> x = torch.tensor([[0.0, 3.0]])
        >>> torch.equal(quantise(dequantise(x), 3), x)
        True
    """
    u = Noise(UNIFORM, x.shape[1:], x.dtype, x.device).draw((*(() if rows is None else (rows,)), len(x)), source=source)
    # Rounding must not carry the largest u into the next cell.
    return torch.minimum(x + u, torch.nextafter(x + 1, x))


def quantise(x: Tensor, levels: int) -> Tensor:
    """The counts 0..levels in whose cells `x` lies."""
    return x.floor().clamp(0, levels)


def check_columns(x: Tensor) -> None:
    """Look for columns of data N x D whose density has no bound.

    Raises:
        BadInputError: for a constant column. One with few different values is a warning.
    """
    if len(x) < 2:
        return
    constant = (x == x[0]).all(0)
    if bool(constant.any()):
        column = int(constant.nonzero()[0])
        raise BadInputError(
            f"column {column} of the training data is constant, {x[0, column]:g}: no density has a maximum there, leave it out"
        )
    few = [i for i, column in enumerate(x.T) if len(column) >= 100 and len(column[:1000].unique()) <= 10]
    if few:
        warnings.warn(
            f"column {few[0]} of the training data has at most 10 different values ({len(few)} such): the likelihood of a density "
            "rises without bound there, and tells little; leave it out, or give counts",
            DataWarning,
            stacklevel=4,
        )
