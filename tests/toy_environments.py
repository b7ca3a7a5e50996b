"""Environments small enough to know all about: what their best return is, and what is wrong with them."""

import gymnasium
import numpy as np
import torch
from gymnasium import spaces


class Bandit(gymnasium.Env):
    """One choice of two a game, worth 1 with probability 0.2 and 0.8: the best return is 0.8 on average, chance gets 0.5."""

    worth = (0.2, 0.8)

    def __init__(self):
        self.observation_space = spaces.Box(0.0, 1.0, (1,))
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.ones(1, dtype=np.float32), {}

    def step(self, action):
        reward = float(self.np_random.random() < self.worth[int(action)])
        return np.ones(1, dtype=np.float32), reward, True, False, {}


class Chain(gymnasium.Env):
    """A corridor of five places, of which the number is seen: choice 1 goes right, 0 left; a step costs 0.1, the right end gives 1.

    There the episode ends. From place 0 the best return is 1 - 3 * 0.1 = 0.7, in four steps.
    """

    places = 5

    def __init__(self, start=0):
        self.observation_space = spaces.Discrete(self.places)
        self.action_space = spaces.Discrete(2, start=start)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = 0
        return self.place, {}

    def step(self, action):
        assert self.action_space.contains(action), action
        go = 1 if action == self.action_space.start + 1 else -1
        self.place = min(max(self.place + go, 0), self.places - 1)
        end = self.place == self.places - 1
        return self.place, 1.0 if end else -0.1, end, False, {}


class Point(gymnasium.Env):
    """A point on a line that is pushed by the action and by the environment's own noise; the nearer to 0 the better; 20 steps."""

    def __init__(self, render_mode=None):
        self.render_mode = render_mode
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,))
        self.action_space = spaces.Box(np.float32([-0.5]), np.float32([1.5]))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x, self.steps = self.np_random.normal(), 0
        return self.seen(), {}

    def seen(self):
        return np.array([self.x, self.steps / 20], dtype=np.float32)

    def step(self, action):
        self.x += float(action[0]) - 0.5 + 0.1 * self.np_random.normal()
        self.steps += 1
        return self.seen(), -abs(self.x), False, self.steps == 20, {}

    def render(self):
        return np.full((4, 6, 3), self.steps, dtype=np.uint8)


class Pictures(gymnasium.Env):
    """A white square in a dark picture of 3 x 8 x 8 bytes, which wanders; three choices of two, of which the first moves it."""

    def __init__(self):
        self.observation_space = spaces.Box(0, 255, (3, 8, 8), dtype=np.uint8)
        self.action_space = spaces.MultiDiscrete([3, 2, 2])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.steps = int(self.np_random.integers(8)), 0
        return self.seen(), {}

    def seen(self):
        picture = np.full((3, 8, 8), 7, dtype=np.uint8)
        picture[:, self.at, self.steps % 8] = 255
        return picture

    def step(self, action):
        assert self.action_space.contains(action), action
        self.at, self.steps = (self.at + int(action[0]) - 1) % 8, self.steps + 1
        return self.seen(), float(self.at == 4), False, self.steps == 12, {}


class Endless(Point):
    """A point whose episodes nothing ends."""

    def step(self, action):
        return *super().step(action)[:3], False, {}


class Forgetful(Point):
    """A point whose noise does not come from the seed of reset."""

    _own = np.random.default_rng(0)

    def step(self, action):
        observation, *rest = super().step(action)
        return observation + np.float32(self._own.normal()), *rest


class Moody(Point):
    """A point whose rewards, or ends, but not what it shows, come from a generator of its own; it minds steps after an end."""

    _own = np.random.default_rng(0)

    def __init__(self, ends=False):
        super().__init__()
        self.ends, self.over = ends, True

    def reset(self, *, seed=None, options=None):
        self.over = False
        return super().reset(seed=seed)

    def step(self, action):
        assert not self.over, "the episode is over"
        observation, *_ = super().step(action)
        self.over = bool(self.ends and self._own.random() < 0.3)
        return observation, 0.0 if self.ends else float(self._own.normal()), self.over, False, {}


class Noted(Point):
    """A point that appends a line to a file when it is closed."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def close(self):
        with self.path.open("a") as file:
            file.write("closed\n")


class Odd(Point):
    """A point whose third step says something odd: what `answer` makes of its answer. Or its `reset` does."""

    def __init__(self, answer=None, reset=None):
        super().__init__()
        self.answer, self.start = answer, reset

    def reset(self, *, seed=None, options=None):
        came = super().reset(seed=seed)
        return came if self.start is None else self.start(came)

    def step(self, action):
        came = super().step(action)
        return self.answer(came) if self.steps == 3 and self.answer is not None else came


def lived(copies, steps, draws):
    """The next arrivals of random actions."""
    return [copies.step(copies.spaces.random(copies.count, draws)) for _ in range(steps)]


def same(a, b):
    """Whether two lists of arrivals are the same bits."""
    return all(
        torch.equal(x, y) and x.dtype == y.dtype for one, other in zip(a, b, strict=True) for x, y in zip(one, other, strict=True)
    )
