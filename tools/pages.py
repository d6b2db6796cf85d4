"""The code on pages: blocks of Python, run in one session, and what stands below them is what they print.

    python tools/pages.py docs/guide/images.md      # runs it; the pictures that it writes land in the current folder

tests/test_pages.py runs the pages, and so does docs/conf.py, which takes the pictures. A comment before a block,
`<!-- needs torch -->`, names packages: where one of them is not installed, the block is left out. Later blocks that
build on it say the same. `<!-- needs mnist -->` needs the MNIST files in the folder `mnist` of the folder that the
environment variable NNC_DATA names; the block finds them in the folder `mnist`. Blocks of a console have commands of
the shell behind "$ ", and what they print below each.
"""

from __future__ import annotations

import contextlib
import doctest
import functools
import importlib.util
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parent.parent
# A block of Python, and the text that may stand below it: what it prints, where "..." stands for anything.
BLOCK = re.compile(
    r"(?:^<!-- needs ([\w ]+) -->\n\n?)?^```(?:python|console)\n(.*?)^```\n(?:\n^```text\n(.*?)^```\n)?",
    re.DOTALL | re.MULTILINE,
)
PICTURE = re.compile(r"!\[[^]]*\]\(([\w.-]+)\)")  # an image of a page
# In place of a picture whose block was left out.
NOT_DRAWN = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 520 40" width="520" height="40">
<text x="4" y="26" font-family="sans-serif" font-size="15" fill="gray">not drawn here, where data is missing</text>
</svg>
"""
COMMAND = re.compile(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)


def blocks(page: Path, text: str | None = None) -> list[re.Match[str]]:
    """Return the blocks of a page, or of its translated text.

    Group 1 of a match names the needed packages, group 2 is the code and group 3 the expected output.
    """
    text = page.read_text(encoding="utf-8") if text is None else text
    found = list(BLOCK.finditer(text))
    if len(found) != text.count("```python") + text.count("```console"):
        raise AssertionError(f"{page}: a block of code is not closed, or indented")
    return found


def missing(needs: str | None) -> list[str]:
    """Return the needed packages that are not installed; `mnist` is the folder of that name in the folder NNC_DATA."""
    return [
        name
        for name in (needs or "").split()
        if (mnist_folder() is None if name == "mnist" else importlib.util.find_spec(name) is None)
    ]


def mnist_folder() -> Path | None:
    """Return the folder mnist of the folder that NNC_DATA names, or None if it does not exist."""
    folder = Path(os.environ.get("NNC_DATA") or os.devnull, "mnist")
    return folder.resolve() if folder.is_dir() else None


def name_skipped(pages: list[Path]) -> None:
    """Print in one line what the skipped blocks of pages need, if blocks are skipped."""
    needed = {name for page in pages for block in blocks(page) for name in missing(block[1])}
    if needed:
        hint = " (NNC_DATA must name a folder that contains mnist)" if "mnist" in needed else ""
        print(f"skipped: blocks that need {', '.join(sorted(needed))}{hint}", flush=True)


def provide(needs: str | None, folder: Path) -> None:
    """Link the needed data into the folder that code runs in."""
    mnist = mnist_folder()
    if "mnist" in (needs or "").split() and mnist is not None and not (folder / "mnist").exists():
        (folder / "mnist").symlink_to(mnist)


def run(page: Path, folder: Path, text: str | None = None) -> list[str | None]:
    """Run the blocks of a page in a folder, warnings being errors; return what each has printed, None where it was left
    out.

    Raises AssertionError where a block prints something else than the page says, and whatever a block raises.
    """
    text = page.read_text(encoding="utf-8") if text is None else text
    names, outputs = {"__name__": page.stem}, []
    for block in blocks(page, text):
        of_shell = block[2].startswith("$ ")
        if missing(block[1]) or (of_shell and os.name == "nt"):
            outputs.append(None)
            continue
        provide(block[1], folder)
        line = text.count("\n", 0, block.start(2))
        where = f"{page}, line {line + 1}"
        if of_shell:
            shown = ""
            for command, said in COMMAND.findall(block[2]):
                done = shell(command, folder)
                compare(where, said, done)
                shown += f"$ {command}\n{done}"
            outputs.append(shown.replace(f"{folder}{os.sep}", ""))
            continue
        code = compile("\n" * line + block[2], str(page), "exec")
        printed = io.StringIO()
        with contextlib.chdir(folder), contextlib.redirect_stdout(printed), warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", category=DeprecationWarning, module="keras")  # of NumPy, in its own code
            warnings.filterwarnings("ignore", "Glyph .* missing from font")  # the browser has a Chinese font
            exec(code, names)  # one session, as a reader would type it
        compare(where, block[3] or "", printed.getvalue())
        outputs.append(printed.getvalue().replace(f"{folder}{os.sep}", ""))  # whose name says nothing to a reader
    return outputs


def of_site() -> list[Path]:
    """The pages of the site that have code."""
    docs = ROOT / "docs"
    return [
        page for page in sorted([docs / "index.md", *docs.glob("guide/*.md"), *docs.glob("api/*.md")]) if blocks(page)
    ]


@functools.cache  # for both languages
def shown(page: Path) -> list[str | None]:
    """As `run`, with the pictures that the page shows put beside it."""
    with tempfile.TemporaryDirectory() as folder:
        outputs = run(page, Path(folder))
        for picture in PICTURE.findall(page.read_text(encoding="utf-8")):
            if Path(folder, picture).exists():
                shutil.copy(Path(folder, picture), page.parent / picture)
            elif None in outputs:
                (page.parent / picture).write_text(NOT_DRAWN, encoding="utf-8")
    return outputs


@functools.cache  # processes that the build of the site starts inherit the results
def draw_translated(page: Path, text: str) -> None:
    """Run the translated text of a page, and put pictures that differ from the English ones next to the page.

    They are named picture.zh_CN.svg, as Sphinx expects. Text is not converted to paths, so that no Chinese font is
    needed.
    """
    if "savefig(" not in text or text == page.read_text(encoding="utf-8"):
        return
    import matplotlib

    with tempfile.TemporaryDirectory() as folder, matplotlib.rc_context({"svg.fonttype": "none"}):
        run(page, Path(folder), text)
        for picture in PICTURE.findall(text):
            drawn = Path(folder, picture)
            if drawn.exists() and drawn.read_bytes() != (page.parent / picture).read_bytes():
                shutil.copy(drawn, page.parent / f"{drawn.stem}.zh_CN{drawn.suffix}")


@functools.cache
def draw_examples(page: Path) -> None:
    """Run the examples that this page shows the pictures of, and put those beside it."""

    def draw(asked: tuple[str, str]) -> None:
        program = ROOT / "examples" / f"{asked[1]}.py"
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, program, page.parent / asked[0]]
            subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)

    with ThreadPoolExecutor(os.cpu_count()) as executor:
        list(executor.map(draw, re.findall(r"\((example-(\w+)\.\w+)\)", page.read_text(encoding="utf-8"))))


def compare(where: str, said: str, printed: str) -> None:
    """Raise AssertionError where this is not what the page says."""
    if not doctest.OutputChecker().check_output(said, printed, doctest.ELLIPSIS):
        raise AssertionError(f"{where}: this prints\n{printed}\nbut the page says\n{said}")


def shell(command: str, folder: Path) -> str:
    """What a command prints; `nnc` is that of this Python."""
    command = re.sub(r"(^|\| *)nnc ", rf'\1"{sys.executable}" -P -m nnc ', command)
    done = subprocess.run(
        command, shell=True, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8"
    )
    return done.stdout


def filled(text: str, outputs: list[str | None]) -> str:
    """The text of a page with what its blocks have printed, where that stands for anything by "..."; a line that is
    nothing else shortens it, and stays."""
    each = iter(outputs)

    def fill(block: re.Match[str]) -> str:
        output, said = next(each), block[2] if block[2].startswith("$ ") else block[3]
        if output is None or said is None or "..." in said.splitlines():
            return block[0]
        return block[0].replace(f"\n{said}```", f"\n{output}```")

    return BLOCK.sub(fill, text)


if __name__ == "__main__":
    os.environ.setdefault("MPLBACKEND", "agg")
    for name in sys.argv[1:]:
        outputs = run(Path(name).resolve(), Path.cwd())
        name_skipped([Path(name)])
        print(f"{name}: {len(outputs) - outputs.count(None)} of {len(outputs)} blocks were run")
