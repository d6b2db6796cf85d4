"""The tables that are printed and the JSON that is written."""

from __future__ import annotations

import math
import os
import platform
from statistics import median

import numpy as np


class Outcome:
    """One work's candidates, and what follows from them."""

    def __init__(self, work, candidates):
        self.work, self.candidates = work, candidates
        self.best = {}
        for candidate in candidates:
            if candidate.error is None:
                other = self.best.get(candidate.peer)
                if other is None or candidate.seconds < other.seconds:
                    self.best[candidate.peer] = candidate
        self.start = work.judge(work.weights) if work.training else math.inf

    def ratio(self, peer):
        """The peer's time divided by nnc's, each its best way and number of threads; None where one is missing."""
        if peer not in self.best or "nnc" not in self.best:
            return None
        return self.best[peer].seconds / self.best["nnc"].seconds

    def agrees(self, peer):
        """Whether the peer's loss fell as far as the others' did, to a tenth; predictions must be equal to rounding."""
        losses = [candidate.loss for candidate in self.best.values()]
        middle = median(losses)
        allowed = 0.1 * abs(self.start - middle) if self.work.training else 1e-4 * middle
        return abs(self.best[peer].loss - middle) <= allowed  # False for NaN


def table(title, header, rows):
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    print(f"\n{title}\n")
    for row in (header, ["-" * width for width in widths], *rows):
        first, *rest = (cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths, strict=True)))
        print("  ".join((first, *rest)).rstrip())


def show(outcomes, versions, missing):
    """Print everything."""
    peers = list(versions)
    print(f"\n{machine()['processor']}, {os.cpu_count()} cores, Python {platform.python_version()}; {', '.join(versions.values())}")
    for peer, reason in missing.items():
        print(f"missing: {peer} ({reason})")

    def rows(cell, names):
        return [[outcome.work.title, *(cell(outcome, peer) for peer in names)] for outcome in outcomes]

    def ratio_cell(outcome, peer):
        ratio, goal = outcome.ratio(peer), outcome.work.goals.get(peer)
        if ratio is None:
            return "-"
        return f"{ratio:.3g}" + (f" ({goal:g}){' ' if ratio >= goal else '<'}" if goal else "")

    def time_cell(outcome, peer):
        candidate = outcome.best.get(peer)
        if candidate is None:
            return "-"
        return f"{candidate.seconds * 1e6:.3g} ({candidate.way}, {candidate.threads})"

    def loss_cell(outcome, peer):
        if peer not in outcome.best:
            return "-"
        return f"{outcome.best[peer].loss:.4g}" + ("" if outcome.agrees(peer) else " !")

    others = [peer for peer in peers if peer != "nnc"]
    if "nnc" in peers:
        table("Time of the peer / time of nnc (goal; < is below it)", ["work", *others], rows(ratio_cell, others))
    table("Microseconds a step or call (best way, threads)", ["work", *peers], rows(time_cell, peers))
    table("Loss at the end (! differs from the others')", ["work", *peers], rows(loss_cell, peers))
    slow = [c for outcome in outcomes for c in outcome.candidates if c.error is None and c.first_run > 1.5]
    if slow:
        print("\nFirst run, compiling included, where it took more than 1.5 s:", end=" ")
        works = {id(c): outcome.work.key for outcome in outcomes for c in outcome.candidates}
        print(", ".join(f"{works[id(c)]} {c.peer} {c.way} {c.first_run:.1f} s" for c in slow))
    for outcome in outcomes:
        for c in outcome.candidates:
            if c.error is not None:
                print(f"\nfailed: {outcome.work.key} {c.peer} ({c.way}, {c.threads}): {c.error}")


def machine():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            processor = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        processor = platform.processor() or platform.machine()
    return {
        "processor": processor, "cores": os.cpu_count(), "system": platform.platform(),
        "python": platform.python_version(), "numpy": np.__version__,
    }  # fmt: skip


def document(outcomes, versions, missing):
    """Everything as a dictionary for JSON, every round of every candidate included."""
    works = []
    for outcome in outcomes:
        names = [peer for peer in outcome.best if peer != "nnc" and outcome.ratio(peer) is not None]
        works.append(
            {
                "work": outcome.work.key,
                "title": outcome.work.title,
                "steps": outcome.work.steps,
                "start_loss": outcome.start if outcome.work.training else None,
                "goals": outcome.work.goals,
                "ratios": {peer: outcome.ratio(peer) for peer in names},
                "losses_differ": [peer for peer in outcome.best if not outcome.agrees(peer)],
                "candidates": [
                    {
                        "peer": c.peer, "way": c.way, "threads": c.threads, "first_run_seconds": c.first_run,
                        "seconds_a_step": c.seconds if c.rounds else None, "rounds": c.rounds,
                        "loss": c.loss if math.isfinite(c.loss) else None, "error": c.error,
                    }
                    for c in outcome.candidates
                ],
            }
        )  # fmt: skip
    return {"machine": machine(), "peers": versions, "missing": missing, "works": works}
