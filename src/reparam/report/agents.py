"""What a report shows of a run in an environment: the agent plays, and what it does is looked at."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from reparam.environments.episodes import Episode, Returns, play
from reparam.environments.make import title_of
from reparam.environments.options import EnvironmentOptions
from reparam.errors import BadInputError
from reparam.report.actors import actor_gradients
from reparam.report.agent import Agent
from reparam.report.dreams import dreams
from reparam.report.learning import learning
from reparam.report.pieces import Section
from reparam.report.policy import policy
from reparam.report.recorded import Recorded, lived
from reparam.report.returns import returns
from reparam.report.rollout import rollout
from reparam.report.worlds import foresight, imagined, latents, surprise
from reparam.training.randomness import stream_seed

__all__ = ["sections_of", "sections_of_world", "watch"]

# Steps of which pictures are kept, about a megabyte each.
_PICTURES = 300


def watch(model: Any, options: EnvironmentOptions, seed: int) -> Agent:
    """Let an agent play the test episodes of a run, the first of them with pictures, if its environment draws any.

    Args:
        model: in evaluation mode.
        options: the environment.
        seed: of the run.

    Raises:
        BadInputError: when the environment cannot be had or fails, or has other spaces than the agent.
    """
    many, seed = options.test_episodes, stream_seed(seed, "test episodes", 0)
    episodes = play(model, options.environment, episodes=many, seed=seed, copies=min(10, many), limit=options.episode_limit)
    return Agent(model, title_of(options.environment), episodes, _drawn(model, options, seed, episodes[0]))


def _drawn(model: Any, options: EnvironmentOptions, seed: int, episode: Episode) -> Episode:
    """The first episode with pictures of its first steps."""
    limit = min(len(episode.reward), _PICTURES)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what an environment warns of when it draws is no reason to have no page
            again = play(model, options.environment, episodes=1, seed=seed, copies=1, limit=limit, render=True)[0]
    except BadInputError:  # it draws none, or the package that it draws with is missing
        return episode
    return replace(episode, frames=again.frames)


def sections_of(agent: Agent, history: Sequence[Mapping[str, Any]], best: int, evaluation: Any = None) -> list[Section]:
    """The sections of an agent.

    Args:
        agent: it, and what it has played.
        history: of its run, a row an epoch.
        best: the epoch whose weights it has.
        evaluation: its `Returns` over the test episodes, when they have been made already.
    """
    evaluation = Returns.of(agent.episodes) if evaluation is None else evaluation
    found: list[Callable[[], Section | None]] = [
        lambda: learning(history, best, evaluation),
        lambda: rollout(agent),
        lambda: policy(agent),
        lambda: returns(agent, evaluation),
        lambda: actor_gradients(agent),
    ]
    sections = [section for make in found if (section := make()) is not None]
    if hasattr(agent.model, "open_loop"):
        sections += [*filter(None, [dreams(agent)]), *sections_of_world(lived(agent))]
    return sections


def sections_of_world(subject: Recorded, evaluation: Any = None) -> list[Section]:
    """The sections of a world model.

    Args:
        subject: it, and sequences.
        evaluation: of it on all of the test sequences; by default on those.
    """
    if evaluation is None:
        evaluation = subject.model.evaluate(subject.batch, k=1, source=subject.source())
    made = [foresight(subject, evaluation), surprise(subject), imagined(subject), latents(subject)]
    return [section for section in made if section is not None]
