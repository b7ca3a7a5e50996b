"""The commands that let the agent of a run act: what they print, write and refuse."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from reparam.data import load
from reparam.environments.copies import Copies
from reparam.environments.episodes import Returns, play
from reparam.environments.options import EnvironmentOptions
from reparam.models.trained import model_of
from reparam.training import Run
from reparam.training.randomness import stream_seed

QUICK = (
    "--hidden",
    "8",
    "--epochs",
    "2",
    "--batch_size",
    "32",
    "--evaluation_episodes",
    "2",
    "--test_episodes",
    "3",
    "--threads",
    "1",
)
OWN = """
import gymnasium
import numpy as np

class Walk(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-10, 10, (2,), np.float64)
    action_space = gymnasium.spaces.Box(-3, 5, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps, self.place, self.end = 0, self.np_random.normal(size=2), self.np_random.integers(3, 8)
        return self.place, {}

    def step(self, action):
        self.steps += 1
        self.place = np.clip(self.place + 0.1 * float(action[0]), -10, 10)
        return self.place, -float(np.abs(self.place).sum()), False, self.steps >= self.end, {}
"""


@pytest.fixture(scope="module")
def cartpole(tmp_path_factory):
    """A run of a policy gradient."""
    from reparam.cli import main

    out = tmp_path_factory.mktemp("runs") / "cartpole"
    assert main(["train", "reinforce", *QUICK, "--epoch_steps", "512", "--copies", "2", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    """A run in an environment of one's own, and the folder of its module."""
    from reparam.cli import main

    folder = tmp_path_factory.mktemp("own")
    (folder / "mine_to_walk.py").write_text(OWN)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        words = ["--environment", "mine_to_walk.py:Walk", "--epoch_steps", "100", "--random_steps", "20", "--out", "run"]
        assert main(["train", "sac", *QUICK, *words]) == 0
    sys.modules.pop("mine_to_walk")
    return folder


def test_what_is_evaluated_is_what_is_played(cartpole, cli):
    """Other episodes than those of training and validation; the same ones each time, others by another seed."""
    code, out, error = cli("evaluate", cartpole, "--episodes", "12", "--json")
    assert code == 0, error
    agent = model_of(Run.open(cartpole))
    seed = stream_seed(0, "test episodes", 0)
    worth = Returns.of(play(agent, "CartPole-v1", episodes=12, seed=seed))
    found = json.loads(out)
    assert found["rows"] == 12
    assert found["mean"] == worth.mean
    assert found["error"] == pytest.approx(worth.error)
    assert cli("evaluate", cartpole, "--episodes", "12", "--json")[1] == out
    assert json.loads(cli("evaluate", cartpole, "--episodes", "12", "--seed", "1", "--json")[1])["mean"] != worth.mean
    lines = cli("evaluate", cartpole, "--episodes", "12")[1]
    assert lines.startswith("In CartPole-v1:\n  return")
    assert "±" in lines


def test_actions_drawn_from_the_policy_are_others(cartpole, cli):
    modes, drawn = (json.loads(cli("evaluate", cartpole, "--episodes", "12", *how, "--json")[1]) for how in ((), ("--drawn",)))
    assert modes["mean"] != drawn["mean"]


def test_episodes_as_arrays_are_what_happened(walk, cli, monkeypatch):
    """In the environment's units: the actions that stand in the file lead from each observation in it to the next."""
    monkeypatch.chdir(walk)
    code, _, error = cli("sample", "run", "--n", "4", "--environment", "mine_to_walk:Walk")
    assert code == 0, error
    with np.load("episodes.npz") as found:
        arrays = dict(found)
    assert len(set(arrays["length"])) > 1  # or the filling would not be seen
    for row, length in enumerate(arrays["length"]):
        steps = length - 1
        moved = arrays["observation"][row, 1:length] - arrays["observation"][row, :steps]
        np.testing.assert_allclose(moved, 0.1 * arrays["action"][row, :steps].repeat(2, -1), atol=1e-5)
        np.testing.assert_allclose(arrays["reward"][row, :steps], -np.abs(arrays["observation"][row, 1:length]).sum(-1), rtol=1e-5)
        assert not arrays["observation"][row, length:].any()
        assert not arrays["terminated"][row].any()
    assert (arrays["action"] >= -3).all()
    assert (arrays["action"] <= 5).all()
    assert arrays["action"].min() < -1 or arrays["action"].max() > 1.5  # no model's units


def test_a_world_model_reads_them(walk, cli, refused, monkeypatch):
    monkeypatch.chdir(walk)
    assert cli("sample", "run", "--n", "6", "--environment", "mine_to_walk:Walk", "--output", "six.npz")[0] == 0
    data = load("six.npz", layout="sequence")
    with np.load("six.npz") as found:
        assert data.x.shape == found["observation"].shape
        for row, length in enumerate(found["length"]):
            assert data.beside["mask"][row].tolist() == [t < length for t in range(data.x.shape[1])]
            np.testing.assert_array_equal(data.beside["action"][row, 1:length], found["action"][row, : length - 1])
            np.testing.assert_allclose(data.beside["reward"][row, 1:length], found["reward"][row, : length - 1])
    tiny = (
        "--hidden",
        "8",
        "--deterministic",
        "8",
        "--latent_dim",
        "2",
        "--epochs",
        "1",
        "--importance_samples",
        "2",
        "--batch_size",
        "2",
    )
    code, out, error = cli("train", "world", "--data", "six.npz", *tiny, "--out", "seen")
    assert code == 0, error
    assert "reparam predict seen" in out
    code, out, error = cli("predict", "seen", "--data", "six.npz", "--context", "2", "--samples", "3")
    assert code == 0, error
    refused(
        2, "context is 40: give at least 1 step, and fewer than the 8", "predict", "seen", "--data", "six.npz", "--context", "40"
    )
    with np.load("predictions.npz") as found:
        assert found["samples"].shape == (3, *found["x"].shape)
        np.testing.assert_allclose(found["samples"].mean(0), found["prediction"], rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(found["x"], data.x[:, 2:])


def test_an_environment_of_ones_own_is_imported_when_it_is_named_and_not_before(walk, refused, cli, monkeypatch):
    monkeypatch.chdir(walk)
    sys.modules.pop("mine_to_walk", None)
    for command in ("evaluate", "sample", "report"):
        refused(2, "name it again, --environment mine_to_walk.py:Walk, since nothing that a file names is imported", command, "run")
    assert "mine_to_walk" not in sys.modules
    assert cli("evaluate", "run", "--episodes", "2", "--environment", "mine_to_walk:Walk")[0] == 0


def test_an_environment_in_a_file_elsewhere(walk, cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in (walk, Path(os.path.relpath(walk, tmp_path))):
        sys.modules.pop("mine_to_walk", None)
        name = f"{folder}/mine_to_walk.py:Walk"
        code, _, error = cli("evaluate", walk / "run", "--episodes", "2", "--environment", name)
        assert code == 0, error


def test_an_environment_with_other_spaces_is_refused(cartpole, refused):
    refused(2, "Acrobot-v1", "evaluate", cartpole, "--environment", "Acrobot-v1")


def test_a_moving_picture(cartpole, cli, tmp_path):
    from PIL import Image

    code, _, error = cli("sample", cartpole, "--n", "1", "--output", tmp_path / "one.gif")
    assert code == 0, error
    with Image.open(tmp_path / "one.gif") as picture:
        assert picture.n_frames > 3


def test_pictures_of_what_draws_none_are_refused(walk, refused, monkeypatch):
    monkeypatch.chdir(walk)
    refused(2, "picture|draw|render", "sample", "run", "--output", "x.gif", "--environment", "mine_to_walk:Walk")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("evaluate", "--episodes", "0"), "episodes is 0: give at least 1"),
        (("sample", "--n", "0"), "n is 0: give at least 1"),
        (("evaluate", "--seed", "-1"), "seed is -1"),
        (("sample", "--output", "x.png"), "npz or .gif"),
        (("evaluate", "--data", "digits"), "there is no flag --data"),
        (("encode",), "is a run of reinforce, which does not encode"),
        (("reconstruct",), "is a run of reinforce, which does not reconstruct"),
    ],
)
def test_misuse(cartpole, refused, words, said):
    refused(2, said, words[0], cartpole, *words[1:])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--data", "x.npz", "--environment", "CartPole-v1"), "environment='CartPole-v1' has no meaning for the data 'x.npz'"),
        (("--data", "x.npz", "--copies", "2"), "copies=2 has no meaning for the data 'x.npz'"),
        (("--window", "9"), "window=9 has no meaning for an environment: name data"),
    ],
)
def test_settings_of_what_is_not_trained_on_are_refused(refused, tmp_path, words, said):
    refused(2, said, "train", "world", *words, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_options_are_checked():
    for name in ("copies", "epoch_steps", "evaluation_episodes", "test_episodes", "episode_limit", "memory"):
        with pytest.raises(ValueError, match=f"{name} is 0: give at least 1"):
            EnvironmentOptions(**{name: 0})


def test_training_validation_and_test_begin_from_different_states():
    """By streams and seeds of their own: no first state of one is one of another."""
    starts = [Copies("Pendulum-v1", 5, 0, stream="train").start().observation]
    for words in ("validation episodes", "test episodes"):
        with_seed = stream_seed(0, words, 0)
        starts.append(Copies("Pendulum-v1", 5, with_seed, stream="evaluation").start().observation)
    assert len(torch.cat(starts).unique(dim=0)) == 15
