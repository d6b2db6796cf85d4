"""What the C libraries share: compiling one at run time and running it. None of their code is here.

Each has a C file here with three functions: `make` a network, its `parameters`, and `train` it. The library's
own source is taken from the folder that an environment variable names; a library of the system needs none.
"""

import ctypes
import os
import subprocess
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np

_folder = tempfile.TemporaryDirectory(prefix="nnc-bench-")  # removed with the process


def build(name, sources, flags=(), include=".", system=None):
    """Compile `name`.c with the library's sources, or with the `system`'s library if no folder is given."""
    variable = f"NNC_BENCH_{name.upper()}"
    folder = os.environ.get(variable)
    if folder:
        inputs = [f"-I{Path(folder, include)}", *(str(Path(folder, source)) for source in sources)]
    elif system:
        inputs = [f"-l{system}"]
    else:
        raise ImportError(f"set {variable} to the folder of its source")
    target = str(Path(_folder.name, f"{name}.so"))
    command = ["gcc", "-O3", "-march=native", "-DNDEBUG", "-w", "-shared", "-fPIC", "-o", target]
    command += [str(Path(__file__).with_name(f"{name}.c")), *inputs, *flags, "-lm"]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise ImportError("no gcc to compile it") from None
    except subprocess.CalledProcessError as error:
        raise ImportError(f"gcc: {error.stderr.splitlines()[0]}") from None
    library = ctypes.CDLL(target)
    library.make.restype = library.parameters.restype = ctypes.c_void_p
    return library


def trainer(library, work, threads, pack, unpack, rate):
    """`run` for a library.

    Its parameters of one layer are `pack(W, b)`, flat, and back `unpack(flat, n_in, n_out)`. For the
    library's definition of the loss, the learning rate is multiplied by `rate`.
    """
    real = np.ctypeslib.as_ctypes_type(work.dtype)
    sizes = (ctypes.c_int * len(work.sizes))(*work.sizes)
    batch = work.batch or work.rows
    net = ctypes.c_void_p(library.make(sizes, len(sizes), batch, threads))
    start = np.concatenate([pack(W, b).ravel() for W, b in work.weights])
    pointer = ctypes.cast(library.parameters(net), ctypes.POINTER(real))
    params = np.ctypeslib.as_array(pointer, start.shape)
    ends = np.cumsum([W.size + b.size for W, b in work.weights])[:-1]
    X, Y = (np.ascontiguousarray(table) for table in (work.X, work.Y))
    tables = [table.ctypes.data_as(ctypes.c_void_p) for table in (X, Y)]
    arguments = net, *tables, work.rows, batch, work.epochs, ctypes.c_double(work.lr * rate)

    def run():
        params[:] = start
        began = perf_counter()
        library.train(*arguments)
        seconds = perf_counter() - began
        layers = zip(np.split(params, ends), work.weights, strict=True)
        return seconds, [unpack(part, *W.shape) for part, (W, b) in layers]

    return run
