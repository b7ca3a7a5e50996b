"""Pendulum-v1 by soft actor-critic: the return after 20 000 steps in the environment, of five agents.

Every agent takes the settings of `reparam train sac`: 20 epochs of 1 000 steps, after each of which it is looked at by 10 episodes,
and the best epoch is kept. Its weights, those that `reparam evaluate` uses, then play 100 episodes with other starts, by the mode
of the policy; so do the last ones, for comparison. The bar is a mean return of -175 in at least four of five seeds; a random policy
has about -1200, and the SAC of rl-baselines3-zoo, also after 20 000 steps, -157.

    python benchmarks/pendulum_sac.py --out benchmarks/results/pendulum_sac.json       # some two minutes a seed on one core
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import gymnasium
import torch

from reparam.environments.episodes import Returns, play
from reparam.environments.interaction import Interaction
from reparam.environments.options import EnvironmentOptions
from reparam.models import MODELS
from reparam.models.sac import SAC, Config
from reparam.models.trained import record_in_environment
from reparam.training import Run, Training, fit
from reparam.training.randomness import stream_seed

NAME, BAR, STEPS, EPISODES, NEEDED = "Pendulum-v1", -175.0, 20_000, 100, 0.8


def settings(seed: int) -> tuple[EnvironmentOptions, Training]:
    """Those of the command, on one thread."""
    given = MODELS["sac"].defaults | {"seed": seed, "threads": 1, "environment": NAME}
    kinds = (EnvironmentOptions, Training)
    options, training = (kind(**{f.name: given[f.name] for f in fields(kind) if f.name in given}) for kind in kinds)
    return options, training


def score(config: Config, options: EnvironmentOptions, training: Training) -> dict[str, Any]:
    """Train an agent, and let its best and its last weights play."""
    wall, cpu = time.perf_counter(), time.process_time()
    torch.manual_seed(training.seed)
    agent = SAC.for_environment(config, options.spaces())
    record = record_in_environment("sac", agent, training, options)
    with (
        tempfile.TemporaryDirectory() as folder,
        Interaction(agent, options, training) as stream,
        Run.create(Path(folder) / "run", record) as run,
    ):
        result = fit(agent, stream, None, training, run, progress=False)
        seconds = {"seconds": round(time.perf_counter() - wall, 1), "cpu_seconds": round(time.process_time() - cpu, 1)}
        last = returns(agent, training.seed)
        run.load_weights(agent)
    curve = [round(row["validation/return"], 1) for row in result.history]
    found: dict[str, Any] = {"seed": training.seed, "steps": int(result.history[-1]["train/steps"])}
    return found | {"best": returns(agent, training.seed), "last": last, "curve": curve} | seconds


def returns(agent: SAC, seed: int) -> dict[str, Any]:
    """Of 100 episodes; their stream is not the one by which the epoch was picked."""
    agent.eval()
    return asdict(Returns.of(play(agent, NAME, episodes=EPISODES, seed=stream_seed(seed, "test episodes", 0))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--config", type=json.loads, default={}, help="fields of the Config in JSON, to try others")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    config, (options, training) = replace(Config(), **args.config), settings(0)
    results: dict[str, Any] = {"environment": NAME, "bar": BAR, "weights": "best of 20 epochs by 10 other episodes"}
    results |= {"torch": torch.__version__, "gymnasium": gymnasium.__version__, "config": asdict(config)}
    results |= {"options": asdict(options), "training": asdict(training), "seeds": []}
    for seed in args.seeds:
        results["seeds"].append(row := score(config, *settings(seed)))
        best, last = row["best"], row["last"]
        print(
            f"seed {seed}: best {best['mean']:6.1f} ± {best['error']:3.1f}, last {last['mean']:6.1f} ± {last['error']:3.1f}, after "
            f"{row['steps']} steps, {row['seconds']:.0f} s, {row['cpu_seconds']:.0f} s of a core; by epoch {row['curve']}",
            flush=True,
        )
        good = sum(each["best"]["mean"] >= BAR and each["steps"] <= STEPS for each in results["seeds"])
        results |= {"good": good, "met": good >= NEEDED * len(args.seeds)}
        if args.out:
            args.out.write_text(json.dumps(results, indent=2) + "\n")
    print(f"{good} of {len(args.seeds)} seeds at {BAR:g} or better: bar {'met' if results['met'] else 'NOT met'}")
    sys.exit(not results["met"])


if __name__ == "__main__":
    main()
