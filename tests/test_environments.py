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
from gymnasium import spaces as gym

from reparam.environments.copies import Arrival, Copies
from reparam.environments.make import EnvironmentWarning
from reparam.errors import BadInputError
from reparam.training.randomness import stream_seed
from toy_environments import Bandit, Chain, Endless, Forgetful, Moody, Noted, Odd, Pictures, Point

ALL = [Point, Pictures, Chain, Bandit, "Pendulum-v1", "CartPole-v1"]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def lived(copies, steps, draws):
    """The next arrivals of random actions."""
    return [copies.step(copies.spaces.random(copies.count, draws)) for _ in range(steps)]


def same(a, b):
    return all(
        torch.equal(x, y) and x.dtype == y.dtype for one, other in zip(a, b, strict=True) for x, y in zip(one, other, strict=True)
    )


# --- copies


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
    here, apart = (Copies(Point, 2, seed=1, workers=workers) for workers in (False, True))
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


# --- what an environment does wrong

NAN, INF = float("nan"), float("inf")
ODD = {
    "observation nan": (lambda o, r, e, t, i: (np.float32([0, NAN]), r, e, t, i), r"an observation with nan at \(1,\): .* finite"),
    "observation inf": (lambda o, r, e, t, i: (np.float32([-INF, 0]), r, e, t, i), r"an observation with -inf at \(0,\)"),
    "observation beyond float32": (
        lambda o, r, e, t, i: (np.array([1e300, 0]), r, e, t, i),
        r"an observation with 1e\+300 at \(0,\)",
    ),
    "observation shape": (lambda o, r, e, t, i: (o[:1], r, e, t, i), r"shape \(1,\); its observation_space says \(2,\)"),
    "observation complex": (
        lambda o, r, e, t, i: (o.astype(complex), r, e, t, i),
        "complex128; its observation_space says float32",
    ),
    "observation object": (lambda o, r, e, t, i: (np.array([None, 1]), r, e, t, i), "object; its observation_space says float32"),
    "observation ragged": (lambda o, r, e, t, i: ([[1], 2], r, e, t, i), "none of its observation_space"),
    "observation None": (lambda o, r, e, t, i: (None, r, e, t, i), r"shape \(\)"),
    "reward nan": (lambda o, r, e, t, i: (o, NAN, e, t, i), "a reward of nan: it must be finite"),
    "reward inf": (lambda o, r, e, t, i: (o, np.float32(-INF), e, t, i), "a reward of -inf"),
    "reward beyond float32": (lambda o, r, e, t, i: (o, 1e39, e, t, i), r"a reward of 1e\+39"),
    "reward shape": (lambda o, r, e, t, i: (o, np.ones(1), e, t, i), r"a reward of an array of shape \(1,\): one number"),
    "reward None": (lambda o, r, e, t, i: (o, None, e, t, i), "a reward of None"),
    "end": (lambda o, r, e, t, i: (o, r, "no", t, i), "terminated as 'no': true or false"),
    "swapped": (lambda o, r, e, t, i: (o, r, e, i, t), "truncated as a dict"),
    "old": (lambda o, r, e, t, i: (o, r, e, i), "a tuple of 4: the old interface of gym"),
    "nothing": (lambda *_: None, "returned None; observation, reward, terminated"),
    "raises": (lambda *_: [][0], "failed with IndexError: list index out of range"),
}


def odd_now(odd, came):
    return ODD[odd][0](*came)


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_answer_is_refused_with_its_place_and_never_seen(odd):
    copies = Copies(partial(Odd, partial(odd_now, odd)), 2, seed=0)
    copies.start()
    draws = generator()
    lived(copies, 2, draws)
    before = copies.state()
    with pytest.raises(BadInputError, match=rf"copy 0, episode 0, step 3: step .*{ODD[odd][1]}"):
        lived(copies, 1, draws)
    after = copies.state()
    assert before[0] == after[0]
    assert same([before[1].values()], [after[1].values()])


def test_an_odd_answer_is_told_from_a_process_too():
    copies = Copies(partial(Odd, partial(odd_now, "reward nan")), 2, seed=0, workers=True)
    copies.start()
    with pytest.raises(BadInputError, match="copy 0, episode 0, step 3: step gave a reward of nan"):
        lived(copies, 3, generator())
    copies.close()


@pytest.mark.parametrize(
    ("reset", "said"),
    [
        (lambda came: came[0], r"reset returned an array of shape \(2,\); an observation and a dict"),
        (lambda came: (np.zeros(3), {}), r"reset gave an observation of shape \(3,\)"),
        (lambda came: [][0], "reset failed with IndexError"),
    ],
)
def test_an_odd_reset_is_refused(reset, said):
    with pytest.raises(BadInputError, match=f"copy 0, episode 0, step 0: {said}"):
        Copies(partial(Odd, None, reset), 1, seed=0).start()


def test_bytes_outside_of_their_space_are_refused():
    class Levels(Pictures):
        def __init__(self):
            super().__init__()
            self.observation_space = gym.Box(0, 7, (3, 8, 8), dtype=np.uint8)

    class Wide(Pictures):
        def seen(self):
            return super().seen().astype(np.int64) + 1

    class Real(Pictures):
        def seen(self):
            return super().seen() / 255

    with pytest.raises(BadInputError, match="observation from 7 to 255; its observation_space ends at 0 and 7"):
        Copies(Levels, 1, seed=0).start()
    with pytest.raises(BadInputError, match="observation from 8 to 256; its observation_space ends at 0 and 255"):
        Copies(Wide, 1, seed=0).start()
    with pytest.raises(BadInputError, match="observation of float64; its observation_space says uint8"):
        Copies(Real, 1, seed=0).start()


def test_numbers_of_a_wider_type_and_views_are_taken():
    class Wide(Point):
        def seen(self):
            return np.repeat(super().seen().astype(np.float64), 2)[::2]

        def step(self, action):
            observation, reward, *rest = super().step(action)
            return observation, np.float64(reward), *(np.bool_(end) for end in rest[:2]), rest[2]

    wide, narrow = Copies(Wide, 1, seed=0), Copies(Point, 1, seed=0)
    assert same([wide.start(), *lived(wide, 5, generator())], [narrow.start(), *lived(narrow, 5, generator())])


# --- what an agent does wrong


@pytest.mark.parametrize(
    ("name", "action", "said"),
    [
        (Point, torch.zeros(2, 2), r"shape \(2, 2\); this environment takes rows of shape \(1,\)"),
        (Point, torch.zeros(3, 1), r"\(3, 1\) for actions of 2 copies"),
        (Point, torch.zeros(()), r"\(\) for actions of 2 copies"),
        (Point, torch.tensor([[NAN], [0.0]]), "actions that are not finite"),
        (Chain, torch.tensor([0, 2]), "torch.int64, from 0 to 2; .* integers below 2:"),
        (Chain, torch.tensor([-1, 1]), "from -1 to 1"),
        (Chain, torch.tensor([0.0, 1.0]), "actions of torch.float32"),
        (Pictures, torch.tensor([[0, 0, 2], [0, 0, 0]]), "integers below 3 x 2 x 2"),
        (Pictures, torch.zeros(2, dtype=torch.int64), r"shape \(2,\); this environment takes rows of shape \(3,\)"),
    ],
)
def test_actions_that_are_none_are_an_agents_bug(name, action, said):
    copies = Copies(name, 2, seed=0)
    copies.start()
    with pytest.raises(BadInputError, match=f"an agent gave .*{said}"):
        copies.step(action)
