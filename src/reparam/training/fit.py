"""The training loop: Adam on a model's loss, with noise and data order that are pure functions of the run's seed."""

from __future__ import annotations

import math
import time
import warnings
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

import torch
from torch import Tensor, nn

from reparam.errors import BadInputError, DivergedError, Interrupted
from reparam.noise import Source
from reparam.training import engine
from reparam.training.average import Average
from reparam.training.config import ELBO, Batch, Loss, Meter, Monitor, Training
from reparam.training.progress import Progress, flags
from reparam.training.randomness import source_of, stream_seed
from reparam.training.rows import Rows
from reparam.training.run import Run
from reparam.training.signals import Signals
from reparam.training.snapshot import State, restore, take
from reparam.training.stream import Stream

__all__ = ["Result", "fit"]

Status = Literal["finished", "stopped early", "already finished"]


@dataclass(frozen=True)
class Result:
    """How training ended.

    Attributes:
        status: all epochs done; no better validation score for `patience` epochs; or nothing was left to do.
        epochs: epochs done, in all.
        best: the best validation score, what the model's monitor says; by default the ELBO, in nats per datum.
        history: one row an epoch, as `Run.history` gives them.
    """

    status: Status
    epochs: int
    best: float
    history: list[dict[str, Any]]


def fit(
    model: nn.Module,
    train: Batch | Stream,
    validation: Batch | None,
    config: Training,
    run: Run,
    *,
    progress: bool = True,
    meter: Meter | None = None,
) -> Result:
    """Train a model in a run directory, from its last checkpoint if it has one.

    The noise of step t on process r is a function of (seed, t, r), the order of the data one of (seed, epoch): a run that was
    stopped and taken up again ends in the same bits as one that was not, on the same device with the same number of threads
    and processes. Torch's own generators are left alone; for models that use them (dropout) their states are saved and restored,
    and with several processes the caller seeds each differently.

    Several processes come from `torchrun --nproc-per-node 2`, or `accelerate launch --multi_gpu --num_processes 2` (on CPUs
    too, with `device="cpu"`: without MPI, that launcher's `--cpu` starts a single process). The process group that they make here
    ends when the process does; one that the caller made is the caller's to end.

    A step whose loss or gradient is not finite makes no update: the state before it is saved and training stops. SIGINT and
    SIGTERM finish the step, save, and raise; a second signal raises at once.

    Args:
        model: a module whose `forward(batch, source)` returns a `Loss`; changed in place, it ends with the last weights
            (`run.load_weights(model)` gives the best). Its attribute `monitor`, a [`Monitor`][reparam.training.Monitor], says which
            part of the loss decides what is best; without one, the part "elbo". Epochs while its attribute `settled` is false, such
            as those of an annealed loss, do not count as best, nor against `patience`. After each update its method `after_step` is
            called, where it has one.
        train: data, N + shape, in the model's units; or a tuple of tensors of N rows each, which come to the model as a tuple; or a
            [`Stream`][reparam.training.Stream] of batches, which one process alone can have.
        validation: likewise; evaluated after each epoch with the same noise each time. None for a stream, which validates itself.
        config: how.
        run: from `Run.create`.
        progress: whether to show a bar or lines on standard error.
        meter: sees the gradient of each step, before it is clipped; its ratios become columns `snr/<group>` of the history. It
            begins anew when a run is taken up again.

    Raises:
        BadInputError: for settings that do not fit the data, the device or the number of processes.
        DivergedError: when the loss or the gradient is not finite.
        ArtefactError: when the last checkpoint cannot be used.
        StorageError: when a checkpoint cannot be written or memory runs out.
        Interrupted: on SIGINT or SIGTERM.
    """
    with engine.threads(config.threads), engine.memory(config.batch_size), Signals() as signals:
        loop = _Loop(model, train, validation, config, run, signals, meter)
        try:
            return loop.run_to_the_end(progress)
        finally:  # a traceback keeps the loop, which would keep the process group from ending
            del loop.prepared, loop.accelerator


