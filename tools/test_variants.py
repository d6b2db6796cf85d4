"""Run the tests once for each instruction set that this processor supports. Arguments are passed to pytest.

The tests use the installed package: the current folder is not on the search path of Python.
"""

import os
import signal
import subprocess
import sys

from nnc._model.cores import available

# A background job ignores SIGINT. Without this handler, the tests of Ctrl-C would wait forever.
signal.signal(signal.SIGINT, signal.default_int_handler)
for isa in available():
    print(f"=== tests, instruction set {isa}", flush=True)
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "", *sys.argv[1:]]
    completed = subprocess.run(command, env=os.environ | {"NNC_ISA": isa})
    if completed.returncode:
        sys.exit(completed.returncode)
