"""The words and the first picture of a page: how a sample is made of parameters and noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reparam.report import idea_acting
from reparam.report.drawing import arrow, back, box, circle, picture, small, words

__all__ = ["Idea", "idea"]

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
    """The idea of a model: that of a world, of a policy, of a graph, of laws of weights, of a chain, of a flow, or of latents."""
    noise = _SOURCES.get(training.get("noise", "fresh"), str(training.get("noise")))
    if hasattr(model, "open_loop"):
        return Idea(*idea_acting.world(model, noise))
    if hasattr(model, "act"):
        return Idea(*idea_acting.policy(model, noise))
    if hasattr(model, "plan"):
        return _graph(model, noise)
    if hasattr(model, "predict"):
        return _weights(model, noise)
    if hasattr(model, "trajectory"):
        return _chain(model, noise)
    return _flow(model, noise) if hasattr(model, "pull") else _latents(model, noise)


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
        box(2, 44, 122, 50, parameters, "encoder"),
        circle(63, 146),
        box(188, 58, 126, 54, sample, "the sample"),
        box(370, 58, 100, 54, "f(z)", "decoder, cost"),
        *map(arrow, ("M124 69C152 69 158 77 186 79", "M85 142C130 134 150 110 186 95", "M314 85H368")),
    ]
    if through:
        parts += [
            *map(back, ("M408 56C380 26 305 26 277 54", "M233 56C205 20 130 10 92 40")),
            small(342, 24, "∂f/∂z"),
            small(178, 16, "∂z/∂θ"),
        ]
    else:
        parts += [back("M418 56C380 14 150 6 96 40"), small(264, 16, "estimate of ∂E[f]/∂θ")]
    way = "through z " if through else ""
    described = (
        f"Parameters theta and noise epsilon enter z, which enters the cost f; the gradient flows back from the cost {way}to theta"
    )
    return Idea(text, picture(parts, described), f"In this run the noise is {noise}, and {how}.")


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
        circle(40, 112, ""),
        small(48, 156, "noise N(0, I)"),
        box(132, 86, 116, 52, "x = g(θ, ε)", "the sample"),
        box(132, 6, 116, 36, "θ", None),
        box(336, 86, 132, 52, cost, note),
        *map(arrow, ("M63 102C86 95 106 95 130 100", "M190 42V84", "M248 112H334")),
        '<path class="flow" stroke-dasharray="2 3" d="M132 126C108 131 86 131 65 124" marker-end="url(#head)"/>',
        small(97, 90, "g"),
        small(106, 141, "g⁻¹"),
        back("M402 84C396 30 320 18 252 22"),
        small(392, 34, "gradient"),
    ]
    described = "Noise epsilon and parameters theta enter x = g(theta, epsilon), whose density is exact because g can be inverted"
    return Idea(text, picture(parts, described), run)


def _chain(model: Any, noise: str) -> Idea:
    text = (
        "Noise is mixed into data, z = α x + σ ε, and a network D with parameters θ learns to say which x was there. Starting from "
        "noise alone, each step takes a little of it away: the next z is a weighted sum of z, D(θ, z) and fresh noise ε, a "
        "reparameterised sample. All steps together are one function of θ and of noise, and a gradient can flow back through it."
    )
    parts = []
    for i, (name, note) in enumerate((("z₁", "noise"), ("z₂", None), ("z₃", None), ("x", "sample"))):
        left = 4 + 122 * i
        parts.append(box(left, 54, 78, 46, name, note))
        if i:
            parts += [
                arrow(f"M{left - 44} 77H{left - 2}"),
                small(left - 22, 69, "D(θ)"),
                f'<circle class="noise" cx="{left - 22}" cy="142" r="15"/>' + words(left - 22, 147, "ε"),
                arrow(f"M{left - 16} 127C{left - 12} 112 {left - 8} 100 {left + 4} 102"),
                back(f"M{left + 30} 52C{left + 14} 28 {left - 58} 28 {left - 74} 52"),
            ]
    parts.append(small(236, 20, "the gradient, through every step"))
    times = getattr(model.config, "times", "independent")
    at = "spread evenly by Sobol points" if times == "sobol" else "drawn independently"
    run = f"In this run the noise is {noise}; the noise levels of a batch are {at}."
    return Idea(text, picture(parts, "From noise, step by step, to a sample; each step takes its own noise epsilon"), run)


def _weights(model: Any, noise: str) -> Idea:
    text = (
        "Each weight of the network is no number but a law: w = μ + σ · ε, with noise ε. Each draw of it is another network, "
        "and the gradient of its likelihood goes through the draw into μ and σ. Training weighs how well the networks fit against "
        "how far their law is from the prior. Where many networks fit, they differ, and the difference says what is not known."
    )
    how = {
        "local": "drawn as that of the outputs of each layer, fresh for each datum (local reparameterization)",
        "flipout": "one draw of the weights a batch, with random signs for each datum (flipout)",
        "weights": "one draw of all weights for each batch",
    }.get(model.config.method, str(model.config.method))
    parts = [
        box(2, 44, 110, 50, "μ, σ", "of each weight"),
        circle(57, 146),
        box(166, 58, 112, 54, "w = μ + σ · ε", "a network"),
        box(330, 58, 140, 54, "log p(y | f_w(x))", "how well it fits"),
        *map(arrow, ("M112 69C140 69 142 77 164 80", "M79 142C124 134 138 110 164 96", "M278 85H328")),
        *map(back, ("M400 56C372 26 270 26 226 54", "M206 56C180 20 120 12 84 40")),
    ]
    described = (
        "Means, standard deviations and noise make the weights of a network, whose likelihood has a gradient back through them"
    )
    return Idea(text, picture(parts, described), f"In this run the noise is {noise}, {how}.")


def _graph(model: Any, noise: str) -> Idea:
    text = (
        "Each variable has a law given its parents in the graph, and together these laws are one density p(x, z) of what is "
        "observed, x, and what is not, z. What can be said of z given x is its posterior. "
    )
    enumerated, guide = model.enumerated, model.guide
    if guide is None:
        text += "Here all that is latent takes few values: they are summed out, exactly, and no sample is drawn."
        run = f"In this run {', '.join(enumerated)} is summed out: no noise, and an exact gradient." if enumerated else (
            "In this run all variables that matter are observed: the likelihood and its gradient are exact."
        )  # fmt: skip
        cost = "log Σ p(x, z)" if enumerated else "log p(x)"
        parts = [
            box(2, 62, 120, 52, "θ", "of the laws"),
            box(176, 62, 124, 52, "p(x, z)" if enumerated else "p(x)", "along the graph"),
            box(352, 62, 118, 52, cost, "of data, exact"),
            *map(arrow, ("M122 88H174", "M300 88H350")),
            *map(back, ("M410 60C384 24 290 24 240 56", "M222 60C196 24 104 24 64 58")),
        ]
        return Idea(text, picture(parts, "Parameters of laws enter a density, whose gradient flows back to them"), run)
    text += (
        "A law q with parameters φ, the guide, is fitted to it: a sample z = g(φ, ε) of it is a function of noise ε, and the "
        "gradient of the cost, log q − log p, goes back through the sample into φ."
    )
    parts = [
        box(2, 44, 104, 50, "φ", "guide"),
        circle(54, 146),
        box(160, 58, 116, 54, "z = g(φ, ε)", "latents"),
        box(328, 58, 142, 54, "log q − log p", "along the graph"),
        *map(arrow, ("M106 69C136 69 138 77 158 80", "M76 142C120 134 132 110 158 96", "M276 85H326")),
        *map(back, ("M400 56C372 26 268 26 220 54", "M200 56C174 20 112 12 78 40")),
    ]
    draws = model.config.samples
    run = f"In this run the noise is {noise}, {draws} draw{'s' if draws > 1 else ''} a step"
    run += f"; {', '.join(enumerated)} is summed out exactly." if enumerated else "."
    described = (
        "Parameters phi and noise epsilon enter the latents z, which enter the cost; the gradient flows back through z to phi"
    )
    return Idea(text, picture(parts, described), run)
