"""The labels that a model is told: their names, their places, and how often they come."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from reparam.errors import BadInputError
from reparam.noise import UNIFORM, Noise, Source

__all__ = ["Label", "Labels"]

_REALS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

#: One name for all data, a name for each datum, their places, or None where no label is given.
Label = str | Sequence[str] | Tensor | None


class Labels(nn.Module):
    """The names of the classes of a conditional model, of which a datum has one; none for a model without.

    Args:
        names: of the classes, in the order of their places.

    Example:
        >>> import torch
        >>> labels = Labels(("cat", "dog"))
        >>> labels.fit(torch.tensor([0, 1, 1, 1]))
        >>> labels.places(["dog", "cat"]), labels.frequencies
        (tensor([1, 0]), tensor([0.2500, 0.7500]))
    """

    frequencies: Tensor

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(map(str, names))
        self.register_buffer("frequencies", torch.full((len(self.names),), 1 / max(1, len(self.names))))

    def __len__(self) -> int:
        return len(self.names)

    @torch.no_grad()
    def fit(self, places: Tensor) -> None:
        """Take from the places of the labels of training data how often each comes."""
        counts = torch.bincount(places, minlength=len(self))
        self.frequencies.copy_(counts / counts.sum())

    def places(self, names: Sequence[str]) -> Tensor:
        """The places of classes, from their names.

        Raises:
            BadInputError: for a name that is not among them.
        """
        for name in names:
            if name not in self.names:
                raise BadInputError(f"label {name!r} is none that this model knows: give one of {', '.join(self.names)}")
        return torch.tensor([self.names.index(name) for name in names], dtype=torch.int64, device=self.frequencies.device)

    def given(self, label: Label, n: int, guidance: float = 1.0) -> Tensor | None:
        """The places (n,) of what was given as the label of n data; None where none was. Guidance other than 1 wants classes.

        Raises:
            BadInputError: for labels that are not the model's, or another number of them.
        """
        if not len(self) and (label is not None or guidance != 1):
            what = f"guidance={guidance:g}" if label is None else "labels" if isinstance(label, Tensor) else f"label={label!r}"
            raise BadInputError(f"{what}, and this model was trained without labels: leave it out, or train on data with labels")
        if label is None:
            return None
        if isinstance(label, Tensor):
            if label.dtype in (torch.bool, *_REALS) or (label.numel() and not (label.min() >= 0 and label.max() < len(self))):
                raise BadInputError(f"labels as a tensor are places of classes, whole numbers 0..{len(self) - 1}")
            place = label.to(self.frequencies.device)
        elif isinstance(label, Sequence):
            place = self.places([label] * n if isinstance(label, str) else label)
        else:
            raise BadInputError(f"label={label!r}: give the name of a class, one of {', '.join(self.names)}")
        if place.shape != (n,):
            raise BadInputError(f"{tuple(place.shape)} labels were given for {n} data: give one name, or one label for each datum")
        return place

    def draw(self, n: int, source: Source | None = None) -> Tensor:
        """The places of n labels, drawn as often as they come in the training data."""
        u = Noise(UNIFORM, torch.Size(), torch.float64, self.frequencies.device).draw(n, source=source)
        ends = self.frequencies.double().cumsum(0)
        return torch.searchsorted(ends, u * ends[-1])

    def extra_repr(self) -> str:
        return f"{len(self)} classes"
