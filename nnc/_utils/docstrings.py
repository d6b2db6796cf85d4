"""Docstrings of classes that share parameters and attributes with a base class."""

from inspect import cleandoc


def build_docstring(base: type, summary: str, extra: str = "", before: str = "", end: str = "") -> str:
    """Return a docstring that consists of a summary and the sections in the docstring of a base class.

    Parameters
    ----------
    base : type
        Class whose docstring provides the sections; its first paragraph is omitted.
    summary : str
        First paragraphs of the new docstring.
    extra : str
        Descriptions of parameters that the base class does not have.
    before : str
        Parameter of the base class before which `extra` is inserted.
    end : str
        Text after the sections.
    """
    _, _, sections = cleandoc(base.__doc__ or "").partition("\n\n")
    sections = sections.replace(f"\n{before} : ", f"\n{cleandoc(extra)}\n{before} : ") if extra else sections
    return "\n\n".join(filter(None, [cleandoc(summary), sections, cleandoc(end)]))
