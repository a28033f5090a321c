// OpenAI's client for JavaScript. Run in the client's own environment; asserts by itself.
import assert from "node:assert/strict";
import OpenAI, { toFile } from "openai";

const URL = process.env.LORIMER_URL;
const KEY = process.env.LORIMER_API_KEY;
const client = new OpenAI({ baseURL: `${URL}/v1`, apiKey: KEY, maxRetries: 0 });
const messages = [{ role: "user", content: "hello" }];
const asked = { model: "support", messages, max_tokens: 8, temperature: 0 };

const whole = await client.chat.completions.create(asked);
assert.equal(whole.object, "chat.completion");
assert.match(whole.system_fingerprint, /^sha256:/);

let streamed = "";
let usage;
const stream = await client.chat.completions.create({
  ...asked,
  stream: true,
  stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  streamed += chunk.choices[0]?.delta.content ?? "";
  usage = chunk.usage ?? usage;
}
assert.equal(streamed, whole.choices[0].message.content);
assert.deepEqual(usage, whole.usage);

let told = "";
const runner = client.chat.completions.stream(asked).on("content", (delta) => (told += delta));
await runner.done().catch((error) => assert.ok(error instanceof OpenAI.LengthFinishReasonError));
assert.equal(told, whole.choices[0].message.content);

const text = await client.completions.create({ model: "formal", prompt: "Once", max_tokens: 5, temperature: 0 });
assert.equal(text.object, "text_completion");

const ids = [];
for await (const model of client.models.list()) ids.push(model.id);
assert.ok(ids.includes("support") && ids.includes("formal"));

const found = await client.embeddings.create({ model: "support", input: ["one", "two"] });
assert.equal(found.data.length, 2);
const length = Math.hypot(...found.data[0].embedding);
assert.ok(Math.abs(length - 1) < 1e-3, `embeddings have length ${length}`);

const response = await client.responses.create({
  model: "support",
  input: "hello",
  max_output_tokens: 16,
  temperature: 0,
  store: false,
});
assert.equal(response.object, "response");
assert.equal(typeof response.output_text, "string");

await assert.rejects(client.chat.completions.create({ ...asked, model: "nobody" }), (error) => {
  assert.ok(error instanceof OpenAI.NotFoundError);
  assert.equal(error.code, "model_not_found");
  return true;
});
await assert.rejects(client.chat.completions.create({ ...asked, temperature: 9 }), OpenAI.BadRequestError);
const stranger = new OpenAI({ baseURL: `${URL}/v1`, apiKey: "another", maxRetries: 0 });
await assert.rejects(stranger.models.list(), OpenAI.AuthenticationError);

const rows = JSON.stringify({ prompt: "Where is it?", completion: "On its way." }) + "\n";
const kept = await client.files.create({ file: await toFile(Buffer.from(rows), "rows.jsonl"), purpose: "fine-tune" });
assert.equal(kept.bytes, rows.length);
assert.equal(await (await client.files.content(kept.id)).text(), rows);
const job = await client.fineTuning.jobs.create({ model: "support", training_file: kept.id, suffix: "from-node" });
assert.equal(job.object, "fine_tuning.job");
assert.equal((await client.fineTuning.jobs.cancel(job.id)).status, "cancelled");
const happened = [];
for await (const event of client.fineTuning.jobs.listEvents(job.id, { limit: 1 })) happened.unshift(event.message);
assert.ok(happened[0].startsWith("created: from-node") && happened.at(-1) === "cancelled", happened.join());
const files = [];
for await (const file of client.files.list({ limit: 1 })) files.push(file.id);
assert.ok(files.includes(kept.id));
assert.ok((await client.files.delete(kept.id)).deleted);
await assert.rejects(client.files.retrieve(kept.id), OpenAI.NotFoundError);

const aborting = await client.chat.completions.create({ ...asked, max_tokens: 500, ignore_eos: true, stream: true });
for await (const chunk of aborting) {
  aborting.controller.abort();
  break;
}
