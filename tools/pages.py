"""Run the code of a page and compare its output with the output on the page.

    python tools/pages.py docs/guide/images.md      # run the page; its pictures are written to the current folder

All Python blocks of a page run in one session, like the cells of a notebook. The text block below a block of code is
its expected output. A console block contains shell commands after "$ ", and the expected output below each command.

A comment before a block such as `<!-- needs torch -->` names packages. If one of them is not installed, the block is
skipped; later blocks that depend on it need the same comment. A block with `<!-- needs mnist -->` reads the MNIST files
from the folder `mnist`, which is linked to the folder `mnist` inside NNC_DATA.

tests/test_pages.py runs the pages. tools/build_site.py runs only pages that need packages, or whose results it shows.
"""

from __future__ import annotations

import contextlib
import doctest
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
# A block of code and the text block below it: the expected output, in which "..." matches anything.
BLOCK = re.compile(
    r"(?:^<!-- needs ([\w ]+) -->\n\n?)?^```(?:python|console)\n(.*?)^```\n(?:\n^```text\n(.*?)^```\n)?",
    re.DOTALL | re.MULTILINE,
)
PICTURE = re.compile(r"!\[[^]]*\]\(([\w.-]+)\)")  # an image on a page, with its file name as group 1
# Placeholder for a picture whose block was skipped.
NOT_DRAWN = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 520 40" width="520" height="40">
<text x="4" y="26" font-family="sans-serif" font-size="15" fill="gray">not drawn: the data set is missing</text>
</svg>
"""
COMMAND = re.compile(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)


def blocks(page: Path, text: str | None = None) -> list[re.Match[str]]:
    """Return the blocks of a page, or of its translated text.

    Group 1 of a match names the needed packages, group 2 is the code and group 3 the expected output.
    """
    text = page.read_text(encoding="utf-8") if text is None else text
    matches = list(BLOCK.finditer(text))
    if len(matches) != text.count("```python") + text.count("```console"):
        raise AssertionError(f"{page}: each block of code must be closed and must not be indented")
    return matches


def missing(needs: str | None) -> list[str]:
    """Return the needed packages that are not installed, and `mnist` if NNC_DATA contains no such folder."""
    return [
        name
        for name in (needs or "").split()
        if (mnist_folder() is None if name == "mnist" else importlib.util.find_spec(name) is None)
    ]


def mnist_folder() -> Path | None:
    """Return the folder `mnist` inside the folder NNC_DATA, or None if it does not exist."""
    folder = Path(os.environ.get("NNC_DATA") or os.devnull, "mnist")
    return folder.resolve() if folder.is_dir() else None


def print_skipped(pages: list[Path]) -> None:
    """Print what the skipped blocks of these pages need, in one line; print nothing if no block is skipped."""
    needed = {name for page in pages for block in blocks(page) for name in missing(block[1])}
    if needed:
        hint = " (NNC_DATA must name a folder that contains mnist)" if "mnist" in needed else ""
        print(f"skipped: blocks that need {', '.join(sorted(needed))}{hint}", flush=True)


def link_data(needs: str | None, folder: Path) -> None:
    """Link the needed data into the folder in which the code runs."""
    mnist = mnist_folder()
    if "mnist" in (needs or "").split() and mnist is not None and not (folder / "mnist").exists():
        (folder / "mnist").symlink_to(mnist)


def run(page: Path, folder: Path, text: str | None = None) -> list[str | None]:
    """Run the blocks of a page in a folder, with warnings as errors.

    Returns
    -------
    list of str or None
        The output of each block, None if the block was skipped.

    Raises
    ------
    AssertionError
        If the output of a block differs from the output on the page. Exceptions of blocks are not caught.
    """
    text = page.read_text(encoding="utf-8") if text is None else text
    names, outputs = {"__name__": page.stem}, []
    for block in blocks(page, text):
        is_shell = block[2].startswith("$ ")
        if missing(block[1]) or (is_shell and os.name == "nt"):
            outputs.append(None)
            continue
        link_data(block[1], folder)
        line = text.count("\n", 0, block.start(2))
        location = f"{page}, line {line + 1}"
        if is_shell:
            session = ""
            for command, expected in COMMAND.findall(block[2]):
                output = run_shell(command, folder)
                compare(location, expected, output)
                session += f"$ {command}\n{output}"
            outputs.append(session.replace(f"{folder}{os.sep}", ""))
            continue
        code = compile("\n" * line + block[2], str(page), "exec")
        printed = io.StringIO()
        with contextlib.chdir(folder), contextlib.redirect_stdout(printed), warnings.catch_warnings():
            warnings.simplefilter("error")
            # Ignore the warnings of NumPy about deprecated functions that Keras calls.
            warnings.filterwarnings("ignore", category=DeprecationWarning, module="keras")
            # Matplotlib lacks a Chinese font, but browsers draw the text of SVG files.
            warnings.filterwarnings("ignore", "Glyph .* missing from font")
            exec(code, names)  # all blocks of a page share one namespace
        if "matplotlib.pyplot" in sys.modules:  # close figures, because matplotlib warns if many are open
            sys.modules["matplotlib.pyplot"].close("all")
        compare(location, block[3] or "", printed.getvalue())
        outputs.append(printed.getvalue().replace(f"{folder}{os.sep}", ""))  # hide the name of the temporary folder
    return outputs


def pages_with_code() -> list[Path]:
    """Return the pages of the site that contain code."""
    docs = ROOT / "docs"
    return [
        page for page in sorted([docs / "index.md", *docs.glob("guide/*.md"), *docs.glob("api/*.md")]) if blocks(page)
    ]


def needs_packages(page: Path) -> bool:
    """Return whether code of a page needs packages."""
    return any(block[1] for block in blocks(page))


def changes_site(page: Path) -> bool:
    """Return whether the code of a page needs packages, draws pictures, or has outputs that are abbreviated with "...".

    The outputs of all other pages are those on the page, which tests/test_pages.py checks.
    """
    return (
        needs_packages(page)
        or PICTURE.search(page.read_text(encoding="utf-8")) is not None
        or any("..." in expected_output(block) for block in blocks(page))
    )


def run_and_store_pictures(page: Path) -> list[str | None]:
    """Run the blocks of a page, store its pictures next to it, and return the output of each block like `run`."""
    with tempfile.TemporaryDirectory() as folder:
        outputs = run(page, Path(folder))
        for picture in PICTURE.findall(page.read_text(encoding="utf-8")):
            if Path(folder, picture).exists():
                shutil.copy(Path(folder, picture), page.parent / picture)
            elif None in outputs:
                (page.parent / picture).write_text(NOT_DRAWN, encoding="utf-8")
    return outputs


def draw_translated(page: Path, text: str) -> None:
    """Run the translated text of a page, and store pictures that differ from the English ones next to the page.

    The files are named picture.zh_CN.svg, as Sphinx expects. Text in pictures is not converted to paths, so that
    drawing needs no Chinese font.
    """
    if "savefig(" not in text or text == page.read_text(encoding="utf-8"):
        return
    import matplotlib

    with tempfile.TemporaryDirectory() as folder, matplotlib.rc_context({"svg.fonttype": "none"}):
        run(page, Path(folder), text)
        for picture in PICTURE.findall(text):
            file = Path(folder, picture)
            if file.exists() and file.read_bytes() != (page.parent / picture).read_bytes():
                shutil.copy(file, page.parent / f"{file.stem}.zh_CN{file.suffix}")


def draw_examples(page: Path) -> None:
    """Run the examples whose pictures a page shows, and store the pictures next to the page."""

    def draw(names: tuple[str, str]) -> None:
        picture, example = names
        program = ROOT / "examples" / f"{example}.py"
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, program, page.parent / picture]
            subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)

    with ThreadPoolExecutor(os.cpu_count()) as executor:
        list(executor.map(draw, re.findall(r"\((example-(\w+)\.\w+)\)", page.read_text(encoding="utf-8"))))


def expected_output(block: re.Match[str]) -> str:
    """Return the expected output of a block, for a console block with its commands; "" if the page shows no output."""
    return block[2] if block[2].startswith("$ ") else block[3] or ""


def compare(location: str, expected: str, output: str) -> None:
    """Raise AssertionError if the output of a block differs from the output on the page."""
    if not doctest.OutputChecker().check_output(expected, output, doctest.ELLIPSIS):
        raise AssertionError(f"{location}: this prints\n{output}\nbut the page says\n{expected}")


def run_shell(command: str, folder: Path) -> str:
    """Run a shell command and return its output; `nnc` means the package of this Python interpreter."""
    command = re.sub(r"(^|\| *)nnc ", rf'\1"{sys.executable}" -P -m nnc ', command)
    completed = subprocess.run(
        command, shell=True, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8"
    )
    return completed.stdout


def fill_outputs(text: str, outputs: list[str | None]) -> str:
    """Return the text of a page in which actual outputs replace expected outputs.

    An expected output that contains a line of only "..." is an abbreviation and does not change.
    """
    remaining = iter(outputs)

    def fill(block: re.Match[str]) -> str:
        output, expected = next(remaining), expected_output(block)
        if output is None or not expected or "..." in expected.splitlines():
            return block[0]
        return block[0].replace(f"\n{expected}```", f"\n{output}```")

    return BLOCK.sub(fill, text)


if __name__ == "__main__":
    os.environ.setdefault("MPLBACKEND", "agg")
    for name in sys.argv[1:]:
        outputs = run(Path(name).resolve(), Path.cwd())
        print_skipped([Path(name)])
        print(f"{name}: ran {len(outputs) - outputs.count(None)} of {len(outputs)} blocks")
