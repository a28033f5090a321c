#!/bin/sh
# The `llm` command: adapters are models of its own configuration.
set -eu
model=${LORIMER_MODEL:-support}
export LLM_USER_PATH="${LLM_USER_PATH:-$HOME/.config/io.datasette.llm}"
mkdir -p "$LLM_USER_PATH"
cat > "$LLM_USER_PATH/extra-openai-models.yaml" <<EOF
- model_id: lorimer-$model
  model_name: $model
  api_base: ${LORIMER_URL:-http://127.0.0.1:8080}/v1
  api_key_name: lorimer
EOF
llm keys set lorimer --value "${LORIMER_API_KEY:-none}"
llm -m "lorimer-$model" -o max_tokens 32 -o temperature 0 "My router does not come back after the update."
