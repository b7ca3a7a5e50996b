"""Steps per second of soft actor-critic in Pendulum-v1, training included, beside stable-baselines3's on the same machine.

Both have the same algorithm, networks, batch (256), an update for each step from the first on, one environment and one thread.
A round trains a new agent from nothing for `--steps` steps, ours by `fit` in a run directory; of both the time includes one episode
of evaluation and a checkpoint with the replay memory at the end. The rounds alternate in one process, after a pair that is not
counted; the ratio is that of the two rounds of a pair, by the clock on the wall and by the processor's, which minds less who else
uses the machine.

    pip install stable-baselines3
    python benchmarks/sac_speed.py --out benchmarks/results/sac_speed.json       # some six minutes on a free core
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import torch

from reparam.environments.interaction import Interaction
from reparam.environments.options import EnvironmentOptions
from reparam.models.sac import SAC, Config
from reparam.models.trained import record_in_environment
from reparam.training import Run, Training, fit

NAME, BATCH, RATE, RANDOM = "Pendulum-v1", 256, 1e-3, 1
# Networks: the one that stable-baselines3 takes by default, and ours.
WIDTHS = ((256, 256), (64, 64))


def ours(hidden: tuple[int, ...], steps: int, seed: int, folder: Path) -> None:
    config = Config(hidden=hidden, normalise_observations=False, random_steps=RANDOM)
    options = EnvironmentOptions(environment=NAME, epoch_steps=steps, evaluation_episodes=1)
    training = Training(epochs=1, batch_size=BATCH, learning_rate=RATE, seed=seed, threads=1, patience=0)
    torch.manual_seed(seed)
    agent = SAC.for_environment(config, options.spaces())
    record = record_in_environment("sac", agent, training, options)
    with Interaction(agent, options, training) as stream, Run.create(folder / "run", record) as run:
        fit(agent, stream, None, training, run, progress=False)


def theirs(hidden: tuple[int, ...], steps: int, seed: int, folder: Path) -> None:
    import stable_baselines3
    from stable_baselines3.common.evaluation import evaluate_policy

    given = {"learning_rate": RATE, "batch_size": BATCH, "learning_starts": RANDOM, "train_freq": 1, "gradient_steps": 1}
    network = {"net_arch": list(hidden)}
    agent = stable_baselines3.SAC("MlpPolicy", NAME, policy_kwargs=network, seed=seed, device="cpu", **given)
    agent.learn(steps)
    evaluate_policy(agent, agent.get_env(), n_eval_episodes=1)
    agent.save(folder / "agent")
    agent.save_replay_buffer(folder / "memory")


def timed(train: Callable[..., None], *given: Any) -> tuple[float, float]:
    """Seconds on the wall, and of the processor."""
    with tempfile.TemporaryDirectory() as folder:
        wall, cpu = time.perf_counter(), time.process_time()
        train(*given, Path(folder))
        return time.perf_counter() - wall, time.process_time() - cpu


def compare(hidden: tuple[int, ...], steps: int, rounds: int) -> dict[str, Any]:
    pairs = []
    for i in range(rounds + 1):
        order = (ours, theirs) if i % 2 else (theirs, ours)
        found = {train.__name__: timed(train, hidden, steps, i) for train in order}
        pairs += [found] if i else []
    result: dict[str, Any] = {"hidden": list(hidden)}
    for clock, name in enumerate(("wall", "processor")):
        rates = {who: [round(steps / pair[who][clock], 1) for pair in pairs] for who in ("ours", "theirs")}
        ratios = [pair["theirs"][clock] / pair["ours"][clock] for pair in pairs]
        spread = [round(min(ratios), 3), round(statistics.median(ratios), 3), round(max(ratios), 3)]
        result[name] = {"steps_per_second": rates, "ratio_lowest_median_highest": spread}
        told = {who: statistics.median(each) for who, each in rates.items()}
        print(
            f"{' x '.join(map(str, hidden)):9s} {name:9s}  steps a second: reparam {told['ours']:5.0f}  stable-baselines3 "
            f"{told['theirs']:5.0f}  ratio {spread[1]:.2f} ({spread[0]:.2f} to {spread[2]:.2f} in {rounds} pairs)",
            flush=True,
        )
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    try:
        import stable_baselines3
    except ImportError:
        sys.exit("stable-baselines3 is not installed, and is what this measures against: pip install stable-baselines3")
    results: dict[str, Any] = {"environment": NAME, "batch": BATCH, "steps": args.steps, "rounds": args.rounds}
    results |= {"torch": torch.__version__, "gymnasium": gymnasium.__version__, "stable_baselines3": stable_baselines3.__version__}
    results["networks"] = [compare(hidden, args.steps, args.rounds) for hidden in WIDTHS]
    if args.out:
        args.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
