// One rollout: how far every host is, its waves, what is left, who is slow or failed and why. Paused, resumed, cancelled and retried here.

import { ROLLOUT_HOST_STATES } from '@flotilla/shared/live-lists';
import type { RolloutDetail, RolloutOutcome, RolloutHosts, RolloutWave } from '@flotilla/shared/rollout-api';
import type { RolloutRow } from '@flotilla/shared/live-api';
import type { HookOutcome } from '@flotilla/shared/tracker-api';
import { ROLLOUT_ROUTES, type RolloutCommand } from '@flotilla/shared/routes';
import type { JSX } from 'preact';
import { useMemo } from 'preact/hooks';
import { post } from '../api.ts';
import { Action } from '../components/action.tsx';
import { Badge, RolloutBadge } from '../components/badge.tsx';
import { Bar } from '../components/bar.tsx';
import { Figure, Figures } from '../components/figure.tsx';
import { Empty, Loading, Note } from '../components/note.tsx';
import { Page } from '../components/page.tsx';
import { Panel } from '../components/panel.tsx';
import { LayersPanel, ProgressChart, ProgressGrid, type HostProgress } from '../components/progress.tsx';
import { SlowGroupsPanel, SlowHostsPanel } from '../components/slow.tsx';
import { Table } from '../components/table.tsx';
import { ago, bytes, clock, count, duration, moment, plural, rate, scaled, share, shortDigest } from '../format.ts';
import { useOnce } from '../once.ts';
import { useRollout, type RolloutState } from '../topics.ts';

const FAILED = ROLLOUT_HOST_STATES.indexOf('failed');
const DONE = ROLLOUT_HOST_STATES.indexOf('done');

export function RolloutPage({ id }: { readonly id: string }): JSX.Element {
  const { value, gone } = useRollout(id);
  const crumb = { href: '/rollouts', text: 'Rollouts' };
  if (value === undefined) {
    return (
      <Page title="Rollout" crumb={crumb}>
        {gone ? (
          <section class="panel">
            <Empty title="No such rollout">It may have been so long ago that it is no longer kept.</Empty>
          </section>
        ) : (
          <Loading what="the rollout" />
        )}
      </Page>
    );
  }
  const { now, atMs, series } = value;
  const { detail } = now;
  const moving = detail.state === 'running' || detail.state === 'resolving';
  return (
    <Page title={detail.image} crumb={crumb} badge={<RolloutBadge state={detail.state} />} lead={<Lead detail={detail} atMs={atMs} />} actions={<Commands detail={detail} />}>
      <Reason detail={detail} atMs={atMs} />
      <RolloutFigures detail={detail} bound={now.bound} />
      <Waves detail={detail} atMs={atMs} />
      <Grid rollout={value} />
      <ProgressChart series={series} hosts={detail.hosts.total} bound={now.bound} />
      {(moving || now.slowest.length > 0) && (
        <div class="columns wide-narrow">
          <SlowHostsPanel slowest={now.slowest} />
          <SlowGroupsPanel groups={now.groups} />
        </div>
      )}
      {detail.failures.length > 0 && <Failures detail={detail} />}
      <Outcomes id={id} />
      {detail.manifests.map(({ manifest, hosts, layers }) => (
        <LayersPanel
          key={manifest}
          title={detail.manifests.length === 1 ? 'Layers' : `Layers of ${shortDigest(manifest)}, for ${plural(hosts, 'host')}`}
          layers={layers.map(({ digest, size, held, hosts: holders, complete }) => ({ digest, size, kind: '', hosts: holders, done: complete, share: size * holders === 0 ? 1000 : Math.floor((1000 * held) / (size * holders)) }))}
        />
      ))}
    </Page>
  );
}

function Lead({ detail: { digest, selector, platform, verifyOnly, originLimit, pauseOnFailure, deadlineMs, createdAtMs, createdBy }, atMs }: { readonly detail: RolloutDetail; readonly atMs: number }): JSX.Element {
  const parts = [
    selector === '' ? 'all hosts' : selector,
    platform,
    verifyOnly && 'verify only',
    originLimit !== undefined && `at most ${rate(originLimit)} from the origin`,
    `stops by itself above ${share(Math.round(1000 * pauseOnFailure))} failed`,
    deadlineMs !== undefined && `deadline ${moment(deadlineMs, atMs)} UTC`,
    `begun ${ago(createdAtMs, atMs)} by ${createdBy}`,
  ].filter((part) => typeof part === 'string');
  return (
    <>
      {parts.join(' · ')}
      {digest !== undefined && (
        <div>
          <a href={`/images/${digest}`}>
            <code class="break">{digest}</code>
          </a>
        </div>
      )}
    </>
  );
}

