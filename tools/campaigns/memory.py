"""Let each memory allocation fail in turn while nnc saves, loads, trains, predicts, copies and pickles.

    python tools/campaigns/memory.py
    python tools/campaigns/memory.py --most 50      # only the first 50 allocations of each action: a few seconds

Each action runs in a new process, in which allocation number n fails, for n = 1, 2, ... until the action succeeds
repeatedly. It must succeed or raise a MemoryError (load: an OSError that mentions memory). Python and NumPy sometimes
raise a SystemError or similar instead, which is only counted. Afterwards the network must predict the same numbers, or
finite ones after a training, and it must be possible to train and save it. A process that crashes or takes too long is
a finding. The failures come from `_testcapi.set_nomemory`, which most builds of CPython have. It affects the allocator
of Python, but not the arrays of NumPy and of the core.

    python tools/campaigns/memory.py --limit        # limit the address space to several sizes instead (Linux)

With --limit all allocations may fail. For each action at least one limit must be too small and one must be sufficient;
otherwise this is a finding, because nothing was tested. The campaign prints what it tested and the findings, and exits
with status 1 if there are any.
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

MAX_SECONDS = 300  # stop the process of an action after this time
# Limits to test: MiB of address space that an action may allocate.
LIMITS = (0, 1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256)
TOO_SMALL, SUFFICIENT = "too small", "sufficient"  # lines that a process prints about its limit


def actions(folder: str) -> dict[str, tuple[Callable[[nnc.NeuralNetwork], Any], bool]]:
    """Return for each action a function of a network, and whether the action may change the network."""
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
    """Return X and y of eight rows."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(8, 3)), rng.normal(size=(8, 1))


def trained_network() -> nnc.NeuralNetwork:
    """Return a new network after two epochs."""
    net = nnc.NeuralNetwork([3, 4, 1], loss="mse", seed=0, scale_X="standardize")
    net.fit(*data(), epochs=2, lr=0.01, optimizer="momentum")
    return net


class Allocations:
    """Switch for failing allocations: `begin(first, last)` lets a range of them fail, `end()` lets all succeed."""

    def __init__(self) -> None:
        import _testcapi  # type: ignore[import-not-found]

        self.begin, self.end = _testcapi.set_nomemory, _testcapi.remove_mem_hooks


def check_network(net: nnc.NeuralNetwork, before: Any, may_change: bool) -> None:
    """Raise an exception unless the network predicts, trains and can be saved as before."""
    X, y = data()
    P = net.predict(X)
    assert np.isfinite(P).all(), "predictions must be finite"
    assert may_change or P.tobytes() == before, "predictions must not change"
    net.copy().fit(X, y, epochs=1)
    reloaded = nnc.from_json(net.to_json(checkpoint=True))
    assert reloaded.predict(X).tobytes() == P.tobytes(), "a saved network must predict the same"


def fail_in_turn(name: str, max_allocations: int) -> None:
    """Repeat an action while each of its first `max_allocations` allocations fails; to be called in a new process."""
    hooks = Allocations()
    X, _ = data()
    with tempfile.TemporaryDirectory() as folder:
        action, may_change = actions(folder)[name]
        trained_network().save(os.path.join(folder, "ready.json"), checkpoint=True)
        for net in (trained_network(), trained_network()):  # the first calls import modules and fill caches
            action(net)
        net = trained_network()
        before = net.predict(X).tobytes()
        n = failed = others = 0
        successes = 0  # number of consecutive successes; one success does not prove that no allocations are left
        while successes < 50 and n < max_allocations:
            n += 1
            if may_change and n % 20 == 1:
                net = trained_network()
            error: BaseException | None = None
            hooks.begin(n, n + 1)
            try:
                action(net)
            except BaseException as caught:
                hooks.end()
                error = caught
            else:
                hooks.end()
            successes = successes + 1 if error is None else 0
            if error is not None:
                failed += 1
                is_expected = isinstance(error, MemoryError) or (isinstance(error, OSError) and "memory" in str(error))
                if isinstance(error, (SystemError, pickle.PicklingError)) or "can't allocate" in str(error):
                    others += 1
                elif not is_expected:
                    frame = traceback.extract_tb(error.__traceback__)[-1]
                    print(f"FINDING {name}, allocation {n}: {error!r} in {frame}: {frame.line}", flush=True)
                error.__traceback__ = None
            try:
                check_network(net, before, may_change)
            except Exception as problem:
                print(f"FINDING {name}, after allocation {n}: {problem!r}", flush=True)
                net = trained_network()
            leftover = [entry for entry in os.listdir(folder) if entry.endswith(".tmp")]
            for entry in leftover:  # without memory, saving may leave a temporary file; remove it
                os.unlink(os.path.join(folder, entry))
        print(
            f"{name}: {n} failing allocations, {failed} exceptions, {others} of them SystemError or similar", flush=True
        )


