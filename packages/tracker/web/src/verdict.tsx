// The first line of every page: is something wrong, whose it is, since when, and what shows it. Beside it, whether the page is live.

import type { Blamed, Verdict } from '@flotilla/shared/live-api';
import type { JSX } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { HostLink } from './components/host-link.tsx';
import { Icon } from './components/icon.tsx';
import { clock, duration, moment } from './format.ts';
import { live } from './live.ts';
import { useFleet } from './topics.ts';

const BLAMED: Readonly<Record<Blamed, string>> = { nobody: '', us: 'On our side', registry: 'The registry', network: 'The network' };
const MAX_EXAMPLES = 3;

export function VerdictLine(): JSX.Element {
  const fleet = useFleet().value;
  const { state } = live.connection.value;
  const verdict = fleet?.now.verdict;
  const tone = state === 'lost' || verdict === undefined ? 'none' : verdict.severity;
  return (
    <header class={`verdict tone-${tone}`} id="verdict">
      <div class="said" role="status" aria-label="Verdict">
        {verdict === undefined ? <span class="text quiet">{state === 'lost' ? 'The tracker does not answer' : 'Asking the tracker …'}</span> : <Said verdict={verdict} atMs={fleet!.atMs} />}
      </div>
      <LinkState />
    </header>
  );
}

function Said({ verdict, atMs }: { readonly verdict: Verdict; readonly atMs: number }): JSX.Element {
  const { severity, blamed, text, sinceMs, evidence } = verdict;
  return (
    <>
      <p class="line">
        <Icon name={severity} size={18} />
        <strong class="text">{text.charAt(0).toUpperCase() + text.slice(1)}</strong>
        {BLAMED[blamed] !== '' && <span class="blamed">{BLAMED[blamed]}</span>}
        {severity !== 'ok' && sinceMs > 0 && !text.includes(' since ') && (
          <span class="quiet small" title={new Date(sinceMs).toISOString()}>
            since {moment(sinceMs, atMs)} UTC
          </span>
        )}
      </p>
      {evidence.length > 0 && (
        <ul>
          {evidence.map(({ text: shown, examples }) => (
            <li key={shown}>
              {shown}
              {examples !== undefined && examples.length > 0 && (
                <>
                  {': '}
                  {examples.slice(0, MAX_EXAMPLES).map((n, at) => (
                    <>
                      {at > 0 && ', '}
                      <HostLink key={n} n={n} />
                    </>
                  ))}
                  {examples.length > MAX_EXAMPLES && ' …'}
                </>
              )}
            </li>
          ))}
        </ul>
      )}
    </>
  );
}

function LinkState(): JSX.Element {
  const { state, heardAtMs } = live.connection.value;
  const nowMs = useNow(state === 'lost');
  const text = {
    idle: 'not connected',
    connecting: 'connecting …',
    live: 'live',
    hidden: 'paused',
    lost: heardAtMs === 0 ? 'no connection; trying again' : `stale since ${clock(heardAtMs)} UTC (${duration(nowMs - heardAtMs)}); reconnecting`,
  }[state];
  return (
    <div class="link-state" data-state={state} id="link-state">
      <span class="dot" aria-hidden="true" />
      <span role={state === 'lost' ? 'alert' : undefined}>{text}</span>
    </div>
  );
}

function useNow(running: boolean): number {
  const [nowMs, setNowMs] = useState(Date.now());
  useEffect(() => {
    if (!running) return undefined;
    setNowMs(Date.now());
    const timer = setInterval(() => setNowMs(Date.now()), 1_000);
    return () => clearInterval(timer);
  }, [running]);
  return nowMs;
}
