#!/usr/bin/env bash
# Cross-compile the wheel for AArch64 Linux and run its tests on an emulated processor, on a Debian machine with x86-64.
# The script uses GCC for AArch64, Debian's Python for AArch64 and the AArch64 wheel of NumPy. The user mode of QEMU runs
# single programs and needs no kernel. The emulated processor supports only ARMv8.0.
#
#     tools/test_on_aarch64.sh [ARGUMENT OF PYTEST ...]
#
# Run the script as root, because it installs packages. All tests take half an hour on one core, tests/test_kernels.py
# takes two minutes.
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

# Unpack the packages of Python for AArch64, in the Debian release of this machine.
root="$work/root"
read -r mirror release < <(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' |
    grep -vE 'security|updates|backports|file:')
debootstrap --foreign --arch=arm64 --variant=minbase --include=python3,python3-dev "$release" "$root" "$mirror" \
    >"$work/log" || { cat "$work/log"; exit 1; }
for package in "$root"/var/cache/apt/archives/*.deb; do dpkg-deb -x "$package" "$root"; done
# QEMU searches here first and uses the files of this machine otherwise, so remove everything but programs and libraries.
find "$root" -mindepth 1 -maxdepth 1 ! -name usr ! -name lib ! -name bin -exec rm -r {} +
read -r version digits < <(/usr/bin/python3 -c "import sys; print('%d.%d %d%d' % (2 * sys.version_info[:2]))")

# Build the wheel with the headers of this Python.
git -C "$source" ls-files -z | (cd "$source" && xargs -0 tar -c) | tar -x -C "$work" --one-top-level=source
/usr/bin/python3 -m venv "$work/build"
CC=aarch64-linux-gnu-gcc LDSHARED="aarch64-linux-gnu-gcc -shared" _PYTHON_HOST_PLATFORM=linux-aarch64 \
    SETUPTOOLS_EXT_SUFFIX=".cpython-$digits-aarch64-linux-gnu.so" \
    CFLAGS="-Werror -I$root/usr/include/python$version -idirafter $root/usr/include" \
    "$work/build/bin/pip" wheel -q --no-deps -w "$work" "$work/source"

# Create a virtual environment whose program is a script that starts the emulated Python.
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
# Skip tests that measure time or memory, which would measure the emulator.
"$work/venv/bin/python" -P tools/test_variants.py --deselect "tests/test_training.py::test_interrupt_ends_fit_and_keeps_current_weights[" \
    --deselect tests/test_training.py::test_memory_does_not_grow "$@"
