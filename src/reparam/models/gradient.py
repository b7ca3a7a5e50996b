"""Gradient estimators by name, for settings files and the command line; what they learn, and their temperature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from reparam.errors import BadInputError
from reparam.estimators import (
    ARM,
    ARSM,
    REBAR,
    RELAX,
    DisARM,
    Estimator,
    GumbelRao,
    GumbelSoftmax,
    LeaveOneOut,
    MeasureValued,
    MovingAverage,
    MuProp,
    Pathwise,
    ReinMax,
    Score,
    StochasticTriple,
    StraightThrough,
    expect,
)
from reparam.estimators.temperature import Exponential
from reparam.nn.network import mlp
from reparam.noise import Source

__all__ = ["DEFAULTS", "ESTIMATORS", "Gradient", "Named", "check", "fitting"]


@dataclass(frozen=True)
class Named:
    """An estimator as the command line knows it.

    Attributes:
        make: it, from a temperature, from what it has learned, and from what the encoder sees.
        latents: that it serves.
        rows: the fewest samples that it takes; more come in multiples of `multiple`.
        multiple: see `rows`.
        tempered: whether the temperature matters to it.
        soft: whether its value is that of a relaxed law, and not of the discrete one.
        learned: what it learns, for samples of an event shape and for so many inputs; trained with the model's parameters.
    """

    make: Callable[[float, Any, Tensor], Estimator]
    latents: tuple[str, ...] = ("bernoulli", "categorical")
    rows: int = 1
    multiple: int = 1
    tempered: bool = False
    soft: bool = False
    learned: Callable[[torch.Size, int], nn.Module] | None = None


class _Control(nn.Module):
    """REBAR's temperature, relative to the one that is set, and its scale."""

    def __init__(self) -> None:
        super().__init__()
        self.log_temperature = nn.Parameter(torch.zeros(()))
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, temperature: float) -> tuple[Tensor, Tensor]:
        return temperature * self.log_temperature.exp(), self.scale


class _Surrogate(nn.Module):
    """What RELAX adds to the relaxed cost: a number for each latent sample."""

    def __init__(self, event: torch.Size) -> None:
        super().__init__()
        self.dims = len(event)
        self.net = mlp((event.numel(), 100, 1), "tanh")

    def forward(self, z: Tensor) -> Tensor:
        value: Tensor = self.net(z.flatten(-self.dims)).squeeze(-1)
        return value


def _net(_: torch.Size, inputs: int) -> nn.Module:
    """The expected cost of a datum (NVIL, arXiv:1402.0030)."""
    return mlp((inputs, 100, 1), "tanh")


_EVERY = ("normal", "bernoulli", "categorical")

#: Estimators by name. A file or a user can give no other.
ESTIMATORS: dict[str, Named] = {
    "arm": Named(lambda t, _, x: ARM(), latents=("bernoulli",), rows=2, multiple=2),
    "arsm": Named(lambda t, _, x: ARSM(), latents=("categorical",)),
    "disarm": Named(lambda t, _, x: DisARM(), rows=2, multiple=2),
    "gumbel_rao": Named(lambda t, _, x: GumbelRao(t, k=10), tempered=True),
    "gumbel_softmax": Named(lambda t, _, x: GumbelSoftmax(t), tempered=True, soft=True),
    "leave_one_out": Named(lambda t, _, x: LeaveOneOut(), latents=_EVERY, rows=2),
    "measure_valued": Named(lambda t, _, x: MeasureValued(), latents=_EVERY),
    "muprop": Named(lambda t, _, x: MuProp()),
    "pathwise": Named(lambda t, _, x: Pathwise(), latents=("normal",)),
    "rebar": Named(lambda t, own, x: REBAR(*own(t)), tempered=True, learned=lambda event, inputs: _Control()),
    "reinmax": Named(lambda t, _, x: ReinMax(t), tempered=True),
    "relax": Named(lambda t, own, x: RELAX(own, t, scale=1.0), tempered=True, learned=lambda event, inputs: _Surrogate(event)),
    "score": Named(lambda t, average, x: Score(average), latents=_EVERY, learned=lambda event, inputs: MovingAverage()),
    "score_learned": Named(lambda t, net, x: Score(net(x.flatten(1)).squeeze(-1)), latents=_EVERY, learned=_net),
    "st_gumbel": Named(lambda t, _, x: GumbelSoftmax(t, hard=True), tempered=True),
    "stochastic_triple": Named(lambda t, _, x: StochasticTriple()),
    "straight_through": Named(lambda t, _, x: StraightThrough()),
}

# Names of other libraries and papers, plain, for messages only.
_HEARD = {
    "concrete": "gumbel_softmax",
    "nvil": "score_learned",
    "reinforce": "score or leave_one_out",
    "reparameterization": "pathwise",
    "rloo": "leave_one_out",
    "st": "straight_through",
    "stgumbelsoftmax": "st_gumbel",
    "u2g": "disarm",
}

