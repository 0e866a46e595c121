// The few lines of DOM that the page needs instead of a framework.

/** The element that must be there. */
export function find<T extends Element = HTMLElement>(selector: string,
  within: ParentNode = document): T {
  const found = within.querySelector<T>(selector);
  if (found === null) throw new Error(`the page has no ${selector}`);
  return found;
}

export type Child = Node | string | number | null | undefined | false;
type Attributes = Record<string, string | number | boolean | undefined | ((event: never) => void)>;

/** An element: functions become listeners of their key, true an empty attribute. */
export function h<K extends keyof HTMLElementTagNameMap>(tag: K, attributes: Attributes = {},
  ...children: readonly (Child | readonly Child[])[]): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element.addEventListener(name, value as EventListener);
    else if (value === true) element.setAttribute(name, '');
    else if (value !== undefined && value !== false) element.setAttribute(name, String(value));
  }
  append(element, ...children);
  return element;
}

export function append(element: Element,
  ...children: readonly (Child | readonly Child[])[]): void {
  for (const child of children.flat() as Child[]) {
    if (child === null || child === undefined || child === false) continue;
    element.append(typeof child === 'number' ? String(child) : child);
  }
}

/** Writes text only where it changes: a text that is set anew is read out anew. */
export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/** A custom property, which a strict policy lets scripts set. */
export function setPart(element: HTMLElement, part: number): void {
  element.style.setProperty('--part', String(Math.min(1, Math.max(0, part))));
}

/** Calls of the function that is given back do the work soon, at most once in that time: what comes
 * faster than anybody looks would take the processor from the models. */
export function paced(milliseconds: number, work: () => void): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let next = 0;
  return () => {
    timer ??= setTimeout(() => {
      timer = undefined;
      next = performance.now() + milliseconds;
      work();
    }, Math.max(0, next - performance.now()));
  };
}
