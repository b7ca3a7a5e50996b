"""Rows of data as what training goes through: shuffled for updates, in their order for validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from reparam.errors import BadInputError
from reparam.noise import Source
from reparam.training.config import Batch, Training, each, pick, rows_of
from reparam.training.randomness import data_order

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["Rows"]


class Rows:
    """The [`Stream`][reparam.training.Stream] of training and validation data, shared among processes.

    Args:
        train: the training data.
        validation: likewise.
        config: how to train.
        accelerator: whose device and share of the batches this process has.
        noise: of a validation batch, by its number.

    Raises:
        BadInputError: for settings that do not fit the data or the number of processes.
    """

    def __init__(
        self, train: Batch, validation: Batch, config: Training, accelerator: Accelerator, noise: Callable[[int], Source]
    ) -> None:
        self._config, self._accelerator, self._noise = config, accelerator, noise
        self._rank, self._world = accelerator.process_index, accelerator.num_processes
        self._rows = rows_of(train)
        self._batch_size = min(config.batch_size, self._rows)
        if not self._rows or not rows_of(validation):
            raise BadInputError(f"{self._rows} training and {rows_of(validation)} validation data: at least one of each is needed")
        if self._batch_size % self._world:
            raise BadInputError(f"batch_size {self._batch_size} does not divide among {self._world} processes: give a multiple")
        self.batches = config.passes * (self._rows // self._batch_size)
        self._train, self._validation = (each(lambda tensor: tensor.to(accelerator.device), data) for data in (train, validation))
        self._epoch: tuple[int, Sequence[Tensor]] = (-1, ())
        self._last = torch.empty(0, dtype=torch.long)

    def batch(self, model: nn.Module, epoch: int, number: int) -> Batch:
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self._shares(epoch))
        self._last = self._epoch[1][number]
        return pick(self._train, self._last)

    def _shares(self, epoch: int) -> Sequence[Tensor]:
        """The rows of each batch of an epoch that are this process's."""
        passes, whole = self._config.passes, self._rows - self._rows % self._batch_size
        orders = [data_order(self._config.seed, epoch * passes + i, self._rows)[:whole] for i in range(passes)]
        shape = (self.batches, self._world, self._batch_size // self._world)
        return torch.cat(orders).to(self._accelerator.device).view(shape)[:, self._rank].unbind()

    def where(self) -> str:
        some = ", ".join(map(str, self._last[:8].tolist())) + (", …" if len(self._last) > 8 else "")
        return f"rows {some} of the training data"

    def lived(self) -> dict[str, float]:
        return {}

    def validate(self, model: nn.Module, names: Sequence[str]) -> dict[str, float]:
        """The parts of the loss on the validation data, with the same noise after every epoch, however many processes share it."""
        device, rows = self._accelerator.device, rows_of(self._validation)
        sums = torch.zeros(len(names), dtype=torch.float64, device=device)
        for i, places in enumerate(torch.arange(rows, device=device).split(self._batch_size)):
            if i % self._world == self._rank:
                parts = model(pick(self._validation, places), self._noise(i)).parts
                sums += len(places) * torch.stack([parts[name] for name in names]).double()
        means: Tensor = self._accelerator.reduce(sums, "sum") / rows
        return dict(zip(names, means.tolist(), strict=True))

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        return {}, {}

    def restore(self, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Nothing: the order of the rows is a function of the epoch."""
