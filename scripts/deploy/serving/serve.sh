#!/bin/sh
# Serve this bundle with llama.cpp's server: OpenAI's API at http://HOST:PORT/v1, and its state at /health.
#
#     ./serve.sh [more options of llama-server]
#
# Variables: HOST, PORT, PARALLEL (requests at the same time), LLAMA_SERVER (the program), and those of llama-server, such
# as LLAMA_API_KEY. A client sends the system message itself; README.md has it.
set -eu

name=model
model=model.gguf
# Tokens of a request with its answer.
context=2048
sampling='--temp 0.7'
mmproj=''
image_tokens=''

folder=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
server=${LLAMA_SERVER:-llama-server}
parallel=${PARALLEL:-4}
command -v "$server" >/dev/null || {
    echo "serve.sh: there is no program '$server'; run \`make llama-server\` in a checkout of snaketune and set" \
        "LLAMA_SERVER to its .venv/bin/llama-server" >&2
    exit 127
}
[ -z "$mmproj" ] || set -- --mmproj "$folder/$mmproj" --image-min-tokens 1 --image-max-tokens "$image_tokens" "$@"
# Answers come as the model writes them, with its thoughts. What earlier requests computed takes at most 512 MB.
# shellcheck disable=SC2086  # several options in one variable
exec "$server" --model "$folder/$model" --alias "$name" --host "${HOST:-127.0.0.1}" --port "${PORT:-8080}" \
    --parallel "$parallel" --ctx-size "$((context * parallel))" --jinja --reasoning-format none --cache-ram 512 \
    $sampling "$@"
