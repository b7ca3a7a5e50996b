"""The probability-flow ODE: data to noise and back without randomness, and the density that it gives.

The ODE is solved for the state at unit scale, `y = a x + b eps` with `a^2 = sigmoid(log_snr)`, in `u = -log_snr / 2`, the log of
the noise of `z / alpha`:

    dy / du = a (a y - denoise(z)),   z = sqrt(alpha^2 + sigma^2) y.

Neither side is large at either end, so that few steps are enough, for each schedule. The clean end of the ODE is at t = 0, where
data carry noise `s = exp(-log_snr / 2)`: its density is that of the data smoothed by N(0, s^2).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from reparam.nn.noising import Denoise, Schedule, estimate, spread
from reparam.noise import UNIFORM, Noise, Source
from reparam.paths.path import HALF

__all__ = ["decode", "encode", "log_likelihood"]

# Elements of a datum up to which the trace is exact unless told otherwise.
_EXACT = 16

# Dormand and Prince (1980): the fractions of a step, the weights of the slopes, and the error of the fourth-order solution.
_NODES = (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
_WEIGHTS = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
_ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)

Slope = Callable[[float, Tensor], Tensor]


def encode(denoise: Denoise, x: Tensor, schedule: Schedule, *, tolerance: float = 1e-4) -> Tensor:
    """The noise that the ODE carries data to: of the law N(0, I) as far as the denoiser is right.

    Args:
        denoise: the estimate of the data from `z`, N + event, and `log_snr`, (N,).
        x: data, N + event, of the order of one.
        schedule: that of the denoiser.
        tolerance: of the error of one step, absolute, of each element; the root mean square over a datum is held to it.

    Returns:
        Noise of the shape of x, at unit scale. Differentiable in x and in the parameters of the denoiser.

    Raises:
        ValueError: unless the tolerance is above zero.
        RuntimeError: when the tolerance is not reached with steps above 1e-6, or the denoiser's estimate is not finite.

    Source: Song et al., arXiv:2011.13456.

    Example:
        >>> import torch
        >>> from reparam.nn.flow_ode import decode, encode
        >>> from reparam.nn.noising import VP
        >>> denoise = lambda z, log_snr: 0.9 * log_snr.sigmoid().sqrt()[:, None] * z
        >>> x = torch.randn(8, 2)
        >>> back = decode(denoise, encode(denoise, x, VP(), tolerance=1e-6), VP(), tolerance=1e-6)
        >>> torch.allclose(back, x, atol=0.01)
        True
    """
    cleanest, noisiest, a = _ends(schedule, x)
    return _solve(_velocity(denoise, schedule), _wide(x) * a, cleanest, noisiest, tolerance).to(x.dtype)


def decode(denoise: Denoise, eps: Tensor, schedule: Schedule, *, tolerance: float = 1e-4) -> Tensor:
    """The data that the ODE carries noise to: the inverse of [`encode`][reparam.nn.flow_ode.encode], with its arguments.

    Args:
        denoise: the estimate of the data.
        eps: noise of unit scale, N + event.
        schedule: that of the denoiser.
        tolerance: of the error of one step.
    """
    cleanest, noisiest, a = _ends(schedule, eps)
    return (_solve(_velocity(denoise, schedule), _wide(eps), noisiest, cleanest, tolerance) / a).to(eps.dtype)


def log_likelihood(
    denoise: Denoise,
    x: Tensor,
    schedule: Schedule,
    *,
    probes: int | None = None,
    source: Source | None = None,
    tolerance: float = 1e-4,
) -> Tensor:
    """The log-density of data under the law that the ODE makes of N(0, I), in nats per datum, by the change of variables:

        log p(x) = log N(y_1; 0, I) + integral of tr(dv / dy) du + D log a_0,   v = dy / du.

    The trace is exact, by a vector-Jacobian product for each element of a datum, or Hutchinson's estimate `E[w' (dv / dy) w]`
    with the same random signs w all along the path, which is unbiased for the log-density.

    Args:
        denoise: the estimate of the data from `z`, N + event, and `log_snr`, (N,); each row by itself.
        x: data, N + event, of the order of one.
        schedule: that of the denoiser.
        probes: how many vectors of random signs; 0 for the exact trace. By default exact up to 16 elements, one probe above.
        source: of the signs.
        tolerance: of the error of one step, absolute: of an element of y, and of the log-density over the number of elements.

    Returns:
        The log-densities, (N,). Differentiable in x and in the parameters of the denoiser, where gradients are on. That of data in
        other units, `shift + scale x`, is less by `log scale` for each element.

    Raises:
        ValueError: for a negative number of probes; for a denoiser without a gradient, as under `torch.no_grad`.
        RuntimeError: as `encode` has it.

    Source: Chen et al., arXiv:1806.07366; Grathwohl et al., arXiv:1810.01367; Song et al., arXiv:2011.13456.

    Example:
        >>> import torch
        >>> from reparam.nn.flow_ode import log_likelihood
        >>> from reparam.nn.noising import VP
        >>> standard_normal = lambda z, log_snr: log_snr.sigmoid().sqrt()[:, None] * z
        >>> x = torch.randn(8, 2)
        >>> log_p = log_likelihood(standard_normal, x, VP())
        >>> torch.allclose(log_p, torch.distributions.Normal(0.0, 1.0).log_prob(x).sum(-1), atol=1e-3)
        True
    """
    size = x[:1].numel() if len(x) else math.prod(x.shape[1:])
    if probes is None:
        probes = 0 if size <= _EXACT else 1
    if not isinstance(probes, int) or isinstance(probes, bool) or probes < 0:
        raise ValueError(f"probes is {probes!r}: give a whole number, 0 for the exact trace")
    cleanest, noisiest, a = _ends(schedule, x)
    y = (_wide(x) * a).flatten(1)
    if probes:
        signs = Noise(UNIFORM, torch.Size([probes, size]), y.dtype, y.device).draw(len(x), source=source)
        directions, share = torch.where(signs < 0.5, -1.0, 1.0).to(y).unbind(1), 1 / probes
    else:
        directions, share = torch.eye(size, dtype=y.dtype, device=y.device).unbind(), 1.0
    velocity, keep = _velocity(_with_gradient(denoise), schedule), torch.is_grad_enabled()

    def slope(u: float, state: Tensor) -> Tensor:
        with torch.enable_grad():
            at = state[:, :-1]
            if not at.requires_grad:
                at = at.detach().requires_grad_()
            v = velocity(u, at.reshape(x.shape)).flatten(1)
            trace = torch.zeros_like(v[:, 0])
            for w in directions:
                along = w.expand_as(v)
                (pulled,) = torch.autograd.grad(v, at, along, create_graph=keep, retain_graph=True)
                trace = trace + share * (pulled * along).sum(1)
        # The last column is the log-density so far: so scaled, an error of the tolerance an element is one in the mean square.
        joined = torch.cat([v, trace.unsqueeze(1) / math.sqrt(size)], 1)
        return joined if keep else joined.detach()

    end = _solve(slope, torch.cat([y, torch.zeros_like(y[:, :1])], 1), cleanest, noisiest, tolerance)
    prior = -0.5 * (end[:, :-1].square() + math.log(2 * math.pi)).sum(1)
    return prior + math.sqrt(size) * end[:, -1] + size * math.log(a)


def _with_gradient(denoise: Denoise) -> Denoise:
    """The denoiser, refused where it cuts the gradient: the trace would silently be another."""

    def checked(z: Tensor, log_snr: Tensor) -> Tensor:
        x = denoise(z, log_snr)
        if not x.requires_grad:
            raise ValueError("the denoiser's estimate has no gradient in z, which the density needs: take torch.no_grad off it")
        return x

    return checked


def _ends(schedule: Schedule, x: Tensor) -> tuple[float, float, float]:
    """`u` at t = 0 and t = 1, and `a` at t = 0."""
    log_snr = schedule.log_snr(torch.tensor([0.0, 1.0], dtype=torch.float64, device="cpu"))
    cleanest, noisiest = (-0.5 * log_snr).tolist()
    return cleanest, noisiest, math.exp(0.5 * float(logsigmoid(log_snr[0])))


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype in HALF else x


def _velocity(denoise: Denoise, schedule: Schedule) -> Slope:
    def velocity(u: float, y: Tensor) -> Tensor:
        log_snr = torch.full((), -2 * u, dtype=y.dtype, device=y.device)
        a = torch.sqrt(torch.sigmoid(log_snr))
        return a * (a * y - estimate(denoise, spread(schedule, log_snr) * y, log_snr))

    return velocity


def _solve(slope: Slope, y: Tensor, u: float, end: float, tolerance: float) -> Tensor:
    """`y` at `end`, by steps of Dormand and Prince's fifth order that the rows share; the worst row sets their length."""
    if not tolerance > 0:
        raise ValueError(f"the tolerance of the ODE is {tolerance}; it must be above zero")
    if not y.numel():
        return y
    # Below the rounding error of a step there is nothing to control.
    tolerance = max(tolerance, 4 * torch.finfo(y.dtype).eps)
    step, first = (end - u) / 50, slope(u, y)
    while (end - u) * step > 0:
        step = math.copysign(min(abs(step), abs(end - u)), step)
        slopes = [first]
        for node, weights in zip(_NODES, _WEIGHTS, strict=True):
            ahead = y + step * _combined(weights, slopes)
            slopes.append(slope(u + node * step, ahead))
        gone = step * _combined(_ERROR, slopes)
        error = float(gone.detach().flatten(1).square().mean(1).amax().sqrt()) / tolerance
        if error <= 1:
            last = abs(step) >= abs(end - u)
            y, first, u = ahead, slopes[-1], end if last else u + step
        # The error of a step is of order five; NaN shrinks the step as much as a step may shrink.
        step *= min(5.0, max(0.2, 0.9 * (error + 1e-10) ** -0.2)) if math.isfinite(error) else 0.2
        if abs(step) < 1e-6 and u != end:
            raise RuntimeError(
                f"the ODE asks for steps below 1e-6 at a log-SNR of {-2 * u:.2f}: the denoiser jumps or is not finite there, or "
                f"the tolerance, {tolerance:g}, is below the rounding error of {y.dtype}"
            )
    return y


def _combined(weights: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    total = weights[0] * slopes[0]
    for weight, slope in zip(weights[1:], slopes[1:], strict=True):
        if weight:
            total = total + weight * slope
    return total
