"""How well a latent-variable model explains texts, in bits per character, and whether it uses its latents at all."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from reparam.models.evaluation import Evaluation, nats

__all__ = ["COLLAPSED", "TextEvaluation", "of_texts"]

#: Nats a text; a posterior nearer to the prior tells the decoder nothing that one could read.
COLLAPSED = 0.1


@dataclass(frozen=True)
class TextEvaluation(Evaluation):
    """An [`Evaluation`][reparam.models.evaluation.Evaluation] of texts.

    Attributes:
        characters: of all texts; the end of each, where it has one, counts as one.
        bits_per_character: -log2 p(x) by importance sampling, over all texts and characters.
        elbo_bits_per_character: likewise from the evidence lower bound.
        collapsed: whether the KL is below 0.1 nats a text or no latent is active: the decoder does without the latents.
    """

    characters: int
    bits_per_character: float
    elbo_bits_per_character: float
    collapsed: bool

    def lines(self) -> list[str]:
        """For people, at a terminal."""
        bits = f"{self.bits_per_character:.3f}  (KL {self.kl:.2f} nats a text; from the ELBO {self.elbo_bits_per_character:.3f})"
        return [f"  bits/character  {bits}", *super().lines(), *([f"  {_WHY}"] if self.collapsed else [])]

    def tiles(self) -> list[tuple[str, str, str]]:
        """The headline numbers of a report: name, value, remark."""
        kl = ("KL", nats(self.kl), "collapsed: the latents are not used" if self.collapsed else "nats per text")
        others = [kl if tile[0] == "KL" else tile for tile in super().tiles()]
        return [("bits per character", f"{self.bits_per_character:.3f}", f"{self.importance_samples} importance samples"), *others]


_WHY = "collapsed: the decoder does without the latents; raise free_bits or word_dropout, or lower beta"


def of_texts(found: Evaluation, x: Tensor, characters: tuple[int, ...] | None = None) -> TextEvaluation:
    """An evaluation of texts x, N x L codes, with the number of characters that begin in each code (by default one).

    Warns when the latents are not used, with the word "collapsed".

    Example:
        >>> found = Evaluation(2, -7.0, -4.0, 3.0, 6.0, None, 100, 2, 4)
        >>> of_texts(found, torch.tensor([[1, 2, 0], [3, 0, 0]])).characters
        5
    """
    table = torch.tensor([0, *characters[1:]], device=x.device) if characters else (torch.arange(int(x.max()) + 1) > 0).to(x.device)
    count = int(table[x.long()].sum()) + int((x == 0).any(1).sum())
    bits = len(x) / (count * math.log(2))
    collapsed = found.kl < COLLAPSED or found.active_units == 0
    if collapsed:
        active = "" if found.active_units is None else f", {found.active_units} active latents"
        warnings.warn(f"{_WHY} (KL {found.kl:.3g} nats a text{active})", RuntimeWarning, stacklevel=3)
    known = {field.name: getattr(found, field.name) for field in fields(found)}
    return TextEvaluation(
        **known,
        characters=count,
        bits_per_character=found.nll * bits,
        elbo_bits_per_character=-found.elbo * bits,
        collapsed=collapsed,
    )
