// The official Node client on what is newer than chat: responses, tools, structured outputs and their streams.
// node responses.mjs URL KEY MODEL prints one JSON object of what it saw.
import OpenAI from 'openai';
import { failure } from './failure.mjs';

const [url, apiKey, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 });
const question = 'What is the capital of France? Answer in one sentence.';
const options = { model, input: question, temperature: 0, max_output_tokens: 24 };

const parameters = {
  type: 'object',
  properties: { unit: { enum: ['celsius', 'kelvin'] }, days: { type: 'integer', minimum: 1, maximum: 9 } },
  required: ['unit', 'days'],
  additionalProperties: false,
};
const weather = { type: 'function', name: 'weather', description: 'The weather in Paris', parameters, strict: true };
const chatWeather = { type: 'function', function: { name: 'weather', description: 'The weather in Paris', parameters, strict: true } };
const forced = { ...options, input: 'How warm will it be in Paris?', tools: [weather], tool_choice: 'required', parallel_tool_calls: false, max_output_tokens: 80 };

const seen = (response) => ({
  text: response.output_text,
  status: response.status,
  types: response.output.map((item) => item.type),
  call: response.output.find((item) => item.type === 'function_call') ?? null,
  usage: response.usage,
});

async function streamed(request) {
  const stream = client.responses.stream(request);
  const types = [];
  let text = '';
  let callArguments = '';
  for await (const event of stream) {
    types.push(event.type);
    if (event.type === 'response.output_text.delta') text += event.delta;
    if (event.type === 'response.function_call_arguments.delta') callArguments += event.delta;
  }
  return { types, text, callArguments, final: seen(await stream.finalResponse()) };
}

// A call, its result, and the answer to it: the whole conversation is sent each time.
async function afterTheCall() {
  const first = await client.responses.create(forced);
  const call = first.output.find((item) => item.type === 'function_call');
  const input = [{ role: 'user', content: forced.input }, ...first.output,
    { type: 'function_call_output', call_id: call.call_id, output: '21 degrees' }];
  return seen(await client.responses.create({ ...options, input, tools: [weather], tool_choice: 'none' }));
}

async function chatCalls() {
  const request = {
    model, temperature: 0, max_tokens: 80, messages: [{ role: 'user', content: forced.input }],
    tools: [chatWeather], tool_choice: { type: 'function', function: { name: 'weather' } }, parallel_tool_calls: false,
  };
  const whole = (await client.chat.completions.create(request)).choices[0];
  const runner = client.chat.completions.stream(request);
  const final = (await runner.finalChatCompletion()).choices[0];
  const shown = ({ finish_reason, message }) => ({ finish_reason, calls: message.tool_calls.map(({ function: f }) => [f.name, f.arguments]) });
  return { whole: shown(whole), streamed: shown(final) };
}

async function chatSchema() {
  const schema = { type: 'object', properties: { sure: { type: 'boolean' } }, required: ['sure'], additionalProperties: false };
  const completion = await client.chat.completions.parse({
    model, temperature: 0, max_tokens: 40, messages: [{ role: 'user', content: 'Are you sure?' }],
    response_format: { type: 'json_schema', json_schema: { name: 'answer', schema, strict: true } },
  });
  return completion.choices[0].message.parsed ?? JSON.parse(completion.choices[0].message.content);
}

console.log(JSON.stringify({
  whole: seen(await client.responses.create(options)),
  streamed: await streamed(options),
  call: seen(await client.responses.create(forced)),
  streamedCall: await streamed(forced),
  afterTheCall: await afterTheCall(),
  schema: seen(await client.responses.create({ ...options, max_output_tokens: 60, text: { format: { type: 'json_schema', name: 'weather', schema: parameters, strict: true } } })),
  chatCalls: await chatCalls(),
  chatSchema: await chatSchema(),
  stored: await failure(() => client.responses.create({ ...options, store: true })),
  previous: await failure(() => client.responses.create({ ...options, previous_response_id: 'resp_1' })),
  webSearch: await failure(() => client.responses.create({ ...options, tools: [{ type: 'web_search' }] })),
}));
