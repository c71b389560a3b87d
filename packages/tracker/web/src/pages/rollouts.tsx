// Every rollout, newest first: what is under way, what stopped and why, what was.

import type { RolloutSummary } from '@flotilla/shared/rollout-api';
import type { JSX } from 'preact';
import { RolloutBadge } from '../components/badge.tsx';
import { Bar } from '../components/bar.tsx';
import { Icon } from '../components/icon.tsx';
import { Empty, Loading } from '../components/note.tsx';
import { Page } from '../components/page.tsx';
import { Table } from '../components/table.tsx';
import { ago, count, duration, plural, rate } from '../format.ts';
import { may } from '../session.ts';
import { useRollouts } from '../topics.ts';

export function RolloutsPage(): JSX.Element {
  const { value, atMs } = useRollouts();
  const actions = may('operate') ? (
    <a class="button primary" href="/rollouts/new">
      <Icon name="plus" size={14} />
      New rollout
    </a>
  ) : undefined;
  const open = value?.rollouts.filter(({ state }) => state === 'running' || state === 'resolving' || state === 'paused').length ?? 0;
  return (
    <Page title="Rollouts" actions={actions} lead={value === undefined ? undefined : open === 0 ? 'none is under way' : `${plural(open, 'rollout')} under way`}>
      <section class="panel" aria-label="Rollouts">
        {value === undefined ? (
          <Loading what="the rollouts" />
        ) : value.rollouts.length === 0 ? (
          <Empty title="No rollout yet">
            <p>A rollout puts one image on chosen hosts, a few first, and stops by itself when too many fail. From a shell:</p>
            <pre>flotilla rollout docker.io/library/nginx:1.27 --waves 1,10%,100%</pre>
          </Empty>
        ) : (
          <Table
            caption="Rollouts"
            rows={value.rollouts}
            keyOf={({ id }) => id}
            columns={[
              { head: 'Image', rowHead: true, cell: (rollout) => <Name rollout={rollout} />, sort: ({ image }) => image },
              { head: 'State', cell: (rollout) => <State rollout={rollout} />, sort: ({ state }) => state },
              { head: 'Hosts done', cell: (rollout) => <Hosts rollout={rollout} />, sort: ({ hosts }) => hosts.done / Math.max(1, hosts.total) },
              { head: 'Wave', number: true, cell: ({ wave, waves }) => `${count(wave + 1)} of ${count(waves.length)}` },
              { head: 'Rate', number: true, cell: ({ bytes }) => (bytes.rate > 0 ? rate(bytes.rate) : '–'), sort: ({ bytes }) => bytes.rate },
              { head: 'Time left', number: true, cell: ({ timeLeftMs, state }) => (state === 'running' && timeLeftMs !== undefined ? duration(timeLeftMs) : '–') },
              { head: 'Begun', number: true, cell: ({ createdAtMs }) => <span class="nowrap">{ago(createdAtMs, atMs)}</span>, sort: ({ createdAtMs }) => createdAtMs },
              { head: 'By', cell: ({ createdBy }) => createdBy, sort: ({ createdBy }) => createdBy },
            ]}
          />
        )}
      </section>
    </Page>
  );
}

function Name({ rollout: { id, image, selector, verifyOnly } }: { readonly rollout: RolloutSummary }): JSX.Element {
  return (
    <>
      <a href={`/rollouts/${id}`}>{image}</a>
      <div class="quiet small">
        {selector === '' ? 'all hosts' : selector}
        {verifyOnly && ', verify only'}
      </div>
    </>
  );
}

function State({ rollout: { state, reason } }: { readonly rollout: RolloutSummary }): JSX.Element {
  return (
    <>
      <RolloutBadge state={state} />
      {reason !== undefined && <span class="quiet small wrap">{reason.message}</span>}
    </>
  );
}

function Hosts({ rollout: { hosts } }: { readonly rollout: RolloutSummary }): JSX.Element {
  return (
    <div class="bar-line">
      <Bar
        parts={[
          { value: hosts.done, color: 'cell-done' },
          { value: hosts.failed, color: 'bad-fill' },
          { value: hosts.working, color: 'line-strong' },
        ]}
        total={hosts.total}
      />
      <span class="number nowrap">
        {count(hosts.done)} of {count(hosts.total)}
        {hosts.failed > 0 && <span class="warn">, {count(hosts.failed)} failed</span>}
      </span>
    </div>
  );
}
