"""The asymmetric Laplace law."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import constraints, register_kl
from torch.nn.functional import logsigmoid

from reparam.distributions.law import Univariate
from reparam.noise import EXPONENTIAL, reflect_exponential
from reparam.paths.path import Path, noise_like, path

__all__ = ["AsymmetricLaplace"]


class AsymmetricLaplace(Univariate):
    """Two exponential tails of different lengths; the likelihood of quantile regression.

    Formula: `p(x) ~ exp(-asymmetry * z)` for `z > 0` and `exp(z / asymmetry)` for `z < 0`, with `z = (x - loc) / scale`.

    Args:
        loc: the mode, and the quantile of level `asymmetry**2 / (1 + asymmetry**2)`.
        scale: positive.
        asymmetry: positive; 1 is Laplace's law, above it the lower tail is the longer one.

    Raises:
        ValueError: for parameters out of range, as torch's laws do.

    Source: Kotz, Kozubowski and Podgorski (2001), The Laplace Distribution and Generalizations, chapter 3.

    Example:
        >>> import torch
        >>> q = AsymmetricLaplace(torch.zeros(3), 1.0, 2.0)
        >>> q.rsample((5,)).shape, q.mean
        (torch.Size([5, 3]), tensor([-1.5000, -1.5000, -1.5000]))
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive, "asymmetry": constraints.positive}
    support = constraints.real
    loc: Tensor
    scale: Tensor
    asymmetry: Tensor

    def __init__(
        self, loc: Tensor | float, scale: Tensor | float, asymmetry: Tensor | float, validate_args: bool | None = None
    ) -> None:
        self._set(validate_args, loc=loc, scale=scale, asymmetry=asymmetry)

    def _log_masses(self) -> tuple[Tensor, Tensor]:
        """The logarithms of the probabilities below and above the mode."""
        twice = 2 * self.asymmetry.log()
        return logsigmoid(twice), logsigmoid(-twice)

    def _log_normalizer(self) -> Tensor:
        """`log(scale * (asymmetry + 1 / asymmetry))`."""
        return self.scale.log() + self.asymmetry.log() - self._log_masses()[0]

    def _log_density(self, x: Tensor) -> Tensor:
        z = (x - self.loc) / self.scale
        return -torch.where(z > 0, z * self.asymmetry, -z / self.asymmetry) - self._log_normalizer()

    @property
    def mean(self) -> Tensor:
        return self.loc + self.scale * (1 / self.asymmetry - self.asymmetry)

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return (self.scale / self.asymmetry).square() + (self.scale * self.asymmetry).square()

    def entropy(self) -> Tensor:
        return 1 + self._log_normalizer()


@path.register
def asymmetric_laplace_path(d: AsymmetricLaplace) -> Path:
    """`z = (eps + log P(X > loc)) / asymmetry` above the mode, `(log P(X < x) - log P(X < loc)) * asymmetry` below."""
    loc, scale, k = d.loc, d.scale, d.asymmetry
    below, above = d._log_masses()

    def push(eps: Tensor) -> Tensor:
        upper = eps > -above
        return torch.addcmul(loc, scale, torch.where(upper, (eps + above) / k, (-reflect_exponential(eps) - below) * k))

    def pull(x: Tensor) -> Tensor:
        z = (x - loc) / scale
        return torch.where(z > 0, z * k - above, reflect_exponential(-below - z.clamp(max=0.0) / k))

    return Path(noise_like(loc, EXPONENTIAL), push, pull)


@register_kl(AsymmetricLaplace, AsymmetricLaplace)  # type: ignore[untyped-decorator]
def _kl(p: AsymmetricLaplace, q: AsymmetricLaplace) -> Tensor:
    # The mean distances above and below the mode of q: one is that of an exponential tail, they differ by the mean.
    gap = q.loc - p.loc
    upper = gap > 0
    below, above = p._log_masses()
    length = torch.where(upper, p.scale / p.asymmetry, p.scale * p.asymmetry)
    tail = length * torch.exp(torch.where(upper, above, below) - gap.abs() / length)
    over = torch.where(upper, tail, tail + p.mean - q.loc)
    under = torch.where(upper, tail - p.mean + q.loc, tail)
    cost = (over * q.asymmetry + under / q.asymmetry) / q.scale
    return cost + q._log_normalizer() - p.entropy()
