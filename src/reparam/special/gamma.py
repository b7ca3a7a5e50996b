"""The incomplete gamma functions with their derivatives in the shape, in logarithms, and the quantile.

Everything is made of one-sided moments. With `y = log x`, `X` of law Gamma(a, 1) and `f` the density of `log X`,

    J_k(a, y) = integral over s > 0 of s^k exp(+-a s - x (exp(+-s) - 1)) = integral over u beyond y of |u - y|^k f(u) / f(y),

upwards above the middle of the law and downwards below it, so that no moment is a small difference. `J_0` is the smaller tail
divided by the density; the derivative in the shape is `J_1 + |y - psi(a)| J_0`, two positive terms; and the derivatives of moments
are moments. The integrals are taken by Gauss-Legendre quadrature, up to where the integrand is `exp(-40)`, and for small `x`
by the series of Kummer's function. All is computed in float64 and rounded once, whatever the dtype of the arguments.

Source: Figurnov, Mohamed and Mnih, arXiv:1805.08498 (implicit reparameterization); DLMF 8.5 and 8.7 (the series).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from reparam.special.slopes import with_slopes

__all__ = [
    "gammainc",
    "gammaincc",
    "log_gamma_density",
    "log_gamma_hazard",
    "log_gamma_quantile",
    "log_gamma_slope",
    "log_gammainc",
    "log_gammaincc",
]

# 28 nodes leave 1e-12 of a moment of order 0 to 2, wherever the shape and the value lie.
_NODES, _WEIGHTS = ((v / 2).tolist() for v in np.polynomial.legendre.leggauss(28))
_REACH = 40.0
_SMALL, _BLOCK = 2048, 7  # above so many values, the nodes are taken by so many at once: little memory for large tensors
# The series serves up to x = 2, where its last term is below 1e-17 of its first.
_LARGEST = math.log(2.0)
_TERMS = tuple((-1.0) ** n / math.factorial(n) for n in range(26))
# log Gamma(a) = (a - 1/2) log a - a + log(2 pi) / 2 + these over a, a^3, a^5, ...; from a = 10 on, to the last digit.
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156)
_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)
_LARGEST_EXPONENT = 700.0
_LARGEST_VALUE = 1e300
# The Taylor coefficients of log Gamma(1 + a): -gamma, zeta(2) / 2, -zeta(3) / 3, ...
_LOG_GAMMA = (
    -float(np.euler_gamma),
    *((-1.0) ** k * float(torch.special.zeta(torch.tensor(float(k), dtype=torch.float64), 1.0)) / k for k in range(2, 9)),
)
_PIECE = 8192


def _evaluate(f: Callable[..., tuple[Tensor, ...]], *args: Tensor) -> tuple[Tensor, ...]:
    """`f` without gradient, elementwise: on the CPU in pieces whose intermediate values stay in its cache."""
    with torch.no_grad():
        args = tuple(t.detach() for t in args)
        like = args[0]
        if like.numel() <= _PIECE or not like.is_cpu or torch.compiler.is_compiling():
            return f(*args)
        pieces = [f(*piece) for piece in zip(*(t.reshape(-1).split(_PIECE) for t in args), strict=True)]
        return tuple(torch.cat(list(parts)).reshape(like.shape) for parts in zip(*pieces, strict=True))


def _excess(a: Tensor, y: Tensor) -> Tensor:
    """`x - a`, without cancellation."""
    return a * torch.expm1(y - a.log())


def _zeta(order: float, a: Tensor) -> Tensor:
    """Hurwitz' zeta function, whose forward derivative torch lacks: polygamma functions are its multiples."""
    with torch.no_grad():
        value = torch.special.zeta(torch.full_like(a, order).detach(), a.detach())
    return with_slopes(value, lambda _, a: (-order * _zeta(order + 1.0, a),), a)


def _digamma(a: Tensor) -> Tensor:
    """With a derivative that is good to more than the nine digits of torch's trigamma."""
    return with_slopes(torch.digamma(a.detach()), lambda _, a: (_zeta(2.0, a),), a)


