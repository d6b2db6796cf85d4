"""SVG by hand: elements, and pictures made of them, which are readable on light and on dark ground."""

from __future__ import annotations

import struct
import zlib
from base64 import b64encode
from html import escape
from typing import TYPE_CHECKING

from nnc._utils import disk

if TYPE_CHECKING:
    from typing import Any

    import numpy as np
    from numpy.typing import NDArray

# Blue and orange: nobody who sees badly takes one for the other, and both stand out from white as from black.
POSITIVE, NEGATIVE = "#3584c8", "#dc7414"
FONT = "system-ui, Segoe UI, DejaVu Sans, sans-serif"
LETTER = 0.6  # of its height is a letter wide, or less
# Of a picture that is a file by itself. In a page it has no ground of its own, and the page's colour of letters.
GROUND = (
    ".ground{fill:#fff}svg{color:#1f2328;color-scheme:light dark}"
    "@media(prefers-color-scheme:dark){.ground{fill:#0d1117}svg{color:#e6edf3}}"
)


def number(x: float, digits: int = 1) -> str:
    """With so many decimals, and none that are 0 at the end."""
    text = f"{x:.{digits}f}".rstrip("0").rstrip(".") if digits else f"{x:.0f}"
    return "0" if text == "-0" else text


def element(name: str, *inside: str, **attributes: Any) -> str:
    """An element; `_` in the name of an attribute stands for `-`. What is inside is SVG already, see `text`."""
    said = "".join(
        f' {key.strip("_").replace("_", "-")}="{escape(number(value) if isinstance(value, float) else str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{said}>{''.join(inside)}</{name}>" if inside else f"<{name}{said}/>"


def words(content: str) -> str:
    """Text as it stands in SVG, which has no characters that cannot be seen."""
    return escape("".join(letter if letter.isprintable() else " " for letter in content))


def titled(title: str, name: str, **attributes: Any) -> str:
    """An element with what a browser shows where the mouse rests on it."""
    return element(name, element("title", words(title)), **attributes)


def text(x: float, y: float, content: str, **attributes: Any) -> str:
    """A line of letters whose foot is at (x, y)."""
    return element("text", words(content), x=float(x), y=float(y), **attributes)


def width(content: str, size: float = 12) -> float:
    """How wide a line is at most, more or less: nobody knows the font."""
    return LETTER * size * len(content)


def shortened(content: str, most: int = 20) -> str:
    """A text of so many letters at most."""
    return content if len(content) <= most else content[: most - 1] + "…"


def sign_color(value: float) -> str:
    """Blue, or orange where it is below 0."""
    return NEGATIVE if value < 0 else POSITIVE


def pixels(image: NDArray[np.float64], largest: float) -> str:
    """A matrix as a link to a PNG in itself: blue where it is positive, orange where it is negative, the denser the
    larger."""
    height, columns = image.shape
    rows = bytearray()
    for row in image.tolist():
        rows.append(0)  # no filter
        for value in row:
            color = int(sign_color(value)[1:], 16)
            rows += struct.pack(">I", color << 8 | min(255, round(255 * abs(value) / (largest or 1))))
    parts = [(b"IHDR", struct.pack(">IIBBBBB", columns, height, 8, 6, 0, 0, 0)), (b"IDAT", zlib.compress(rows, 9))]
    png = b"\x89PNG\r\n\x1a\n"
    for kind, content in [*parts, (b"IEND", b"")]:
        png += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    return "data:image/png;base64," + b64encode(png).decode()


class Drawing:
    """A picture as SVG. Notebooks show it, `str()` is the text of a file, `save` writes that.

    Parameters
    ----------
    title : str
        What it is, in few words.
    description : str
        What is to be seen, for those who do not see it.
    width, height : float
        In pixels, where it is not made smaller to fit.
    parts : list of str
        Its elements, in the order in which they are painted.
    """

    title: str
    description: str
    width: int
    height: int

    def __init__(self, title: str, description: str, width: float, height: float, parts: list[str]) -> None:
        self.title, self.description = title, description
        self.width, self.height = round(width), round(height)
        self._parts = parts

    def __str__(self) -> str:
        ground = element("rect", class_="ground", width="100%", height="100%")
        return self._svg(element("style", GROUND), ground) + "\n"

    def _repr_html_(self) -> str:
        return self._svg()

    def _svg(self, *first: str) -> str:
        inside = [
            element("title", words(self.title)),
            element("desc", words(self.description)),
            *first,
            *self._parts,
        ]
        return element(
            "svg",
            "\n" + "\n".join(inside) + "\n",
            xmlns="http://www.w3.org/2000/svg",
            viewBox=f"0 0 {self.width} {self.height}",
            width=self.width,
            height=self.height,
            role="img",
            style="max-width:100%;height:auto",
            font_family=FONT,
            font_size=12,
            fill="currentColor",
        )

    def save(self, path: Any) -> None:
        """Writes an SVG file: a path, or a text file open for writing. The old file or the new one is there, whole,
        whatever happens.

        Raises
        ------
        OSError
            The file cannot be written; the message says why and what to do.
        """
        disk.write(path, str(self), "drawing")

    def __repr__(self) -> str:
        return f"<Drawing: {self.title}, {self.width} x {self.height}; print it, or save it as .svg>"
