#!/usr/bin/env bash
# Cross-compiles the wheel for AArch64 Linux and runs its tests on an emulated processor, on a Debian machine with
# x86-64: GCC for AArch64, Debian's Python and NumPy's wheel for it, and between them and this machine qemu's user mode,
# which runs single programs and needs no kernel of its own. The processor is one that has nothing beyond ARMv8.0.
#
#     tools/test_on_aarch64.sh [ARGUMENT OF PYTEST ...]
#
# As root, for what it installs. All tests took half an hour of a busy core, tests/test_kernels.py two minutes.
set -euo pipefail
source=$(cd "$(dirname "$0")/.." && pwd)
export DEBIAN_FRONTEND=noninteractive PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
for command in qemu-aarch64 debootstrap aarch64-linux-gnu-gcc; do
    command -v "$command" >/dev/null && /usr/bin/python3 -c "import ensurepip" && continue
    apt-get install -y -q --no-install-recommends \
        qemu-user debootstrap gcc-aarch64-linux-gnu libc6-dev-arm64-cross python3-venv
    break
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The Python of this machine's Debian, for AArch64. Its packages are only unpacked.
root="$work/root"
read -r mirror release < <(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' |
    grep -vE 'security|updates|backports|file:')
debootstrap --foreign --arch=arm64 --variant=minbase --include=python3,python3-dev "$release" "$root" "$mirror" \
    >"$work/log" || { cat "$work/log"; exit 1; }
for package in "$root"/var/cache/apt/archives/*.deb; do dpkg-deb -x "$package" "$root"; done
# Files that are not there are those of this machine.
find "$root" -mindepth 1 -maxdepth 1 ! -name usr ! -name lib ! -name bin -exec rm -r {} +
read -r version digits < <(/usr/bin/python3 -c "import sys; print('%d.%d %d%d' % (2 * sys.version_info[:2]))")

# The wheel, with the headers of that Python.
git -C "$source" ls-files -z | (cd "$source" && xargs -0 tar -c) | tar -x -C "$work" --one-top-level=source
/usr/bin/python3 -m venv "$work/build"
CC=aarch64-linux-gnu-gcc LDSHARED="aarch64-linux-gnu-gcc -shared" _PYTHON_HOST_PLATFORM=linux-aarch64 \
    SETUPTOOLS_EXT_SUFFIX=".cpython-$digits-aarch64-linux-gnu.so" \
    CFLAGS="-Werror -I$root/usr/include/python$version -idirafter $root/usr/include" \
    "$work/build/bin/pip" wheel -q --no-deps -w "$work" "$work/source"

# An environment of that Python: a script in the place of the program.
mkdir -p "$work/venv/bin"
printf 'home = %s\ninclude-system-site-packages = false\n' "$root/usr/bin" >"$work/venv/pyvenv.cfg"
cat >"$work/venv/bin/python" <<PROGRAM
#!/bin/sh
exec qemu-aarch64 -cpu cortex-a53 -L "$root" -0 "\$0" "$root/usr/bin/python$version" "\$@"
PROGRAM
chmod +x "$work/venv/bin/python"
"$work/build/bin/pip" install -q --target "$work/venv/lib/python$version/site-packages" --only-binary :all: \
    --platform linux_aarch64 --platform manylinux_2_28_aarch64 --platform manylinux_2_17_aarch64 \
    "$(echo "$work"/*.whl)[test]"
sed "1s|.*|#!$work/venv/bin/python|" "$work/venv/lib/python$version/site-packages/bin/nnc" >"$work/venv/bin/nnc"
chmod +x "$work/venv/bin/nnc"

cd "$work/source"
"$work/venv/bin/python" -P -m nnc config
# Tests that bound the time of this machine's own processor would measure the emulator.
"$work/venv/bin/python" -P tools/test_variants.py --deselect "tests/test_training.py::test_interrupt_ends_fit_and_keeps_current_weights[" \
    --deselect tests/test_training.py::test_memory_does_not_grow "$@"
