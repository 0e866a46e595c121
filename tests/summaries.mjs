// Reads how many tests passed, failed and were skipped from what the runners print at their end.
//
// Each function takes the whole output and gives { passed, failed, skipped, notes }, or null when
// the runner's closing lines are not there: a runner that died is never taken for a green one.

const number = (match) => (match ? Number(match[1]) : 0);

/**
 * ctest --verbose: "75% tests passed, 1 tests failed out of 4", and before it each test's own
 * line; the tests' output in between has their number in front: "3: skipped: no model here".
 */
export function fromCtest(output) {
  const closing = /^\d+% tests passed, (\d+) tests? failed out of (\d+)$/m.exec(output);
  if (!closing) return null;
  const notes = [...output.matchAll(/Test +#(\d+): (\S+) \.*\**Skipped/g)]
    .map(([, id, name]) => {
      const reason = new RegExp(`^${id}: skipped: (.*)$`, 'm').exec(output)?.[1];
      return `${name}: ${reason ?? 'skipped'}`;
    });
  const failed = Number(closing[1]);
  const skipped = notes.length;
  return { passed: Number(closing[2]) - failed - skipped, failed, skipped, notes };
}

/** node --test with the spec reporter: "ℹ pass 3" and so on; a skipped test gives its reason. */
export function fromNodeTest(output) {
  const count = (word) => number(new RegExp(`^ℹ ${word} (\\d+)$`, 'm').exec(output));
  if (!/^ℹ tests \d+$/m.test(output)) return null;
  const notes = [...output.matchAll(/^ *﹣ (.*?) \([\d.]+ms\)(?: # (.*))?$/gm)]
    .map(([, name, reason]) => `${name}: ${reason || 'skipped'}`);
  return {
    passed: count('pass'),
    failed: count('fail') + count('cancelled'),
    skipped: count('skipped') + count('todo'),
    notes: [...new Set(notes)],
  };
}

/** The plain closing line, which our own scripts print: "4 passed, 1 failed, 2 skipped". */
export function fromPlain(output) {
  const closing = /^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$/m.exec(output);
  if (!closing) return null;
  const [, passed, failed, skipped = '0'] = closing;
  return { passed: Number(passed), failed: Number(failed), skipped: Number(skipped), notes: [] };
}

/** Adds up; the notes stay in order. */
export function total(summaries) {
  const sum = { passed: 0, failed: 0, skipped: 0, notes: [] };
  for (const { passed, failed, skipped, notes } of summaries) {
    sum.passed += passed;
    sum.failed += failed;
    sum.skipped += skipped;
    sum.notes.push(...notes);
  }
  return sum;
}
