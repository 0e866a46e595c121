// The demo page in WebKitGTK.
import { test } from 'node:test';
import { testNarrow } from './looks.mjs';
import { limit, testDemo } from './suite.mjs';

testDemo('webkit', () => {
  // Its windows end at 447 px.
  test('webkit: nothing is wider than a phone', limit, () => testNarrow('webkit'));
});
