// Firefox ESR: everything there is.
import { testBrowser } from './suite.mjs';

testBrowser('firefox', { relaxed: true, threads: true });
