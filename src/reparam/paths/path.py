"""The trick, made explicit: a path turns parameter-free noise into a sample, differentiably in the parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, singledispatch
from typing import TypeVar

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, constraints
from torch.distributions.constraints import Constraint, MixtureSameFamilyConstraint

from reparam.noise import Fresh, Kind, Noise, Source, as_rows, as_source
from reparam.paths.parameters import check_parameters, map_parameters

__all__ = ["NoPathError", "OwnSamplerError", "Path", "noise_like", "overrides", "path", "representable", "rsample"]

Maker = TypeVar("Maker", bound=Callable[..., "Path"])
HALF = frozenset((torch.float16, torch.bfloat16))


class NoPathError(NotImplementedError):
    """The distribution has no differentiable path; the message names it and what to use instead."""


class OwnSamplerError(NoPathError):
    """The distribution is sampled by a method of its own, with fresh noise only."""

    def __init__(self, d: Distribution) -> None:
        super().__init__(
            f"{type(d).__name__} has no explicit path, only its own sampler, which takes no noise source: draw it without one"
        )


@dataclass(frozen=True)
class Path:
    """`x = push(eps)`: a sample as a deterministic, differentiable function of noise.

    Attributes:
        noise: the noise of one draw.
        push: noise of shape `rows + noise.shape` to samples of shape `rows + batch + event`.
        pull: the inverse of `push`, where one exists.
        sample: from a row shape and a generator (None: torch's own) to samples with the law and the gradient of
            `push(noise.draw(rows))`, faster.

    Example:
        >>> import torch, reparam as rp
        >>> p = rp.path(torch.distributions.Normal(torch.tensor([0.0, 5.0]), 2.0))
        >>> eps = p.noise.draw((64,), source=rp.Sobol(seed=0))
        >>> z = p.push(eps)                         # z = mu + sigma * eps
        >>> torch.allclose(p.pull(z), eps, atol=1e-5)
        True
    """

    noise: Noise
    push: Callable[[Tensor], Tensor]
    pull: Callable[[Tensor], Tensor] | None = None
    sample: Callable[[torch.Size, torch.Generator | None], Tensor] | None = None

    def draw(self, rows: int | tuple[int, ...] = (), *, source: Source | None = None) -> Tensor:
        """Samples of shape `rows + batch + event`."""
        given = as_source(source)
        if self.sample is not None and (given is None or isinstance(given, Fresh)):
            generator = None if given is None else given.generator_on(self.noise.device)
            return self.sample(as_rows(rows, self.noise.shape), generator)
        return self.push(self.noise.draw(rows, source=given))


class _PathTable:
    """`path(d)`, with `path.register` to add a class."""

    def __init__(self) -> None:
        self._makers = singledispatch(_refuse)
        self._owners: tuple[type, ...] = ()

    def register(self, maker: Maker) -> Maker:
        """Register the path of a class: decorate a function whose first argument is annotated with the class.

        Example:
            >>> import torch, reparam as rp
            >>> from reparam.noise import NORMAL
            >>> class Shifted(torch.distributions.Normal):
            ...     pass
            >>> @rp.path.register
            ... def shifted_path(d: Shifted) -> rp.Path:
            ...     return rp.Path(rp.noise_like(d.loc, NORMAL), lambda eps: 1 + d.loc + d.scale * eps)
            >>> rp.rsample(Shifted(torch.zeros(3), 1.0), (5,)).shape
            torch.Size([5, 3])
        """
        self._makers.register(maker)
        self._owners = tuple(self._makers.registry)
        return maker

    def __call__(self, d: Distribution) -> Path:
        """The path of `d`.

        Half precision is computed in float32 and rounded last, to a value inside the support. A point of a simplex then sums to
        one up to that rounding, which can be more than the check in torch's `log_prob` lets pass.

        Raises:
            NoPathError: when there is none, saying what to use instead.
            TypeError: when `d` is not a distribution, or has integer parameters.
            ValueError: when parameters are not finite (where `d` validates its arguments, on the CPU).
        """
        dtypes = check_parameters(d)
        if dtypes.isdisjoint(HALF):
            return self.part(d)
        wide = self.part(map_parameters(d, _widen))
        return _rounded(wide, dtypes.pop(), d) if len(dtypes) == 1 else wide

    def part(self, d: Distribution) -> Path:
        """The path of a part of a distribution that `path` has looked at: for structure that passes it through."""
        # A class that brings its own sampler has another law than the one that it inherits from.
        own = overrides(d, self._owners, "rsample") or (not d.has_rsample and overrides(d, self._owners, "sample"))
        return _refuse(d) if own else self._makers(d)


def overrides(d: Distribution, owners: tuple[type, ...], method: str) -> bool:
    """Whether the class of `d` has another `method` than the nearest of its bases among the `owners`."""
    law = getattr(type(d), "_reparameterized", type(d))
    for cls in law.__mro__:
        if cls in owners:
            return getattr(law, method, None) is not getattr(cls, method, None)
    return True


def _refuse(d: Distribution) -> Path:
    name = type(d).__name__
    if is_discrete(d):
        count = "rp.Enumerate(), " if _is_finite(d) else ""
        relax = ", or rp.relaxed(d, temperature), which is biased" if name in _RELAXABLE else ""
        raise NoPathError(
            f"{name} is discrete: no sample of it is differentiable. Take the gradient of its expectation, rp.expect(f, d), "
            f"with {count}rp.LeaveOneOut() or rp.Score(){relax}"
        )
    if d.has_rsample and not _is_sampled_by_path(d):
        raise OwnSamplerError(d)
    raise NoPathError(
        f"{name} has no path. Use the score function, rp.expect(f, d, estimator=rp.Score()), or register one with rp.path.register"
    )


def _is_sampled_by_path(d: Distribution) -> bool:
    """Whether the `rsample` of `d` is one that asks for its path: then there is no other to fall back on."""
    law = getattr(type(d), "_reparameterized", type(d))
    return "sampled_by_path" in vars(next(cls for cls in law.__mro__ if "rsample" in vars(cls)))


def _is_finite(d: Distribution) -> bool:
    return _is_finite(d.base_dist) if isinstance(d, Independent) else d.has_enumerate_support


def support_of(d: Distribution) -> Constraint | None:
    """The support of `d`; None where its class does not declare one."""
    try:
        return d.support
    except NotImplementedError:
        return None


def is_discrete(d: Distribution) -> bool:
    """Whether the values of `d` can be counted; False where its class does not say."""
    support = support_of(d)
    return support is not None and bool(support.is_discrete)


_RELAXABLE = ("Bernoulli", "Categorical", "OneHotCategorical", "OneHotCategoricalStraightThrough")

path = _PathTable()


def noise_like(parameter: Tensor, kind: Kind, shape: torch.Size | None = None) -> Noise:
    """Noise for a parameter: its dtype and device, and its shape unless another is given."""
    return Noise(kind, parameter.shape if shape is None else shape, parameter.dtype, parameter.device)


def rsample(d: Distribution, sample_shape: int | tuple[int, ...] = (), *, source: Source | None = None) -> Tensor:
    """A sample of `d` that is differentiable in the parameters of `d`.

    Args:
        d: any distribution with a path; one without that has a differentiable sampler of its own is sampled by that.
        sample_shape: rows in front of the batch.
        source: where the noise comes from; fresh noise from torch's generator by default.

    Returns:
        Samples of shape `sample_shape + d.batch_shape + d.event_shape`.

    Raises:
        NoPathError: when `d` has no differentiable sampler, or only its own and another source is asked for.

    Example:
        >>> import torch, reparam as rp
        >>> mu = torch.zeros(3, requires_grad=True)
        >>> z = rp.rsample(torch.distributions.Laplace(mu, 1.0), (64,))
        >>> (z**2).mean().backward()
        >>> mu.grad.shape
        torch.Size([3])
    """
    try:
        p = path(d)
    except OwnSamplerError:
        if as_source(source) is not None:
            raise
        return d.rsample(as_rows(sample_shape, d.batch_shape + d.event_shape))
    return p.draw(sample_shape, source=source)


def _widen(value: Tensor) -> Tensor:
    return value.float() if value.dtype in HALF else value


def _rounded(p: Path, dtype: torch.dtype, d: Distribution) -> Path:
    """The path `p`, computed in float32, with samples rounded to `dtype`."""
    pull, fast = p.pull, p.sample

    def narrow(x: Tensor) -> Tensor:
        return representable(x.to(dtype), d.support)

    return Path(
        p.noise,
        lambda eps: narrow(p.push(eps)),
        None if pull is None else lambda x: pull(x.float()),
        None if fast is None else lambda rows, generator: narrow(fast(rows, generator)),
    )


def representable(x: Tensor, support: Constraint | None) -> Tensor:
    """`x` with values that rounding put on or beyond a bound of the support moved to the nearest float inside; gradient of `x`.

    Infinities become the largest floats, without gradient.
    """
    info = torch.finfo(x.dtype)
    x = x.clamp(info.min, info.max)
    lower, upper = bounds(support)
    if lower is None and upper is None:
        return x
    inside = fixed = x.detach()
    if lower is not None:
        least = _inner(lower, x, 1.0)
        inside = torch.maximum(inside, least) if isinstance(least, Tensor) else inside.clamp(min=least)
    if upper is not None:
        most = _inner(upper, x, -1.0)
        inside = torch.minimum(inside, most) if isinstance(most, Tensor) else inside.clamp(max=most)
    return inside + (x - fixed)


def bounds(support: Constraint | None) -> tuple[Tensor | float | None, Tensor | float | None]:
    """The lower and the upper end of a support, of each component; None where there is none."""
    if isinstance(support, constraints.independent):
        return bounds(support.base_constraint)
    if isinstance(support, MixtureSameFamilyConstraint):  # the union of those of the components
        component = -1 - support.event_dim
        low, high = bounds(support.base_constraint)
        return (
            low.amin(component) if isinstance(low, Tensor) and low.dim() else low,
            high.amax(component) if isinstance(high, Tensor) and high.dim() else high,
        )
    if support is constraints.simplex:
        return 0.0, None
    return getattr(support, "lower_bound", None), getattr(support, "upper_bound", None)


def _inner(bound: Tensor | float, x: Tensor, sign: float) -> Tensor | float:
    """`_beside`, as a number where it is the same at each draw: a dozen small operations are more than many draws take."""
    if isinstance(bound, Tensor) or torch.compiler.is_compiling():
        return _beside(bound, x, sign)
    return _beside_number(float(bound), x.dtype, sign)


@lru_cache(maxsize=256)
def _beside_number(bound: float, dtype: torch.dtype, sign: float) -> float:
    return _beside(bound, torch.empty((), dtype=dtype, device="cpu"), sign).item()


def _beside(bound: Tensor | float, x: Tensor, sign: float) -> Tensor:
    """The normal float next to `bound`, above it for a positive sign and below for a negative one, like `x`."""
    info = torch.finfo(x.dtype)
    b = torch.as_tensor(bound, dtype=x.dtype, device=x.device).detach().clamp(info.min, info.max)
    # Values below the normal floats of float16 are in ordinary use; those of the other types may be flushed to zero.
    least = info.tiny * info.eps if x.dtype == torch.float16 else info.tiny
    step = (b.abs() * info.eps).clamp(min=least)
    # One spacing up in magnitude is at most |b| eps; half of that is the spacing below a power of two.
    half = b + sign * step / 2
    return torch.where((half == b) | (step == least), b + sign * step, half)
