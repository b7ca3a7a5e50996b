"""What environments are called, and what they show and take: all that gymnasium has, or a clear refusal."""

import json
import subprocess
import sys
import warnings
from dataclasses import replace
from functools import partial

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces as gym
from scipy import stats

from reparam.environments.copies import Copies
from reparam.environments.make import EnvironmentWarning, make, spaces_of
from reparam.environments.options import EnvironmentOptions
from reparam.environments.spaces import Spaces, check_known
from reparam.errors import BadInputError, StorageError
from reparam.training.randomness import stream_seed
from toy_environments import Bandit, Chain, Odd, Point

POINT = Spaces((2,), "real", None, "continuous", (1,), low=(-0.5,), high=(1.5,))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


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
    copies.step(torch.tensor([[0.3]]))


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
        {"high": (float("inf"),)},
        {"kind": "discrete"},
        {"choices": (2,)},
        {"color": 1},
    ],
)
def test_facts_that_contradict_themselves_are_refused(change):
    with pytest.raises(BadInputError, match="spaces"):
        Spaces.from_facts({**POINT.facts(), **change})


def test_an_agent_of_other_spaces_is_told_in_words():
    check_known("here", POINT, POINT)
    with pytest.raises(
        BadInputError, match=r"here has observations of 2 real .* in .-0.5, 1.5., and the agent was made for .* of 3 real"
    ):
        check_known("here", POINT, replace(POINT, observation=(3,)))
    two = replace(POINT, action=(2,), low=(0.0, 0.0), high=(1.0, 2.0))
    with pytest.raises(BadInputError, match=r"here has high=\[1.0, 2.0\], and the agent was made for high=\[1.0, 3.0\]"):
        check_known("here", two, replace(two, high=(1.0, 3.0)))


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
