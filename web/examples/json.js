// An answer that is JSON of a schema, whatever the model would rather say.
import { OneKV } from 'onekv';

const schema = {
  type: 'object',
  properties: {
    name: { enum: ['Tim', 'Lily', 'Tom'] },
    age: { type: 'integer', minimum: 1, maximum: 9 },
    likes: { type: 'array', items: { enum: ['toys', 'cats', 'trees'] }, maxItems: 2 },
  },
  required: ['name', 'age', 'likes'],
  additionalProperties: false,
};

export async function run(write) {
  const model = await OneKV.load('/models/stories-q-mqa.q8_0.gguf');
  const constraint = await model.constrain(schema);
  for (let seed = 1; seed <= 3; seed++) {
    const session = await model.createSession({ temperature: 1, seed });
    const text = await session.prompt('A child in the story: ', { constraint });
    write(`${JSON.stringify(JSON.parse(text))}\n`);
    await session.destroy();
  }
  await model.unload();
}
