// npm test: runs every stage of tests/stages.mjs and ends with one line of sums.
//
//   node tests/run.mjs [--only NAME,…] [--list] [--fuzz-seconds N] [--help]
//
// All stages run even when one failed, except those that use its products. Two run at a time, one
// of those with pages and one of the others: a browser keeps one core busy, and the rest idle. A
// stage that passes says a line or two; one that fails shows the whole output of what failed.
// Nothing is left out in silence: a stage with nothing to run, and every test skipped, is named
// with its reason.
import { pathToFileURL } from 'node:url';
import { Stop, main, say } from '../wasm/toolchain/shell.mjs';
import { need } from '../wasm/toolchain/setup.mjs';
import { stages } from './stages.mjs';
import { total } from './summaries.mjs';

const help = `usage: node tests/run.mjs [options]

  --only NAME,…      only these stages and what they are built from
                     ("native" stands for every stage that starts with "native-")
  --list             the stages, and nothing else; those marked slow run only when named
  --fuzz-seconds N   search N seconds with each fuzz target instead of only replaying its inputs
  --help             this text`;

/** Turns the arguments into { only, list, help, fuzzSeconds }. */
export function parseArguments(args) {
  const options = { only: [], list: false, help: false, fuzzSeconds: 0 };
  const queue = [...args];
  const value = (name) => {
    if (queue.length === 0) throw new Stop(`${name} needs a value`);
    return queue.shift();
  };
  while (queue.length > 0) {
    const name = queue.shift();
    if (name === '--only') options.only.push(...value(name).split(',').filter(Boolean));
    else if (name === '--list') options.list = true;
    else if (name === '--help') options.help = true;
    else if (name === '--fuzz-seconds') options.fuzzSeconds = Number(value(name));
    else throw new Stop(`no such option: ${name}\n${help}`);
  }
  if (!Number.isInteger(options.fuzzSeconds) || options.fuzzSeconds < 0) {
    throw new Stop('--fuzz-seconds takes a whole number of seconds');
  }
  return options;
}

/** The stages asked for and those whose products they use, in the table's order; of no names,
 * all that are not slow. */
export function choose(table, only) {
  if (only.length === 0) return table.filter((stage) => !stage.slow);
  const wanted = new Set();
  const add = (stage) => {
    wanted.add(stage);
    for (const name of stage.after) add(table.find((other) => other.name === name));
  };
  for (const name of only) {
    const found = table.filter((stage) => stage.name === name || stage.name.startsWith(`${name}-`));
    if (found.length === 0) throw new Stop(`no such stage: ${name}; --list names them`);
    found.forEach(add);
  }
  return table.filter((stage) => wanted.has(stage));
}

const seconds = (since) => `${((performance.now() - since) / 1000).toFixed(1)} s`;

/** Sees to all needs of the chosen stages; gives those that could not be met, with the reason. */
async function setUp(chosen) {
  const start = performance.now();
  console.log('== set-up');
  const unmet = new Map();
  for (const name of new Set(chosen.flatMap((stage) => stage.needs))) {
    try {
      await need(name);
    } catch (error) {
      if (!(error instanceof Stop)) throw error;
      console.log(error.message);
      unmet.set(name, error.message);
    }
  }
  const state = unmet.size === 0 ? 'everything is there' : `not there: ${[...unmet.keys()]}`;
  console.log(`   ${state} (${seconds(start)})`);
  return unmet;
}

async function outcome(stage, options) {
  try {
    return await stage.run(options);
  } catch (error) {
    const output = error instanceof Stop ? error.message : error.stack;
    return { passed: 0, failed: 1, skipped: 0, notes: [], output };
  }
}

/** Runs one stage and prints it, its results in one piece; gives its summary. */
async function runStage(stage, options) {
  const start = performance.now();
  console.log(`== ${stage.name}: ${stage.what}`);
  const result = await outcome(stage, options);
  const { passed, failed, skipped } = result;
  const counts = passed + failed + skipped === 0 ? 'done'
    : `${passed} passed, ${failed} failed, ${skipped} skipped`;
  console.log([...(failed > 0 ? [`== what ${stage.name} says:`, result.output.trimEnd()] : []),
    ...result.notes.map((note) => `   ${note}`),
    `   ${stage.name}: ${counts} (${seconds(start)})`].join('\n'));
  return result;
}

/**
 * Calls work(stage, cause) for each: those with pages one after the other, and beside them the
 * others, each when those that it comes after have ended. `cause` names one of these that gave
 * { broken: true }. Gives what work gave, in the table's order.
 */
export async function inLanes(chosen, work) {
  const ended = new Map();
  const last = {};
  for (const stage of chosen) {
    const lane = stage.pages ? 'pages' : 'others';
    const turn = last[lane];
    const start = async () => {
      await turn;
      const before = await Promise.all(stage.after.map((name) => ended.get(name)));
      return work(stage, stage.after.find((_, i) => before[i]?.broken));
    };
    last[lane] = start();
    ended.set(stage.name, last[lane]);
  }
  return Promise.all(chosen.map(({ name }) => ended.get(name)));
}

async function runAll(chosen, options) {
  const unmet = await setUp(chosen);
  return inLanes(chosen, async (stage, cause) => {
    const { name } = stage;
    const lack = stage.needs.find((need) => unmet.has(need));
    if (!cause && !lack) {
      const result = await runStage(stage, options);
      return { name, ...result, broken: result.failed > 0 && !(result.passed > 0) };
    }
    console.log(`== ${name}: not run, because ${cause ? `${cause} failed` : `of ${lack}`}`);
    // Where nothing may be installed a missing browser is not the code's fault; a CI has it all.
    const failed = lack && process.env.CI ? 1 : 0;
    return { name, passed: 0, failed, skipped: 1 - failed, notes: [], broken: true };
  });
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  await main(async () => {
    const start = performance.now();
    const options = parseArguments(process.argv.slice(2));
    if (options.help) return say(help);
    const chosen = choose(stages, options.only);
    if (options.list) {
      const listed = options.only.length > 0 ? chosen : stages;
      return listed.forEach(({ name, what, slow }) =>
        console.log(`${name.padEnd(16)}${what}${slow ? ' (slow)' : ''}`));
    }
    const results = await runAll(chosen, options);
    const red = results.filter((result) => result.failed > 0).map((result) => result.name);
    const { passed, failed, skipped } = total(results);
    const state = red.length > 0 ? `failed: ${red.join(', ')}` : 'all well';
    console.log(`== ${state} (${seconds(start)})`);
    console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
    return failed > 0 ? 1 : 0;
  });
}
