// Says the word of a worker of its own, or, asked for `alone`, one of its own.
if (location.search === '?alone') postMessage('here');
else new Worker('inner.js').onmessage = () => postMessage('here');
