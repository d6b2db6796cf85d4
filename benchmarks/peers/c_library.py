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

from . import channels_first, channels_last

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
    target = str(Path(_folder.name, f"{name}-{len(os.listdir(_folder.name))}.so"))
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


def trainer(library, work, threads, layers, pack, unpack, rate):
    """`run` for a library.

    It makes a network of the numbers `layers`. Its parameters of one layer are `pack(W, b)`, flat, and back
    `unpack(flat, *shape of W)`; of images they are channels first. For the library's definition of the loss, the
    learning rate is multiplied by `rate`.
    """
    real = np.ctypeslib.as_ctypes_type(work.dtype)
    batch = work.batch or work.rows
    net = ctypes.c_void_p(library.make((ctypes.c_int * len(layers))(*layers), len(layers), batch, threads))
    weights = channels_first(work, work.weights)
    packed = [pack(W, b).ravel() for W, b in weights]
    start = np.concatenate(packed)
    pointer = ctypes.cast(library.parameters(net), ctypes.POINTER(real))
    params = np.ctypeslib.as_array(pointer, start.shape)
    ends = np.cumsum([part.size for part in packed])[:-1]
    images = np.moveaxis(work.X, 3, 1) if work.images else work.X
    X, Y = (np.ascontiguousarray(table) for table in (images, work.Y))
    tables = [table.ctypes.data_as(ctypes.c_void_p) for table in (X, Y)]
    arguments = net, *tables, work.rows, batch, work.epochs, ctypes.c_double(work.lr * rate)

    def run():
        params[:] = start
        began = perf_counter()
        library.train(*arguments)
        seconds = perf_counter() - began
        layers = zip(np.split(params, ends), weights, strict=True)
        return seconds, channels_last(work, [unpack(part, *W.shape) for part, (W, _) in layers])

    return run
