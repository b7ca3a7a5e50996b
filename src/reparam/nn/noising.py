"""Data in noise: schedules of the log-SNR, and what a network may predict.

A state is `z = alpha x + sigma eps` with standard normal `eps`. What it tells of `x` depends on the log-SNR
`log(alpha^2 / sigma^2)` alone, so a schedule has two parts: which log-SNR belongs to a time `t`, from 0, the cleanest, to 1;
and how the state is scaled at that log-SNR. Everything else here is a function of the log-SNR, the same for each schedule.

A denoiser is any function `denoise(z, log_snr)` that estimates the mean of `x` given `z`: `z` of shape N + event, `log_snr` of
shape (N,), the result of the shape of `z`. Data are of the order of one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

__all__ = [
    "EDM",
    "PREDICTIONS",
    "VP",
    "Clean",
    "Denoise",
    "Epsilon",
    "Preconditioned",
    "Prediction",
    "Schedule",
    "Velocity",
    "as_denoiser",
    "as_output",
    "beside",
    "estimate",
    "spread",
]

Denoise = Callable[[Tensor, Tensor], Tensor]

# The SNR and its inverse are floats, in single precision too.
_LARGEST = 80.0


class Schedule(Protocol):
    """How noise grows with time.

    Each method works on tensors of any shape, elementwise and differentiably, in their dtype.
    """

    def log_snr(self, t: Tensor) -> Tensor:
        """`log(alpha^2 / sigma^2)` at times t in [0, 1]; it falls from the cleanest, t = 0, to the noisiest, t = 1."""
        ...

    def alpha(self, log_snr: Tensor) -> Tensor:
        """The factor of the datum."""
        ...

    def sigma(self, log_snr: Tensor) -> Tensor:
        """The factor of the noise."""
        ...


@dataclass(frozen=True)
class VP:
    """Variance preserving: `alpha^2 + sigma^2 = 1`, so `alpha^2 = sigmoid(log_snr)`.

    With the log-SNR running from `high` at t = 0 to `low` at t = 1,

    - cosine: `log_snr = -2 log tan(angle)`, the angle linear in t: `alpha = cos(angle)`;
    - linear: `-log alpha^2` is quadratic in t: the rate `beta(t) = -d log alpha^2 / dt` is linear and starts at zero;
    - uniform: the log-SNR is linear in t, which suits integrals over it, such as the variational bound.

    Args:
        kind: "cosine", "linear" or "uniform".
        low: log-SNR at t = 1. At -10 a datum of unit variance adds 0.005 % to the variance of its noise.
        high: log-SNR at t = 0. At 13 noise is 0.0015 of the standard deviation of the data.

    Raises:
        ValueError: for another kind, and unless `low < high`, both between -80 and 80, where float32 holds the SNR.

    Source: Ho et al., arXiv:2006.11239 (linear); Nichol and Dhariwal, arXiv:2102.09672 (cosine); its ends as in Hoogeboom
    et al., arXiv:2301.11093.

    Example:
        >>> import torch
        >>> from reparam.nn.noising import VP
        >>> schedule = VP("cosine")
        >>> log_snr = schedule.log_snr(torch.tensor([0.0, 0.5, 1.0]))
        >>> [round(value, 1) for value in log_snr.tolist()]
        [13.0, 0.0, -10.0]
        >>> torch.allclose(schedule.alpha(log_snr) ** 2 + schedule.sigma(log_snr) ** 2, torch.ones(3))
        True
    """

    kind: Literal["cosine", "linear", "uniform"] = "cosine"
    low: float = -10.0
    high: float = 13.0

    def __post_init__(self) -> None:
        _check_kind(self.kind, ("cosine", "linear", "uniform"), "VP")
        _check_ends("VP: low and high", self.low, self.high)

    def log_snr(self, t: Tensor) -> Tensor:
        if self.kind == "uniform":
            return self.high + t * (self.low - self.high)
        if self.kind == "cosine":
            first, last = (math.atan(math.exp(-end / 2)) for end in (self.high, self.low))
            # The angle and its complement, each small at one end, where the tangent of one of them would lose it.
            angle, complement = first + t * (last - first), math.atan(math.exp(self.low / 2)) + (1 - t) * (last - first)
            return 2 * torch.log(torch.sin(complement) / torch.sin(angle))
        first, last = (math.log1p(math.exp(-end)) for end in (self.high, self.low))
        return _log_expm1_negated(first + t * t * (last - first))

    def alpha(self, log_snr: Tensor) -> Tensor:
        return torch.exp(0.5 * logsigmoid(log_snr))

    def sigma(self, log_snr: Tensor) -> Tensor:
        return torch.exp(0.5 * logsigmoid(-log_snr))


@dataclass(frozen=True)
class EDM:
    """Variance exploding: `alpha = 1`, so `log_snr = -2 log sigma`, with sigma as Karras et al. have it.

    - rho, the steps to sample by: `sigma^(1/rho)` is linear in t, from `sigma_min` to `sigma_max`;
    - lognormal, the times to train at: `log sigma` of uniform times is N(mean, std^2), cut at `sigma_min` and `sigma_max`.

    Args:
        kind: "rho" or "lognormal".
        sigma_min, sigma_max: the noise at t = 0 and t = 1.
        rho: of "rho"; larger means more steps at little noise.
        mean, std: of "lognormal".

    Raises:
        ValueError: for another kind; unless `exp(-40) <= sigma_min < sigma_max <= exp(40)`, `rho > 0` and `std > 0`.

    Source: Karras et al., arXiv:2206.00364.

    Example:
        >>> import torch
        >>> from reparam.nn.noising import EDM
        >>> schedule = EDM(sigma_min=0.01, sigma_max=10.0)
        >>> log_snr = schedule.log_snr(torch.tensor([0.0, 1.0]))
        >>> torch.allclose(schedule.sigma(log_snr), torch.tensor([0.01, 10.0]))
        True
    """

    kind: Literal["rho", "lognormal"] = "rho"
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0
    mean: float = -1.2
    std: float = 1.2

    def __post_init__(self) -> None:
        _check_kind(self.kind, ("rho", "lognormal"), "EDM")
        least, most = (2 * math.log(sigma) if sigma > 0 else -math.inf for sigma in (self.sigma_min, self.sigma_max))
        _check_ends("EDM: 2 log sigma_min and 2 log sigma_max", least, most)
        for name in ("rho", "std"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"EDM: {name} is {getattr(self, name)}; it must be above zero and finite")

    def log_snr(self, t: Tensor) -> Tensor:
        if self.kind == "rho":
            # Ratios to sigma_max lose nothing to its size; a power of a sum of two roots would.
            least = (self.sigma_min / self.sigma_max) ** (1 / self.rho)
            return -2 * (math.log(self.sigma_max) + self.rho * torch.log(least + t * (1 - least)))
        # Probabilities below sigma, and above it for the upper half, so that neither tail is lost to rounding.
        ends = [(math.log(sigma) - self.mean) / self.std / math.sqrt(2) for sigma in (self.sigma_min, self.sigma_max)]
        (first, last), (_, rest) = ([0.5 * math.erfc(sign * end) for end in ends] for sign in (-1, 1))
        below, above = first + t * (last - first), rest + (1 - t) * (last - first)
        # Each branch sees only arguments that it can bear, so that no infinite derivative leaks through `where`.
        lower, upper = (torch.special.ndtri(p.clamp(torch.finfo(t.dtype).tiny, 0.5)) for p in (below, above))
        log_sigma = self.mean + self.std * torch.where(below < 0.5, lower, -upper)
        return -2 * log_sigma.clamp(math.log(self.sigma_min), math.log(self.sigma_max))

    def alpha(self, log_snr: Tensor) -> Tensor:
        return torch.ones_like(log_snr)

    def sigma(self, log_snr: Tensor) -> Tensor:
        return torch.exp(-0.5 * log_snr)


class Prediction(Protocol):
    """What the output F of a network means: `x = skip z' + out F`, of the state at unit scale `z' = a x + b eps`.

    `a^2 = sigmoid(log_snr)` and `b^2 = sigmoid(-log_snr)`, whatever the schedule: `z' = z / sqrt(alpha^2 + sigma^2)`.
    """

    def coefficients(self, log_snr: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`skip`, `out`, and the factor of z' that the network sees, each of the shape of `log_snr`."""
        ...


