// The fleet: what is wrong, who is there, what was moved and what the origins were spared, who pulls what and who is slow.

import type { Alert, FleetNow, ThroughputPoint } from '@flotilla/shared/live-api';
import type { JSX } from 'preact';
import { useMemo, useState } from 'preact/hooks';
import { ShareBar } from '../components/bar.tsx';
import { Chart, type ChartData } from '../components/chart.tsx';
import { Figure, Figures } from '../components/figure.tsx';
import { HostLink } from '../components/host-link.tsx';
import { Empty, Loading, Note } from '../components/note.tsx';
import { Page } from '../components/page.tsx';
import { Panel } from '../components/panel.tsx';
import { SlowGroupsPanel, SlowHostsPanel } from '../components/slow.tsx';
import { Table } from '../components/table.tsx';
import { ago, count, duration, moment, plural, rate, scaled, share, shortDigest } from '../format.ts';
import { useFleet } from '../topics.ts';

const SPANS = [
  ['5 min', 300],
  ['1 h', 3_600],
] as const;

export function FleetPage(): JSX.Element {
  const { value } = useFleet();
  if (value === undefined) {
    return (
      <Page title="Fleet">
        <Loading what="the fleet" />
      </Page>
    );
  }
  const { now, atMs, startedAtMs, version } = value;
  const members = now.hosts.up + now.hosts.stale + now.hosts.down;
  return (
    <Page title="Fleet" lead={`${plural(members, 'host')} · tracker ${version}, up for ${duration(atMs - startedAtMs)}`}>
      {now.alerts.length > 0 && <Alerts alerts={now.alerts} atMs={atMs} />}
      {members + now.hosts.quarantined + now.hosts.expelled === 0 ? <NoHosts /> : <FleetFigures now={now} />}
      <Throughput series={value.series} atMs={atMs} />
      <ActiveImages now={now} />
      {now.hosts.pulling > 0 && (
        <div class="columns wide-narrow">
          <SlowHostsPanel slowest={now.slowest} />
          <SlowGroupsPanel groups={now.groups} />
        </div>
      )}
      <Versions now={now} />
    </Page>
  );
}

function NoHosts(): JSX.Element {
  return (
    <section class="panel">
      <Empty title="No host has joined yet">
        <p>Install an agent on a host, and give it this tracker's address and the join token of its data folder:</p>
        <pre>flotilla agent --tracker {location.origin} --join-token-file join-token</pre>
      </Empty>
    </section>
  );
}

function Alerts({ alerts, atMs }: { readonly alerts: readonly Alert[]; readonly atMs: number }): JSX.Element {
  return (
    <section aria-label="Alerts" class="alerts">
      {alerts.map(({ id, severity, title, cause, next, sinceMs, hosts, examples }) => (
        <Note key={id} tone={severity} title={title}>
          <span>
            {cause}
            {hosts > 0 && examples.length > 0 && (
              <>
                {' '}
                <span class="quiet">
                  (
                  {examples.slice(0, 4).map((n, at) => (
                    <>
                      {at > 0 && ', '}
                      <HostLink key={n} n={n} />
                    </>
                  ))}
                  {hosts > Math.min(4, examples.length) && ` and ${count(hosts - Math.min(4, examples.length))} more`})
                </span>
              </>
            )}
          </span>
          <span>
            <b>Next:</b> {next}
          </span>
          <span class="quiet small">
            since {moment(sinceMs, atMs)} UTC, {ago(sinceMs, atMs)}
          </span>
        </Note>
      ))}
    </section>
  );
}

function FleetFigures({ now }: { readonly now: FleetNow }): JSX.Element {
  const { hosts, bytes: sums, rates, sparedBytes, peerShare, pulls } = now;
  const [delivered, deliveredUnit] = scaled(sums.peer + sums.origin);
  const [spared, sparedUnit] = scaled(sparedBytes);
  const [current, currentUnit] = scaled(rates.peer + rates.origin);
  const [fromOrigin, fromOriginUnit] = scaled(sums.origin);
  const away = [hosts.stale > 0 && `${count(hosts.stale)} stale`, hosts.down > 0 && `${count(hosts.down)} down`, hosts.quarantined > 0 && `${count(hosts.quarantined)} quarantined`, hosts.expelled > 0 && `${count(hosts.expelled)} expelled`].filter((part) => part !== false);
  return (
    <Figures label="The fleet in figures">
      <Figure label="Hosts up" value={count(hosts.up)} note={away.length === 0 ? 'all that are enrolled' : away.join(', ')} tone={hosts.quarantined > 0 || hosts.up === 0 ? 'bad' : hosts.stale > 0 ? 'warning' : undefined} />
      <Figure label="Pulling now" value={count(hosts.pulling)} note={`${count(pulls.active)} blobs; ${count(pulls.failed)} failed`} />
      <Figure label="Arriving now" value={current} unit={`${currentUnit}/s`} note={`${rate(rates.origin)} of it from origins`} />
      <Figure label="Delivered" value={delivered} unit={deliveredUnit} note={`${share(peerShare)} from peers`} />
      <Figure label="Left the origins" value={fromOrigin} unit={fromOriginUnit} note="since the agents started" />
      <Figure label="Origins were spared" value={spared} unit={sparedUnit} note={sums.origin > 0 ? `${count((sums.origin + sparedBytes) / sums.origin)} times what they gave` : 'nothing was asked of them'} />
    </Figures>
  );
}

