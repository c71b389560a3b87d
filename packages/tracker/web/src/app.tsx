// The frame around every page: verdict, navigation, search, who is signed in; and the page that the address names.

import type { JSX } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import { Icon, Mark } from './components/icon.tsx';
import { Empty } from './components/note.tsx';
import { Page } from './components/page.tsx';
import { live } from './live.ts';
import { NAVIGATION, ROUTES } from './pages/index.ts';
import { here, match, navigate } from './router.ts';
import { session, signOut } from './session.ts';
import { SignIn } from './sign-in.tsx';
import { chooseTheme, theme, THEMES } from './theme.ts';
import { VerdictLine } from './verdict.tsx';

export function App(): JSX.Element {
  const { value } = session;
  useEffect(() => {
    if (value.state === 'out') live.close();
  }, [value.state]);
  return value.state === 'in' ? <Frame /> : <SignIn />;
}

function Frame(): JSX.Element {
  return (
    <div class={live.connection.value.state === 'lost' ? 'frame stale' : 'frame'}>
      <a class="skip" href="#main">
        Skip to the page
      </a>
      <VerdictLine />
      <div class="side">
        <a class="brand" href="/">
          <Mark />
          Flotilla
        </a>
        <Search />
        <Navigation />
        <Who />
      </div>
      <main class="main" id="main" tabIndex={-1}>
        <CurrentPage />
      </main>
    </div>
  );
}

function CurrentPage(): JSX.Element {
  const { path } = here.value;
  for (const { pattern, page: Shown } of ROUTES) {
    const found = match(pattern, path);
    // A page of another thing is another page: nothing of the first is kept.
    if (found !== undefined) return <Shown key={path} {...found} />;
  }
  return (
    <Page title="No such page">
      <section class="panel">
        <Empty title={`Nothing is at ${path}`}>
          <p>
            The address may be of an older release. <a href="/">Go to the fleet.</a>
          </p>
        </Empty>
      </section>
    </Page>
  );
}

function Navigation(): JSX.Element {
  const { path } = here.value;
  const list = useRef<HTMLElement>(null);
  // On a phone it is one row that scrolls: the page that is open is in sight.
  useEffect(() => {
    const [row, link] = [list.current!, list.current!.querySelector<HTMLElement>('[aria-current]')];
    if (link !== null) row.scrollLeft = link.offsetLeft - (row.clientWidth - link.offsetWidth) / 2;
  }, [path]);
  return (
    <nav class="nav" aria-label="Pages" ref={list}>
      <ul>
        {NAVIGATION.map(({ href, text, icon }) => (
          <li key={href}>
            <a href={href} aria-current={isUnder(path, href) ? 'page' : undefined}>
              <Icon name={icon} />
              {text}
            </a>
          </li>
        ))}
      </ul>
    </nav>
  );
}

function isUnder(path: string, href: string): boolean {
  if (href === '/images' && path.startsWith('/swarms/')) return true;
  return path === href || (href !== '/' && path.startsWith(`${href}/`));
}

function Search(): JSX.Element {
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => {
    const onKey = (event: KeyboardEvent): void => {
      const typing = event.target instanceof Element && event.target.closest('input, textarea, select, [contenteditable], dialog') !== null;
      if (event.key !== '/' || typing || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      field.current?.focus();
    };
    addEventListener('keydown', onKey);
    return () => removeEventListener('keydown', onKey);
  }, []);
  return (
    <form
      class="search-box"
      role="search"
      onSubmit={(event) => {
        event.preventDefault();
        const text = field.current!.value.trim();
        if (text !== '') navigate(`/search?q=${encodeURIComponent(text)}`);
      }}
    >
      <Icon name="search" size={14} />
      <input ref={field} type="search" name="q" aria-label="Search for an image, digest, host or request id" placeholder="Search" maxLength={512} autocomplete="off" spellcheck={false} />
      <kbd aria-hidden="true">/</kbd>
    </form>
  );
}

const THEME_ICONS = { system: 'screen', light: 'sun', dark: 'moon' } as const;

function Who(): JSX.Element | null {
  const { value } = session;
  if (value.state !== 'in') return null;
  const { name, role, version } = value.me;
  return (
    <div class="who">
      <div class="row">
        <span class="break">
          {name} <span class="quiet">({role})</span>
        </span>
        <button type="button" class="link-button nowrap" onClick={() => void signOut()}>
          Sign out
        </button>
      </div>
      <div class="row">
        <fieldset class="segments">
          <legend class="visually-hidden">Colours</legend>
          {THEMES.map((each) => (
            <label key={each} title={each}>
              <input type="radio" name="theme" value={each} checked={theme.value === each} onChange={() => chooseTheme(each)} />
              <Icon name={THEME_ICONS[each]} size={14} />
              <span class="visually-hidden">{each}</span>
            </label>
          ))}
        </fieldset>
        <span class="quiet version">{version}</span>
      </div>
    </div>
  );
}
