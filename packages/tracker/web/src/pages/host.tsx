// One host: what it pulls and from whom, whether something holds it back, its store, limits and last errors. What can be done with it.

import type { HostDetail } from '@flotilla/shared/live-api';
import type { JSX } from 'preact';
import { HostBadge, ReasonBadge } from '../components/badge.tsx';
import { Bar, ShareBar, type PartColor } from '../components/bar.tsx';
import { Figure, Figures } from '../components/figure.tsx';
import { HostLink } from '../components/host-link.tsx';
import { MemberActions } from '../components/member-actions.tsx';
import { Empty, Loading, Note } from '../components/note.tsx';
import { DigestLink, PeerLink } from '../components/peer-link.tsx';
import { Page } from '../components/page.tsx';
import { Panel } from '../components/panel.tsx';
import { Table } from '../components/table.tsx';
import { ago, bytes, count, duration, moment, plural, rate, scaled, share, shortPeer } from '../format.ts';
import { useHost } from '../topics.ts';

export function HostPage({ peerId }: { readonly peerId: string }): JSX.Element {
  const { value, gone } = useHost(peerId);
  const crumb = { href: '/hosts', text: 'Hosts' };
  if (value === undefined) {
    return (
      <Page title={`…${shortPeer(peerId)}`} crumb={crumb}>
        {gone ? <section class="panel"><Empty title="No such host">It may have been removed from the fleet.</Empty></section> : <Loading what="the host" />}
      </Page>
    );
  }
  const { info, state, stateReason, slow } = value;
  const name = info.name === '' ? `…${shortPeer(peerId)}` : info.name;
  return (
    <Page
      title={name}
      badge={<HostBadge state={state} />}
      crumb={crumb}
      lead={
        <>
          {info.zone !== '' && `zone ${info.zone} · `}version {info.version === '' ? 'not told' : info.version}
          {Object.entries(info.labels).map(([key, text]) => (
            <span key={key}>
              {' '}
              <span class="tag">
                {key}={text}
              </span>
            </span>
          ))}
        </>
      }
      actions={<MemberActions peerId={peerId} name={name} state={state} />}
    >
      {stateReason !== undefined && <Note tone="bad" title={state === 'expelled' ? 'Expelled' : 'In quarantine'}>{stateReason}</Note>}
      {slow.reason !== '' && (
        <Note tone="warning" title="What holds it back">
          <span>
            <ReasonBadge reason={slow.reason} /> {slow.evidence}
          </span>
        </Note>
      )}
      <HostFiguresRow host={value} />
      <Downloads host={value} />
      <div class="columns wide-narrow">
        <Peers host={value} />
        <Facts host={value} />
      </div>
      <Errors host={value} />
    </Page>
  );
}

function HostFiguresRow({ host: { figures, store, vitals } }: { readonly host: HostDetail }): JSX.Element {
  const [, , fromPeers, fromOrigins, toPeers, , peerBytes, originBytes, sentBytes] = figures;
  const [down, downUnit] = scaled(fromPeers + fromOrigins);
  const [up, upUnit] = scaled(toPeers);
  const [taken, takenUnit] = scaled(peerBytes + originBytes);
  const [sent, sentUnit] = scaled(sentBytes);
  const [held, heldUnit] = scaled(store.bytes);
  return (
    <Figures label="The host in figures">
      <Figure label="Arriving now" value={down} unit={`${downUnit}/s`} note={`${rate(fromOrigins)} of it from origins`} />
      <Figure label="Sending now" value={up} unit={`${upUnit}/s`} note="to peers" />
      <Figure label="Taken" value={taken} unit={takenUnit} note={`${share(peerBytes + originBytes === 0 ? 0 : Math.floor((1000 * peerBytes) / (peerBytes + originBytes)))} from peers`} />
      <Figure label="Sent to peers" value={sent} unit={sentUnit} note="since the agent started" />
      <Figure label="Store" value={held} unit={heldUnit} note={`of ${bytes(store.limit)}, ${plural(store.blobs, 'blob')}`} tone={store.bytes > 0.95 * store.limit ? 'warning' : undefined} />
      {vitals !== undefined && <Figure label="Peers" value={count(vitals.peers)} note={vitals.missingBytes === 0 ? 'it lacks nothing' : `${count(vitals.sources)} hold what it lacks`} tone={vitals.peers === 0 ? 'warning' : undefined} />}
    </Figures>
  );
}

function Downloads({ host: { downloads } }: { readonly host: HostDetail }): JSX.Element {
  return (
    <Panel title="Downloads" flush aside={downloads.length > 0 ? plural(downloads.length, 'blob') : undefined}>
      {downloads.length === 0 ? (
        <Empty title="It pulls nothing now" />
      ) : (
        <Table
          caption="Downloads"
          rows={downloads}
          keyOf={({ digest }) => digest}
          columns={[
            { head: 'Blob', rowHead: true, cell: ({ digest }) => <DigestLink digest={digest} to="swarms" /> },
            { head: 'Image', cell: ({ image }) => (image === '' ? <span class="quiet">not told</span> : image), sort: ({ image }) => image },
            { head: 'Size', number: true, cell: ({ size }) => bytes(size), sort: ({ size }) => size },
            { head: 'Held', cell: (download) => <ShareBar share={download.share} />, sort: (download) => download.share },
            { head: 'From peers', number: true, cell: ({ peer }) => bytes(peer) },
            { head: 'From origin', number: true, cell: ({ origin }) => bytes(origin) },
            { head: 'Sources', number: true, cell: ({ sources }) => count(sources) },
            { head: 'Trouble', cell: ({ error }) => (error === undefined ? <span class="quiet">–</span> : <span class="warn">{error}</span>) },
          ]}
        />
      )}
    </Panel>
  );
}

