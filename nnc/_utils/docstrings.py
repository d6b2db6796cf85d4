"""Docstrings of classes that share parameters and attributes with a base class."""

from inspect import cleandoc


def build_docstring(base: type, summary: str, own: str = "", before: str = "", end: str = "") -> str:
    """Return a docstring made of a summary and the sections in the docstring of a base class.

    Parameters
    ----------
    base : type
        The first paragraph of its docstring is left out.
    summary : str
        The first paragraphs.
    own : str
        Parameters that the base class does not have.
    before : str
        The parameter of the base class that follows them.
    end : str
        Text that follows the sections.
    """
    _, _, sections = cleandoc(base.__doc__ or "").partition("\n\n")
    sections = sections.replace(f"\n{before} : ", f"\n{cleandoc(own)}\n{before} : ") if own else sections
    return "\n\n".join(filter(None, [cleandoc(summary), sections, cleandoc(end)]))
