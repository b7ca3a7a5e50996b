"""Whole episodes: the same ones whatever is played beside them, and what they were worth."""

from functools import partial

import pytest
import torch

from reparam.environments.episodes import Episode, Returns, play
from reparam.environments.spaces import Spaces
from reparam.errors import BadInputError
from reparam.noise import NORMAL, Noise
from toy_environments import Chain, Endless, Noted, Point

POINT = Spaces((2,), "real", None, "continuous", (1,), low=(-0.5,), high=(1.5,))


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


def test_the_environments_of_episodes_are_closed(tmp_path):
    notes = tmp_path / "notes"
    play(Pusher(), partial(Noted, notes), episodes=2)
    with pytest.raises(BadInputError, match="and the agent was made for"):
        play(Right(), partial(Noted, notes), episodes=2)
    assert notes.read_text() == "closed\n" * 4


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
        ((-1143.0, -0.3), "-572 ± 571 over 2 episodes (worst -1143, best 0)", None),
        ((0.0, 0.0), "0.0 ± 0.0  over 2 episodes", None),
        ((-151.26,), "-151.3   over 1 episode", ("return", "−151.3", "one episode")),
    ],
)
def test_returns_in_words(returns, line, tile):
    lines, tiles = worth(*returns).lines(), worth(*returns).tiles()
    assert " ".join(lines[0].split()).startswith("return " + " ".join(line.split()))
    assert tile is None or tiles[0] == tile
