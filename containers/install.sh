#!/bin/bash
# Runs in each image: installs /build/environment.lock into /usr/local/environment, each file checked against its
# hashes, and removes what only the installation needs.
set -euo pipefail

# How pip reaches an index from the machine that builds; see build.py.
if [[ -f /mnt/settings.sh ]]; then
    . /mnt/settings.sh
fi
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
export PIP_CACHE_DIR=${PIP_CACHE_DIR:-/build/cache}

python3 -m venv /usr/local/environment
python=/usr/local/environment/bin/python
install=("$python" -m pip install -q --no-deps)
"${install[@]}" --require-hashes -r /build/build.lock
# What compile_llama.sh compiled comes from its source, whose hash was checked there.
lock=/build/environment.lock
if [[ -d /build/wheels ]]; then
    "${install[@]}" /build/wheels/*.whl
    mv /build/llama.cpp /usr/local/environment/
    awk '/^[^ ]/ { compiled = /^llama-cpp-python==/ } !compiled' "$lock" >/build/rest.lock
    lock=/build/rest.lock
fi
"${install[@]}" --require-hashes --no-build-isolation -r "$lock"
"$python" -m pip check

names() { grep -oE '^[A-Za-z0-9][A-Za-z0-9._-]*==' "$1" | sort -u; }
mapfile -t tools < <(comm -23 <(names /build/build.lock) <(names /build/environment.lock))
"$python" -m pip uninstall -q -y "${tools[@]%==}"
rm -rf /build /usr/share/python-wheels
