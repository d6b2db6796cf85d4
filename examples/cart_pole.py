"""Balance a pole on a cart: a policy learns from its own trials, by the policy gradient (Williams, 1992).

cart.py simulates 32 carts at once. The network predicts the probabilities of pushing to the left and to the right.
There are no targets. The loss of a push is -log(probability) times its advantage, the sum of the rewards after it
compared with the average. `train_step` receives the derivative of this loss, d loss / d P.
"""

import numpy as np
from cart import SCALE, has_fallen, next_state
from latency import Latency
from picture import save_picture

from nnc import NeuralNetwork

CARTS, STEPS, DISCOUNT = 32, 500, 0.99


def trials(n, choose, rng):
    """Return states (steps, n, 4), pushes (steps, n) and which carts were still running (steps, n)."""
    state, running = rng.uniform(-0.05, 0.05, (n, 4)), np.ones(n, bool)
    states, pushes, alive = [], [], []
    while running.any() and len(states) < STEPS:
        states.append(state / SCALE)
        pushes.append(choose(states[-1]))
        alive.append(running)
        state = next_state(state, pushes[-1])
        running = running & ~has_fallen(state)
    return np.array(states), np.array(pushes), np.array(alive)


def advantages(alive):
    """Return the standardized sum of discounted rewards after each step (steps, n); each step upright has reward 1."""
    returns = np.zeros(alive.shape)
    following = np.zeros(alive.shape[1])
    for step in range(len(alive) - 1, -1, -1):
        following = alive[step] * (1 + DISCOUNT * following)
        returns[step] = following
    mean, deviation = returns[alive].mean(), returns[alive].std()
    return (returns - mean) / (deviation + 1e-9)


rng = np.random.default_rng(0)
net = NeuralNetwork([4, 32, 2], activation="tanh", loss="cross_entropy", seed=0)  # the loss selects a softmax output
predict, step = Latency("predict", net.predict), Latency("train_step", net.stepper("adam", lr=0.02, clip_norm=1.0))


def sampled(state):
    """Return random pushes with the network's probabilities."""
    return rng.uniform(size=len(state)) < predict(state)[:, 1]


def best(state):
    """Return the more probable pushes."""
    return predict(state)[:, 1] > 0.5


lengths = []
for trial in range(1, 201):
    states, pushes, alive = trials(CARTS, sampled, rng)
    length = alive.sum(axis=0).mean()
    lengths.append(length)
    if trial % 10 == 0 or length >= 490:
        print(f"after {trial:3d} rounds of {CARTS} trials: {length:5.1f} steps")
    if length >= 490:
        break
    X, push = states[alive], pushes[alive].astype(int)
    P = net.predict(X)
    chosen = np.arange(len(X)), push
    dP = np.zeros_like(P)
    dP[chosen] = -advantages(alive)[alive] / P[chosen] / len(X)  # derivative of the mean of -advantage * log P
    step(X, dP=dP)

_, _, alive = trials(100, best, rng)
print(f"100 new trials: {alive.sum(axis=0).mean():.1f} of {STEPS} steps")
for call in (predict, step):
    print(call)


def draw(ax):
    ax.plot(lengths)
    ax.set_xlabel(f"rounds of {CARTS} trials")
    ax.set_ylabel("steps upright")


save_picture(draw)
