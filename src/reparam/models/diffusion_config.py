"""What a diffusion model is made of, and how it samples."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from reparam.errors import BadInputError
from reparam.nn.denoiser import NETWORKS
from reparam.nn.noising import EDM, VP, Schedule
from reparam.nn.samplers import METHODS

__all__ = ["SCHEDULES", "Config", "Sampling"]

# Images of more pixels than this get a coarser scale more, and fewer channels at the finest.
_SMALL = 400

#: Schedules by name: that of the times to train at, and that of the steps to sample by.
SCHEDULES: dict[str, tuple[Schedule, Schedule]] = {
    "cosine": (VP("cosine"), VP("cosine")),
    "linear": (VP("linear"), VP("linear")),
    "uniform": (VP("uniform"), VP("uniform")),
    "edm": (EDM("lognormal"), EDM("rho")),
}


@dataclass(frozen=True)
class Config:
    """What a diffusion model is made of.

    Attributes:
        network: mlp for any data; unet for images; or signal, for vectors along which neighbours go together, and for images that
            do so along their width, such as spectrograms. By default unet for images, mlp for vectors.
        hidden: widths of the residual blocks of an mlp.
        channels: of the scales of a unet, from fine to coarse, each of half the size of the one before. By default 32 and 64, for
            images of more than 400 pixels 16, 32 and 64; of a signal 128 at each of three; as far as the size allows.
        dropout: share of the values inside a block that are set to zero in training.
        schedule: of the noise: cosine or linear, which keep the variance; uniform, whose log-SNR is linear in time, which with
            weighting eps is the variational bound; or edm, which lets the variance grow.
        prediction: what the network says: the noise (eps), the datum (x0), or the velocity between them (v, which for data of unit
            variance is the preconditioning of EDM as well).
        weighting: of the squared error: eps, x0 or v, each the plain error of what it names; or min_snr, that of eps with less
            weight where there is little noise.
        times: at which a batch is trained: sobol, spread evenly, or independent.
        conditional: learn the data of each label, for sampling by label and guidance; by default where the data have labels.
        label_dropout: share of the data whose label is hidden in training, from which the model learns the data of all labels.

    Raises:
        BadInputError: for a value out of range, naming the field.
    """

    network: Literal["mlp", "unet", "signal"] | None = None
    hidden: tuple[int, ...] = (256, 256, 256)
    channels: tuple[int, ...] | None = None
    dropout: float = 0.0
    schedule: Literal["cosine", "linear", "uniform", "edm"] = "cosine"
    prediction: Literal["eps", "x0", "v"] = "v"
    weighting: Literal["eps", "x0", "v", "min_snr"] = "v"
    times: Literal["sobol", "independent"] = "sobol"
    conditional: bool | None = None
    label_dropout: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))
        object.__setattr__(self, "channels", None if self.channels is None else tuple(self.channels))
        for name, known in _CHOICES.items():
            if (value := getattr(self, name)) not in known:
                raise BadInputError(f"{name}={value!r}: give one of {', '.join(str(choice) for choice in known)}")
        for name in ("hidden", "channels"):
            if (value := getattr(self, name)) is not None and min(value, default=0) < 1:
                raise BadInputError(f"{name}={value}: give at least one width, and positive ones")
        for name in ("dropout", "label_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise BadInputError(f"{name}={getattr(self, name)}: give a share from 0 to below 1")

    def decided(self, shape: tuple[int, ...], conditional: bool) -> Config:
        """With every choice made that a default leaves to the data, of that shape and with labels or without."""
        network = self.network or ("mlp" if len(shape) == 1 else "unet")
        channels = self.channels
        if channels is None:
            places = shape[-1:] if network == "signal" or len(shape) == 1 else shape[1:]
            channels = (128, 128, 128) if network == "signal" else (32, 64) if math.prod(places) <= _SMALL else (16, 32, 64)
            channels = channels[: 1 + (max(places) - 1).bit_length()]
        conditional = conditional if self.conditional is None else self.conditional
        return replace(self, network=network, channels=channels, conditional=conditional)


@dataclass(frozen=True)
class Sampling:
    """How a diffusion model samples.

    Attributes:
        label: the name of the class to sample; by default each datum draws one, as often as the training data have it.
        guidance: how much what sets the label apart counts: 1 is the plain model, more exaggerates it, 0 ignores the label.
        sampler: ddpm, which draws noise at each step; ddim, which draws none; or heun, of second order, which asks the network
            twice a step.
        steps: of the chain from noise to data.

    Raises:
        BadInputError: for a value out of range, naming the field.
    """

    label: str | None = None
    guidance: float = 1.0
    sampler: Literal["ddpm", "ddim", "heun"] = "ddpm"
    steps: int = 100

    def __post_init__(self) -> None:
        if self.sampler not in METHODS:
            raise BadInputError(f"sampler={self.sampler!r}: give one of {', '.join(METHODS)}")
        if not 0 <= self.guidance < math.inf:
            raise BadInputError(f"guidance={self.guidance}: give a finite number, at least 0")
        if not isinstance(self.steps, int) or isinstance(self.steps, bool) or self.steps < 1:
            raise BadInputError(f"steps={self.steps!r}: give a whole number, at least 1")


_CHOICES: dict[str, tuple[str | None, ...]] = {
    "network": (None, *NETWORKS),
    "schedule": tuple(SCHEDULES),
    "prediction": ("eps", "x0", "v"),
    "weighting": ("eps", "x0", "v", "min_snr"),
    "times": ("sobol", "independent"),
}
