// onekv/bench: the suites of `onekv bench`, for pages and workers of one's own.
export { makePlan, suiteNames } from './plan.js';
export type { PlanOptions, SuiteName } from './plan.js';
export { runBatches } from './runner.js';
export type { Results, Row, RunOptions } from './runner.js';
