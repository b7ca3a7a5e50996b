"""Environments and agents that say what they must not: refused with the copy, the episode and the step, and never seen."""

from functools import partial

import numpy as np
import pytest
import torch
from gymnasium import spaces as gym

from reparam.environments.copies import Copies
from reparam.errors import BadInputError
from toy_environments import Chain, Odd, Pictures, Point, lived, same


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


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
    class View(Point):
        def seen(self):
            return np.repeat(super().seen(), 2)[::2]

    class Wide(View):
        def seen(self):
            return super().seen().astype(np.float64)

        def step(self, action):
            observation, reward, *rest = super().step(action)
            return observation, np.float64(reward), *(np.bool_(end) for end in rest[:2]), rest[2]

    usual, wide, view = (Copies(kind, 1, seed=0) for kind in (Point, Wide, View))
    seen = [usual.start(), *lived(usual, 5, generator())]
    assert same([wide.start(), *lived(wide, 5, generator())], seen)
    assert same([view.start(), *lived(view, 5, generator())], seen)


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
