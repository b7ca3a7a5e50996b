"""The settings of a flow, and how it samples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from reparam.errors import BadInputError
from reparam.nn.network import ACTIVATIONS

__all__ = ["Config", "Sampling"]


@dataclass(frozen=True)
class Config:
    """What a flow is made of.

    Attributes:
        family: nsf, neural splines with affine tails (arXiv:1906.04032); maf, affine functions only (arXiv:1705.07057).
        coupling: two halves of the columns in turn, each given the other, in place of each column given those before it: sampling
            then takes two passes of a network for each transform and not one for each column (arXiv:1605.08803).
        transforms: how many follow each other.
        bins: of a spline; for nsf.
        hidden: widths of the hidden layers of the network of each transform.
        activation: elu, gelu, relu, silu, softplus or tanh.
        dropout: share of hidden units left out at each step of training, against overfitting of few data.
        conditional: learn p(x | label), for data with labels.
        context: number of reals that the density is conditional on, which are given in Python only.
        logit: map an interval of the data onto the line first: by default for counts, whose interval is known.
        interval: ends of the interval of reals, for logit.
        target: an unnormalised density to fit instead of data, by reverse Kullback-Leibler divergence: funnel, banana, ring or
            mixture, or MODULE:FUNCTION of your own, which takes nothing and returns (log_density, dim) or (log_density, dim,
            log_normaliser).
        estimator: of the gradient of that divergence: pathwise, leave_one_out or score.
    """

    family: Literal["nsf", "maf"] = "nsf"
    coupling: bool = False
    transforms: int = 4
    bins: int = 8
    hidden: tuple[int, ...] = (64, 64)
    activation: Literal["elu", "gelu", "relu", "silu", "softplus", "tanh"] = "relu"
    dropout: float = 0.0
    conditional: bool = False
    context: int = 0
    logit: bool | None = None
    interval: tuple[float, float] | None = None
    target: str | None = None
    estimator: Literal["pathwise", "leave_one_out", "score"] = "pathwise"

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))
        if self.interval is not None:
            object.__setattr__(self, "interval", tuple(self.interval))
        for name, known in _CHOICES.items():
            if (value := getattr(self, name)) not in known:
                raise BadInputError(f"{name}={value!r}: give one of {', '.join(known)}")
        if self.transforms < 1 or min(self.hidden, default=1) < 1:
            raise BadInputError(
                f"transforms={self.transforms}, hidden={self.hidden}: give at least one transform and positive widths"
            )
        if self.bins < 2:
            raise BadInputError(f"bins={self.bins}: a spline has at least 2; family='maf' has none")
        if not 0 <= self.dropout < 1:
            raise BadInputError(f"dropout={self.dropout}: give a share from 0 to below 1")
        if self.context < 0 or (self.context and self.conditional):
            raise BadInputError(
                f"context={self.context}, conditional={self.conditional}: give a number of reals, or labels, or neither"
            )
        if self.interval is not None:
            low, high = self.interval
            if not -math.inf < low < high < math.inf:
                raise BadInputError(f"interval={self.interval}: give two finite numbers, the lower one first")
            if self.logit is False:
                raise BadInputError("interval is for logit, and logit=False was given: leave one out")
        if self.target is not None:
            for name in ("conditional", "context", "dropout", "logit", "interval"):
                if getattr(self, name):
                    raise BadInputError(f"{name} is for data, and target={self.target!r} was given: leave one out")
        elif self.estimator != "pathwise":
            raise BadInputError(f"estimator={self.estimator!r} is for a target: the likelihood of data has an exact gradient")


@dataclass(frozen=True)
class Sampling:
    """How to sample a flow.

    Attributes:
        label: of a conditional flow, the class to sample, by its name; by default classes come as in the training data.
    """

    label: str | None = None


_CHOICES: dict[str, tuple[str, ...]] = {
    "family": ("nsf", "maf"),
    "activation": tuple(ACTIVATIONS),
    "estimator": ("pathwise", "leave_one_out", "score"),
}
