// Chromium: everything there is.
import { testBrowser } from './suite.mjs';

testBrowser('chromium', { relaxed: true, threads: true });
