"""Lets every allocation fail in turn while nnc saves, loads, trains, predicts, copies and pickles.

    python tools/campaigns/memory.py
    python tools/campaigns/memory.py --most 50      # the first 50 allocations of each: a few seconds

Each action runs in a process of its own, where allocation number n fails, for n = 1, 2, ... until the action gets
through again and again. It ends in a MemoryError (load: in an OSError that says so), or works; where Python or NumPy
forget what they ran out of, they raise a SystemError or the like themselves, which is counted. After it the
network predicts what it did, or after a training what is finite, trains on, and is saved. A process that crashes or
takes too long is a finding. Python's own allocator is the one that fails, through `_testcapi.set_nomemory`, which
most builds of CPython have; NumPy's arrays and those of the core are asked for elsewhere (see --limit).

    python tools/campaigns/memory.py --limit        # the address space is limited instead, to many sizes (Linux)

There it is a finding, too, where no size was too little, or none enough: then nothing has been tried. It prints what it
did, and exits 1 with findings.
"""

import argparse
import os
import pickle
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

import nnc

SLOW = 300  # seconds for an action
LIMITS = (0, 1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256)  # MiB
SHORT, ENOUGH = "too little", "enough"


def actions(folder: str) -> dict[str, tuple[Callable[[nnc.NeuralNetwork], Any], bool]]:
    """What is done to a network, and whether that may change it."""
    X, y = data()
    path = os.path.join(folder, "net.json")

    def load(net: nnc.NeuralNetwork) -> None:
        nnc.NeuralNetwork.load(os.path.join(folder, "ready.json"))

    return {
        "save": (lambda net: net.save(path, checkpoint=True), False),
        "load": (load, False),
        "fit": (lambda net: net.fit(X, y, epochs=2, lr=0.001, batch_size=4), True),
        "adam": (lambda net: net.fit(X, y, epochs=2, optimizer="adam", validation=0.25, metrics=["r2"]), True),
        "lbfgs": (lambda net: net.fit(X, y, epochs=2, optimizer="lbfgs"), True),
        "threads": (lambda net: net.fit(X, y, epochs=2, lr=0.001, batch_size=4, n_threads=2), True),
        "predict": (lambda net: net.predict(X), False),
        "evaluate_loss": (lambda net: net.evaluate_loss(X, y), False),
        "gradients": (lambda net: net.gradients(X, y), False),
        "copy": (lambda net: net.copy(), False),
        "pickle": (lambda net: pickle.loads(pickle.dumps(net)), False),
        "summary": (lambda net: net.summary(), False),
    }


def data() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(8, 3)), rng.normal(size=(8, 1))


def trained() -> nnc.NeuralNetwork:
    net = nnc.NeuralNetwork([3, 4, 1], loss="mse", seed=0, scale_X="standardize")
    net.fit(*data(), epochs=2, lr=0.01, optimizer="momentum")
    return net


class Allocations:
    """Lets allocations of Python fail: `begin(first, last)`, from one number up to another, and `end()`."""

    def __init__(self) -> None:
        import _testcapi  # type: ignore[import-not-found]

        self.begin, self.end = _testcapi.set_nomemory, _testcapi.remove_mem_hooks


def usable(net: nnc.NeuralNetwork, before: Any, may_change: bool) -> None:
    """Raises unless the network is as good as before."""
    X, y = data()
    P = net.predict(X)
    assert np.isfinite(P).all(), "what it predicts is not finite"
    assert may_change or P.tobytes() == before, "it predicts something else"
    net.copy().fit(X, y, epochs=1)
    again = nnc.from_json(net.to_json(checkpoint=True))
    assert again.predict(X).tobytes() == P.tobytes(), "saved and read, it predicts something else"


def fail_in_turn(name: str, most: int) -> None:
    """To be run in a process of its own."""
    hooks = Allocations()
    X, _ = data()
    with tempfile.TemporaryDirectory() as folder:
        action, may_change = actions(folder)[name]
        trained().save(os.path.join(folder, "ready.json"), checkpoint=True)
        for net in (trained(), trained()):  # what is imported and kept at the first time
            action(net)
        net = trained()
        before = net.predict(X).tobytes()
        n = failed = others = 0
        worked = 0  # in a row: where a lack of memory is caught on the way, one that works is not the last
        while worked < 50 and n < most:
            n += 1
            if may_change and n % 20 == 1:
                net = trained()
            error: BaseException | None = None
            hooks.begin(n, n + 1)
            try:
                action(net)
            except BaseException as caught:
                hooks.end()
                error = caught
            else:
                hooks.end()
            worked = worked + 1 if error is None else 0
            if error is not None:
                failed += 1
                lacking = isinstance(error, MemoryError) or (isinstance(error, OSError) and "memory" in str(error))
                if isinstance(error, (SystemError, pickle.PicklingError)) or "can't allocate" in str(error):
                    others += 1
                elif not lacking:
                    frame = traceback.extract_tb(error.__traceback__)[-1]
                    print(f"FINDING {name}, allocation {n}: {error!r} in {frame}: {frame.line}", flush=True)
                error.__traceback__ = None
            try:
                usable(net, before, may_change)
            except Exception as problem:
                print(f"FINDING {name}, after allocation {n}: {problem!r}", flush=True)
                net = trained()
            left = [entry for entry in os.listdir(folder) if entry.endswith(".tmp")]
            for entry in left:  # there may have been no memory to remove it
                os.unlink(os.path.join(folder, entry))
        print(f"{name}: {n} allocations, {failed} raised, {others} an error of Python or NumPy", flush=True)


