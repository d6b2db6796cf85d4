"""A picture for an example that was called with the name of a file: `python examples/digits.py digits.svg`."""

import sys


def asked():
    """Return the name of the file that a picture is asked for in, or None."""
    return sys.argv[1] if len(sys.argv) > 1 else None


def drawn(draw, width=7.0, height=3.0):
    """Save what draw(ax) draws with matplotlib (extra [plot]), if a picture is asked for."""
    if asked():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure.add_subplot())
        figure.savefig(asked())