function Peers({ host: { peers } }: { readonly host: HostDetail }): JSX.Element {
  const rows = [...peers].sort((a, b) => b.downRate + b.upRate - a.downRate - a.upRate || b.bytesDown + b.bytesUp - a.bytesDown - a.bytesUp);
  const fastest = Math.max(1, ...rows.flatMap(({ downRate, upRate }) => [downRate, upRate]));
  return (
    <Panel title="Peers" flush aside={peers.length > 0 ? plural(peers.length, 'peer') : undefined}>
      {peers.length === 0 ? (
        <Empty title="Connected to no peer, as far as it has told" />
      ) : (
        <Table
          caption="Peers"
          rows={rows}
          keyOf={({ peerId }) => peerId}
          columns={[
            { head: 'Peer', rowHead: true, cell: ({ n, peerId }) => (n === undefined ? <PeerLink peerId={peerId} name="" /> : <HostLink n={n} />) },
            { head: 'Gives it now', cell: ({ downRate }) => <RateBar rate={downRate} fastest={fastest} color="peer" />, sort: ({ downRate }) => downRate },
            { head: 'Gets from it now', cell: ({ upRate }) => <RateBar rate={upRate} fastest={fastest} color="stored" />, sort: ({ upRate }) => upRate },
            { head: 'Gave', number: true, cell: ({ bytesDown }) => bytes(bytesDown), sort: ({ bytesDown }) => bytesDown },
            { head: 'Got', number: true, cell: ({ bytesUp }) => bytes(bytesUp), sort: ({ bytesUp }) => bytesUp },
          ]}
        />
      )}
    </Panel>
  );
}

function RateBar({ rate: each, fastest, color }: { readonly rate: number; readonly fastest: number; readonly color: PartColor }): JSX.Element {
  return (
    <div class="bar-line">
      <Bar parts={[{ value: each, color }]} total={fastest} />
      <span class="number">{each > 0 ? rate(each) : '–'}</span>
    </div>
  );
}

function Facts({ host }: { readonly host: HostDetail }): JSX.Element {
  const { atMs, info, addresses, enrolledAtMs, seenAtMs, sessionAtMs, clockSkewMs, vitals, limits, brakes, store, trusted } = host;
  const limit = (value: number | undefined): string => (value === undefined ? 'none' : rate(value));
  return (
    <Panel title="About it">
      <dl class="facts">
        <dt>Limits</dt>
        <dd>{limits === undefined ? 'not told' : `download ${limit(limits.download)}, upload ${limit(limits.upload)}, origin ${limit(limits.origin)}, between zones ${limit(limits.zone)}`}</dd>
        <dt>Brakes</dt>
        <dd>{brakes.length === 0 ? 'none' : <a href="/brakes">{plural(brakes.length, 'brake')}</a>}</dd>
        <dt>Disk free</dt>
        <dd>{store.freeBytes === undefined ? 'not told' : bytes(store.freeBytes)}</dd>
        {vitals !== undefined && (
          <>
            <dt>Load</dt>
            <dd>
              agent {Math.round(100 * vitals.loop)} % busy, disk {Math.round(100 * vitals.diskBusy)} %, {vitals.diskWriteMs.toFixed(1)} ms a write, {bytes(vitals.memoryBytes)} of memory
            </dd>
          </>
        )}
        <dt>Clock</dt>
        <dd>{clockSkewMs === undefined ? 'not told' : Math.abs(clockSkewMs) < 1000 ? 'right' : `${duration(Math.abs(clockSkewMs))} ${clockSkewMs > 0 ? 'ahead' : 'behind'}`}</dd>
        <dt>Connected</dt>
        <dd>{sessionAtMs === undefined ? `no; last seen ${ago(seenAtMs, atMs)}` : `for ${duration(atMs - sessionAtMs)}`}</dd>
        <dt>Enrolled</dt>
        <dd>{moment(enrolledAtMs, atMs)} UTC</dd>
        <dt>Trusted</dt>
        <dd>{trusted ? 'yes' : <span class="warn">no: it was caught in a lie, and what it vouches for does not count</span>}</dd>
        <dt>Addresses</dt>
        <dd>
          {addresses.map((address) => (
            <div key={address}>
              <code>{address}</code>
            </div>
          ))}
        </dd>
        <dt>Peer id</dt>
        <dd>
          <code>{info.peerId}</code>
        </dd>
      </dl>
    </Panel>
  );
}

function Errors({ host: { errors, faults, atMs } }: { readonly host: HostDetail }): JSX.Element {
  return (
    <Panel title="Last errors" flush aside={faults.length > 0 ? faults.map(({ origin, kind, count: times }) => `${origin}: ${kind} × ${count(times)}`).join(' · ') : undefined}>
      {errors.length === 0 ? (
        <Empty title="None that it has told" />
      ) : (
        <Table
          caption="Last errors"
          rows={errors}
          keyOf={({ atMs: at, code, message }) => `${at} ${code} ${message}`}
          columns={[
            { head: 'When (UTC)', rowHead: true, cell: ({ atMs: at }) => moment(at, atMs) },
            { head: 'Code', cell: ({ code }) => <code>{code}</code> },
            { head: 'What', cell: ({ message }) => <span class="break">{message}</span> },
          ]}
        />
      )}
    </Panel>
  );
}
