"""Images as rows of numbers: which shapes an array of them may have. Channels come last."""

from __future__ import annotations

from math import prod


def layout(given: tuple[int, ...], image: tuple[int, ...]) -> tuple[int, bool]:
    """How many images an array holds, and whether it is one by itself.

    Parameters
    ----------
    given : tuple of int
        The shape of the array: (n, height, width, channels), (n, height * width * channels), or of one channel (n,
        height, width); or one of these without n.
    image : (height, width, channels)
        What a network takes.

    Raises
    ------
    ValueError
        It is of another shape; where channels come first, the message has what helps.
    """
    height, width, channels = image
    known = [image, *([(height, width)] if channels == 1 else []), (prod(image),)]
    if given[1:] in known:
        return given[0], False
    if given in known:
        return 1, True
    several = [f"(n, {', '.join(map(str, shape))})" for shape in known]
    hint = ""
    if given[-3:] == (channels, height, width) and len(given) in (3, 4):
        hint = f"; channels come last: X.transpose({'0, 2, 3, 1' if len(given) == 4 else '1, 2, 0'})"
    raise ValueError(
        f"X must have shape {', '.join(several[:-1])} or {several[-1]} to fit this network, or be one such image, got "
        f"shape {given}{hint}"
    )
