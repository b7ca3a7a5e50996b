"""The regularized incomplete beta function, its quantile, and their derivatives in every argument.

Everything is a function of the logit `y = log x - log(1 - x)`, in which both ends of the unit interval are at infinity and the
density, `g(y) = sigmoid(y)^a sigmoid(-y)^b / B(a, b)`, is log-concave. Two facts carry the rest:

1. The tail over the density, `T(y) = int_-inf^y g / g(y)`, and its derivatives in `a` and `b` are integrals of
   `exp(phi(y - s) - phi(y))` times powers of log ratios, `phi = log g`. Up to the middle of the law the integrand falls on one
   scale only, once `a >= 1`, and a fixed Gauss-Legendre rule on that scale serves all parameters.
2. Integration by parts lifts the parameter: `a T(a) = 1 + (a + b) x T(a + 1)`, and the same for the slopes, with no cancellation.

The upper tail is the lower one with `a` and `b` swapped and `y` negated. The arithmetic is that of float64 whatever the dtype, and
rounded last; for arguments of float32 the rule is shorter.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from reparam.special.slopes import with_slopes
from reparam.special.tails import LOG2

__all__ = [
    "betainc",
    "digamma_difference",
    "log_betainc",
    "log_betaincc",
    "logit_beta_log_density",
    "logit_beta_quantile",
    "logit_beta_slopes",
    "stirling_error",
]


class _Rule(NamedTuple):
    """Gauss-Legendre nodes and weights on [0, 1], drawn to zero by `u -> (2 u + 3 u^2) / 5`, and where the integrand is cut."""

    nodes: tuple[float, ...]
    weights: tuple[float, ...]
    depth: float


def _gauss_legendre(size: int, depth: float) -> _Rule:
    z, w = np.polynomial.legendre.leggauss(size)
    u = (z + 1) / 2
    return _Rule(tuple((2 * u + 3 * u * u) / 5), tuple(w / 2 * (2 + 6 * u) / 5), depth)


# Largest relative errors of the tail and its first derivatives, over a, b in 1e-4 ... 1e5: 4e-13 and 3e-12, 2e-11 and 1e-10.
_DOUBLE, _SINGLE = _gauss_legendre(26, 31.0), _gauss_legendre(22, 27.0)
_CHUNK = 2**15  # numbers that one pass over several nodes may hold: few operations for small inputs, little memory for large ones

# B_2n / 2n, of the asymptotic series of digamma, and B_2n / (2n (2n - 1)), of that of log Gamma.
_DIGAMMA = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12, -3617 / 8160)
_STIRLING = tuple(c / (2 * n + 1) for n, c in enumerate(_DIGAMMA))
_SHIFT = 8


def digamma_difference(z: Tensor, d: Tensor) -> Tensor:
    """`digamma(z + d) - digamma(z)` for `z, d > 0`, to full relative precision however small `d` is beside `z`.

    Formula: the recurrence to `z + 8`, then the difference of the asymptotic series, factored. Differentiable to any order.

    Example:
        >>> import torch
        >>> digamma_difference(torch.tensor(1.0), torch.tensor([1.0, 2.0]))
        tensor([1.0000, 1.5000])
    """
    v = z + d
    total = d / (z * v)
    for k in range(1, _SHIFT):
        total = total + d / ((z + k) * (v + k))
    z, v = z + _SHIFT, v + _SHIFT
    u, w = z.reciprocal(), v.reciprocal()
    gap = d * u * w
    u2, w2 = u * u, w * w
    value, slope = torch.full_like(u2, _DIGAMMA[-1]), torch.zeros_like(u2)
    for c in (*reversed(_DIGAMMA[:-1]), 0.0):
        slope = slope * w2 + value
        value = value * u2 + c
    return total + torch.log1p(d * u) + gap / 2 + gap * (u + w) * slope


def stirling_error(z: Tensor) -> Tensor:
    """What Stirling's formula leaves out: `log Gamma(z) - ((z - 1/2) log z - z + log(2 pi) / 2)`, for `z > 0`.

    Example:
        >>> import torch
        >>> stirling_error(torch.tensor([0.5, 20.0, 1e10]))
        tensor([1.5343e-01, 4.1663e-03, 8.3333e-12])
    """
    far = z > 10
    small, large = torch.where(far, 1.0, z), torch.where(far, z, 11.0)
    near = torch.lgamma(small) - ((small - 0.5) * small.log() - small + 0.5 * math.log(2 * math.pi))
    w = large.reciprocal()
    series = torch.full_like(w, _STIRLING[-1])
    for c in reversed(_STIRLING[:-1]):
        series = series * (w * w) + c
    return torch.where(far, series * w, near)


def _density_value(a: Tensor, b: Tensor, y: Tensor) -> Tensor:
    """Relative to the top of the density, where two large numbers would cancel."""
    n = a + b
    offset = y - (a.log() - b.log())
    near = offset.abs() < 1
    close, q0, q1 = torch.where(near, offset, 0.0), b / n, a / n
    # log of x and of 1 - x over their values a / n and b / n at the top
    r1 = torch.where(near, -torch.log1p(q0 * torch.expm1(-close)), logsigmoid(y) + torch.log1p(b / a))
    r0 = torch.where(near, -torch.log1p(q1 * torch.expm1(close)), logsigmoid(-y) + torch.log1p(a / b))
    height = 0.5 * (a.log() + b.log() - n.log() - math.log(2 * math.pi))
    return a * r1 + b * r0 + height + (stirling_error(n) - stirling_error(a) - stirling_error(b))


def _density_slopes(_: Tensor, a: Tensor, b: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    return logsigmoid(y) + digamma_difference(a, b), logsigmoid(-y) + digamma_difference(b, a), _steepness(a, b, y)


def _steepness(a: Tensor, b: Tensor, y: Tensor) -> Tensor:
    return a * torch.sigmoid(-y) - b * torch.sigmoid(y)


def _log_density(a: Tensor, b: Tensor, y: Tensor) -> Tensor:
    return with_slopes(_density_value(a.detach(), b.detach(), y.detach()), _density_slopes, a, b, y)


# The scaled lower tail and its derivatives. `p` stands for a parameter that is at least 1, `v` for a logit up to the middle.


def _log_ratios(grown: Tensor, x: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
    """Logs of `x` and of `1 - x` at `v - s` over those at `v`, from `grown = exp(s) - 1`."""
    return -torch.log1p(rest * grown), -torch.log1p(-x * (grown / (1 + grown)))


def _reach(p: Tensor, q: Tensor, x: Tensor, rest: Tensor, depth: float) -> Tensor:
    """Where the integrand has fallen to `exp(-depth)`: Newton's method in logarithms from the parabola at zero."""
    slope = (p * rest - q * x).clamp(min=0.0)
    s = 2 * depth / (slope + torch.sqrt(slope * slope + 2 * depth * (p + q) * x * rest))
    for _ in range(2):
        grown = torch.expm1(s)
        log_x, log_rest = _log_ratios(grown, x, rest)
        fall = -(p * log_x + q * log_rest)
        x_there = x / (1 + rest * grown)
        s = s * torch.exp(-torch.log(fall / depth) * fall / (s * (p - (p + q) * x_there)))
    return s


