"""The angle between a von Mises–Fisher vector and its mean direction, in any dimension; von Mises is the circle's.

In dimension `d` its density on (0, pi) is `exp(kappa cos t) sin(t)**n / Z` with `n = d - 2`. Everything here is made of one
integral, the ratio of a tail to the density where it begins,

    R_j(x) = integral of (cos t - cos x)**j exp(kappa (cos t - cos x)) (sin t / sin x)**n

over the `t` above or below `x`. Away from the mode its integrand falls from its end at `x` at a scale that is found first, so
that one Gauss-Legendre rule serves every `kappa`, `n` and `x`. No tail is a difference of larger numbers, and the derivatives are
integrals of the same family.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from reparam.special.normal import normal_from_hazard
from reparam.special.slopes import with_slopes

__all__ = ["angle_draw", "angle_hazard", "angle_quantile", "log_angle_integral", "mean_cosine_deficit"]

# The exponent at which the integrals are cut and the nodes that then integrate them: to the precision of a type, or coarsely.
_HALF = (torch.float16, torch.bfloat16)
_FINE = {torch.float64: (40.0, 24), torch.float32: (20.0, 16)}
_COARSE = (12.0, 8)
# The rules on the unit interval, in groups: neither thousands of small operations nor all nodes of all samples in memory at once.
_RULES = {
    order: [
        ((nodes / 2 + 0.5).tolist(), (weights / 2).tolist()) for nodes, weights in zip(*(np.split(v, 2) for v in rule), strict=True)
    ]
    for order, rule in ((order, np.polynomial.legendre.leggauss(order)) for order in (8, 16, 24))
}


def angle_quantile(eps: Tensor, kappa: Tensor, n: int) -> Tensor:
    """The angle `t` in (0, pi) with `-log P(T > t) = eps`, differentiable in `eps` and in `kappa`.

    Solved for `log(tan(t/2))`, in which both tails are log-concave with linear ends, by Halley's method on the smaller tail.
    The slopes are implicit (arXiv:1805.08498): with `A` the mean cosine, `dt/dkappa = R_1 + (cos t - A) R_0` above.

    Args:
        eps: exponential noise; small for angles near zero.
        kappa: concentration, not negative.
        n: two less than the dimension of the space.

    Example:
        >>> import torch
        >>> angle_quantile(torch.tensor(2.0).log(), torch.tensor(0.0), n=0)  # uniform on the circle
        tensor(1.5708)
    """
    mode = _mode(kappa.detach(), n)
    with torch.no_grad():
        value = _solve(eps.detach(), kappa.detach(), mode, n)

    def slopes(t: Tensor, eps: Tensor, kappa: Tensor, mode: Tensor, mean: Tensor) -> tuple[Tensor, ...]:
        upper = t.detach() >= mode
        ratio = _tail_ratio(t, kappa, torch.where(upper, 1.0, -1.0).to(t.dtype), n, 0, 1)
        along = ratio * torch.where(upper, 1.0, 1 / torch.expm1(torch.where(upper, 1.0, eps)))
        return along, *_kappa_slopes(n, t, kappa, mode, mean)

    return with_slopes(value, slopes, eps, kappa, mode, _mean_excess(kappa, mode, n))


def angle_draw(kappa: Tensor, n: int, rows: torch.Size, generator: torch.Generator | None) -> Tensor:
    """Random angles of shape `rows + kappa.shape`, differentiable in `kappa`, by rejection. It looks at numbers.

    Source: Ulrich, "Computer generation of distributions on the m-sphere" (1984), in the form of Wood (1994), with every
    difference from a cosine of one kept as it is. Values are drawn in double precision.
    """
    with torch.no_grad():
        every = kappa.detach().double().expand(rows + kappa.shape).flatten()
        value = torch.empty_like(every)
        waiting = torch.arange(len(every), device=every.device)
        while len(waiting):
            k = every[waiting]
            first = _beta(k, (n + 1) / 2, generator)
            uniform = torch.rand(k.shape, generator=generator, dtype=k.dtype, device=k.device)
            b = (n + 1) / (2 * k + torch.hypot(2 * k, torch.full_like(k, n + 1.0)))
            u = b * first / (1 - first + b * first)  # (1 - cos t) / 2
            # Comparisons with what is not a number are false: such a kappa does not hold up the others for ever.
            reject = 2 * k * (b / (1 + b) - u) + (n + 1) * torch.log((1 + b) * (1 + u * (1 - b) / b) / 2) < uniform.log()
            value[waiting] = 2 * torch.atan2(torch.sqrt(b * first), torch.sqrt(1 - first))
            waiting = waiting[reject]
        info = torch.finfo(kappa.dtype)
        value = value.reshape(rows + kappa.shape).to(kappa.dtype).clamp(info.tiny, math.pi * (1 - 2 * info.eps))
    mode = _mode(kappa.detach(), n)
    return with_slopes(value, lambda *args: _kappa_slopes(n, *args), kappa, mode, _mean_excess(kappa, mode, n))


def _beta(like: Tensor, a: float, generator: torch.Generator | None) -> Tensor:
    """Symmetric beta variables."""
    if a == 0.5:
        return torch.sin(torch.rand(like.shape, generator=generator, dtype=like.dtype, device=like.device) * (math.pi / 2)) ** 2
    parts: Tensor = torch._standard_gamma(like.new_full((2, *like.shape), a), generator=generator)
    return parts[0] / (parts[0] + parts[1])


def _kappa_slopes(n: int, t: Tensor, kappa: Tensor, mode: Tensor, mean: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The slope of the quantile `t` in kappa; the mode and the mean, which come along, move with kappa on their own."""
    side = torch.where(t.detach() >= mode, 1.0, -1.0).to(t.dtype)
    excess = _rise(mode, t - mode) - mean
    slope = side * (_tail_ratio(t, kappa, side, n, 1, 1) + excess * _tail_ratio(t, kappa, side, n, 0, 1))
    return slope, torch.zeros_like(t), torch.zeros_like(t)