def _log_gamma_plus_one(a: Tensor) -> Tensor:
    """`log Gamma(1 + a)`, to full relative precision for small `a`."""
    small = torch.where(a < 0.01, a, 0.0)
    series = torch.full_like(a, _LOG_GAMMA[-1])
    for coefficient in reversed(_LOG_GAMMA[:-1]):
        series = series * small + coefficient
    return torch.where(a < 0.01, series * small, torch.lgamma(1 + a))


def _sides(a: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Where the series serves, which is below, and where the quadrature goes upwards."""
    series = y < torch.digamma(a + 1).clamp(max=_LARGEST)
    return series, ~series & (y >= torch.digamma(a))


def _columns(values: tuple[float, ...] | list[float], like: Tensor) -> tuple[Tensor, ...]:
    column = torch.tensor(values, dtype=like.dtype, device=like.device)
    return tuple(column.reshape(-1, *[1] * like.dim()).split(_BLOCK if like.numel() > _SMALL else len(values)))


def _quadrature(a: Tensor, y: Tensor, series: Tensor, upper: Tensor, order: int) -> list[Tensor]:
    """The moments up to an order, where not `series`."""
    a, x = torch.where(series, 3.0, a), torch.where(series, 2.0, y.exp())
    gap = torch.where(series, -1.0, _excess(a, torch.where(series, _LARGEST, y)))
    # Bounds of where the exponent reaches -40, tight for all shapes, from (exp(s) - 1) >= s + s^2 / 2 and from
    # 1 - exp(-s) <= s / (1 + s / 2).
    above = 2 * _REACH / (torch.hypot(gap, torch.sqrt(2 * _REACH * x)) + gap)
    above = torch.minimum(above, torch.log1p((_REACH + a * above) / x))
    half = _REACH / 2 + gap
    below = 2 * _REACH / (torch.hypot(half, torch.sqrt(2 * _REACH * a)) - half)
    length = torch.where(upper, above, -below)
    moments = [torch.zeros_like(a) for _ in range(order + 1)]
    for node, weight in zip(_columns([0.5 + t for t in _NODES], a), _columns(_WEIGHTS, a), strict=True):
        s = length * node
        term = weight * torch.exp(a * s - x * torch.expm1(s))
        for k in range(order + 1):
            moments[k] = moments[k] + term.sum(0)
            term = term * s.abs()
    return [length.abs() * moment for moment in moments]


def _series(a: Tensor, y: Tensor, series: Tensor, order: int) -> tuple[Tensor, list[Tensor]]:
    """`x`, and sums of `(-x)^n / n! / (a + n)^(k + 1)` over `n >= 1`, for `k` up to an order, where `series`.

    With their first terms, `1 / a^(k + 1)`, and the factor `k! exp(x)` they are the moments.
    """
    y = torch.where(series, y, 0.0)
    sums = [torch.zeros_like(y) for _ in range(order + 1)]
    for n, coefficient in zip(_columns(list(range(1, len(_TERMS))), y), _columns(_TERMS[1:], y), strict=True):
        inverse = 1 / (a + n)
        term = coefficient * torch.exp(n * y) * inverse
        for k in range(order + 1):
            sums[k] = sums[k] + term.sum(0)
            term = term * inverse
    return y.exp(), sums


def _moments(order: int, a: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    series, upper = _sides(a, y)
    x, sums = _series(a, y, series, order)
    beside = _quadrature(a, y, series, upper, order)
    growth = x.exp()
    return tuple(
        torch.where(series, math.factorial(k) * growth * (a ** -(k + 1) + s), m)
        for k, (s, m) in enumerate(zip(sums, beside, strict=True))
    )


def _moment(k: int, a: Tensor, y: Tensor) -> Tensor:
    """`J_k`, differentiable to any order."""

    def slopes(moment: Tensor, a: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        sign = _sign(a, y)
        edge = torch.ones_like(a) if k == 0 else k * _moment(k - 1, a, y)
        return sign * _moment(k + 1, a, y), _excess(a, y) * moment - sign * edge

    return with_slopes(_evaluate(partial(_moments, k), a, y)[k], slopes, a, y)


def _sign(a: Tensor, y: Tensor) -> Tensor:
    return torch.where(_sides(a.detach(), y.detach())[1], 1.0, -1.0).to(a.dtype)


def _log_density_value(a: Tensor, y: Tensor) -> tuple[Tensor]:
    large = a > 10.0
    d = torch.where(large, y - a.log(), 0.0)
    inverse = 1 / a.clamp(min=10.0)
    square = inverse * inverse
    correction = torch.full_like(a, _STIRLING[-1])
    for coefficient in reversed(_STIRLING[:-1]):
        correction = correction * square + coefficient
    far = -a * (torch.expm1(d) - d) + 0.5 * a.log() - _HALF_LOG_2PI - correction * inverse
    return (torch.where(large, far, a * y - y.exp() - torch.lgamma(a)),)


def _log_density(a: Tensor, y: Tensor) -> Tensor:
    """`a y - x - log Gamma(a)`, by Stirling's formula for large shapes."""

    def slopes(_: Tensor, a: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        return y - _digamma(a), -_excess(a, y)

    (value,) = _evaluate(_log_density_value, a, y)
    return with_slopes(value, slopes, a, y)


def _slope_value(a: Tensor, y: Tensor) -> tuple[Tensor]:
    series, upper = _sides(a, y)
    x, (first, second) = _series(a, y, series, 1)
    # J_1 - J_0 / a is a sum without its first term: with psi(a + 1) = psi(a) + 1 / a nothing of the size of 1 / a^2 cancels.
    below = x.exp() * ((torch.digamma(a + 1) - y) * (1 / a + first) + second - first / a)
    zeroth, first = _quadrature(a, y, series, upper, 1)
    away = y - torch.digamma(a)
    return (torch.where(series, below, torch.where(upper, away, -away) * zeroth + first),)


def _slope(a: Tensor, y: Tensor) -> Tensor:
    """`d log x / d a` at fixed probability."""

    def slopes(slope: Tensor, a: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        sign, away = _sign(a, y), y - _digamma(a)
        bend = sign * (_moment(2, a, y) - _zeta(2.0, a) * _moment(0, a, y)) + away * _moment(1, a, y)
        return bend, _excess(a, y) * slope - away

    (value,) = _evaluate(_slope_value, a, y)
    return with_slopes(value, slopes, a, y)


def _tails(a: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The logs of the lower and the upper tail, and both tails divided by the density of `log X`."""
    series, upper = _sides(a, y)
    x, (rest,) = _series(a, y, series, 0)
    (log_density,) = _log_density_value(a, y)
    near = torch.where(series, x.exp() * (1 / a + rest), _quadrature(a, y, series, upper, 0)[0])
    # For small shapes log P is small, and so a sum of small terms.
    by_series = a * y - _log_gamma_plus_one(a) + torch.log1p(torch.where(series, a * rest, 0.0))
    log_near = torch.where(series, by_series, log_density + near.log()).clamp(max=-torch.finfo(a.dtype).tiny)
    log_far = torch.where(log_near > -1.0, torch.log(-torch.expm1(log_near)), torch.log1p(-torch.exp(log_near)))
    far = torch.exp((log_far - log_density).clamp(max=_LARGEST_EXPONENT))
    return (
        torch.where(upper, log_far, log_near),
        torch.where(upper, log_near, log_far),
        torch.where(upper, far, near),
        torch.where(upper, near, far),
    )


def _ratio(sign: float, a: Tensor, y: Tensor) -> Tensor:
    """The upper (for +1) or lower (for -1) tail divided by the density of `log X`."""

    def slopes(ratio: Tensor, a: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        return sign * _slope(a, y) - ratio * (y - _digamma(a)), _excess(a, y) * ratio - sign

    return with_slopes(_evaluate(_tails, a, y)[3 if sign > 0 else 2], slopes, a, y)


def _log_tail(sign: float, a: Tensor, y: Tensor) -> Tensor:
    """The log of the upper (for +1) or lower (for -1) tail."""

    def slopes(_: Tensor, a: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        ratio = _ratio(sign, a, y)
        return sign * _slope(a, y) / ratio, -sign / ratio

    return with_slopes(_evaluate(_tails, a, y)[1 if sign > 0 else 0], slopes, a, y)


def _tail(sign: float, a: Tensor, y: Tensor) -> Tensor:
    def slopes(_: Tensor, a: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        density = sign * _log_density(a, y).exp()
        return density * _slope(a, y), -density

    return with_slopes(_evaluate(_tails, a, y)[1 if sign > 0 else 0].exp(), slopes, a, y)


# From the first guess, three leave at most 1e-6 of the logarithm, and each is cubic.
_STEPS = 4


def _quantile(a: Tensor, hazard: Tensor) -> Tensor:
    """The log of the value that is exceeded with probability `exp(-hazard)`."""

    def slopes(y: Tensor, a: Tensor, hazard: Tensor) -> tuple[Tensor, ...]:
        return _slope(a, y), _ratio(1.0, a, y)

    (value,) = _evaluate(_quantile_value, a, hazard)
    return with_slopes(value, slopes, a, hazard)


def _quantile_value(a: Tensor, h: Tensor) -> tuple[Tensor]:
    upper = h > math.log(2.0)
    target = torch.where(upper, -h, torch.log(-torch.expm1(-h)))
    y = _start(a, h)
    for _ in range(_STEPS):
        log_lower, log_upper, lower, above = _tails(a, y)
        # Newton's step in the log of the smaller tail, which is concave, and Halley's correction of it.
        speed = torch.where(upper, -1 / above, 1 / lower)
        step = (target - torch.where(upper, log_upper, log_lower)) / speed
        y = y + step / (1 - step * (_excess(a, y) + speed) / 2).clamp(min=0.5)
    return (y,)


def _start(a: Tensor, h: Tensor) -> Tensor:
    """A first guess of the log of the quantile."""
    log_p = torch.log(-torch.expm1(-h))
    # From P = x^a / Gamma(a + 1), exact for small x, and a bound from below always.
    small = (log_p + torch.lgamma(a + 1)) / a
    # Wilson and Hilferty: the cube root of a Gamma is nearly normal.
    tail = torch.where(h > 0.7, torch.exp(-h.clamp(max=600.0)), -torch.expm1(-h))
    z = torch.special.ndtri(tail)
    z = torch.where(h > 0.7, -z, z)
    root = 1 - 1 / (9 * a) + z / (3 * a.sqrt())
    middle = a.log() + 3 * root.clamp(min=0.1).log()
    # From Q = x^(a - 1) exp(-x) / Gamma(a), for large x.
    shift = h - torch.lgamma(a)
    x = shift.clamp(min=1.0)
    for _ in range(3):
        x = (shift + (a - 1) * x.log()).clamp(min=1.0)
    guess = torch.where(a < 1, torch.where(shift > 1.5, x.log(), small), middle)
    return torch.maximum(torch.where((a >= 1) & (root < 0.3), small, guess), small)


def _in_double(f: Callable[..., Tensor], *args: Tensor | float) -> Tensor:
    """`f` in float64, elementwise after broadcasting, rounded to the dtype of the arguments."""
    tensors = [v for v in args if isinstance(v, Tensor)]
    dtype = torch.get_default_dtype()
    if tensors:
        dtype = tensors[0].dtype
        for t in tensors[1:]:
            dtype = torch.promote_types(dtype, t.dtype)
        if not dtype.is_floating_point:
            dtype = torch.get_default_dtype()
    device = tensors[0].device if tensors else None
    wide = [torch.as_tensor(v, device=device).to(torch.float64) for v in args]
    return f(*torch.broadcast_tensors(*wide)).to(dtype)


def _at_log(f: Callable[[Tensor, Tensor], Tensor], at_zero: float, at_infinity: float, a: Tensor, x: Tensor) -> Tensor:
    """`f(a, log x)`, and the limits at both ends."""
    value = f(a, x.clamp(torch.finfo(torch.float64).tiny, _LARGEST_VALUE).log())
    ends = torch.where(x < 1, at_zero, at_infinity).to(value.dtype)
    return torch.where((x > 0) & (x < torch.inf), value, torch.where(x.isnan(), torch.nan, ends))


def gammainc(a: Tensor | float, x: Tensor | float) -> Tensor:
    """The regularized lower incomplete gamma function, `P(a, x)`: the distribution function of Gamma(a, 1).

    Differentiable in the shape `a > 0` and in `x >= 0`, to any order; elementwise after broadcasting.

    Example:
        >>> import torch
        >>> gammainc(torch.tensor([1.0, 5.0]), 1.0)
        tensor([0.6321, 0.0037])
    """
    return _in_double(partial(_at_log, partial(_tail, -1.0), 0.0, 1.0), a, x)


def gammaincc(a: Tensor | float, x: Tensor | float) -> Tensor:
    """The regularized upper incomplete gamma function, `Q(a, x) = 1 - P(a, x)`; otherwise as `gammainc`.

    Example:
        >>> import torch
        >>> gammaincc(torch.tensor([1.0, 5.0]), 1.0)
        tensor([0.3679, 0.9963])
    """
    return _in_double(partial(_at_log, partial(_tail, 1.0), 1.0, 0.0), a, x)


def log_gammainc(a: Tensor | float, x: Tensor | float) -> Tensor:
    """`log P(a, x)`, exact where `P` is below the floats and where it is near one; otherwise as `gammainc`.

    Example:
        >>> import torch
        >>> log_gammainc(torch.tensor(1000.0), 1.0)
        tensor(-5913.1270)
    """
    return _in_double(partial(_at_log, partial(_log_tail, -1.0), -math.inf, 0.0), a, x)


def log_gammaincc(a: Tensor | float, x: Tensor | float) -> Tensor:
    """`log Q(a, x)`, exact where `Q` is below the floats and where it is near one; otherwise as `gammainc`.

    Example:
        >>> import torch
        >>> log_gammaincc(torch.tensor([1.0, 0.1]), 1e4)
        tensor([-10000.0000, -10010.5420])
    """
    return _in_double(partial(_at_log, partial(_log_tail, 1.0), 0.0, -math.inf), a, x)


def log_gamma_hazard(a: Tensor | float, log_x: Tensor | float) -> Tensor:
    """`-log P(log X > log_x)` for `X` of law Gamma(a, 1): the inverse of `log_gamma_quantile`, in logarithms of `x`.

    Example:
        >>> import torch
        >>> log_gamma_hazard(1.0, torch.tensor(0.0))
        tensor(1.)
    """
    # Beyond the largest exponent the tail is zero, and has no slope.
    return _in_double(lambda a, y: -_log_tail(1.0, a, y.clamp(max=_LARGEST_EXPONENT)), a, log_x)


def log_gamma_density(a: Tensor | float, log_x: Tensor | float) -> Tensor:
    """The log-density of `log X` for `X` of law Gamma(a, 1), `a log_x - x - log Gamma(a)`, exact for large shapes too.

    Differentiable in both to any order.

    Example:
        >>> import torch
        >>> log_gamma_density(torch.tensor([1.0, 1e4]), torch.tensor([0.0, 9.25]))
        tensor([-1.0000, -4.2832])
    """
    return _in_double(_log_density, a, log_x)


def log_gamma_slope(a: Tensor | float, log_x: Tensor | float) -> Tensor:
    """`d log x / d a` of Gamma(a, 1) at fixed probability: `-(dP/da) / (x p(x))`, positive always.

    The derivative of a sample in the shape, given the logarithm of the sample. Differentiable in both to any order.

    Source: Figurnov, Mohamed and Mnih, arXiv:1805.08498.

    Example:
        >>> import torch
        >>> log_gamma_slope(torch.tensor([1e-3, 1.0, 1e5]), torch.tensor([-1000.0, 0.0, 11.5]))
        tensor([9.9942e+05, 1.1736e+00, 1.0065e-05])
    """
    return _in_double(_slope, a, log_x)


def log_gamma_quantile(a: Tensor | float, hazard: Tensor | float) -> Tensor:
    """The logarithm of the value that Gamma(a, 1) exceeds with probability `exp(-hazard)`.

    Exact in both tails: the lower one for small and the upper one for large `hazard > 0`. Differentiable in both to any order.

    Example:
        >>> import torch
        >>> log_gamma_quantile(torch.tensor([1e-3, 1.0]), 2.0)
        tensor([-145.9898,    0.6931])
    """
    return _in_double(_quantile, a, hazard)