function Commands({ detail: { id, state, image, hosts } }: { readonly detail: RolloutDetail }): JSX.Element {
  const run = (command: RolloutCommand) => () => post(ROLLOUT_ROUTES.command(id, command));
  const over = state === 'done' || state === 'cancelled' || state === 'expired';
  return (
    <>
      {(state === 'running' || state === 'resolving') && <Action label="Pause" icon="pause" role="operate" run={run('pause')} />}
      {state === 'paused' && <Action label="Resume" icon="play" look="primary" role="operate" run={run('resume')} />}
      {hosts.failed > 0 && state !== 'cancelled' && state !== 'expired' && <Action label="Retry the failed" icon="retry" role="operate" run={run('retry')} />}
      {!over && (
        <Action
          label="Cancel"
          icon="stop"
          look="danger"
          role="operate"
          confirm={{ title: 'Cancel this rollout?', text: <p>{plural(hosts.total - hosts.done - hosts.failed, 'host')} will not get {image}. It cannot be taken up again; hosts that have it keep it.</p> }}
          run={run('cancel')}
        />
      )}
    </>
  );
}

function Reason({ detail: { reason, state, hosts, catchUpUntilMs }, atMs }: { readonly detail: RolloutDetail; readonly atMs: number }): JSX.Element | null {
  if (reason !== undefined) {
    return (
      <Note tone={state === 'paused' ? 'warning' : 'notice'} title={state === 'paused' ? 'Paused' : 'Waiting'} role="status">
        <span>
          {reason.message}
          {reason.host !== undefined && ` (${reason.host})`}
        </span>
        <span class="quiet small">
          <code>{reason.code}</code>
        </span>
      </Note>
    );
  }
  if (state === 'done' && hosts.away > 0 && catchUpUntilMs !== undefined) {
    return (
      <Note tone="notice" title={`${plural(hosts.away, 'host')} away`} role="status">
        <span>They get it when they come back, until {moment(catchUpUntilMs, atMs)} UTC.</span>
      </Note>
    );
  }
  return null;
}

function RolloutFigures({ detail: { hosts, bytes: sums, state, timeLeftMs }, bound }: { readonly detail: RolloutDetail; readonly bound: RolloutState['now']['bound'] }): JSX.Element {
  const [arriving, arrivingUnit] = scaled(sums.rate);
  const [origin, originUnit] = scaled(sums.origin);
  const moved = sums.peer + sums.origin;
  const timeLeft = state === 'done' || state === 'cancelled' || state === 'expired' ? 'none' : timeLeftMs === undefined ? '–' : duration(timeLeftMs);
  return (
    <Figures label="The rollout in figures">
      <Figure label="Hosts done" value={count(hosts.done)} note={`of ${count(hosts.total)}`} />
      <Figure label="Under way" value={count(hosts.working)} note={`${count(hosts.waiting)} waiting${hosts.away > 0 ? `, ${count(hosts.away)} away` : ''}`} />
      <Figure label="Failed" value={count(hosts.failed)} note={hosts.failed === 0 ? 'nobody' : `${share(Math.round((1000 * hosts.failed) / hosts.total))} of all`} tone={hosts.failed > 0 ? 'bad' : undefined} />
      <Figure label="Arriving now" value={arriving} unit={`${arrivingUnit}/s`} note={sums.total === 0 ? undefined : `${share(Math.floor((1000 * sums.held) / sums.total))} of ${bytes(sums.total)} held`} />
      <Figure label="Time left" value={timeLeft} note={bound === undefined ? undefined : `the links' bound: ${duration(bound.ms)} in all`} />
      <Figure label="Left the origin" value={origin} unit={originUnit} note={moved === 0 ? undefined : `${share(Math.floor((1000 * sums.peer) / moved))} came from peers`} />
    </Figures>
  );
}

const WAVE_TONES: Readonly<Record<RolloutWave['state'], readonly ['none' | 'notice' | 'ok', string]>> = { waiting: ['none', 'waiting'], open: ['notice', 'open'], over: ['ok', 'over'] };

