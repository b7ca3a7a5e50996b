"""From the name of an environment to the environment: what gymnasium says on the way becomes one line."""

from __future__ import annotations

import difflib
import inspect
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces as gym
from gymnasium.spaces.utils import flatten_space
from gymnasium.wrappers import TimeLimit

from reparam.environments.spaces import Spaces
from reparam.errors import BadInputError
from reparam.named import find

__all__ = ["EnvironmentWarning", "make", "spaces_of", "title_of"]

_VERSION = re.compile(r"-v\d+$")


class EnvironmentWarning(UserWarning):
    """The environment can be used, and something about it looks unintended."""


def title_of(name: str | Callable[..., Any]) -> str:
    """What messages call an environment."""
    if isinstance(name, partial):
        return title_of(name.func)
    return name if isinstance(name, str) else getattr(name, "__name__", type(name).__name__)


def make(name: str | Callable[..., Any], *, limit: int | None = None, render: bool = False) -> Any:
    """The environment of a name.

    Args:
        name: what gymnasium calls it, such as `Pendulum-v1` (`module:Name-v0` imports the module first), `MODULE:FUNCTION` for a
            function that returns a `gymnasium.Env`, or that function.
        limit: steps after which an episode is cut short, in place of the limit that gymnasium has for that name.
        render: whether `frames` are wanted. A function of the user's own gets `render_mode="rgb_array"` if it takes that.

    Raises:
        BadInputError: when there is no such environment, when it lacks something, or when the function fails or returns
            something else.
    """
    title = title_of(name)
    mode = {"render_mode": "rgb_array"} if render else {}
    if render:
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # it would greet on standard output, where results go
        if sys.platform == "linux" and not os.environ.keys() & {"DISPLAY", "WAYLAND_DISPLAY"}:
            os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # it would complain on standard error that there is no screen
    if isinstance(name, str) and (":" not in name or _VERSION.search(name)):
        with _plainly(title):
            made = _registered(name, title, {"max_episode_steps": limit, "disable_env_checker": True, **mode})
    else:
        function = find(name) if isinstance(name, str) else name
        with _plainly(title):
            made = _own(function, title, mode)
        made = made if limit is None else TimeLimit(made, limit)
    if render and made.render_mode != "rgb_array":
        raise BadInputError(
            f"{title} shows no pictures: its render_mode is {made.render_mode!r} and 'rgb_array' is wanted"
            + (": let the function take render_mode and pass it on" if made.spec is None else "")
        )
    return made


def _registered(name: str, title: str, options: dict[str, Any]) -> Any:
    error = gymnasium.error
    if not _VERSION.search(name):
        versions = [known for known in gymnasium.registry if _VERSION.sub("", known) == name]
        if versions:
            raise BadInputError(f"{title} names no version, and what an environment does changes with it: say {versions[-1]}")
    try:
        return gymnasium.make(name, **options)
    except error.DependencyNotInstalled as missing:
        raise BadInputError(f"{title} needs what is not installed: {missing}") from missing
    except ModuleNotFoundError as missing:
        # gymnasium's own error of that kind names no module, and repeats itself in its next sentences.
        what = f"the module {missing.name}" if missing.name else str(missing).split(".")[0]
        raise BadInputError(f"{title} needs what is not installed: {what}") from missing
    except (error.DeprecatedEnv, error.VersionNotFound) as old:
        raise BadInputError(f"{title} is not there: {old}") from old
    except (error.UnregisteredEnv, error.Error) as unknown:
        known = [other for other in gymnasium.registry if "/" in name or "/" not in other]
        near = difflib.get_close_matches(name, known, n=2)
        raise BadInputError(
            f"there is no environment {title}{': did you mean ' + ' or '.join(near) + '?' if near else ''} "
            "(gymnasium's names, or MODULE:FUNCTION for one of your own; a package that brings its own is named in front, "
            "as in ale_py:ALE/Pong-v5)"
        ) from unknown
    except Exception as failure:  # whatever the environment does
        raise BadInputError(f"{title} cannot be made: {type(failure).__name__}: {failure}") from failure


def _own(function: Callable[..., Any], title: str, mode: dict[str, str]) -> Any:
    try:
        takes = inspect.signature(function).parameters
        if "render_mode" not in takes and not any(p.kind is p.VAR_KEYWORD for p in takes.values()):
            mode = {}
    except (TypeError, ValueError):  # no signature to look at
        mode = {}
    try:
        made = function(**mode)
    except Exception as failure:  # whatever the user's code does
        raise BadInputError(f"{title} fails with {type(failure).__name__}: {failure}") from failure
    if not isinstance(made, gymnasium.Env):
        vector = ", for one environment: copies of it are made here" if isinstance(made, gymnasium.vector.VectorEnv) else ""
        raise BadInputError(f"{title} returned {type(made).__name__}; it must return a gymnasium.Env{vector}")
    return made