def angle_hazard(t: Tensor, kappa: Tensor, n: int) -> Tensor:
    """`-log P(T > t)` of the angle, exact in both tails and differentiable: the inverse of `angle_quantile`.

    Example:
        >>> import torch
        >>> angle_hazard(torch.tensor([1e-10, 3.0]), torch.tensor(100.0), n=1)
        tensor([5.0000e-19, 1.9946e+02])
    """
    t, kappa = torch.broadcast_tensors(t, kappa)
    mode = _mode(kappa.detach(), n)
    upper = t.detach() >= mode
    side = torch.where(upper, 1.0, -1.0).to(t.dtype)
    log_tail = torch.log(_tail_ratio(t, kappa, side, n)) - _depth(t, mode, kappa, n) - _log_total(kappa, mode, n)
    lower = torch.where(upper, -1.0, log_tail)
    return torch.where(upper, -log_tail, -torch.log1p(-torch.exp(lower)))


def log_angle_integral(kappa: Tensor, n: int) -> Tensor:
    """`log` of the integral of `exp(kappa (cos t - 1)) sin(t)**n` over (0, pi): a scaled Bessel function `I_{n/2}`, in logs.

    Its derivative is `mean_cosine_deficit`, negated.

    Example:
        >>> import torch
        >>> log_angle_integral(torch.tensor([0.0, 1e8]), n=1).exp()
        tensor([2.0000e+00, 1.0000e-08])
    """
    if kappa.dtype in _HALF:
        return log_angle_integral(kappa.float(), n).to(kappa.dtype)
    mode = _mode(kappa.detach(), n)
    start = n * torch.log(torch.sin(mode)) if n else 0.0
    return start - 2 * torch.sin(mode / 2) ** 2 * kappa + _log_total(kappa, mode, n)


def mean_cosine_deficit(kappa: Tensor, n: int) -> Tensor:
    """`1 - E cos T`, exact where the cosine is near one; `E cos T` is the ratio of Bessel functions `I_{n/2+1} / I_{n/2}`.

    Example:
        >>> import torch
        >>> mean_cosine_deficit(torch.tensor([0.0, 1e8]), n=1)
        tensor([1.0000e+00, 1.0000e-08])
    """
    if kappa.dtype in _HALF:
        return mean_cosine_deficit(kappa.float(), n).to(kappa.dtype)
    mode = _mode(kappa.detach(), n)
    return 2 * torch.sin(mode / 2) ** 2 - _mean_excess(kappa, mode, n)