function Waves({ detail: { waves }, atMs }: { readonly detail: RolloutDetail; readonly atMs: number }): JSX.Element {
  return (
    <Panel title="Waves">
      <ol class="waves">
        {waves.map(({ target, state, started, done, failed, openedAtMs, endedAtMs }, at) => {
          const size = target - (waves[at - 1]?.target ?? 0);
          const [tone, text] = WAVE_TONES[state];
          return (
            <li key={target} class={state}>
              <div class="row">
                <b>Wave {at + 1}</b>
                <Badge tone={tone} {...(state === 'open' && { icon: 'working' as const })}>{text}</Badge>
              </div>
              <Bar
                thick
                parts={[
                  { value: done, color: 'cell-done' },
                  { value: failed, color: 'bad-fill' },
                  { value: Math.max(0, started - done - failed), color: 'line-strong' },
                ]}
                total={size}
              />
              <span class="quiet small">
                {count(done)} of {plural(size, 'host')}
                {failed > 0 && <span class="warn">, {count(failed)} failed</span>}
                {openedAtMs !== undefined && <> · {endedAtMs === undefined ? `since ${clock(openedAtMs)}` : `took ${duration(endedAtMs - openedAtMs)}`}</>}
                {openedAtMs !== undefined && endedAtMs === undefined && <span class="visually-hidden">, for {duration(Math.max(0, atMs - openedAtMs))}</span>}
              </span>
            </li>
          );
        })}
      </ol>
    </Panel>
  );
}

function Grid({ rollout: { rows, now } }: { readonly rollout: RolloutState }): JSX.Element {
  // The table is changed in place; `now` is new with every event.
  const hosts = useMemo(() => Array.from(rows.values(), toProgress), [rows, now]);
  return <ProgressGrid title="Every host" aside="colour: how much of the image it holds" hosts={hosts} />;
}

function toProgress([n, state, , , held, downRate, at, reason]: RolloutRow): HostProgress {
  return { n, share: state === DONE ? 1000 : held, rate: downRate, reason, leftS: -1, failed: state === FAILED, at };
}

function Failures({ detail: { failures } }: { readonly detail: RolloutDetail }): JSX.Element {
  return (
    <Panel title="Failures" flush>
      <Table
        caption="Failures by cause"
        rows={failures}
        keyOf={({ code }) => code}
        columns={[
          { head: 'Cause', rowHead: true, cell: ({ code }) => <code>{code}</code> },
          { head: 'What it says', cell: ({ message }) => <span class="wrap">{message}</span> },
          { head: 'Hosts', number: true, cell: ({ hosts }) => count(hosts), sort: ({ hosts }) => hosts },
          { head: 'Such as', cell: ({ names, hosts }) => <span class="wrap">{names.join(', ')}{hosts > names.length && ` and ${count(hosts - names.length)} more`}</span> },
        ]}
      />
    </Panel>
  );
}

/** Hosts that failed, or ran the command of their own configuration afterwards. */
function Outcomes({ id }: { readonly id: string }): JSX.Element | null {
  const { value } = useOnce<RolloutHosts>(`${ROLLOUT_ROUTES.hosts(id)}?outcome=true`, ['rollouts']);
  if (value === undefined) return null;
  const told = value.rows.map((row) => ({ peerId: row[0], name: row[1], outcome: value.outcomes[row[0]] })).filter((host): host is { peerId: string; name: string; outcome: RolloutOutcome } => host.outcome !== undefined);
  if (told.length === 0) return null;
  return (
    <Panel title="What hosts told at their end" flush aside={plural(told.length, 'host')}>
      <Table
        caption="What hosts told at their end"
        rows={told}
        keyOf={({ peerId }) => peerId}
        columns={[
          { head: 'Host', rowHead: true, cell: ({ peerId, name }) => <a href={`/hosts/${peerId}`}>{name}</a>, sort: ({ name }) => name },
          { head: 'Attempts', number: true, cell: ({ outcome }) => count(outcome.attempt) },
          { head: 'Result', cell: ({ outcome: { error } }) => (error === undefined ? <Badge tone="ok">done</Badge> : <span class="wrap">{error.message}</span>) },
          { head: 'Command afterwards', cell: ({ outcome: { hook } }) => (hook === undefined ? <span class="quiet">–</span> : <Hook hook={hook} />) },
        ]}
      />
    </Panel>
  );
}

function Hook({ hook: { exitCode, ms, output } }: { readonly hook: HookOutcome }): JSX.Element {
  return (
    <>
      {exitCode === 0 ? <Badge tone="ok">done</Badge> : <Badge tone="bad">{exitCode === undefined ? 'did not end by itself' : `exit code ${exitCode}`}</Badge>}{' '}
      <span class="quiet small">{duration(ms)}</span>
      {output !== '' && <code class="wrap small">{output}</code>}
    </>
  );
}
