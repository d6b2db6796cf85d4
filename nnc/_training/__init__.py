"""A run of training: its arguments, what it goes on from, the run itself, and what is said when it is over."""
