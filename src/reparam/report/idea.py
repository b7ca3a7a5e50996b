"""The words and the first picture of a page: how a sample is made of parameters and noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reparam.report.chart import quoted

__all__ = ["Idea", "idea"]

_HEADS = (
    '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
    '<path d="M0 0 8 4 0 8z" fill="var(--ink)"/></marker>'
    '<marker id="back-head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path d="M0 0 8 4 0 8z" fill="var(--series-3)"/></marker>'
)
_SOURCES = {
    "fresh": "fresh random numbers",
    "antithetic": "random numbers in mirrored pairs (antithetic)",
    "sobol": "Sobol points, which fill space evenly",
}
_GRADIENTS = {
    "pathwise": "the gradient goes through the samples (pathwise)",
    "leave_one_out": "the gradient is the score function's, with leave-one-out baselines",
    "score": "the gradient is the score function's",
}


@dataclass(frozen=True)
class Idea:
    """What a person should know of the model before looking on.

    Attributes:
        text: the idea, in a few sentences.
        picture: its markup.
        run: what this run chose: where its noise comes from, and which way its gradient takes.
    """

    text: str
    picture: str
    run: str


def idea(model: Any, training: Mapping[str, Any]) -> Idea:
    """The idea of a model: that of a chain, of a flow, or of latents."""
    noise = _SOURCES.get(training.get("noise", "fresh"), str(training.get("noise")))
    if hasattr(model, "trajectory"):
        return _chain(model, noise)
    return _flow(model, noise) if hasattr(model, "law") else _latents(model, noise)


def _latents(model: Any, noise: str) -> Idea:
    config = model.config
    through = getattr(config, "latent", "normal") == "normal"
    if through:
        text = (
            "A sample drawn inside the model would stop the gradient. Here the noise ε is an input: the sample z is a "
            "differentiable function of the parameters θ, and the gradient of the cost flows back through it, into the encoder."
        )
        parameters, sample, how = "θ = μ(x), σ(x)", "z = μ + σ · ε", _GRADIENTS["pathwise"]
    else:
        kind, name = "coins" if config.latent == "bernoulli" else "choices", config.estimator or config.objective
        text = (
            f"A sample z of {kind} jumps as the parameters θ move: no derivative passes through it. Its expected cost has a "
            f"gradient all the same, of which an estimator, here {name}, makes an estimate from the costs of samples."
        )
        parameters, sample, how = "θ = logits(x)", f"{kind} z(θ, ε)", f"the gradient is an estimate by {name}"
    parts = [
        _box(2, 44, 122, 50, parameters, "encoder"),
        _noise(63, 146),
        _box(188, 58, 126, 54, sample, "the sample"),
        _box(370, 58, 100, 54, "f(z)", "decoder, cost"),
        *map(_arrow, ("M124 69C152 69 158 77 186 79", "M85 142C130 134 150 110 186 95", "M314 85H368")),
    ]
    if through:
        parts += [
            *map(_back, ("M408 56C380 26 305 26 277 54", "M233 56C205 20 130 10 92 40")),
            _small(342, 24, "∂f/∂z"),
            _small(178, 16, "∂z/∂θ"),
        ]
    else:
        parts += [_back("M418 56C380 14 150 6 96 40"), _small(264, 16, "estimate of ∂E[f]/∂θ")]
    way = "through z " if through else ""
    described = (
        f"Parameters theta and noise epsilon enter z, which enters the cost f; the gradient flows back from the cost {way}to theta"
    )
    return Idea(text, _picture(parts, described), f"In this run the noise is {noise}, and {how}.")


def _flow(model: Any, noise: str) -> Idea:
    target = model.config.target
    made = (
        "Noise ε goes through a function g that can be inverted: the sample x = g(θ, ε). So the density of x is known exactly, by "
    )
    made += "that of its noise ε = g⁻¹(θ, x) and by how much g stretches space there. "
    if target is None:
        text = made + "Training raises the density of data, so that noise comes out where data are."
        cost, note = "log p(x)", "of data, exact"
        run = "The likelihood of data has an exact gradient: no sample is drawn in training."
    else:
        text = made + (
            "No data are given here, only a density that is known up to a factor. Training brings the density of the samples near "
            "to it, and the gradient of their cost comes through the samples."
        )
        cost, note = "f(x) − log p(x)", "of samples"
        run = f"In this run the noise is {noise}, and {_GRADIENTS.get(model.config.estimator, model.config.estimator)}."
    parts = [
        _noise(40, 112, ""),
        _small(48, 156, "noise N(0, I)"),
        _box(132, 86, 116, 52, "x = g(θ, ε)", "the sample"),
        _box(132, 6, 116, 36, "θ", None),
        _box(336, 86, 132, 52, cost, note),
        *map(_arrow, ("M63 102C86 95 106 95 130 100", "M190 42V84", "M248 112H334")),
        '<path class="flow" stroke-dasharray="2 3" d="M132 126C108 131 86 131 65 124" marker-end="url(#head)"/>',
        _small(97, 90, "g"),
        _small(106, 141, "g⁻¹"),
        _back("M402 84C396 30 320 18 252 22"),
        _small(392, 34, "gradient"),
    ]
    described = "Noise epsilon and parameters theta enter x = g(theta, epsilon), whose density is exact because g can be inverted"
    return Idea(text, _picture(parts, described), run)


def _chain(model: Any, noise: str) -> Idea:
    text = (
        "Noise is mixed into data, z = α x + σ ε, and a network D with parameters θ learns to say which x was there. Starting from "
        "noise alone, each step takes a little of it away: the next z is a weighted sum of z, D(θ, z) and fresh noise ε, a "
        "reparameterised sample. All steps together are one function of θ and of noise, and a gradient can flow back through it."
    )
    parts = []
    for i, (name, note) in enumerate((("z₁", "noise"), ("z₂", None), ("z₃", None), ("x", "sample"))):
        left = 4 + 122 * i
        parts.append(_box(left, 54, 78, 46, name, note))
        if i:
            parts += [
                _arrow(f"M{left - 44} 77H{left - 2}"),
                _small(left - 22, 69, "D(θ)"),
                f'<circle class="noise" cx="{left - 22}" cy="142" r="15"/>' + _text(left - 22, 147, "ε"),
                _arrow(f"M{left - 16} 127C{left - 12} 112 {left - 8} 100 {left + 4} 102"),
                _back(f"M{left + 30} 52C{left + 14} 28 {left - 58} 28 {left - 74} 52"),
            ]
    parts.append(_small(236, 20, "the gradient, through every step"))
    times = getattr(model.config, "times", "independent")
    at = "spread evenly by Sobol points" if times == "sobol" else "drawn independently"
    run = f"In this run the noise is {noise}; the noise levels of a batch are {at}."
    return Idea(text, _picture(parts, "From noise, step by step, to a sample; each step takes its own noise epsilon"), run)


def _picture(parts: list[str], description: str) -> str:
    label = f'role="img" aria-label="{quoted(description)}"'
    return f'<svg class="idea" viewBox="0 0 472 176" {label}><defs>{_HEADS}</defs>{"".join(parts)}</svg>'


def _text(x: int, y: int, text: str) -> str:
    return f'<text x="{x}" y="{y}" text-anchor="middle">{quoted(text)}</text>'


def _small(x: int, y: int, text: str) -> str:
    return f'<text class="small" x="{x}" y="{y}" text-anchor="middle">{quoted(text)}</text>'


def _box(x: int, y: int, width: int, height: int, text: str, note: str | None) -> str:
    middle, centre = x + width // 2, y + height // 2
    texts = _text(middle, centre + 5, text) if note is None else _text(middle, centre - 3, text) + _small(middle, centre + 15, note)
    return f'<rect class="box" x="{x}" y="{y}" width="{width}" height="{height}" rx="10"/>{texts}'


def _noise(x: int, y: int, note: str = "noise") -> str:
    beside = f'<text class="small" x="{x + 31}" y="{y + 18}">{note}</text>' if note else ""
    return f'<circle class="noise" cx="{x}" cy="{y}" r="22"/>{_text(x, y + 5, "ε")}{beside}'


def _arrow(way: str) -> str:
    return f'<path class="flow" d="{way}" marker-end="url(#head)"/>'


def _back(way: str) -> str:
    return f'<path class="back" d="{way}" marker-end="url(#back-head)"/>'
