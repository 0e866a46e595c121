// What to do about a file that could not be read: it depends on who was asked for it.

/** The address or the hub's name that an error begins with; undefined of files from the disk. */
const addressOf = (message: string): string | undefined =>
  /^(?:of its parts, )?((?:https?:\/\/|hf:).*?)(?:: |$)/i.exec(message)?.[1];

const isNear = (host: string) => /^(localhost|.*\.localhost|127(\.\d+){3}|\[::1\])$/.test(host);

const isHub = (host: string) => /(^|\.)(huggingface\.co|hf\.co)$/.test(host);

/** Advice for an error of the code SOURCE_FAILED, on a page of that origin. */
export function sourceAdvice(message: string, pageOrigin: string): string {
  const unread = 'The file could not be read.';
  const address = addressOf(message);
  if (address === undefined) return unread;
  const onHub = `${unread} Is there a network? And does Hugging Face have this file?`;
  if (/^hf:/i.test(address)) return onHub;
  if (!URL.canParse(address)) return unread;
  const { hostname, origin } = new URL(address);
  if (isHub(hostname)) return onHub;
  if (origin === pageOrigin) return `${unread} Does this page’s own server still answer?`;
  if (isNear(hostname)) {
    return `${unread} Does the server on this machine run? And does it let pages of others ` +
      'read its files?';
  }
  return `${unread} Is there a network? And not every site lets pages of others read its files.`;
}
