"""The settings of a graphical model, and how it samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reparam.errors import BadInputError

__all__ = ["Config", "Sampling"]


@dataclass(frozen=True)
class Config:
    """How a graphical model is fitted, and on the command line which.

    Attributes:
        graph: eight_schools, iris, mixture (classes that make the columns independent, for any table), or MODULE:FUNCTION of your
            own, which takes nothing and returns a list of nodes. By default the one that is named as the data are, or mixture.
        classes: of mixture.
        hide: columns whose values are kept from the model, but for a share of the rows; by default species, of the graph iris.
        shown: that share.
        guide: the law of the continuous latents that is fitted to their posterior: mean_field, normals that are independent;
            full_rank, one normal with all covariances; flow, a normal that is bent by neural splines. Each in unbounded
            coordinates.
        amortised: the latents of a row come from a network of what is observed in the row, which serves new rows too, and not from
            a table with an entry for each row. By default where the table would have more than 256 numbers.
        samples: Monte Carlo draws for each step of training.
        estimator: of the gradient, for latents whose node names none. auto sums out discrete ones and takes the path of others;
            score, leave_one_out, measure_valued and enumerate (sums over the values of a guide) sample every discrete latent, and
            with guide=mean_field act on continuous ones too.
        draws: values that such an estimator draws of each latent.
        enumerate: the largest table that exact sums over discrete latents may make; above, nodes with many values are sampled.
        transforms: of a flow.
        bins: of its splines.
        hidden: widths of the hidden layers of the networks of guides.
    """

    graph: str | None = None
    classes: int = 3
    hide: tuple[str, ...] | None = None
    shown: float = 0.1
    guide: Literal["mean_field", "full_rank", "flow"] = "full_rank"
    amortised: bool | None = None
    samples: int = 8
    estimator: Literal["auto", "score", "leave_one_out", "measure_valued", "enumerate"] = "auto"
    draws: int = 4
    enumerate: int = 256
    transforms: int = 2
    bins: int = 8
    hidden: tuple[int, ...] = (32, 32)

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))
        if self.hide is not None:
            object.__setattr__(self, "hide", (self.hide,) if isinstance(self.hide, str) else tuple(self.hide))
        for name, known in _CHOICES.items():
            if (value := getattr(self, name)) not in known:
                raise BadInputError(f"{name}={value!r}: give one of {', '.join(known)}")
        for name, least in {"classes": 2, "samples": 1, "draws": 1, "enumerate": 1, "transforms": 1}.items():
            if getattr(self, name) < least:
                raise BadInputError(f"{name}={getattr(self, name)}: give at least {least}")
        if not 0 <= self.shown <= 1:
            raise BadInputError(f"shown={self.shown}: give a share of the rows, from 0 to 1")
        if self.bins < 2 or min(self.hidden, default=1) < 1:
            raise BadInputError(f"bins={self.bins}, hidden={self.hidden}: give at least 2 bins and positive widths")


@dataclass(frozen=True)
class Sampling:
    """How to sample a graphical model.

    Attributes:
        prior: draw the shared latents from their prior, and not from what the data have taught.
    """

    prior: bool = False


_CHOICES: dict[str, tuple[str, ...]] = {
    "guide": ("mean_field", "full_rank", "flow"),
    "estimator": ("auto", "score", "leave_one_out", "measure_valued", "enumerate"),
}
