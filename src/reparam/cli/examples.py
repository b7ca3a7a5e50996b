"""Every class of distributions there is, and an example of each."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch import distributions as td
from torch.distributions import Distribution, constraints
from torch.distributions.relaxed_bernoulli import LogitRelaxedBernoulli
from torch.distributions.relaxed_categorical import ExpRelaxedCategorical

from reparam import distributions
from reparam.distributions import solver

__all__ = ["classes", "example"]


def classes() -> Iterator[type[Distribution]]:
    """The distributions of torch and of this package, those left out that only others are made from."""
    of_torch = [vars(td)[name] for name in td.__all__]
    ours = [vars(distributions)[name] for name in distributions.__all__]
    for cls in [*of_torch, LogitRelaxedBernoulli, ExpRelaxedCategorical, *ours]:
        if inspect.isclass(cls) and issubclass(cls, Distribution) and cls.__name__ not in _FOR_OTHERS:
            yield cls


_FOR_OTHERS = ("Discrete", "Distribution", "ExponentialFamily", "Law", "Univariate")


def example(cls: type[Distribution]) -> Distribution:
    """A distribution of a class: from the constraints of the parameters that it requires, where these say enough."""
    if cls.__name__ in _EXAMPLES:
        return _EXAMPLES[cls.__name__](cls)
    required = [name for name, p in inspect.signature(cls).parameters.items() if p.default is p.empty]
    make: Callable[..., Distribution] = cls
    try:
        return make(**{name: _value(make.arg_constraints[name], i) for i, name in enumerate(required)})  # type: ignore[attr-defined]
    except (KeyError, TypeError, ValueError) as error:
        raise NotImplementedError(
            f"the constraints of {cls.__name__} do not say what to make one of: give an example of it"
        ) from error


_FACTOR = torch.tensor([[1.0, 0.0, 0.0], [0.4, 0.9, 0.0], [-0.3, 0.2, 1.1]])
_TIED = torch.tensor([[1.0, 0.5], [0.5, 1.0]])
_VECTOR = torch.tensor([0.3, -0.5, 0.7])
_SIMPLEX = torch.tensor([0.2, 0.3, 0.5])
_DIRECTION = torch.tensor([2.0, -1.0, 2.0]) / 3
_REAL, _POSITIVE, _UNIT = torch.tensor(0.3), torch.tensor(1.4), torch.tensor(0.4)


def _value(constraint: object, index: int) -> Tensor:
    """What a constraint lets pass: another number for each parameter."""
    if constraint is constraints.real:
        return _REAL + index / 8
    if constraint in (constraints.positive, constraints.nonnegative):
        return _POSITIVE + index / 8
    if constraint is constraints.unit_interval:
        return _UNIT
    if constraint in (constraints.real_vector, constraints.lower_cholesky):
        return _VECTOR if constraint is constraints.real_vector else _FACTOR
    if isinstance(constraint, constraints.independent):
        return torch.stack([_value(constraint.base_constraint, index + i) for i in range(3)])
    if isinstance(constraint, constraints.greater_than | constraints.greater_than_eq):
        return _POSITIVE + torch.as_tensor(constraint.lower_bound)
    raise TypeError(f"no example of {constraint}")


_EXAMPLES: dict[str, Callable[[Any], Distribution]] = {
    "Bernoulli": lambda cls: cls(_UNIT),
    "Binomial": lambda cls: cls(4, _UNIT),
    "Categorical": lambda cls: cls(_SIMPLEX),
    "ContinuousBernoulli": lambda cls: cls(_UNIT),
    "ExpRelaxedCategorical": lambda cls: cls(_POSITIVE, _SIMPLEX),
    "GaussianCopula": lambda cls: cls(td.Gumbel(_VECTOR[:2], 1.0), _TIED),
    "Geometric": lambda cls: cls(_UNIT),
    "HypersphericalUniform": lambda cls: cls(3),
    "Independent": lambda cls: cls(td.Normal(_VECTOR, 1.0), 1),
    "InverseWishart": lambda cls: cls(5 * _POSITIVE, scale_tril=_FACTOR),
    "KSubset": lambda cls: cls(2, _VECTOR),
    "LKJ": lambda cls: cls(3, _POSITIVE),
    "LKJCholesky": lambda cls: cls(3, _POSITIVE),
    "LogitRelaxedBernoulli": lambda cls: cls(_POSITIVE, _UNIT),
    "LogisticNormal": lambda cls: cls(_VECTOR[:2], torch.tensor([1.0, 0.5])),
    "LowRankMultivariateNormal": lambda cls: cls(_VECTOR, _FACTOR[:, :2], _SIMPLEX),
    "MatrixNormal": lambda cls: cls(_FACTOR[:2], row_covariance=_TIED, column_scale_tril=_FACTOR),
    "MixtureSameFamily": lambda cls: cls(td.Categorical(_SIMPLEX), td.Normal(_VECTOR, _SIMPLEX)),
    "Multinomial": lambda cls: cls(4, _SIMPLEX),
    "MultivariateNormal": lambda cls: cls(_VECTOR, scale_tril=_FACTOR),
    "MultivariateStudentT": lambda cls: cls(_POSITIVE, _VECTOR, _FACTOR),
    "NegativeBinomial": lambda cls: cls(4, _UNIT),
    "OneHotCategorical": lambda cls: cls(_SIMPLEX),
    "OneHotCategoricalStraightThrough": lambda cls: cls(_SIMPLEX),
    "PerturbAndMAP": lambda cls: cls(_VECTOR, solver.top_k(2)),
    "Poisson": lambda cls: cls(_POSITIVE),
    "PowerSpherical": lambda cls: cls(_DIRECTION, _POSITIVE),
    "RelaxedBernoulli": lambda cls: cls(_POSITIVE, _UNIT),
    "RelaxedOneHotCategorical": lambda cls: cls(_POSITIVE, _SIMPLEX),
    "TransformedDistribution": lambda cls: cls(td.Normal(_REAL, 1.0), [td.TanhTransform()]),
    "Triangular": lambda cls: cls(-1.0, 2.0, _REAL),
    "Truncated": lambda cls: cls(td.Gumbel(_REAL, 1.0), -1.0, 2.0),
    "TruncatedNormal": lambda cls: cls(_REAL, 1.0, -1.0, 2.0),
    "Uniform": lambda cls: cls(_REAL, 2.0),
    "VonMisesFisher": lambda cls: cls(_DIRECTION, _POSITIVE),
    "Wishart": lambda cls: cls(5 * _POSITIVE, scale_tril=_FACTOR),
}
