"""Run all tests with the selected instruction set, and those of the engine with each other one of this processor.

Arguments are passed to pytest.

The tests use the installed package: the current folder is not on the search path of Python.
"""

import os
import signal
import subprocess
import sys

from nnc._model.cores import available, selected

# A background job ignores SIGINT. Without this handler, the tests of Ctrl-C would wait forever.
signal.signal(signal.SIGINT, signal.default_int_handler)
for isa in available():
    print(f"=== tests, instruction set {isa}", flush=True)
    marker = "" if isa == selected() else "engine"
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", marker, *sys.argv[1:]]
    completed = subprocess.run(command, env=os.environ | {"NNC_ISA": isa})
    if completed.returncode:
        sys.exit(completed.returncode)
