// ONNX Runtime Web's part of a visit. It computes on the thread that calls it: a worker of its own,
// as a page would do.
export function measureOnnx(job) {
  const worker = new Worker(new URL('onnx-worker.mjs', import.meta.url), { type: 'module' });
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => {
      worker.terminate();
      if (data.error) reject(new Error(data.error));
      else resolve(data);
    };
    worker.onerror = (event) => reject(new Error(`worker: ${event.message ?? 'did not load'}`));
    worker.postMessage(job);
  });
}
