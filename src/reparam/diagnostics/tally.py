"""Gradients of several losses drawn in turn: moments, tails and times, in one pass and without keeping the draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import median
from time import perf_counter

import torch
from torch import Tensor

from reparam.special import log_student_sf

__all__ = ["Tally", "take", "two_sided"]

# Draws before the first that counts: caches fill, a moving baseline finds its level; moments are taken about their mean.
_WARM_UP = 8
# A gradient that was the same so many times is not drawn again.
_ENOUGH_OF_THE_SAME = 32


class Tally:
    """The gradient of one loss, flattened in float64, over independent draws.

    Args:
        loss: a tensor with fresh noise at each call, whose sum is differentiated.
        parameters: what to differentiate in.
        direction: a unit vector; the draws' components along it are kept, for pictures.

    Attributes:
        epsilon: of the parameters' arithmetic.
        count: of the draws whose gradient is finite.
        broken: of the others.
        seconds: of each draw, forward and backward.
        along: of each draw, its component along `direction`.
        squares: of each draw, its squared distance from the first mean.
    """

    def __init__(self, loss: Callable[[], Tensor], parameters: Sequence[Tensor], direction: Tensor | None = None) -> None:
        self._loss, self._parameters, self._direction = loss, list(parameters), direction
        self.epsilon = max(torch.finfo(p.dtype).eps for p in self._parameters)
        self.count = self.broken = 0
        self.seconds: list[float] = []
        self.along: list[float] = []
        self.squares: list[float] = []
        self._centre = torch.stack([self._gradient() for _ in range(_WARM_UP)]).nan_to_num(0.0, 0.0, 0.0).mean(0)
        self._sums = [torch.zeros_like(self._centre) for _ in range(4)]

    def _gradient(self) -> Tensor:
        device = self._parameters[0].device
        _wait(device)
        start = perf_counter()
        # The law's own graph serves many draws.
        gradients = torch.autograd.grad(
            self._loss().sum(), self._parameters, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        _wait(device)
        self.seconds.append(perf_counter() - start)
        return torch.cat([g.detach().double().flatten().to("cpu") for g in gradients])

    def draw(self) -> None:
        """One draw more, unless all so far were the same."""
        if self.settled:
            return
        g = self._gradient()
        if not bool(g.isfinite().all()):
            self.broken += 1
            return
        self.count += 1
        if self._direction is not None:
            self.along.append(float(g @ self._direction))
        away = g - self._centre
        self.squares.append(float(away @ away))
        power = away
        for total in self._sums:
            total += power
            power = power * away

    @property
    def settled(self) -> bool:
        return self.count >= _ENOUGH_OF_THE_SAME and not self.broken and max(self.squares) == 0.0

    @property
    def time(self) -> float:
        """Seconds a draw: the median, which the machine's other work moves little."""
        return median(self.seconds[_WARM_UP:] or self.seconds)

    @property
    def mean(self) -> Tensor:
        return self._centre + self._sums[0] / max(self.count, 1)

    @property
    def variance(self) -> Tensor:
        """Of one draw, element by element; unbiased."""
        offset = self._sums[0] / max(self.count, 1)
        return ((self._sums[1] - self._sums[0] * offset) / max(self.count - 1, 1)).clamp(min=0.0)

    @property
    def total_variance(self) -> tuple[float, float]:
        """The sum over all elements, and its standard error."""
        spread = torch.tensor(self.squares, dtype=torch.float64).std().item() if self.count > 1 else math.nan
        return self.variance.sum().item(), spread / math.sqrt(max(self.count, 1))

    @property
    def kurtosis(self) -> Tensor:
        """Of each element, 3 for a normal one; where it is as large as the count, one draw decides the variance."""
        m = max(self.count, 1)
        a, b, c, d = (total / m for total in self._sums)
        fourth = d - 4 * a * c + 6 * a**2 * b - 3 * a**4
        return torch.nan_to_num(fourth / (b - a**2).square(), nan=3.0, posinf=3.0).clamp(1.0, m)


def take(tallies: Sequence[Tally], draws: int, seconds: float) -> bool:
    """Draw from all in turn until there are `draws` of each or the time is up, but two at least; whether time was up first.

    In turn, so that a machine that is busy for a while slows all alike.
    """
    end = perf_counter() + seconds
    for i in range(draws):
        turn = i % len(tallies)
        for tally in (*tallies[turn:], *tallies[:turn]):
            tally.draw()
        if perf_counter() > end and 2 <= i + 1 < draws:
            return True
    return False


def two_sided(error: Tensor, deviation: Tensor, freedom: Tensor) -> float:
    """A bound on the probability of errors as large as these, in any direction and any element, when their expectation is zero.

    Student's law with as many degrees of freedom as there are draws that count: a mean of few large values is far from normal.
    """
    if not error.numel():
        return 1.0
    z = torch.where(error.abs() > 0, error.abs() / deviation, 0.0)
    tail = log_student_sf(freedom.double().clamp(min=1.0), z.clamp(max=1e12).double()).exp()
    return min(1.0, 2.0 * float(tail.min()) * error.numel())


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
