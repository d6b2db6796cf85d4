"""Swing a pendulum up with a motor that is too weak to lift it: model-predictive control on a learned model.

A network learns from random pushes how angle and angular velocity change in 0.05 s. The controller uses only this
model. Before each push it plans two seconds ahead: it selects the best of some random plans and the previous plan, and
improves it by the iterative linear-quadratic regulator (Li and Todorov, 2004). The regulator needs the derivatives of
the model; one call of `jacobian` returns them for all steps of the plan.
"""

import numpy as np
from latency import Latency
from picture import save_picture

from nnc import NeuralNetwork

GRAVITY, DT = 10.0, 0.05  # units: m/s^2 and s; the pendulum has a length of 1 m and a mass of 1 kg
MAX_TORQUE, MAX_VELOCITY = 2.0, 8.0  # units: N m and rad/s; lifting the pendulum without swinging needs 5 N m
HORIZON_STEPS, RANDOM_PLANS, MAX_IMPROVEMENTS = 40, 32, 4
STATE_WEIGHTS, TORQUE_WEIGHT = np.array([1.0, 0.1]), 0.001  # factors of squared states and torques in the cost
STEP_SIZES = np.array([1.0, 0.5, 0.2, 0.05])  # fractions of a change of the plan that the line search tries
CHANGE_SCALE = np.array([0.4, 1.2])  # typical change of angle and velocity in a step; scales the targets to about 1


def next_state(state, torque):
    """Return the next state (..., 2) of the real pendulum; the angle is 0 at the top."""
    angle, omega = state[..., 0], state[..., 1]
    omega = np.clip(omega + DT * (1.5 * GRAVITY * np.sin(angle) + 3 * torque), -MAX_VELOCITY, MAX_VELOCITY)
    return np.stack([angle + DT * omega, omega], axis=-1)


def network_inputs(state, torque):
    """Return the inputs of the network (n, 4): cosine and sine of the angle, velocity and torque, scaled."""
    angle, omega = state[..., 0], state[..., 1]
    return np.column_stack([np.cos(angle), np.sin(angle), omega / MAX_VELOCITY, torque / MAX_TORQUE])


def wrapped(state):
    """Return angle and velocity, with the angle between -pi and pi."""
    return np.stack([(state[..., 0] + np.pi) % (2 * np.pi) - np.pi, state[..., 1]], axis=-1)


def cost(path, plans):
    """Return the cost (n,) of plans (steps, n) with their paths (steps + 1, n, 2)."""
    return (wrapped(path[1:]) ** 2 @ STATE_WEIGHTS + TORQUE_WEIGHT * plans**2).sum(axis=0)


rng = np.random.default_rng(0)
states = np.column_stack([rng.uniform(-np.pi, np.pi, 4000), rng.uniform(-MAX_VELOCITY, MAX_VELOCITY, 4000)])
torques = rng.uniform(-MAX_TORQUE, MAX_TORQUE, 4000)
net = NeuralNetwork([4, 32, 32, 2], activation="tanh", loss="mse", dtype="float32", seed=0)
X, y = network_inputs(states, torques), (next_state(states, torques) - states) / CHANGE_SCALE
net.fit(X, y, epochs=60, batch_size=50, optimizer="adam", lr=0.005)
net.fit(X, y, epochs=20, batch_size=50, lr=0.0005)
print(f"model: R^2 {net.score(X, y):.5f} on {len(X)} random pushes")
predict, jacobian = Latency("predict", net.predict), Latency("jacobian", net.jacobian)


def rollout(state, plans, torque_at=None):
    """Return the path (steps + 1, n, 2) that the network predicts for plans (steps, n), and the plans.

    If given, torque_at(step, states) replaces the torques of the plans.
    """
    path, plans = [np.broadcast_to(state, (plans.shape[1], 2))], plans.copy()
    for t, torque in enumerate(plans):
        if torque_at is not None:
            torque[:] = torque_at(t, path[-1])
        path.append(path[-1] + CHANGE_SCALE * predict(network_inputs(path[-1], torque)))
    return np.array(path), plans


