"""What a model gives to training, and what a person sets about it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Literal, NamedTuple, Protocol, get_args, get_origin, get_type_hints

from torch import Tensor

from reparam.errors import BadInputError

__all__ = ["ELBO", "Batch", "Loss", "Meter", "Monitor", "Training", "each", "pick", "rows_of"]

#: What a model's `loss` takes: data N + shape, or a tuple of tensors of N rows each, such as data and labels.
Batch = Tensor | tuple[Tensor, ...]


def each(do: Callable[[Tensor], Tensor], batch: Batch) -> Batch:
    """The batch with every tensor of it changed."""
    return do(batch) if isinstance(batch, Tensor) else tuple(map(do, batch))


def pick(batch: Batch, rows: Tensor) -> Batch:
    """The rows of a batch that have these numbers."""
    return each(lambda tensor: tensor.index_select(0, rows), batch)


def rows_of(batch: Batch) -> int:
    """How many rows a batch has.

    Raises:
        BadInputError: when its tensors do not agree.
    """
    sizes = [len(batch)] if isinstance(batch, Tensor) else [len(tensor) for tensor in batch]
    if len(set(sizes)) != 1:
        raise BadInputError(f"the tensors of a batch have {', '.join(map(str, sizes))} rows: equally many are wanted")
    return sizes[0]


class Loss(NamedTuple):
    """What a model's `loss(batch, source)` returns.

    Attributes:
        total: the scalar to minimise, averaged over the data of the batch.
        parts: what it is made of, for people to read: detached scalars, nats per datum, with that of the model's
            [`Monitor`][reparam.training.Monitor] among them.
    """

    total: Tensor
    parts: dict[str, Tensor]


class Monitor(NamedTuple):
    """What tells which epoch is the best: a model's attribute `monitor`, where it is not the evidence lower bound.

    Attributes:
        part: the part of the loss whose mean over the validation data is compared.
        words: what people call it.
        higher: whether more of it is better.
    """

    part: str
    words: str
    higher: bool = True

    def better(self, value: float, than: float) -> bool:
        """Whether a value is finite and better than another."""
        return math.isfinite(value) and (value > than if self.higher else value < than)

    @property
    def worst(self) -> float:
        """What every value is better than."""
        return -math.inf if self.higher else math.inf


ELBO = Monitor("elbo", "ELBO")


class Meter(Protocol):
    """What looks at the gradients of each step, such as a [`GradientMeter`][reparam.diagnostics.GradientMeter]."""

    def update(self) -> None:
        """Take in the gradients that lie in the parameters' `grad`."""
        ...

    def snr(self) -> dict[str, float]:
        """Signal to noise by group."""
        ...


@dataclass(frozen=True)
class Training:
    """How to train.

    Attributes:
        epochs: how many; after each one the model is looked at with the validation data.
        passes: over the training data, that make an epoch: more than one where the data are few.
        batch_size: data a step, over all processes together; an incomplete last batch is dropped.
        learning_rate: step size of Adam.
        weight_decay: decoupled weight decay of Adam.
        clip: largest Euclidean norm of the gradient; 0 leaves it alone.
        learning_rate_schedule: cosine takes the learning rate down to 0 at the last epoch.
        warm_up: first steps, over which the learning rate rises from 0.
        ema: decay of a moving average of the weights, which validation and the saved model then use, such as 0.999; 0 takes the
            weights themselves. The decay of step t is at most (1 + t) / (10 + t), so that the first weights are forgotten.
        patience: epochs without a better validation score before training stops; 0 never stops.
        noise: the source of the model's noise: fresh; antithetic, in mirrored pairs; sobol, points of low discrepancy. The last two
            act among the samples of one draw.
        seed: fixes the noise and the order of the data.
        checkpoint_every: epochs between checkpoints; an epoch with a better validation score is saved too.
        keep: checkpoints kept, besides the best one.
        device: where to compute; auto takes a GPU where there is one.
        precision: number format of the forward pass.
        threads: CPU threads; by default as many as torch chooses.

    Raises:
        BadInputError: for a value out of range, naming the field.
    """

    epochs: int = 300
    passes: int = 1
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    clip: float = 0.0
    learning_rate_schedule: Literal["constant", "cosine"] = "constant"
    warm_up: int = 0
    ema: float = 0.0
    patience: int = 20
    noise: Literal["fresh", "antithetic", "sobol"] = "fresh"
    seed: int = 0
    checkpoint_every: int = 1
    keep: int = 2
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["no", "bf16", "fp16"] = "no"
    threads: int | None = None

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for f in fields(self):
            value, choices = getattr(self, f.name), get_args(hints[f.name])
            if get_origin(hints[f.name]) is Literal:
                fine, wanted = value in choices, "one of " + ", ".join(choices)
            elif f.name == "ema":
                fine, wanted = 0.0 <= value < 1.0, "a number from 0 to below 1"
            elif f.name in ("learning_rate", "weight_decay", "clip"):
                fine, wanted = 0.0 <= value < float("inf"), "a finite number, at least 0"
            elif f.name == "seed":
                fine, wanted = 0 <= value < 2**64, "a whole number from 0 to 2^64 - 1"
            else:
                least = 0 if f.name in ("patience", "warm_up") else 1
                fine, wanted = (value is None and type(None) in choices) or value >= least, f"at least {least}"
            if not fine:
                raise BadInputError(f"{f.name} is {value!r}: give {wanted}")
