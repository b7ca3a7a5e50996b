"""What a Bayesian neural network is worth on data: how far off it is, how sure, and whether it is as sure as it may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import overload

import torch
from torch import Tensor

from reparam.models.bnn_prediction import ClassPrediction, Prediction

__all__ = ["LEVELS", "ClassEvaluation", "Evaluation", "calibration_error", "evaluate"]

#: Central intervals whose coverage is looked at.
LEVELS = (0.5, 0.8, 0.9, 0.95)
_BINS = 10


@dataclass(frozen=True)
class Evaluation:
    """What predictions of reals are worth on data.

    Attributes:
        rows: data in the set.
        draws: of the weights.
        rmse: root of the mean squared error of the predicted mean, by response, in its units.
        log_likelihood: mean of log p(y | x) = log 1/k sum_i p(y | x, w_i), in nats per datum and the units of the responses; a
            lower bound in expectation of that of all weights.
        log_likelihood_error: its standard error as an estimate for the population; None for a single datum.
        coverage: by level, the share of responses in their central interval of that probability: as large as the level where the
            model is calibrated.
        epistemic: by response, the root mean square over the data of the standard deviation that comes of not knowing the weights.
        aleatoric: by response, that of the noise.
    """

    rows: int
    draws: int
    rmse: dict[str, float]
    log_likelihood: float
    log_likelihood_error: float | None
    coverage: dict[str, float]
    epistemic: dict[str, float]
    aleatoric: dict[str, float]

    def lines(self) -> list[str]:
        """What the terminal shows."""
        error = "" if self.log_likelihood_error is None else f" ± {self.log_likelihood_error:.2f}"
        covered = ", ".join(f"{share:.0%} in {float(level):.0%} intervals" for level, share in self.coverage.items())
        made = [f"  log-likelihood  {self.log_likelihood:.3f}{error}  ({self.draws} draws of the weights)"]
        for name, value in self.rmse.items():
            parts = f"of the weights {self.epistemic[name]:.4g}, of the noise {self.aleatoric[name]:.4g}"
            made.append(f"  RMSE            {value:.4g}  of {name}  (predicted: {parts})")
        return [*made, f"  coverage        {covered}"]

    def tiles(self) -> list[tuple[str, str, str]]:
        """What the report shows: headline, value, remark."""
        error = "" if self.log_likelihood_error is None else f"± {self.log_likelihood_error:.2f}, "
        made = [("RMSE" if len(self.rmse) == 1 else f"RMSE of {name}", f"{v:.4g}", "of the mean") for name, v in self.rmse.items()]
        return [
            *made,
            ("log-likelihood", f"{self.log_likelihood:.3f}".replace("-", "−"), f"{error}nats per datum, {self.draws} draws"),
            ("90% intervals", f"{self.coverage['0.9']:.0%}", "of the responses lie in them"),
        ]


@dataclass(frozen=True)
class ClassEvaluation:
    """What predictions of classes are worth on data.

    Attributes:
        rows: data in the set.
        draws: of the weights.
        accuracy: share of data whose most probable class is theirs.
        log_likelihood: mean of log p(y | x) = log 1/k sum_i p(y | x, w_i), in nats per datum.
        log_likelihood_error: its standard error as an estimate for the population; None for a single datum.
        calibration_error: expected calibration error: by how much the share of right answers differs from the probability that was
            given to them, on average over ten bins of that probability (arXiv:1706.04599).
        epistemic: mean mutual information of class and weights, in nats.
        aleatoric: mean entropy that is left when the weights are known, in nats.
    """

    rows: int
    draws: int
    accuracy: float
    log_likelihood: float
    log_likelihood_error: float | None
    calibration_error: float
    epistemic: float
    aleatoric: float

    def lines(self) -> list[str]:
        """What the terminal shows."""
        error = "" if self.log_likelihood_error is None else f" ± {self.log_likelihood_error:.3f}"
        return [
            f"  log-likelihood  {self.log_likelihood:.3f}{error}  ({self.draws} draws of the weights)",
            f"  accuracy        {self.accuracy:.1%}",
            f"  calibration     off by {self.calibration_error:.1%}",
            f"  uncertainty     {self.epistemic:.3f} nats of the weights, {self.aleatoric:.3f} nats of the data",
        ]

    def tiles(self) -> list[tuple[str, str, str]]:
        """What the report shows: headline, value, remark."""
        error = "" if self.log_likelihood_error is None else f"± {self.log_likelihood_error:.3f}, "
        return [
            ("accuracy", f"{self.accuracy:.1%}", "of the most probable class"),
            ("log-likelihood", f"{self.log_likelihood:.3f}".replace("-", "−"), f"{error}nats per datum, {self.draws} draws"),
            ("calibration error", f"{self.calibration_error:.1%}", "between confidence and share of right answers"),
        ]


@overload
def evaluate(found: Prediction, y: Tensor) -> Evaluation: ...
@overload
def evaluate(found: ClassPrediction, y: Tensor) -> ClassEvaluation: ...
def evaluate(found: Prediction | ClassPrediction, y: Tensor) -> Evaluation | ClassEvaluation:
    """What predictions are worth, given the responses N x R that came, or the places of the classes N.

    Example:
        >>> import torch
        >>> from torch.distributions import Normal
        >>> evaluate(Prediction(Normal(torch.zeros(1, 3, 1), 1.0), ("y",)), torch.tensor([[0.0], [1.0], [-1.0]])).rmse
        {'y': 0.816...}
    """
    log_p = found.log_prob(y).double()
    error = (log_p.std() / len(log_p) ** 0.5).item() if len(log_p) > 1 else None
    facts = {"rows": len(log_p), "draws": found.law.batch_shape[0]}
    likelihood = log_p.mean().item()
    if isinstance(found, ClassPrediction):
        best = found.mean.max(-1)
        right = best.indices == y
        return ClassEvaluation(
            **facts,
            accuracy=right.double().mean().item(),
            log_likelihood=likelihood,
            log_likelihood_error=error,
            calibration_error=calibration_error(best.values, right),
            epistemic=found.epistemic.double().mean().item(),
            aleatoric=found.aleatoric.double().mean().item(),
        )
    u = found.cdf(y).double()
    return Evaluation(
        **facts,
        rmse=_size(found, found.mean - y),
        log_likelihood=likelihood,
        log_likelihood_error=error,
        coverage={f"{level:g}": ((u - 0.5).abs() <= level / 2).double().mean().item() for level in LEVELS},
        epistemic=_size(found, found.epistemic),
        aleatoric=_size(found, found.aleatoric),
    )


def _size(found: Prediction, each: Tensor) -> dict[str, float]:
    """The root mean square over the data, by response."""
    return dict(zip(found.responses, each.double().square().mean(0).sqrt().tolist(), strict=True))


def calibration_error(confidence: Tensor, right: Tensor, bins: int = _BINS) -> float:
    """`sum over bins of share * |mean of right - mean of confidence|`, the bins of equal width over the confidence.

    Args:
        confidence: the probability given to each answer, N.
        right: whether it was right, N.
        bins: how many.

    Example:
        >>> import torch
        >>> calibration_error(torch.tensor([0.8, 0.8, 0.8, 0.8]), torch.tensor([True, True, True, False]))
        0.05...
    """
    place = (confidence * bins).long().clamp(max=bins - 1)
    gaps = torch.zeros(bins, dtype=torch.float64, device=place.device).index_add_(0, place, right.double() - confidence.double())
    return (gaps.abs().sum() / len(place)).item()
