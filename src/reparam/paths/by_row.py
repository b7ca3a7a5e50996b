"""Normal samples with a row of noise for each datum of a batch, as chains of samples take them."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor
from torch.distributions import Normal

from reparam.noise import Source
from reparam.paths.path import path

__all__ = ["normal_by_row"]


def normal_by_row(loc: Tensor, scale: Tensor, source: Source | None = None) -> Tensor:
    """A reparameterised sample `loc + scale eps`, with its first dimension as the rows of the noise.

    `rsample(Normal(loc, scale))` is one row of N + event values to a source; here each datum is a row, so that `Sobol` spreads the
    noise of a batch evenly and `Antithetic` mirrors its halves.

    Args:
        loc: of shape N + event.
        scale: of a shape that broadcasts to it.
        source: of noise.

    Example:
        >>> import torch, reparam as rp
        >>> from reparam.paths.by_row import normal_by_row
        >>> z = normal_by_row(torch.zeros(4, 2), torch.ones(()), rp.Antithetic())
        >>> torch.equal(z[:2], -z[2:])
        True
    """
    p = path(Normal(loc, scale.to(loc.dtype), validate_args=False))
    return p.push(replace(p.noise, shape=loc.shape[1:]).draw(len(loc), source=source))
