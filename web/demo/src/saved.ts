// One conversation, kept in this browser. As bytes: WebKit keeps no Blob in a private window.

interface Kept {
  bytes: ArrayBuffer;
  /** The prompt, and each token's text after it. */
  prompt: string;
  pieces: string[];
  savedAt: number;
}

const name = 'onekv-demo';
const store = 'conversations';
const key = 'travel';

function open(): Promise<IDBDatabase> {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(name, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(store);
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

async function transact<T>(mode: IDBTransactionMode,
  work: (objects: IDBObjectStore) => IDBRequest<T>): Promise<T> {
  const database = await open();
  try {
    return await new Promise<T>((resolve, reject) => {
      const transaction = database.transaction(store, mode);
      const request = work(transaction.objectStore(store));
      transaction.oncomplete = () => resolve(request.result);
      transaction.onabort = () => reject(transaction.error ?? request.error);
    });
  } finally {
    database.close();
  }
}

export const keep = async (conversation: Kept): Promise<void> => {
  await transact('readwrite', (objects) => objects.put(conversation, key));
};

export const kept = (): Promise<Kept | undefined> =>
  transact('readonly', (objects) => objects.get(key) as IDBRequest<Kept | undefined>);
