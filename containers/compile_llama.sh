#!/bin/bash
# Runs in the build stage of the gguf image: compiles llama.cpp into a wheel in /build/wheels, and unpacks its
# converter, which comes with its source alone, into /build/llama.cpp.
set -euo pipefail

if [[ -f /mnt/settings.sh ]]; then
    . /mnt/settings.sh
fi
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore

python3 -m venv /build/environment
pip=(/build/environment/bin/python -m pip)
"${pip[@]}" install -q --no-deps --require-hashes -r /build/build.lock
source=(-q --no-deps --require-hashes --no-build-isolation -r /build/converter.txt)
# Which parts of llama.cpp are built.
export CMAKE_ARGS="-DCMAKE_PROJECT_llama_cpp_INCLUDE=/build/llama.cmake ${CMAKE_ARGS:-}"
CMAKE_BUILD_PARALLEL_LEVEL=$(nproc) "${pip[@]}" wheel "${source[@]}" -w /build/wheels

mkdir /build/archive /build/llama.cpp
"${pip[@]}" download --no-binary :all: "${source[@]}" -d /build/archive
tar -xzf /build/archive/*.tar.gz -C /build/llama.cpp --strip-components=3 --wildcards \
    '*/vendor/llama.cpp/convert_hf_to_gguf.py' '*/vendor/llama.cpp/conversion/*.py' \
    '*/vendor/llama.cpp/gguf-py/gguf/*.py' '*/vendor/llama.cpp/LICENSE'
cp /build/converter.txt /build/llama.cpp/
