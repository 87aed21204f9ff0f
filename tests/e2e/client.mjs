// The official Node client against a running server: node client.mjs URL KEY MODEL prints one JSON object of what it saw.
import OpenAI from 'openai';
import { failure } from './failure.mjs';

const [url, apiKey, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 });
const messages = [{ role: 'user', content: 'What is the capital of France? Answer in one sentence.' }];
const options = { model, messages, temperature: 0, max_tokens: 24 };

async function streamed() {
  let text = '';
  let usage = null;
  for await (const chunk of await client.chat.completions.create({ ...options, stream: true, stream_options: { include_usage: true } })) {
    text += chunk.choices[0]?.delta.content ?? '';
    usage = chunk.usage ?? usage;
  }
  return { text, usage };
}

async function aborted() {
  const stream = await client.chat.completions.create({ ...options, max_tokens: 1000, stream: true });
  let chunks = 0;
  for await (const _ of stream) {
    if (++chunks === 3) break; // leaving the loop aborts the request
  }
  return chunks;
}

const answer = await client.chat.completions.create(options);
console.log(JSON.stringify({
  models: (await client.models.list()).data.map((entry) => entry.id),
  text: answer.choices[0].message.content,
  usage: answer.usage,
  streamed: await streamed(),
  aborted: await aborted(),
  completion: (await client.completions.create({ model, prompt: 'Roses are red, violets are', max_tokens: 4, temperature: 0 })).choices[0].text,
  unauthorized: await failure(() => new OpenAI({ baseURL: `${url}/v1`, apiKey: 'wrong', maxRetries: 0 }).models.list()),
  badRequest: await failure(() => client.chat.completions.create({ ...options, temperature: 3 })),
  notFound: await failure(() => client.chat.completions.create({ ...options, model: 'nobody' })),
}));
