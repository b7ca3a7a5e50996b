"""A path for any law from its distribution function, solved for the sample and differentiated where it stands."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import cast

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.distributions.constraints import Constraint

from reparam.noise import UNIFORM, Fresh, Noise, readable
from reparam.paths.cumulative import trusting
from reparam.paths.parameters import check_parameters, map_parameters
from reparam.paths.path import HALF, NoPathError, Path, bounds, representable, support_of

__all__ = ["implicit"]

Function = Callable[..., Tensor]
Conditional = Callable[[int, list[Tensor]], "_Univariate"]
Sampler = Callable[[torch.Size, "torch.Generator | None"], Tensor]


def implicit(
    law: Distribution | Function | Sequence[Function],
    *parameters: Tensor,
    log_prob: Function | None = None,
    support: Constraint = constraints.real,
    shape: Sequence[int] | None = None,
    sample: Sampler | None = None,
) -> Path:
    """The path `x = F^{-1}(u)` of a law that is given by its distribution function.

    `F(x) = u` is solved by bisection over the floats of the support, once for each bit; then `dx = -dF / p` for every parameter
    that `F` depends on, whatever its shape: two Newton steps that do not move the sample and give derivatives right to third order.
    Register it for a class of your own with `rp.path.register`.

    Args:
        law: a univariate distribution with `cdf` and `log_prob`; or the distribution function, `F(x, *parameters)`, elementwise in
            `x`; or, for vectors, a list of the conditional ones (Rosenblatt), `F_i(x_i, before, *parameters)` with the list
            `before` of `x_1 ... x_{i-1}`.
        parameters: what a function depends on. Those of a distribution are found.
        log_prob: `log p(x, *parameters)` of a univariate law; by default the density is the derivative of `F`.
        support: where a function's samples lie, in each dimension.
        shape: of the batch, where it is not that of the parameters, broadcast.
        sample: a faster sampler of the same law, from a shape of rows and a generator to values without gradient; a distribution
            brings its own.

    Raises:
        TypeError: for a law or parameters of another type; for half precision, in which bisection ends too early.
        ValueError: where `F` has another shape than `x`, leaves [0, 1], falls, is NaN, does not go from 0 to 1, or has no
            derivative in a parameter that requires one. It is tried at three values in the middle and at the ends, on the CPU.

    Source: Figurnov et al., arXiv:1805.08498.

    Example:
        >>> import torch, reparam as rp
        >>> from reparam.paths import implicit
        >>> def ramp(x, power):
        ...     return x**power
        >>> power = torch.tensor([1.0, 4.0], requires_grad=True)
        >>> p = implicit(ramp, power, support=torch.distributions.constraints.unit_interval)
        >>> x = p.push(torch.full((2,), 0.5))
        >>> torch.allclose(x, 0.5 ** (1 / power))
        True
        >>> torch.autograd.grad(x[1], power)[0]
        tensor([0.0000, 0.0364])
    """
    if isinstance(law, Distribution):
        return _from_distribution(law)
    several = isinstance(law, Sequence)
    functions = list(cast(Sequence[Function], law)) if several else [cast(Function, law)]
    if not functions or not all(callable(f) for f in functions):
        raise TypeError(f"{law!r} is no law: pass a distribution, a distribution function or a list of conditional ones")
    if several and log_prob is not None:
        raise TypeError("log_prob= belongs to a univariate law; the densities of conditional distribution functions are derived")
    for t in parameters:
        if not isinstance(t, Tensor) or not t.is_floating_point() or t.dtype in HALF:
            came = t.dtype if isinstance(t, Tensor) else type(t).__name__
            raise TypeError(f"a parameter of an implicit path is {came}; it must be a tensor of float32 or float64")
    batch = torch.Size(shape) if shape is not None else torch.broadcast_shapes(*(t.shape for t in parameters))

    def conditional(i: int, before: list[Tensor]) -> _Univariate:
        f = functions[i]
        if several:
            return _Univariate(lambda x: f(x, before, *parameters), None, support)
        density = None if log_prob is None else lambda x: log_prob(x, *parameters).exp()
        return _Univariate(lambda x: f(x, *parameters), density, support)

    noise = _noise(torch.Size((*batch, len(functions))) if several else batch, parameters)
    made = _path(conditional, noise, several, sample)
    _try(made, conditional, several, noise, parameters)
    return made


def _from_distribution(d: Distribution) -> Path:
    if d.event_shape:
        raise NoPathError(
            f"{type(d).__name__} has events of shape {tuple(d.event_shape)}: pass the list of conditional distribution functions"
        )
    dtypes = check_parameters(d)
    if not dtypes.isdisjoint(HALF):
        raise TypeError(f"{type(d).__name__} has parameters in half precision: an implicit path takes float32 or float64")
    found: list[Tensor] = []
    d = map_parameters(d, lambda t: found.append(t) or t)  # type: ignore[func-returns-value]
    law = trusting(d)
    noise = _noise(d.batch_shape, [t for t in found if t.is_floating_point()])
    univariate = _Univariate(law.cdf, lambda x: law.log_prob(x).exp(), support_of(d))

    def own_sample(rows: torch.Size, generator: torch.Generator | None) -> Tensor:
        if generator is not None:  # which torch's samplers do not take
            return univariate.solve(noise.draw(rows, source=Fresh(generator)))
        return d.sample(rows)

    brings_one = type(d).sample is not Distribution.sample

    def conditional(i: int, before: list[Tensor]) -> _Univariate:
        return univariate

    made = _path(conditional, noise, False, own_sample if brings_one else None)
    _try(made, conditional, False, noise, [t for t in found if t.requires_grad])
    return made


def _noise(shape: torch.Size, parameters: Sequence[Tensor]) -> Noise:
    if not parameters:
        return Noise(UNIFORM, shape, torch.get_default_dtype())
    return Noise(UNIFORM, shape, reduce(torch.promote_types, [t.dtype for t in parameters]), parameters[0].device)


def _path(conditional: Conditional, noise: Noise, several: bool, sampler: Sampler | None) -> Path:
    def walk(values: Tensor, visit: Callable[[_Univariate, Tensor], tuple[Tensor, Tensor]]) -> Tensor:
        """Visit each dimension, given the samples in those before; a visit gives the sample and its result."""
        if not several:
            return visit(conditional(0, []), values)[1]
        before: list[Tensor] = []
        results = []
        for i, value in enumerate(values.unbind(-1)):
            x, result = visit(conditional(i, list(before)), value)
            before.append(x)
            results.append(result)
        return torch.stack(results, -1)

    def push(u: Tensor) -> Tensor:
        def visit(law: _Univariate, u: Tensor) -> tuple[Tensor, Tensor]:
            x = law.attach(law.solve(u.detach()), u)
            return x, x

        return walk(u, visit)

    def sample(rows: torch.Size, generator: torch.Generator | None) -> Tensor:
        def visit(law: _Univariate, x: Tensor) -> tuple[Tensor, Tensor]:
            x = law.attach(x)
            return x, x

        with torch.no_grad():
            x = cast(Sampler, sampler)(rows, generator).detach()
        return walk(x, visit)

    return Path(noise, push, lambda x: walk(x, lambda law, x: (x, law.cdf(x))), None if sampler is None else sample)


class _Univariate:
    """A distribution function of one variable, with its parameters inside; its density, if it is known; where its samples lie."""

    def __init__(self, cdf: Function, density: Function | None, support: Constraint | None) -> None:
        self._cdf, self._density, self._support = cdf, density, support

    def cdf(self, x: Tensor) -> Tensor:
        p = self._cdf(x)
        if p.shape != x.shape:
            raise ValueError(f"the distribution function gave shape {tuple(p.shape)} for values of shape {tuple(x.shape)}")
        return p

    def density(self, x: Tensor) -> Tensor:
        if self._density is not None:
            return self._density(x)
        p, backward, *_ = torch.func.vjp(self.cdf, x)
        return cast(Tensor, backward(torch.ones_like(p))[0])

    def solve(self, u: Tensor) -> Tensor:
        """The largest float with `F(x) <= u`, or the next: by bisection over the floats in their order."""
        with torch.no_grad():
            info = torch.finfo(u.dtype)
            ends = [torch.full_like(u, end) for end in (info.min, info.max)]
            for i, bound in enumerate(bounds(self._support)):
                if bound is not None:
                    ends[i] = torch.as_tensor(bound, dtype=u.dtype, device=u.device).detach().expand(u.shape)
            middle = representable(ends[0] / 2 + ends[1] / 2, self._support)
            low, high = _order(ends[0]), _order(ends[1])
            p_low, p_high = torch.zeros_like(u), torch.ones_like(u)
            for _ in range(info.bits):
                key = (low >> 1) + (high >> 1) + (low & high & 1)
                x = _float(key, u.dtype)
                p = self.cdf(x).detach()
                # A formula that overflows at the ends of the floats.
                p = torch.where(p.isnan(), torch.where(x < middle, 0.0, 1.0), p)
                _check_rise(x, p, p_low, p_high)
                below = p < u
                low, p_low = torch.where(below, key, low), torch.where(below, p, p_low)
                high, p_high = torch.where(below, high, key), torch.where(below, p_high, p)
            near = (u - p_low) < (p_high - u)
            return representable(_float(torch.where(near, low, high), u.dtype), self._support).detach()

    def attach(self, x: Tensor, u: Tensor | None = None) -> Tensor:
        """The value `x` as a function of the parameters, and of `u`: two Newton steps that do not move it."""
        target = 0.0 if u is None else u - u.detach()
        p = self.cdf(x)
        x = x - (p - p.detach() - target) / self._slope(x).detach()
        moved = self.cdf(x)
        return x - (moved - p.detach() - target) / self._slope(x)

    def check(self, x: Tensor) -> None:
        """Refuse a function that is NaN at the samples `x`, or does not go from 0 to 1."""
        p = self.cdf(x)
        if p.isnan().any():
            raise ValueError(f"the distribution function is nan at {x[p.isnan()][0].item():g}")
        info = torch.finfo(x.dtype)
        room = math.sqrt(info.eps)
        for goal, sign, bound in zip((0.0, 1.0), (-1.0, 1.0), bounds(self._support), strict=True):
            end = torch.zeros_like(x) + (sign * info.max if bound is None else bound)
            p = self.cdf(end)
            bad = (p - goal).abs() > room  # a formula that overflows, to NaN, says nothing
            if bound is None:  # nor does a tail so heavy that the floats end before it does
                bad &= ((p - self.cdf(end.sign() * end.abs().sqrt())).abs() <= room) | (p < -room) | (p > 1 + room)
            if bad.any():
                raise ValueError(
                    f"the distribution function is {p[bad][0].item():g} at {end[bad][0].item():g}, the end of the support; it must "
                    f"be {goal:g} there: normalise it, or pass support="
                )

    def _slope(self, x: Tensor) -> Tensor:
        slope = self.density(x)
        return torch.where(slope > 0, slope, math.inf)  # no gradient where there is no density


def _order(x: Tensor) -> Tensor:
    """Integers in the order of the floats."""
    bits = x.view(torch.int64 if x.dtype == torch.float64 else torch.int32)
    return torch.where(bits < 0, bits ^ torch.iinfo(bits.dtype).max, bits)


def _float(key: Tensor, dtype: torch.dtype) -> Tensor:
    """The inverse of `_order`."""
    return torch.where(key < 0, key ^ torch.iinfo(key.dtype).max, key).view(dtype)


def _check_rise(x: Tensor, p: Tensor, p_low: Tensor, p_high: Tensor) -> None:
    """Refuse what is no distribution function, as far as it was seen."""
    if not readable(p):
        return
    room = math.sqrt(torch.finfo(p.dtype).eps)
    for bad, what in (
        (~((p >= -room) & (p <= 1 + room)), "which is no probability"),
        ((p < p_low - room) | (p > p_high + room), "which falls: a distribution function rises"),
    ):
        if bad.any():
            raise ValueError(f"the distribution function is {p[bad][0].item():g} at {x[bad][0].item():g}, {what}")


def _try(made: Path, conditional: Conditional, several: bool, noise: Noise, parameters: Sequence[Tensor]) -> None:
    """Push a few values in the middle, and look at the ends, so that a law that is none is refused at once."""
    if not all(readable(t) for t in parameters) or noise.device.type != "cpu" or torch.compiler.is_compiling():
        return
    u = torch.tensor([0.25, 0.5, 0.75], dtype=noise.dtype).reshape((3,) + (1,) * len(noise.shape)).expand((3, *noise.shape))
    with torch.enable_grad():
        x = made.push(u)
    with torch.no_grad():
        columns = list(x.detach().unbind(-1)) if several else [x.detach()]
        for i, column in enumerate(columns):
            conditional(i, columns[:i]).check(column)
    needed = [t for t in parameters if t.requires_grad]
    try:
        slopes = torch.autograd.grad(x.sum(), needed, allow_unused=True) if needed and x.requires_grad else [None] * len(needed)
    except NotImplementedError as error:
        raise ValueError(f"the distribution function has no derivative in a parameter that requires one: {error}") from error
    for i, (t, slope) in enumerate(zip(needed, slopes, strict=True)):
        if slope is None:
            raise ValueError(
                f"the distribution function has no derivative in parameter {i} of those that require one, of shape "
                f"{tuple(t.shape)}: it was detached, or is not used"
            )
