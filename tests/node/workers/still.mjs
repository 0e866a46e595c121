// The worker, with a clock that stands still.
import './still-clock.mjs';
import '../../../dist/src/worker/main-node.js';
