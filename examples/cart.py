"""Simulation of n poles on carts in NumPy (Barto, Sutton and Anderson, 1983)."""

import numpy as np

GRAVITY, CART, POLE, HALF_LENGTH, FORCE, DT = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02  # units: m/s^2, kg, kg, m, N and s
MAX_POSITION, MAX_ANGLE = 2.4, 12 * np.pi / 180  # an episode ends beyond these limits (in m and rad)
SCALE = np.array([2.4, 3.0, 0.2, 3.0])  # typical size of position, velocity, angle and angular velocity


def next_state(state, right):
    """Return the states (n, 4) after a push to the right or to the left."""
    x, v, angle, omega = state.T
    force = np.where(right, FORCE, -FORCE)
    sin, cos, mass = np.sin(angle), np.cos(angle), CART + POLE
    push_acceleration = (force + POLE * HALF_LENGTH * omega**2 * sin) / mass
    angular_acceleration = (GRAVITY * sin - cos * push_acceleration) / (HALF_LENGTH * (4 / 3 - POLE * cos**2 / mass))
    acceleration = push_acceleration - POLE * HALF_LENGTH * angular_acceleration * cos / mass
    return np.column_stack([x + DT * v, v + DT * acceleration, angle + DT * omega, omega + DT * angular_acceleration])


def has_fallen(state):
    """Return which carts (n,) have left the track or lost the pole."""
    return (abs(state[:, 0]) > MAX_POSITION) | (abs(state[:, 2]) > MAX_ANGLE)
