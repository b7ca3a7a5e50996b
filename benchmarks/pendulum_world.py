"""Pendulum-v1 by a world model: the return of an actor that learned in imagination, from few steps in the environment.

Every agent takes the settings of `reparam train world`: it is looked at after every 1 000 steps by 10 episodes, and the best is
kept. That one plays 100 episodes with other starts, by the mode of its policy. The bar is a mean return of -200, in every seed,
after at most 20 000 steps.

    python benchmarks/pendulum_world.py --out benchmarks/results/pendulum_world.json       # some two minutes a seed on one core
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import gymnasium
import torch

from reparam.environments.episodes import Returns, play
from reparam.environments.interaction import Interaction
from reparam.environments.options import EnvironmentOptions
from reparam.models import MODELS
from reparam.models.trained import record_in_environment
from reparam.models.world import Config, World
from reparam.training import Run, Training, fit

NAME, BAR, STEPS, EPISODES = "Pendulum-v1", -200.0, 20_000, 100


def settings(seed: int, **other: Any) -> tuple[Config, EnvironmentOptions, Training]:
    """Those of the command, but for `other` ones."""
    given = MODELS["world"].defaults | {"seed": seed, "threads": 1} | other
    kinds = (Config, EnvironmentOptions, Training)
    config, options, training = (kind(**{f.name: given[f.name] for f in fields(kind) if f.name in given}) for kind in kinds)
    return config, options, training


def scored(config: Config, options: EnvironmentOptions, training: Training) -> dict[str, Any]:
    """Train an agent, and let the best one play."""
    wall, cpu = time.perf_counter(), time.process_time()
    torch.manual_seed(training.seed)
    agent = World.for_environment(config, options.spaces())
    with tempfile.TemporaryDirectory() as folder, Interaction(agent, options, training) as stream:
        record = record_in_environment("world", agent, training, options)
        with Run.create(Path(folder) / "run", record) as run:
            history = fit(agent, stream, None, training, run, progress=False).history
            run.load_weights(agent)
    seconds = {"seconds": round(time.perf_counter() - wall, 1), "cpu_seconds": round(time.process_time() - cpu, 1)}
    found = Returns.of(play(agent.eval(), NAME, episodes=EPISODES, seed=10_000 + training.seed))
    curve = {str(int(row["train/steps"])): round(row["validation/return"], 1) for row in history}
    steps = int(history[-1]["train/steps"])
    return (
        {"seed": training.seed, "mean": found.mean, "error": found.error, "lowest": found.lowest, "steps": steps}
        | seconds
        | {"curve": curve}
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    config, options, training = settings(0)
    rows = []
    for seed in args.seeds:
        rows.append(row := scored(*settings(seed)))
        print(
            f"seed {seed}: {row['mean']:6.1f} ± {row['error']:3.1f} after {row['steps']} steps, lowest {row['lowest']:.0f}, "
            f"{row['seconds']:.0f} s, {row['cpu_seconds']:.0f} s of a core; by epoch {', '.join(map(str, row['curve'].values()))}",
            flush=True,
        )
    if args.out:
        results = {
            "config": asdict(config),
            "environment": asdict(options),
            "training": asdict(training),
            "episodes": EPISODES,
            "torch": torch.__version__,
            "gymnasium": gymnasium.__version__,
            "mean": sum(row["mean"] for row in rows) / len(rows),
            "seeds": rows,
        }
        args.out.write_text(json.dumps(results, indent=2) + "\n")
    missed = [row["seed"] for row in rows if row["mean"] < BAR or row["steps"] > STEPS]
    if missed:
        print(f"The bar is missed: not {BAR:g} after at most {STEPS} steps in the seeds {missed}")
        sys.exit(1)


if __name__ == "__main__":
    main()
