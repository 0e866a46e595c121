// Light, dark, or as the system: a choice that is kept.
import { find } from './dom.js';

const names = { auto: 'Auto', light: 'Light', dark: 'Dark' } as const;
type Theme = keyof typeof names;
const order: readonly Theme[] = ['auto', 'light', 'dark'];
const key = 'onekv-theme';

function stored(): Theme {
  try {
    return order.find((theme) => theme === localStorage.getItem(key)) ?? 'auto';
  } catch {
    return 'auto';
  }
}

function keep(theme: Theme): void {
  try {
    localStorage.setItem(key, theme);
  } catch {
    // Storage may be off; the choice holds for this page.
  }
}

/** Calls `changed` whenever the colours may be others. */
export function startTheme(changed: () => void): void {
  const button = find<HTMLButtonElement>('#theme');
  const show = (theme: Theme) => {
    if (theme === 'auto') delete document.documentElement.dataset['theme'];
    else document.documentElement.dataset['theme'] = theme;
    button.textContent = names[theme];
    button.setAttribute('aria-label', `Colours: ${names[theme]}`);
    button.dataset['theme'] = theme;
    changed();
  };
  show(stored());
  button.addEventListener('click', () => {
    const at = order.findIndex((theme) => theme === button.dataset['theme']);
    const next = order[(at + 1) % order.length] ?? 'auto';
    keep(next);
    show(next);
  });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', changed);
}
