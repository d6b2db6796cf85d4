"""Measure how many planted defects the tests find; tools/planted_defects.json contains the sample and the results.

    python tools/planted_defects.py draw --seed 1
    python tools/planted_defects.py run COPY --seconds 3600
    python tools/planted_defects.py report

The first command draws defects, twice as many as needed: a defect that does not compile is replaced by the next one.
The second command plants one defect at a time into COPY, a copy of the checkout whose files are changed and restored,
and runs the tests: first the quick tests (those of `pytest`) and then the others, each beginning with those of the
changed folder according to CONTRIBUTING.md. A test that fails must pass in the checkout of this tool, whose core must
be compiled in place. Tests of texts and of the structure are left out, because they would find a defect only by its
spelling. The command continues an earlier run. The last command prints the fraction of the defects that both sets of
tests find. A defect with an entry "equivalent" in the file, the reason why it cannot change a result, does not count.
A defect that is "unfinished", because only a part of the tests has run, counts as not found.
"""

from __future__ import annotations

import argparse
import io
import json
import keyword
import os
import random
import re
import subprocess
import sys
import time
import tokenize
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "tools/planted_defects.json"
TIME_LIMIT = 1800  # seconds of a run of the tests, after which a defect counts as found: it causes an endless loop
TEST_LIMIT = 120  # seconds of a test, after which its process ends
COUNTS = {"nnc/": 44, "src/": 16}  # number of defects that compile
MARKERS = {"quick": "not exhaustive", "exhaustive": "exhaustive"}  # by set of tests
# Tests that are left out: they read texts, or measure the structure of the code.
TEXT_TESTS = {
    *("test_architecture", "test_catalogs", "test_changes", "test_docstrings", "test_first_page", "test_house"),
    *("test_language", "test_names"),
    *("test_notebooks", "test_pages", "test_readme", "test_structure", "test_typing", "test_build", "test_campaigns"),
}
COMPARISONS = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "=="}
SIGNS = {"+": "-", "-": "+", "+=": "-=", "-=": "+="}
OPENING, CLOSING = {"(", "[", "{"}, {")", "]", "}"}
Token = tokenize.TokenInfo


class Stage(NamedTuple):
    """One run of pytest: a set of tests, by its name in `MARKERS`, and test files."""

    tests: str
    files: list[str]


class Defect(NamedTuple):
    """Replacement of the text between two positions (line from 1, column from 0) of a file.

    Attributes
    ----------
    file : str
        Path relative to the checkout.
    start, end : tuple of int
    operator : str
        Kind of the defect, such as "wrong sign".
    new : str
        Text after the replacement.
    """

    file: str
    start: tuple[int, int]
    end: tuple[int, int]
    operator: str
    new: str

    def plant(self, text: str) -> str:
        """Return the text of the file with the defect."""
        lines = text.splitlines(keepends=True)
        (first, left), (last, right) = self.start, self.end
        head, tail = lines[first - 1][:left], lines[last - 1][right:]
        return "".join([*lines[: first - 1], head, self.new, tail, *lines[last:]])


# -------------------------------------------------------------------------------------------- drawing


def defects_of(file: str, text: str) -> Iterator[Defect]:
    """Yield all defects that the operators can plant into a file of Python or Cython."""
    try:
        tokens = [
            token
            for token in tokenize.generate_tokens(io.StringIO(text).readline)
            if token.type in {tokenize.NAME, tokenize.NUMBER, tokenize.OP, tokenize.STRING, tokenize.NEWLINE}
        ]
    except (tokenize.TokenError, IndentationError):  # a few Cython files contain C code that is no Python
        return
    for i, token in enumerate(tokens[1:-2], 1):
        after_operand = _ends_operand(tokens[i - 1])
        if token.string in SIGNS and (after_operand or token.string.endswith("=")):
            yield _replace(file, token, token, "wrong sign", SIGNS[token.string])
        elif token.string in {"-", "not"} and not after_operand and tokens[i + 1].string != "in":
            yield Defect(file, token.start, tokens[i + 1].start, "wrong sign", "")
        elif token.string in COMPARISONS and after_operand:
            yield _replace(file, token, token, "wrong comparison", COMPARISONS[token.string])
        elif token.type == tokenize.NUMBER and token.string.isdecimal():
            yield _replace(file, token, token, "off by one", str(int(token.string) + 1))
        is_pointer = token.string == "*" and token.start == tokens[i - 1].end  # products have spaces around the sign
        if token.string in {"+", "-", "*", "and", "or"} and after_operand and not is_pointer:
            last = _operand_end(tokens, i + 1)
            if last is not None:
                yield Defect(file, tokens[i - 1].end, tokens[last].end, "dropped term", "")
        elif token.string == "(" and _is_name(tokens[i - 1]) and tokens[i - 2].string not in {"def", "class"}:
            yield from _swapped_arguments(file, text, tokens, i)
        elif token.string == "copy" and [t.string for t in tokens[i - 1 : i + 3]] == [".", "copy", "(", ")"]:
            yield Defect(file, tokens[i - 1].start, tokens[i + 2].end, "missing copy", "")
        elif token.string == "memcpy" and tokens[i - 1].type == tokenize.NEWLINE and tokens[i + 1].string == "(":
            yield Defect(file, token.start, tokens[_closing(tokens, i + 1)].end, "missing copy", "pass")


