"""What is checked: a law as a function of its parameters, with what is known of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from reparam.noise import EXPONENTIAL, NORMAL, Fresh, Kind
from reparam.paths import Path, path
from reparam.testing.report import Finding

__all__ = ["Found", "Property", "Subject", "look", "unvalidated", "worst"]


@dataclass(frozen=True)
class Subject:
    """A law to check.

    Attributes:
        make: the distribution as a function of its parameters.
        parameters: their values in float64, off the ends of what they can be.
        cdf: for a univariate law: its distribution function, `cdf(x, *parameters)`, of float64 tensors without gradient.
        scores: for a vector law: `scores(x, *parameters)`, values that are independent and uniform if the samples follow the law.
        draws: how many samples the checks of the law draw.
        seed: of the generator that everything random comes from.
        single: whether float32 holds the law at these parameters.
        half: whether half precision does.
        backend: of `torch.compile`, where that is to be tried.
        transported: the gradient in the parameters is right in expectation, and not the derivative of `push` at fixed noise.
    """

    make: Callable[..., Distribution]
    parameters: tuple[Tensor, ...]
    cdf: Callable[..., Any] | None = None
    scores: Callable[..., Any] | None = None
    draws: int = 100_000
    seed: int = 0
    single: bool = True
    half: bool = True
    backend: str | None = None
    transported: bool = False

    def leaves(self, dtype: torch.dtype = torch.float64, *, requires_grad: bool = True) -> list[Tensor]:
        """The parameters, as tensors of their own."""
        return [p.to(dtype, copy=True).requires_grad_(requires_grad) for p in self.parameters]

    def law(self, dtype: torch.dtype = torch.float64) -> Distribution:
        return self.make(*self.leaves(dtype, requires_grad=False))

    def fresh(self, salt: int = 0) -> Fresh:
        return Fresh(torch.Generator().manual_seed(self.seed + salt))

    def probabilities(self, x: Tensor, *moved: Tensor) -> Tensor | None:
        """`F(x)` in float64, at the parameters or at others: from the given function or else the law's own; None without any."""
        parameters = moved or self.parameters
        with torch.no_grad():
            if self.cdf is not None:
                return torch.as_tensor(self.cdf(x.detach().double(), *parameters), dtype=torch.float64)
            try:
                return self.make(*parameters).cdf(x.detach().double())
            except NotImplementedError:
                return None

    def uniforms(self, x: Tensor) -> Tensor | None:
        """Values that are uniform if the samples `x` follow the law; None where nobody knows them."""
        if self.scores is not None:
            return torch.as_tensor(self.scores(x.detach().double(), *self.parameters), dtype=torch.float64)
        return None if x.dim() < 1 or self.law().event_shape else self.probabilities(x)

    def one_value_each(self) -> Path | None:
        """The path of a univariate law with one value of noise for each sample, and None for any other."""
        d = self.law()
        p = path(d)
        return p if not d.event_shape and p.noise.shape == d.batch_shape else None


Found = Iterator[tuple[bool | None, str] | tuple[bool | None, str, float]]
Property = Callable[[Subject], Found]


def look(check: Callable[[Any], Any], subject: Any) -> list[Finding]:
    """The findings on one property; an error on the way is one, too."""
    name = check.__name__.replace("_", " ")
    findings = []
    # What takes torch's own generator, gradcheck among it, finds it in the same state each time, and leaves the caller's alone.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(subject.seed)
        try:
            for passed, found, *alpha in check(subject):
                findings.append(Finding(name, passed, found, *alpha))
        except Exception as error:
            message = (str(error) or "no message").strip().splitlines()[0]
            findings.append(Finding(name, False, f"{type(error).__name__}: {message}"))
    return findings


def worst(error: Tensor, tolerance: Tensor | float) -> tuple[bool, float, int]:
    """Whether every error is within its tolerance (NaN is not), the largest ratio of the two, and where it is."""
    if error.numel() == 0:
        return True, 0.0, 0
    ratio = (error.abs() / tolerance).nan_to_num(nan=math.inf, posinf=math.inf).flatten()
    at = int(ratio.argmax())
    return bool(ratio[at] <= 1), float(ratio[at]), at


@contextmanager
def unvalidated() -> Iterator[None]:
    """No validation of arguments, which looks at numbers."""
    before = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)


def log_density_of_noise(kind: Kind, eps: Tensor) -> Tensor:
    if kind is NORMAL:
        return -(eps**2) / 2 - math.log(2 * math.pi) / 2
    return -eps if kind is EXPONENTIAL else torch.zeros_like(eps)


def noise_at(kind: Kind, probabilities: Tensor) -> Tensor:
    """The quantiles of the noise."""
    return kind.quantile(probabilities.double())
