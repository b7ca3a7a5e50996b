"""The idea of models that act, or that imagine what comes: words, picture, and what a run chose."""

from __future__ import annotations

from typing import Any

from reparam.report.drawing import arrow, back, box, circle, picture, small, words

__all__ = ["policy", "world"]

# How the gradient of a policy is taken, by the name of an estimator.
_GRADIENTS = {
    "pathwise": "the policy's gradient goes through the actions (pathwise)",
    "score": "the policy's gradient is the score function's",
    "score_learned": "the policy's gradient is the score function's, less a baseline that is learned",
    "leave_one_out": "the policy's gradient is the score function's, each action compared with the others drawn there",
    "measure_valued": "the policy's gradient is a difference of the costs of actions on either side (measure-valued)",
    "quadrature": "the policy's gradient is a sum over fixed actions (quadrature)",
}

_WAYS = {"pathwise": "that of their samples (pathwise)", "leave_one_out": "the score function's, with leave-one-out baselines"}


def policy(model: Any, noise: str) -> tuple[str, str, str]:
    """The idea of an agent: its words, its picture, and what this run chose."""
    return _through(model, noise) if hasattr(model, "critics") else _scored(model, noise)


def _through(model: Any, noise: str) -> tuple[str, str, str]:
    text = (
        "The policy is a law over actions: noise ε makes an action of what is seen, a = tanh(μ(s) + σ(s) · ε). Critics Q learn "
        "what an action is worth from all that was lived through. The gradient of that worth flows back through the action into μ "
        "and σ: towards better actions, while the price of entropy keeps the policy curious."
    )
    estimator = getattr(model.config, "estimator", "pathwise")
    through = estimator == "pathwise"
    parts = [
        box(2, 44, 112, 50, "μ(s), σ(s)", "the policy"),
        circle(58, 146),
        box(166, 58, 168, 54, "a = tanh(μ + σ · ε)", "an action"),
        box(386, 58, 84, 54, "Q(s, a)", "critics"),
        *map(arrow, ("M114 69C140 69 144 77 164 80", "M80 142C124 134 138 110 164 96", "M334 85H384")),
    ]
    if through:
        parts += [
            *map(back, ("M424 56C396 26 330 26 292 54", "M226 56C200 20 124 12 84 40")),
            small(358, 22, "∂Q/∂a"),
            small(170, 16, "∂a/∂μ, ∂a/∂σ"),
        ]
    else:
        parts += [back("M428 56C390 12 150 6 88 40"), small(262, 14, "estimate of ∂E[Q]/∂(μ, σ)")]
    described = (
        "What is seen gives mu and sigma, which with noise epsilon make an action; the gradient of its worth flows back to them"
    )
    return text, picture(parts, described), f"In this run the noise is {noise}, and {_GRADIENTS.get(estimator, estimator)}."


def _scored(model: Any, noise: str) -> tuple[str, str, str]:
    text = (
        "The policy π is a law over actions, and the world that answers them has no derivative. But the expected return has one: "
        "actions that did better than expected are made likelier, in proportion to A · ∇ log π(a | s), where the advantage A is "
        "the return that followed, less a baseline that takes variance out and leaves the mean alone."
    )
    config = model.config
    parts = [
        box(2, 48, 104, 50, "π(a | s)", "the policy"),
        circle(54, 146),
        box(158, 48, 84, 50, "a", "an action"),
        box(290, 48, 76, 50, "world", None),
        box(410, 48, 60, 50, "A", "return"),
        *map(arrow, ("M106 73H156", "M76 142C120 138 146 124 172 100", "M242 73H288", "M366 73H408")),
        arrow("M328 98C328 136 300 150 262 150H236"),
        small(196, 154, "next state s"),
        back("M440 46C404 4 130 4 62 44"),
        small(252, 34, "A · ∇ log π(a | s)"),
    ]
    objective = "clipped ratios (PPO)" if getattr(config, "objective", "") == "ppo" else "the plain score function (REINFORCE)"
    names = {
        "value": "a learned value function",
        "leave_one_out": "the mean of the other copies",
        "moving_average": "a moving average",
    }
    against = names.get(getattr(config, "baseline", ""), "nothing")
    run = f"In this run the objective is {objective}, and returns are compared with {against}; the noise is {noise}."
    return (
        text,
        picture(parts, "The policy draws an action, the world answers, and the score function makes good actions likelier"),
        run,
    )


def world(model: Any, noise: str) -> tuple[str, str, str]:
    """The idea of a world model, with an actor where it has one."""
    text = (
        "A state moves in steps: a memory h that is a function of what came before, and a latent z, drawn by noise ε. What is seen "
        "says which z it was (the posterior); the prior learns to expect it before it is seen. From then on the model can go on "
        "alone: imagined steps are samples that a gradient can flow back through. "
    )
    acts = getattr(model, "behaviour", None) is not None
    if acts:
        text += "That is how the actor learns: rewards r of imagined steps say, through the states and the actions, what to do."
    parts: list[str] = []
    for i in range(3):
        left = 8 + 160 * i
        parts += [
            box(left, 50, 112, 50, f"h{'₁₂₃'[i]}, z{'₁₂₃'[i]}", "state"),
            f'<circle class="noise" cx="{left + 18}" cy="146" r="15"/>' + words(left + 18, 151, "ε"),
            arrow(f"M{left + 22} 131V102"),
            arrow(f"M{left + 84} 100V132"),
            words(left + 84, 150, ("r" if acts else "x") + "₁₂₃"[i]),
        ]
        if i:
            parts += [
                arrow(f"M{left - 48} 75H{left - 2}"),
                back(f"M{left + 40} 48C{left + 20} 24 {left - 68} 24 {left - 88} 48"),
            ]
            if acts:
                parts.append(small(left - 24, 68, "a"))
    parts.append(small(236, 18, "the gradient, through every step"))
    config = model.config
    latent = {"gaussian": "normal", "normal": "normal", "categorical": "categorical"}.get(
        getattr(config, "latent", ""), "stochastic"
    )
    run = f"In this run latents are {latent}"
    if estimator := getattr(config, "estimator", None):
        run += f", whose gradient is {_WAYS.get(estimator, estimator.replace('_', '-'))}"
    run += f"; the noise is {noise}."
    described = "States follow each other; each takes its own noise epsilon, and the gradient flows back through all of them"
    return text, picture(parts, described), run
