"""Where training computes: device, processes, precision, threads, and what happens when memory runs out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from reparam.errors import BadInputError, StorageError
from reparam.training.config import Training

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["accelerator", "memory", "threads"]


@contextmanager
def threads(wanted: int | None) -> Iterator[None]:
    """Compute on that many threads, and on as many as before afterwards."""
    before = torch.get_num_threads()
    if wanted is not None:
        torch.set_num_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def memory(batch_size: int) -> Iterator[None]:
    """Turn running out of memory, on any device, into one line that says what to do.

    Raises:
        StorageError: in place of the allocator's error.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = str(error)
        if (
            isinstance(error, MemoryError | torch.OutOfMemoryError)
            or "can't allocate memory" in text
            or "not enough memory" in text
        ):
            raise StorageError(
                f"memory ran out at batch_size {batch_size}: give a smaller one (the last checkpoint is whole)"
            ) from error
        raise


def accelerator(config: Training) -> Accelerator:
    """The engine: device, processes and precision. It settles them once for a process.

    Raises:
        BadInputError: for a device or precision that this machine lacks, or that is not the one this process settled on.
    """
    from accelerate import Accelerator

    cuda = torch.cuda.is_available()
    if config.device == "cuda" and not cuda:
        raise BadInputError("device is cuda, and torch finds no GPU: give device cpu")
    cpu = config.device == "cpu" or not cuda
    if config.precision == "fp16" and cpu:
        raise BadInputError("precision is fp16, which needs a GPU: give bf16 or no")
    try:
        made = Accelerator(cpu=cpu, mixed_precision=config.precision)
    except ValueError as error:
        raise BadInputError(f"this process cannot train in precision {config.precision} on {config.device}: {error}") from error
    if (made.device.type == "cpu") != cpu:
        raise BadInputError(f"this process already trains on {made.device.type}: use another one for {config.device}")
    return made
