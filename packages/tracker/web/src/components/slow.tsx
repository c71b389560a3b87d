// Who is slow and why: the slowest ten with their evidence, and all that pull grouped by reason, zone and version.

import type { Group, SlowGroups, SlowHost, SlowReason } from '@flotilla/shared/live-api';
import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { count, duration, rate, share } from '../format.ts';
import { ReasonBadge, REASON_NAMES } from './badge.tsx';
import { Bar } from './bar.tsx';
import { HostLink } from './host-link.tsx';
import { Empty } from './note.tsx';
import { Panel } from './panel.tsx';
import { Table } from './table.tsx';

export function SlowHostsPanel({ slowest }: { readonly slowest: readonly SlowHost[] }): JSX.Element {
  return (
    <Panel title="Slowest hosts" flush aside="with the reason, as the tracker sees it">
      {slowest.length === 0 ? (
        <Empty title="Nobody lags behind" />
      ) : (
        <Table
          caption="Slowest hosts"
          rows={slowest}
          keyOf={({ n }) => n}
          columns={[
            { head: 'Host', rowHead: true, cell: ({ n }) => <HostLink n={n} /> },
            {
              head: 'Why',
              cell: ({ reason, evidence }) => (
                <>
                  <ReasonBadge reason={reason} /> {evidence !== '' && <span class="quiet small">{evidence}</span>}
                </>
              ),
            },
            { head: 'Held', number: true, cell: (host) => share(host.share) },
            { head: 'Rate', number: true, cell: (host) => rate(host.rate) },
            { head: 'Left', number: true, cell: ({ timeLeftMs }) => (timeLeftMs === undefined ? '–' : duration(timeLeftMs)) },
          ]}
        />
      )}
    </Panel>
  );
}

const BY = [
  ['Reason', 'byReason'],
  ['Zone', 'byZone'],
  ['Version', 'byVersion'],
] as const;

export function SlowGroupsPanel({ groups }: { readonly groups: SlowGroups }): JSX.Element {
  const [by, setBy] = useState<keyof SlowGroups>('byReason');
  const nameOf = ({ key }: Group): string => (by === 'byReason' ? (REASON_NAMES[key as SlowReason] ?? key) : key === '' ? 'not told' : key);
  return (
    <Panel
      title="Who pulls"
      flush
      aside={
        <fieldset class="segments">
          <legend class="visually-hidden">Grouped by</legend>
          {BY.map(([text, each]) => (
            <label key={each}>
              <input type="radio" name="group-by" checked={by === each} onChange={() => setBy(each)} />
              {text}
            </label>
          ))}
        </fieldset>
      }
    >
      {groups[by].length === 0 ? (
        <Empty title={by === 'byReason' ? 'Nobody is slow' : 'Nobody pulls'} />
      ) : (
        <Table
          key={by}
          caption="Hosts that pull, by group"
          rows={groups[by]}
          keyOf={({ key }) => key}
          columns={[
            { head: BY.find(([, each]) => each === by)![0], rowHead: true, cell: nameOf, sort: nameOf },
            { head: 'Hosts', number: true, cell: ({ hosts }) => count(hosts), sort: ({ hosts }) => hosts },
            ...(by === 'byReason' ? [] : [{ head: 'Slow', number: true, cell: ({ slow }: Group) => (slow === 0 ? '–' : <b class="warn">{count(slow)}</b>), sort: ({ slow }: Group) => slow }]),
            {
              head: 'Held',
              cell: (group: Group) => (
                <div class="bar-line">
                  <Bar parts={[{ value: group.share, color: 'peer' }]} total={1000} />
                  <span class="number">{share(group.share)}</span>
                </div>
              ),
              sort: (group: Group) => group.share,
            },
            { head: 'Rate', number: true, cell: (group: Group) => rate(group.rate), sort: (group: Group) => group.rate },
          ]}
        />
      )}
    </Panel>
  );
}
