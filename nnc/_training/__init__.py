"""Training of a network: arguments, training state, training loops, callbacks, history and warnings."""