#: What each family of latents takes unless told otherwise.
DEFAULTS = {"normal": "pathwise", "bernoulli": "disarm", "categorical": "disarm"}


def fitting(latent: str) -> list[str]:
    """The names of the estimators that serve a family of latents."""
    return [name for name, entry in ESTIMATORS.items() if latent in entry.latents]


def _meant(name: str) -> str:
    """The name, or names, by which the command line knows what people call otherwise; empty if nothing is near."""
    plain = {_plain(known): known for known in ESTIMATORS}
    word = _plain(name)
    return _HEARD.get(word) or plain.get(next(iter(get_close_matches(word, plain, 1)), ""), "")


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name)).lower()


def check(name: str, latent: str, samples: int | None) -> None:
    """Refuse a name that does not serve a family of latents, or a number of samples that the estimator does not take.

    Raises:
        BadInputError: saying what there is.
    """
    if name not in ESTIMATORS:
        meant = _meant(name)
        if meant in ESTIMATORS and latent not in ESTIMATORS[meant].latents:
            meant += f", for latent={' or '.join(map(repr, ESTIMATORS[meant].latents))}"
        hint = f"did you mean {meant}? F" if meant else "f"
        raise BadInputError(f"estimator={name!r}: {hint}or latent={latent!r} give one of {', '.join(fitting(latent))}")
    entry = ESTIMATORS[name]
    if latent not in entry.latents:
        raise BadInputError(
            f"estimator={name!r} is for latent={' or '.join(map(repr, entry.latents))}, not {latent!r}: give one of "
            f"{', '.join(fitting(latent))}"
        )
    if samples is not None and (samples < entry.rows or samples % entry.multiple):
        wanted = f"a multiple of {entry.multiple}" if entry.multiple > 1 else f"at least {entry.rows}"
        raise BadInputError(f"samples={samples}: estimator={name!r} takes {wanted}")


class Gradient(nn.Module):
    """Estimates of E_q[f(z)] by a named estimator, whose gradient is its own.

    The temperature falls as `max(floor, temperature * exp(-rate * step))`, with a step for each estimate made in training;
    the count is kept with the model's weights, so that a run taken up again goes on with the same temperature.

    Args:
        name: as `ESTIMATORS` has it.
        event: shape of a sample.
        inputs: the number of values in what the encoder sees of a datum.
        samples: for each estimate; by default the fewest that the estimator takes.
        temperature: at the first step.
        floor: the lowest temperature.
        rate: by which the logarithm of the temperature falls at each step.

    Example:
        >>> import torch
        >>> from torch.distributions import Bernoulli, Independent
        >>> logits = torch.zeros(5, 3, requires_grad=True)
        >>> gradient = Gradient("disarm", torch.Size([3]), inputs=7)
        >>> q = Independent(Bernoulli(logits=logits), 1)
        >>> gradient(lambda z: z.sum(-1), q, torch.zeros(5, 7)).sum().backward()
        >>> logits.grad.shape
        torch.Size([5, 3])
    """

    step: Tensor

    def __init__(
        self,
        name: str,
        event: torch.Size,
        inputs: int,
        *,
        samples: int | None = None,
        temperature: float = 1.0,
        floor: float = 0.5,
        rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.named = ESTIMATORS[name]
        self.name = name
        # A temperature that does not fall has no floor.
        self.schedule = Exponential(temperature, rate, floor) if rate else Exponential(temperature, 0.0, temperature)
        self.samples = self.named.rows if samples is None else samples
        self.learned = self.named.learned(event, inputs) if self.named.learned else None
        self.register_buffer("step", torch.zeros((), dtype=torch.int64), persistent=self.named.tempered)

    @property
    def temperature(self) -> float:
        """Of the present step."""
        return self.schedule(int(self.step)) if self.schedule.rate else self.schedule.start

    @torch.no_grad()
    def start_at(self, cost: Tensor) -> None:
        """Begin a baseline at the mean of costs: far from it the first gradients are noise, which Adam remembers long."""
        if isinstance(self.learned, MovingAverage):
            self.learned.update(cost.mean()[None])
        elif isinstance(self.learned, nn.Sequential):
            self.learned[-1].bias.fill_(cost.mean())  # type: ignore[operator]

    def estimator(self, seen: Tensor) -> Estimator:
        """That of the present step, for data of which the encoder sees `seen`, N + shape."""
        return self.named.make(self.temperature, self.learned, seen)

    def forward(self, f: Callable[[Tensor], Tensor], q: Distribution, seen: Tensor, source: Source | None = None) -> Tensor:
        value = expect(f, q, estimator=self.estimator(seen), n=self.samples, source=source)
        if self.training and self.named.tempered:
            self.step += 1
        return value

    def extra_repr(self) -> str:
        return f"{self.name}, samples={self.samples}" + (f", temperature={self.temperature:g}" if self.named.tempered else "")
