"""What every law here shares; a new one writes its formulas and registers its path.

The recipe, in a file of its own:

- a subclass of `Univariate` (or of `Law`, when an event has dimensions) with `arg_constraints` and `support`;
- `__init__` hands the parameters to `self._set`;
- `_log_density`, the formula, for values inside the support (a `Law` writes the whole `log_prob`);
- `mean`, `variance`, `mode` and `entropy` where they are known, `torch.distributions.register_kl` where it is closed;
- a path, registered with `@path.register`: from it come samples, gradients, `cdf` and `icdf`.

Derived tensors are properties: only what `arg_constraints` names is held, and so nothing else has to be expanded.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.distributions.utils import broadcast_all, lazy_property

from reparam.paths.cumulative import cdf, icdf
from reparam.paths.discrete import sample
from reparam.paths.path import bounds, rsample

__all__ = ["Discrete", "Law", "Univariate"]

Self = TypeVar("Self", bound="Law")


class Law(Distribution):
    """A distribution that is sampled by its registered path, in torch's own code too.

    Example:
        >>> import torch, reparam as rp
        >>> from reparam.noise import NORMAL
        >>> class Line(Law):
        ...     arg_constraints = {"slope": torch.distributions.constraints.real}
        ...     support = torch.distributions.constraints.real_vector
        ...     def __init__(self, slope, validate_args=None):
        ...         self.slope = slope
        ...         super().__init__(slope.shape, torch.Size([2]), validate_args)
        >>> @rp.path.register
        ... def line_path(d: Line) -> rp.Path:
        ...     return rp.Path(rp.noise_like(d.slope, NORMAL), lambda eps: torch.stack([eps, d.slope * eps], -1))
        >>> Line(torch.zeros(3, requires_grad=True)).expand((5, 3)).rsample((7,)).shape
        torch.Size([7, 5, 3, 2])
    """

    has_rsample = True
    sampled_by_path = True  # there is no other sampler to fall back on

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Samples of shape `sample_shape + batch_shape + event_shape`, differentiable in the parameters."""
        return rsample(self, sample_shape)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with torch.no_grad():
            return rsample(self, sample_shape)

    def expand(self: Self, batch_shape: Any, _instance: Any = None) -> Self:
        """The same law with its parameters, those that `arg_constraints` names, expanded to a batch shape."""
        new: Self = self._get_checked_instance(type(self), _instance)
        batch_shape = torch.Size(batch_shape)
        for name, value in vars(self).items():
            constraint = self.arg_constraints.get(name)
            if isinstance(value, Tensor) and constraint is not None:
                event_shape = value.shape[value.dim() - constraint.event_dim :]
                vars(new)[name] = value.expand(batch_shape + event_shape)
            elif not isinstance(getattr(type(self), name, None), lazy_property):
                vars(new).setdefault(name, value)
        new._batch_shape = batch_shape
        return new

    @property
    def mean(self) -> Tensor:
        raise self._unknown("mean", "d.sample((10_000,)).mean(0)")

    @property
    def variance(self) -> Tensor:
        raise self._unknown("variance", "d.sample((10_000,)).var(0)")

    @property
    def mode(self) -> Tensor:
        raise self._unknown("mode", "x[d.log_prob(x).argmax(0)] with x = d.sample((10_000,)) for one law")

    def entropy(self) -> Tensor:
        raise self._unknown("entropy", "-d.log_prob(d.sample((10_000,))).mean(0)")

    def cdf(self, value: Tensor) -> Tensor:
        """`P(X <= value)`, where the law has one."""
        raise self._unknown("cdf", "(d.sample((10_000,)) <= value).double().mean(0)")

    def icdf(self, value: Tensor) -> Tensor:
        """The quantile at `value`, where the law has one."""
        raise self._unknown("icdf", "d.sample((10_000,)).quantile(value, 0)")

    def _unknown(self, name: str, instead: str) -> NotImplementedError:
        name_and_form = f"{type(self).__name__} has no {name} in closed form"
        return NotImplementedError(f"{name_and_form}: average over samples, for example {instead}")


class Discrete(Law):
    """A law of values that can be counted: it has no path, and registers with `@reparam.paths.steps.register` how it is drawn."""

    has_rsample = False

    def sample(self, sample_shape: Any = ()) -> Tensor:
        return sample(self, sample_shape)


class Univariate(Law):
    """A law of one number: its author writes the density inside the support, and the path.

    Example:
        >>> import torch, reparam as rp
        >>> from reparam.noise import EXPONENTIAL
        >>> class Wedge(Univariate):
        ...     arg_constraints = {"width": torch.distributions.constraints.positive}
        ...     support = torch.distributions.constraints.positive
        ...     def __init__(self, width, validate_args=None):
        ...         self._set(validate_args, width=width)
        ...     def _log_density(self, x):
        ...         return x.log() - 2 * self.width.log() - x**2 / (2 * self.width**2)
        >>> @rp.path.register
        ... def wedge_path(d: Wedge) -> rp.Path:
        ...     return rp.Path(rp.noise_like(d.width, EXPONENTIAL), lambda eps: d.width * (2 * eps).sqrt())
        >>> Wedge(2.0).rsample((7,)).shape
        torch.Size([7])
        >>> Wedge(2.0, validate_args=False).log_prob(torch.tensor(-1.0))
        tensor(-inf)
    """

    def _set(self, validate_args: bool | None, **parameters: Tensor | float) -> None:
        """Hold the parameters, broadcast against each other, and be of their shape."""
        tensors = broadcast_all(*parameters.values())
        vars(self).update(zip(parameters, tensors, strict=True))
        super().__init__(tensors[0].shape, validate_args=validate_args)

    def _log_density(self, x: Tensor) -> Tensor:
        """The log-density at values inside the support."""
        raise NotImplementedError

    def log_prob(self, value: Tensor) -> Tensor:
        """The log-density; outside the support minus infinity, or a ValueError where arguments are validated."""
        if self._validate_args:
            self._validate_sample(value)
        inside = self.support.check(value) & value.isfinite()  # type: ignore[union-attr]
        # The formula never sees what it cannot bear, so that no NaN leaks through `where`.
        density = self._log_density(torch.where(inside, value, self._inner(value)))
        return torch.where(inside, density, torch.where(value.isnan(), torch.nan, -torch.inf).to(density.dtype))

    def _inner(self, value: Tensor) -> Tensor:
        """Some point inside the support."""
        lower, upper = bounds(self.support)
        if lower is None:
            lower = 0.0 if upper is None else upper - 1 - torch.as_tensor(upper).abs()
        if upper is None:
            upper = lower + 1 + torch.as_tensor(lower).abs()
        return (torch.zeros_like(value) + lower / 2 + upper / 2).detach()

    def cdf(self, value: Tensor) -> Tensor:
        """`P(X <= value)`, to full relative precision in the lower tail."""
        if self._validate_args:
            self._validate_sample(value)
        return cdf(self, value)

    def icdf(self, value: Tensor) -> Tensor:
        """The value with `P(X <= x) = value`; `reparam.paths.icdf_from_log` reaches the upper tail too."""
        return icdf(self, value)
