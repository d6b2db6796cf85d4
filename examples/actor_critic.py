"""Balance a pole on a cart with an actor and a critic in one network: advantage actor-critic (Mnih et al., 2016).

cart.py simulates 32 carts at once. The network has three outputs. The actor has two logits; their softmax is the
probability of pushing to the left and to the right. The critic predicts the sum of discounted rewards. Each of them has
a separate loss: `vjp` returns the two gradients, the stepper adds them, and `apply` takes one step of Adam.
"""

import numpy as np
from cart import SCALE, has_fallen, next_state
from latency import Latency
from picture import save_picture

from nnc import NeuralNetwork

CARTS, MAX_ROUNDS, ROUND_STEPS, MAX_EPISODE_STEPS = 32, 1000, 32, 500
DISCOUNT, TRACE_DECAY = 0.998, 0.97  # gamma and lambda of generalized advantage estimation (Schulman et al., 2016)
REWARD = 1 - DISCOUNT  # reward of each step; the sum of discounted rewards is then at most 1
LEARNING_RATE, CRITIC_WEIGHT, ENTROPY_WEIGHT = 0.003, 0.5, 0.005


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
step = net.stepper("adam", lr=LEARNING_RATE, clip_norm=0.5)


class Carts:
    """Carts that start a new episode after a fall and after MAX_EPISODE_STEPS steps."""

    def __init__(self, n):
        self.state, self.age = rng.uniform(-0.05, 0.05, (n, 4)), np.zeros(n, int)
        self.lengths = []  # number of steps of each finished episode

    def push(self, right):
        """Move all carts; return fallen and ended carts, and the scaled states before new episodes begin."""
        self.state, self.age = next_state(self.state, right), self.age + 1
        fallen, last = has_fallen(self.state), self.state / SCALE
        ended = fallen | (self.age >= MAX_EPISODE_STEPS)
        self.lengths.extend(self.age[ended])
        self.state[ended], self.age[ended] = rng.uniform(-0.05, 0.05, (ended.sum(), 4)), 0
        return fallen, ended, last


def play_round(carts):
    """Return observations, pushes, advantages and critic targets of one round, (ROUND_STEPS * CARTS, ...) each."""
    rows, pushes, values, deltas, running = [], [], [], [], []
    for _ in range(ROUND_STEPS):
        rows.append(carts.state / SCALE)
        P = predict(rows[-1])
        pushes.append((rng.uniform(size=len(P)) < softmax(P[:, :2])[:, 1]).astype(int))
        fallen, ended, last = carts.push(pushes[-1] == 1)
        values.append(P[:, 2])
        deltas.append(REWARD + DISCOUNT * ~fallen * predict(last)[:, 2] - P[:, 2])
        running.append(~ended)
    advantages, advantage = [], 0.0
    for delta, is_running in zip(deltas[::-1], running[::-1], strict=True):
        advantage = delta + DISCOUNT * TRACE_DECAY * is_running * advantage
        advantages.append(advantage)
    advantages = np.array(advantages[::-1])
    targets = (advantages + values).ravel()
    return np.concatenate(rows), np.concatenate(pushes), advantages.ravel(), targets


carts, means = Carts(CARTS), []
for number in range(1, MAX_ROUNDS + 1):
    X, push, advantage, target = play_round(carts)
    P = net.predict(X)
    advantage = (advantage - advantage.mean()) / (advantage.std() + 0.1)
    actor_gradients, _ = net.vjp(X, actor_gradient(P[:, :2], push, advantage))
    critic_gradients, _ = net.vjp(X, critic_gradient(P[:, 2], target))
    step.accumulate(actor_gradients)
    step.accumulate(critic_gradients, weight=CRITIC_WEIGHT)
    step.apply()
    step.lr = LEARNING_RATE * (1 - number / (MAX_ROUNDS + 1))
    means.append(np.mean(carts.lengths[-100:]) if carts.lengths else np.nan)
    is_solved = len(carts.lengths) >= 100 and means[-1] >= 495
    if number % 50 == 0 or is_solved:
        print(f"after {number:3d} rounds: {means[-1]:5.1f} steps in the last 100 episodes")
    if is_solved:
        break

state, is_upright, lengths = rng.uniform(-0.05, 0.05, (100, 4)), np.ones(100, bool), np.zeros(100)
for _ in range(MAX_EPISODE_STEPS):
    P = predict(state / SCALE)
    state = next_state(state, P[:, 1] > P[:, 0])
    is_upright &= ~has_fallen(state)
    lengths += is_upright
print(f"100 new trials: {lengths.mean():.1f} of {MAX_EPISODE_STEPS} steps")
print(predict)


def draw(ax):
    ax.plot(means)
    ax.set_xlabel(f"rounds of {CARTS * ROUND_STEPS} steps")
    ax.set_ylabel("steps upright")


save_picture(draw)
