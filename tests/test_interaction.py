"""An agent's run in an environment: bit for bit after any stop, counted steps, and what it says of misuse."""

import json
import math
import signal
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from reparam.cli.train import _check_fit
from reparam.cli.work import InEnvironment
from reparam.environments import interaction
from reparam.environments.experience import Replay
from reparam.environments.interaction import Interaction
from reparam.environments.options import EnvironmentOptions
from reparam.errors import ArtefactError, BadInputError, Interrupted
from reparam.models import MODELS
from reparam.paths import sample
from reparam.training import Loss, Monitor, Run, Training, fit

PENDULUM = EnvironmentOptions(environment="Pendulum-v1", epoch_steps=230, evaluation_episodes=1, copies=2)
CARTPOLE = EnvironmentOptions(environment="CartPole-v1", epoch_steps=256, evaluation_episodes=1, copies=2)
TINY = {
    "sac": (PENDULUM, {"hidden": (8,), "random_steps": 20, "updates": 0.25}),
    "reinforce": (CARTPOLE, {"hidden": (8,), "rollout": 32}),
    "world": (
        PENDULUM,
        {"deterministic": 8, "hidden": (8,), "latent_dim": 4, "actor_hidden": (8,), "random_steps": 40, "updates": 0.05}
        | {"sequence_length": 6, "horizon": 3},
    ),
}


def agent_of(name, options=None, **settings):
    kind, config = MODELS[name].load()
    options = options or TINY[name][0]
    torch.manual_seed(0)
    return kind.for_environment(config(**{**TINY[name][1], **settings}), options.spaces())


class Stopping(torch.nn.Module):
    """An agent that is told to stop, as by Ctrl-C, in an update."""

    def __init__(self, agent, after):
        super().__init__()
        self.agent, self.left = agent, after

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("agent"), name)

    def forward(self, batch, source):
        self.left -= 1
        if not self.left:
            signal.raise_signal(signal.SIGINT)
        return self.agent(batch, source)

    def named_parameters(self, *args, **settings):
        return self.agent.named_parameters(*args, **settings)

    def state_dict(self, *args, **settings):
        return self.agent.state_dict(*args, **settings)

    def load_state_dict(self, *args, **settings):
        return self.agent.load_state_dict(*args, **settings)


def trained(name, out, *, epochs, stops=()):
    """A run, stopped after so many updates each time and taken up by a new process's objects."""
    options, _ = TINY[name]
    training = Training(epochs=epochs, batch_size=8, learning_rate=1e-2, patience=0, device="cpu", threads=1)
    for after in (*stops, 0):
        agent = Stopping(agent_of(name), after)
        with Run.create(out, {"model": {"name": name}}) as run, Interaction(agent, options, training) as stream:
            if after:
                with pytest.raises(Interrupted):
                    fit(agent, stream, None, training, run, progress=False)
            else:
                fit(agent, stream, None, training, run, progress=False)
    return Run.open(out)


def same(a, b):
    for part in ("weights", "optimizer", "experience"):
        mine, theirs = getattr(a, part), getattr(b, part)
        assert mine.keys() == theirs.keys()
        different = [key for key in mine if not torch.equal(mine[key], theirs[key])]
        assert not different, (part, different)


