"""The commands that look at a run in an environment: they let its agent act."""

from __future__ import annotations

import json as json_
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np

from reparam.environments.episodes import Episode, Returns, play
from reparam.errors import BadInputError
from reparam.models.trained import environment_of, model_of
from reparam.training import Run
from reparam.training.randomness import stream_seed

__all__ = ["COMMANDS"]

Checkpoint = Literal["best", "last"]


def evaluate(
    run: str,
    episodes: int = 100,
    drawn: bool = False,
    checkpoint: Checkpoint = "best",
    seed: int = 0,
    environment: str | None = None,
    json: bool = False,
) -> None:
    """What the agent of a run earns: the mean return over episodes, with its standard error.

    Args:
        run: the run's directory.
        episodes: how many.
        drawn: draw actions from the policy, as in training; otherwise it takes the most likely ones.
        checkpoint: the weights with the best validation score, or the last.
        seed: of the episodes, which are none of those that training or validation saw.
        environment: another one with the same observations and actions; or the run's, where it is your own.
        json: print JSON.
    """
    _check_count("episodes", episodes)
    name, found = _play(run, episodes, drawn, checkpoint, seed, environment)
    worth = Returns.of(found)
    print(json_.dumps(asdict(worth)) if json else "\n".join([f"In {name}:", *worth.lines()]))


def sample(
    run: str,
    output: str = "episodes.npz",
    n: int | None = None,
    drawn: bool = True,
    checkpoint: Checkpoint = "best",
    seed: int = 0,
    environment: str | None = None,
) -> None:
    """Episodes of the agent of a run: arrays that `reparam train world --data` reads, or a moving picture.

    Args:
        run: the run's directory.
        output: file to write: .npz with arrays observation, action, reward, terminated and length, an episode a row, filled up with
            zeros, length observations of it; or .gif, the pictures of the episodes one after the other.
        n: how many; by default 10, and for a .gif one.
        drawn: draw actions from the policy, as in training; otherwise it takes the most likely ones.
        checkpoint: the weights with the best validation score, or the last.
        seed: of the episodes.
        environment: another one with the same observations and actions; or the run's, where it is your own.
    """
    from reparam.cli.output import destination, write_npz

    path = destination(output, (".npz", ".gif"))
    picture = path.suffix.lower() == ".gif"
    n = (1 if picture else 10) if n is None else n
    _check_count("n", n)
    name, found = _play(run, n, drawn, checkpoint, seed, environment, render=picture)
    if picture:
        _write_gif(path, name, found)
    else:
        write_npz(path, _arrays(Run.open(run), found))
    print(path)


def report(run: str, environment: str | None = None) -> None:
    """Write the page of pictures of a run anew.

    Args:
        run: the run's directory.
        environment: the run's, where it is your own.
    """
    from reparam.report import write

    print(write(Run.open(run), environment=environment))


#: In place of those of the same names for runs on data.
COMMANDS: dict[str, Callable[..., None]] = {"evaluate": evaluate, "sample": sample, "report": report}


def _play(
    run: str, episodes: int, drawn: bool, checkpoint: Checkpoint, seed: int, environment: str | None, *, render: bool = False
) -> tuple[str, list[Episode]]:
    if not 0 <= seed < 2**64:
        raise BadInputError(f"seed is {seed}: give a whole number from 0 to 2^64 - 1")
    opened = Run.open(run)
    options = environment_of(opened, environment)
    assert options is not None  # or another command would have been called
    agent = model_of(opened, checkpoint)
    found = play(
        agent,
        options.environment,
        episodes=episodes,
        seed=stream_seed(seed, "test episodes", 0),
        copies=1 if render else min(10, episodes),
        noise=drawn,
        limit=options.episode_limit,
        render=render,
    )
    return options.environment, found


def _check_count(name: str, value: int) -> None:
    if value < 1:
        raise BadInputError(f"{name} is {value}: give at least 1")


def _arrays(run: Run, episodes: Sequence[Episode]) -> dict[str, np.ndarray[Any, Any]]:
    """An episode a row, in the environment's units, filled up with zeros to the length of the longest."""
    from reparam.environments.spaces import Spaces

    spaces = Spaces.from_facts(run.record["data"]["spaces"])
    lengths = np.array([len(episode.reward) for episode in episodes])
    longest = int(lengths.max())

    def filled(values: Any, length: int) -> np.ndarray[Any, Any]:
        values = np.asarray(values)
        made = np.zeros((length, *values.shape[1:]), values.dtype)
        made[: len(values)] = values
        return made

    terminated = np.zeros((len(episodes), longest), bool)
    for row, episode in enumerate(episodes):
        terminated[row, lengths[row] - 1] = episode.terminated
    return {
        "observation": np.stack([filled(episode.observation, longest + 1) for episode in episodes]),
        "action": np.stack([filled(spaces.to_environment(episode.action), longest) for episode in episodes]),
        "reward": np.stack([filled(episode.reward, longest) for episode in episodes]),
        "terminated": terminated,
        "length": lengths + 1,  # of observations: the last one has no action
    }


def _write_gif(path: Path, name: str, episodes: Sequence[Episode]) -> None:
    from reparam.report.rollout import gif
    from reparam.training.storage import write_file

    frames = [frame for episode in episodes for frame in episode.frames or ()]
    if not frames:
        raise BadInputError(f"{name} draws no pictures: give an --output that ends in .npz")
    write_file(path, gif(frames))