function Throughput({ series, atMs }: { readonly series: readonly ThroughputPoint[]; readonly atMs: number }): JSX.Element {
  const [seconds, setSeconds] = useState(300);
  const data = useMemo(() => throughputData(series, Math.floor(atMs / 1000), seconds), [series, atMs, seconds]);
  return (
    <Panel
      title="Throughput"
      aside={
        <fieldset class="segments">
          <legend class="visually-hidden">Time span</legend>
          {SPANS.map(([text, span]) => (
            <label key={text}>
              <input type="radio" name="span" checked={seconds === span} onChange={() => setSeconds(span)} />
              {text}
            </label>
          ))}
        </fieldset>
      }
    >
      <Chart
        label={`Bytes per second that arrived at all hosts, over the last ${duration(seconds * 1000)}`}
        data={data}
        series={[
          { name: 'from peers', color: 'peer', area: true },
          { name: 'from origins', color: 'origin' },
          { name: 'from stores', color: 'stored', dashed: true },
        ]}
        format={rate}
        x="time"
      />
    </Panel>
  );
}

/** Seconds in which nothing moved are missing in the series: a line between its neighbours would be a lie. */
function throughputData(series: readonly ThroughputPoint[], now: number, seconds: number): ChartData {
  const begin = now - seconds;
  const [times, peers, origins, stores] = [[], [], [], []] as [number[], number[], number[], number[]];
  const push = (at: number, peer: number, origin: number, store: number): void => {
    times.push(at);
    peers.push(peer);
    origins.push(origin);
    stores.push(store);
  };
  let last = begin - 1;
  push(begin - 1, 0, 0, 0);
  for (const [at, peer, origin, , store] of series) {
    if (at < begin) continue;
    if (at > last + 2) {
      push(last + 1, 0, 0, 0);
      push(at - 1, 0, 0, 0);
    }
    push(at, peer, origin, store);
    last = at;
  }
  if (now > last + 2) {
    push(last + 1, 0, 0, 0);
    push(now, 0, 0, 0);
  }
  return [times, peers, origins, stores];
}

function ActiveImages({ now }: { readonly now: FleetNow }): JSX.Element {
  return (
    <Panel title="Images under way" flush aside={now.images.length > 0 ? plural(now.images.length, 'image') : undefined}>
      {now.images.length === 0 ? (
        <Empty title="Nobody pulls">
          <p>
            Pull an image on any host, or <a href="/rollouts/new">start a rollout</a>: hosts appear here within a second.
          </p>
        </Empty>
      ) : (
        <Table
          caption="Images under way"
          rows={now.images}
          keyOf={({ digest }) => digest}
          columns={[
            { head: 'Image', rowHead: true, cell: ({ digest, name }) => <a href={`/images/${digest}`}>{name === '' ? <code>{shortDigest(digest)}</code> : name}</a>, sort: ({ name }) => name },
            { head: 'Hosts done', number: true, cell: ({ done, hosts }) => `${count(done)} of ${count(hosts)}`, sort: ({ hosts }) => hosts },
            { head: 'Share held', cell: (image) => <ShareBar share={image.share} />, sort: (image) => image.share },
            { head: 'Rate', number: true, cell: (image) => rate(image.rate), sort: (image) => image.rate },
            { head: 'Time left', number: true, cell: ({ timeLeftMs, done, hosts }) => (done === hosts ? 'done' : timeLeftMs === undefined ? '–' : duration(timeLeftMs)), sort: ({ timeLeftMs }) => timeLeftMs ?? 0 },
          ]}
        />
      )}
    </Panel>
  );
}

function Versions({ now }: { readonly now: FleetNow }): JSX.Element | null {
  if (now.versions.length === 0) return null;
  const total = now.versions.reduce((sum, [, hosts]) => sum + hosts, 0);
  return (
    <Panel title="Versions of connected hosts" flush>
      <Table
        caption="Versions of connected hosts"
        rows={now.versions}
        keyOf={([version]) => version}
        columns={[
          { head: 'Version', rowHead: true, cell: ([version]) => (version === '' ? 'not told' : version) },
          { head: 'Hosts', number: true, cell: ([, hosts]) => count(hosts) },
          { head: 'Share', cell: ([, hosts]) => <ShareBar share={Math.floor((1000 * hosts) / total)} color="stored" /> },
        ]}
      />
    </Panel>
  );
}
