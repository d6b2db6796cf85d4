"""Command line of the main benchmark: `python -m benchmarks --help`, in the root of the checkout."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from . import report, runner
from .peers import PEERS
from .workloads import WORKLOADS


def list_of(names):
    """Return an argparse type that parses a comma-separated list of these names."""

    def parse(text):
        selected = text.split(",")
        if unknown := set(selected) - set(names):
            raise argparse.ArgumentTypeError(f"names must be from {', '.join(names)}, got {', '.join(sorted(unknown))}")
        return selected

    return parse


def main():
    """Run the benchmark, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Compare nnc with other packages.")
    parser.add_argument("--workloads", type=list_of(WORKLOADS), default=list(WORKLOADS), help="A,B,... (default: all)")
    parser.add_argument(
        "--peers", type=list_of(PEERS), default=list(PEERS), help=f"default: all, which are {','.join(PEERS)}"
    )
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each variant (default: 7)")
    parser.add_argument("--seconds", type=float, default=0.2, help="duration of a measurement (default: 0.2)")
    parser.add_argument("--one-thread", action="store_true", help="omit the measurements with all cores")
    parser.add_argument("--quick", action="store_true", help="a single run of each variant, to test the benchmark")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the times of all rounds to this file")
    parser.add_argument(
        "--roofline", action="store_true", help="compare nnc with the multiply-add peak of the processor instead"
    )
    args = parser.parse_args()

    # Python puts the root of the checkout first in the path. Its folder nnc/ has no compiled core and would hide the
    # installed package, so the root is moved to the end. Child processes inherit this path.
    root = Path(__file__).resolve().parents[1]
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != root] + [str(root)]

    workloads = [WORKLOADS[key] for key in args.workloads]
    if args.roofline:
        from . import roofline

        return roofline.main(workloads)

    rounds, seconds = (1, 0.0) if args.quick else (args.rounds, args.seconds)
    thread_counts = [1] if args.one_thread else runner.THREADS
    with runner.start_peers(args.peers, thread_counts) as (children, versions, missing):
        outcomes = [report.Outcome(item, runner.measure(item, children, rounds, seconds)) for item in workloads]
    report.show(outcomes, versions, missing)
    if args.json:
        document = report.document(outcomes, versions, missing)
        args.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
