// A weather tool and a calculator in the hands of a small model: what it calls and says, in a page
// as in Node.

const tools = [
  { name: 'get_weather', description: 'The current weather of a city.', inputSchema: {
    type: 'object', required: ['city'], properties: {
      city: { type: 'string', description: 'Name of the city' } } } },
  { name: 'calculate', description: 'Computes a op b.', inputSchema: {
    type: 'object', required: ['a', 'operation', 'b'], properties: {
      a: { type: 'number' }, operation: { enum: ['+', '-', '*', '/'] }, b: { type: 'number' } } } },
];

const calculations = { '+': (a, b) => a + b, '-': (a, b) => a - b, '*': (a, b) => a * b,
  '/': (a, b) => a / b };
const execute = {
  get_weather: ({ city }) => `In ${city} the sun shines at 21 degrees.`,
  calculate: ({ a, operation, b }) => calculations[operation](a, b),
};

/** What Qwen2.5-Coder-0.5B-Instruct (Q4_K_M, int16) does. */
export const recorded = [
  { question: 'What is the weather in Paris?',
    calls: [{ name: 'get_weather', arguments: { city: 'Paris' } }],
    text: ' weather in Paris is sunny with a temperature of 21 degrees Celsius.' },
  { question: 'How much is 17.5 times 23?',
    calls: [{ name: 'calculate', arguments: { a: 17.5, operation: '*', b: 23 } }],
    text: ' response is 402.5.' },
];
export const loadOptions = { contextWindow: 1024, arithmetic: 'int16' };

/** Greedy: each question's calls without their ids, and what is said to their results. */
export async function callTools(model) {
  const begun = await model.createSession({ tools,
    initialPrompts: [{ role: 'system', content: 'You are a helpful assistant.' }] });
  const record = [];
  for (const { question } of recorded) {
    const session = await begun.clone();
    const { toolCalls } = await session.generate(question, { maxTokens: 60 }).result;
    const results = toolCalls.map(({ id, name, arguments: given }) => ({ role: 'tool',
      toolCallId: id, name, content: String(execute[name](given)) }));
    // The model would call again if it could: its answer is begun for it.
    const { text } = await session.generate(
      [...results, { role: 'assistant', content: 'The', prefix: true }],
      { maxTokens: 24, toolChoice: 'none', stop: '\n' }).result;
    record.push({ question,
      calls: toolCalls.map(({ name, arguments: given }) => ({ name, arguments: given })), text });
    await session.destroy();
  }
  await begun.destroy();
  return record;
}
