// The package's worker, until a text names the way in which it is to end.
import './dist/src/worker.js';

addEventListener('message', ({ data: { args } }) => {
  const text = args?.input?.text;
  if (text === 'close') close();
  if (text === 'throw') setTimeout(() => { throw new Error('out of order'); });
});
