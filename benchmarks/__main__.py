"""The command line: `python -m benchmarks --help`, from the checkout's root."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from . import report, runner
from .peers import PEERS
from .works import WORKS


def chosen(names):
    """An argparse type: comma-separated names out of `names`."""

    def parse(text):
        wanted = text.split(",")
        if unknown := set(wanted) - set(names):
            raise argparse.ArgumentTypeError(f"no {', '.join(sorted(unknown))} among {', '.join(names)}")
        return wanted

    return parse


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="nnc beside its peers.")
    parser.add_argument("--works", type=chosen(WORKS), default=list(WORKS), help="A,B,...")
    parser.add_argument("--peers", type=chosen(PEERS), default=list(PEERS), help=f"{','.join(PEERS)}")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each peer (default: 7)")
    parser.add_argument("--seconds", type=float, default=0.2, help="length of a turn (default: 0.2)")
    parser.add_argument("--quick", action="store_true", help="one run each: a test, no measurement")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write every number to this file")
    parser.add_argument("--roofline", action="store_true", help="how near to the processor's peak")
    args = parser.parse_args()

    # The root of the checkout was put first in the path, where its nnc/, which has no compiled core, hides
    # the installed one: put it last. The processes that are started take this path over.
    root = Path(__file__).resolve().parents[1]
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != root] + [str(root)]

    works = [WORKS[key] for key in args.works]
    if args.roofline:
        from . import roofline

        return roofline.main(works)

    rounds, seconds = (1, 0.0) if args.quick else (args.rounds, args.seconds)
    with runner.started(args.peers) as (children, versions, missing):
        outcomes = [report.Outcome(work, runner.measure(work, children, rounds, seconds)) for work in works]
    report.show(outcomes, versions, missing)
    if args.json:
        document = report.document(outcomes, versions, missing)
        args.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
