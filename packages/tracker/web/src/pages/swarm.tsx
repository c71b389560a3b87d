// The swarm of a blob: which parts are where, who sends to whom now, what is leased at the origin, and what is rare.

import type { LeaseRow, SwarmLive, SwarmMemberRow } from '@flotilla/shared/live-api';
import type { JSX } from 'preact';
import { useMemo } from 'preact/hooks';
import { Bar } from '../components/bar.tsx';
import { Badge } from '../components/badge.tsx';
import { cellsOf, ChunkStrip } from '../components/chunk-strip.tsx';
import { Figure, Figures } from '../components/figure.tsx';
import { HostLink } from '../components/host-link.tsx';
import { Empty, Loading } from '../components/note.tsx';
import { Page } from '../components/page.tsx';
import { Panel } from '../components/panel.tsx';
import { Table } from '../components/table.tsx';
import { bytes, count, duration, plural, rate, scaled, share, shortDigest } from '../format.ts';
import { useSwarm } from '../topics.ts';

export function SwarmPage({ digest }: { readonly digest: string }): JSX.Element {
  const { value, gone } = useSwarm(digest);
  const title = `Blob ${shortDigest(digest)}`;
  if (value === undefined) {
    return <Page title={title}>{gone ? <section class="panel"><Empty title="Nobody holds or wants this blob now">Hosts tell what they hold while they are connected.</Empty></section> : <Loading what="the swarm" />}</Page>;
  }
  return (
    <Page title={title} lead={<ImagesOf swarm={value} />}>
      <SwarmFigures swarm={value} />
      <Panel title="Copies of each part" aside={`${plural(value.chunks, 'chunk')} of ${bytes(value.chunkSize)}`}>
        <Availability swarm={value} />
      </Panel>
      <div class="columns">
        <Sends swarm={value} />
        <Leases leases={value.leases} atMs={value.atMs} />
      </div>
      <Members swarm={value} />
    </Page>
  );
}

function ImagesOf({ swarm: { digest, images } }: { readonly swarm: SwarmLive }): JSX.Element {
  return (
    <>
      {images.map((image, at) => (
        <span key={image.digest}>
          {at === 0 ? 'part of ' : ', '}
          <a href={`/images/${image.digest}`}>{image.name === '' ? shortDigest(image.digest) : image.name}</a>
        </span>
      ))}
      {images.length > 0 && ' · '}
      <code class="break">{digest}</code>
    </>
  );
}

function SwarmFigures({ swarm: { size, seeds, fetching, sends, told, originBytes, hedgedBytes, duplicateBytes } }: { readonly swarm: SwarmLive }): JSX.Element {
  const [number, unit] = scaled(size);
  const [left, leftUnit] = scaled(originBytes);
  const [twice, twiceUnit] = scaled(duplicateBytes);
  const [moving, movingUnit] = scaled(sends.reduce((sum, [, , each]) => sum + each, 0));
  return (
    <Figures label="The swarm in figures">
      <Figure label="Size" value={number} unit={unit} />
      <Figure label="Hold all of it" value={count(seeds)} note={seeds === 1 ? 'seed' : 'seeds'} />
      <Figure label="Fetching" value={count(fetching)} note={fetching === 0 ? 'nobody now' : 'hosts that lack some of it'} />
      <Figure label="Between peers now" value={moving} unit={`${movingUnit}/s`} note={told === 0 ? 'no host has told yet' : `as told by ${plural(told, 'host')}`} />
      <Figure label="Left the origin" value={left} unit={leftUnit} note={size === 0 ? undefined : `${(originBytes / size).toFixed(2)} copies; ${bytes(hedgedBytes)} hedged`} tone={originBytes > 1.5 * size && originBytes > 0 ? 'warning' : undefined} />
      <Figure label="Came twice" value={twice} unit={twiceUnit} note="thrown away" />
    </Figures>
  );
}

function Availability({ swarm: { availability, rarest, rarestChunks, chunks } }: { readonly swarm: SwarmLive }): JSX.Element {
  const most = Math.max(1, ...availability);
  const cells = useMemo(() => availability.map((copies) => copies / most), [availability, most]);
  const least = rarest[0];
  return (
    <>
      <ChunkStrip tall cells={cells} label={least === undefined ? 'Copies of each part of the blob' : `Copies of each part of the blob: from ${least[1]} to ${most}`} />
      <div class="strip-scale quiet small" aria-hidden="true">
        <span>first chunk</span>
        <span>chunk {count(Math.max(0, chunks - 1))}</span>
      </div>
      {least !== undefined && (
        <p class="small">
          <b>Rarest:</b> {copiesText(least[1])} of{' '}
          {rarestChunks === chunks ? (
            'every chunk'
          ) : (
            <>
              {plural(rarestChunks, 'chunk')}
              {rarestChunks === 1 ? ', number ' : ', such as '}
              {rarest
                .slice(0, Math.min(rarestChunks, 5))
                .map(([chunk]) => count(chunk))
                .join(', ')}
            </>
          )}
          {least[1] === 0 && <span class="quiet">: what nobody holds has to come from the origin</span>}
        </p>
      )}
    </>
  );
}

