"""What a Bayesian neural network is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch.distributions import Distribution, Normal

from reparam.errors import BadInputError
from reparam.nn.network import ACTIVATIONS
from reparam.nn.response import RESPONSES
from reparam.nn.weight_prior import EmpiricalBayes, FanIn, WeightPrior, scale_mixture

__all__ = ["Config", "Likelihood"]

Likelihood = Literal["normal", "heteroscedastic", "student_t", "categorical"]


@dataclass(frozen=True)
class Config:
    """What a Bayesian neural network is made of.

    Attributes:
        network: mlp for vectors, and for small images; conv for images of at least 8 x 8. By default what the data call for.
        hidden: widths of the dense hidden layers. Every unit costs divergence, so that few data want few of them; two layers bend
            where one is taken for noise.
        channels: channels of the convolutions, each of which halves the image; for conv.
        activation: elu, gelu, relu, silu, softplus or tanh.
        method: how the weights are drawn at a step: local, the noise of the outputs of dense layers, fresh for each datum
            (arXiv:1506.02557); flipout, one draw with signs for each datum (arXiv:1803.04386); weights, one draw for all
            (arXiv:1505.05424). The posterior is the same, and the variance of the gradient rises in this order.
        samples: draws of the weights at each step.
        prior: of a weight: normal, the same law for all; fan_in, normal with variance prior_scale^2 / fan-in; empirical, a normal
            law for each tensor whose scale fits the posterior best, which reaches a higher bound, and where data are few for their
            noise gives up on them, all weights zero; mixture, of a wide and a narrow normal law (arXiv:1505.05424).
        prior_scale: standard deviation of the prior; for normal, fan_in and mixture, whose wide part it is.
        posterior_scale: standard deviations with which the posterior starts, as a multiple of 1 / sqrt(fan-in).
        annealing: first steps, over which the weight of the KL divergence in the loss rises from 0 to 1: without them few data
            switch hidden units off for good before they have learned anything (arXiv:1602.02282). Half of all steps is a good
            number; a run must have more than these. The reported ELBO has weight 1.
        likelihood: normal, with learned noise of one standard deviation for each response; heteroscedastic, whose noise depends on
            the data; student_t, with heavy tails; categorical for labels. By default normal where the data have a response, else
            categorical.
    """

    network: Literal["mlp", "conv"] | None = None
    hidden: tuple[int, ...] = (20, 20)
    channels: tuple[int, ...] = (16, 32)
    activation: Literal["elu", "gelu", "relu", "silu", "softplus", "tanh"] = "relu"
    method: Literal["local", "flipout", "weights"] = "local"
    samples: int = 1
    prior: Literal["normal", "fan_in", "empirical", "mixture"] = "normal"
    prior_scale: float = 1.0
    posterior_scale: float = 0.05
    annealing: int = 500
    likelihood: Likelihood | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))
        object.__setattr__(self, "channels", tuple(self.channels))
        for name, known in _CHOICES.items():
            if (value := getattr(self, name)) not in known:
                raise BadInputError(f"{name}={value!r}: give one of {', '.join(str(choice) for choice in known if choice)}")
        if min((*self.hidden, *self.channels), default=1) < 1:
            raise BadInputError(f"hidden={self.hidden}, channels={self.channels}: widths must be positive")
        if self.samples < 1 or self.annealing < 0:
            raise BadInputError(f"samples={self.samples}, annealing={self.annealing}: give at least 1 draw, and steps from 0")
        for name in ("prior_scale", "posterior_scale"):
            if not 0 < getattr(self, name) < math.inf:
                raise BadInputError(f"{name}={getattr(self, name)}: give a positive, finite number")
        if self.prior == "empirical" and self.prior_scale != 1:
            raise BadInputError(f"prior='empirical' finds its scale, and prior_scale={self.prior_scale} was given: leave one out")
        if self.prior == "mixture" and self.prior_scale < _NARROW:
            raise BadInputError(
                f"prior_scale={self.prior_scale} is below that of the narrow part of prior='mixture', {_NARROW:.3g}"
            )

    def weight_prior(self) -> Distribution | WeightPrior:
        """The prior, as `reparam.nn.bayesianize` takes it."""
        if self.prior == "empirical":
            return EmpiricalBayes()
        if self.prior == "fan_in":
            return FanIn(self.prior_scale, self.prior_scale)
        return Normal(0.0, self.prior_scale) if self.prior == "normal" else scale_mixture(self.prior_scale, _NARROW)


_NARROW = math.exp(-6)
_CHOICES: dict[str, tuple[str | None, ...]] = {
    "network": (None, "mlp", "conv"),
    "activation": tuple(ACTIVATIONS),
    "method": ("local", "flipout", "weights"),
    "prior": ("normal", "fan_in", "empirical", "mixture"),
    "likelihood": (None, *RESPONSES, "categorical"),
}
