// The word.
postMessage('here');
