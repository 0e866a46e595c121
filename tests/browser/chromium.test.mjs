// Chromium: everything there is, and the large files that need its speed.
import { realFiles } from '../node/recorded.mjs';
import { testBrowser } from './suite.mjs';

testBrowser('chromium', { relaxed: true, threads: true }, realFiles);