def _mode(kappa: Tensor, n: int) -> Tensor:
    """The mode of `log tan(t/2)`: where the tails part."""
    a = (n + 1) / 2
    return 2 * torch.asin(torch.sqrt(a / (kappa + a + torch.hypot(kappa, torch.full_like(kappa, a)))))


def _rise(x: Tensor, delta: Tensor) -> Tensor:
    """`cos(x + delta) - cos(x)`."""
    return -2 * torch.sin(delta / 2) * torch.sin(x + delta / 2)


def _fall(x: Tensor, delta: Tensor, kappa: Tensor, n: int) -> Tensor:
    """The log-density at `x` less that at `x + delta`."""
    fall = -kappa * _rise(x, delta)
    if n:
        half = torch.sin(delta / 2)
        grown = 2 * half * (torch.cos(delta / 2) / torch.tan(x) - half)  # sin(x + delta) / sin(x) - 1
        fall = fall - n * torch.log1p(grown.clamp(min=torch.finfo(x.dtype).eps / 2 - 1))
    return fall


def _depth(t: Tensor, mode: Tensor, kappa: Tensor, n: int) -> Tensor:
    """The log-density at `mode` less that at `t`, which may be much nearer to an end."""
    depth = -kappa * _rise(mode, t - mode)
    if n:
        ratio = torch.sin(t) / torch.sin(mode)
        half = torch.sin((t - mode) / 2)
        near = 2 * half * (torch.cos((t - mode) / 2) / torch.tan(mode) - half)
        depth = depth - n * torch.where(near.abs() < 0.5, torch.log1p(near.clamp(-0.5, 0.5)), torch.log(ratio))
    return depth


def _rate(x: Tensor, kappa: Tensor, n: int) -> Tensor:
    """The slope at which the log-density falls."""
    rate = kappa * torch.sin(x)
    return rate - n / torch.tan(x) if n else rate


def _log_total(kappa: Tensor, mode: Tensor, n: int, order: int = 0) -> Tensor:
    """`log` of the integral of the density relative to that at `mode`."""
    up = torch.ones_like(kappa)
    return torch.log(_tail_ratio(mode, kappa, up, n, 0, order) + _tail_ratio(mode, kappa, -up, n, 0, order))


def _mean_excess(kappa: Tensor, mode: Tensor, n: int) -> Tensor:
    """`E cos T - cos(mode)`."""
    up = torch.ones_like(kappa)
    above, below = _tail_ratio(mode, kappa, up, n), _tail_ratio(mode, kappa, -up, n)
    return (_tail_ratio(mode, kappa, up, n, 1) + _tail_ratio(mode, kappa, -up, n, 1)) / (above + below)


def _tail_ratio(x: Tensor, kappa: Tensor, side: Tensor, n: int, power: int = 0, order: int = 0) -> Tensor:
    """`R_j` for `j = power`, above `x` where `side` is 1 and below it where that is -1; `order` is 1 in a derivative."""
    with torch.no_grad():
        value = _integrate(x.detach(), kappa.detach(), side, n, power, *_FINE[x.dtype])
    if order and torch.compiler.is_compiling():  # which differentiates once, and would trace the derivatives without end
        return value

    def slopes(ratio: Tensor, x: Tensor, kappa: Tensor, side: Tensor) -> tuple[Tensor, ...]:
        along = ratio * _rate(x, kappa, n) - (0.0 if power else side)
        if power:
            along = along + power * torch.sin(x) * _tail_ratio(x, kappa, side, n, power - 1, 1)
        return along, _tail_ratio(x, kappa, side, n, power + 1, 1), torch.zeros_like(side)

    return with_slopes(value, slopes, x, kappa, side)


