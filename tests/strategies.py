"""Strategies and settings of Hypothesis that several test files use."""

from hypothesis import settings
from hypothesis import strategies as st

N_SURROGATES = 0x800  # code points from 0xD800 on that are no characters
CODE_POINTS = st.integers(0, 0x7F) | st.integers(0, 0x10FFFF - N_SURROGATES)


def examples(n: int) -> int:
    """Return the number of examples of a slow test: n with `pytest`, and at least that of the profile otherwise."""
    profile = settings().max_examples
    return n if profile == settings.get_profile("nnc").max_examples else max(n, profile)


def texts(max_size: int | None = None) -> st.SearchStrategy[str]:
    """Return a strategy of strings of any characters, half of which are ASCII.

    `hypothesis.strategies.text` first computes the categories of all characters, which takes seconds in a new checkout.
    """
    characters = CODE_POINTS.map(lambda code: chr(code + N_SURROGATES * (code >= 0xD800)))
    return st.lists(characters, max_size=max_size).map("".join)
