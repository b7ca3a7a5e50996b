"""The stochastic part of a state: from a network's outputs to its law, and from noise to a sample that passes a gradient on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, Normal, OneHotCategorical
from torch.nn.functional import softplus

from reparam.errors import BadInputError
from reparam.noise import NORMAL, UNIFORM, Kind

__all__ = ["Gaussian", "OneHot", "Stochastic"]


class Stochastic(Protocol):
    """A family of latent variables.

    Attributes:
        event: the shape of a sample.
        outputs: the numbers of a network that make a law.
        kind: the noise that makes a sample.
        noise: its shape.
    """

    @property
    def kind(self) -> Kind: ...

    @property
    def noise(self) -> torch.Size: ...

    @property
    def event(self) -> torch.Size: ...

    @property
    def outputs(self) -> int: ...

    def law(self, h: Tensor) -> Distribution:
        """The law that outputs `rows + (outputs,)` make."""
        ...

    def push(self, h: Tensor, eps: Tensor) -> Tensor:
        """The sample of `law(h)` that noise `rows + noise` makes, with a gradient that is its own: `rows + event`."""
        ...

    def code(self, q: Distribution) -> Tensor:
        """One value that stands for a law."""
        ...


@dataclass(frozen=True)
class Gaussian:
    """Normal variables, from their means and numbers s, `sigma = softplus(s) + floor`; a sample is `mu + sigma * eps`.

    Args:
        dim: how many.
        floor: the least standard deviation, which keeps divergences of one law from another finite.

    Example:
        >>> import torch
        >>> latent = Gaussian(2)
        >>> q = latent.law(torch.zeros(5, latent.outputs))
        >>> q.batch_shape, q.event_shape
        (torch.Size([5]), torch.Size([2]))
    """

    dim: int
    floor: float = 0.1

    @property
    def kind(self) -> Kind:
        return NORMAL

    @property
    def noise(self) -> torch.Size:
        return self.event

    @property
    def event(self) -> torch.Size:
        return torch.Size([self.dim])

    @property
    def outputs(self) -> int:
        return 2 * self.dim

    def law(self, h: Tensor) -> Distribution:
        loc, s = _wide(h).chunk(2, -1)
        return Independent(Normal(loc, softplus(s) + self.floor, validate_args=False), 1, validate_args=False)

    def push(self, h: Tensor, eps: Tensor) -> Tensor:
        loc, s = _wide(h).chunk(2, -1)
        return torch.addcmul(loc, softplus(s) + self.floor, eps)

    def code(self, q: Distribution) -> Tensor:
        """The mean."""
        return q.mean


@dataclass(frozen=True)
class OneHot:
    """Choices among categories, one-hot, whose gradient is the straight-through one: that of the probabilities.

        p = (1 - unimix) softmax(l) + unimix / categories

    The share of the uniform law keeps every category possible, and divergences finite. The category is the first up to which
    the probabilities come to a uniform number.

    Args:
        dim: number of variables.
        categories: of each.
        unimix: the share of the uniform law, from 0 to below 1.

    Raises:
        BadInputError: for another share.

    Source: Bengio et al., arXiv:1308.3432; Hafner et al., arXiv:2301.04104 (unimix).

    Example:
        >>> import torch
        >>> latent = OneHot(2, 4, unimix=0.01)
        >>> z = latent.push(torch.zeros(5, latent.outputs), torch.rand(5, 2))
        >>> z.shape, z.sum(-1).unique()
        (torch.Size([5, 2, 4]), tensor([1.]))
    """

    dim: int
    categories: int
    unimix: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.unimix < 1:
            raise BadInputError(f"unimix={self.unimix}: give a share, from 0 to below 1")

    @property
    def kind(self) -> Kind:
        return UNIFORM

    @property
    def noise(self) -> torch.Size:
        return torch.Size([self.dim])

    @property
    def event(self) -> torch.Size:
        return torch.Size([self.dim, self.categories])

    @property
    def outputs(self) -> int:
        return self.dim * self.categories

    def law(self, h: Tensor) -> Distribution:
        logits = _wide(h).unflatten(-1, (self.dim, self.categories))
        if self.unimix:
            logits = self._mixed(logits).log()
        return Independent(_one_hot(logits), 1, validate_args=False)

    def push(self, h: Tensor, eps: Tensor) -> Tensor:
        p = self._mixed(_wide(h).unflatten(-1, (self.dim, self.categories)))
        below = p.detach()[..., :-1].cumsum(-1) < eps[..., None]
        # `straight_through(value, p)`, which at this size would cost more than the rest; the difference is zero, exactly.
        return (p - p.detach()).scatter_add(-1, below.sum(-1, keepdim=True), torch.ones_like(p[..., :1]))

    def code(self, q: Distribution) -> Tensor:
        """The most probable category of each."""
        return torch.zeros_like(q.mean).scatter_(-1, q.mean.argmax(-1, keepdim=True), 1.0)

    def _mixed(self, logits: Tensor) -> Tensor:
        p = logits.softmax(-1)
        return (1 - self.unimix) * p + self.unimix / self.categories if self.unimix else p


def _wide(h: Tensor) -> Tensor:
    return h.float() if h.dtype in (torch.float16, torch.bfloat16) else h


def _one_hot(logits: Tensor) -> OneHotCategorical:
    # Torch's own looks at all logits, of the law that it is made of, whatever `validate_args` says.
    law = OneHotCategorical.__new__(OneHotCategorical)
    law._categorical = Categorical(logits=logits, validate_args=False)
    Distribution.__init__(law, logits.shape[:-1], logits.shape[-1:], validate_args=False)
    return law
