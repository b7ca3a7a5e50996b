"""The learned bijections of a flow: monotone functions of one number whose parameters come from a masked network of others.

The networks and the functions are zuko's. What is added keeps a flow finite: the networks see their inputs through a bound, so
that far from the data every parameter is constant and the tails are straight lines; the inverse fills in the columns in their
order and never looks at one that is not known yet; and the inverse of a spline bears rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.distributions.transforms import _InverseTransform

from reparam.nn.bijection import Bijection, Pair
from reparam.nn.network import ACTIVATIONS


@contextmanager
def _distributions_as_they_are() -> Iterator[None]:
    """Put back what the first import of zuko changes in torch for the whole process: it turns validation off."""
    held = {name: vars(Distribution)[name] for name in ("_validate_args", "arg_constraints")}
    name = _InverseTransform.__name__
    try:
        yield
    finally:
        for key, value in held.items():
            setattr(Distribution, key, value)
        _InverseTransform.__name__ = name


with _distributions_as_they_are():
    from zuko.nn import MaskedMLP
    from zuko.transforms import MonotonicAffineTransform, MonotonicRQSTransform

__all__ = ["Autoregressive", "stack"]

# Standard deviations: within, the networks see their inputs nearly as they are; beyond, they see no difference.
_SEEN = 20.0
# Where splines end: beyond, they are the identity.
_BOUND = 5.0
# The smallest slope of a scale, and of a knot of a spline; the largest is its inverse.
_SLOPE = 1e-3
_KNOT_SLOPE = 1e-2
# The last layer starts small, so that a flow starts near the identity.
_LAST_GAIN = 0.1


class _Spline(MonotonicRQSTransform):  # type: ignore[misc]
    """Zuko's rational-quadratic spline, whose inverse is never the root of a negative number.

    Source: Durkan et al., "Neural Spline Flows", arXiv:1906.04032.
    """

    def _inverse(self, y: Tensor) -> Tensor:
        mask, x0, x1, y0, y1, d0, d1, s = self.bin(self.searchsorted(self.vertical, y) - 1)
        away = mask * (y - y0)
        bend = d0 + d1 - 2 * s
        a = (y1 - y0) * (s - d0) + away * bend
        b = (y1 - y0) * d0 - away * bend
        # What is positive but for rounding; the square root has no slope at zero.
        root = (b**2 + 4 * a * s * away).clamp(min=torch.finfo(y.dtype).tiny).sqrt()
        share = (2 * s * away / (b + root)).clamp(0, 1)
        return torch.where(mask, x0 + share * (x1 - x0), y)


class Autoregressive(Bijection):
    """`z_i = f(x_i; theta_i)`, with `theta_i` a network of the context and of the columns whose place comes before that of i.

    f is affine, and then, where there are bins, a monotone rational-quadratic spline on [-5, 5] that is the identity outside.
    With a place for every column this is a masked autoregressive flow, whose inverse takes D passes of the network; with two
    places it is a coupling, whose inverse takes two.

    Args:
        place: of each column, D whole numbers from 0 on.
        context: number of values in the context.
        bins: of the spline; 0 leaves it out.
        hidden: widths of the network's hidden layers.
        activation: of the network.
        dropout: share of the hidden units that are left out at each step of training.

    Source: Papamakarios et al., "Masked Autoregressive Flow", arXiv:1705.07057; Durkan et al., arXiv:1906.04032; Dinh et al.,
    "Density estimation using Real NVP", arXiv:1605.08803.

    Example:
        >>> import torch
        >>> part = Autoregressive(torch.arange(3), bins=8)
        >>> z, log_det = part(torch.randn(5, 3))
        >>> z.shape, log_det.shape
        (torch.Size([5, 3]), torch.Size([5]))
    """

    place: Tensor

    def __init__(
        self,
        place: Tensor,
        *,
        context: int = 0,
        bins: int = 0,
        hidden: Sequence[int] = (64, 64),
        activation: str = "relu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.register_buffer("place", place, persistent=False)
        self.places = int(place.max()) + 1
        sees = place[:, None] > place
        # A network must see something: without a context a single column has one that is constant.
        self.constant = not context and not bool(sees.any())
        sees = torch.cat([sees, torch.ones(len(place), context or int(self.constant), dtype=torch.bool)], 1)
        self.sizes = (1, 1, bins, bins, bins - 1) if bins else (1, 1)
        self.net = MaskedMLP(sees.repeat_interleave(sum(self.sizes), 0), hidden, ACTIVATIONS[activation])
        if dropout:
            for i in reversed([i for i, layer in enumerate(self.net) if isinstance(layer, ACTIVATIONS[activation])]):
                self.net.insert(i + 1, nn.Dropout(dropout))
        with torch.no_grad():
            self.net[-1].weight.mul_(_LAST_GAIN)
            self.net[-1].bias.zero_()

    def forward(self, x: Tensor, context: Tensor | None = None) -> Pair:
        z, log_det = x, torch.zeros_like(x)
        for function in self._functions(x, context):
            z, slope = function.call_and_ladj(z)
            log_det = log_det + slope
        return z, log_det.sum(-1)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Pair:
        x = torch.zeros_like(z)
        for place in range(self.places):
            found = z
            for function in reversed(self._functions(x, context)):
                found = function._inverse(found)
            x = torch.where(self.place == place, found, x)
        return x, self.forward(x, context)[1]

    def _functions(self, x: Tensor, context: Tensor | None) -> list[MonotonicAffineTransform | MonotonicRQSTransform]:
        """Those of the columns, in the order from data to noise."""
        seen = [_SEEN * torch.tanh(x / _SEEN)]
        if self.constant:
            seen.append(torch.ones_like(x[..., :1]))
        elif context is not None:
            seen.append(context.expand(*x.shape[:-1], context.shape[-1]))
        theta = self.net(torch.cat(seen, -1)).to(x.dtype).unflatten(-1, (x.shape[-1], sum(self.sizes))).split(self.sizes, -1)
        made = [MonotonicAffineTransform(theta[0].squeeze(-1), theta[1].squeeze(-1), slope=_SLOPE)]
        return [*made, _Spline(*theta[2:], bound=_BOUND, slope=_KNOT_SLOPE)] if len(theta) > 2 else made

    def extra_repr(self) -> str:
        return f"places={self.places}, bins={self.sizes[2] if len(self.sizes) > 2 else 0}"


def stack(dim: int, transforms: int, *, coupling: bool = False, **settings: object) -> list[Autoregressive]:
    """So many bijections of `dim` columns whose orders differ.

    Autoregressive ones go through the columns forwards and backwards in turn. Couplings split the columns by one binary digit of
    their number, each half given the other half in turn, then by the next digit: any two columns are on different sides of some.
    """
    columns, digits = torch.arange(dim), max(1, (dim - 1).bit_length())
    made = []
    for i in range(transforms):
        place = (columns >> (i // 2 % digits)) & 1 if coupling else columns
        made.append(Autoregressive(place.max() - place if i % 2 else place, **settings))  # type: ignore[arg-type]
    return made
