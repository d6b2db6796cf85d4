"""Swing a pendulum up with a motor that is too weak to lift it: model-predictive control on a learned model.

A network learns from random pushes how angle and angular velocity change in a twentieth of a second. The controller
never sees the equations. Before each push it plans two seconds ahead on the network: it takes the best of some random
plans and the plan of before, and improves it by the iterative linear-quadratic regulator (Li and Todorov, 2004), which
goes backwards through time on the model's derivatives. These are `jacobian`, of all steps of the plan in one call.
"""

import numpy as np
from latency import Latency
from picture import drawn

from nnc import NeuralNetwork

GRAVITY, DT, MOST, FASTEST = 10.0, 0.05, 2.0, 8.0  # the pendulum of 1 m and 1 kg: lifting it takes a torque of 5
AHEAD, PLANS, ROUNDS = 40, 32, 4
WEIGHTS, EFFORT = np.array([1.0, 0.1]), 0.001  # of the squares of angle, velocity and torque in the cost of a step
SHARES = np.array([1.0, 0.5, 0.2, 0.05])  # of an improvement, which are tried
# About how much angle and velocity change in a step, so that what the network predicts is of size 1.
CHANGE = np.array([0.4, 1.2])


def swung(state, torque):
    """Return what the real pendulum does; the angle is 0 at the top."""
    angle, omega = state[..., 0], state[..., 1]
    omega = np.clip(omega + DT * (1.5 * GRAVITY * np.sin(angle) + 3 * torque), -FASTEST, FASTEST)
    return np.stack([angle + DT * omega, omega], axis=-1)


def seen(state, torque):
    """Return the rows that the network sees: of the angle the sine and cosine, which do not jump."""
    angle, omega = state[..., 0], state[..., 1]
    return np.column_stack([np.cos(angle), np.sin(angle), omega / FASTEST, torque / MOST])


def upright(state):
    """Return angle and velocity with the angle counted from the top, from -pi to pi."""
    return np.stack([(state[..., 0] + np.pi) % (2 * np.pi) - np.pi, state[..., 1]], axis=-1)


def cost(path, plans):
    """Return the cost of each plan that leads along a path."""
    return (upright(path[1:]) ** 2 @ WEIGHTS + EFFORT * plans**2).sum(axis=0)


rng = np.random.default_rng(0)
states = np.column_stack([rng.uniform(-np.pi, np.pi, 4000), rng.uniform(-FASTEST, FASTEST, 4000)])
torques = rng.uniform(-MOST, MOST, 4000)
net = NeuralNetwork([4, 32, 32, 2], activation="tanh", loss="mse", dtype="float32", seed=0)
X, y = seen(states, torques), (swung(states, torques) - states) / CHANGE
net.fit(X, y, epochs=60, batch_size=50, optimizer="adam", lr=0.005)
net.fit(X, y, epochs=20, batch_size=50, lr=0.0005)
print(f"model: R^2 {net.score(X, y):.5f} of {len(X)} random pushes")
predict, jacobian = Latency("predict", net.predict), Latency("jacobian", net.jacobian)


def rollout(state, plans, torque_at=None):
    """Return the path (steps + 1, n, 2) that plans (steps, n) lead along by the network, and the plans; these may
    follow the path, by a function of step and states."""
    path, plans = [np.broadcast_to(state, (plans.shape[1], 2))], plans.copy()
    for t, torque in enumerate(plans):
        if torque_at is not None:
            torque[:] = torque_at(t, path[-1])
        path.append(path[-1] + CHANGE * predict(seen(path[-1], torque)))
    return np.array(path), plans


def derivatives(path, plan):
    """Return d next state / d state (steps, 2, 2) and d next state / d torque (steps, 2) along a path, by the chain
    rule from the columns that the network sees."""
    by_column = CHANGE[:, None] * jacobian(seen(path[:-1], plan))
    angle = path[:-1, :1]
    by_angle = by_column[:, :, 1] * np.cos(angle) - by_column[:, :, 0] * np.sin(angle)
    by_state = np.eye(2) + np.stack([by_angle, by_column[:, :, 2] / FASTEST], axis=2)
    return by_state, by_column[:, :, 3] / MOST


def improvement(path, plan):
    """Return how the torques should change, and how that should follow the state: step by step from the last, the
    minimum of the cost to come, which is taken as quadratic."""
    A, B = derivatives(path, plan)
    ahead = 2 * WEIGHTS * upright(path)
    slope, curve = np.zeros(2), np.zeros((2, 2))
    push, follow = np.zeros(len(plan)), np.zeros((len(plan), 2))
    for t in range(len(plan) - 1, -1, -1):
        slope, curve = slope + ahead[t + 1], curve + np.diag(2 * WEIGHTS)
        by_torque, bend = B[t] @ slope + 2 * EFFORT * plan[t], B[t] @ curve @ B[t] + 2 * EFFORT
        push[t] = np.clip(plan[t] - by_torque / bend, -MOST, MOST) - plan[t]
        if abs(plan[t] + push[t]) < MOST:  # else it stays there, whatever the state
            follow[t] = -(B[t] @ curve @ A[t]) / bend
        closed = A[t] + np.outer(B[t], follow[t])
        slope = closed.T @ (slope + curve @ B[t] * push[t]) + 2 * EFFORT * (plan[t] + push[t]) * follow[t]
        curve = closed.T @ curve @ closed + 2 * EFFORT * np.outer(follow[t], follow[t])
    return push, follow


def planned(state, before):
    """Return a better plan than the one of before, from this state on."""
    plans = rng.uniform(-MOST, MOST, (AHEAD // 5, PLANS)).repeat(5, axis=0)
    plans[:, 0] = before
    path, plans = rollout(state, plans)
    costs = cost(path, plans)
    for _ in range(ROUNDS):
        least = costs.argmin()
        known, plan, value = path[:, least], plans[:, least], costs[least]
        push, follow = improvement(known, plan)

        def following(t, states, known=known, plan=plan, push=push, follow=follow):
            return np.clip(plan[t] + SHARES * push[t] + (states - known[t]) @ follow[t], -MOST, MOST)

        path, plans = rollout(state, np.zeros((AHEAD, len(SHARES))), following)
        costs = cost(path, plans)
        if costs.min() >= value:
            return plan
    return plans[:, costs.argmin()]


plan_ahead = Latency("a plan", planned)
state, plan, degrees = np.array([np.pi, 0.0]), np.zeros(AHEAD), []
for step in range(1, 161):
    plan = plan_ahead(state, plan)
    state = swung(state, plan[0])
    plan = np.append(plan[1:], 0.0)
    degrees.append(abs(np.degrees(upright(state)[0])))
    if step % 20 == 0:
        print(f"after {DT * step:.0f} s: {degrees[-1]:5.1f} degrees from the top")
print(f"in the last 2 s: {max(degrees[-40:]):.1f} degrees from the top at most")
for call in (predict, jacobian, plan_ahead):
    print(call)


def draw(ax):
    ax.plot(DT * np.arange(1, len(degrees) + 1), degrees)
    ax.set_xlabel("s")
    ax.set_ylabel("degrees from the top")


drawn(draw)
