// Loads a model in a shared worker, and says what came of it.
import { OneKV } from './dist/src/onekv.js';

onconnect = ({ ports: [port] }) => {
  port.onmessage = async ({ data }) => {
    try {
      const model = await OneKV.load(data, { threads: 1, store: 'none' });
      const session = await model.createSession();
      port.postMessage({ text: await session.prompt('Once', { maxTokens: 3 }) });
    } catch ({ name, code, message }) {
      port.postMessage({ name, code, message });
    }
  };
};
