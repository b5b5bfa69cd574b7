#!/bin/sh
# Serve the merged model, which is not quantized, with vLLM: OpenAI's API at http://HOST:PORT/v1. It needs a GPU and
# `pip install vllm`; snaketune's tests don't run it.
#
#     MERGED=results/runs/NAME/merged ./vllm.sh [more options of vllm]
set -eu

name=model
# Tokens of a request with its answer.
context=2048
sampling='{}'

folder=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
merged=${MERGED:-$folder/../merged}
[ -f "$merged/config.json" ] || {
    echo "vllm.sh: there is no model in '$merged'; set MERGED to the run's folder 'merged'" >&2
    exit 1
}
exec vllm serve "$merged" --served-model-name "$name" --host "${HOST:-127.0.0.1}" --port "${PORT:-8080}" \
    --max-model-len "$context" --tokenizer-mode hf --override-generation-config "$sampling" "$@"