def _tail_values(rule: _Rule, orders: list[tuple[int, int]], p: Tensor, q: Tensor, v: Tensor) -> list[Tensor]:
    """`T_jk = int_0^inf l1^j l0^k exp(p l1 + q l0) ds`, `l1, l0` the log ratios at `v - s`, for each of the orders `(j, k)`."""
    x, rest = torch.sigmoid(v), torch.sigmoid(-v)
    end = _reach(p, q, x, rest, rule.depth)
    size = max(1, _CHUNK // max(1, v.numel()))
    nodes, weights = (torch.tensor(r, dtype=v.dtype, device=v.device).split(size) for r in rule[:2])
    totals = [torch.zeros_like(v) for _ in orders]
    for u, w in zip(nodes, weights, strict=True):
        each = [-1] + [1] * v.dim()
        grown = torch.expm1(end * u.reshape(each))
        l1, l0 = _log_ratios(grown, x, rest)
        height = torch.exp(p * l1 + q * l0) * w.reshape(each)
        for i, (j, k) in enumerate(orders):
            term = height
            for factor, power in ((l1, j), (l0, k)):
                for _ in range(power):
                    term = term * factor
            totals[i] = totals[i] + term.sum(0)
    return [total * end for total in totals]


def _tails(rule: _Rule, orders: list[tuple[int, int]], p: Tensor, q: Tensor, v: Tensor) -> list[Tensor]:
    """The same, differentiable: `d/dp` raises `j`, `d/dq` raises `k`."""
    values = _tail_values(rule, orders, p.detach(), q.detach(), v.detach())

    def slopes_of(j: int, k: int) -> Callable[..., tuple[Tensor, ...]]:
        def slopes(value: Tensor, p: Tensor, q: Tensor, v: Tensor) -> tuple[Tensor, ...]:
            below = [(i, m) for i, m in ((j - 1, k), (j, k - 1)) if min(i, m) >= 0]
            dp, dq, *lower = _tails(rule, [(j + 1, k), (j, k + 1), *below], p, q, v)
            dv = -_steepness(p, q, v) * value
            if j == k == 0:
                dv = dv + 1
            if j:
                dv = dv - j * torch.sigmoid(-v) * lower[0]
            if k:
                dv = dv + k * torch.sigmoid(v) * lower[-1]
            return dp, dq, dv

        return slopes

    return [with_slopes(value, slopes_of(*order), p, q, v) for value, order in zip(values, orders, strict=True)]


def _middle(a: Tensor, b: Tensor) -> Tensor:
    """Up to here the lower tail is used, and from here on the upper one."""
    return torch.log1p(a.detach()) - torch.log1p(b.detach())


def _sided(a: Tensor, b: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Which tail is used, and the parameters and the logit with which it is a lower one."""
    lower = y.detach() < _middle(a, b)
    return lower, torch.where(lower, a, b), torch.where(lower, b, a), torch.where(lower, y, -y)


def _scaled_tail(rule: _Rule, p: Tensor, q: Tensor, v: Tensor) -> Tensor:
    (tail,) = _tail_values(rule, [(0, 0)], p + 1, q, v)
    return (1 + (p + q) * torch.sigmoid(v) * tail) / p


def _slopes(rule: _Rule, a: Tensor, b: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    lower, p, q, v = _sided(a, b, y)
    n = p + q
    tail, by_p, by_q = _tails(rule, [(0, 0), (1, 0), (0, 1)], p + 1, q, v)
    # Of the law with p + 1: log x and log(1 - x) beside their means, then its slopes.
    ahead = -digamma_difference(p + 1, q) - logsigmoid(v)
    behind = -digamma_difference(q, p + 1) - logsigmoid(-v)
    more = n * torch.sigmoid(v)
    first = (n.reciprocal() + ahead + more * (ahead * tail - by_p)) / p
    second = (n.reciprocal() + behind + more * (behind * tail - by_q)) / p
    return torch.where(lower, first, -second), torch.where(lower, second, -first)


def _log_tail(rule: _Rule, upper: bool, a: Tensor, b: Tensor, y: Tensor) -> Tensor:
    """Log of the lower or the upper tail; all float64."""

    def slopes(value: Tensor, a: Tensor, b: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        hazard = torch.exp(_log_density(a, b, y) - value)
        by_a, by_b = _slopes(rule, a, b, y)
        sign = 1.0 if upper else -1.0
        return sign * hazard * by_a, sign * hazard * by_b, -sign * hazard

    lower, p, q, v = _sided(a.detach(), b.detach(), y.detach())
    near = _density_value(p, q, v) + torch.log(_scaled_tail(rule, p, q, v))
    value = torch.where(lower ^ upper, near, _log_complement(near))
    return with_slopes(value, slopes, a, b, y)


def _log_complement(log_p: Tensor) -> Tensor:
    """`log(1 - exp(log_p))`. Source: Maechler, "Accurately computing log(1 - exp(-|a|))" (2012)."""
    small = log_p < -LOG2
    far, near = torch.where(small, log_p, -1.0), torch.where(small, -0.1, log_p)
    return torch.where(small, torch.log1p(-torch.exp(far)), torch.log(-torch.expm1(near)))


def _quantile_value(rule: _Rule, a: Tensor, b: Tensor, hazard: Tensor) -> Tensor:
    """A law's own tail decides the side; an elementary approximation of that tail gives the start; Householder's steps finish."""
    c = _middle(a, b)
    at_c = _density_value(a, b, c) + torch.log(_scaled_tail(rule, a, b, c))
    log_p = _log_complement(-hazard.clamp(min=1e-307))
    lower = log_p < at_c
    p, q, c = torch.where(lower, a, b), torch.where(lower, b, a), torch.where(lower, c, -c)
    target = torch.where(lower, log_p, -hazard)

    def approximate(v: Tensor) -> tuple[Tensor, Tensor]:
        """The log of the tail and `1 / tail * density`, by the normal law's tail fitted to slope and curvature."""
        x, rest = torch.sigmoid(v), torch.sigmoid(-v)
        slope = (p + 1) * rest - q * x
        tail = 2 / (slope + torch.sqrt(slope * slope + (8 / math.pi) * (p + q + 1) * x * rest))
        tail = (1 + (p + q) * x * tail) / p
        return _density_value(p, q, v) + tail.log(), tail

    top, scale = approximate(c)
    wanted = (top - target).clamp(min=1e-30)
    s = wanted * scale
    for _ in range(10):  # the fall of the log of the tail is convex in s: Newton's method in logarithms
        there, scale = approximate(c - s)
        fall = (top - there).clamp(min=1e-30)
        s = s * torch.exp((-torch.log(fall / wanted) * fall * scale / s).clamp(-2.0, 2.0))
    v = c - s
    for _ in range(3):
        tail = _scaled_tail(rule, p, q, v)
        excess = _density_value(p, q, v) + tail.log() - target
        # Second and third derivative of the log of the tail over the first.
        second = _steepness(p, q, v) - 1 / tail
        third = second * (second - 1 / tail) - (p + q) * torch.sigmoid(v) * torch.sigmoid(-v)
        step = excess * tail
        step = step * ((1 - step * second / 2) / (1 - step * second + step * step * third / 6)).clamp(0.5, 2.0)
        v = torch.minimum(v - step, c)
    return torch.where(lower, v, -v)


def _quantile(rule: _Rule, a: Tensor, b: Tensor, hazard: Tensor) -> Tensor:
    def slopes(y: Tensor, a: Tensor, b: Tensor, hazard: Tensor) -> tuple[Tensor, ...]:
        return *_slopes(rule, a, b, y), torch.exp(-hazard - _log_density(a, b, y))

    value = _quantile_value(rule, *torch.broadcast_tensors(a.detach(), b.detach(), hazard.detach()))
    return with_slopes(value, slopes, a, b, hazard)


def _wide(*args: Tensor) -> tuple[_Rule, torch.dtype, list[Tensor]]:
    """The rule for the arguments' dtype, that dtype, and the arguments as float64."""
    dtype = args[0].dtype
    for arg in args[1:]:
        dtype = torch.promote_types(dtype, arg.dtype)
    return _DOUBLE if dtype == torch.float64 else _SINGLE, dtype, [arg.double() for arg in args]


def logit_beta_log_density(a: Tensor, b: Tensor, y: Tensor) -> Tensor:
    """Log-density of the logit of a Beta variable, `a log sigmoid(y) + b log sigmoid(-y) - log B(a, b)`, near its top too.

    Relative precision does not suffer where the three terms are large and their sum is not. Differentiable to any order.

    Example:
        >>> import torch
        >>> logit_beta_log_density(torch.tensor(1.0), torch.tensor(1.0), torch.tensor(0.0)).exp()
        tensor(0.2500)
    """
    _, dtype, wide = _wide(a, b, y)
    return _log_density(*wide).to(dtype)


def log_betainc(a: Tensor, b: Tensor, y: Tensor) -> Tensor:
    """`log P(Y <= y)` for the logit `Y` of a Beta(a, b) variable, exact far into the lower tail.

    Differentiable in every argument to any order; computed in float64 and rounded to the type of the arguments. For `a, b` from
    1e-4 to 1e5 the absolute error in float64 is below 1e-9, and below 1e-12 unless one of them is tiny.

    Example:
        >>> import torch
        >>> one, y = torch.tensor(1.0), torch.tensor([-100.0, 0.0])
        >>> log_betainc(one, one, y)                # of uniform numbers: log sigmoid(y)
        tensor([-100.0000,   -0.6931])
    """
    rule, dtype, wide = _wide(a, b, y)
    return _log_tail(rule, False, *wide).to(dtype)


def log_betaincc(a: Tensor, b: Tensor, y: Tensor) -> Tensor:
    """`log P(Y > y)`, the complement of `log_betainc`, exact far into the upper tail.

    Example:
        >>> import torch
        >>> one, y = torch.tensor(1.0), torch.tensor([0.0, 100.0])
        >>> log_betaincc(one, one, y)
        tensor([  -0.6931, -100.0000])
    """
    rule, dtype, wide = _wide(a, b, y)
    return _log_tail(rule, True, *wide).to(dtype)


def betainc(a: Tensor, b: Tensor, x: Tensor) -> Tensor:
    """The regularized incomplete beta function `I_x(a, b)` on the unit interval; with `log_betainc` beyond the floats near 1.

    Differentiable in every argument to any order, in the open interval; the ends have zero slope.

    Source: NIST Digital Library of Mathematical Functions, 8.17.

    Example:
        >>> import torch
        >>> betainc(torch.tensor(2.0), torch.tensor(3.0), torch.tensor([0.0, 0.5, 1.0]))
        tensor([0.0000, 0.6875, 1.0000])
    """
    rule, dtype, (a, b, x) = _wide(a, b, x)
    inside = (x > 0) & (x < 1)
    at = torch.where(inside, x, 0.5)
    value = _log_tail(rule, False, a, b, at.log() - torch.log1p(-at)).exp()
    return torch.where(inside, value, (x >= 1).to(value.dtype)).to(dtype)


def logit_beta_slopes(a: Tensor, b: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """`dy/da > 0` and `dy/db < 0` of the logit of a Beta(a, b) variable at fixed probability.

    Formula: `dy/da = -(dI/da) / g(y)`, the implicit gradient (arXiv:1805.08498), integrated over the side on
    which it does not cancel. `dy/db (a, b, y) = -dy/da (b, a, -y)`. The relative error in float64 is below 1e-9 for a, b from 1e-4
    to 1e5. Differentiable to any order.

    Example:
        >>> import torch
        >>> one, y = torch.tensor(1.0, dtype=torch.float64), torch.tensor(0.3, dtype=torch.float64)
        >>> x = torch.sigmoid(y)                    # Beta(a, 1): dx/da = -x log x / a
        >>> torch.allclose(logit_beta_slopes(one, one, y)[0] * x * (1 - x), -x * x.log())
        True
    """
    rule, dtype, wide = _wide(a, b, y)
    by_a, by_b = _slopes(rule, *torch.broadcast_tensors(*wide))
    return by_a.to(dtype), by_b.to(dtype)


def logit_beta_quantile(a: Tensor, b: Tensor, hazard: Tensor) -> Tensor:
    """The logit `y` of a Beta(a, b) variable with `P(Y > y) = exp(-hazard)`.

    Both tails are exact: the lower one is `1 - exp(-hazard)` for a small hazard. Differentiable in every argument to any order.

    Example:
        >>> import torch
        >>> one = torch.tensor(1.0)
        >>> logit_beta_quantile(one, one, torch.tensor([1e-20, 50.0])) / 50     # of uniform numbers: log(exp(hazard) - 1)
        tensor([-0.9210,  1.0000])
    """
    rule, dtype, wide = _wide(a, b, hazard)
    return _quantile(rule, *wide).to(dtype)