def _replace(file: str, first: Token, last: Token, operator: str, new: str) -> Defect:
    return Defect(file, first.start, last.end, operator, new)


def _is_name(token: Token) -> bool:
    return token.type == tokenize.NAME and not keyword.iskeyword(token.string)


def _ends_operand(token: Token) -> bool:
    """Return whether a token may be the last one of an operand, so that a binary operator may follow."""
    return _is_name(token) or token.type == tokenize.NUMBER or token.string in {")", "]"}


def _closing(tokens: Sequence[Token], i: int) -> int:
    """Return the index of the bracket that closes the one with index i."""
    depth = 0
    for j in range(i, len(tokens)):
        depth += (tokens[j].string in OPENING) - (tokens[j].string in CLOSING)
        if depth == 0:
            return j
    return len(tokens) - 1


def _operand_end(tokens: Sequence[Token], i: int) -> int | None:
    """Return the index of the last token of the operand that begins at index i; None if it is not a simple one."""
    if tokens[i].string == "(":
        i = _closing(tokens, i)
    elif not _is_name(tokens[i]) and tokens[i].type != tokenize.NUMBER:
        return None
    while tokens[i + 1].string in {".", "(", "["}:
        i = i + 2 if tokens[i + 1].string == "." else _closing(tokens, i + 1)
    return i


def _swapped_arguments(file: str, text: str, tokens: Sequence[Token], i: int) -> Iterator[Defect]:
    """Yield the defect that swaps the first two arguments of the call whose bracket has index i, if both are simple."""
    end = _operand_end(tokens, i + 1)
    if end is None or tokens[end + 1].string != ",":
        return
    last = _operand_end(tokens, end + 2)
    if last is None or tokens[last + 1].string not in {",", ")"}:
        return
    first, second = (_between(text, tokens[a].start, tokens[b].end) for a, b in ((i + 1, end), (end + 2, last)))
    middle = _between(text, tokens[end].end, tokens[end + 2].start)
    if first != second:
        yield Defect(file, tokens[i + 1].start, tokens[last].end, "swapped argument", second + middle + first)


def _between(text: str, start: tuple[int, int], end: tuple[int, int]) -> str:
    """Return the part of a text between two positions."""
    lines = text.splitlines(keepends=True)[start[0] - 1 : end[0]]
    lines[-1] = lines[-1][: end[1]]
    return "".join(lines)[start[1] :]


def draw(seed: int) -> list[Defect]:
    """Return random defects of nnc/ and src/. Each line has the same probability, and so has each defect of a line."""
    rng = random.Random(seed)
    drawn = []
    for folder, count in COUNTS.items():
        by_line = defaultdict(list)
        paths = sorted(path for path in (ROOT / folder).rglob("*") if path.suffix in {".py", ".pyx", ".pxd", ".pxi"})
        for path in paths:
            file, text = str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
            for defect in defects_of(file, text):
                by_line[file, defect.start[0]].append(defect)
        lines = rng.sample(sorted(by_line), 3 * count)
        defects = [rng.choice(by_line[line]) for line in lines]
        drawn += [defect for defect in defects if _is_valid(defect, (ROOT / defect.file).read_text(encoding="utf-8"))][
            : 2 * count
        ]
    return drawn