@pytest.mark.parametrize("name", TINY)
def test_a_run_that_was_stopped_twice_ends_in_the_same_bits(name, tmp_path):
    """Within an episode, within a rollout: weights, optimiser, memory, the state of the copies, the history."""
    straight = trained(name, tmp_path / "straight", epochs=2)
    updates = straight.history()[-1]["step"]
    stopped = trained(name, tmp_path / "stopped", epochs=2, stops=(updates // 3, updates // 4))
    a, b = straight.read("last"), stopped.read("last")
    assert a.experience
    assert len(stopped.checkpoints()) > 1
    same(a, b)
    assert json.dumps(a.state["stream"]) == json.dumps(b.state["stream"])
    for mine, theirs in zip(straight.history(), stopped.history(), strict=True):
        assert {k: str(v) for k, v in mine.items() if k != "seconds"} == {k: str(v) for k, v in theirs.items() if k != "seconds"}


@pytest.mark.parametrize("name", TINY)
def test_another_seed_is_another_run(name, tmp_path):
    options, _ = TINY[name]
    seen = []
    for seed in (0, 0, 1):
        agent = agent_of(name)
        with Interaction(agent, options, Training(batch_size=8, seed=seed)) as stream:
            seen.append(stream.batch(agent, 0, 0))
    assert all(torch.equal(a, b) for a, b in zip(seen[0], seen[1], strict=True))
    assert not torch.equal(seen[0][0], seen[2][0])


class Watched(torch.nn.Module):
    """An agent that notes what it is shown, draws and is told."""

    spaces, learns_from, monitor = PENDULUM.spaces(), Replay(warm_up=4), Monitor("return", "return")

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.noise, self.begins, self.trained_from, self.updates, self.followed = [], set(), set(), 0, 0

    def draw(self, rows, source):
        drawn = sample(torch.distributions.Normal(torch.zeros(rows), 1.0), source=source)
        self.noise += drawn.tolist()
        return drawn

    def act(self, observation, carry, first, source):
        if source is None:
            self.begins |= {tuple(row) for row in observation[first].tolist()}
            return torch.zeros(len(first), 1), carry
        return self.draw(len(first), source)[:, None].tanh(), carry

    def see(self, arrival):
        self.trained_from |= {tuple(row) for row in arrival.observation[arrival.first].tolist()}

    def forward(self, batch, source):
        self.updates += 1
        return Loss(self.weight**2 + self.draw(2, source).mean(), {"plain": self.weight.detach()})

    def after_step(self):
        self.followed += 1
        assert self.followed == self.updates


def test_nothing_random_comes_twice(tmp_path):
    """Noise of actions and of the loss; where episodes of training, of validation and of the test begin: of so few numbers in
    float32, two of any kind are the same once in 10^4 seeds."""
    options = replace(PENDULUM, epoch_steps=20, episode_limit=5, evaluation_episodes=8, test_episodes=8)
    agent, training = Watched(), Training(epochs=1, batch_size=4, device="cpu", threads=1)
    with Run.create(tmp_path, {}) as run, Interaction(agent, options, training) as stream:
        fit(agent, stream, None, training, run, progress=False)
    assert agent.updates == agent.followed == 20
    assert len(agent.noise) == len(set(agent.noise)) == 2 * (8 + 1) + 2 * 20  # of two copies that took 8 steps and began anew once
    validation, agent.begins = agent.begins, set()
    InEnvironment(options).evaluate(agent, training.seed)
    assert len(validation) == len(agent.begins) == 8
    assert not validation & agent.begins
    assert len(agent.trained_from) == 4
    assert not agent.trained_from & (validation | agent.begins)


def test_steps_are_counted_and_all_of_them_taken():
    """Two epochs of a replay: as many steps as were promised, of which restarts are none."""
    options = replace(PENDULUM, epoch_steps=500, copies=1)
    agent = agent_of("sac", random_steps=100, updates=0.5)
    with Interaction(agent, options, Training(batch_size=4)) as stream:
        assert stream.batches == 250
        stream.batch(agent, 0, 0)
        assert stream.lived()["steps"] == 100
        for number in range(1, 250):
            stream.batch(agent, 0, number)
        lived = stream.lived()
        assert lived["steps"] == 500
        assert -2000 < lived["return"] < 0  # of the two whole episodes
        assert math.isnan(stream.lived()["return"])  # which are not counted twice


def test_returns_of_training_are_those_of_whole_episodes():
    """CartPole pays 1 a step: a return is a length, and returns and what goes on add up to the steps."""
    agent = agent_of("reinforce", objective="reinforce")
    with Interaction(agent, CARTPOLE, Training(batch_size=16)) as stream:
        for number in range(40):
            stream.batch(agent, 0, number)
        facts, tensors = stream.state()
        ended = sum(facts["ended"])
        assert ended + tensors["running"].sum() == stream.lived()["steps"]
        assert len(facts["ended"]) > 5


def test_minibatches_of_a_rollout_are_its_rows_once_a_pass():
    agent = agent_of("reinforce", rollout=33, objective="ppo", reuse=2)
    with Interaction(agent, CARTPOLE, Training(batch_size=16)) as stream:
        batches = [stream.batch(agent, 0, number) for number in range(8)]
    first, second = ([row for batch in batches[i : i + 4] for row in batch[0].tolist()] for i in (0, 4))
    assert sorted(first) == sorted(second)
    assert first != second
    assert 55 <= len(first) <= 66


def test_spaces_of_another_environment_are_refused():
    with pytest.raises(BadInputError, match="CartPole-v1"):
        Interaction(agent_of("sac"), CARTPOLE, Training())


def test_other_numbers_of_copies_are_refused_on_resuming(tmp_path):
    trained("sac", tmp_path, epochs=1)
    training = Training(epochs=2, batch_size=8, device="cpu", threads=1)
    agent = agent_of("sac")
    options = replace(PENDULUM, copies=3)
    with (
        Run.create(tmp_path, {"model": {"name": "sac"}}) as run,
        Interaction(agent, options, training) as stream,
        pytest.raises(BadInputError, match="2 copies of its environment, and copies is 3"),
    ):
        fit(agent, stream, None, training, run, progress=False)


def test_forced_settings_that_cannot_go_on_are_refused_before_the_record_is_written(tmp_path):
    trained("sac", tmp_path, epochs=1)
    shorter, more = replace(PENDULUM, memory=5000), replace(PENDULUM, copies=3)
    cases = ((PENDULUM, 0, None), (PENDULUM, 1, "seed"), (shorter, 0, "memory of 500000"), (more, 0, "2 copies"))
    before = (tmp_path / "run.json").read_bytes()
    for options, seed, said in cases:
        with pytest.raises(BadInputError, match=said) if said else nullcontext():
            _check_fit(tmp_path, agent_of("sac"), InEnvironment(options), Training(batch_size=8, seed=seed))
    assert (tmp_path / "run.json").read_bytes() == before


def test_what_an_agent_carries_comes_back_to_its_device(monkeypatch):
    """The device without data stands for a GPU: what lies elsewhere is refused there, as here."""

    class Agent(torch.nn.Module):
        spaces, learns_from = PENDULUM.spaces(), Replay(warm_up=0)

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.empty(1, device="meta"))
            self.came = []

        def act(self, observation, carry, first, source):
            self.came += [part.device.type for part in (observation, first, *(carry or ()))]
            return torch.zeros(2, 1), (torch.zeros(2, device="meta"),)

    monkeypatch.setattr(interaction, "source_of", lambda *_: None)
    agent, training = Agent(), Training(batch_size=4)
    with Interaction(agent, PENDULUM, training) as stream, Interaction(agent, PENDULUM, training) as again:
        stream.batch(agent, 0, 0)
        facts, tensors = stream.state()
        again.restore(facts, {name: torch.zeros(2) if name == "carry/0" else tensor for name, tensor in tensors.items()})
        for update in range(1, 4):
            again.batch(agent, 0, update)
    assert set(agent.came) == {"meta"}
    assert len(agent.came) == 2 + 3


def test_a_checkpoint_without_experience_is_refused():
    agent = agent_of("sac")
    with Interaction(agent, PENDULUM, Training()) as stream, pytest.raises(ArtefactError, match="no state of an environment"):
        stream.restore({}, {})


def test_noise_that_nothing_is_drawn_from_is_refused():
    with pytest.raises(BadInputError, match="noise is sobol, of draws in a loss, and this agent's draws nothing"):
        Interaction(agent_of("reinforce"), CARTPOLE, Training(noise="sobol"))


def test_several_processes_are_refused(cli, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, _, error = cli("train", "sac", "--out", str(tmp_path / "run"))
    assert code == 2
    assert "Pendulum-v1 is an environment, which drives training in one process, and 2 were launched" in error
    assert not (tmp_path / "run").exists()
