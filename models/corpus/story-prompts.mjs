// Prompts for stories, each another one: words, people, places and turns drawn by number.
//
// A prompt is a function of (seed, number) alone, so a run can be repeated and continued. The text
// begins alike in all of them, so that sessions can share its cache.

/** Uniform numbers below 1 from a 32-bit state (mulberry32). */
export function randomNumbers(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
}

const list = (words) => words.trim().replace(/\s+/g, ' ').split(', ');

const names = list(`
  Lily, Tom, Mia, Ben, Sara, Max, Anna, Sam, Zoe, Leo, Amy, Jack, Lucy, Tim, Ella, Finn, Rosie,
  Omar, Nina, Kofi, Jia, Pedro, Aisha, Ravi, Emma, Noah, Ruby, Hugo, Tara, Dan`);
const heroes = list(`
  a little girl, a little boy, a puppy, a kitten, a rabbit, a bear cub, a frog, a duckling, a
  mouse, a baby elephant, a small robot, a young dragon, a squirrel, a pony, an owl, a turtle, a
  fox, a snail, a penguin, a bee`);
const others = list(`
  mom, dad, grandma, grandpa, a big brother, a little sister, a friend, a teacher, a neighbor,
  an old man, a bird, a cat, a dog, a cow, a baker, a farmer, a shy new child, a monkey`);
const places = list(`
  the park, the kitchen, a farm, the beach, the forest, a school, the garden, a market, the zoo,
  a lake, the playground, a snowy hill, the library, a small village, a boat, the bus, a tall
  tower, a cave, the river, the attic`);
const nouns = list(`
  ball, cake, hat, boat, kite, drum, lamp, key, box, bell, flower, ladder, spoon, blanket,
  bucket, mirror, apple, button, shell, rope, crayon, map, basket, balloon, feather, stone,
  wagon, puzzle, scarf, candle, whistle, seed, bridge, swing, jar, tent, cookie, puddle, rainbow`);
const adjectives = list(`
  red, tiny, happy, sad, loud, soft, brave, old, shiny, cold, kind, angry, heavy, round, sleepy,
  sticky, lucky, gentle, dirty, clever, lonely, warm, quiet, proud, messy`);
const turns = list(`
  something gets lost and is found again, somebody is afraid and learns not to be, two friends
  have a quarrel and make up, a plan goes wrong in a funny way, it starts to rain, a promise is
  broken and somebody says sorry, somebody small helps somebody big, a secret is found out,
  something breaks and is mended, a race is not won by the fastest, somebody learns to wait, a
  stranger turns out to be kind, somebody tells the truth, there is a surprise at the end, a
  mistake leads to something good, somebody shares the last one`);

const starts = [
  ({ name, kind }) => `Once upon a time, there was ${kind} named ${name}.`,
  ({ name, kind, place }) => `One day, ${kind} named ${name} was at ${place}.`,
  ({ name, adjective, noun }) => `${name} had ${article(adjective)} ${noun}.`,
  ({ name, other, place }) => `${name} and ${other} went to ${place}.`,
  ({ name, adjective, noun, place }) =>
    `"Look!" said ${name}. There was ${article(adjective)} ${noun} at ${place}.`,
  ({ name, kind }) => `${name} was ${kind} who liked to play.`,
];

const article = (word) => `${/^[aeiou]/.test(word) ? 'an' : 'a'} ${word}`;

const opening = 'Write a short story for a small child. Use simple words and short sentences. ';

/**
 * { prompt, start, drawn } of story `number`: what is asked for, the words that the story begins
 * with, and what was chosen, for the record.
 */
export function storyPrompt(seed, number) {
  const random = randomNumbers(Math.imul(seed, 0x9e3779b1) ^ Math.imul(number + 1, 0x85ebca6b));
  const pick = (words) => words[Math.floor(random() * words.length)];
  const drawn = {
    name: pick(names), kind: pick(heroes), other: pick(others), place: pick(places),
    adjective: pick(adjectives), noun: pick(nouns), turn: pick(turns),
  };
  const prompt = `${opening}It is about ${drawn.kind} named ${drawn.name} and ${drawn.other} at ` +
    `${drawn.place}. There is ${article(drawn.adjective)} ${drawn.noun}, and ${drawn.turn}.`;
  return { prompt, start: pick(starts)(drawn), drawn };
}
