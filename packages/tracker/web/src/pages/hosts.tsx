// All hosts, one row each, narrowed by a text over names, zones, versions and labels.

import type { HostFigures, HostInfo } from '@flotilla/shared/live-api';
import { HOST_STATES, SLOW_REASONS } from '@flotilla/shared/live-lists';
import type { JSX } from 'preact';
import { HostBadge, ReasonBadge } from '../components/badge.tsx';
import { Bar } from '../components/bar.tsx';
import { PeerLink } from '../components/peer-link.tsx';
import { Empty, Loading } from '../components/note.tsx';
import { Page } from '../components/page.tsx';
import { Table } from '../components/table.tsx';
import { bytes, count, plural, rate, share } from '../format.ts';
import { here, setQuery } from '../router.ts';
import { useHosts } from '../topics.ts';

interface Row {
  readonly info: HostInfo;
  readonly figures: HostFigures;
}

export function HostsPage(): JSX.Element {
  const { value } = useHosts();
  const wanted = here.value.query.get('q') ?? '';
  if (value === undefined) return <Page title="Hosts"><Loading what="the hosts" /></Page>;
  const rows: Row[] = [];
  for (const info of value.infos.values()) {
    const figures = value.figures.get(info.n);
    if (figures !== undefined && fits(info, figures, wanted)) rows.push({ info, figures });
  }
  return (
    <Page title="Hosts" lead={wanted === '' ? plural(rows.length, 'host') : `${count(rows.length)} of ${plural(value.infos.size, 'host')}`}>
      <section class="panel" aria-label="Hosts">
        <div class="table-tools">
          <input type="search" aria-label="Narrow by name, zone, version, state or label" placeholder="Narrow: name, zone, version, state, label" value={wanted} onInput={(event) => setQuery({ q: event.currentTarget.value })} />
        </div>
        {rows.length === 0 ? (
          <Empty title={wanted === '' ? 'No host has joined yet' : 'No host fits'} />
        ) : (
          <Table
            caption="Hosts"
            rows={rows}
            keyOf={({ info }) => info.n}
            sorted={{ head: 'Host', down: false }}
            columns={[
              { head: 'Host', rowHead: true, cell: ({ info }) => <PeerLink peerId={info.peerId} name={info.name} />, sort: ({ info }) => info.name },
              { head: 'State', cell: ({ figures }) => <HostBadge state={HOST_STATES[figures[1]]!} />, sort: ({ figures }) => figures[1] },
              { head: 'Zone', cell: ({ info }) => <span class="nowrap">{info.zone === '' ? '–' : info.zone}</span>, sort: ({ info }) => info.zone },
              { head: 'Pulling', cell: ({ figures }) => (figures[12] < 0 ? <span class="quiet">–</span> : share(figures[12])), sort: ({ figures }) => figures[12] },
              { head: 'Why slow', cell: ({ figures }) => (figures[11] === 0 ? <span class="quiet">–</span> : <ReasonBadge reason={SLOW_REASONS[figures[11]]!} />), sort: ({ figures }) => figures[11] },
              { head: 'From peers', number: true, cell: ({ figures }) => rateOr(figures[2]), sort: ({ figures }) => figures[2] },
              { head: 'From origins', number: true, cell: ({ figures }) => rateOr(figures[3]), sort: ({ figures }) => figures[3] },
              { head: 'To peers', number: true, cell: ({ figures }) => rateOr(figures[4]), sort: ({ figures }) => figures[4] },
              { head: 'Store', cell: ({ figures }) => <StoreBar held={figures[9]} limit={figures[10]} />, sort: ({ figures }) => figures[9] },
              { head: 'Version', cell: ({ info }) => <span class="nowrap">{info.version}</span>, sort: ({ info }) => info.version },
            ]}
          />
        )}
      </section>
    </Page>
  );
}

function StoreBar({ held, limit }: { readonly held: number; readonly limit: number }): JSX.Element {
  return (
    <div class="bar-line" title={`${bytes(held)} of ${bytes(limit)}`}>
      <Bar parts={[{ value: held, color: held > 0.95 * limit ? 'warning-fill' : 'stored' }]} total={limit} />
      <span class="number">{bytes(held)}</span>
    </div>
  );
}

function rateOr(value: number): JSX.Element | string {
  return value > 0 ? rate(value) : <span class="quiet">–</span>;
}

function fits(info: HostInfo, figures: HostFigures, wanted: string): boolean {
  const text = [info.name, info.peerId, info.zone, info.version, HOST_STATES[figures[1]], SLOW_REASONS[figures[11]], ...Object.entries(info.labels).map(([key, value]) => `${key}=${value}`)].join(' ').toLowerCase();
  return wanted
    .toLowerCase()
    .split(/\s+/)
    .every((word) => text.includes(word));
}
