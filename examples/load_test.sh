#!/bin/sh
# AIPerf, a load generator for vLLM and its like: latencies as clients see them, and the server's own metrics beside
# them where the gateway runs with --vllm-metric-aliases. It wants the base's tokenizer: an id or a directory.
set -eu
aiperf profile \
    --url "${LORIMER_URL:-http://127.0.0.1:8080}" --api-key "${LORIMER_API_KEY:-none}" \
    --model "${LORIMER_MODEL:-support}" --tokenizer "${LORIMER_TOKENIZER:-HuggingFaceTB/SmolLM2-135M-Instruct}" \
    --endpoint-type chat --streaming --use-server-token-count \
    --concurrency 4 --request-count 32 --synthetic-input-tokens-mean 64 --output-tokens-mean 32 \
    --extra-inputs ignore_eos:true --extra-inputs min_tokens:32 \
    --ui none --artifact-dir "${AIPERF_FOLDER:-aiperf}"
