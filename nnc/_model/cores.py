"""Which compiled core a network uses: the one for this processor's instruction set and the network's precision.

The environment variable NNC_ISA (baseline, avx2 or avx512) forces one.
"""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

PRECISION = {np.dtype(np.float64): "f64", np.dtype(np.float32): "f32"}

try:
    import nnc._cpu as _cpu  # not `from nnc import`, which would lose the class of the error
except ModuleNotFoundError as error:
    if error.name != "nnc._cpu":
        raise
    home = os.path.dirname(os.path.dirname(__file__))
    raise ImportError(
        f"nnc was imported from {home}, which holds its source but no compiled core. "
        "Run Python from another folder, so that the installed nnc is found, or build the core here "
        "with `pip install -e .`.",
        name="nnc",
        path=__file__,
    ) from None


class CoreTraining(Protocol):
    """A run of the compiled core, `core.Training`; the methods that do not depend on the type of its numbers."""

    counters: tuple[Any, ...]
    single_steps: int  # single steps

    def change(self, decay: float, dropout: Sequence[float]) -> None:
        """Set weight decay and the shares of outputs to drop."""


@cache
def _built() -> list[str]:
    home = [os.path.dirname(_cpu.__file__)]
    return [isa for isa in _cpu.instruction_sets() if PathFinder.find_spec(f"_core_{isa}_f64", home)]


def available() -> list[str]:
    """The instruction sets that this processor runs and this installation was built for, the widest vectors first."""
    return list(_built())


def selected() -> str:
    """The instruction set that networks use: NNC_ISA, or the widest available.

    Raises
    ------
    ImportError
        NNC_ISA names an instruction set that is unknown, not built, or not this processor's.
    """
    forced = os.environ.get("NNC_ISA", "").lower()
    if not forced:
        return available()[0]
    if forced not in available():
        raise ImportError(
            f"NNC_ISA must name an instruction set that this processor and this build of nnc have "
            f"({', '.join(available())}), got {forced!r}"
        )
    return forced


def check_dtype(dtype: Any) -> np.dtype[Any]:
    """float64 or float32, by whatever name of NumPy's."""
    try:
        checked: np.dtype[Any] | None = np.dtype(dtype)
    except TypeError:
        checked = None
    if checked not in PRECISION:
        raise ValueError(f"dtype must be 'float64' or 'float32', got {dtype!r}")
    assert checked is not None
    return checked


def load_core(dtype: np.dtype, widths: Sequence[int]) -> ModuleType:
    """The compiled module for a network of this precision with layers of these widths (the input's left out); without
    them, which lie across vectors, for images."""
    isa = selected()
    # A layer that fills less than half of a 64-byte vector is faster on the 32-byte one.
    if isa == "avx512" and not os.environ.get("NNC_ISA") and 0 < max(widths, default=0) * dtype.itemsize <= 32:
        isa = "avx2"
    return _module(f"nnc._core_{isa}_{PRECISION[dtype]}")


_module = cache(import_module)  # which takes a microsecond to find what is there


def show_config() -> None:
    """Prints the version, the instruction sets (chosen, available), the compiler, threads and the sizes of the number
    types."""
    import platform
    import sys

    import nnc
    from nnc._utils.processors import get_num_threads

    isa = selected()
    forced = " (forced by NNC_ISA)" if os.environ.get("NNC_ISA") else ""
    gil = "" if getattr(sys, "_is_gil_enabled", lambda: True)() else ", free-threaded"
    lanes = {p: import_module(f"nnc._core_{isa}_{p}") for p in ("f64", "f32")}
    print(
        f"nnc {nnc.__version__}, Python {platform.python_version()}{gil}, NumPy {np.__version__}, {platform.machine()}"
    )
    print(f"instruction set: {isa}{forced}; available: {', '.join(available())}")
    print(f"compiled by:     {_cpu.COMPILER}")
    print(f"threads:         {get_num_threads()} at most")
    for precision, dtype in (("f64", "float64"), ("f32", "float32")):
        module = lanes[precision]
        print(f"{dtype}:         {module.REAL_BYTES} bytes, {module.LANES} in a vector")
