// The demo page in Chromium: what all browsers go through, and what only its driver can ask for.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { violations } from './looks.mjs';
import { limit, testDemo } from './suite.mjs';

testDemo('chromium', (person) => {
  test('chromium: high contrast breaks no rule of accessibility', limit, async () => {
    const { page } = person();
    await page.emulateMedia({ colorScheme: 'light', contrast: 'more' });
    assert.deepEqual(await violations(person()), []);
    await page.emulateMedia({ colorScheme: null, contrast: null });
  });

  test('chromium: the benchmark’s report is downloaded', limit, async () => {
    const { page } = person();
    const [download] = await Promise.all([page.waitForEvent('download'),
      page.click('#bench-json')]);
    assert.equal(download.suggestedFilename(), 'onekv-bench.json');
    assert.equal(JSON.parse(readFileSync(await download.path(), 'utf8')).format, 'onekv-bench');
  });
});