def _integrate(x: Tensor, kappa: Tensor, side: Tensor, n: int, power: int, cut: float, order: int) -> Tensor:
    width = side * _width(x, kappa, side, n, cut)
    total = torch.zeros_like(width)
    for nodes, weights in _RULES[order]:
        node, weight = (torch.tensor(v, dtype=x.dtype, device=x.device) for v in (nodes, weights))
        node, weight = (v.reshape(-1, *(1,) * width.dim()) for v in (node, weight))
        delta = node * width
        inner = torch.exp(-_fall(x, delta, kappa, n))
        total = total + (weight * inner * _rise(x, delta) ** power if power else weight * inner).sum(0)
    return total * width.abs()


def _width(x: Tensor, kappa: Tensor, side: Tensor, n: int, cut: float) -> Tensor:
    """How far from `x` the log-density has fallen by `cut`, or how far the angles end if that comes first."""
    end = torch.where(side > 0, math.pi - x, x)
    slope = (side * _rate(x, kappa, n)).clamp(min=0)
    bend = (kappa * torch.cos(x)).clamp(min=torch.finfo(x.dtype).tiny)
    bend = bend + n / torch.sin(x) ** 2 if n else bend
    # From the two leading terms; then Newton's method in logs, where the fall is nearly a line of slope 1 to 2.
    last = end * (1 - 1e-6) if n else end
    width = torch.minimum(2 * cut / (slope + torch.sqrt(slope**2 + 2 * cut * bend)), last)
    for _ in range(2):
        fall = _fall(x, side * width, kappa, n).clamp(min=1e-3)
        # At the end of the angles, where tan is zero, all there is has been taken.
        inner = torch.where(width < end, x + side * width, math.pi / 2)
        power = (width * side * _rate(inner, kappa, n) / fall).clamp(min=1.0)
        width = torch.minimum(width * torch.exp((torch.log(cut / fall) / power).clamp(-3.0, 3.0)), last)
    return torch.where(width < end * (1 - 2e-6), width, end)


def _solve(eps: Tensor, kappa: Tensor, mode: Tensor, n: int) -> Tensor:
    info = torch.finfo(eps.dtype)
    total = _log_total(kappa, mode, n, 1)
    upper = eps >= total - torch.log(_tail_ratio(mode, kappa, torch.ones_like(kappa), n, 0, 1))
    side = torch.where(upper, 1.0, -1.0).to(eps.dtype)
    # The logarithm of the smaller tail.
    target = torch.where(upper, -eps, torch.log(-torch.expm1(-eps)))
    middle = 2 * torch.log(torch.tan(mode / 2))
    sine = torch.sin(mode)
    bend = sine**2 / 2 * ((n + 1) / 2 + kappa * torch.cos(mode))
    # Nearly normal below the middle; above it, where sin(t/2)**2 is nearly a gamma variable, so is its cube root.
    v = normal_from_hazard(eps) / torch.sqrt(bend)
    v = middle + torch.where(upper, 3 * torch.log1p(v.clamp(min=0.0) / 3), v)
    lowest, highest = 2 * math.log(info.tiny) + 6, -2 * math.log(info.eps)
    steps = [_COARSE, _COARSE, _COARSE, _FINE[eps.dtype], _FINE[eps.dtype]]
    for rule in steps:
        v = torch.where(upper, torch.maximum(v, middle), torch.minimum(v, middle)).clamp(lowest, highest)
        t = (2 * torch.atan(torch.exp(v / 2))).clamp(max=math.pi * (1 - 2 * info.eps))
        ratio = _integrate(t, kappa, side, n, 0, *rule)
        excess = torch.log(ratio) - _depth(t, mode, kappa, n) - total - target
        step = side * excess * ratio * 2 / torch.sin(t)
        curve = side * torch.sin(t) / (2 * ratio) - (_rate(t, kappa, n) * torch.sin(t) - torch.cos(t)) / 2
        v = v + step / (1 + (step * curve / 2).clamp(-0.5, 4.0))
    # The last step in the angle itself, where a rounding of its logarithm would show.
    return (t * (1 + (side * excess * ratio / t).clamp(-0.5, 0.5))).clamp(info.tiny, math.pi * (1 - 2 * info.eps))
