"""The bar that our own paths, distributions and estimators meet, for users' code too.

`check_path`, `check_distribution` and `check_estimator` look at every property in turn and raise an `AssertionError` that
says which does not hold, what was found and what was wanted. Most are free of randomness; the statistical ones say how often
they cry wolf (1e-9 each) and the smallest error that they catch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, TypedDict, Unpack

import torch
from torch import Tensor
from torch.distributions import Distribution

from reparam.estimators import Estimator
from reparam.testing.distributions import DISTRIBUTION_PROPERTIES
from reparam.testing.estimators import ESTIMATOR_PROPERTIES, Experiment
from reparam.testing.paths import PATH_PROPERTIES
from reparam.testing.report import Finding, PropertyError, Report
from reparam.testing.subject import Property, Subject, look

__all__ = [
    "DISTRIBUTION_PROPERTIES",
    "ESTIMATOR_PROPERTIES",
    "PATH_PROPERTIES",
    "Experiment",
    "Finding",
    "Known",
    "Property",
    "PropertyError",
    "Report",
    "Subject",
    "check_distribution",
    "check_estimator",
    "check_path",
    "look",
]


class Known(TypedDict, total=False):
    """What `check_path` and `check_distribution` can be told of a law."""

    cdf: Callable[..., Any]
    scores: Callable[..., Any]
    draws: int
    seed: int
    single: bool
    half: bool
    backend: str
    transported: bool
    skip: Collection[str]


class KnownOfEstimator(TypedDict, total=False):
    """What `check_estimator` can be told of an estimator."""

    n: int
    exact: Callable[..., Tensor]
    value: Tensor | float
    gradient: tuple[Any, ...]
    variance: tuple[Any, ...]
    second: bool | None
    draws: int
    detects: float
    seed: int


def check_path(make: Callable[..., Distribution], *parameters: Any, **known: Unpack[Known]) -> Report:
    """Check that the path of a law holds to what paths promise.

    Args:
        make: the distribution as a function of its parameters, each of which must bear a small change of each of its elements.
        parameters: their values, as numbers, lists or tensors; taken to float64.
        known: what is known of the law, all of it optional:

            - `cdf`: for a univariate law `cdf(x, *parameters)`, computed in any independent way (scipy's will do), of float64
              tensors; without it the law's own `cdf` is taken, where there is one;
            - `scores`: for a vector law `scores(x, *parameters)`, values that are independent and uniform if the samples `x`
              follow it;
            - `draws`: samples for the statistical checks; with the 100000 of the default a scale off by 3 % is caught;
            - `seed`: of the generator that everything random comes from;
            - `single`, `half`: False where float32 or half precision cannot hold the law at these parameters;
            - `backend`: of `torch.compile`, "aot_eager" say, to try that too, which takes seconds;
            - `transported`: True where the gradient in the parameters is right in expectation only, and is not the derivative of
              `push` at fixed noise: then derivatives are checked in the noise, and an expectation is yours to check;
            - `skip`: names of properties to leave out.

    Returns:
        The findings, which print as a table.

    Raises:
        PropertyError: an AssertionError that says which properties do not hold, and carries the findings.
        ValueError: when `skip` names a property that does not exist.

    Example:
        >>> import torch
        >>> from reparam.testing import check_path
        >>> report = check_path(torch.distributions.Normal, 0.7, 1.3, draws=10_000)
        >>> bool(report)
        True
    """
    return _check(PATH_PROPERTIES, make, parameters, known)


def check_distribution(make: Callable[..., Distribution], *parameters: Any, **known: Unpack[Known]) -> Report:
    """Check that a distribution with a path is right: its path as `check_path` does, its density, cdf, moments, entropy and KL.

    Arguments, result and errors are those of `check_path`.

    Example:
        >>> import torch
        >>> from reparam.testing import PropertyError, check_distribution
        >>> class Sloppy(torch.distributions.Laplace):
        ...     def entropy(self):
        ...         return super().entropy() - 0.7
        >>> try:
        ...     check_distribution(Sloppy, 0.0, 2.0, draws=10_000)
        ... except PropertyError as error:
        ...     print(error.report.failed)
        ('moments',)
    """
    return _check((*PATH_PROPERTIES, *DISTRIBUTION_PROPERTIES), make, parameters, known)


def check_estimator(
    estimator: Estimator,
    make: Callable[..., Distribution],
    *parameters: Any,
    f: Callable[[Tensor], Tensor],
    skip: Collection[str] = (),
    **known: Unpack[KnownOfEstimator],
) -> Report:
    """Check that a gradient estimator keeps its promise on one law and one cost: unbiased, or biased exactly as documented.

    Args:
        estimator: with its settings.
        make: the law as a function of its parameters; more dimensions in front of each of them are more batch dimensions.
        parameters: their values, as numbers, lists or tensors; taken to float64.
        f: the cost, from `rows + batch + event` to `rows + batch`, for any number of dimensions in front.
        known: what is known beside, all of it optional; see [`Experiment`][reparam.testing.Experiment].
        skip: names of properties to leave out.

    Returns:
        The findings, which print as a table.

    Raises:
        PropertyError: an AssertionError that says what does not hold, and carries the findings.
        ValueError: when `skip` names a property that does not exist.

    Example:
        >>> import torch, reparam as rp
        >>> from reparam.testing import check_estimator
        >>> coin = lambda logits: torch.distributions.Bernoulli(logits=logits)
        >>> bool(check_estimator(rp.DisARM(), coin, 0.3, f=lambda z: (z - 0.45) ** 2, n=2, draws=10_000))
        True
    """
    tensors = tuple(torch.as_tensor(p, dtype=torch.float64).detach() for p in parameters)
    return _held(type(estimator).__name__, ESTIMATOR_PROPERTIES, Experiment(estimator, make, tensors, f, **known), skip)


def _check(checks: Sequence[Property], make: Callable[..., Distribution], parameters: Sequence[Any], known: Known) -> Report:
    skip = known.pop("skip", ())
    tensors = tuple(torch.as_tensor(p, dtype=torch.float64).detach() for p in parameters)
    subject = Subject(make, tensors, **known)  # type: ignore[misc]
    return _held(type(subject.law()).__name__, checks, subject, skip)


def _held(what: str, checks: Sequence[Callable[[Any], Any]], subject: Any, skip: Collection[str]) -> Report:
    names = {check.__name__.replace("_", " "): check for check in checks}
    unknown = set(skip) - set(names)
    if unknown:
        raise ValueError(f"no such property: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    findings: list[Finding] = []
    for name, check in names.items():
        findings += [Finding(name, None, "left out")] if name in skip else look(check, subject)
    report = Report(tuple(findings))
    if not report:
        raise PropertyError(what, report)
    return report
