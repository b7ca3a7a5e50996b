"""Coins and choices as the largest of noisy scores, what softens them, and the noise that an outcome leaves open."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

from reparam.estimators.factors import Factors
from reparam.noise import EXPONENTIAL, Noise, Source
from reparam.paths import noise_like

__all__ = ["conditional_scores", "hardened", "noisy_scores", "softened"]


def noisy_scores(f: Factors, rows: int | tuple[int, ...], source: Source | None) -> Tensor:
    """Logits + noise, `rows + batch + inner`, and for choices + (K,): logistic noise for a coin, which is 1 where the score is
    positive; Gumbel noise for a choice, which is where the score is largest.

    Half precision is computed in float32.
    """
    logits = _wide(f.logits)
    eps = _noise(logits).draw(rows, source=source)
    return logits + _logistic(eps) if f.kind == "coins" else logits - eps.log()


def conditional_scores(f: Factors, index: Tensor, source: Source | None, k: int = 1) -> Tensor:
    """`k` draws of the scores given the outcomes `index`, of shape (k,) + that of `index`, and for choices + (K,).

    Differentiable in the logits at fixed outcome, as REBAR and RELAX need; `scores - logits` is the noise.

    Source: Maddison et al., "A* sampling", arXiv:1411.0030; Tucker et al., arXiv:1703.07370, appendix C.
    """
    logits = _wide(f.logits)
    eps = _noise(logits).draw((k, len(index)), source=source)
    if f.kind == "coins":
        # Above zero P(score > s) / P(score > 0) = v at s = log(1 + (1/v − 1)(1 + exp(logit))), and below it is the mirror image.
        side = torch.where(index > 0, 1.0, -1.0).to(logits.dtype)
        return side * softplus(_logistic(eps) + softplus(side * logits))
    # The largest score is a Gumbel variable, whatever the outcome; the others are Gumbel variables cut off there.
    log_p, log_eps = logits.log_softmax(-1), eps.log()
    chosen = index.unsqueeze(-1) == torch.arange(logits.shape[-1], device=index.device)
    top = torch.where(chosen, log_eps, 0.0).sum(-1, keepdim=True)
    rest = log_p - torch.logaddexp(log_eps, top + log_p)
    return torch.where(chosen, -top, rest)


def hardened(f: Factors, scores: Tensor) -> Tensor:
    """The outcome that the scores stand for."""
    return (scores > 0).to(scores.dtype) if f.kind == "coins" else scores.argmax(-1)


def softened(f: Factors, scores: Tensor, temperature: float | Tensor) -> Tensor:
    """The relaxed values, in the interior of the coins and of the simplex of choices; they tend to the outcome as it cools."""
    scores = scores / temperature
    return scores.sigmoid() if f.kind == "coins" else scores.softmax(-1)


def _wide(logits: Tensor) -> Tensor:
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def _noise(logits: Tensor) -> Noise:
    return noise_like(logits, EXPONENTIAL)


def _logistic(eps: Tensor) -> Tensor:
    return eps + torch.log(-torch.expm1(-eps))
