"""Environments: copies that repeat and resume, what is refused and in which words, and whole episodes."""

import json
import multiprocessing
import os
import signal
from functools import partial

import gymnasium
import numpy as np
import pytest
import torch

from reparam.environments.copies import Arrival, Copies
from reparam.environments.make import EnvironmentWarning
from reparam.errors import BadInputError
from reparam.training.randomness import stream_seed
from toy_environments import Bandit, Chain, Endless, Forgetful, Moody, Noted, Pictures, Point, lived, same

ALL = [Point, Pictures, Chain, Bandit, "Pendulum-v1", "CartPole-v1"]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_after_the_end_of_an_episode_the_next_step_begins_another():
    copies = Copies(Chain, 1, seed=0)
    right = torch.tensor([1])
    arrivals = [copies.start(), *(copies.step(right) for _ in range(6))]
    place = [int(a.observation.argmax()) for a in arrivals]
    assert place == [0, 1, 2, 3, 4, 0, 1]
    assert torch.cat([a.reward for a in arrivals]).tolist() == pytest.approx([0, -0.1, -0.1, -0.1, 1, 0, -0.1])
    assert [bool(a.first) for a in arrivals] == [True, False, False, False, False, True, False]
    assert [bool(a.terminated) for a in arrivals] == [False] * 4 + [True, False, False]
    assert [int(a.action) for a in arrivals] == [0, 1, 1, 1, 1, 0, 1]  # the action at the restart was not used
    assert not any(bool(a.truncated) for a in arrivals)
    assert copies.arrival is arrivals[-1]
    for _ in range(3):
        copies.step(right)
    assert [copies.state()[0][part] for part in ("over", "steps")] == [[True], [0]]  # what has ended need not be done again


def test_an_arrival_is_float32_and_its_own():
    copies = Copies(Pictures, 2, seed=0)
    before = copies.start()
    kept = Arrival(*(part.clone() for part in before))
    lived(copies, 3, generator())
    assert same([before], [kept])
    assert before.observation.dtype == torch.float32
    assert before.observation.shape == (2, 3, 8, 8)
    assert before.observation.max() == 255
    assert before.action.dtype == torch.int64


def test_the_episodes_of_a_stream_are_those_of_its_seeds():
    copies = Copies(Point, 3, seed=5)
    starts = [copies.start(), *lived(copies, 62, generator())]
    first = torch.stack([a.observation[:, 0] for a in starts if a.first.all()])  # episodes of 20 steps, in step
    bare = Point()
    for k in range(3):
        for e in range(3):
            assert first[k, e] == float(bare.reset(seed=stream_seed(5, "train", e + 3 * k))[0][0])
    assert len(set(first.flatten().tolist())) == 9
    other = Copies(Point, 3, seed=5, stream="evaluation").start().observation[:, 0]
    assert not set(other.tolist()) & set(first.flatten().tolist())


@pytest.mark.parametrize("name", ALL)
def test_processes_of_their_own_give_the_same_bits(name):
    here, apart = (Copies(name, 2, seed=1, workers=workers) for workers in (False, True))
    assert (here.spaces, here.limit) == (apart.spaces, apart.limit)
    assert same([here.start(), *lived(here, 60, generator())], [apart.start(), *lived(apart, 60, generator())])
    here.close()
    apart.close()


@pytest.mark.parametrize("workers", [False, True])
@pytest.mark.parametrize("steps", [0, 7, 33])
@pytest.mark.parametrize("name", ALL)
def test_what_is_restored_goes_on_bit_for_bit(name, steps, workers):
    draws = generator(steps)
    run = Copies(name, 2, seed=3)
    run.start()
    lived(run, steps, draws)
    facts, tensors = run.state()
    facts, tensors = json.loads(json.dumps(facts)), {name: tensor.clone() for name, tensor in tensors.items()}
    rest = draws.get_state()
    went_on = lived(run, 50, draws)
    draws.set_state(rest)
    again = Copies(name, 2, seed=3, workers=workers)
    again.restore(facts, tensors)
    assert same([again.arrival], [Arrival(*(tensors[field] for field in Arrival._fields))])
    assert same(lived(again, 50, draws), went_on)
    assert again.state()[0] == run.state()[0]
    again.close()