@contextmanager
def _plainly(title: str) -> Iterator[None]:
    """What gymnasium warns of, as warnings of ours, in one line and without its colours."""
    with warnings.catch_warnings(record=True) as came:
        warnings.simplefilter("always")
        yield
    for warning in came:
        text = " ".join(re.sub(r"\x1b\[\d+m", "", str(warning.message)).split())
        if text.startswith("WARN: "):
            warnings.warn(f"{title}: {text.removeprefix('WARN: ')}", EnvironmentWarning, stacklevel=4)
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def spaces_of(environment: Any, title: str) -> tuple[Spaces, Any]:
    """Its spaces, and the gymnasium space of its observations when those are to be flattened, else None.

    Raises:
        BadInputError: for spaces that no agent here can deal with.
    """
    seen, does = environment.observation_space, environment.action_space
    flat = None
    if not isinstance(seen, gym.Box | gym.MultiBinary):
        if not isinstance(seen, gym.Discrete | gym.MultiDiscrete | gym.Dict | gym.Tuple) or not seen.is_np_flattenable:
            raise BadInputError(
                f"{title} shows {seen}; agents here take Box, MultiBinary, Discrete, MultiDiscrete, and Dict or Tuple of those: "
                "wrap it in gymnasium.wrappers.TransformObservation"
            )
        flat, seen = seen, flatten_space(seen)
    elif seen.shape == ():
        flat, seen = seen, flatten_space(seen)
    if 0 in seen.shape:
        raise BadInputError(f"{title} shows nothing: its observations have shape {seen.shape}")
    values, levels = _values(seen)
    shape = tuple(int(n) for n in seen.shape)
    return Spaces(shape, values, levels, **_actions(does, title)), flat


def _values(space: Any) -> tuple[Any, int | None]:
    if isinstance(space, gym.MultiBinary):
        return "binary", None
    if space.dtype.kind in "biu":
        low, high = int(space.low.min()), int(space.high.max())
        if low >= 0 and high <= 1:
            return "binary", None
        if space.dtype == np.uint8:
            return "counts", high
    return "real", None


def _actions(space: Any, title: str) -> dict[str, Any]:
    if isinstance(space, gym.Box) and space.dtype.kind == "f":
        if len(space.shape) != 1 or space.shape[0] == 0:
            raise BadInputError(
                f"{title} takes actions of shape {space.shape}, and one dimension is wanted: wrap it in "
                "gymnasium.wrappers.TransformAction, which gets a vector and reshapes it"
            )
        low, high = space.low.astype(np.float64), space.high.astype(np.float64)
        # Beyond 1e30 an action of [-1, 1] would mean nothing, though float32 calls it finite.
        if not (
            np.isfinite(low).all()
            and np.isfinite(high).all()
            and (low < high).all()
            and max(abs(low).max(), abs(high).max()) < 1e30
        ):
            raise BadInputError(
                f"{title} takes actions between {space.low.min():g} and {space.high.max():g}, and finite bounds with room between "
                "them are wanted: wrap it in gymnasium.wrappers.RescaleAction or ClipAction with an action_space of yours"
            )
        return {"kind": "continuous", "action": tuple(space.shape), "low": tuple(low.tolist()), "high": tuple(high.tolist())}
    if isinstance(space, gym.Discrete):
        return {"kind": "discrete", "action": (), "choices": (int(space.n),), "low": (float(space.start),)}
    if isinstance(space, gym.MultiDiscrete) and space.nvec.ndim == 1:
        choices, start = tuple(int(n) for n in space.nvec), tuple(float(s) for s in space.start)
        return {"kind": "discrete", "action": (len(choices),), "choices": choices, "low": start}
    if isinstance(space, gym.MultiBinary) and len(space.shape) == 1:
        return {"kind": "discrete", "action": tuple(space.shape), "choices": (2,) * space.shape[0]}
    raise BadInputError(
        f"{title} takes actions of {space}; agents here give Box of one dimension, Discrete, and MultiDiscrete or MultiBinary of "
        "one dimension: wrap it in gymnasium.wrappers.TransformAction"
    )
