"""A row of the table of laws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributions as td
from torch import Tensor

from reparam.testing import Property, Subject, look


@dataclass(frozen=True)
class Case:
    """A law and its truth.

    Attributes:
        name: the id of the test.
        law: the distribution as a function of its parameters.
        parameters: their values; those of a univariate law are scalars.
        exact: for a univariate law: the frozen scipy-like law (`cdf`, `ppf`, `isf`) as a function of the parameters.
        scores: for a vector law: maps samples and parameters to values that are uniform if the samples follow the law.
        falling: the sample falls as exponential noise grows.
        pull: whether the path has an inverse.
        single: whether float32 holds the law well enough for it to be tested there.
        density: whether torch can evaluate its own density on the whole range of samples.
        draws: how many samples the checks of the law draw; fewer for paths that solve for their quantile.
        half: whether the law runs in half precision.
        transported: the gradient in the parameters is right in expectation, and not the derivative of push at fixed noise.
    """

    name: str
    law: Callable[..., td.Distribution]
    parameters: tuple[Any, ...]
    exact: Callable[..., Any] | None = None
    scores: Callable[..., Tensor] | None = None
    falling: bool = False
    pull: bool = True
    single: bool = True
    density: bool = True
    draws: int = 300_000
    half: bool = True
    transported: bool = False

    def tensors(self, dtype: torch.dtype = torch.float64, *, requires_grad: bool = False) -> list[Tensor]:
        return [torch.tensor(p, dtype=dtype, requires_grad=requires_grad) for p in self.parameters]

    def subject(self, **changed: Any) -> Subject:
        """What `reparam.testing` checks."""
        names = ("draws", "single", "half", "scores", "transported")
        known: dict[str, Any] = {name: getattr(self, name) for name in names}
        if self.exact is not None:
            known["cdf"] = lambda x, *parameters: np.asarray(self.exact(*[p.numpy()[()] for p in parameters]).cdf(x.numpy()))
        return Subject(changed.pop("make", self.law), changed.pop("parameters", tuple(self.tensors())), **{**known, **changed})

    def make(self, dtype: torch.dtype = torch.float64) -> td.Distribution:
        return self.law(*self.tensors(dtype))

    def uniforms(self, x: Tensor) -> Tensor:
        """Values that are uniform if `x` follows the law, from the parameters as float64."""
        if self.scores is not None:
            return self.scores(x.double(), *self.tensors())
        return torch.from_numpy(np.asarray(self.exact(*self.parameters).cdf(x.double().numpy())))


def holds(check: Property, case: Case, **changed: Any) -> None:
    """Assert that a property of `reparam.testing` holds for a case."""
    findings = look(check, case.subject(**changed))
    failures = [f.found for f in findings if f.passed is False]
    assert findings
    assert not failures, f"{case.name}: {failures}"


def ids(case: Case) -> str:
    return case.name
