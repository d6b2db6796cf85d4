"""Pictures of examples, saved if an example is called with a file name: `python examples/digits.py digits.svg`."""

import sys


def picture_path():
    """Return the file name that the example was called with, or None."""
    return sys.argv[1] if len(sys.argv) > 1 else None


def save_picture(draw, width=7.0, height=3.0):
    """Call draw(ax) and save the figure with matplotlib (extra [plot]), if the example was called with a file name."""
    if picture_path():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure.add_subplot())
        figure.savefig(picture_path())