function copiesText(copies: number): string {
  return copies === 0 ? 'no copy' : plural(copies, 'copy', 'copies');
}

function Members({ swarm: { members, chunks, availability, seeds, fetching } }: { readonly swarm: SwarmLive }): JSX.Element {
  const cells = availability.length;
  return (
    <Panel title="Who has what" flush aside={members.length < seeds + fetching ? `${count(members.length)} of ${count(seeds + fetching)} hosts, least held first` : undefined}>
      <Table
        caption="Hosts of the swarm"
        rows={members}
        keyOf={({ n }) => n}
        columns={[
          { head: 'Host', rowHead: true, cell: ({ n }) => <HostLink n={n} /> },
          { head: 'Chunks', cell: (member) => <MemberStrip member={member} cells={cells} chunks={chunks} /> },
          { head: 'Held', number: true, cell: ({ held }) => share(chunks === 0 ? 1000 : Math.floor((1000 * held) / chunks)), sort: ({ held }) => held },
          { head: 'Takes', number: true, cell: ({ downRate }) => (downRate > 0 ? rate(downRate) : '–'), sort: ({ downRate }) => downRate },
          { head: 'Gives', number: true, cell: ({ upRate }) => (upRate > 0 ? rate(upRate) : '–'), sort: ({ upRate }) => upRate },
          { head: 'Origin', cell: ({ canRead, fetching: wants }) => <span class="quiet nowrap">{wants ? (canRead ? 'may read' : 'may not') : '–'}</span> },
        ]}
      />
    </Panel>
  );
}

function MemberStrip({ member: { map, held }, cells, chunks }: { readonly member: SwarmMemberRow; readonly cells: number; readonly chunks: number }): JSX.Element {
  const values = useMemo(() => cellsOf(map, cells), [map, cells]);
  return <ChunkStrip cells={values} label={`${count(held)} of ${count(chunks)} chunks`} />;
}

function Sends({ swarm: { sends, told } }: { readonly swarm: SwarmLive }): JSX.Element {
  const fastest = sends[0]?.[2] ?? 0;
  return (
    <Panel title="Who sends to whom now" flush aside={told > 0 ? `as told by ${plural(told, 'host')}` : undefined}>
      {sends.length === 0 ? (
        <Empty title="Nothing moves between peers now" />
      ) : (
        <Table
          caption="Who sends to whom now"
          rows={sends}
          keyOf={([from, to]) => `${from} ${to}`}
          columns={[
            { head: 'From', rowHead: true, cell: ([from]) => <HostLink n={from} /> },
            { head: 'To', cell: ([, to]) => <HostLink n={to} /> },
            { head: 'Share', cell: ([, , each]) => <Bar parts={[{ value: each, color: 'peer' }]} total={fastest} /> },
            { head: 'Rate', number: true, cell: ([, , each]) => rate(each), sort: ([, , each]) => each },
          ]}
        />
      )}
    </Panel>
  );
}

const MODES: Readonly<Record<LeaseRow['mode'], string>> = { run: 'run', stream: 'whole blob', hedge: 'hedge', audit: 'audit', adopted: 'after a restart' };

function Leases({ leases, atMs }: { readonly leases: readonly LeaseRow[]; readonly atMs: number }): JSX.Element {
  return (
    <Panel title="Leases at the origin" flush aside={leases.length > 0 ? plural(leases.length, 'lease') : undefined}>
      {leases.length === 0 ? (
        <Empty title="Nobody reads at the origin now" />
      ) : (
        <Table
          caption="Leases at the origin"
          rows={leases}
          keyOf={({ n, first, mode }) => `${n} ${first} ${mode}`}
          columns={[
            { head: 'Host', rowHead: true, cell: ({ n }) => <HostLink n={n} /> },
            { head: 'Chunks', number: true, cell: (lease) => (lease.count === 1 ? count(lease.first) : `${count(lease.first)}–${count(lease.first + lease.count - 1)}`), sort: ({ first }) => first },
            { head: 'Read', cell: (lease) => <Bar parts={[{ value: lease.read, color: 'origin' }]} total={lease.count} /> },
            { head: 'Kind', cell: ({ mode }) => (mode === 'run' || mode === 'stream' ? MODES[mode] : <Badge tone={mode === 'hedge' ? 'warning' : 'notice'}>{MODES[mode]}</Badge>) },
            { head: 'Ends in', number: true, cell: ({ deadlineMs }) => (deadlineMs > atMs ? duration(deadlineMs - atMs) : 'now') },
          ]}
        />
      )}
    </Panel>
  );
}
