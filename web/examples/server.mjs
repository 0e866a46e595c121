// OpenAI's chat completions over HTTP, from a model on this machine:
//
//   node server.mjs MODEL [PORT]
//   curl localhost:PORT/v1/chat/completions -d '{"messages":[{"role":"user","content":"Hello"}]}'
import { once } from 'node:events';
import { createServer } from 'node:http';
import { text } from 'node:stream/consumers';
import { OneKV } from 'onekv';
import { openai } from 'onekv/openai';

const [file, port = '0'] = process.argv.slice(2);
const client = openai(await OneKV.load(file));

async function answer(request, response) {
  const controller = new AbortController();
  response.on('close', () => controller.abort());
  const body = JSON.parse(await text(request));
  const completion = await client.chat.completions.create(body, { signal: controller.signal });
  if (body.stream !== true) {
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify(completion));
    return;
  }
  response.setHeader('content-type', 'text/event-stream');
  for await (const chunk of completion) response.write(`data: ${JSON.stringify(chunk)}\n\n`);
  response.end('data: [DONE]\n\n');
}

const server = createServer((request, response) => {
  if (request.method !== 'POST' || request.url !== '/v1/chat/completions') {
    response.writeHead(404).end();
    return;
  }
  answer(request, response).catch((error) => {
    if (response.destroyed) return;
    if (!response.headersSent) response.writeHead(400, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ error: { message: error.message, code: error.code } }));
  });
});
server.listen(Number(port), '127.0.0.1');
await once(server, 'listening');
console.log(`http://127.0.0.1:${server.address().port}/v1/chat/completions`);
