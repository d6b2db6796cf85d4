"""Runs the tests once for each compiled variant that this processor runs. Arguments are passed on to pytest.

The installed package is what is tested: the folder that this is called in does not come first on Python's
path.
"""

import os
import signal
import subprocess
import sys

from nnc._model.cores import available

# Where it is ignored, as in a background job, the tests of Ctrl-C would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)
for isa in available():
    print(f"=== tests, instruction set {isa}", flush=True)
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", *sys.argv[1:]]
    done = subprocess.run(command, env=os.environ | {"NNC_ISA": isa})
    if done.returncode:
        sys.exit(done.returncode)
