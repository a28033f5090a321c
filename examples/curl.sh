#!/bin/sh
# Plain HTTP: which models there are, an answer, a stream.
set -eu
url=${LORIMER_URL:-http://127.0.0.1:8080}
key=${LORIMER_API_KEY:-none}
model=${LORIMER_MODEL:-support}

curl -fsS "$url/v1/models" -H "authorization: Bearer $key"
echo
curl -fsS "$url/v1/chat/completions" -H "authorization: Bearer $key" -H "content-type: application/json" -d "{
  \"model\": \"$model\",
  \"messages\": [{\"role\": \"user\", \"content\": \"My router does not come back after the update.\"}],
  \"max_tokens\": 32, \"temperature\": 0
}"
echo
curl -fsSN "$url/v1/completions" -H "authorization: Bearer $key" -H "content-type: application/json" -d "{
  \"model\": \"$model\", \"prompt\": \"To reset the router,\", \"max_tokens\": 16, \"temperature\": 0, \"stream\": true
}"