def test_what_had_not_begun_is_restored_too():
    run, again = Copies(Point, 2, seed=3), Copies(Point, 2, seed=3)
    again.restore(*run.state())
    assert same([run.start()], [again.start()])


def test_starting_again_begins_at_the_first_episode():
    copies = Copies(Point, 2, seed=3)
    first = copies.start()
    lived(copies, 30, generator())
    assert same([copies.start()], [first])


def test_an_environment_that_does_not_repeat_draws_a_warning_and_begins_anew():
    run = Copies(Forgetful, 2, seed=0)
    run.start()
    lived(run, 5, generator())
    again = Copies(Forgetful, 2, seed=0)
    with pytest.warns(
        EnvironmentWarning, match="Forgetful does not repeat: .* same 5 actions, episode 0 of copy 0 .* 2 of 2 copies"
    ):
        again.restore(*run.state())
    assert again.step(torch.zeros(2, 1)).first.all()
    assert again.numbers == [2, 3]


@pytest.mark.parametrize("ends", [False, True])
def test_rewards_and_ends_that_do_not_repeat_are_seen_too(ends):
    run, again = (Copies(partial(Moody, ends), 8, seed=0) for _ in range(2))
    run.start()
    lived(run, 2, generator())
    facts, _ = run.state()
    with pytest.warns(EnvironmentWarning, match="Moody does not repeat"):
        again.restore(*run.state())
    left = again.step(torch.zeros(8, 1)).first & ~torch.tensor(facts["over"])
    assert left.any()
    assert not (left & (torch.tensor(facts["steps"]) == 0)).any()  # what has just begun does repeat


def test_the_state_of_other_copies_is_refused():
    run = Copies(Point, 2, seed=0)
    run.start()
    for other in (
        Copies(Point, 3, seed=0),
        Copies(Point, 2, seed=1),
        Copies(Point, 2, seed=0, stream="b"),
        Copies(Chain, 2, seed=0),
    ):
        with pytest.raises(BadInputError, match=r"state is of \(environment, copies, seed, stream\) \['Point', 2, 0, 'train'\]"):
            other.restore(*run.state())


def test_a_copy_without_episodes_left_rests():
    copies = Copies(Chain, 2, seed=0, episodes=3)
    arrivals = [copies.start()] + [copies.step(torch.tensor([1, 1])) for _ in range(9)]
    assert torch.stack([a.observation.argmax(-1) for a in arrivals]).T.tolist() == [
        [0, 1, 2, 3, 4, 0, 1, 2, 3, 4],
        [0, 1, 2, 3, 4, 4, 4, 4, 4, 4],
    ]
    assert [bool(a.terminated[1]) for a in arrivals] == [False] * 4 + [True] + [False] * 5
    assert not any(a.first[1] for a in arrivals[1:])


def test_a_limit_takes_the_place_of_the_registered_one():
    assert [Copies("Pendulum-v1", 1, 0, limit=limit).limit for limit in (None, 30, 1000)] == [200, 30, 1000]
    assert [Copies(Point, 1, 0, limit=limit).limit for limit in (None, 7)] == [None, 7]
    assert Copies(lambda: gymnasium.make("Pendulum-v1").unwrapped, 1, 0).limit is None  # though its spec still tells of one
    copies = Copies(Endless, 1, seed=0, limit=4)
    ends = [copies.start(), *lived(copies, 9, generator())]
    assert [bool(a.truncated) for a in ends] == [False] * 4 + [True] + [False] * 4 + [True]


def test_pictures_of_all_copies():
    copies = Copies(Point, 2, seed=0, render=True)
    copies.start()
    lived(copies, 3, generator())
    assert [frame.tolist() for frame in copies.frames()] == [np.full((4, 6, 3), 3).tolist()] * 2
    pendulum = Copies("Pendulum-v1", 1, seed=0, render=True)
    pendulum.start()
    assert pendulum.frames()[0].shape == (500, 500, 3)
    pendulum.close()


