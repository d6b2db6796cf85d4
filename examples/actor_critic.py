"""Balance a pole on a cart with an actor and a critic in one network: advantage actor-critic (Mnih et al., 2016).

cart.py simulates 32 carts at once. The network has three outputs: two logits, whose softmax gives the probabilities of
pushing to the left and to the right (the actor), and the expected sum of discounted rewards (the critic). Actor and
critic have losses of their own. `vjp` returns the gradient of each, the stepper adds them up, and `apply` takes one
step of Adam along the sum.
"""

import numpy as np
from cart import SCALE, has_fallen, next_state
from latency import Latency
from picture import drawn

from nnc import NeuralNetwork

CARTS, ROUNDS, LENGTH, LIMIT = 32, 1000, 32, 500  # carts, rounds and steps of a round; steps of an episode at most
DISCOUNT, TRACE = 0.998, 0.97  # of rewards, and of the estimates of advantages (Schulman et al., 2016)
REWARD = 1 - DISCOUNT  # of each step, so that the sum of discounted rewards is 1 at most
RATE, CRITIC_WEIGHT, ENTROPY_WEIGHT = 0.003, 0.5, 0.005


def softmax(logits):
    """Return probabilities (n, 2)."""
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def actor_gradient(logits, push, advantage):
    """Return d loss / d outputs (n, 3) of the mean of -advantage * log p(push) - ENTROPY_WEIGHT * entropy."""
    p = softmax(logits)
    log_p = np.log(p + 1e-12)
    entropy = -(p * log_p).sum(axis=1, keepdims=True)
    dP = np.zeros((len(p), 3))
    dP[:, :2] = advantage[:, None] * (p - np.eye(2)[push]) + ENTROPY_WEIGHT * p * (log_p + entropy)
    return dP / len(p)


def critic_gradient(value, target):
    """Return d loss / d outputs (n, 3) of the mean of (value - target)^2."""
    dP = np.zeros((len(value), 3))
    dP[:, 2] = 2 * (value - target) / len(value)
    return dP


rng = np.random.default_rng(0)
net = NeuralNetwork([4, 64, 3], activation="tanh", loss="mse", seed=0)
predict = Latency("predict", net.predict)
step = net.stepper("adam", lr=RATE, clip_norm=0.5)


class Carts:
    """Carts that begin anew when they fall or have been upright for LIMIT steps."""

    def __init__(self, n):
        self.state, self.age = rng.uniform(-0.05, 0.05, (n, 4)), np.zeros(n, int)
        self.lengths = []  # of the episodes that have ended

    def push(self, right):
        """Move all carts; return which have fallen, and which have ended, with the states that they ended in."""
        self.state, self.age = next_state(self.state, right), self.age + 1
        fallen, last = has_fallen(self.state), self.state / SCALE
        ended = fallen | (self.age >= LIMIT)
        self.lengths.extend(self.age[ended])
        self.state[ended], self.age[ended] = rng.uniform(-0.05, 0.05, (ended.sum(), 4)), 0
        return fallen, ended, last


def played(carts):
    """Return observations, pushes, advantages and targets of the critic of one round, (LENGTH * CARTS, ...) each."""
    rows, pushes, values, deltas, running = [], [], [], [], []
    for _ in range(LENGTH):
        rows.append(carts.state / SCALE)
        P = predict(rows[-1])
        pushes.append((rng.uniform(size=len(P)) < softmax(P[:, :2])[:, 1]).astype(int))
        fallen, ended, last = carts.push(pushes[-1] == 1)
        values.append(P[:, 2])
        deltas.append(REWARD + DISCOUNT * ~fallen * predict(last)[:, 2] - P[:, 2])
        running.append(~ended)
    advantages, coming = [], 0.0
    for delta, goes_on in zip(deltas[::-1], running[::-1], strict=True):
        coming = delta + DISCOUNT * TRACE * goes_on * coming
        advantages.append(coming)
    advantages = np.array(advantages[::-1])
    targets = (advantages + values).ravel()
    return np.concatenate(rows), np.concatenate(pushes), advantages.ravel(), targets


carts, means = Carts(CARTS), []
for number in range(1, ROUNDS + 1):
    X, push, advantage, target = played(carts)
    P = net.predict(X)
    advantage = (advantage - advantage.mean()) / (advantage.std() + 0.1)
    of_actor, _ = net.vjp(X, actor_gradient(P[:, :2], push, advantage))
    of_critic, _ = net.vjp(X, critic_gradient(P[:, 2], target))
    step.accumulate(of_actor)
    step.accumulate(of_critic, weight=CRITIC_WEIGHT)
    step.apply()
    step.lr = RATE * (1 - number / (ROUNDS + 1))
    means.append(np.mean(carts.lengths[-100:]) if carts.lengths else np.nan)
    is_good = len(carts.lengths) >= 100 and means[-1] >= 495
    if number % 50 == 0 or is_good:
        print(f"after {number:3d} rounds: {means[-1]:5.1f} steps in the last 100 episodes")
    if is_good:
        break

state, upright, lengths = rng.uniform(-0.05, 0.05, (100, 4)), np.ones(100, bool), np.zeros(100)
for _ in range(LIMIT):
    P = predict(state / SCALE)
    state = next_state(state, P[:, 1] > P[:, 0])
    upright &= ~has_fallen(state)
    lengths += upright
print(f"100 new trials: {lengths.mean():.1f} of {LIMIT} steps")
print(predict)


def draw(ax):
    ax.plot(means)
    ax.set_xlabel(f"rounds of {CARTS * LENGTH} steps")
    ax.set_ylabel("steps upright")


drawn(draw)
