"""What a model gives to training, and what a person sets about it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, NamedTuple, Protocol, get_args, get_type_hints

from torch import Tensor

from reparam.errors import BadInputError

__all__ = ["Loss", "Meter", "Training"]


class Loss(NamedTuple):
    """What a model's `loss(batch, source)` returns.

    Attributes:
        total: the scalar to minimise, averaged over the data of the batch.
        parts: what it is made of, for people to read: detached scalars, nats per datum, with `"elbo"` among them.
    """

    total: Tensor
    parts: dict[str, Tensor]


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
        epochs: passes over the training data.
        batch_size: data a step, over all processes together; an incomplete last batch is dropped.
        learning_rate: step size of Adam.
        weight_decay: decoupled weight decay of Adam.
        clip: largest Euclidean norm of the gradient; 0 leaves it alone.
        patience: epochs without a better validation ELBO before training stops; 0 never stops.
        seed: fixes the noise and the order of the data.
        checkpoint_every: epochs between checkpoints; an epoch with a better validation ELBO is saved too.
        keep: checkpoints kept, besides the best one.
        device: where to compute; auto takes a GPU where there is one.
        precision: number format of the forward pass.
        threads: CPU threads; by default as many as torch chooses.

    Raises:
        BadInputError: for a value out of range, naming the field.
    """

    epochs: int = 300
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    clip: float = 0.0
    patience: int = 20
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
            if f.name in ("device", "precision"):
                fine, wanted = value in choices, "one of " + ", ".join(choices)
            elif f.name in ("learning_rate", "weight_decay", "clip"):
                fine, wanted = 0.0 <= value < float("inf"), "a finite number, at least 0"
            elif f.name == "seed":
                fine, wanted = 0 <= value < 2**64, "a whole number from 0 to 2^64 - 1"
            else:
                least = 0 if f.name == "patience" else 1
                fine, wanted = (value is None and type(None) in choices) or value >= least, f"at least {least}"
            if not fine:
                raise BadInputError(f"{f.name} is {value!r}: give {wanted}")
