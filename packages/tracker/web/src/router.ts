// Which page is shown: real addresses by the history API, so that links, reloads and the back button work.
//
// Plain links inside the page are followed here; everything with a modifier, a target or another origin is the browser's.

import { signal } from '@preact/signals';

export interface Location {
  readonly path: string;
  readonly query: URLSearchParams;
}

export const here = signal<Location>(current());

/** Begins to follow links. Once, at the start. */
export function startRouter(): void {
  addEventListener('popstate', () => (here.value = current()));
  document.addEventListener('click', (event) => {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = event.target instanceof Element ? event.target.closest('a') : null;
    if (link === null || link.origin !== location.origin || link.target !== '' || link.hasAttribute('download') || link.getAttribute('href')?.startsWith('#') === true || link.pathname.startsWith('/api/')) return;
    event.preventDefault();
    navigate(link.pathname + link.search);
  });
}

export function navigate(to: string): void {
  if (to !== location.pathname + location.search) history.pushState(null, '', to);
  here.value = current();
  scrollTo(0, 0);
}

/** Changes the query in place, for filters: no step in the history. Empty values are left out. */
export function setQuery(values: Readonly<Record<string, string>>): void {
  const query = new URLSearchParams(location.search);
  for (const [key, value] of Object.entries(values)) {
    if (value === '') query.delete(key);
    else query.set(key, value);
  }
  const text = query.toString();
  history.replaceState(history.state, '', location.pathname + (text === '' ? '' : `?${text}`));
  here.value = current();
}

/** @returns the parts that `:name` stands for in the pattern, such as /hosts/:peerId; undefined: the path is another */
export function match(pattern: string, path: string): Readonly<Record<string, string>> | undefined {
  const [wanted, given] = [pattern, path].map((text) => text.split('/').filter((part) => part !== ''));
  if (wanted!.length !== given!.length) return undefined;
  const found: Record<string, string> = {};
  for (const [at, part] of wanted!.entries()) {
    const value = given![at]!;
    if (part.startsWith(':')) found[part.slice(1)] = decoded(value);
    else if (part !== value) return undefined;
  }
  return found;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch (error) {
    if (error instanceof URIError) return text;
    throw error;
  }
}

function current(): Location {
  return { path: location.pathname, query: new URLSearchParams(location.search) };
}