def _is_valid(defect: Defect, text: str) -> bool:
    """Return whether a file with the defect can be compiled; files of Cython are compiled only when they are drawn."""
    if defect.file.endswith(".py"):
        try:
            compile(defect.plant(text), defect.file, "exec")
        except SyntaxError:
            return False
    return True


# -------------------------------------------------------------------------------------------- runs


def build(copy: Path) -> bool:
    """Compile the core of a checkout for this processor and return whether that succeeded."""
    command = [sys.executable, "setup.py", "build_ext", "--inplace"]
    environment = os.environ | {"NNC_BUILD_ISA": "auto", "CFLAGS": "-O1"}
    return subprocess.run(command, cwd=copy, env=environment, capture_output=True, check=False).returncode == 0


def run(copy: Path, defect: Defect, stages: Sequence[Stage]) -> tuple[str, str]:
    """Plant a defect, run the tests of some stages, and return the set of tests that found it and the first such test.

    The set is "none" if no test found the defect, and "invalid" if the core with the defect does not compile.
    """
    path = copy / defect.file
    text = path.read_text(encoding="utf-8")
    path.write_text(defect.plant(text), encoding="utf-8")
    try:
        if defect.file.startswith("src/") and not build(copy):
            return "invalid", ""
        for stage in stages:
            if failure := _find_failure(copy, ["-m", MARKERS[stage.tests], *stage.files]):
                return stage.tests, failure
        return "none", ""
    finally:
        path.write_text(text, encoding="utf-8")
        if defect.file.startswith("src/"):
            build(copy)  # the next defect is tested with a core that has none


def stages_of(file: str) -> list[Stage]:
    """Return the runs of pytest for a defect in a file: of each set of tests, those of its folder run first."""
    files = sorted(f"tests/{path.name}" for path in (ROOT / "tests").glob("test_*.py") if path.stem not in TEXT_TESTS)
    first = [name for name in tests_of_folder(file) if name in files]
    parts = [part for part in (first, [name for name in files if name not in first]) if part]
    return [Stage(tests, part) for tests in MARKERS for part in parts]


def tests_of_folder(file: str) -> list[str]:
    """Return the test files that the table of CONTRIBUTING.md lists for changes of a file, or that name its folder."""
    table = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for folders, command in re.findall(r"^\| (`(?:nnc|src)/.*?) \| `pytest (tests/.*?)` \|", table, re.MULTILINE):
        if any(file.startswith(folder) for folder in re.findall(r"`(.*?)`", folders)):
            before, _, rest = command.partition("{")
            names, _, after = rest.partition("}")
            patterns = [before + name + after for name in names.split(",")]
            return [f"tests/{path.name}" for pattern in patterns for path in sorted(ROOT.glob(pattern))]
    name = re.compile(rf"\b{Path(file).parts[1].removesuffix('.py')}\b")
    paths = sorted((ROOT / "tests").glob("test_*.py"))
    return [f"tests/{path.name}" for path in paths if name.search(path.read_text(encoding="utf-8"))]


def _find_failure(copy: Path, arguments: Sequence[str]) -> str:
    """Run tests until one finds the defect, and return its name; "" if none does."""
    ignored: list[str] = []
    while True:
        status, failure = _run_tests(copy, [*arguments, *(f"--deselect={test}" for test in ignored)])
        if not failure:
            return "" if status in {0, 5} else f"exit status {status}"  # 5: no test was selected
        if failure in ignored or not _run_tests(ROOT, ["-m", "", failure])[1]:
            return failure
        print(f"{failure} does not depend on the defect", flush=True)
        ignored.append(failure)


def _run_tests(copy: Path, arguments: Sequence[str]) -> tuple[int, str]:
    """Run tests in a checkout until one fails, and return the exit status and the name of this test."""
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    options += ["-o", f"faulthandler_timeout={TEST_LIMIT}", "-o", "faulthandler_exit_on_timeout=true"]
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", *options, *arguments]
    try:
        result = subprocess.run(
            command, cwd=copy, env=environment, text=True, capture_output=True, timeout=TIME_LIMIT, check=False
        )
    except subprocess.TimeoutExpired:
        return 124, ""  # the status of the program timeout
    failure = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", result.stdout, re.MULTILINE)
    return result.returncode, failure[1] if failure else ""