def within_limit(name: str, mebibytes: int) -> None:
    """Run an action on a larger network with limited additional address space; to be called in a new process."""
    import resource

    net = nnc.NeuralNetwork([100, 2000, 10], loss="mse", seed=0)
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(4000, 100)), rng.normal(size=(4000, 10))
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "net.json")
        net.fit(X[:10], y[:10], epochs=1, lr=1e-6, optimizer="adam")
        net.save(path, checkpoint=name == "load")
        before = net.params.tobytes()
        calls: dict[str, Callable[[], Any]] = {
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
            calls[name]()
        except BaseException as caught:
            error = caught
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
        if error is None:
            print(SUFFICIENT)
        elif isinstance(error, MemoryError) or (isinstance(error, OSError) and "memory" in str(error)):
            print(TOO_SMALL)
        else:
            print(f"FINDING {name} in {mebibytes} MiB: {error!r}")
        assert np.isfinite(net.predict(X[:10])).all(), "predictions must be finite"
        assert name in ("fit", "threads") or net.params.tobytes() == before, "weights must not change"
        net.save(path)
        nnc.NeuralNetwork.load(path)


def run(call: str, report: Callable[[str], None]) -> list[str]:
    """Call a function of this file in a new process, report its findings, and return its other output lines."""
    code = f"import runpy, warnings; warnings.simplefilter('ignore'); m = runpy.run_path({__file__!r}); m{call}"
    try:
        child = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=MAX_SECONDS)
    except subprocess.TimeoutExpired:
        report(f"{call} takes longer than {MAX_SECONDS} seconds")
        return []
    lines = child.stdout.splitlines()
    for line in lines:
        if line.startswith("FINDING"):
            report(line)
    if child.returncode != 0:
        report(f"{call} ended with exit code {child.returncode}: {child.stderr[-1500:]}")
    return [line for line in lines if not line.startswith("FINDING")]


def main(arguments: list[str] | None = None) -> int:
    """Run the campaign and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=10**6, help="maximum number of failing allocations for each action")
    parser.add_argument("--limit", action="store_true", help="limit the address space instead of single allocations")
    parser.add_argument("--actions", nargs="*", default=None, help="names of actions (default: all)")
    options = parser.parse_args(arguments)
    findings: list[str] = []

    def report(finding: str) -> None:
        findings.append(finding)
        print(finding[:2000], flush=True)

    warnings.simplefilter("ignore")
    if options.limit:
        for name in options.actions or ("save", "load", "fit", "threads", "predict", "copy", "pickle"):
            outcomes = [line for size in LIMITS for line in run(f"['within_limit']({name!r}, {size})", report)]
            print(f"{name}: {outcomes.count(TOO_SMALL)} of {len(LIMITS)} limits were too small", flush=True)
            if not (TOO_SMALL in outcomes and SUFFICIENT in outcomes):
                report(f"FINDING {name}: no limit was {SUFFICIENT if TOO_SMALL in outcomes else TOO_SMALL}")
    else:
        try:
            Allocations()
        except (ImportError, AttributeError):
            print("this build of Python has no _testcapi.set_nomemory; use --limit")
            return 0
        if not getattr(sys, "_is_gil_enabled", lambda: True)():
            print("in free-threaded Python, allocations of other threads would fail, too; use --limit")
            return 0
        for name in options.actions or actions(""):
            print(*run(f"['fail_in_turn']({name!r}, {options.most})", report), sep="\n", flush=True)
    return bool(findings)


if __name__ == "__main__":
    sys.exit(main())