def test_pictures_of_another_kind_are_refused():
    class Grey(Point):
        def render(self):
            return np.zeros((4, 6))

    class Blind(Point):
        def render(self):
            raise gymnasium.error.DependencyNotInstalled("pygame is not installed")

    with pytest.raises(BadInputError, match=r"Grey, copy 0, before .*: render gave a picture of shape \(4, 6\)"):
        Copies(Grey, 1, seed=0, render=True).frames()
    with pytest.raises(BadInputError, match="render failed with DependencyNotInstalled: pygame is not installed"):
        Copies(Blind, 1, seed=0, render=True).frames()


@pytest.mark.parametrize("workers", [False, True])
def test_a_process_that_dies_or_a_closed_environment_is_told(workers):
    copies = Copies(Point, 2, seed=0, workers=workers)
    copies.start()
    if workers:
        os.kill(copies._seats._processes[1].pid, signal.SIGKILL)
        with pytest.raises(BadInputError, match="process with a copy of the environment has died"):
            lived(copies, 3, generator())
    copies.close()
    assert copies.state()[0]["episodes"] == [0, 0]  # what is needed to resume is still there
    with pytest.raises(BadInputError, match="Point was closed: make Copies anew"):
        copies.step(torch.zeros(2, 1))
    copies.close()


def test_an_interrupt_of_the_terminal_leaves_the_processes_alone():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background starts with interrupts ignored
    try:
        here, apart = (Copies(Point, 2, seed=1, workers=workers) for workers in (False, True))
    finally:
        signal.signal(signal.SIGINT, before)
    before = [here.start(), apart.start()]
    for process in apart._seats._processes:
        os.kill(process.pid, signal.SIGINT)
    assert same([before[0], *lived(here, 5, generator())], [before[1], *lived(apart, 5, generator())])
    apart.close()


def test_processes_end_when_the_one_that_asks_them_is_killed():
    def ask(end):
        copies = Copies(Point, 2, seed=0, workers=True)
        end.send(copies.start().first.all().item())
        signal.pause()

    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=ask, args=(theirs,))
    process.start()
    theirs.close()
    assert ours.recv()
    process.kill()
    process.join()
    assert ours.poll(20)  # the end of the file: nobody holds the other side any more
    with pytest.raises(EOFError):
        ours.recv()


@pytest.mark.parametrize("workers", [False, True])
def test_environments_are_closed_once(tmp_path, workers):
    notes = tmp_path / "notes"
    copies = Copies(partial(Noted, notes), 3, seed=0, workers=workers)
    copies.close()
    copies.close() if workers else None
    assert notes.read_text() == "closed\n" * 3


def test_copies_that_cannot_all_be_made_are_closed(tmp_path):
    made = iter([partial(Noted, tmp_path / "notes"), partial(int, "x")])
    with pytest.raises(BadInputError, match="fails with ValueError"):
        Copies(lambda: next(made)(), 2, seed=0)
    assert (tmp_path / "notes").read_text() == "closed\n"


@pytest.mark.slow  # each process imports torch
def test_processes_that_are_not_forked_give_the_same_bits(monkeypatch):
    monkeypatch.setattr("reparam.environments.seat.get_context", lambda: multiprocessing.get_context("spawn"))
    here, apart = (Copies(Point, 2, seed=1, workers=workers) for workers in (False, True))
    assert same([here.start(), *lived(here, 30, generator())], [apart.start(), *lived(apart, 30, generator())])
    apart.close()
    with pytest.raises(BadInputError, match=r"the environment cannot go to a process \(.*\): name it by MODULE:FUNCTION"):
        Copies(lambda: Point(), 2, seed=1, workers=True)


def test_processes_end_with_their_copies():
    copies = Copies(Point, 2, seed=0, workers=True)
    processes = list(copies._seats._processes)
    del copies
    assert not any(process.is_alive() for process in processes)