@dataclass(frozen=True)
class Epsilon:
    """F is the noise: `x = (z' - b F) / a`."""

    def coefficients(self, log_snr: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return torch.exp(0.5 * softplus(-log_snr)), -torch.exp(-0.5 * log_snr), torch.ones_like(log_snr)


@dataclass(frozen=True)
class Clean:
    """F is the datum."""

    def coefficients(self, log_snr: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return torch.zeros_like(log_snr), torch.ones_like(log_snr), torch.ones_like(log_snr)


@dataclass(frozen=True)
class Velocity:
    """F is `v = a eps - b x`: `x = a z' - b v`. Source: Salimans and Ho, arXiv:2202.00512."""

    def coefficients(self, log_snr: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return torch.exp(0.5 * logsigmoid(log_snr)), -torch.exp(0.5 * logsigmoid(-log_snr)), torch.ones_like(log_snr)


@dataclass(frozen=True)
class Preconditioned:
    """EDM's: F and its target have unit variance at every noise, for data of standard deviation `sigma_data`.

    With `s = sigma / alpha` and `d = sigma_data`, `x = d^2 / (s^2 + d^2) (z / alpha) + s d / sqrt(s^2 + d^2) F`. At `d = 1` that
    is the negative of velocity.

    Args:
        sigma_data: standard deviation of the data.

    Source: Karras et al., arXiv:2206.00364.
    """

    sigma_data: float = 1.0

    def coefficients(self, log_snr: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # s^2 / d^2 = exp(-shifted).
        log_d = math.log(self.sigma_data)
        shifted = log_snr + 2 * log_d
        skip = torch.exp(logsigmoid(shifted) + 0.5 * softplus(-log_snr))
        out = torch.exp(log_d + 0.5 * logsigmoid(-shifted))
        # The state's variance is a^2 d^2 + b^2 = b^2 (1 + exp(shifted)).
        return skip, out, torch.exp(0.5 * (softplus(log_snr) - softplus(shifted)))


PREDICTIONS: dict[str, Callable[[], Prediction]] = {
    "eps": Epsilon,
    "x0": Clean,
    "v": Velocity,
    "edm": Preconditioned,
}


def as_denoiser(network: Denoise, prediction: Prediction, schedule: Schedule) -> Denoise:
    """The denoiser that a network makes: what it outputs is read as `prediction`, what it sees has unit scale.

    Args:
        network: from the state at unit scale, N + event, and the log-SNR (N,) to an output of the shape of the state.
        prediction: what the output means.
        schedule: whose states the denoiser takes.

    Returns:
        `denoise(z, log_snr)`, in the dtype of z.

    Example:
        >>> import torch
        >>> from reparam.nn.noising import VP, Velocity, as_denoiser
        >>> denoise = as_denoiser(lambda z, log_snr: torch.zeros_like(z), Velocity(), VP())
        >>> denoise(torch.ones(5, 2), torch.zeros(5)).shape
        torch.Size([5, 2])
    """

    def denoise(z: Tensor, log_snr: Tensor) -> Tensor:
        skip, out, seen = (beside(c, z) for c in prediction.coefficients(log_snr))
        unit = z / beside(spread(schedule, log_snr), z)
        return (skip * unit + out * network((seen * unit).to(z.dtype), log_snr)).to(z.dtype)

    return denoise


def as_output(x: Tensor, z: Tensor, log_snr: Tensor, prediction: Prediction, schedule: Schedule) -> Tensor:
    """The output by which a network of that prediction says `x` at the state `z`: the target of its regression.

    Where `out` is small, at large log-SNR of all but "x0", the result has the rounding error of `x` times `1 / out`.
    """
    skip, out, _ = (beside(c, z) for c in prediction.coefficients(log_snr))
    return ((x - skip * (z / beside(spread(schedule, log_snr), z))) / out).to(z.dtype)


def estimate(denoise: Denoise, z: Tensor, log_snr: Tensor) -> Tensor:
    """`denoise(z, log_snr)` at one log-SNR, (), for all data, refused when it has another shape than z: it would broadcast."""
    x = denoise(z, log_snr.expand(len(z)))
    if x.shape != z.shape:
        raise ValueError(
            f"the denoiser returned shape {tuple(x.shape)} for states of shape {tuple(z.shape)}: both must be the same"
        )
    return x


def spread(schedule: Schedule, log_snr: Tensor) -> Tensor:
    """`sqrt(alpha^2 + sigma^2)`: the standard deviation of the state of data of unit variance."""
    return torch.hypot(schedule.alpha(log_snr), schedule.sigma(log_snr))


def beside(value: Tensor, z: Tensor) -> Tensor:
    """One number for each datum, (N,), or one for all, (), in a shape that broadcasts against `z`, N + event."""
    return value.reshape(value.shape + (1,) * (z.dim() - 1)) if value.dim() else value


def _log_expm1_negated(y: Tensor) -> Tensor:
    """`-log(exp(y) - 1)` for y > 0."""
    return -(y + torch.log(-torch.expm1(-y)))


def _check_kind(kind: str, kinds: tuple[str, ...], name: str) -> None:
    if kind not in kinds:
        raise ValueError(f"{name}: kind is {kind!r}; it must be one of {', '.join(map(repr, kinds))}")


def _check_ends(names: str, low: float, high: float) -> None:
    if not -_LARGEST <= low < high <= _LARGEST:
        raise ValueError(f"{names} are {low:g} and {high:g}; they must lie between -80 and 80, the first below the second")
