"""Check the content and the size of wheels, and the symbols that their modules import and export.

    python tools/inspect_wheel.py WHEEL ...

Needs pyelftools for modules of Linux; modules of macOS and Windows are only counted. The script runs no
code of a wheel.
"""

import io
import re
import sys
import zipfile

MAX_WHEEL_BYTES, MAX_INSTALLED_BYTES = 3.5e6, 10e6
MAX_GLIBC_VERSION = (2, 17)  # manylinux_2_17 allows symbols of glibc up to this version
LIBRARIES = {"libc.so.6", "libm.so.6", "libpthread.so.0", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}
MUSL = re.compile(r"libc\.(musl-\w+\.so\.1|so)")
# Functions such as exp. The dynamic linker may resolve them to any loaded library, whose results may differ.
LIBM = re.compile(r"(a?(sin|cos|tan)h?|exp[2m1]*|log(1p|2|10)?|pow|erfc?|[lt]gamma|cbrt|hypot|fmod)f?")


def module_errors(name, content):
    """Yield a message for each forbidden symbol, library and version of glibc in a module of Linux."""
    from elftools.elf.dynamic import DynamicSection
    from elftools.elf.elffile import ELFFile
    from elftools.elf.gnuversions import GNUVerNeedSection

    elf = ELFFile(io.BytesIO(content))
    symbols = list(elf.get_section_by_name(".dynsym").iter_symbols())
    exported = {
        symbol.name
        for symbol in symbols
        if symbol["st_shndx"] != "SHN_UNDEF" and symbol["st_other"]["visibility"] == "STV_DEFAULT"
    }
    expected = {"PyInit_" + name.split("/")[-1].split(".")[0]}
    if exported - {"_init", "_fini"} != expected:
        yield f"{name} must export only {expected}, got {exported}"
    for symbol in symbols:
        if symbol["st_shndx"] == "SHN_UNDEF" and LIBM.fullmatch(symbol.name):
            yield f"{name} must not import {symbol.name} from libm"
    for section in elf.iter_sections():
        if isinstance(section, DynamicSection):
            for tag in section.iter_tags("DT_NEEDED"):
                if tag.needed not in LIBRARIES and not MUSL.fullmatch(tag.needed):
                    yield f"{name} must not need the library {tag.needed}"
        if isinstance(section, GNUVerNeedSection):
            for _, versions in section.iter_versions():
                for version in versions:
                    number = re.fullmatch(r"GLIBC_(\d+)\.(\d+)(\.\d+)?", version.name)
                    if number is None or (int(number[1]), int(number[2])) > MAX_GLIBC_VERSION:
                        yield f"{name} must need at most GLIBC_2.17, got {version.name}"


def wheel_errors(path):
    """Print the size of a wheel, and yield a message for each error in its content."""
    with zipfile.ZipFile(path) as wheel:
        files = wheel.infolist()
        packed = sum(file.compress_size for file in files)
        installed = sum(file.file_size for file in files)
        modules = [file.filename for file in files if file.filename.endswith((".so", ".pyd"))]
        print(f"{path}: {packed / 1e6:.2f} MB, installed {installed / 1e6:.2f} MB, {len(modules)} compiled modules")
        if packed > MAX_WHEEL_BYTES:
            yield f"a wheel must have at most {MAX_WHEEL_BYTES / 1e6} MB, got {packed / 1e6:.2f}"
        if installed > MAX_INSTALLED_BYTES:
            yield f"installed files must have at most {MAX_INSTALLED_BYTES / 1e6} MB, got {installed / 1e6:.2f}"
        for file in files:
            if not re.match(r"nnc/|nnc_cython-[^/]+\.dist-info/", file.filename):
                yield f"unexpected file {file.filename}"
            if file.filename.endswith((".c", ".pyx", ".pxd", ".h", ".pyc")):
                yield f"unexpected source file {file.filename}"
        names = {name.split("/")[-1].split(".")[0] for name in modules}
        sets = ["baseline", "avx2", "avx512"] if re.search(r"x86_64|amd64|universal2", path) else ["baseline"]
        cores = (f"_core_{isa}_{precision}" for isa in sets for precision in ("f32", "f64"))
        expected = {"_cpu", "_cyutility", "_team", *cores}
        if names != expected:
            yield f"modules must be {sorted(expected)}, got {sorted(names)}"
        if "linux" in path:
            for name in modules:
                yield from module_errors(name, wheel.read(name))


if __name__ == "__main__":
    errors = [f"{path}: {error}" for path in sys.argv[1:] for error in wheel_errors(path)]
    sys.exit("\n".join(errors) if errors else 0)
