"""Temperatures of relaxations as functions of the training step: warm first, for gradients of low variance, then cold."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Cosine", "Exponential", "Linear"]


@dataclass(frozen=True)
class Exponential:
    """max(floor, start · exp(−rate · step)).

    Raises:
        ValueError: for a start or floor that is not positive and finite, a floor above the start, or a negative rate.

    Source: Jang et al., arXiv:1611.01144, with start 1, rate 1e-5 to 1e-4 and floor 0.5.

    Example:
        >>> import reparam as rp
        >>> from reparam.estimators.temperature import Exponential
        >>> schedule = Exponential(start=1.0, rate=3e-5, floor=0.5)
        >>> rp.GumbelSoftmax(schedule(1_000_000))
        GumbelSoftmax(temperature=0.5, hard=False)
    """

    start: float = 1.0
    rate: float = 3e-5
    floor: float = 0.5

    def __post_init__(self) -> None:
        _check_positive(start=self.start, floor=self.floor)
        if self.floor > self.start:
            raise ValueError(f"the floor {self.floor} is above the start {self.start}; temperatures fall from start to floor")
        if not 0 <= self.rate < math.inf:
            raise ValueError(f"rate is {self.rate}; it must be finite and not negative: the temperature falls by exp(-rate) a step")

    def __call__(self, step: int) -> float:
        return max(self.floor, self.start * math.exp(-self.rate * _checked(step)))


@dataclass(frozen=True)
class Linear:
    """From start to end in equal steps; end thereafter.

    Raises:
        ValueError: for a start, an end or a number of steps that is not positive and finite.

    Example:
        >>> from reparam.estimators.temperature import Linear
        >>> schedule = Linear(start=1.0, end=0.5, steps=1000)
        >>> schedule(0), schedule(500), schedule(5000)
        (1.0, 0.75, 0.5)
    """

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        _check_positive(start=self.start, end=self.end, steps=self.steps)

    def __call__(self, step: int) -> float:
        done = min(_checked(step) / self.steps, 1.0)
        return (1 - done) * self.start + done * self.end


@dataclass(frozen=True)
class Cosine:
    """From start to end along half a period of a cosine, slow at both ends; end thereafter.

    Raises:
        ValueError: for a start, an end or a number of steps that is not positive and finite.

    Example:
        >>> from reparam.estimators.temperature import Cosine
        >>> schedule = Cosine(start=1.0, end=0.5, steps=1000)
        >>> schedule(0), schedule(500), schedule(5000)
        (1.0, 0.75, 0.5)
    """

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        _check_positive(start=self.start, end=self.end, steps=self.steps)

    def __call__(self, step: int) -> float:
        done = (1 - math.cos(math.pi * min(_checked(step) / self.steps, 1.0))) / 2
        return (1 - done) * self.start + done * self.end


def _check_positive(**settings: float) -> None:
    for name, value in settings.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} is {value}; it must be positive and finite")


def _checked(step: int) -> int:
    if not step >= 0:
        raise ValueError(f"the step is {step}; steps count from 0")
    return step
