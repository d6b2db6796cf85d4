"""Functions that compile and run the C libraries among the peers; the source of the libraries is not included.

Each library has a C file in this folder with three functions: `create` returns a network, `parameters` returns a
pointer to its parameters, and `train` trains it. An environment variable names the folder with the library's source.
A library that is installed in the system needs no source.
"""

import ctypes
import os
import subprocess
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np

from . import channels_first, channels_last

_folder = tempfile.TemporaryDirectory(prefix="nnc-bench-")  # compiled files; removed when the process ends


def build(name, sources, flags=(), include=".", system=None):
    """Compile `name`.c, and return the loaded library.

    Parameters
    ----------
    name : str
        Name of the C file without suffix; the environment variable is `NNC_BENCH_` with this name in capitals.
    sources : sequence of str
        Source files of the library that are compiled too, relative to its folder.
    flags : sequence of str, optional
        Further options of gcc.
    include : str, optional
        Folder of the header files, relative to the folder of the library.
    system : str, optional
        Library of the system that is linked if the environment variable is not set.

    Raises
    ------
    ImportError
        The source is not available, gcc is not installed, or the compilation fails.
    """
    variable = f"NNC_BENCH_{name.upper()}"
    folder = os.environ.get(variable)
    if folder:
        inputs = [f"-I{Path(folder, include)}", *(str(Path(folder, source)) for source in sources)]
    elif system:
        inputs = [f"-l{system}"]
    else:
        raise ImportError(f"the environment variable {variable} must name the folder of the library's source")
    target = str(Path(_folder.name, f"{name}-{len(os.listdir(_folder.name))}.so"))
    command = ["gcc", "-O3", "-march=native", "-DNDEBUG", "-w", "-shared", "-fPIC", "-o", target]
    command += [str(Path(__file__).with_name(f"{name}.c")), *inputs, *flags, "-lm"]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise ImportError("gcc is not installed; the C libraries are compiled with it") from None
    except subprocess.CalledProcessError as error:
        raise ImportError(f"gcc cannot compile {name}.c: {error.stderr.splitlines()[0]}") from None
    library = ctypes.CDLL(target)
    library.create.restype = library.parameters.restype = ctypes.c_void_p
    return library


def create_run(library, workload, threads, layers, pack, unpack, rate_factor):
    """Return the function `run` of a peer that is a C library.

    Parameters
    ----------
    library : ctypes.CDLL
        A library that `build` returned.
    workload : Workload
    threads : int
        Number of threads.
    layers : sequence of int
        Description of the network for the C function `create`.
    pack : callable
        `pack(W, b)` returns the parameters of a layer in the library's order. W of images has the channels first.
    unpack : callable
        `unpack(vector, *W.shape)` is the inverse of `pack` and returns W and b.
    rate_factor : float
        Factor of the learning rate, for a library whose loss differs from the workload's loss by a constant factor.
    """
    real = np.ctypeslib.as_ctypes_type(workload.dtype)
    batch = workload.batch or workload.rows
    net = ctypes.c_void_p(library.create((ctypes.c_int * len(layers))(*layers), len(layers), batch, threads))
    weights = channels_first(workload, workload.weights)
    packed = [pack(W, b).ravel() for W, b in weights]
    initial = np.concatenate(packed)
    pointer = ctypes.cast(library.parameters(net), ctypes.POINTER(real))
    params = np.ctypeslib.as_array(pointer, initial.shape)
    ends = np.cumsum([part.size for part in packed])[:-1]
    images = np.moveaxis(workload.X, 3, 1) if workload.has_images else workload.X
    X, Y = (np.ascontiguousarray(table) for table in (images, workload.Y))
    tables = [table.ctypes.data_as(ctypes.c_void_p) for table in (X, Y)]
    arguments = net, *tables, workload.rows, batch, workload.epochs, ctypes.c_double(workload.lr * rate_factor)

    def run():
        params[:] = initial
        start = perf_counter()
        library.train(*arguments)
        seconds = perf_counter() - start
        layers = zip(np.split(params, ends), weights, strict=True)
        return seconds, channels_last(workload, [unpack(part, *W.shape) for part, (W, _) in layers])

    return run
