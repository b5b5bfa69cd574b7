#!/bin/bash
# Runs in the build stage of each image: installs /build/environment.lock into /usr/local/environment, each file checked against
# its hashes, and takes away again what only the building needs.
set -euo pipefail

# How pip reaches an index from the machine that builds; see build.py.
if [[ -f /mnt/settings.sh ]]; then
    . /mnt/settings.sh
fi
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore

python3 -m venv /usr/local/environment
python=/usr/local/environment/bin/python
install=("$python" -m pip install -q --no-deps --require-hashes)
"${install[@]}" -r /build/build.lock
# Which parts of llama.cpp are built.
if [[ -f /build/llama.cmake ]]; then
    export CMAKE_ARGS="-DCMAKE_PROJECT_llama_cpp_INCLUDE=/build/llama.cmake ${CMAKE_ARGS:-}"
fi
CMAKE_BUILD_PARALLEL_LEVEL=$(nproc) "${install[@]}" --no-build-isolation -r /build/environment.lock
"$python" -m pip check

# llama.cpp's converter comes with the source of the library alone, and no image has pip to fetch it.
if [[ -f /build/converter.txt ]]; then
    mkdir /build/archive /usr/local/environment/llama.cpp
    "$python" -m pip download -q --no-deps --no-binary :all: --no-build-isolation --require-hashes \
        -r /build/converter.txt -d /build/archive
    tar -xzf /build/archive/*.tar.gz -C /usr/local/environment/llama.cpp --strip-components=3 --wildcards \
        '*/vendor/llama.cpp/convert_hf_to_gguf.py' '*/vendor/llama.cpp/conversion/*.py' \
        '*/vendor/llama.cpp/gguf-py/gguf/*.py' '*/vendor/llama.cpp/LICENSE'
    cp /build/converter.txt /usr/local/environment/llama.cpp/
fi

names() { grep -oE '^[A-Za-z0-9][A-Za-z0-9._-]*==' "$1" | sort -u; }
mapfile -t tools < <(comm -23 <(names /build/build.lock) <(names /build/environment.lock))
"$python" -m pip uninstall -q -y "${tools[@]%==}"
