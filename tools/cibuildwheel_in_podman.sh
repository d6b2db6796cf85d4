#!/usr/bin/env bash
# Run cibuildwheel with the options of pyproject.toml on a Debian machine without access to a registry of container
# images: build, repair, test and audit wheels in a container that is created from Debian packages. This tests the
# configuration. The wheels differ from those of a release, because the image of Debian is newer than manylinux_2_28.
#
#     tools/cibuildwheel_in_podman.sh [FOLDER [RELEASE [PYTHON ...]]]
#
# The wheels are written to FOLDER (default: wheelhouse). RELEASE is a release of Debian (default: that of this machine),
# PYTHON a version of Python in this release (default: 3.13). Example: `tools/cibuildwheel_in_podman.sh wheelhouse sid
# 3.14 3.15`. Run the script as root.
set -euo pipefail
source=$(cd "$(dirname "$0")/.." && pwd)
output=$(realpath -m "${1:-wheelhouse}")
read -r mirror host_release < <(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' |
    grep -vE 'security|updates|backports|file:')
release=${2:-$host_release}
pythons=("${@:3}")
[ ${#pythons[@]} -gt 0 ] || pythons=(3.13)

export DEBIAN_FRONTEND=noninteractive PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
for command in podman debootstrap runc; do
    command -v "$command" >/dev/null && continue
    apt-get install -y -q --no-install-recommends podman crun conmon runc debootstrap
    break
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Settings for machines without systemd and without delegated control groups.
cat >"$work/containers.conf" <<'CONF'
[engine]
runtime = "runc"
events_logger = "file"
cgroup_manager = "cgroupfs"
CONF
export CONTAINERS_CONF_OVERRIDE="$work/containers.conf"

# Create an image with the folders that cibuildwheel expects in manylinux images.
image="localhost/nnc-wheels-$release:$(IFS=-; echo "${pythons[*]}")"
if ! podman image exists "$image" 2>/dev/null; then
    packages=gcc,libc6-dev,patchelf,ca-certificates
    for python in "${pythons[@]}"; do packages+=",python$python-dev,python$python-venv"; done
    debootstrap --variant=minbase --include="$packages" "$release" "$work/root" "$mirror" >"$work/log" ||
        { cat "$work/log"; exit 1; }
    cp -r /etc/ssl/certs/. "$work/root/etc/ssl/certs/"
    [ ! -e /etc/pip.conf ] || cp /etc/pip.conf "$work/root/etc/"
    cp /etc/resolv.conf "$work/root/etc/"
    for python in "${pythons[@]}"; do
        name="cp${python/./}-cp${python/./}"
        chroot "$work/root" "python$python" -m venv "/opt/python/$name"
        # cibuildwheel runs with the Python in cp39-cp39 and its tools; link it to the first version.
        [ -e "$work/root/opt/python/cp39-cp39" ] || ln -s "$name" "$work/root/opt/python/cp39-cp39"
        chroot "$work/root" "/opt/python/$name/bin/pip" install -q build
    done
    chroot "$work/root" /opt/python/cp39-cp39/bin/pip install -q auditwheel
    ln -s /opt/python/cp39-cp39/bin/auditwheel "$work/root/usr/local/bin/"
    tar -C "$work/root" -c . | podman import -q - "$image"
fi

python3 -m venv "$work/tools"
"$work/tools/bin/pip" install -q build cibuildwheel

# cibuildwheel downloads virtualenv as a single file, which no package registry provides. Build the same file from the
# package virtualenv and store it where cibuildwheel looks for it.
resources=$("$work/tools/bin/python" -c "import cibuildwheel; print(cibuildwheel.__path__[0])")/resources
virtualenv=$(sed -n 's/^default = { version = "\([^"]*\)".*/\1/p' "$resources/virtualenv.toml")
export CIBW_CACHE_PATH="$work/cache"
mkdir "$CIBW_CACHE_PATH"
"$work/tools/bin/pip" install -q --target "$work/virtualenv" "virtualenv==$virtualenv"
"$work/tools/bin/python" -m zipapp -m virtualenv.__main__:run_with_catch \
    -o "$CIBW_CACHE_PATH/virtualenv-$virtualenv.pyz" "$work/virtualenv"

export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-1700000000}"
"$work/tools/bin/python" -m build -q --sdist -o "$work/dist" "$source"
builds=("${pythons[@]/#/cp}")
builds=("${builds[@]/./}")
CIBW_BUILD="${builds[*]/%/-manylinux_x86_64}" CIBW_ARCHS=x86_64 CIBW_MANYLINUX_X86_64_IMAGE="$image" \
    CIBW_CONTAINER_ENGINE="podman; create_args: --network=host" \
    "$work/tools/bin/cibuildwheel" --platform linux --output-dir "$output" "$work"/dist/*.tar.gz
