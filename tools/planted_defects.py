"""Measure how many planted defects the tests find.

    python tools/planted_defects.py lines COPY lines.json
    python tools/planted_defects.py draw lines.json defects.json --seed 1
    python tools/planted_defects.py run COPY lines.json defects.json results.jsonl
    python tools/planted_defects.py report defects.json results.jsonl --leave-out equivalent.txt

COPY is a copy of the checkout, whose files are changed and restored. The first command compiles the core in it, runs
all tests, and records which test functions execute each line of nnc/, and which lines of src/ are executed. The second
command draws defects from these lines, twice as many as needed: a defect that does not compile is replaced by the next
one. The third command plants one defect at a time and runs the tests that execute its line: first the quick tests
(those of `pytest`), and if they pass, the others. A test that fails must fail again alone, and pass in the checkout of
this tool, whose core must be compiled in place. Tests of texts and of the structure are left out, because they would
find a defect only by its spelling. The last command prints the fraction of the defects that both sets of tests find.
Defects that cannot change a result are left out by a file with one number in each line, followed by the reason.

The commands need the package coverage, and "lines" also gcov, and a user other than root: root could not write the
lines of tests that give up its permissions.
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
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).resolve().parents[1]
TIME_LIMIT = 1800  # seconds of a run of the tests, after which a defect counts as found: it causes an endless loop
TEST_LIMIT = 300  # seconds of a test, after which its process ends
COUNTS = {"nnc/": 80, "src/": 40}  # number of defects that compile
MARKERS = {"quick": "not exhaustive", "exhaustive": "exhaustive"}
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


def draw(lines: dict[str, dict[str, list[str]]], seed: int) -> list[Defect]:
    """Return random defects in executed lines. Each line has the same probability, and so has each defect of a line."""
    rng = random.Random(seed)
    drawn = []
    for folder, count in COUNTS.items():
        by_line = defaultdict(list)
        for file in sorted(file for file in lines if file.startswith(folder)):
            text = (ROOT / file).read_text(encoding="utf-8")
            for defect in defects_of(file, text):
                if str(defect.start[0]) in lines[file] and _is_valid(defect, text):
                    by_line[file, defect.start[0]].append(defect)
        drawn += [rng.choice(by_line[line]) for line in rng.sample(sorted(by_line), 2 * count)]
    return drawn


def _is_valid(defect: Defect, text: str) -> bool:
    """Return whether a file with the defect can be compiled; files of Cython are compiled only when they are drawn."""
    if defect.file.endswith(".py"):
        try:
            compile(defect.plant(text), defect.file, "exec")
        except SyntaxError:
            return False
    return True


# -------------------------------------------------------------------------------------------- executed lines


def build(copy: Path, trace: bool = False) -> bool:
    """Compile the core of a checkout for this processor and return whether that succeeded; with `trace` for gcov."""
    options = "emit_linenums=True" if trace else ""
    code = (
        "import functools, runpy, Cython.Build as b; "
        f"b.cythonize = functools.partial(b.cythonize, nthreads=2, {options}); "
        "runpy.run_path('setup.py', run_name='__main__')"
    )
    environment = os.environ | {"NNC_BUILD_ISA": "auto", "CFLAGS": "-O1 --coverage" if trace else "-O1"}
    command = [sys.executable, "-c", code, "build_ext", "--inplace"]
    return subprocess.run(command, cwd=copy, env=environment, capture_output=True, check=False).returncode == 0


def record_lines(copy: Path) -> dict[str, dict[str, list[str]]]:
    """Run all tests and return the test functions by file and line; [] for lines of src/, which have no functions."""
    if not build(copy, trace=True):
        raise RuntimeError("the core could not be compiled for gcov")
    settings = copy / "coverage.ini"
    settings.write_text("[run]\nsource = nnc\ndynamic_context = test_function\nparallel = true\npatch = subprocess\n")
    for arguments in ([], ["-m", "exhaustive"]):
        command = ["coverage", "run", "--rcfile=coverage.ini", "-m", "pytest", "-q", "-p", "no:xdist", *arguments]
        _run_in(copy, command, check=True)  # a test that fails by itself would find all defects
    _run_in(copy, ["coverage", "combine", "-q", "--rcfile=coverage.ini"])
    _run_in(copy, ["coverage", "json", "-q", "--rcfile=coverage.ini", "--show-contexts", "-o", "coverage.json"])
    report = json.loads((copy / "coverage.json").read_text())
    lines = {file: content["contexts"] for file, content in report["files"].items()}
    sources = {path.name: str(path.relative_to(copy)) for path in (copy / "src").rglob("*")}
    # Without --json-format, gcov omits the lines of .pxd, because Cython names these files without their folder.
    for report in _run_in(copy, ["sh", "-c", "gcov --json-format --stdout $(find build -name '*.gcda')"]).splitlines():
        for content in json.loads(report)["files"]:
            file = sources.get(content["file"], content["file"])
            if file.startswith("src/"):
                executed = {str(line["line_number"]): [] for line in content["lines"] if line["count"]}
                lines.setdefault(file, {}).update(executed)
    return lines


def _run_in(copy: Path, command: Sequence[str], check: bool = False) -> str:
    """Run a module (or sh) in a checkout, so that nnc is imported from there, and return what it prints.

    If `check` is true and the command fails, raise RuntimeError.
    """
    if command[0] != "sh":
        command = [sys.executable, "-m", *command]
    environment = os.environ | {"PYTHONPATH": str(copy)}
    result = subprocess.run(command, cwd=copy, env=environment, text=True, capture_output=True, check=False)
    if check and result.returncode:
        raise RuntimeError(f"{' '.join(command)} must pass in the copy, got:\n{result.stdout[-2000:]}")
    return result.stdout


# -------------------------------------------------------------------------------------------- runs


def run(copy: Path, defect: Defect, contexts: Sequence[str], failing: set[str]) -> dict[str, str]:
    """Plant a defect, run the tests, and return which of them found it first, for each set of tests.

    The set `failing` contains tests that also fail without a defect. They are left out, and further ones are added.
    """
    path = copy / defect.file
    text = path.read_text(encoding="utf-8")
    path.write_text(defect.plant(text), encoding="utf-8")
    try:
        if defect.file.startswith("src/") and not build(copy):
            return {"invalid": "the core with the defect cannot be compiled"}
        for name, marker in MARKERS.items():
            for arguments in select_tests(copy, contexts):
                if found := _find_failure(copy, ["-m", marker, *arguments], failing):
                    return {name: found}
        return {"none": ""}
    finally:
        path.write_text(text, encoding="utf-8")


def select_tests(copy: Path, contexts: Sequence[str]) -> Iterator[list[str]]:
    """Yield the arguments of each run of pytest for contexts of coverage, such as "tests.test_files.test_name".

    Lines that a module executes when it is imported, and lines of the core, may influence all tests. The tests that
    probably find the defect run first.
    """
    modules = {context.split(".")[1] for context in contexts if context}
    names = sorted({path.stem for path in (copy / "tests").glob("test_*.py")} - TEXT_TESTS)
    files = [f"tests/{name}.py" for name in names]
    first = [f"tests/{name}.py" for name in names if name in modules]
    if first and "" not in contexts:
        yield ["-k", " or ".join(sorted({context.split(".")[-1] for context in contexts})), *first]
        return
    if not first:
        first = [file for file in files if "mark.engine" in (copy / file).read_text(encoding="utf-8")]
    yield first
    yield [file for file in files if file not in first]


def _find_failure(copy: Path, arguments: Sequence[str], failing: set[str]) -> str:
    """Run tests until one finds the defect, and return its name; "" if none does."""
    ignored = set(failing)
    while True:
        status, failure = _run_tests(copy, [*arguments, *(f"--deselect={test}" for test in sorted(ignored))])
        if not failure:
            return "" if status in {0, 5} else f"exit status {status}"  # 5: no test was selected
        if _run_tests(ROOT, ["-m", "", failure])[1]:
            failing.add(failure)
        elif _run_tests(copy, ["-m", "", failure])[1]:
            return failure
        print(f"{failure} does not depend on the defect", flush=True)
        if failure in ignored:
            raise RuntimeError(f"tests must be collected in {ROOT}, got an error in {failure}")
        ignored.add(failure)


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


def report(defects: Sequence[Defect], results: dict[int, dict[str, str]], left_out: dict[int, str]) -> None:
    """Print the fractions of the defects that the tests find, and the defects that no test finds."""
    for folder in ("nnc/", "src/"):
        counted = [
            name
            for number, result in results.items()
            for name in result
            if defects[number].file.startswith(folder) and number not in left_out and name != "invalid"
        ]
        whole, quick = len(counted) - counted.count("none"), counted.count("quick")
        for text, found, n in ("all tests", whole, len(counted)), ("quick tests, of those that all find", quick, whole):
            if n:
                low, high = interval(found, n)
                print(f"{folder} {text}: {found} of {n}, {found / n:.1%} ({low:.1%} to {high:.1%})")
    for number, result in sorted(results.items()):
        defect = defects[number]
        if "quick" not in result:
            line = (ROOT / defect.file).read_text(encoding="utf-8").splitlines()[defect.start[0] - 1].strip()
            print(f"{number} {defect.file}:{defect.start[0]} {defect.operator} -> {defect.new!r}: {line}")
            print(f"    {left_out.get(number) or result}")


def main() -> None:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name, paths in {
        "lines": ["copy", "lines"],
        "draw": ["lines", "defects"],
        "run": ["copy", "lines", "defects", "results"],
        "report": ["defects", "results"],
    }.items():
        command = commands.add_parser(name)
        for path in paths:
            command.add_argument(path, type=Path)
        if name == "draw":
            command.add_argument("--seed", type=int, default=1)
        if name == "report":
            command.add_argument("--leave-out", type=Path, help="file with numbers of defects and reasons")
    options = parser.parse_args()
    if options.command == "lines":
        options.lines.write_text(json.dumps(record_lines(options.copy.resolve())))
        return
    if options.command == "draw":
        defects = draw(json.loads(options.lines.read_text()), options.seed)
        options.defects.write_text("\n".join(json.dumps(defect) for defect in defects) + "\n")
        return
    defects = [_parse(line) for line in options.defects.read_text().splitlines()]
    results = {}
    if options.results.exists():
        results = {row["number"]: row["result"] for row in map(json.loads, options.results.read_text().splitlines())}
    if options.command == "report":
        rows = options.leave_out.read_text().splitlines() if options.leave_out else []
        report(defects, results, {int(row.split()[0]): row.split(maxsplit=1)[1] for row in rows})
        return
    lines = json.loads(options.lines.read_text())
    missing, failing = dict(COUNTS), set()
    if not build(options.copy.resolve()):  # an earlier run may have left a core with a defect
        raise RuntimeError(f"the core must compile without a defect, got errors in {options.copy}")
    for number, defect in enumerate(defects):
        folder = defect.file[:4]
        if not missing[folder]:
            continue
        if number not in results:
            begin = time.monotonic()
            contexts = lines[defect.file][str(defect.start[0])]
            results[number] = run(options.copy.resolve(), defect, contexts, failing)
            row = {"number": number, "result": results[number], "seconds": round(time.monotonic() - begin)}
            with options.results.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(row, flush=True)
        missing[folder] -= "invalid" not in results[number]


def _parse(line: str) -> Defect:
    """Return the defect of a line of the file that "draw" writes."""
    file, start, end, operator, new = json.loads(line)
    return Defect(file, tuple(start), tuple(end), operator, new)


if __name__ == "__main__":
    main()
