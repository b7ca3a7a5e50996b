"""Make any sampling step differentiable: move the randomness to the input.

    θ ──────────────┐
                    ▼
    ε ~ noise ──► path g ──► z = g(θ, ε) ──► f ──► cost ──► backward ──► ∇θ E[f(z)]

Names load on first use, so that the command line can answer before torch is in memory.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reparam.diagnostics import *  # noqa: F403
    from reparam.diagnostics import diagnose
    from reparam.estimators import *  # noqa: F403
    from reparam.estimators import Enumerate, LeaveOneOut, Pathwise, Score, choose, expect, graph
    from reparam.noise import Antithetic, Fresh, Noise, Replay, Sobol
    from reparam.objectives import *  # noqa: F403
    from reparam.objectives import elbo
    from reparam.paths import (
        NoPathError,
        Path,
        detached,
        implicit,
        noise_like,
        path,
        relaxed,
        reparameterized,
        rsample,
        sample,
        sample_and_log_prob,
    )

__version__ = "0.1.0"

# Every estimator and objective answers here; `__all__` has what one types in the first hour.
_HOMES = {
    "reparam.diagnostics": ("GradientMeter", "diagnose", "diagnose_losses", "noise_shares"),
    "reparam.estimators": (
        "ARM",
        "ARSM",
        "Choice",
        "DisARM",
        "Draw",
        "Enumerate",
        "Estimator",
        "GumbelRao",
        "GumbelSinkhorn",
        "GumbelSoftmax",
        "ImplicitMLE",
        "LAX",
        "LeaveOneOut",
        "MeasureValued",
        "MovingAverage",
        "MuProp",
        "Pathwise",
        "Plan",
        "Quadrature",
        "REBAR",
        "RELAX",
        "ReinMax",
        "SIMPLE",
        "Sampler",
        "Score",
        "StochasticTriple",
        "StraightThrough",
        "SumAndSample",
        "WithoutReplacement",
        "choose",
        "expect",
        "graph",
        "plan",
    ),
    "reparam.nn": ("bayesianize",),
    "reparam.noise": ("Antithetic", "Fresh", "Noise", "Replay", "Sobol"),
    "reparam.objectives": (
        "Wake",
        "analytic",
        "dreg",
        "elbo",
        "gae",
        "iwae",
        "ppo_clip",
        "ppo_value",
        "reinforce",
        "renyi",
        "sac_actor",
        "sac_critic",
        "sac_target",
        "sac_temperature",
        "sampled",
        "sleep_phase",
        "sticking",
        "stl",
        "vimco",
        "wake_phase",
    ),
    "reparam.paths": (
        "NoPathError",
        "Path",
        "detached",
        "implicit",
        "noise_like",
        "path",
        "relaxed",
        "reparameterized",
        "rsample",
        "sample",
        "sample_and_log_prob",
    ),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}
# rp.distributions.Logistic, without an import of its own.
_MODULES = ("diagnostics", "distributions", "estimators", "nn", "objectives", "testing")
# Names of other libraries and papers, plain, for messages only.
_HEARD = {
    "concrete": "GumbelSoftmax",
    "nvil": "Score",
    "reinforce": "Score, LeaveOneOut, or, for the policy gradient of an agent, reinforce",
    "rloo": "LeaveOneOut",
    "u2g": "DisARM",
}

__all__ = [
    "Antithetic",
    "Enumerate",
    "Fresh",
    "LeaveOneOut",
    "NoPathError",
    "Noise",
    "Path",
    "Pathwise",
    "Replay",
    "Score",
    "Sobol",
    "choose",
    "detached",
    "diagnose",
    "elbo",
    "expect",
    "graph",
    "implicit",
    "noise_like",
    "path",
    "relaxed",
    "reparameterized",
    "rsample",
    "sample",
    "sample_and_log_prob",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'reparam' has no attribute {name!r}{_meant(name)}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value  # the next look-up finds it without coming here
    return value


def _meant(name: str) -> str:
    """The end of a message about an unknown name: what was probably meant."""
    if name.startswith("_"):  # asked by Python and its tools, not by people
        return ""
    from difflib import get_close_matches

    plain = {known.replace("_", "").lower(): known for known in (*_MODULES, *_HOME)}
    word = name.replace("_", "").lower()
    near = _HEARD.get(word) or plain.get(next(iter(get_close_matches(word, plain, 1)), ""))
    return f": did you mean {near}?" if near else ""


def __dir__() -> list[str]:
    return sorted([*_HOME, *_MODULES, "__version__"])
