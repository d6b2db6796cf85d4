"""Selection of the build of the core: by the instruction set of the processor and the dtype of the network.

The environment variable NNC_ISA (baseline, avx2 or avx512) overrides the selection.
"""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from nnc._utils.checks import short_repr

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

PRECISION = {np.dtype(np.float64): "f64", np.dtype(np.float32): "f32"}

try:
    # Import the module by `import`, which raises ModuleNotFoundError if it is missing. The statement
    # `from nnc import _cpu` would raise ImportError.
    import nnc._cpu as _cpu
except ModuleNotFoundError as error:
    if error.name != "nnc._cpu":
        raise
    home = os.path.dirname(os.path.dirname(__file__))
    raise ImportError(
        f"nnc was imported from {home}, which contains its source without the compiled core. "
        "Run Python in another folder to import the installed nnc, or build the core here "
        "with `pip install -e .`.",
        name="nnc",
        path=__file__,
    ) from None


class CoreTraining(Protocol):
    """Interface of `core.Training`, a run of the compiled core, for both dtypes."""

    counters: tuple[Any, ...]
    single_steps: int  # number of steps taken with `train_step`, `apply_gradients` or a stepper

    def change(self, decay: float, dropout: Sequence[float]) -> None:
        """Set the weight decay, and the dropout rate of each layer."""


@cache
def _built() -> list[str]:
    """Return the instruction sets of the processor for which cores are installed."""
    home = [os.path.dirname(_cpu.__file__)]
    return [isa for isa in _cpu.instruction_sets() if PathFinder.find_spec(f"_core_{isa}_f64", home)]


def available() -> list[str]:
    """Return the instruction sets that the processor and this installation support, widest vectors first."""
    return list(_built())


def selected() -> str:
    """Return the instruction set for networks: NNC_ISA, or else the supported one with the widest vectors.

    Raises
    ------
    ImportError
        NNC_ISA is not the name of a supported instruction set.
    """
    forced = os.environ.get("NNC_ISA", "").lower()
    if not forced:
        return available()[0]
    if forced not in available():
        raise ImportError(
            f"NNC_ISA must be an instruction set of this processor and this build of nnc "
            f"({', '.join(available())}), got {forced!r}"
        )
    return forced


def check_dtype(dtype: Any) -> np.dtype[Any]:
    """Convert a dtype or its name to float64 or float32; raise ValueError for other dtypes."""
    try:
        checked: np.dtype[Any] | None = np.dtype(dtype)
    except TypeError:
        checked = None
    if checked not in PRECISION:
        raise ValueError(f"dtype must be 'float64' or 'float32', got {short_repr(dtype)}")
    assert checked is not None
    return checked


def load_core(dtype: np.dtype, widths: Sequence[int] = (), recurrent_widths: Sequence[int] = ()) -> ModuleType:
    """Return the core for a network of this dtype.

    Parameters
    ----------
    dtype : np.dtype
        float32 or float64.
    widths : sequence of int
        Numbers of units of all layers except the input and recurrent layers; empty for networks of images.
    recurrent_widths : sequence of int
        Numbers of units of the recurrent layers, in one direction.
    """
    isa = selected()
    if (widths or recurrent_widths) and not os.environ.get("NNC_ISA") and _built()[:2] == ["avx512", "avx2"]:
        # Use 32-byte vectors, which are faster if the outputs of each layer fill at most half of a 64-byte vector. Next
        # to recurrent layers, which take most of the time, the other layers may fill a 64-byte vector.
        recurrent_bytes = max(recurrent_widths, default=0) * dtype.itemsize
        if recurrent_bytes <= 32 and max(widths, default=0) * dtype.itemsize <= (64 if recurrent_widths else 32):
            isa = "avx2"
    return _module(f"nnc._core_{isa}_{PRECISION[dtype]}")


_module = cache(import_module)  # cache, because import_module takes a microsecond even for a loaded module


def show_config() -> None:
    """Print the version of nnc, instruction sets, compiler, maximum number of threads and vector sizes."""
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
