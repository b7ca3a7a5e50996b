"""The law of a sequence of codes, each given those before it and a context; and the likelihood of a model that is made of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.distributions.constraints import Constraint
from torch.nn import functional as F

from reparam.distributions.law import Discrete
from reparam.nn.likelihood import Likelihood
from reparam.nn.sequence import Decoder, RecurrentDecoder, TransformerDecoder
from reparam.noise import UNIFORM, Noise
from reparam.paths import steps
from reparam.paths.path import Path

__all__ = ["Sequences", "TokenLikelihood"]


class _Coded(Constraint):
    """Rows of whole numbers 0..codes, with nothing but zeros after a zero."""

    is_discrete = True
    event_dim = 1

    def __init__(self, codes: int) -> None:
        self.codes = codes
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        whole = ((value >= 0) & (value <= self.codes) & (value == value.round())).all(-1)
        return whole & ((value[..., :-1] != 0) | (value[..., 1:] == 0)).all(-1)


class Sequences(Discrete):
    """Sequences of codes 1..codes that end with a 0, and hold zeros from there to their length L.

        p(x) = prod_t p(x_t | x_1 ... x_(t-1), context),    t up to the first 0, or up to L

    with `log p(. | ...)` the log-softmax of a decoder's logits. A sequence of L codes needs no end, so that the probabilities of
    all sequences add up to one.

    Args:
        decoder: what comes next.
        context: of shape batch + (decoder.features,).
        temperature: what the logits are divided by: below one, the likely becomes more likely.

    Raises:
        ValueError: for a temperature that is not positive.

    Source: Bowman et al., arXiv:1511.06349.

    Example:
        >>> import torch
        >>> decoder = RecurrentDecoder(codes=3, length=5, hidden=(8,))
        >>> p = Sequences(decoder, torch.zeros(2, decoder.features))
        >>> p.sample((7,)).shape, p.mode.shape
        (torch.Size([7, 2, 5]), torch.Size([2, 5]))
        >>> p.log_prob(torch.tensor([[1, 2, 0, 0, 0], [0, 0, 0, 0, 0]])).shape
        torch.Size([2])
    """

    arg_constraints = {"context": constraints.independent(constraints.real, 1)}

    def __init__(self, decoder: Decoder, context: Tensor, temperature: float = 1.0, validate_args: bool | None = None) -> None:
        if not 0 < temperature < torch.inf:
            raise ValueError(f"temperature={temperature}: give a positive, finite number; the limit of 0 is `mode`")
        self.decoder, self.context, self.temperature = decoder, context, temperature
        super().__init__(context.shape[:-1], torch.Size([decoder.length]), validate_args)

    @property
    def support(self) -> Constraint:
        return _Coded(self.decoder.head.out_features - 1)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return -self.nll(value).sum(-1)

    def nll(self, value: Tensor) -> Tensor:
        """`-log p(x_t | ...)` at each place, of shape batch + (L,), zero behind the end.

        Args:
            value: sequences; a code that is negative counts as its size, and what follows is not shown it.
        """
        batch = torch.broadcast_shapes(value.shape[:-1], self.batch_shape)
        x = value.long().expand(batch + self.event_shape).reshape(-1, self.decoder.length)
        context = self.context.expand((*batch, -1)).reshape(-1, self.context.shape[-1])
        nll = context.new_zeros(x.shape)
        if len(x):
            codes = x.abs()
            shown = F.pad(codes, (1, 0), value=1)[:, :-1] != 0  # the codes and the end, which a full sequence does not have
            logits = self.decoder(x, context).to(context.dtype)
            found = F.cross_entropy(logits / self.temperature, codes[shown], reduction="none")
            nll = nll.masked_scatter(shown, found)
        return nll.reshape(batch + self.event_shape)

    @property
    def mode(self) -> Tensor:
        """The sequence of the most probable code at each step, one after the other (greedy decoding), of shape batch + (L,)."""
        return self._written(lambda _, logits: logits.argmax(-1), torch.Size())

    def push(self, eps: Tensor) -> Tensor:
        """The sequences at uniform noise, rows + batch + (L,): each code is the quantile of its own number."""
        columns = eps.reshape(-1, self.decoder.length)

        def choose(t: int, logits: Tensor) -> Tensor:
            below = torch.softmax(logits.double() / self.temperature, -1).cumsum(-1)
            # Strictly above eps times the whole: a code without probability is never the first one.
            found = torch.searchsorted(below, (columns[:, t, None] * below[:, -1:]).contiguous(), right=True)
            return found[:, 0].clamp(max=logits.shape[-1] - 1)

        return self._written(choose, eps.shape[: eps.dim() - 1 - len(self.batch_shape)])

    @torch.no_grad()
    def _written(self, choose: Callable[[int, Tensor], Tensor], rows: torch.Size) -> Tensor:
        shape = rows + self.batch_shape
        context = self.context.expand((*shape, -1)).reshape(-1, self.context.shape[-1])
        x = torch.zeros(len(context), self.decoder.length, dtype=torch.int64, device=context.device)
        if len(x):
            logits, state = self.decoder.begin(context)
            going = torch.ones(len(context), dtype=torch.bool, device=context.device)
            for t in range(self.decoder.length):
                x[:, t] = torch.where(going, choose(t, logits), 0)
                going = x[:, t] != 0
                if t + 1 == self.decoder.length or not going.any():
                    break
                logits, state = self.decoder.proceed(x[:, t], state, context)
        return x.reshape(shape + self.event_shape)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Sequences:
        context = self.context.expand((*torch.Size(batch_shape), -1))
        return Sequences(self.decoder, context, self.temperature, self._validate_args)


@steps.register
def sequences_steps(d: Sequences) -> Path:
    return Path(Noise(UNIFORM, d.batch_shape + d.event_shape, torch.float64, d.context.device), d.push)


class TokenLikelihood(Likelihood):
    """Sequences of codes from a context `h`, with what comes next by a network that also sees what came before.

    Args:
        shape: (L,), of one sequence.
        levels: the largest code.
        network: gru or transformer.
        hidden: the width of each layer; all the same.

    Example:
        >>> import torch
        >>> likelihood = TokenLikelihood((5,), 3, "gru", (8,))
        >>> p = likelihood(torch.zeros(2, *likelihood.outputs))
        >>> p.log_prob(torch.tensor([3, 1, 0, 0, 0])).shape
        torch.Size([2])
    """

    def __init__(self, shape: tuple[int, ...], levels: int, network: str, hidden: tuple[int, ...]) -> None:
        super().__init__(shape, levels)
        kind = RecurrentDecoder if network == "gru" else TransformerDecoder
        self.decoder = kind(levels, shape[0], hidden)

    @property
    def outputs(self) -> torch.Size:
        return torch.Size([self.decoder.features])

    def forward(self, h: Tensor) -> Distribution:
        return Sequences(self.decoder, h, validate_args=False)

    def nll(self, h: Tensor, x: Tensor) -> Tensor:
        return Sequences(self.decoder, h, validate_args=False).nll(x)

    def standardise(self, x: Tensor) -> Tensor:
        return x

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Begin with each code as frequent as it is in the data."""
        counts = torch.bincount(x.long().flatten(), minlength=self.levels + 1).double()
        counts[0] = (x == 0).any(1).sum()  # the ends, and not what lies behind them
        self.decoder.head.bias.copy_(torch.log(counts + 0.5) - torch.log((counts + 0.5).sum()))

    def check(self, x: Tensor) -> None:
        fine = _Coded(self.levels).check(x)
        if not fine.all():
            row = int((~fine).nonzero()[0, 0])
            raise ValueError(
                f"row {row} of the batch is no sequence of codes 1..{self.levels} with zeros from its end on: "
                "encode texts with the codec that the model was trained with"
            )
