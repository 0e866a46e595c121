// WebKitGTK: no relaxed SIMD, and no shared memory even on an isolated page, so one thread.
import { testBrowser } from './suite.mjs';

testBrowser('webkit', { relaxed: false, threads: false });
