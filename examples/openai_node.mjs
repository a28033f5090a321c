// OpenAI's client for JavaScript: an answer, a stream, and what was served.
import OpenAI from "openai";

const client = new OpenAI({
  baseURL: (process.env.LORIMER_URL ?? "http://127.0.0.1:8080") + "/v1",
  apiKey: process.env.LORIMER_API_KEY ?? "none",
});
const model = process.env.LORIMER_MODEL ?? "support";
const messages = [{ role: "user", content: "My router does not come back after the update." }];

const answer = await client.chat.completions.create({ model, messages, max_tokens: 32, temperature: 0 });
console.log(answer.choices[0].message.content);
console.log("served by", answer.system_fingerprint);

const stream = await client.chat.completions.create({ model, messages, max_tokens: 32, temperature: 0, stream: true });
for await (const chunk of stream) process.stdout.write(chunk.choices[0].delta.content ?? "");
console.log();
