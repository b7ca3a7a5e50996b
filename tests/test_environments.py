"""Environments: copies that repeat and resume, what is refused and in which words, and whole episodes."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import warnings
from functools import partial

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces as gym
from scipy import stats

from reparam.environments.copies import Arrival, Copies
from reparam.environments.episodes import Episode, Returns, play
from reparam.environments.make import EnvironmentWarning, make, spaces_of
from reparam.environments.options import EnvironmentOptions
from reparam.environments.spaces import Spaces
from reparam.errors import BadInputError, StorageError
from reparam.noise import NORMAL, Noise
from reparam.training.randomness import stream_seed
from toy_environments import Bandit, Chain, Endless, Forgetful, Moody, Noted, Odd, Pictures, Point

POINT = Spaces((2,), "real", None, "continuous", (1,), low=(-0.5,), high=(1.5,))
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
    play(Pusher(), partial(Noted, notes), episodes=2)
    assert notes.read_text() == "closed\n" * 5


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


def test_numbers_of_a_wider_type_are_taken():
    class Wide(Point):
        def seen(self):
            return super().seen().astype(np.float64)

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


# --- names


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Pendlum-v1", "there is no environment Pendlum-v1: did you mean Pendulum-v1"),
        ("pendulum-v1", "did you mean Pendulum-v1"),
        ("Pendulum", "Pendulum names no version, .*: say Pendulum-v1"),
        ("Pendulum-v0", "Pendulum-v0 is not there: .* deprecated. Please use `Pendulum-v1` instead"),
        ("Pendulum-v7", "Pendulum-v7 is not there: .* versioned environments: . `v1` ."),
        ("ALE/Pong-v5", "there is no environment ALE/Pong-v5.* as in ale_py:ALE/Pong-v5"),
        ("nowhere_at_all:Some-v0", "nowhere_at_all:Some-v0 needs what is not installed: .*'nowhere_at_all'"),
        ("what is this", "there is no environment what is this"),
        ("toy_environments:Nothing", "toy_environments has no function Nothing"),
        ("nowhere_at_all:made", "there is no module nowhere_at_all"),
        ("toy_environments:np.ones", "has no function np.ones"),
        ("builtins:dict", "builtins:dict returned dict; it must return a gymnasium.Env"),
        ("builtins:open", "builtins:open fails with TypeError"),
    ],
)
def test_a_name_of_nothing_is_told(name, said):
    with pytest.raises(BadInputError, match=said) as told:
        Copies(name, 1, seed=0)
    assert "\n" not in str(told.value)
    assert "\x1b" not in str(told.value)


def test_what_is_not_installed_is_told():
    gymnasium.register("NeedsMore-v0", entry_point=needs_more)
    try:
        with pytest.raises(BadInputError, match="NeedsMore-v0 needs what is not installed: run `pip install more`"):
            Copies("NeedsMore-v0", 1, seed=0)
    finally:
        gymnasium.registry.pop("NeedsMore-v0")


def needs_more():
    raise gymnasium.error.DependencyNotInstalled("run `pip install more`")


def test_an_old_version_draws_one_plain_warning():
    with pytest.warns(EnvironmentWarning, match=r"^CartPole-v0: The environment CartPole-v0 is out of date") as told:
        Copies("CartPole-v0", 1, seed=0)
    assert len(told) == 1
    assert "\x1b" not in str(told[0].message)


def test_functions_by_name_and_as_they_are():
    named, given = Copies("toy_environments:Chain", 1, seed=0), Copies(partial(Chain, start=7), 1, seed=0)
    assert (named.title, named.spaces.low, given.spaces.low) == ("toy_environments:Chain", (0.0,), (7.0,))
    given.start()
    assert given.step(torch.tensor([1])).observation.argmax() == 1
    assert make("toy_environments:Point", render=True).render_mode == "rgb_array"
    with pytest.raises(
        BadInputError, match=r"Chain shows no pictures: its render_mode is None .* let the function take render_mode"
    ):
        Copies(Chain, 1, seed=0, render=True)


def test_a_function_that_takes_anything_is_asked_for_pictures_and_may_warn():
    def made(**options):
        warnings.warn("a word of its own", UserWarning, stacklevel=1)
        return Point(**options)

    with pytest.warns(UserWarning, match="^a word of its own$"):
        assert make(made, render=True).render_mode == "rgb_array"


def test_what_an_environment_itself_tells_the_user_is_left_as_it_is():
    with pytest.raises(StorageError, match=r"^the disk is full$"):
        Copies(partial(Odd, None, full), 1, seed=0).start()


def full(_):
    raise StorageError("the disk is full")


def test_copies_of_different_environments_are_refused():
    made = iter([Point, Chain])
    with pytest.raises(BadInputError, match=r"the copies of .* have different spaces"):
        Copies(lambda: next(made)(), 2, seed=0)


@pytest.mark.parametrize("asked", [{"count": 0}, {"limit": 0}])
def test_nothing_is_refused(asked):
    with pytest.raises(BadInputError, match="both are 1 or more"):
        Copies(Point, **{"count": 1, "seed": 0, **asked})


# --- spaces


def space_of(seen=None, does=None):
    class Between(gymnasium.Env):
        observation_space = gym.Box(-1, 1, (2,)) if seen is None else seen
        action_space = gym.Discrete(2) if does is None else does

    return spaces_of(Between(), "Between")[0]


@pytest.mark.parametrize(
    ("space", "shape", "values", "levels"),
    [
        (gym.Box(-1, 1, (2, 3)), (2, 3), "real", None),
        (gym.Box(-1, 1, (2,), dtype=np.float64), (2,), "real", None),
        (gym.Box(-1, 1, ()), (1,), "real", None),
        (gym.Box(0, 255, (3, 4, 4), dtype=np.uint8), (3, 4, 4), "counts", 255),
        (gym.Box(0, 3, (5,), dtype=np.uint8), (5,), "counts", 3),
        (gym.Box(0, 1, (5,), dtype=np.uint8), (5,), "binary", None),
        (gym.Box(0, 9, (5,), dtype=np.int64), (5,), "real", None),
        (gym.Box(-1, 1, (5,), dtype=np.int64), (5,), "real", None),
        (gym.MultiBinary(4), (4,), "binary", None),
        (gym.MultiBinary([2, 3]), (2, 3), "binary", None),
        (gym.Discrete(6, start=2), (6,), "binary", None),
        (gym.MultiDiscrete([2, 3]), (5,), "binary", None),
        (gym.Dict(a=gym.Box(-1, 1, (2, 2)), b=gym.Discrete(3)), (7,), "real", None),
        (gym.Tuple([gym.Discrete(3), gym.MultiBinary(2)]), (5,), "binary", None),
    ],
)
def test_observations_of_gymnasium(space, shape, values, levels):
    spaces = space_of(seen=space)
    assert (spaces.observation, spaces.values, spaces.levels) == (shape, values, levels)

    class Shows(Bandit):
        observation_space = property(lambda self: space, lambda self, _: None)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            space.seed(seed)
            return space.sample(), {}

        def step(self, action):
            return space.sample(), 0.0, True, False, {}

    copies = Copies(Shows, 2, seed=0)
    seen = copies.start().observation
    space.seed(stream_seed(0, "train", 1))
    assert torch.equal(seen[1], torch.from_numpy(np.asarray(gym.utils.flatten(space, space.sample()))).float().reshape(shape))
    copies.step(torch.tensor([0, 1]))


@pytest.mark.parametrize(
    ("space", "kind", "action", "choices", "low", "high"),
    [
        (gym.Box(np.float32([-1, 0]), np.float32([1, 4])), "continuous", (2,), (), (-1.0, 0.0), (1.0, 4.0)),
        (gym.Discrete(4), "discrete", (), (4,), (0.0,), ()),
        (gym.Discrete(4, start=-2), "discrete", (), (4,), (-2.0,), ()),
        (gym.MultiDiscrete([2, 3], start=[1, 5]), "discrete", (2,), (2, 3), (1.0, 5.0), ()),
        (gym.MultiBinary(3), "discrete", (3,), (2, 2, 2), (), ()),
    ],
)
def test_actions_of_gymnasium(space, kind, action, choices, low, high):
    spaces = space_of(does=space)
    assert (spaces.kind, spaces.action, spaces.choices, spaces.low, spaces.high) == (kind, action, choices, low, high)
    drawn = spaces.random(64, generator())
    theirs = spaces.to_environment(drawn)
    assert all(space.contains(each.astype(space.dtype)) for each in theirs)
    back = spaces.from_environment(theirs)
    assert back.dtype == drawn.dtype
    torch.testing.assert_close(back, drawn, rtol=0, atol=1e-6 if kind == "continuous" else 0)  # float32 on ranges of up to 4
    code = spaces.encode(drawn)
    assert code.shape == (64, spaces.width)
    assert code.dtype == torch.float32
    assert torch.equal(code, drawn) if kind == "continuous" else bool((code.sum(-1) == len(choices)).all())
    assert Spaces.from_facts(json.loads(json.dumps(spaces.facts()))) == spaces


def test_one_hot_codes_are_joined_in_order():
    spaces = space_of(does=gym.MultiDiscrete([2, 3]))
    assert spaces.encode(torch.tensor([[[1, 0]], [[0, 2]]])).tolist() == [[[0, 1, 1, 0, 0]], [[1, 0, 0, 0, 1]]]
    assert space_of(does=gym.Discrete(3)).encode(torch.tensor([2, 0])).tolist() == [[0, 0, 1], [1, 0, 0]]


def test_actions_outside_are_clipped_and_the_ends_are_exact():
    spaces = space_of(does=gym.Box(np.float32([0.1]), np.float32([0.7])))
    assert (
        spaces.to_environment(torch.tensor([[-1.0], [-7.0], [1.0], [9.0]])).tolist()
        == np.float32([[0.1], [0.1], [0.7], [0.7]]).tolist()
    )


def test_actions_lie_in_their_space_whatever_its_type():
    # The float32 next to a tenth is above it, and the one next to three tenths too.
    for dtype in (np.float64, np.float32, np.float16):
        for low, high in ((-0.1, 0.1), (-0.3, 0.3), (0.1, 0.3)):
            space = gym.Box(low, high, (1,), dtype=dtype)
            theirs = space_of(does=space).to_environment(torch.tensor([[-1.0], [1.0], [0.25]]))
            assert all(space.contains(each.astype(dtype)) for each in theirs)


def test_an_environment_gets_actions_of_its_own_type():
    class Half(Point):
        def __init__(self):
            super().__init__()
            self.action_space = gym.Box(-0.5, 1.5, (1,), dtype=np.float16)

        def step(self, action):
            assert self.action_space.contains(action)
            return super().step(action)

    copies = Copies(Half, 1, seed=0)
    copies.start()
    lived(copies, 3, generator())


def test_random_actions_are_uniform():
    """False alarms 1e-6 a test, by chi-square with 11 and 9 degrees of freedom; a cell off by 4 % of its share of 20 000 is found
    (noncentrality 20 000 / 12 * .04^2 * 12 = 32 if all cells alternate, power about .05; by 8 %: 128, power above .999)."""
    n = 20_000
    pairs = space_of(does=gym.MultiDiscrete([3, 4])).random(n, generator(1))
    assert stats.chisquare(torch.bincount(pairs[:, 0] * 4 + pairs[:, 1], minlength=12).numpy()).pvalue > 1e-6
    reals = space_of(does=gym.Box(-1, 1, (1,))).random(n, generator(2))
    assert stats.chisquare(torch.histc(reals, 10, -1, 1).numpy()).pvalue > 1e-6


@pytest.mark.parametrize(
    ("seen", "does", "said"),
    [
        (gym.Text(5), None, "Between shows Text.*agents here take Box"),
        (gym.Sequence(gym.Discrete(2)), None, "Between shows Sequence"),
        (gym.Dict(a=gym.Sequence(gym.Discrete(2))), None, "Between shows Dict"),
        (gym.Box(-1, 1, (0,)), None, r"Between shows nothing: its observations have shape \(0,\)"),
        (None, gym.Box(-np.inf, np.inf, (2,)), "actions between -inf and inf, .*RescaleAction or ClipAction"),
        (None, gym.Box(-1e35, 1e35, (2,)), "actions between -1e.35 and 1e.35, and finite bounds"),
        (None, gym.Box(-1, 1, (2, 2)), r"actions of shape \(2, 2\), and one dimension is wanted"),
        (None, gym.Box(0, 0, (2,)), "actions between 0 and 0"),
        (None, gym.Box(0, 5, (2,), dtype=np.int64), "takes actions of Box"),
        (None, gym.MultiDiscrete([[2, 3], [2, 2]]), "takes actions of MultiDiscrete"),
        (None, gym.Tuple([gym.Discrete(2)]), "takes actions of Tuple"),
    ],
)
def test_spaces_that_no_agent_can_deal_with_are_refused(seen, does, said):
    with pytest.raises(BadInputError, match=said):
        space_of(seen, does)


@pytest.mark.parametrize(
    "change",
    [
        {"values": "pictures"},
        {"levels": 7},
        {"values": "counts"},
        {"observation": (0,)},
        {"kind": "both"},
        {"high": ()},
        {"high": (-0.5,)},
        {"high": (INF,)},
        {"kind": "discrete"},
        {"choices": (2,)},
        {"color": 1},
    ],
)
def test_facts_that_contradict_themselves_are_refused(change):
    with pytest.raises(BadInputError, match="spaces"):
        Spaces.from_facts({**POINT.facts(), **change})


def test_options_out_of_range_are_refused():
    assert EnvironmentOptions().spaces().observation == (3,)
    for name in ("copies", "epoch_steps", "evaluation_episodes", "episode_limit", "memory"):
        with pytest.raises(BadInputError, match=f"{name} is 0: give at least 1"):
            EnvironmentOptions(**{name: 0})
    with pytest.raises(BadInputError, match="environment is ''"):
        EnvironmentOptions(environment="")


def test_gymnasium_is_imported_only_for_an_environment():
    code = (
        "import sys, reparam.environments.copies, reparam.environments.memory, reparam.environments.episodes, "
        "reparam.environments.options, reparam.environments.spaces; assert 'gymnasium' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- episodes


class Pusher:
    """Pushes a point towards 0, with arithmetic that is the same in every row; carries how many steps it has done."""

    spaces = POINT

    def __init__(self):
        self.counts = []

    def act(self, observation, carry, first, source):
        steps = torch.zeros(len(first)) if carry is None else carry[0]
        steps = torch.where(first, 0, steps) + 1
        self.counts.append(steps)
        action = (-observation[:, :1]).clamp(-1, 1)
        if source is not None:
            action = action + 0.3 * Noise(NORMAL, action.shape).draw(source=source)
        return action, (steps,)


def episodes_equal(a, b):
    return torch.equal(a.observation, b.observation) and torch.equal(a.action, b.action) and torch.equal(a.reward, b.reward)


@pytest.mark.parametrize("noise", [False, True])
def test_episodes_are_the_same_whatever_the_copies(noise):
    one, three, many = (play(Pusher(), Point, episodes=7, copies=copies, seed=2, noise=noise) for copies in (1, 3, 10))
    assert len(one) == len(three) == len(many) == 7
    assert all(episodes_equal(*pair) for others in (three, many) for pair in zip(one, others, strict=True))
    assert len({float(episode.observation[0, 0]) for episode in one}) == 7
    assert len({float(episode.action[0] + episode.observation[0, 0].clamp(-1, 1)) for episode in one}) == (7 if noise else 1)


def test_more_episodes_begin_with_the_same_ones():
    few, more = (play(Pusher(), Point, episodes=n, copies=2, seed=2, noise=True) for n in (2, 5))
    assert all(episodes_equal(*pair) for pair in zip(few, more, strict=False))
    assert not episodes_equal(few[0], play(Pusher(), Point, episodes=1, seed=3)[0])


def test_what_an_agent_carries_begins_anew_with_an_episode():
    agent = Pusher()
    play(agent, Point, episodes=3, copies=1)
    assert torch.cat(agent.counts).tolist() == ([*range(1, 22)] * 3)[:-1]  # 20 steps, and the one that begins the next


def test_an_episode_holds_what_was_done():
    (episode,) = play(Pusher(), Point, episodes=1, seed=1, render=True)
    assert (episode.observation.shape, episode.action.shape, episode.reward.shape) == ((21, 2), (20, 1), (20,))
    assert torch.equal(episode.action, (-episode.observation[:-1, :1]).clamp(-1, 1))
    torch.testing.assert_close(episode.reward, -episode.observation[1:, 0].abs(), rtol=0, atol=1e-6)
    assert [int(frame[0, 0, 0]) for frame in episode.frames] == list(range(21))
    assert not episode.terminated


class Right:
    spaces = Spaces((5,), "binary", None, "discrete", (), (2,), (0.0,))

    def act(self, observation, carry, first, source):
        return torch.ones(len(first), dtype=torch.int64), None


def test_the_return_of_a_known_policy():
    found = Returns.of(play(Right(), Chain, episodes=4, copies=3))
    assert (found.rows, found.length, found.terminated, found.error) == (4, 4.0, 1.0, 0.0)
    assert found.mean == pytest.approx(0.7)


def test_an_episode_that_nothing_ends_is_cut_short_with_a_warning(monkeypatch):
    monkeypatch.setattr("reparam.environments.episodes.PATIENCE", 50)
    with pytest.warns(RuntimeWarning, match="Endless has no limit, and episode .* was cut short after 50 steps") as told:
        found = play(Pusher(), Endless, episodes=3, copies=2)
    assert [len(episode.reward) for episode in found] == [50] * 3
    assert len(told) == 3
    assert [len(e.reward) for e in play(Pusher(), Endless, episodes=1, limit=60)] == [60]


def test_an_agent_of_other_spaces_is_refused():
    with pytest.raises(BadInputError, match=r"Chain has .*, and the agent was made for"):
        play(Pusher(), Chain, episodes=1)
    with pytest.raises(BadInputError, match="0 episodes"):
        play(Pusher(), Point, episodes=0)


def worth(*returns):
    nothing = torch.zeros(2, 1)
    return Returns.of([Episode(nothing, nothing[1:], torch.tensor([each]), terminated=False) for each in returns])


def test_returns_by_hand():
    found = worth(1.0, 2.0, 6.0)
    assert (found.rows, found.mean, found.lowest, found.highest) == (3, 3.0, 1.0, 6.0)
    assert found.error == pytest.approx((7 / 3) ** 0.5)  # variance 7 over 3 episodes
    assert worth(4.0).error is None
    with pytest.raises(BadInputError, match="no episodes"):
        Returns.of([])


@pytest.mark.parametrize(
    ("returns", "line", "tile"),
    [
        ((-402.1, -0.6, -51.33), "-151 ± 126    over 3 episodes (worst -402, best -1)", ("return", "−151", "± 126, 3 episodes")),
        ((-150.0, -151.0), "-150.50 ± 0.50  over 2 episodes (worst -151.00, best -150.00)", None),
        ((500.0, 500.0), "500.0 ± 0.0  over 2 episodes (worst 500.0, best 500.0)", ("return", "500.0", "± 0.0, 2 episodes")),
        ((0.0, 0.0), "0.0 ± 0.0  over 2 episodes", None),
        ((-151.26,), "-151.3   over 1 episode", ("return", "−151.3", "one episode")),
    ],
)
def test_returns_in_words(returns, line, tile):
    lines, tiles = worth(*returns).lines(), worth(*returns).tiles()
    assert " ".join(lines[0].split()).startswith("return " + " ".join(line.split()))
    assert tile is None or tiles[0] == tile
