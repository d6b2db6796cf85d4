#!/usr/bin/env bash
# Runs cibuildwheel with the options of pyproject.toml on a Debian machine that reaches no registry of container images:
# builds, repairs and tests the wheel of one Python in a container made from Debian's own packages. It shows that
# the configuration works, not what the wheel of a release will be like: that image is Debian's, newer than manylinux_2_28.
# As root; leaves the wheel in the folder that is given (default: wheelhouse).
set -euo pipefail
source=$(cd "$(dirname "$0")/.." && pwd)
output=$(realpath -m "${1:-wheelhouse}")

export DEBIAN_FRONTEND=noninteractive
command -v podman debootstrap runc >/dev/null ||
    apt-get install -y -q --no-install-recommends podman crun conmon runc debootstrap
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Where neither systemd nor delegated control groups are to be had.
cat >"$work/containers.conf" <<'END'
[engine]
runtime = "runc"
events_logger = "file"
cgroup_manager = "cgroupfs"
END
export CONTAINERS_CONF_OVERRIDE="$work/containers.conf"

# The image, laid out as cibuildwheel expects of manylinux.
if ! podman image exists localhost/nnc-wheels 2>/dev/null; then
    read -r mirror release < <(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' |
        grep -vE 'security|updates|file:')
    debootstrap --variant=minbase \
        --include=gcc,g++,make,python3-dev,python3-venv,patchelf,ca-certificates "$release" "$work/root" "$mirror"
    cp -r /etc/ssl/certs/. "$work/root/etc/ssl/certs/"
    [ ! -e /etc/pip.conf ] || cp /etc/pip.conf "$work/root/etc/"
    cp /etc/resolv.conf "$work/root/etc/"
    chroot "$work/root" bash -euc '
        version=$(python3 -c "import sys; print(\"cp3%d\" % sys.version_info[1])")
        python3 -m venv "/opt/python/$version-$version"
        "/opt/python/$version-$version/bin/pip" install -q build auditwheel
        ln -sfn "$version-$version" /opt/python/cp39-cp39
        ln -s "/opt/python/$version-$version/bin/auditwheel" /usr/local/bin/'
    tar -C "$work/root" -c . | podman import - localhost/nnc-wheels
fi

python3 -m venv "$work/tools"
"$work/tools/bin/pip" install -q build cibuildwheel
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-1700000000}"
"$work/tools/bin/python" -m build -q --sdist -o "$work/dist" "$source"
# No audit: for its environment cibuildwheel would download a program that is in no package registry.
CIBW_AUDIT_COMMAND="" CIBW_CONTAINER_ENGINE="podman; create_args: --network=host" CIBW_MANYLINUX_X86_64_IMAGE=localhost/nnc-wheels \
    "$work/tools/bin/cibuildwheel" --only cp313-manylinux_x86_64 --output-dir "$output" "$work"/dist/*.tar.gz
