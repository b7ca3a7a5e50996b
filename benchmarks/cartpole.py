"""CartPole-v1 by policy gradients: the returns of PPO and of REINFORCE with each baseline, and how noisy each gradient is.

Every agent takes the settings of `reparam train reinforce`, but for `METHODS`: 102 400 steps in 8 copies, looked at after every
5 120 by 10 episodes, and the best is kept. That one plays 100 episodes, with other starts, by its likeliest actions. The bar is a
mean return of 475 for PPO, in at least four seeds of five; gymnasium calls that solved, and no episode can have more than 500.

    python benchmarks/cartpole.py --out benchmarks/results/cartpole.json       # some ten minutes on one core

The second table is about one policy, that of PPO after 2 048 steps, which acts in 400 rollouts of 8 x 128 steps. The gradient of
REINFORCE's loss in its parameters is taken for each, with each baseline: the same steps for all. Given are the total variance over
rollouts as a share of that without a baseline, and the ratio of signal to noise, |E g| / sqrt(variance), of one rollout. The values
are those that PPO has learned until then. With --methods and nothing behind it, only this table is made; other rows of FILE stay.
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

from reparam.diagnostics.gradient import Moments, gradient_moments
from reparam.environments.copies import Arrival, Copies
from reparam.environments.episodes import Returns, play
from reparam.environments.interaction import Interaction
from reparam.environments.options import EnvironmentOptions
from reparam.models import MODELS
from reparam.models.reinforce import Config, Reinforce
from reparam.models.trained import record_in_environment
from reparam.noise import Fresh
from reparam.training import Run, Training, fit

NAME, BAR, EPISODES = "CartPole-v1", 475.0, 100
# REINFORCE makes one update of a rollout, with all of its 1 024 steps.
ONCE = {"batch_size": 10_000, "learning_rate": 1e-2}
METHODS: dict[str, tuple[Config, dict[str, Any]]] = {
    "ppo": (Config(), {}),
    "reinforce, value": (Config("reinforce", "value", rollout=128), ONCE),
    "reinforce, leave_one_out": (Config("reinforce", "leave_one_out", rollout=128), ONCE),
    "reinforce, moving_average": (Config("reinforce", "moving_average", rollout=128), ONCE),
    "reinforce, none": (Config("reinforce", "none", rollout=128), ONCE),
}
GRADIENTS = {
    "none": Config("reinforce", "none"),
    "moving_average": Config("reinforce", "moving_average"),
    "leave_one_out": Config("reinforce", "leave_one_out"),
    "value": Config("reinforce", "value"),
    "value, decay 0.95": Config("reinforce", "value", decay=0.95),
}
WARM, ROLLOUTS, LENGTH = 20, 400, 128


def settings(seed: int, **other: Any) -> tuple[EnvironmentOptions, Training]:
    """Those of the command, but for `other` ones."""
    given = MODELS["reinforce"].defaults | {"seed": seed, "threads": 1} | other
    options, training = (
        {f.name: given[f.name] for f in fields(kind) if f.name in given} for kind in (EnvironmentOptions, Training)
    )
    return EnvironmentOptions(**options), Training(**training)


def trained(config: Config, options: EnvironmentOptions, training: Training) -> Reinforce:
    """The agent of the best epoch."""
    torch.manual_seed(training.seed)
    agent = Reinforce.for_environment(config, options.spaces())
    with tempfile.TemporaryDirectory() as folder, Interaction(agent, options, training) as stream:
        record = record_in_environment("reinforce", agent, training, options)
        with Run.create(Path(folder) / "run", record) as run:
            fit(agent, stream, None, training, run, progress=False)
            run.load_weights(agent)
    return agent.eval()


def scored(method: str, seed: int) -> dict[str, Any]:
    config, other = METHODS[method]
    start = time.perf_counter()
    agent = trained(config, *settings(seed, **other))
    seconds = time.perf_counter() - start
    found = Returns.of(play(agent, NAME, episodes=EPISODES, seed=10_000 + seed))
    return {"seed": seed, "mean": found.mean, "error": found.error, "lowest": found.lowest, "seconds": round(seconds, 1)}


def rollouts(agent: Reinforce, count: int) -> list[Arrival]:
    """What the agent lives through, one after the other, without learning."""
    source = Fresh(torch.Generator().manual_seed(0))
    copies = Copies(NAME, 8, seed=20_000)
    now, found = copies.start(), []
    for _ in range(count):
        arrivals = [now]
        for _ in range(LENGTH):
            action, _ = agent.act(now.observation, None, now.first, source)
            now = copies.step(action)
            arrivals.append(now)
        found.append(Arrival(*(torch.stack(column) for column in zip(*arrivals, strict=True))))
    copies.close()
    return found


def moments(config: Config, agent: Reinforce, lived: list[Arrival]) -> Moments:
    """Of the gradient of REINFORCE with another baseline, under the policy, the values and the scales of an agent."""
    other = Reinforce(config, agent.spaces)
    known = agent.state_dict()
    other.load_state_dict(known, strict=False)
    for rollout in lived[:WARM]:  # which settles a moving average
        other.prepare(rollout)
    other.load_state_dict(known, strict=False)
    other.eval()
    left = iter(lived[WARM:])
    return gradient_moments(lambda: other.loss(other.prepare(next(left))).total, other.policy.parameters(), len(lived) - WARM)


def noise() -> tuple[dict[str, Any], float]:
    """Variance and signal to noise of the gradient with each baseline, and the return of the policy that acts."""
    options, training = settings(0, epochs=1, epoch_steps=2048, learning_rate_schedule="constant")
    agent = trained(Config(), options, training)
    lived = rollouts(agent, WARM + ROLLOUTS)
    rows = {name: moments(config, agent, lived) for name, config in GRADIENTS.items()}
    whole = rows["none"].total_variance
    found = {name: {"variance": row.total_variance / whole, "snr": row.snr} for name, row in rows.items()}
    return found, Returns.of(play(agent, NAME, episodes=EPISODES, seed=20_000, noise=True)).mean


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=METHODS)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    options, training = settings(0)
    results: dict[str, Any] = {
        "environment": asdict(options),
        "steps": options.epoch_steps * training.epochs,
        "episodes": EPISODES,
        "torch": torch.__version__,
        "gymnasium": gymnasium.__version__,
        "methods": {},
    }
    if args.out and args.out.exists():
        results["methods"] = json.loads(args.out.read_text())["methods"]
    for method in args.methods:
        config, other = METHODS[method]
        print(f"{method:26s}", end="", flush=True)
        rows = []
        for seed in range(args.seeds):
            row = scored(method, seed)
            print(f"{row['mean']:7.1f} ± {row['error']:3.1f}", end="", flush=True)
            rows.append(row)
        solved = sum(row["mean"] >= BAR for row in rows)
        results["methods"][method] = {
            "config": asdict(config.decided()),
            "training": asdict(replace(training, **other)),
            "mean": sum(row["mean"] for row in rows) / len(rows),
            "solved": solved,
            "seeds": rows,
        }
        seconds = sum(row["seconds"] for row in rows) / len(rows)
        print(f"   {solved} of {len(rows)} at {BAR:g}   {seconds:.0f} s a run", flush=True)
    found, mean = noise()
    results["gradients"] = {"rollouts": ROLLOUTS, "return": mean, "baselines": found}
    print(f"Gradients of one policy, whose return is {mean:.0f}, in {ROLLOUTS} rollouts:")
    for name, row in found.items():
        snr = f"{row['snr']:.2f}" if row["snr"] > ROLLOUTS**-0.5 else f"below {ROLLOUTS**-0.5:.2f}"  # not to be told from zero
        print(f"  {name:20s} variance {row['variance']:6.3f} of that without a baseline   SNR of a rollout {snr}")
    if args.out:
        args.out.write_text(json.dumps(results, indent=2) + "\n")
    if "ppo" in args.methods and results["methods"]["ppo"]["solved"] < 0.8 * args.seeds:
        print(f"The bar is missed: PPO has {BAR:g} in {results['methods']['ppo']['solved']} of {args.seeds} seeds")
        sys.exit(1)


if __name__ == "__main__":
    main()
