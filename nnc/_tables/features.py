"""Sets of features that networks of a table model receive as inputs."""

from __future__ import annotations

from typing import NamedTuple


class FeatureSet(NamedTuple):
    """Features of the columns that are the inputs of a network.

    An encoded row consists of blocks, each of which has features of all columns. A set of features contains the first
    blocks, so the inputs of any network are the first features of a row that is encoded with a larger set. Sets are
    ordered by their size.

    Attributes
    ----------
    n_blocks : int
        Number of blocks: 1 for the plain features (`Encoding.write`), 2 for these and the extra features
        (`Encoding.write_extra`).
    description : str
        Description for reports.
    """

    n_blocks: int
    description: str


PLAIN = FeatureSet(1, "plain encoding")
EXTENDED = FeatureSet(2, "encoding with bins, target statistics and words")
