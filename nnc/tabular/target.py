"""What y is: classes of any labels, or numbers, of one output or several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Target:
    """What the y of a fit was.

    Attributes
    ----------
    single : bool
        Whether y was a vector, or a column: predictions are vectors then.
    classes : tuple of arrays, or None
        Of each output, sorted as scikit-learn's; None of numbers.
    n_outputs : int
    """

    single: bool
    classes: tuple[NDArray[Any], ...] | None
    n_outputs: int

    @classmethod
    def of_classes(cls, y: Any, n: int) -> Target:
        """y (n,) or (n, outputs) of labels; ValueError for a missing one, and where an output has a single class."""
        raise NotImplementedError

    @classmethod
    def of_numbers(cls, y: Any, n: int) -> Target:
        """y (n,) or (n, outputs) of numbers, all finite."""
        raise NotImplementedError

    def encode(self, y: Any, n: int) -> NDArray[Any]:
        """(n, outputs): int32 places among the classes, or float64 numbers."""
        raise NotImplementedError

    def decode(self, index: NDArray[Any]) -> NDArray[Any]:
        """Labels of places (n, outputs), or numbers as they are: (n,) where `single`."""
        raise NotImplementedError

    def document(self) -> dict[str, Any]:
        raise NotImplementedError

    @classmethod
    def from_document(cls, document: Any, where: str = "target") -> Target:
        raise NotImplementedError
