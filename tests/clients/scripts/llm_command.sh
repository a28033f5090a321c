# The `llm` command over chats, completions and responses. What each command printed is set apart by a line of dashes.
set -eu
mkdir -p "$LLM_USER_PATH"
cat > "$LLM_USER_PATH/extra-openai-models.yaml" <<EOF
- {model_id: chat, model_name: support, api_base: "$LORIMER_URL/v1", api_key_name: lorimer, supports_schema: true}
- {model_id: text, model_name: formal, api_base: "$LORIMER_URL/v1", api_key_name: lorimer, completion: true}
- {model_id: responses, model_name: support, api_base: "$LORIMER_URL/v1", api_key_name: lorimer, responses: true}
- {model_id: missing, model_name: nobody, api_base: "$LORIMER_URL/v1", api_key_name: lorimer}
EOF
llm keys set lorimer --value "$LORIMER_API_KEY"
llm -m chat --no-stream -o max_tokens 8 -o temperature 0 hello
echo -----
llm -m chat -o max_tokens 8 -o temperature 0 hello
echo -----
llm -m text -o max_tokens 8 -o temperature 0 Once
echo -----
llm -m chat --no-stream -o temperature 0 --schema 'urgent bool' hello
echo -----
llm -m responses --no-stream -o temperature 0 hello
echo -----
llm -m missing hello 2>&1 || true