def derivatives(path, plan):
    """Return d next state / d state (steps, 2, 2) and d next state / d torque (steps, 2) along a path.

    They follow by the chain rule from the derivatives with respect to the inputs of the network.
    """
    by_input = CHANGE_SCALE[:, None] * jacobian(network_inputs(path[:-1], plan))
    angle = path[:-1, :1]
    by_angle = by_input[:, :, 1] * np.cos(angle) - by_input[:, :, 0] * np.sin(angle)
    by_state = np.eye(2) + np.stack([by_angle, by_input[:, :, 2] / MAX_VELOCITY], axis=2)
    return by_state, by_input[:, :, 3] / MAX_TORQUE


def improvement(path, plan):
    """Return the changes of the torques (steps,) and their feedback gains on the state (steps, 2).

    Backwards from the last step, they minimize the quadratic approximation of the remaining cost.
    """
    A, B = derivatives(path, plan)
    cost_gradients = 2 * STATE_WEIGHTS * wrapped(path)
    value_gradient, value_hessian = np.zeros(2), np.zeros((2, 2))
    change, gain = np.zeros(len(plan)), np.zeros((len(plan), 2))
    for t in range(len(plan) - 1, -1, -1):
        value_gradient = value_gradient + cost_gradients[t + 1]
        value_hessian = value_hessian + np.diag(2 * STATE_WEIGHTS)
        by_torque = B[t] @ value_gradient + 2 * TORQUE_WEIGHT * plan[t]
        curvature = B[t] @ value_hessian @ B[t] + 2 * TORQUE_WEIGHT
        change[t] = np.clip(plan[t] - by_torque / curvature, -MAX_TORQUE, MAX_TORQUE) - plan[t]
        if abs(plan[t] + change[t]) < MAX_TORQUE:  # a torque at its limit does not depend on the state
            gain[t] = -(B[t] @ value_hessian @ A[t]) / curvature
        closed = A[t] + np.outer(B[t], gain[t])
        torque_derivative = 2 * TORQUE_WEIGHT * (plan[t] + change[t])
        value_gradient = closed.T @ (value_gradient + value_hessian @ B[t] * change[t]) + torque_derivative * gain[t]
        value_hessian = closed.T @ value_hessian @ closed + 2 * TORQUE_WEIGHT * np.outer(gain[t], gain[t])
    return change, gain


def improved_plan(state, previous):
    """Return a plan from this state, improved from the best of random plans and the previous plan."""
    plans = rng.uniform(-MAX_TORQUE, MAX_TORQUE, (HORIZON_STEPS // 5, RANDOM_PLANS)).repeat(5, axis=0)
    plans[:, 0] = previous
    path, plans = rollout(state, plans)
    costs = cost(path, plans)
    for _ in range(MAX_IMPROVEMENTS):
        least = costs.argmin()
        best_path, plan, value = path[:, least], plans[:, least], costs[least]
        change, gain = improvement(best_path, plan)

        def torque_at(t, states, best_path=best_path, plan=plan, change=change, gain=gain):
            torque = plan[t] + STEP_SIZES * change[t] + (states - best_path[t]) @ gain[t]
            return np.clip(torque, -MAX_TORQUE, MAX_TORQUE)

        path, plans = rollout(state, np.zeros((HORIZON_STEPS, len(STEP_SIZES))), torque_at)
        costs = cost(path, plans)
        if costs.min() >= value:
            return plan
    return plans[:, costs.argmin()]


plan_ahead = Latency("plan", improved_plan)
state, plan, degrees = np.array([np.pi, 0.0]), np.zeros(HORIZON_STEPS), []
for step in range(1, 161):
    plan = plan_ahead(state, plan)
    state = next_state(state, plan[0])
    plan = np.append(plan[1:], 0.0)
    degrees.append(abs(np.degrees(wrapped(state)[0])))
    if step % 20 == 0:
        print(f"after {DT * step:.0f} s: {degrees[-1]:5.1f} degrees from the top")
print(f"in the last 2 s: {max(degrees[-40:]):.1f} degrees from the top at most")
for call in (predict, jacobian, plan_ahead):
    print(call)


def draw(ax):
    ax.plot(DT * np.arange(1, len(degrees) + 1), degrees)
    ax.set_xlabel("s")
    ax.set_ylabel("degrees from the top")


save_picture(draw)
