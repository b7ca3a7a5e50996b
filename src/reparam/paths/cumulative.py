"""Distribution functions and quantiles of univariate laws, from their paths: exact in both tails, differentiable in everything."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Transform, TransformedDistribution, VonMises
from torch.distributions.constraints import Constraint, MixtureSameFamilyConstraint
from torch.distributions.transforms import CumulativeDistributionTransform, SigmoidTransform, _InverseTransform

from reparam.noise import EXPONENTIAL, NORMAL, UNIFORM, Kind, reflect_exponential
from reparam.paths.compose import STEPS, step, steps, transformed_path
from reparam.paths.parameters import check_parameters, map_parameters
from reparam.paths.path import HALF, NoPathError, bounds, path, representable, support_of
from reparam.special.normal import log_ndtr, log_ndtri
from reparam.special.tails import LOG2

D = TypeVar("D", bound=Distribution)

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
    log_tail: Callable[[Tensor, Tensor], Tensor]  # above where the second argument says so


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
        log_tail=lambda eps, above: -torch.where(above, eps, reflect_exponential(torch.where(above, LOG2, eps))),
    ),
    NORMAL: _Tails(
        below=lambda z: torch.erfc(-z / math.sqrt(2)) / 2,
        above=lambda z: torch.erfc(z / math.sqrt(2)) / 2,
        log_below=log_ndtr,
        log_above=lambda z: log_ndtr(-z),
        from_below=torch.special.ndtri,
        from_above=lambda p: -torch.special.ndtri(p),
        from_log_below=log_ndtri,
        from_log_above=lambda log_p: -log_ndtri(log_p),
        log_tail=lambda z, above: log_ndtr(torch.where(above, -z, z)),
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
        log_tail=lambda u, above: torch.where(above, torch.log1p(-u), torch.log(torch.where(above, 0.5, u))),
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


Functions = Callable[[_Tails], tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]]


def _evaluate(d: Distribution, x: Tensor | float, functions: Functions, lower: float, upper: float) -> Tensor:
    law = UnivariateLaw(d)
    x, dtype = law.tensor(x)
    eps, side = law.locate(x)
    return law.probability(eps, side, functions, lower, upper).to(dtype)


def _quantile(d: Distribution, p: Tensor | float, functions: Functions, lower: float, upper: float) -> Tensor:
    law = UnivariateLaw(d)
    p, dtype = law.tensor(p)
    return law.quantile(p, functions, lower, upper).to(dtype)


class UnivariateLaw:
    """A univariate law as its path sees it: the base, the monotone transforms behind it, and which way its path runs.

    Raises:
        NoPathError: when `d` has no path with an inverse that acts on each element alone, or lies on a circle.
    """

    def __init__(self, d: Distribution) -> None:
        dtypes = check_parameters(d)
        wide = d if dtypes.isdisjoint(HALF) else map_parameters(d, lambda t: t.float() if t.dtype in HALF else t)
        self._whole = wide
        self.base, self.transforms = _chain(wide)
        if isinstance(self.base, VonMises):
            # Its path goes around from `loc`, each component from its own: samples and their ranks are in different orders.
            raise NoPathError(
                f"{type(d).__name__} has no distribution function here: its values lie on a circle, which has no lower end. So "
                "mixtures of such laws, truncated ones and copulas have no path: use the score function, "
                "rp.expect(f, d, estimator=rp.Score())"
            )
        p = path.part(self.base)
        if p.pull is None or d.event_shape or p.noise.shape != d.batch_shape or p.noise.kind not in _TAILS:
            raise NoPathError(
                f"{type(d).__name__} has no distribution function here: that takes a univariate law whose path has an inverse "
                f"that acts on each element alone, and this one has batch shape {tuple(d.batch_shape)}, event shape "
                f"{tuple(d.event_shape)}, noise of shape {tuple(p.noise.shape)}, {'no' if p.pull is None else 'an'} inverse"
            )
        self.shape, self.noise, self._push, self._pull = d.batch_shape, p.noise, p.push, p.pull
        self.dtype = dtypes.pop() if len(dtypes) == 1 else p.noise.dtype
        self._signs = [torch.as_tensor(_sign(t), dtype=p.noise.dtype, device=p.noise.device) for t in self.transforms]
        with torch.no_grad():
            self._orient()

    def _orient(self) -> None:
        """Find a value in the middle of the law, behind each transform too, and whether the value rises with the noise."""
        noise = self.noise
        x = self._push(torch.full(noise.shape, _QUARTER[noise.kind], dtype=noise.dtype, device=noise.device)).detach()
        # The noise of two neighbours says which way the path runs, also where all samples round to one value.
        info = torch.finfo(x.dtype)
        beside, support = 4 * info.eps * x.abs() + info.tiny, support_of(self.base)
        rises = self._pull(representable(x + beside, support)) >= self._pull(representable(x - beside, support))
        self._direction = self._total = torch.where(rises, 1.0, -1.0).to(x.dtype)
        self._middles = [x]
        for transform, sign in zip(self.transforms, self._signs, strict=True):
            self._middles.append(step(transform, self._middles[-1]).detach())
            self._total = self._total * sign

    def tensor(self, x: Tensor | float) -> tuple[Tensor, torch.dtype]:
        """`x` as wide as the law is computed or as it came, and the dtype of a result."""
        # A python number has the precision of the law: torch's default dtype would round it first.
        given = torch.as_tensor(x, dtype=None if isinstance(x, Tensor) else self.noise.dtype, device=self.noise.device)
        wide = given.dtype if isinstance(x, Tensor) and given.is_floating_point() else self.dtype
        return given.to(torch.promote_types(wide, self.noise.dtype)), torch.promote_types(wide, self.dtype)

    def locate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The noise that belongs to `x`, and the side of the support that `x` is on: -1 below, 0 inside, 1 above.

        Outside the support the noise is that of some value inside.
        """
        x = x.expand(torch.broadcast_shapes(x.shape, self.shape))
        side = torch.zeros_like(x)

        def inside(x: Tensor, side: Tensor, support: object, middle: Tensor) -> tuple[Tensor, Tensor]:
            # A value outside leaves for the middle of the law, so that no formula sees it.
            low, high = ends(support)
            out = torch.where(x <= low, -1.0, 0.0) + torch.where(x >= high, 1.0, 0.0)
            return torch.where(out == 0, x, middle), torch.where(side == 0, out.to(x.dtype), side)

        # Back through the transforms one by one: each has a support of its own. The side is that of the value reached.
        for i in reversed(range(len(self.transforms))):
            x, side = inside(x, side, self.transforms[i].codomain, self._middles[i + 1])
            x, side = torch.where(side == 0, self.transforms[i].inv(x), self._middles[i]), side * self._signs[i]
        x, side = inside(x, side, support_of(self.base), self._middles[0])
        # Where the noise itself leaves its range or the floats, so would its derivatives.
        with torch.no_grad():
            eps = self._pull(x.detach())
        low, high = self.noise.kind.low + torch.finfo(eps.dtype).tiny, self.noise.kind.high
        out = torch.where(eps < low, -1.0, 0.0) + torch.where(eps >= high, 1.0, 0.0)
        side = torch.where(side == 0, out * self._direction, side)
        if torch.is_grad_enabled():
            eps = self._pull(torch.where(side == 0, x, self._middles[0]))
        else:
            eps = torch.where(side == 0, eps, _QUARTER[self.noise.kind])
        return eps, side * self._direction * self._total

    def probability(self, eps: Tensor, side: Tensor, functions: Functions, lower: float, upper: float) -> Tensor:
        """A function of located noise: the first where the path rises and the second where it falls; constant outside."""
        rising, falling = functions(_TAILS[self.noise.kind])
        value = torch.where(self._total > 0, rising(eps), falling(eps))
        return torch.where(side == 0, value, torch.where(side < 0, lower, upper))

    def log_tails(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`log P(X <= x)` and `log P(X > x)`."""
        eps, side = self.locate(x)
        below = self.probability(eps, side, lambda tails: (tails.log_below, tails.log_above), -math.inf, 0.0)
        return below, self.probability(eps, side, lambda tails: (tails.log_above, tails.log_below), 0.0, -math.inf)

    def log_tail(self, x: Tensor, upper: Tensor) -> Tensor:
        """`log P(X > x)` where `upper`, `log P(X <= x)` elsewhere."""
        eps, side = self.locate(x)
        value = _TAILS[self.noise.kind].log_tail(eps, upper == (self._total > 0))
        return torch.where(side == 0, value, torch.where((side < 0) == upper, 0.0, -math.inf))

    def log_density(self, x: Tensor) -> Tensor:
        """The log-density, minus infinity outside the support, without a NaN in its derivatives."""
        low, high = ends(support_of(self._whole))
        inside = (x >= low) & (x <= high) & x.isfinite()
        density = trusting(self._whole).log_prob(torch.where(inside, x, self._middles[-1]))
        return torch.where(inside & ~density.isnan(), density, -math.inf)

    def from_log_cdf(self, log_p: Tensor) -> Tensor:
        return self.quantile(log_p, lambda tails: (tails.from_log_below, tails.from_log_above), -math.inf, 0.0)

    def from_log_survival(self, log_p: Tensor) -> Tensor:
        return self.quantile(log_p, lambda tails: (tails.from_log_above, tails.from_log_below), 0.0, -math.inf)

    def quantile(self, p: Tensor, functions: Functions, lower: float, upper: float) -> Tensor:
        """`push` at the noise of the probability `p`: from the first function where the path rises, else from the second."""
        p = p.expand(torch.broadcast_shapes(p.shape, self.shape))
        outside = ~((p >= min(lower, upper)) & (p <= max(lower, upper)))
        within = ~outside & (p != lower) & (p != upper)
        inner = torch.where(within, p, 0.5 if max(lower, upper) > 0 else -LOG2)
        rising, falling = functions(_TAILS[self.noise.kind])
        eps = torch.where(self._total > 0, rising(inner), falling(inner))
        if self.noise.kind is EXPONENTIAL:
            info = torch.finfo(eps.dtype)
            eps = eps.clamp(info.tiny, info.max)
        x = self._push(eps)
        for transform in self.transforms:
            x = step(transform, x)
        low, high = self.ends()
        return torch.where(within, x, torch.where(outside, math.nan, torch.where(p == lower, low, high)))

    def middle(self) -> Tensor:
        """A value in the middle of the law."""
        return self._middles[-1]

    def ends(self) -> tuple[Tensor, Tensor]:
        """The lower and the upper end of the support, behind the transforms too."""
        x = self._middles[0]
        low, high = (torch.as_tensor(e, dtype=x.dtype, device=x.device) for e in ends(support_of(self.base)))
        for transform in self.transforms:
            first, last = (torch.sigmoid(e) if type(transform) is SigmoidTransform else transform(e) for e in (low, high))
            low, high = torch.minimum(first, last), torch.maximum(first, last)
        return low, high


def trusting(d: D) -> D:
    """A copy of `d` that does not look at values, in any part of it."""
    return _trusting(map_parameters(d, lambda t: t))


def _trusting(d: D) -> D:
    for part in vars(d).values():
        if isinstance(part, Distribution):
            _trusting(part)
    d._validate_args = False
    return d


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


def _to_probability(transform: Transform, x: Tensor) -> Tensor:
    law = cast(CumulativeDistributionTransform, transform).distribution
    return cdf(law, x) if _is_univariate(law) else cast(Tensor, transform(x))


def _invert(transform: Transform, x: Tensor) -> Tensor:
    back = transform.inv
    if type(back) is CumulativeDistributionTransform and _is_univariate(back.distribution):
        return icdf(back.distribution, x)
    return cast(Tensor, transform(x))


def _is_univariate(d: Distribution) -> bool:
    try:
        UnivariateLaw(d)
    except NoPathError:
        return False
    return True


# The distribution functions of torch's own laws lose their tails.
STEPS[CumulativeDistributionTransform] = _to_probability
STEPS[_InverseTransform] = _invert
