// Light or dark: the system's, unless somebody chose. Colours themselves are tokens in styles/tokens.css, each a pair by light-dark().

import { signal } from '@preact/signals';

export const THEMES = ['system', 'light', 'dark'] as const;
export type Theme = (typeof THEMES)[number];

const KEY = 'flotilla-theme';
const system = matchMedia('(prefers-color-scheme: dark)');

export const theme = signal<Theme>(stored());
/** Counts up whenever colours may have changed: what is drawn by script is drawn anew. */
export const themeRevision = signal(0);

export function startTheme(): void {
  apply();
  system.addEventListener('change', () => themeRevision.value++);
}

export function chooseTheme(next: Theme): void {
  theme.value = next;
  localStorage.setItem(KEY, next);
  apply();
}

/** What a colour token is now, as the canvas wants it. */
export function color(token: string): string {
  const probe = document.createElement('span');
  probe.hidden = true;
  probe.style.color = `var(--${token})`;
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}

function apply(): void {
  const root = document.documentElement;
  if (theme.value === 'system') delete root.dataset['theme'];
  else root.dataset['theme'] = theme.value;
  themeRevision.value++;
}

function stored(): Theme {
  const value = localStorage.getItem(KEY);
  return THEMES.find((each) => each === value) ?? 'system';
}
