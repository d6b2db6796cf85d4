"""SVG elements as text, and drawings composed of them that are readable on light and dark backgrounds."""

from __future__ import annotations

import struct
import zlib
from base64 import b64encode
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from nnc._utils import disk

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

# Colors of positive and negative numbers: blue and orange are distinguishable with any color vision deficiency, and
# visible on white and black.
POSITIVE, NEGATIVE = "#3584c8", "#dc7414"
FONT = "system-ui, Segoe UI, DejaVu Sans, sans-serif"
CHARACTER_WIDTH = 0.6  # upper bound of the mean character width, relative to the font size
# Style of a drawing in a file, with a background that follows the color scheme. A drawing inside a page has no
# background and inherits the text color of the page.
FILE_STYLE = (
    ".ground{fill:#fff}svg{color:#1f2328;color-scheme:light dark}"
    "@media(prefers-color-scheme:dark){.ground{fill:#0d1117}svg{color:#e6edf3}}"
)


def format_number(x: float, digits: int = 1) -> str:
    """Return a number as text with at most `digits` decimals, without trailing zeros."""
    text = f"{x:.{digits}f}".rstrip("0").rstrip(".") if digits else f"{x:.0f}"
    return "0" if text == "-0" else text


def element(name: str, *children: str, **attributes: Any) -> str:
    """Return an SVG element as text.

    Parameters
    ----------
    name : str
        Name of the element.
    *children : str
        SVG elements inside the element.
    **attributes
        Attributes of the element; those that are None are left out. An underscore in a name stands for a hyphen, and
        underscores at its end are removed.
    """
    attribute_text = "".join(
        f" {key.strip('_').replace('_', '-')}="
        f'"{escape(format_number(value) if isinstance(value, float) else str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{attribute_text}>{''.join(children)}</{name}>" if children else f"<{name}{attribute_text}/>"


def escape_text(content: str) -> str:
    """Return text escaped for SVG, with blanks in place of characters that are not printable."""
    return escape("".join(character if character.isprintable() else " " for character in content))


def titled_element(title: str, name: str, **attributes: Any) -> str:
    """Return an SVG element with a title, which browsers show as a tooltip."""
    return element(name, element("title", escape_text(title)), **attributes)


def text(x: float, y: float, content: str, **attributes: Any) -> str:
    """Return an SVG element with a line of text; the baseline is at y and the anchor at x."""
    return element("text", escape_text(content), x=float(x), y=float(y), **attributes)


def text_width(content: str, font_size: float = 12) -> float:
    """Return an estimated upper bound of the width of a line of text in pixels, because the font is unknown."""
    return CHARACTER_WIDTH * font_size * len(content)


def shorten(content: str, max_length: int = 20) -> str:
    """Return text cut to at most `max_length` characters, with an ellipsis at the end if it is longer."""
    return content if len(content) <= max_length else content[: max_length - 1] + "…"


def sign_color(value: float) -> str:
    """Return the color of a number: blue, or orange if it is negative."""
    return NEGATIVE if value < 0 else POSITIVE


def png_data_uri(image: NDArray[np.float64], max_abs: float) -> str:
    """Return a matrix as a PNG image in a data URI.

    Positive numbers are blue and negative ones orange. The opacity is the absolute value divided by `max_abs`.
    """
    height, columns = image.shape
    colors = np.array([[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in (POSITIVE, NEGATIVE)], np.uint8)
    pixels = np.empty((height, columns, 4), np.uint8)
    pixels[..., :3] = colors[(image < 0).astype(np.intp)]
    pixels[..., 3] = np.clip(np.rint(255 * np.abs(image) / (max_abs or 1)), 0, 255)
    return image_data_uri(pixels)


def image_data_uri(pixels: NDArray[np.uint8]) -> str:
    """Return an image (height, width) of gray pixels, or with 1, 3 (RGB) or 4 channels, as a PNG in a data URI."""
    height, width = pixels.shape[:2]
    rows = np.zeros((height, 1 + pixels[0].size), np.uint8)  # a row begins with its filter type; 0 stands for none
    rows[:, 1:] = pixels.reshape(height, -1)
    color_type = {1: 0, 3: 2, 4: 6}[pixels[0, 0].size]
    header = struct.pack(">IIBBBBB", width, height, 8, color_type, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n"
    for kind, content in ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b"")):
        png += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    return "data:image/png;base64," + b64encode(png).decode()


class Drawing:
    """SVG drawing. Notebooks display it, `str()` returns the text of an SVG file, and `save` writes the file.

    Parameters
    ----------
    title : str
        Short title.
    description : str
        Description of the content for screen readers.
    width, height : float
        Size in pixels, unless a page reduces it.
    parts : list of str
        SVG elements, in the order in which they are painted.
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
        background = element("rect", class_="ground", width="100%", height="100%")
        return self._svg(element("style", FILE_STYLE), background) + "\n"

    def _repr_html_(self) -> str:
        return self._svg()

    def _svg(self, *background: str) -> str:
        children = [
            element("title", escape_text(self.title)),
            element("desc", escape_text(self.description)),
            *background,
            *self._parts,
        ]
        return element(
            "svg",
            "\n" + "\n".join(children) + "\n",
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
        """Write the drawing to an SVG file. An existing file is replaced only after the new one is complete.

        Parameters
        ----------
        path : str, os.PathLike or text file open for writing

        Raises
        ------
        OSError
            The file cannot be written; the message states the reason and a remedy.
        """
        disk.write_text(path, str(self), "drawing")

    def __repr__(self) -> str:
        return f"<Drawing: {self.title}, {self.width} x {self.height}; print it, or save it as .svg>"
