"""Optional packages: the pip commands that install them, and the error for a missing package.

This module is imported only when a message is needed.
"""

from __future__ import annotations

# Packages of each extra for users; a test compares them with pyproject.toml.
EXTRAS = {
    "browser": ("starlette>=0.40", "uvicorn>=0.30"),
    "cli": ("narwhals>=2", "scikit-learn>=1.9", "polars>=1.34", "rich>=13.7", "argcomplete>=3.3", "pillow>=10.3"),
    "dask": ("distributed>=2025.3", "dask[array,dataframe]>=2025.3"),
    "frames": ("narwhals>=2",),
    "images": ("pillow>=10.3",),
    "plot": ("matplotlib>=3.8",),
    "progress": ("tqdm>=4.66",),
    "river": ("river>=0.22",),
    "sklearn": ("scikit-learn>=1.7",),
    "tables": ("narwhals>=2", "scikit-learn>=1.9"),
    "tensorboard": ("tensorboardX>=2.6",),
}


def install_command(name: str) -> str:
    """Return the pip command that installs an extra of nnc, or the package `name`.

    The command names the extra only if nnc was installed from an index. Otherwise pip may not find nnc in an index, so
    the command names the packages of the extra.
    """
    if name not in EXTRAS:
        return f"pip install {name}"
    if is_from_index():
        return f'pip install "nnc-cython[{name}]"'
    return " ".join(["pip install", *(f'"{requirement}"' for requirement in EXTRAS[name])])


def is_from_index() -> bool:
    """Return whether nnc was installed from a package index, and not from a folder, an archive or a repository."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        # pip writes this file if the source of the installation is not an index (PEP 610).
        return distribution("nnc-cython").read_text("direct_url.json") is None
    except PackageNotFoundError:
        return False


def missing_package(user: str, package: str, cause: ImportError, name: str) -> ImportError:
    """Return the error that a feature of nnc raises if an optional package cannot be imported.

    Parameters
    ----------
    user : str
        The feature, as the subject of the message.
    package : str
        The missing package, as the object of the message.
    cause : ImportError
        Error of the import.
    name : str
        Argument of `install_command`.
    """
    return ImportError(f"{user} needs {package} ({cause}); install it with {install_command(name)}", name=cause.name)
