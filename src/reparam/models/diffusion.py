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
from reparam.nn.denoiser import ConditionalNetwork
from reparam.nn.flow_ode import log_likelihood
from reparam.nn.noising import PREDICTIONS, VP, Denoise, as_denoiser
from reparam.nn.repaint import repaint
from reparam.nn.samplers import METHODS, chain, start
from reparam.noise import UNIFORM, Noise, Sobol, Source
from reparam.objectives.denoising import WEIGHTINGS, Bound, denoising, diffusion_bound
from reparam.training import Loss, Monitor

if TYPE_CHECKING:
    from reparam.data import Data, Values

__all__ = ["Config", "Diffusion", "Evaluation", "Sampling"]

Label = str | Sequence[str] | Tensor | None

# Images of more places than this get a coarser scale more, and fewer channels at the finest.
_SMALL = 400
# Times for each datum in validation, where one alone would make epochs hard to tell apart.
_VALIDATION_TIMES = 4


class Diffusion(nn.Module):
    """A diffusion model: a network that removes noise, and the chain of samples that makes data by it.

    With data x brought to zero mean and unit variance, the noisy datum at log-SNR l is

        z = alpha(l) x + sigma(l) eps,   eps ~ N(0, I),

    and the network is trained to estimate x from z, l and perhaps the label of x: the loss is the weighted squared error at times
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
    shift: Tensor
    scale: Tensor
    frequencies: Tensor

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
        if config.conditional is None:
            config = replace(config, conditional=bool(classes))
        self.config = config = _decided(config, tuple(shape))
        self.shape = torch.Size(shape)
        self.values, self.levels = values, 1 if values == "binary" else levels
        if values == "counts" and levels is None:
            raise BadInputError("values='counts' are 0..levels: give levels, or take values='real'")
        self.classes = tuple(map(str, classes or ())) if config.conditional else ()
        # Counts have a unit in common; each column of a table of reals has its own, and each channel of a signal or an image.
        grain = (shape[0], *(1 for _ in shape[1:])) if len(shape) > 1 or values == "real" else (1,)
        self.register_buffer("shift", torch.zeros(grain))
        self.register_buffer("scale", torch.ones(grain))
        self.register_buffer("frequencies", torch.full((len(self.classes),), 1 / max(1, len(self.classes))))
        widths = config.hidden if config.network == "mlp" else config.channels or ()
        self.network = ConditionalNetwork(
            str(config.network), self.shape, widths, classes=len(self.classes), dropout=config.dropout
        )
        self.training_schedule, self.schedule = SCHEDULES[config.schedule]
        self._prediction = PREDICTIONS[config.prediction]()
        self._values_seen = False

    @classmethod
    def for_data(cls, config: Config, data: Data) -> Diffusion:
        """A model for a data set: its shape, its scaling, and its labels unless `conditional` says otherwise.

        Pass the training rows only: the statistics become part of the model, and are saved with its weights.

        Raises:
            BadInputError: when the settings do not fit the data.
        """
        model = cls(config, data.shape, data.values, data.levels, data.classes)
        model.fit_scaling(data.x)
        if model.classes:
            counts = torch.bincount(data.places, minlength=len(model.classes))
            model.frequencies.copy_(counts / counts.sum())
        return model

    @classmethod
    def from_record(cls, config: Config, data: Mapping[str, Any]) -> Diffusion:
        """The model whose weights a run has, from what the run remembers of its data."""
        return cls(config, tuple(data["shape"]), data["values"], data["levels"], data["classes"])

    @torch.no_grad()
    def fit_scaling(self, x: Tensor) -> None:
        """Take from training data the mean and the standard deviation that make them of the order of one."""
        self._check(x, values=True)
        x = x.double().reshape(-1, 1) if self.shift.numel() == 1 else x.double()  # in double, because the sums run over all data
        std, mean = torch.std_mean(x, [0, *range(2, x.dim())], correction=0)
        self.shift.copy_(mean.reshape(self.shift.shape))
        self.scale.copy_(torch.where(std > 0, std, 1.0).reshape(self.scale.shape))  # a constant column keeps its unit

    def inputs(self, data: Data) -> Tensor | tuple[Tensor, Tensor]:
        """What `loss` and `evaluate` take of a data set: its data, for a conditional model with the places of their labels.

        Raises:
            BadInputError: for labels that the model does not know.
        """
        if not self.classes or data.classes is None:
            return data.x
        if data.classes == self.classes:
            return data.x, data.places
        return data.x, self.places(data.classes)[data.places]

    def places(self, names: Sequence[str]) -> Tensor:
        """The places of labels in `classes`, from their names.

        Raises:
            BadInputError: for a name that is not among them.
        """
        for name in names:
            if name not in self.classes:
                raise BadInputError(f"label {name!r} is none of those of this model: give one of {', '.join(self.classes)}")
        return torch.tensor([self.classes.index(name) for name in names], device=self.shift.device)

    # Training.

    def forward(self, batch: Tensor | tuple[Tensor, Tensor], source: Source | None = None) -> Loss:
        return self.loss(batch, source)

    def loss(self, batch: Tensor | tuple[Tensor, Tensor], source: Source | None = None) -> Loss:
        """The denoising loss of a batch: the weighted squared error of the estimate of x, at one time for each datum.

        In evaluation at several times for each datum, so that the validation loss tells epochs apart, and with all labels.

        Args:
            batch: data, N + shape; or data and the places of their labels in `classes`, N integers. Data without labels train
                a conditional model on the law of all data.
            source: of the times, the noise, and the labels that are hidden.

        Returns:
            `total`, to minimise, and the same as its part "loss": a mean over the batch, for each value of a datum. The
            network that says nothing has a loss of about 1 with the weighting "v".

        Raises:
            ValueError: for a batch of another shape; and, in evaluation and for the first batch, for values that are not the
                model's.
        """
        x, label = batch if isinstance(batch, tuple) else (batch, None)
        first = not (self.training and self._values_seen)
        self._check(x, values=first and not torch.compiler.is_compiling())
        self._values_seen = True
        x = self.standardise(x)
        if not self.training:
            x = x.repeat(_VALIDATION_TIMES, *(1 for _ in self.shape))
            label = None if label is None else label.repeat(_VALIDATION_TIMES)
        elif label is not None and self.config.label_dropout:
            hidden = Noise(UNIFORM, torch.Size(), device=x.device).draw(len(x), source=source) < self.config.label_dropout
            label = torch.where(hidden, len(self.classes), label)
        weighting, times = WEIGHTINGS[self.config.weighting], self._times(source)
        total = denoising(self.denoiser(label), x, self.training_schedule, weighting=weighting, times=times, source=source).mean()
        return Loss(total, {"loss": total.detach()})

    def _times(self, source: Source | None) -> Source | None:
        """The source of times: as seeded by the one of noise, so that a step is a function of it alone."""
        if self.config.times == "independent":
            return source
        u = Noise(UNIFORM, torch.Size(), torch.float64, self.shift.device).draw(1, source=source)
        return Sobol(seed=int(u.item() * 2**53))

    def standardise(self, x: Tensor) -> Tensor:
        """Data in the units of the model: of zero mean and unit variance over the training data."""
        return (x.to(self.shift.dtype) - self.shift) / self.scale

    def in_units(self, x: Tensor) -> Tensor:
        """Data in their own units, as reals: the inverse of `standardise`."""
        return self.shift + self.scale * x

    def denoiser(self, label: Tensor | None = None, guidance: float = 1.0) -> Denoise:
        """`denoise(z, log_snr)`: the estimate of standardised data from their noisy state, for data of these labels.

        Args:
            label: places in `classes`, (N,); None where the label is unknown.
            guidance: the estimate is `D + guidance (D_label - D)`, with the estimates of an unknown label D and of the label
                D_label: 1 is the plain one, 0 ignores the label, more exaggerates what sets the label apart.
        """
        if label is None or guidance == 1:
            return as_denoiser(lambda z, log_snr: self.network(z, log_snr, label), self._prediction, self.schedule)
        unknown = torch.full_like(label, len(self.classes))

        def both(z: Tensor, log_snr: Tensor) -> Tensor:
            n = len(z)
            out = self.network(torch.cat([z, z]), torch.cat([log_snr, log_snr]), torch.cat([unknown, label]))
            # What a network predicts and the estimate of x are affine in each other: guiding one guides the other.
            return torch.lerp(out[:n], out[n:], guidance)

        return as_denoiser(both, self._prediction, self.schedule)

    # Sampling.

    @torch.no_grad()
    def sample(
        self,
        n: int,
        source: Source | None = None,
        *,
        label: Label = None,
        guidance: float = 1.0,
        sampler: str = "ddim",
        steps: int = 50,
    ) -> Tensor:
        """`n` data from the model, in the units of the data: counts are whole numbers 0..levels.

        Args:
            n: how many.
            source: of the noise.
            label: the name of a class, n names, or n places in `classes`. By default each datum draws one, as often as the
                training data have it.
            guidance: as `denoiser` has it.
            sampler: ddpm, ddim or heun.
            steps: of the chain, each asks the network once; a step of heun twice.

        Raises:
            BadInputError: for options that the model cannot follow.
        """
        return self._rounded(self.rsample(n, source, label=label, guidance=guidance, sampler=sampler, steps=steps))

    def rsample(
        self,
        n: int,
        source: Source | None = None,
        *,
        label: Label = None,
        guidance: float = 1.0,
        sampler: str = "ddim",
        steps: int = 50,
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
        *_, last = self._chain(n, source, label, guidance, sampler, steps)
        return self.in_units(last)

    @torch.no_grad()
    def trajectory(self, n: int, source: Source | None = None, *, frames: int = 8, **options: Any) -> Tensor:
        """What the model makes of its noise on the way: frames x n + shape, the last of them the samples.

        Args:
            n: how many data.
            source: of the noise.
            frames: how many states are shown, of those of the chain, evenly.
            options: those of `sample`.
        """
        options = {"label": None, "guidance": 1.0, "sampler": "ddim", "steps": 50} | options
        states = list(self._chain(n, source, noisy=True, **options))
        shown = torch.linspace(0, len(states) - 1, min(frames, len(states))).round().long().tolist()
        return torch.stack([self.in_units(states[i]) for i in shown])

    def _chain(
        self,
        n: int,
        source: Source | None,
        label: Label,
        guidance: float,
        sampler: str,
        steps: int,
        noisy: bool = False,
    ) -> Iterator[Tensor]:
        """The estimates of the data at each step of a chain; or the states, at unit scale, and the estimate of the last one."""
        Sampling(None, guidance, sampler, steps)  # type: ignore[arg-type]
        place = self._place(n, label, guidance)
        if place is None and self.classes:
            u = Noise(UNIFORM, torch.Size(), torch.float64, self.shift.device).draw(n, source=source)
            place = torch.searchsorted(self.frequencies.double().cumsum(0), u).clamp(max=len(self.classes) - 1)
        z = start((n, *self.shape), self.schedule, source=source, dtype=self.shift.dtype, device=self.shift.device)
        states = chain(self.denoiser(place, guidance), z, self.schedule, method=METHODS[sampler], steps=steps, source=source)
        for i, state in enumerate(states):
            if noisy and i < steps - 1:
                yield state.z / torch.hypot(self.schedule.alpha(state.log_snr), self.schedule.sigma(state.log_snr))
            else:
                yield state.x

    def _place(self, n: int, label: Label, guidance: float = 1.0) -> Tensor | None:
        """Labels as places in `classes`, (n,); None where none was given."""
        if not self.classes and (label is not None or guidance != 1):
            option = f"label={label!r}" if label is not None else f"guidance={guidance:g}"
            raise BadInputError(
                f"{option}, and this model was trained without labels: leave it out, or train on data with labels, conditional=True"
            )
        if label is None:
            return None
        if isinstance(label, Tensor):
            if label.is_floating_point() or (label.numel() and not (label.min() >= 0 and label.max() < len(self.classes))):
                raise BadInputError(f"labels as a tensor are places in classes, whole numbers 0..{len(self.classes) - 1}")
            place = label.to(self.shift.device)
        else:
            place = self.places([label] * n if isinstance(label, str) else label)
        if place.shape != (n,):
            raise BadInputError(f"{tuple(place.shape)} labels were given for {n} data: give one name, or one label for each datum")
        return place

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
            mask: of the shape of x, true where a value is known: these come back as they are.
            source: of the noise.
            label: as `sample` has it; by default unknown.
            guidance: as `sample` has it, towards a label that is given.
            steps: of the chain.
            repeats: of each step: more bring what is drawn and what is known to agree better.

        Raises:
            ValueError: for another shape, and for values that are not the model's.
            BadInputError: for options that the model cannot follow.

        Source: Lugmayr et al., RePaint, arXiv:2201.09865.

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
        for name, value, least in (("steps", steps, 2), ("repeats", repeats, 1)):
            if value < least:
                raise BadInputError(f"{name} is {value}: give at least {least}")
        if mask.dtype != torch.bool or mask.shape != x.shape:
            raise ValueError(f"the mask is {mask.dtype} of shape {tuple(mask.shape)}: booleans of the shape of x are wanted")
        some = torch.where(mask, x, self._rounded(self.shift).to(x.device, x.dtype))
        self._check(some, values=True)
        place = self._place(len(x), label, guidance)
        z = repaint(
            self.denoiser(place, guidance),
            self.standardise(some),
            mask,
            self.schedule,
            steps=steps,
            repeats=repeats,
            source=source,
        )
        return torch.where(mask, x, self._rounded(self.in_units(z)).to(x.dtype))

    # How well the model explains data.

    def bound(self, x: Tensor, *, label: Tensor | None = None, k: int = 1, source: Source | None = None) -> Bound:
        """An upper bound on `-log p(x)` of each datum and its terms, (N,) in nats, in the units of the data; differentiable.

        For counts p(x) is a probability, for reals a density. The terms are those of the chain of infinitely many steps; their
        expectations are estimated from `k` noises for each datum.

        Args:
            x: data, N + shape.
            label: places in `classes`, (N,), for p(x | label).
            k: noises for each datum.
            source: of the times and the noise.

        Source: Kingma et al., arXiv:2107.00630.
        """
        self._check(x, values=True)
        lattice = None
        if self.levels is not None:
            counts = torch.arange(self.levels + 1, dtype=self.shift.dtype, device=self.shift.device)
            lattice = self.standardise(counts.reshape(-1, *(1 for _ in self.shape)))
        # Its expectation depends on the ends of a schedule alone, its variance is small where log-SNRs are even.
        high, low = self.schedule.log_snr(torch.tensor([0.0, 1.0], dtype=torch.float64)).tolist()
        even = VP("uniform", low=low, high=high)
        denoise = as_denoiser(lambda z, log_snr: self.network(z, log_snr, place), self._prediction, even)
        place = None if label is None else label.repeat(k)
        found = diffusion_bound(denoise, self.standardise(x), even, lattice=lattice, n=k, times=self._times(source), source=source)
        if lattice is not None:
            return found
        return found._replace(total=found.total + self._log_scale, reconstruction=found.reconstruction + self._log_scale)

    def log_prob(
        self, x: Tensor, *, label: Tensor | None = None, probes: int | None = None, source: Source | None = None
    ) -> Tensor:
        """The log-density of each datum, (N,) in nats and in the units of the data, by the probability-flow ODE; differentiable.

        Args:
            x: data, N + shape, of reals.
            label: places in `classes`, (N,), for log p(x | label).
            probes: random directions for an estimate of the trace of the ODE; by default it is exact for up to 16 values a datum.
            source: of the probes.

        Raises:
            BadInputError: for counts, which have no density; `bound` is for them.

        Source: Song et al., arXiv:2011.13456; Grathwohl et al., arXiv:1810.01367.
        """
        if self.levels is not None:
            raise BadInputError(f"log_prob is of reals, and this model is of {self.values}: use bound")
        self._check(x, values=True)
        z = self.standardise(x)
        return log_likelihood(self.denoiser(label), z, self.schedule, probes=probes, source=source) - self._log_scale

    def evaluate(
        self, inputs: Tensor | tuple[Tensor, Tensor], *, k: int, source: Source | None = None, batch_size: int = 128
    ) -> Evaluation:
        """What the model is worth on data: `inputs(data)`, with `k` noises for each datum."""
        return evaluate(self, inputs, k=k, source=source, batch_size=batch_size)

    @property
    def _log_scale(self) -> Tensor:
        return self.scale.log().expand(self.shape).sum()

    def _check(self, x: Tensor, *, values: bool = False) -> None:
        if x.dim() == 0 or x.shape[1:] != self.shape:
            raise ValueError(f"the batch has shape {tuple(x.shape)}: this model takes N x {' x '.join(map(str, self.shape))}")
        if x.is_complex():
            raise TypeError(f"the batch is {x.dtype}: give real numbers")
        if not values or not x.numel():
            return
        if not x.isfinite().all():
            raise ValueError("the batch has NaN or infinite values: drop or fill them (`reparam impute` fills by a trained model)")
        if self.levels is not None and not (x.min() >= 0 and x.max() <= self.levels and (x == x.round()).all()):
            wanted = "0 and 1" if self.levels == 1 else f"counts 0..{self.levels}"
            raise ValueError(
                f"the batch has values from {x.min():g} to {x.max():g}, this model is of {wanted}: give data in those units"
            )

    def _rounded(self, x: Tensor) -> Tensor:
        return x if self.levels is None else x.round().clamp(0, self.levels)

    def extra_repr(self) -> str:
        return f"shape={tuple(self.shape)}, values={self.values}, levels={self.levels}, classes={len(self.classes)}"


def _decided(config: Config, shape: tuple[int, ...]) -> Config:
    """With every choice made that a default leaves to the data."""
    network = config.network or ("mlp" if len(shape) == 1 else "unet")
    channels = config.channels
    if channels is None:
        places = shape[-1:] if network == "signal" or len(shape) == 1 else shape[1:]
        channels = (128, 128, 128) if network == "signal" else (32, 64) if math.prod(places) <= _SMALL else (16, 32, 64)
        channels = channels[: 1 + (max(places) - 1).bit_length()]
    return replace(config, network=network, channels=channels)
