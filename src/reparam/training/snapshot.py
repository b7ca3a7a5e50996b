"""Between live training objects and a checkpoint: everything a run is, taken out and put back."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from reparam.errors import ArtefactError
from reparam.training.average import QUANTITY, Average
from reparam.training.checkpoint import Checkpoint, check_match
from reparam.training.run import install

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["State", "restore", "take"]


@dataclass
class State:
    """Where a run is.

    Attributes:
        step: updates made.
        epoch: epochs finished.
        batch: batches done of the epoch that is not.
        sums: what the parts of the loss add up to over those batches, on each process.
        seconds: time spent training.
        best: step, epoch and value of the best validation score; None before there is one.
        history: one row an epoch.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    sums: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0
    best: dict[str, Any] | None = None
    history: list[dict[str, Any]] = field(default_factory=list)


def _environment(accelerator: Accelerator) -> dict[str, Any]:
    return {
        "threads": torch.get_num_threads(),
        "processes": accelerator.num_processes,
        "device": accelerator.device.type,
        "torch": str(torch.__version__),
    }


def _names(model: nn.Module) -> list[str]:
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def _random(device: torch.device) -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def take(
    state: State,
    model: nn.Module,
    optimizer: Optimizer,
    accelerator: Accelerator,
    average: Average,
    stream: tuple[dict[str, Any], dict[str, Tensor]],
) -> Checkpoint:
    """The checkpoint of this moment. Every process must call it: each has random states of its own."""
    names = _names(model)
    quantities = {
        f"{quantity}/{names[index]}": tensor
        for index, entry in optimizer.state_dict()["state"].items()
        for quantity, tensor in entry.items()
    } | average.quantities()
    random = {
        f"{kind}/{rank}": row
        for kind, own in _random(accelerator.device).items()
        for rank, row in enumerate(accelerator.gather(own.to(accelerator.device)[None]).cpu())
    }
    scaler = accelerator.scaler.state_dict() if accelerator.scaler is not None else None
    record = {**asdict(state), "environment": _environment(accelerator), "scaler": scaler}
    facts, experience = stream
    if facts:
        record["stream"] = facts
    return Checkpoint(record, model.state_dict(), quantities, random, experience)


def restore(what: str, checkpoint: Checkpoint, model: nn.Module, optimizer: Optimizer, accelerator: Accelerator) -> State:
    """Put a checkpoint back, having checked all of it against the live objects first.

    Warns when the threads, processes, device or torch version differ: then the run goes on, though not bit for bit.

    Raises:
        ArtefactError: for weights, optimiser or random states that do not fit.
    """
    record = dict(checkpoint.state)
    before, scaler = record.pop("environment", {}), record.pop("scaler", None)
    record.pop("stream", None)  # whoever gave the batches takes that up
    try:
        state = State(**record)
    except TypeError as error:
        raise ArtefactError(f"{what} lacks what a checkpoint has: {error}") from error
    if state.best and "elbo" in state.best:  # as versions called it that monitored nothing else
        state.best["value"] = state.best.pop("elbo")
    now = _environment(accelerator)
    if changed := [f"{name} {before[name]} then, {now[name]} now" for name in now if before.get(name) != now[name]]:
        warnings.warn(
            f"{what} was made otherwise ({', '.join(changed)}): the run goes on, but not bit for bit as if it had not stopped",
            stacklevel=3,
        )
    packed = _optimizer_state(what, checkpoint.optimizer, model)
    random = _random_states(what, checkpoint.random, accelerator) if before.get("processes") == now["processes"] else {}

    install(what, checkpoint, model)
    optimizer.load_state_dict({"state": packed, "param_groups": optimizer.state_dict()["param_groups"]})
    if accelerator.scaler is not None and scaler is not None:
        accelerator.scaler.load_state_dict(scaler)
    if "cpu" in random:
        torch.set_rng_state(random["cpu"])
    if "cuda" in random:
        torch.cuda.set_rng_state(random["cuda"], accelerator.device)
    return state


def _optimizer_state(what: str, came: dict[str, Tensor], model: nn.Module) -> dict[int, dict[str, Tensor]]:
    """The tensors by parameter index. A parameter that never had a gradient has none; any other must have the right shape."""
    parameters = dict(model.named_parameters())
    held = {key.partition("/")[2] for key in came}
    wanted = {
        f"{quantity}/{name}": torch.zeros(()) if quantity == "step" else parameters[name]
        for quantity in sorted({key.partition("/")[0] for key in came})
        for name in _names(model)
        if name in held
    }
    check_match(f"the optimiser state of {what}", came, wanted)
    packed: dict[int, dict[str, Tensor]] = {}
    index = {name: i for i, name in enumerate(_names(model))}
    for key, tensor in came.items():
        quantity, _, name = key.partition("/")
        if quantity == QUANTITY:
            continue
        packed.setdefault(index[name], {})[quantity] = tensor
    return packed


def _random_states(what: str, came: dict[str, Tensor], accelerator: Accelerator) -> dict[str, Tensor]:
    own = {}
    for kind, wanted in _random(accelerator.device).items():
        tensor = came.get(f"{kind}/{accelerator.process_index}")
        if tensor is None and kind != "cpu":
            continue  # made on another kind of device, of which the caller has warned
        if tensor is None or tensor.shape != wanted.shape or tensor.dtype != wanted.dtype:
            size = "missing" if tensor is None else f"{tensor.numel()} bytes"
            raise ArtefactError(f"{what}: its {kind} random state is {size}, {wanted.numel()} bytes were wanted: restart the run")
        own[kind] = tensor
    return own
