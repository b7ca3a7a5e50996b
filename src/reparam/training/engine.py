"""Where training computes: device, processes, precision, threads, and what happens when memory runs out."""

from __future__ import annotations

import atexit
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING

import torch

from reparam.errors import BadInputError, StorageError
from reparam.training.config import Training

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["accelerator", "leave", "memory", "threads"]


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

    A process group that it starts ends with the process, at the latest; see `leave`.

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
    alone = not _in_group()
    if torch.distributed.is_available():
        # Its functions have the group there is at this import as a default argument. Torch imports it for the first model shared
        # among processes, and those defaults would keep the group, and its threads, after its end: so import it before.
        import_module("torch.distributed.nn.functional")
    try:
        made = Accelerator(cpu=cpu, mixed_precision=config.precision)
    except ValueError as error:
        raise BadInputError(f"this process cannot train in precision {config.precision} on {config.device}: {error}") from error
    if alone and _in_group():
        atexit.register(leave)
    if (made.device.type == "cpu") != cpu:
        raise BadInputError(f"this process already trains on {made.device.type}: use another one for {config.device}")
    return made


def leave() -> None:
    """End this process's part in the process group, if it is in one: no process can train with others after that.

    The group's threads may hold the tensors of a collective that is over for a while. One that lets go of them after Python's end
    aborts the process; when nothing refers to the group any more, they are joined.
    """
    if _in_group():
        torch.distributed.destroy_process_group()


def _in_group() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
