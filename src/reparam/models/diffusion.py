"""The diffusion model: data made from noise by removing it in small steps, each a reparameterised sample."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from reparam.errors import BadInputError
from reparam.models.diffusion_config import SCHEDULES, Config, Sampling
from reparam.models.diffusion_evaluation import Evaluation, evaluate
from reparam.models.model import refuse_tables
from reparam.nn.denoiser import ConditionalNetwork
from reparam.nn.flow_ode import log_likelihood
from reparam.nn.labels import Label, Labels
from reparam.nn.noising import PREDICTIONS, VP, Denoise, Schedule, as_denoiser, spread
from reparam.nn.repaint import repaint
from reparam.nn.samplers import METHODS, State, chain, start
from reparam.nn.units import Units
from reparam.noise import UNIFORM, Noise, Sobol, Source
from reparam.objectives.denoising import WEIGHTINGS, Bound, denoising, diffusion_bound
from reparam.training import Loss, Monitor

if TYPE_CHECKING:
    from reparam.data import Data, Values

__all__ = ["Config", "Diffusion", "Evaluation", "Sampling"]

_Options = Sampling  # inside the class, the name is that of its attribute

# The bound of counts leaves the last step to their lattice, from where so many deviations of the noise are one count.
_STEPS_OF_NOISE = 4.0
# Times for each datum in validation, where one alone would make epochs hard to tell apart.
_VALIDATION_TIMES = 4


class Diffusion(nn.Module):
    """A diffusion model: a network that removes noise, and the chain of samples that makes data by it.

    With data x brought to zero mean and unit variance, the noisy datum at log-SNR l is

        z = alpha(l) x + sigma(l) eps,   eps ~ N(0, I),

    and the network is trained to estimate x from z, l and perhaps the label of x: the loss is the weighted squared error, at times
    that are spread evenly over the batch. Batches and samples are in the units of the data, N + shape: 0 and 1, counts 0..levels,
    or reals.

    Args:
        config: the settings.
        shape: of one datum: (D,), (C, L) or (C, H, W).
        values: what the numbers are: binary, counts or real.
        levels: the largest count.
        classes: the names of the labels, for a model that is conditional on them.

    Raises:
        BadInputError: for settings that do not fit each other or the data.

    Source: Ho et al., arXiv:2006.11239; Kingma et al., arXiv:2107.00630; Karras et al., arXiv:2206.00364; guidance: Ho and
    Salimans, arXiv:2207.12598.

    Example:
        >>> import torch
        >>> from reparam.models.diffusion import Config, Diffusion
        >>> model = Diffusion(Config(hidden=(32, 32)), shape=(2,))
        >>> optimizer = torch.optim.Adam(model.parameters())
        >>> for x in torch.randn(10, 64, 2):
        ...     optimizer.zero_grad()
        ...     model.loss(x).total.backward()
        ...     optimizer.step()
        >>> model.sample(5, steps=10).shape
        torch.Size([5, 2])
    """

    monitor: ClassVar[Monitor] = Monitor("loss", "denoising loss", higher=False)
    Sampling: ClassVar[type[Sampling]] = Sampling

    def __init__(
        self,
        config: Config,
        shape: Sequence[int],
        values: Values = "real",
        levels: int | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        if values == "tokens":
            raise BadInputError("a diffusion model takes numbers, and the data are texts: use vae")
        if config.conditional and not classes:
            raise BadInputError("conditional=True, and the data have no labels: name their column or array (label=..., --label)")
        self.config = config = config.decided(tuple(shape), conditional=bool(classes))
        self.shape = torch.Size(shape)
        self.units = Units(shape, values, levels)
        self.labels = Labels(classes if config.conditional and classes else ())
        widths, kind = (config.hidden, "mlp") if config.network == "mlp" else (config.channels or (), str(config.network))
        self.network = ConditionalNetwork(kind, shape, widths, classes=len(self.labels), dropout=config.dropout)
        self.training_schedule, self.schedule = SCHEDULES[config.schedule]
        self._values_seen = False

    @classmethod
    def for_data(cls, config: Config, data: Data) -> Diffusion:
        """A model for a data set: its shape, its units, and its labels unless `conditional` says otherwise.

        Pass the training rows only: the statistics become part of the model, and are saved with its weights.

        Raises:
            BadInputError: when the settings do not fit the data.
        """
        refuse_tables(data)
        if config.network is None and data.codec is not None and data.codec.kind == "audio":
            config = replace(config, network="signal")
        model = cls(config, data.shape, data.values, data.levels, data.classes)
        model.units.fit(data.x)
        if model.classes:
            model.labels.fit(data.places)
        return model

    @classmethod
    def from_record(cls, config: Config, data: Mapping[str, Any]) -> Diffusion:
        """The model whose weights a run has, from what the run remembers of its data."""
        return cls(config, tuple(data["shape"]), data["values"], data["levels"], data["classes"])

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the labels that the model knows."""
        return self.labels.names

    def inputs(self, data: Data) -> Tensor | tuple[Tensor, Tensor]:
        """What `loss` and `evaluate` take of a data set: its data, for a conditional model with the places of their labels.

        Raises:
            BadInputError: for labels that the model does not know.
        """
        if not self.classes or data.classes is None:
            return data.x
        return data.x, self.labels.places(data.classes).to(data.x.device)[data.places]

    # Training.

    def forward(self, batch: Tensor | tuple[Tensor, Tensor], source: Source | None = None) -> Loss:
        return self.loss(batch, source)

    def loss(self, batch: Tensor | tuple[Tensor, Tensor], source: Source | None = None) -> Loss:
        """The denoising loss of a batch: the weighted squared error of the estimate of x, at one time for each datum.

        In evaluation it is at several times for each datum, so that the validation loss tells epochs apart, and no label is hidden.

        Args:
            batch: data, N + shape; or data and the places of their labels in `classes`, N integers. A conditional model takes data
                without labels as data whose labels are unknown.
            source: of the times, the noise, and the labels that are hidden.

        Returns:
            `total`, to minimise, and the same as its part "loss": a mean over the batch and over the values of a datum. With the
            weighting of what the network predicts it is about 1 before training.

        Raises:
            ValueError: for a batch of another shape; in evaluation and for the first batch, for values or labels of no such data.
        """
        x, label = batch if isinstance(batch, tuple) else (batch, None)
        first = not (self.training and self._values_seen)
        self.units.check(x, values=first and not torch.compiler.is_compiling())
        if label is not None and (first or len(label) != len(x)):
            label = self.labels.given(label, len(x))
        self._values_seen = True
        x = self.units.standardise(x)
        if not self.training:
            x = x.repeat(_VALIDATION_TIMES, *(1 for _ in self.shape))
            label = None if label is None else label.repeat(_VALIDATION_TIMES)
        elif label is not None and self.config.label_dropout:
            hidden = Noise(UNIFORM, torch.Size(), device=x.device).draw(len(x), source=source) < self.config.label_dropout
            label = torch.where(hidden, len(self.labels), label)
        denoise = self.denoiser(label, schedule=self.training_schedule)
        weighting, times = WEIGHTINGS[self.config.weighting], self._times(x.device, source)
        total = denoising(denoise, x, self.training_schedule, weighting=weighting, times=times, source=source).mean()
        return Loss(total, {"loss": total.detach()})

    def denoiser(self, label: Tensor | None = None, guidance: float = 1.0, schedule: Schedule | None = None) -> Denoise:
        """`denoise(z, log_snr)`: the estimate of standardised data from their noisy state, for data of these labels.

        Args:
            label: places in `classes`, (N,), where `len(classes)` stands for an unknown label; None when all are unknown.
            guidance: the estimate is `D + guidance (D_label - D)`, with the estimates of an unknown label D and of the label
                D_label: 1 is the plain one, 0 ignores the label, more exaggerates what sets the label apart.
            schedule: whose states it takes; by default that of sampling.

        Raises:
            BadInputError: when the estimate of an unknown label is wanted of a model trained with `label_dropout=0`.
        """
        if self.classes and not self.config.label_dropout and (label is None or guidance != 1):
            raise BadInputError(
                "this model was trained with label_dropout=0, so it knows no data of unknown label, which guidance and data "
                "without labels want: give labels and guidance 1, or train with a positive label_dropout"
            )
        prediction, schedule = PREDICTIONS[self.config.prediction](), schedule or self.schedule

        def guided(z: Tensor, log_snr: Tensor) -> Tensor:
            if label is None or guidance == 1:
                return self.network(z, log_snr, label)  # type: ignore[no-any-return]
            both = torch.cat([torch.full_like(label, len(self.labels)), label])
            out = self.network(torch.cat([z, z]), torch.cat([log_snr, log_snr]), both)
            # What a network predicts and the estimate of x are affine in each other: to guide one is to guide the other.
            plain, told = out.chunk(2)
            return torch.lerp(plain, told, guidance)

        return as_denoiser(guided, prediction, schedule)

    def _times(self, device: torch.device, source: Source | None) -> Source | None:
        """The source of times: points of low discrepancy are seeded by the noise, so that a step is a function of that alone."""
        if self.config.times == "independent":
            return source
        u = Noise(UNIFORM, torch.Size(), torch.float64, device).draw(1, source=source)
        return Sobol(seed=int(u.item() * 2**53))

    # Sampling.

    @torch.no_grad()
    def sample(
        self,
        n: int,
        source: Source | None = None,
        *,
        label: Label = None,
        guidance: float = 1.0,
        sampler: str = "ddpm",
        steps: int = 100,
    ) -> Tensor:
        """`n` data from the model, in the units of the data: counts are whole numbers 0..levels.

        Args:
            n: how many.
            source: of the noise.
            label: the name of a class, n names, or n places in `classes`. By default each datum draws one, as often as it comes in
                the training data.
            guidance: as `denoiser` has it.
            sampler: ddpm, ddim or heun.
            steps: of the chain; each asks the network once, of heun twice.

        Raises:
            BadInputError: for options that the model cannot follow.
        """
        return self.units.rounded(self.rsample(n, source, label=label, guidance=guidance, sampler=sampler, steps=steps))

    def rsample(
        self,
        n: int,
        source: Source | None = None,
        *,
        label: Label = None,
        guidance: float = 1.0,
        sampler: str = "ddpm",
        steps: int = 100,
    ) -> Tensor:
        """As `sample`, differentiable in the parameters through all steps of the chain; counts are not rounded.

        The whole chain is a function of parameter-free noise, so that `reward(model.rsample(n)).mean()` can be maximised.

        Example:
            >>> import torch
            >>> from reparam.models.diffusion import Config, Diffusion
            >>> model = Diffusion(Config(hidden=(8,)), shape=(2,))
            >>> model.rsample(4, steps=5).square().mean().backward()
            >>> all(p.grad is not None for p in model.parameters())
            True
        """
        *_, last = self._chain(n, source, label, Sampling(None, guidance, sampler, steps))  # type: ignore[arg-type]
        return self.units.restore(last.x)

    @torch.no_grad()
    def trajectory(self, n: int, source: Source | None = None, *, frames: int = 8, label: Label = None, **options: Any) -> Tensor:
        """What the model makes of its noise on the way: frames x n + shape, in the units of the data, the last of them samples.

        Args:
            n: how many data.
            source: of the noise.
            frames: how many of the states of the chain are shown, evenly.
            label: as `sample` has it.
            options: the other ones of `sample`.
        """
        if not isinstance(frames, int) or frames < 1:
            raise BadInputError(f"frames={frames!r}: give a whole number, at least 1")
        *states, last = self._chain(n, source, label, Sampling(**options))
        noisy = [state.z / spread(self.schedule, state.log_snr) for state in states]
        shown = torch.linspace(len(states), 0, min(frames, len(states) + 1)).round().long().flip(0).tolist()
        return torch.stack([self.units.restore([*noisy, last.x][i]) for i in shown])

    def _chain(self, n: int, source: Source | None, label: Label, options: _Options) -> Iterator[State]:
        if not isinstance(n, int) or n < 0:
            raise BadInputError(f"n={n!r}: give how many data as a whole number")
        place = self.labels.given(label, n, options.guidance)
        if place is None and self.classes:
            place = self.labels.draw(n, source)
        shift, denoise = self.units.shift, self.denoiser(place, options.guidance)
        z = start((n, *self.shape), self.schedule, source=source, dtype=shift.dtype, device=shift.device)
        return chain(denoise, z, self.schedule, method=METHODS[options.sampler], steps=options.steps, source=source)

    @torch.no_grad()
    def impute(
        self,
        x: Tensor,
        mask: Tensor,
        source: Source | None = None,
        *,
        label: Label = None,
        guidance: float = 1.0,
        steps: int = 50,
        repeats: int = 10,
    ) -> Tensor:
        """Data with what is missing filled in, about as it goes with what is known: one draw for each datum.

        Args:
            x: N + shape, in the units of the data; values are looked at only where `mask` is true.
            mask: of the shape of x, true where a value is known: these come back as they are, integers of reals as reals.
            source: of the noise.
            label: as `sample` has it; by default unknown.
            guidance: as `denoiser` has it, towards a label that is given.
            steps: of the chain, at least 2.
            repeats: of each step: more bring what is drawn and what is known to agree; 10 lean to what goes without it, as
                [`repaint`][reparam.nn.repaint.repaint] says in numbers.

        Raises:
            ValueError: for another shape, and for values that are not the model's.
            BadInputError: for options that the model cannot follow.

        Example:
            >>> import torch
            >>> from reparam.models.diffusion import Config, Diffusion
            >>> model = Diffusion(Config(hidden=(8,)), shape=(3,))
            >>> x = torch.tensor([[1.0, torch.nan, 2.0]])
            >>> filled = model.impute(x, ~x.isnan(), steps=5)
            >>> filled[0, [0, 2]].tolist(), filled.isfinite().all().item()
            ([1.0, 2.0], True)
        """
        Sampling(None, guidance, "ddpm", steps)
        if mask.dtype != torch.bool or mask.shape != x.shape:
            raise ValueError(f"the mask is {mask.dtype} of shape {tuple(mask.shape)}: booleans of the shape of x are wanted")
        known = torch.where(mask, x, 0)
        self.units.check(known, values=True)
        denoise, z = self.denoiser(self.labels.given(label, len(x), guidance), guidance), self.units.standardise(known)
        z = repaint(denoise, z, mask, self.schedule, steps=steps, repeats=repeats, source=source)
        made = self.units.rounded(self.units.restore(z))
        return torch.where(mask, x, made.to(x.dtype) if self.units.levels or x.is_floating_point() else made)

    # How well the model explains data.

    def bound(self, x: Tensor, *, label: Label = None, k: int = 1, source: Source | None = None) -> Bound:
        """An upper bound on `-log p(x)` of each datum and its terms, (N,) in nats, in the units of the data; differentiable.

        For counts p(x) is a probability, for reals a density. The terms are those of a chain of infinitely many steps; their
        expectations are estimated from `k` times and noises for each datum.

        Args:
            x: data, N + shape.
            label: as `sample` has it, for p(x | label); by default unknown.
            k: times and noises for each datum.
            source: of these.

        Source: Kingma et al., arXiv:2107.00630.
        """
        self.units.check(x, values=True)
        place = self.labels.given(label, len(x))
        high, low = self.schedule.log_snr(torch.tensor([0.0, 1.0], dtype=torch.float64)).tolist()
        if (lattice := self.units.lattice) is not None:  # the network need not know counts apart: the last step does
            high = min(high, 2 * math.log(_STEPS_OF_NOISE * self.units.scale.max().item()))
        # The expectation depends on the ends of the schedule alone, and its estimate varies least where log-SNRs are even.
        even = VP("uniform", low=low, high=high)
        denoise = self.denoiser(None if place is None else place.repeat(k), schedule=even)
        z, times = self.units.standardise(x), self._times(x.device, source)
        found = diffusion_bound(denoise, z, even, lattice=lattice, n=k, times=times, source=source)
        if lattice is not None:
            return found
        more = self.units.log_scale
        return found._replace(total=found.total + more, reconstruction=found.reconstruction + more)

    def log_prob(self, x: Tensor, *, label: Label = None, probes: int | None = None, source: Source | None = None) -> Tensor:
        """The log-density of each datum, (N,) in nats and in the units of the data, by the probability-flow ODE; differentiable.

        Args:
            x: data, N + shape, of reals.
            label: as `sample` has it, for log p(x | label); by default unknown.
            probes: random directions for an estimate of the trace of the ODE; by default it is exact for up to 16 values a datum.
            source: of the probes.

        Raises:
            BadInputError: for counts, which have no density; `bound` is for them.

        Source: Song et al., arXiv:2011.13456; Grathwohl et al., arXiv:1810.01367.
        """
        if self.units.levels is not None:
            raise BadInputError(f"log_prob is of reals, and this model is of counts 0..{self.units.levels}: use bound")
        self.units.check(x, values=True)
        denoise, z = self.denoiser(self.labels.given(label, len(x))), self.units.standardise(x)
        return log_likelihood(denoise, z, self.schedule, probes=probes, source=source) - self.units.log_scale

    def evaluate(
        self, inputs: Tensor | tuple[Tensor, Tensor], *, k: int, source: Source | None = None, batch_size: int = 128
    ) -> Evaluation:
        """What the model is worth on data: `inputs(data)`, with `k` times and noises for each datum."""
        return evaluate(self, inputs, k=k, source=source, batch_size=batch_size)
