"""Distribution functions and quantiles of univariate laws, from their paths: exact in both tails, differentiable in everything."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Transform, TransformedDistribution
from torch.distributions.constraints import Constraint, MixtureSameFamilyConstraint

from reparam.noise import EXPONENTIAL, NORMAL, UNIFORM, Kind, reflect_exponential
from reparam.paths.compose import step, steps, transformed_path
from reparam.paths.parameters import check_parameters, map_parameters
from reparam.paths.path import HALF, NoPathError, bounds, path, representable, support_of

__all__ = ["cdf", "icdf", "icdf_from_log", "log_cdf", "log_survival"]


@dataclass(frozen=True)
class _Tails:
    """A kind of noise as probabilities: below and above a value, as they are and in logs, and the value from those below."""

    below: Callable[[Tensor], Tensor]
    above: Callable[[Tensor], Tensor]
    log_below: Callable[[Tensor], Tensor]
    log_above: Callable[[Tensor], Tensor]
    from_below: Callable[[Tensor], Tensor]
    from_above: Callable[[Tensor], Tensor]
    from_log_below: Callable[[Tensor], Tensor]
    from_log_above: Callable[[Tensor], Tensor]


def _log_ndtri(log_p: Tensor) -> Tensor:
    return cast(Tensor, torch.special.ndtri(torch.exp(log_p)))


_TAILS: dict[Kind, _Tails] = {
    EXPONENTIAL: _Tails(
        below=lambda eps: -torch.expm1(-eps),
        above=lambda eps: torch.exp(-eps),
        log_below=lambda eps: -reflect_exponential(eps),
        log_above=torch.neg,
        from_below=lambda p: -torch.log1p(-p),
        from_above=lambda p: -torch.log(p),
        from_log_below=lambda log_p: reflect_exponential(-log_p),
        from_log_above=torch.neg,
    ),
    NORMAL: _Tails(
        below=lambda z: torch.erfc(-z / math.sqrt(2)) / 2,
        above=lambda z: torch.erfc(z / math.sqrt(2)) / 2,
        log_below=torch.special.log_ndtr,
        log_above=lambda z: torch.special.log_ndtr(-z),
        from_below=torch.special.ndtri,
        from_above=lambda p: -torch.special.ndtri(p),
        from_log_below=_log_ndtri,
        from_log_above=lambda log_p: -_log_ndtri(log_p),
    ),
    UNIFORM: _Tails(
        below=lambda u: u,
        above=lambda u: 1 - u,
        log_below=torch.log,
        log_above=lambda u: torch.log1p(-u),
        from_below=lambda p: p,
        from_above=lambda p: 1 - p,
        from_log_below=torch.exp,
        from_log_above=lambda log_p: -torch.expm1(log_p),
    ),
}


def cdf(d: Distribution, x: Tensor | float) -> Tensor:
    """`P(X <= x)`, to full relative precision in the lower tail; 0 and 1 outside the support.

    Differentiable in `x` and in the parameters of `d`, to any order.

    Args:
        d: a univariate law with a path that has an inverse.
        x: values of a shape that broadcasts with `d.batch_shape`.

    Raises:
        NoPathError: when `d` has no path with an inverse that acts on each element alone.

    Example:
        >>> import torch
        >>> from reparam.paths import cdf
        >>> cdf(torch.distributions.Exponential(1.0), torch.tensor([-1.0, 1e-10, torch.inf]))
        tensor([0.0000e+00, 1.0000e-10, 1.0000e+00])
    """
    return _evaluate(d, x, lambda tails: (tails.below, tails.above), 0.0, 1.0)


def log_cdf(d: Distribution, x: Tensor | float) -> Tensor:
    """`log P(X <= x)`; arguments, derivatives and errors as of `cdf`.

    Example:
        >>> import torch
        >>> from reparam.paths import log_cdf
        >>> log_cdf(torch.distributions.Normal(0.0, 1.0), -30.0)
        tensor(-454.3213)
    """
    return _evaluate(d, x, lambda tails: (tails.log_below, tails.log_above), -math.inf, 0.0)


def log_survival(d: Distribution, x: Tensor | float) -> Tensor:
    """`log P(X > x)`; arguments, derivatives and errors as of `cdf`.

    Example:
        >>> import torch
        >>> from reparam.paths import log_survival
        >>> log_survival(torch.distributions.Exponential(2.0), 1e4)
        tensor(-20000.)
    """
    return _evaluate(d, x, lambda tails: (tails.log_above, tails.log_below), 0.0, -math.inf)


def icdf(d: Distribution, p: Tensor | float) -> Tensor:
    """The quantile at `p`: the value with `P(X <= x) = p`, to full precision for small `p`; NaN for `p` outside [0, 1].

    At 0 and 1 it is the end of the support. For the upper tail, where `p` rounds to one, see `icdf_from_log`.

    Args:
        d: a univariate law with a path that has an inverse.
        p: probabilities of a shape that broadcasts with `d.batch_shape`.

    Raises:
        NoPathError: when `d` has no path with an inverse that acts on each element alone.

    Example:
        >>> import torch
        >>> from reparam.paths import icdf
        >>> icdf(torch.distributions.Gumbel(0.0, 1.0), torch.tensor([0.0, 1e-30]))
        tensor([   -inf, -4.2352])
    """
    return _quantile(d, p, lambda tails: (tails.from_below, tails.from_above), 0.0, 1.0)


def icdf_from_log(d: Distribution, *, log_cdf: Tensor | float | None = None, log_survival: Tensor | float | None = None) -> Tensor:
    """The quantile where one of the tails has the given log-probability, however small; errors as of `icdf`.

    Raises:
        TypeError: unless one of `log_cdf` and `log_survival` is given.

    Example:
        >>> import torch
        >>> from reparam.paths import icdf_from_log
        >>> icdf_from_log(torch.distributions.Laplace(0.0, 1.0), log_survival=-1e4)
        tensor(9999.3066)
    """
    if log_cdf is not None and log_survival is None:
        return _quantile(d, log_cdf, lambda tails: (tails.from_log_below, tails.from_log_above), -math.inf, 0.0)
    if log_survival is not None and log_cdf is None:
        return _quantile(d, log_survival, lambda tails: (tails.from_log_above, tails.from_log_below), 0.0, -math.inf)
    raise TypeError("icdf_from_log takes one of log_cdf=... and log_survival=...")


_Pair = tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]


def _evaluate(d: Distribution, x: Tensor | float, functions: Callable[[_Tails], _Pair], lower: float, upper: float) -> Tensor:
    """Of the noise that belongs to `x`, the first function where the path rises and the second where it falls.

    Outside the support it is `lower` and `upper`.
    """
    law = _Law(d)
    x = torch.as_tensor(x, device=law.noise.device).to(law.noise.dtype)
    x = x.expand(torch.broadcast_shapes(x.shape, d.batch_shape))
    # Which side of the support a value lies on. It leaves for the middle of the law, so that no formula sees it.
    side = torch.zeros_like(x)

    def inside(x: Tensor, side: Tensor, support: object, middle: Tensor) -> tuple[Tensor, Tensor]:
        low, high = ends(support)
        out = torch.where(x <= low, -1.0, 0.0) + torch.where(x >= high, 1.0, 0.0)
        return torch.where(out == 0, x, middle), torch.where(side == 0, out.to(side.dtype), side)

    # Back through the transforms one by one: each has a support of its own.
    for transform, before, after in reversed(list(zip(law.transforms, law.middles, law.middles[1:], strict=False))):
        x, side = inside(x, side, transform.codomain, after)
        x, side = torch.where(side == 0, transform.inv(x), before), side * _sign(transform)
    x, side = inside(x, side, support_of(law.base), law.middles[0])
    # Where the noise itself leaves its range or the floats, so would its derivatives.
    with torch.no_grad():
        eps = law.pull(x.detach())
    kind, direction = law.noise.kind, torch.where(law.base_rises, 1.0, -1.0).to(x.dtype)
    out = torch.where(eps <= kind.low, -direction, 0.0) + torch.where(eps >= kind.high, direction, 0.0)
    side = torch.where(side == 0, out, side)
    eps = law.pull(torch.where(side == 0, x, law.middles[0]))
    rising, falling = functions(_TAILS[kind])
    side = side * law.sign
    value = torch.where(law.rises, rising(eps), falling(eps))
    return torch.where(side == 0, value, torch.where(side < 0, lower, upper)).to(law.dtype)


def _quantile(d: Distribution, p: Tensor | float, functions: Callable[[_Tails], _Pair], lower: float, upper: float) -> Tensor:
    """`push` at the noise that has the probability `p`: from the first function where the path rises, else from the second."""
    law = _Law(d)
    p = torch.as_tensor(p, device=law.noise.device).to(law.noise.dtype)
    p = p.expand(torch.broadcast_shapes(p.shape, d.batch_shape))
    outside = (p < min(lower, upper)) | (p > max(lower, upper)) | p.isnan()
    within = ~outside & (p != lower) & (p != upper)
    inner = torch.where(within, p, 0.5 if 0.0 < 0.5 < max(lower, upper) else -1.0)
    rising, falling = functions(_TAILS[law.noise.kind])
    eps = torch.where(law.rises, rising(inner), falling(inner))
    # A probability that rounds to one is a float's width below it.
    info = torch.finfo(eps.dtype)
    if law.noise.kind is EXPONENTIAL:
        eps = eps.clamp(info.tiny, info.max)
    x = law.push(eps)
    low, high = law.ends()
    edge = torch.where(outside, math.nan, torch.where(p == lower, low, high))
    return torch.where(within, x, edge).to(law.dtype)


class _Law:
    """A univariate law as its path sees it: the base, the monotone transforms behind it, and which way its path runs."""

    def __init__(self, d: Distribution) -> None:
        dtypes = check_parameters(d)
        wide = d if dtypes.isdisjoint(HALF) else map_parameters(d, lambda t: t.float() if t.dtype in HALF else t)
        self.base, self.transforms = _chain(wide)
        p = path.part(self.base)
        if p.pull is None or d.event_shape or p.noise.shape != d.batch_shape or p.noise.kind not in _TAILS:
            raise NoPathError(
                f"{type(d).__name__} has no distribution function here: that takes a univariate law whose path has an inverse "
                f"that acts on each element alone, and this one has batch shape {tuple(d.batch_shape)}, event shape "
                f"{tuple(d.event_shape)}, noise of shape {tuple(p.noise.shape)}, {'no' if p.pull is None else 'an'} inverse"
            )
        self.noise, self.pull = p.noise, p.pull
        self._base_push = p.push
        self.dtype = dtypes.pop() if len(dtypes) == 1 else p.noise.dtype
        with torch.no_grad():
            x = p.push(torch.full(p.noise.shape, _QUARTER[p.noise.kind], dtype=p.noise.dtype, device=p.noise.device))
            # The noise of two neighbours says which way the path runs, also where all samples round to one value.
            info = torch.finfo(x.dtype)
            beside = 4 * info.eps * x.abs() + info.tiny
            support = support_of(self.base)
            below, above = representable(x - beside, support), representable(x + beside, support)
            self.base_rises = p.pull(above) >= p.pull(below)
            self.middles = [x]
            for transform in self.transforms:
                self.middles.append(step(transform, self.middles[-1]))
            self.sign = torch.ones((), dtype=x.dtype, device=x.device)
            for transform in self.transforms:
                self.sign = self.sign * _sign(transform)
        self.rises = self.base_rises == (self.sign > 0)

    def push(self, eps: Tensor) -> Tensor:
        x = self._base_push(eps)
        for transform in self.transforms:
            x = step(transform, x)
        return x

    def ends(self) -> tuple[Tensor, Tensor]:
        """The ends of the support: those of the base, through the transforms."""
        low, high = (torch.as_tensor(e, dtype=self.noise.dtype, device=self.noise.device) for e in ends(support_of(self.base)))
        for transform in self.transforms:
            first, last = transform(low), transform(high)
            low, high = torch.minimum(first, last), torch.maximum(first, last)
        return low, high


def ends(support: object) -> tuple[Tensor | float, Tensor | float]:
    """The lower and the upper end of a support, infinite where there is none."""
    if isinstance(support, MixtureSameFamilyConstraint):
        low, high = ends(support.base_constraint)
        return (
            low.amin(-1) if isinstance(low, Tensor) and low.dim() else low,
            high.amax(-1) if isinstance(high, Tensor) and high.dim() else high,
        )
    lower, upper = bounds(cast(Constraint, support))
    return -math.inf if lower is None else lower, math.inf if upper is None else upper


def _chain(d: Distribution) -> tuple[Distribution, list[Transform]]:
    """The law that `d` is made of by transforms that act on each element alone, and these."""
    if isinstance(d, Independent) and not d.reinterpreted_batch_ndims:
        return _chain(d.base_dist)
    if isinstance(d, TransformedDistribution) and path._makers.dispatch(type(d)) is transformed_path and not d.event_shape:
        base, transforms = _chain(d.base_dist)
        return base, [*transforms, *steps(d.transforms)]
    return d, []


def _sign(transform: Transform) -> Tensor | float:
    """1 where the transform rises, -1 where it falls."""
    try:
        if not transform.bijective or transform.domain.event_dim or transform.codomain.event_dim:
            raise NotImplementedError
        return transform.sign
    except NotImplementedError:
        raise NoPathError(
            f"{type(transform).__name__} does not say that it is monotone, so what it makes has no distribution function here: "
            "declare bijective = True and sign = +1 or -1"
        ) from None


_QUARTER = {EXPONENTIAL: -math.log(0.75), NORMAL: -0.6744897501960817, UNIFORM: 0.25}
