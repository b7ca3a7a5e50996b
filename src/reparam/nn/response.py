"""Laws of what is to be predicted, given the outputs of a network, in the units of the data."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Normal, StudentT
from torch.nn.functional import softplus

from reparam.nn.units import Units
from reparam.noise import readable

__all__ = ["RESPONSES", "ClassResponse", "RealResponse"]

#: The laws of reals by name.
RESPONSES = ("normal", "heteroscedastic", "student_t")

# The noise begins at this share of the standard deviation of the responses, and keeps a thousandth of it.
_START, _FLOOR = 0.3, 1e-3
# One degree more than two from log_df = 0: below two there is no variance.
_LEAST_DF, _LOG_DF = 2.0, math.log(4.0)


class RealResponse(nn.Module):
    """Reals N x K, around outputs of a network, with learned noise of one standard deviation for each response.

        normal            y = shift + scale (h + sigma eps),                          eps ~ N(0, 1)
        heteroscedastic   y = shift + scale (h + sigma softplus(g) / log 2 eps)       (h, g) both outputs of the network
        student_t         y = shift + scale (h + sigma t),                            t ~ Student's t of 2 + exp(log_df) degrees

    with the mean and the standard deviation, `shift` and `scale`, of the training data. The noise of a heteroscedastic law grows
    no faster than its output, so that far from the data it stays within reach.

    Args:
        kind: normal, heteroscedastic or student_t.
        names: of the K responses.

    Attributes:
        outputs: how many numbers of the network stand for a datum.

    Example:
        >>> import torch
        >>> response = RealResponse("normal", ("weight",))
        >>> response.fit(torch.tensor([[60.0], [80.0]]))
        >>> law = response(torch.zeros(5, 1))
        >>> law.mean[0].item(), round(law.stddev[0].item(), 2)
        (70.0, 3.0)
    """

    def __init__(self, kind: str, names: Sequence[str]) -> None:
        super().__init__()
        if kind not in RESPONSES:
            raise ValueError(f"the law of a response is {kind!r}: give one of {', '.join(RESPONSES)}")
        self.kind, self.names = kind, tuple(names)
        self.outputs = len(self.names) * (2 if kind == "heteroscedastic" else 1)
        self.units = Units((len(self.names),), "real")
        self.log_noise = nn.Parameter(torch.full((len(self.names),), math.log(_START)))
        self.log_df = nn.Parameter(torch.full((len(self.names),), _LOG_DF)) if kind == "student_t" else None

    def fit(self, y: Tensor) -> None:
        """Take the scaling from training data, N x K."""
        self.units.fit(y)

    @property
    def noise(self) -> Tensor:
        """The scale of the noise of each response, in its units; of a heteroscedastic law at g = 0."""
        return self.units.scale * torch.sqrt((2 * self.log_noise).exp() + _FLOOR**2)

    def forward(self, h: Tensor) -> Distribution:
        """The law of the responses, of batch shape rows + (N, K), from outputs rows + (N, outputs).

        Of outputs in double precision it is right in any units; in single precision a variance overflows at 1e38.
        """
        loc, sigma = self._standardised(h)
        return self._law(self.units.restore(loc), self.units.scale * sigma)

    def log_prob(self, h: Tensor, y: Tensor) -> Tensor:
        """`log p(y | h)` of each datum, in nats and in the units of the data: rows + (N,)."""
        each: Tensor = self._law(*self._standardised(h)).log_prob(self.units.standardise(y))
        return each.sum(-1) - self.units.log_scale

    def _standardised(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Location and scale."""
        sigma = torch.sqrt((2 * self.log_noise).exp() + _FLOOR**2).to(h.dtype)
        if self.kind != "heteroscedastic":
            return h, sigma.expand(h.shape)
        h, g = h.chunk(2, -1)
        return h, sigma * (softplus(g) / math.log(2) + _FLOOR)

    def _law(self, loc: Tensor, scale: Tensor) -> Distribution:
        if self.log_df is None:
            return Normal(loc, scale, validate_args=False)
        df = (_LEAST_DF + self.log_df.exp()).to(loc.dtype)
        return StudentT(df.expand(loc.shape), loc, scale, validate_args=False)

    def check(self, y: Tensor) -> None:
        """Raise ValueError for responses of another shape, or that are not finite."""
        if y.dim() != 2 or y.shape[1] != len(self.names):
            raise ValueError(f"the responses have shape {tuple(y.shape)}: give N x {len(self.names)}, {', '.join(self.names)}")
        self.units.check(y, values=readable(y))

    def extra_repr(self) -> str:
        return f"{self.kind}, {', '.join(self.names)}"


class ClassResponse(nn.Module):
    """One of C classes, whose logits are the outputs of a network.

    Args:
        names: of the classes.

    Attributes:
        outputs: how many numbers of the network stand for a datum.

    Example:
        >>> import torch
        >>> ClassResponse(("cat", "dog")).log_prob(torch.zeros(1, 2), torch.tensor([1])).exp()
        tensor([0.5000])
    """

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        self.outputs = len(self.names)

    def fit(self, y: Tensor) -> None:
        """Nothing is taken from training data."""

    def forward(self, h: Tensor) -> Categorical:
        """The law of the places of the classes, of batch shape rows + (N,)."""
        return Categorical(logits=h, validate_args=False)

    def log_prob(self, h: Tensor, y: Tensor) -> Tensor:
        """`log p(y | h)` of each datum, in nats: rows + (N,)."""
        return self(h).log_prob(y)  # type: ignore[no-any-return]

    def check(self, y: Tensor) -> None:
        """Raise ValueError for what are no places of classes."""
        if y.dim() != 1 or y.is_floating_point() or y.dtype == torch.bool:
            raise ValueError(
                f"the labels have shape {tuple(y.shape)} and dtype {y.dtype}: give the place of the class of each datum"
            )
        if readable(y) and y.numel() and not (y.min() >= 0 and y.max() < len(self.names)):
            raise ValueError(f"the labels go from {y.min()} to {y.max()}: places of {len(self.names)} classes are wanted, from 0")

    def extra_repr(self) -> str:
        return ", ".join(self.names)