def interval(found: int, n: int) -> tuple[float, float]:
    """Return the interval of a fraction with 95 % coverage (Wilson, 1927)."""
    z, p = 1.96, found / n
    center, half = p + z * z / (2 * n), z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    return (center - half) / (1 + z * z / n), (center + half) / (1 + z * z / n)


def counted(sample: Sequence[dict[str, Any]], folder: str) -> list[str]:
    """Return the results of the finished defects of a folder that compile and can change a result."""
    rows = [row for row in sample if row["file"].startswith(folder) and "equivalent" not in row]
    return [row["found_by"] for row in rows if row.get("found_by", "invalid") != "invalid"]


def report(sample: Sequence[dict[str, Any]]) -> None:
    """Print the fractions of the defects that the tests find, and the defects that the quick tests do not find."""
    for folder in ("nnc/", "src/", ""):
        results = Counter(counted(sample, folder))
        n = results.total()
        for text, found in ("quick tests", results["quick"]), ("all tests", results["quick"] + results["exhaustive"]):
            if n:
                low, high = interval(found, n)
                print(f"{folder or 'sum'} {text}: {found} of {n}, {found / n:.1%} ({low:.1%} to {high:.1%})")
    for row in sample:
        if row.get("found_by") in {"none", "exhaustive", "unfinished"}:
            line = (ROOT / row["file"]).read_text(encoding="utf-8").splitlines()[row["start"][0] - 1].strip()
            print(f"{row['file']}:{row['start'][0]} {row['operator']} -> {row['new']!r}: {line}")
            print(f"    {row.get('equivalent') or row.get('test') or row['found_by']}")


def measure(copy: Path, document: dict[str, Any], seconds: float) -> None:
    """Run the tests on each defect that is not finished, and store each result in the document and its file.

    All defects run the first stage before one runs the second.
    """
    end = time.monotonic() + seconds
    if not build(copy):  # an earlier run may have left a core with a defect
        raise RuntimeError(f"the core must compile without a defect, got errors in {copy}")
    for number in range(2 * len(MARKERS)):
        for row in document["defects"]:
            stages = stages_of(row["file"])[number:][:1]
            folder = row["file"][:4]
            enough = (
                sum(
                    other["file"].startswith(folder) and other.get("found_by") != "invalid" and "stages" in other
                    for other in document["defects"]
                )
                >= COUNTS[folder]
            )
            finished = "found_by" in row or row.get("stages", 0) > number or (enough and "stages" not in row)
            if finished or time.monotonic() > end:
                continue
            found_by, test = run(copy, _parse(row), stages)
            row["stages"] = number + 1
            if found_by != "none" or number + 1 >= len(stages_of(row["file"])):
                row |= {"found_by": found_by, "test": test}
            write(document)
            print(row, flush=True)


def write(document: dict[str, Any]) -> None:
    """Write the sample with one defect in each line."""
    rows = ",\n".join(json.dumps(row) for row in document["defects"])
    head = json.dumps({name: value for name, value in document.items() if name != "defects"}, indent=1)
    SAMPLE.write_text(f'{head[:-2]},\n "defects": [\n{rows}\n]}}\n', encoding="utf-8")


def main() -> None:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("draw").add_argument("--seed", type=int, default=1)
    command = commands.add_parser("run")
    command.add_argument("copy", type=Path)
    command.add_argument("--seconds", type=float, default=3600, help="begin no further run of tests after this time")
    commands.add_parser("report")
    options = parser.parse_args()
    if options.command == "draw":
        document = {"seed": options.seed, "defects": [defect._asdict() for defect in draw(options.seed)]}
        write(document)
        return
    document = json.loads(SAMPLE.read_text(encoding="utf-8"))
    if options.command == "report":
        report(document["defects"])
    else:
        measure(options.copy.resolve(), document, options.seconds)


def _parse(row: dict[str, Any]) -> Defect:
    """Return the defect of a row of the sample."""
    return Defect(row["file"], tuple(row["start"]), tuple(row["end"]), row["operator"], row["new"])


if __name__ == "__main__":
    main()
