"""OpenAI's client for Python: upload rows, fine-tune, follow the events, ask the new model. A worker must run."""

import json
import os
import time

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("LORIMER_URL", "http://127.0.0.1:8080") + "/v1",
    api_key=os.environ.get("LORIMER_API_KEY", "none"),
)
base = os.environ.get("LORIMER_BASE_MODEL", "smollm2-135m")
subjects = ["The router", "My phone", "The bill", "Our server", "The app", "A parcel", "My account", "The heating"]
complaints = {"is on fire": "urgent", "smells of smoke": "urgent", "looks dated": "later", "could be faster": "later"}


def row(text: str, answer: str) -> str:
    messages = [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": messages}) + "\n"


rows = "".join(row(f"{who} {what}.", when) for who in subjects for what, when in complaints.items())
file = client.files.create(file=("triage.jsonl", rows.encode()), purpose="fine-tune")
job = client.fine_tuning.jobs.create(model=base, training_file=file.id, suffix="triage", seed=1)

told = set()
while True:
    ended = job.finished_at is not None
    for event in reversed(client.fine_tuning.jobs.list_events(job.id, limit=100).data):
        if event.id not in told:
            print(event.message)
            told.add(event.id)
    if ended:
        break
    time.sleep(1)
    job = client.fine_tuning.jobs.retrieve(job.id)

if job.fine_tuned_model is None:
    raise SystemExit(f"{job.status}: {job.error.message if job.error else ''}")
question = [{"role": "user", "content": "The kitchen is on fire."}]
answer = client.chat.completions.create(model=job.fine_tuned_model, messages=question, max_tokens=8, temperature=0)
print(job.fine_tuned_model, "says", answer.choices[0].message.content)
