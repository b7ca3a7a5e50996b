"""What gives training its batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from reparam.training.config import Batch

__all__ = ["Stream"]


@runtime_checkable
class Stream(Protocol):
    """Where batches come from that are no rows of data, such as an environment in which the model acts.

    What it does is to be a function of the run's seed and of what it has done: `state` is all that it needs to go on.

    Attributes:
        batches: updates of the model that make an epoch.
    """

    batches: int

    def batch(self, model: nn.Module, epoch: int, number: int) -> Batch:
        """The batch of an update: its number in an epoch, both from 0. It may let the model act first."""
        ...

    def where(self) -> str:
        """Where the last batch came from, for the error that says that its loss was not finite."""
        ...

    def lived(self) -> dict[str, float]:
        """What happened in the epoch that ends now: columns `train/<name>` of the history."""
        ...

    def validate(self, model: nn.Module, names: Sequence[str]) -> dict[str, float]:
        """What the model is worth: columns `validation/<name>`, its monitor's among them; `names` are the parts of its loss."""
        ...

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Everything that it needs to go on: what JSON holds exactly, and tensors."""
        ...

    def restore(self, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Take up a state.

        Raises:
            ArtefactError: when it does not fit.
        """
        ...