class _Loop:
    def __init__(
        self,
        model: nn.Module,
        train: Batch | Stream,
        validation: Batch | None,
        config: Training,
        run: Run,
        signals: Signals,
        meter: Meter | None,
    ) -> None:
        self.accelerator = accelerator = engine.accelerator(config)
        self.rank, self.world = accelerator.process_index, accelerator.num_processes
        self.config, self.run, self.signals, self.meter = config, run, signals, meter
        self.monitor: Monitor = getattr(model, "monitor", ELBO)
        self.device = accelerator.device
        self.stream = self.stream_of(train, validation)
        self.batches = self.stream.batches

        self.model = model
        self.prepared = accelerator.prepare_model(model, device_placement=True)  # or it imports half of torch.distributed to decide
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        fused = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in self.parameters)
        self.adam = torch.optim.AdamW(
            self.parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=fused or None
        )
        # The engine's wrapper looks up modules and signatures at each step; only loss scaling needs it.
        self.optimizer = self.adam if accelerator.scaler is None else accelerator.prepare_optimizer(self.adam)

        named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        self.average = Average(named, config.ema)
        self.after_step = getattr(model, "after_step", None)
        self.state, self.saved_step = State(), -1
        accelerator.wait_for_everyone()
        if (checkpoint := run.read("last")) is not None:
            self.state = restore(f"the last checkpoint of {run.path}", checkpoint, model, self.adam, accelerator)
            self.average.restore(checkpoint.optimizer)
            self.stream.restore(checkpoint.state.get("stream", {}), checkpoint.experience)
            self.saved_step = self.state.step
        accelerator.wait_for_everyone()  # nobody writes while another still reads
        self.sums = self.restored_sums()
        self.since = time.monotonic() - self.state.seconds

    def stream_of(self, train: Batch | Stream, validation: Batch | None) -> Stream:
        if isinstance(train, Stream):
            if self.world > 1:
                raise BadInputError(
                    f"what is driven by an environment trains in one process, and {self.world} were launched: start it without a "
                    "launcher"
                )
            if self.config.passes > 1:
                raise BadInputError(f"passes is {self.config.passes}, over rows of data, and there are none: leave it out")
            return train
        if validation is None:
            raise BadInputError("validation is None: only a stream of batches validates itself, give validation data")
        return Rows(train, validation, self.config, self.accelerator, lambda number: self.noise("validation", number))

    def restored_sums(self) -> Tensor:
        """What this process had added up of an unfinished epoch; its share, when there were as many processes as now."""
        if not self.state.sums:
            return torch.zeros(0, dtype=torch.float64, device=self.device)
        sums = torch.tensor([*self.state.sums.values()], dtype=torch.float64, device=self.device)
        same = sums.shape[1] == self.world
        return sums[:, self.rank] if same else sums.mean(1)

    def run_to_the_end(self, progress: bool) -> Result:
        state = self.state
        if self.rank == 0 and state.history:
            self.run.write_history(state.history)
        done = self.finished()
        if done is None:
            with self.progress(progress) as shown:
                while done is None:
                    self.epoch(shown)
                    done = self.finished()
        else:
            done = "already finished"
        self.accelerator.wait_for_everyone()
        return Result(done, state.epoch, state.best["value"] if state.best else self.monitor.worst, state.history)

    def progress(self, wanted: bool) -> Progress:
        on, epochs = wanted and self.rank == 0, self.config.epochs
        return Progress(on=on, epochs=epochs, steps=self.batches, done=self.state.step, monitor=self.monitor)

    def noise(self, stream: str, counter: int) -> Source:
        """The noise of one step: a pure function of the seed, whatever was drawn before."""
        return source_of(self.config.noise, stream_seed(self.config.seed, stream, counter), self.device)

    def finished(self) -> Status | None:
        state, config = self.state, self.config
        if state.epoch >= config.epochs:
            return "finished"
        last = state.best["epoch"] if state.best else 0
        tired = config.patience and state.epoch - last >= config.patience and self.settled()
        return "stopped early" if tired else None

    def settled(self) -> bool:
        """Whether the model is trained by its whole loss, so that its epochs compare; one that anneals its loss says."""
        return bool(getattr(self.model, "settled", True))

    def epoch(self, shown: Progress) -> None:
        state = self.state
        self.prepared.train()
        while state.batch < self.batches:
            stop = self.step(self.stream.batch(self.model, state.epoch, state.batch))
            shown.step(state.step)
            if stop and state.batch < self.batches:
                self.interrupt(stop)
        self.end_epoch(shown)
        if stop := self.agreed_signal():
            self.interrupt(stop)

    def step(self, batch: Batch) -> int:
        """One update; returns the signal that asks all processes to stop, or 0."""
        state = self.state
        self.set_learning_rate()
        loss: Loss = self.prepared(batch, self.noise("noise", state.step * self.world + self.rank))
        if self.accelerator.scaler is None:
            loss.total.backward()  # the engine would divide by 1 first, and back through that
        else:
            self.accelerator.backward(loss.total)
        norm = self.gradient_norm()
        health, stop = loss.total.detach() + norm, self.signals.received or 0
        if self.world > 1:  # all stop at the same step, for whichever reason one of them has
            health, asked = self.accelerator.reduce(torch.stack([health, health.new_tensor(stop)]), "sum").unbind()
            stop = int(asked) and (self.signals.received or 2)
        if not math.isfinite(health.item()) and not self.scaled_overflow(loss):
            self.diverged(loss)
        if self.meter is not None:
            self.meter.update()
        if self.config.clip:  # after the check: a norm that is not finite would spoil every gradient, and hide the one that was
            nn.utils.clip_grads_with_norm_(self.parameters, self.config.clip, norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.average.update(state.step + 1)
        if self.after_step is not None:
            self.after_step()
        parts = torch.stack(list(loss.parts.values()))
        if state.batch == 0:
            if self.monitor.part not in loss.parts and isinstance(self.stream, Rows):
                raise BadInputError(
                    f"the model's loss has the parts {', '.join(loss.parts)}: one of them must be {self.monitor.part}, that of its "
                    "monitor"
                )
            state.sums = {name: [0.0] for name in loss.parts}
            self.sums = torch.zeros_like(parts, dtype=torch.float64)
        self.sums += parts
        state.step += 1
        state.batch += 1
        return stop

    def set_learning_rate(self) -> None:
        """That of this step, a function of its number: a run that is taken up again needs no more."""
        config, step = self.config, self.state.step
        if config.warm_up or config.learning_rate_schedule == "cosine":
            rate = config.learning_rate * min(1.0, (step + 1) / max(1, config.warm_up))
            if config.learning_rate_schedule == "cosine":
                rate *= 0.5 * (1 + math.cos(math.pi * step / (config.epochs * self.batches)))
            for group in self.adam.param_groups:
                group["lr"] = rate

    def gradient_norm(self) -> Tensor:
        self.accelerator.unscale_gradients()
        # What nn.utils.get_total_norm does after sorting by device and dtype, which costs as much as the norm of a small model.
        norms = torch._foreach_norm([p.grad for p in self.parameters if p.grad is not None])
        norm: Tensor = torch.linalg.vector_norm(torch.stack(norms))
        return norm

    def scaled_overflow(self, loss: Loss) -> bool:
        """Whether only the gradient overflowed, by the factor of loss scaling, which then skips the step and is lowered."""
        scaler = self.accelerator.scaler
        return scaler is not None and math.isfinite(loss.total.item()) and scaler.get_scale() >= 1.0

    def diverged(self, loss: Loss) -> NoReturn:
        named = [(f"the {name} of the loss", part) for name, part in loss.parts.items()] + [("the loss", loss.total)]
        named += [(f"the gradient of {name}", p.grad) for name, p in self.model.named_parameters() if p.grad is not None]
        bad = next((name for name, tensor in named if not torch.isfinite(tensor).all()), "the loss of another process")
        if self.spoiled() is None:
            self.save()
        advice = (
            f"step {self.saved_step} is saved: lower learning_rate or set clip, and force (--force) it to go on from there"
            if self.state.epoch
            else "no epoch was done: lower learning_rate or set clip, look at the range of the data, and begin anew (--restart)"
        )
        raise DivergedError(
            f"{bad} is not finite at step {self.state.step + 1} (epoch {self.state.epoch + 1}, {self.stream.where()}), "
            f"which was not made; {advice}"
        )

    def spoiled(self) -> str | None:
        """The first parameter that is not finite, or buffer that is NaN (infinity may be meant there, in a mask)."""
        bad = [name for name, tensor in self.model.named_parameters() if not torch.isfinite(tensor).all()]
        return next(iter(bad + [name for name, tensor in self.model.named_buffers() if torch.isnan(tensor).any()]), None)

    def end_epoch(self, shown: Progress) -> None:
        state, config = self.state, self.config
        train = self.accelerator.reduce(self.sums, "mean") / state.batch
        validation = self.evaluate()
        state.epoch, state.batch = state.epoch + 1, 0
        row: dict[str, Any] = {"epoch": state.epoch, "step": state.step, "seconds": time.monotonic() - self.since}
        row |= {f"train/{name}": value for name, value in zip(state.sums, train.tolist(), strict=True)}
        row |= {f"train/{name}": value for name, value in self.stream.lived().items()}
        row |= {f"validation/{name}": value for name, value in validation.items()}
        if self.meter is not None:
            row |= {f"snr/{name}": value for name, value in self.meter.snr().items()}
        before = set(flags(state.history, self.monitor)) if state.history else set()
        state.history.append(row)
        value = validation[self.monitor.part]
        comparable = self.settled() or state.epoch >= config.epochs
        if improved := comparable and self.monitor.better(value, state.best["value"] if state.best else self.monitor.worst):
            state.best = {"step": state.step, "epoch": state.epoch, "value": value}
        if improved or state.epoch % config.checkpoint_every == 0 or self.finished():
            self.save()
        if self.rank == 0:
            self.run.write_history(state.history)
            shown.epoch(row, state.step)
            for flag in flags(state.history, self.monitor):
                if flag not in before:
                    warnings.warn(f"epoch {state.epoch}: {flag}", RuntimeWarning, stacklevel=5)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        model = self.accelerator.unwrap_model(self.prepared)
        model.eval()
        with self.average.in_place():
            return self.stream.validate(model, [*self.state.sums])

    def save(self) -> None:
        state = self.state
        if self.saved_step == state.step:
            return
        if name := self.spoiled():
            raise DivergedError(
                f"{name} is not finite after step {state.step}, which was not saved: lower learning_rate, and force it to go on "
                "from the checkpoint before"
            )
        state.seconds = time.monotonic() - self.since
        shares = self.accelerator.gather(self.sums[None]).T.tolist()
        state.sums = dict(zip(state.sums, shares, strict=True))
        checkpoint = take(state, self.model, self.adam, self.accelerator, self.average, self.stream.state())
        if self.rank == 0:
            self.run.save(checkpoint, self.config.keep)
        self.saved_step = state.step

    def agreed_signal(self) -> int:
        """The signal that any process received, or 0."""
        own = torch.tensor(self.signals.received or 0, device=self.accelerator.device)
        return int(self.accelerator.gather(own[None]).max())

    def interrupt(self, signal: int) -> NoReturn:
        self.save()
        state = self.state
        epoch = min(state.epoch + 1, self.config.epochs)
        raise Interrupted(f"stopped and saved at step {state.step}, in epoch {epoch}: the same command goes on from there", signal)