def within_limit(name: str, mebibytes: int) -> None:
    """To be run in a process of its own: the action on a larger network, with so much address space beyond its own."""
    import resource

    net = nnc.NeuralNetwork([100, 2000, 10], loss="mse", seed=0)
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(4000, 100)), rng.normal(size=(4000, 10))
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "net.json")
        net.fit(X[:10], y[:10], epochs=1, lr=1e-6, optimizer="adam")
        net.save(path, checkpoint=name == "load")
        before = net.params.tobytes()
        doings: dict[str, Callable[[], Any]] = {
            "save": lambda: net.save(path, checkpoint=True),
            "load": lambda: nnc.NeuralNetwork.load(path),
            "fit": lambda: net.fit(X, y, epochs=1, batch_size=1000, lr=1e-6),
            "threads": lambda: net.fit(X, y, epochs=1, batch_size=1000, lr=1e-6, n_threads=4),
            "predict": lambda: net.predict(X),
            "copy": lambda: [net.copy() for _ in range(20)],
            "pickle": lambda: pickle.loads(pickle.dumps(net)),
        }
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (used + (mebibytes << 20), hard))
        error: BaseException | None = None
        try:
            doings[name]()
        except BaseException as caught:
            error = caught
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
        if error is None:
            print(ENOUGH)
        elif isinstance(error, MemoryError) or (isinstance(error, OSError) and "memory" in str(error)):
            print(SHORT)
        else:
            print(f"FINDING {name} in {mebibytes} MiB: {error!r}")
        assert np.isfinite(net.predict(X[:10])).all(), "what it predicts is not finite"
        assert name in ("fit", "threads") or net.params.tobytes() == before, "its weights are others"
        net.save(path)
        nnc.NeuralNetwork.load(path)


def run(call: str, report: Callable[[str], None]) -> list[str]:
    """Runs a call of this file in a process of its own; what it prints beside findings."""
    code = f"import runpy, warnings; warnings.simplefilter('ignore'); m = runpy.run_path({__file__!r}); m{call}"
    try:
        child = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=SLOW)
    except subprocess.TimeoutExpired:
        report(f"{call} takes longer than {SLOW} seconds")
        return []
    lines = child.stdout.splitlines()
    for line in lines:
        if line.startswith("FINDING"):
            report(line)
    if child.returncode != 0:
        report(f"{call} ended with {child.returncode}: {child.stderr[-1500:]}")
    return [line for line in lines if not line.startswith("FINDING")]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=10**6, help="allocations of each action")
    parser.add_argument("--limit", action="store_true", help="limit the address space instead")
    parser.add_argument("--actions", nargs="*", default=None)
    options = parser.parse_args(arguments)
    found: list[str] = []

    def report(finding: str) -> None:
        found.append(finding)
        print(finding[:2000], flush=True)

    warnings.simplefilter("ignore")
    if options.limit:
        for name in options.actions or ("save", "load", "fit", "threads", "predict", "copy", "pickle"):
            ends = [end for size in LIMITS for end in run(f"['within_limit']({name!r}, {size})", report)]
            print(f"{name}: {ends.count(SHORT)} of {len(LIMITS)} limits were too little", flush=True)
            if not (SHORT in ends and ENOUGH in ends):
                report(f"FINDING {name}: no limit was {'enough' if SHORT in ends else 'too little'}")
    else:
        try:
            Allocations()
        except (ImportError, AttributeError):
            print("this Python has no _testcapi.set_nomemory: use --limit")
            return 0
        if not getattr(sys, "_is_gil_enabled", lambda: True)():
            print("without a global lock other threads would run out of memory, too: use --limit")
            return 0
        for name in options.actions or actions(""):
            print(*run(f"['fail_in_turn']({name!r}, {options.most})", report), sep="\n", flush=True)
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
