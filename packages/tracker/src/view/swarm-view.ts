// The swarm of one blob as operators see it: who has what, who sends to whom, who reads what at the origin. Read off the swarm; pure.
//
// Bounds: MAX_MEMBERS rows, MAX_SENDS edges, MAX_MAP_CELLS cells per map, so that a page of a large swarm stays small.

import { chunkSize } from '@flotilla/shared/chunk-map';
import { MAX_MAP_CELLS, type LeaseRow, type SwarmLive, type SwarmMemberRow } from '@flotilla/shared/live-api';
import type { Swarm } from '../swarm.ts';
import type { Duplicates } from './duplicates.ts';
import type { Host } from './host.ts';
import type { Hosts } from './hosts.ts';
import type { ImageCatalogue } from './image-catalogue.ts';

const MAX_MEMBERS = 200;
const MAX_SENDS = 500;
const MAX_LEASES = 500;
const RAREST = 10;
/** What a host told longer ago is not how it is now. */
const DETAIL_FRESH_MS = 3_000;

export interface SwarmSources {
  readonly hosts: Hosts;
  readonly catalogue: ImageCatalogue;
  readonly duplicates: Duplicates;
}

export function swarmLive(topic: string, swarm: Swarm, { hosts, catalogue, duplicates }: SwarmSources, nowMs: number): SwarmLive {
  const { blob, book } = swarm;
  const { holdings, readers, chunks } = book;
  const fetching: Host[] = [];
  const serving: Host[] = [];
  const sort = (peer: string, to: Host[]): void => {
    const host = hosts.find(peer);
    if (host !== undefined) to.push(host);
  };
  for (const peer of readers.keys()) sort(peer, fetching);
  for (const peer of holdings.seeds) if (!readers.has(peer)) sort(peer, serving);
  for (const peer of holdings.partials()) if (!readers.has(peer) && !holdings.isSeed(peer)) sort(peer, serving);
  const count = (host: Host): number => holdings.count(host.peerId);
  fetching.sort((a, b) => count(a) - count(b));
  serving.sort((a, b) => count(a) - count(b));
  const cells = Math.min(chunks, MAX_MAP_CELLS);
  const perCell = cells === 0 ? 0 : Math.ceil(chunks / cells);
  const members = [...fetching, ...serving].slice(0, MAX_MEMBERS).map((host): SwarmMemberRow => {
    const held = count(host);
    return {
      n: host.n,
      held,
      map: held === chunks ? '' : mapOf(holdings.field(host.peerId), chunks, perCell),
      canRead: readers.get(host.peerId)?.canRead ?? false,
      fetching: readers.has(host.peerId),
      downRate: host.rate(nowMs),
      upRate: host.rateOf('uploaded', nowMs),
    };
  });
  const { sends, told, duplicateBytes } = trafficOf([...fetching, ...serving], blob.digest, hosts, nowMs);
  const { availability, rarest, rarestChunks } = rarity(holdings, chunks, perCell);
  return {
    topic,
    atMs: nowMs,
    digest: blob.digest,
    size: blob.size,
    chunks,
    chunkSize: chunkSize(blob.size),
    images: [...catalogue.of(blob.digest)].slice(0, 20).map((digest) => ({ digest, name: catalogue.get(digest)?.names[0] ?? '' })),
    seeds: holdings.seeds.size,
    fetching: fetching.filter((host) => count(host) < chunks).length,
    members,
    sends,
    told,
    leases: leasesOf(swarm, hosts),
    availability,
    rarest,
    rarestChunks,
    originBytes: swarm.counted.originBytes,
    hedgedBytes: swarm.counted.hedgedBytes,
    duplicateBytes: duplicateBytes + duplicates.of(blob.digest),
  };
}

/** Whom to ask for who sends to whom: a bounded part of the swarm, those that fetch first. */
export function watchedOf(swarm: Swarm): string[] {
  const { readers, holdings } = swarm.book;
  const watched = [...readers.keys()].slice(0, MAX_MEMBERS);
  for (const peer of holdings.seeds) {
    if (watched.length >= MAX_MEMBERS) break;
    if (!readers.has(peer)) watched.push(peer);
  }
  return watched;
}

/** One byte per cell: how much of it is held. */
function mapOf(field: { has(index: number): boolean } | undefined, chunks: number, perCell: number): string {
  if (perCell === 0) return '';
  const bytes = Buffer.alloc(Math.ceil(chunks / perCell));
  for (let cell = 0; cell < bytes.length; cell++) {
    const end = Math.min(chunks, (cell + 1) * perCell);
    let held = 0;
    for (let index = cell * perCell; index < end; index++) if (field?.has(index) === true) held++;
    bytes[cell] = Math.floor((255 * held) / (end - cell * perCell));
  }
  return bytes.toString('base64');
}

function trafficOf(members: readonly Host[], digest: string, hosts: Hosts, nowMs: number): Pick<SwarmLive, 'sends' | 'told' | 'duplicateBytes'> {
  const sends: [number, number, number][] = [];
  let told = 0;
  let duplicateBytes = 0;
  for (const host of members) {
    if (host.detail === undefined || nowMs - host.detail.atMs > DETAIL_FRESH_MS) continue;
    told++;
    const download = host.detail.report.downloads.find((each) => each.digest === digest);
    if (download === undefined) continue;
    duplicateBytes += download.duplicateBytes;
    for (const [peer, down] of download.sources) {
      const from = hosts.find(peer);
      if (from !== undefined && down > 0) sends.push([from.n, host.n, down]);
    }
  }
  sends.sort((a, b) => b[2] - a[2]);
  return { sends: sends.slice(0, MAX_SENDS), told, duplicateBytes };
}

function leasesOf({ book, blob }: Swarm, hosts: Hosts): LeaseRow[] {
  const rows: LeaseRow[] = [];
  for (const [peer, { leases }] of book.readers) {
    const host = hosts.find(peer);
    if (host === undefined) continue;
    for (const { first, count, chunksRead, bytes, mode, deadlineMs } of leases) {
      if (rows.length < MAX_LEASES) rows.push({ n: host.n, first, count, read: chunksRead, bytes: Math.min(bytes, blob.size), mode, deadlineMs });
    }
  }
  return rows;
}

function rarity(holdings: Swarm['book']['holdings'], chunks: number, perCell: number): Pick<SwarmLive, 'availability' | 'rarest' | 'rarestChunks'> {
  const availability: number[] = [];
  const rarest: [number, number][] = [];
  let least = Number.POSITIVE_INFINITY;
  let rarestChunks = 0;
  for (let index = 0; index < chunks; index++) {
    const holders = holdings.holders(index);
    const cell = Math.floor(index / perCell);
    availability[cell] = Math.min(availability[cell] ?? Number.POSITIVE_INFINITY, holders);
    if (holders < least) [least, rarestChunks] = [holders, 0];
    if (holders === least) rarestChunks++;
    if (rarest.length === RAREST && holders >= rarest[RAREST - 1]![1]) continue;
    rarest.push([index, holders]);
    rarest.sort((a, b) => a[1] - b[1] || a[0] - b[0]);
    rarest.length = Math.min(rarest.length, RAREST);
  }
  return { availability, rarest, rarestChunks };
}
