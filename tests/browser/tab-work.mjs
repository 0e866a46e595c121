// Work in one of several tabs, which goes on while others are asked.

/** Of `prelude`, source text that stands before all work in a tab: start(tab, work) begins work,
 * ended(tab) gives what came of it, step(tab, work) does both. WebKit's driver waits for whatever
 * it is asked for, and the other tab has to be asked meanwhile. */
export function tabWork(prelude) {
  const start = (tab, work) => tab.evaluate(`(() => {
  globalThis.working = (async () => { ${prelude} ${work} })()
    .then((value) => ({ value }), (error) => ({ error: error + '\\n' + error?.stack }));
})()`);
  const ended = async (tab) => {
    const { value, error } = await tab.evaluate('globalThis.working');
    if (error) throw new Error(error);
    return value;
  };
  const step = async (tab, work) => {
    await start(tab, work);
    return ended(tab);
  };
  return { start, ended, step };
}
