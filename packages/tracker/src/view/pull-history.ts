// Finished pulls of the last 7 days: which host took which image when, and from whom. Durable, in the order in which they ended.
//
// Blobs that a host finishes for one repository, one soon after the other, are one pull. It is written once it has been quiet for QUIET_MS and the
// host fetches nothing more of the image.
// Bounds: KEEP_MS, MAX_PULLS; of one pull MAX_BLOBS blobs and MAX_SENDERS senders, so a record stays under 8 KiB.
// Non-goals: what is going on now (image-progress.ts).

import type { FinishedBlob } from '@flotilla/shared/agent-report';
import type { Pull, PullPage, PullsQuery } from '@flotilla/shared/operator-api';
import { TrackerError } from '../errors.ts';
import type { Table } from '../state.ts';
import { giftOf, Givers } from './givers.ts';
import type { PeerNumbers } from './peer-numbers.ts';

const KEEP_MS = 7 * 24 * 60 * 60_000;
const MAX_PULLS = 30_000;
const MAX_BLOBS = 64;
const MAX_SENDERS = 128;
const MAX_REQUEST_IDS = 8;
const QUIET_MS = 10_000;
/** Fewer letters of a request id say nothing. */
const MIN_BEGIN = 4;
const NAMED_SENDERS = 5;
const KEY_DIGITS = 13;

/** As it is kept. Peers go by their numbers. */
export interface PullRecord {
  readonly peer: number;
  readonly host: string;
  readonly zone: string;
  readonly image: string;
  readonly digest?: string;
  readonly blobs: readonly (readonly [digest: string, size: number])[];
  readonly startedAtMs: number;
  readonly endedAtMs: number;
  readonly bytes: Pull['bytes'];
  readonly from: readonly (readonly [peer: number, bytes: number])[];
  readonly failed?: string;
  readonly requestIds: readonly string[];
}

/** What is kept in memory of each. */
interface Light {
  readonly key: string;
  readonly peer: number;
  readonly host: string;
  readonly image: string;
  readonly digest: string | undefined;
  /** More gave than are kept of it. */
  readonly crowded: boolean;
}

interface Open {
  readonly peerId: string;
  readonly host: string;
  readonly zone: string;
  repository: string;
  manifest: string | undefined;
  readonly blobs: Map<string, number>;
  readonly from: Map<number, number>;
  readonly bytes: { peer: number; origin: number; resumed: number; duplicate: number };
  startedAtMs: number;
  endedAtMs: number;
  heardAtMs: number;
  failed: string | undefined;
  readonly requestIds: Set<string>;
}

export interface HistorySources {
  readonly numbers: PeerNumbers;
  /** The best name of a manifest. */
  imageName(digest: string): string | undefined;
  /** Images that a blob is part of. */
  imagesOf(blob: string): ReadonlySet<string>;
  hostName(peerId: string): string;
  /** The host still fetches a blob of this image. */
  fetches(peerId: string, manifest: string): boolean;
}

export class PullHistory {
  readonly #table: Table<PullRecord>;
  readonly #from: HistorySources;
  /** Oldest first. */
  #light: Light[] = [];
  /** Pull by the id of a request; in the order of the pulls. */
  readonly #byRequest = new Map<string, string>();
  readonly #open = new Map<string, Open>();
  /** On their way to the disk. */
  readonly #unwritten = new Map<string, PullRecord>();
  readonly #loaded: Promise<void>;
  readonly #givers: Givers;
  #numbers = 0;
  #changes = 0;

  constructor(table: Table<PullRecord>, from: HistorySources) {
    this.#table = table;
    this.#from = from;
    this.#givers = new Givers({ all: () => table.entries(), get: (key) => this.#record(key) });
    this.#loaded = this.#load();
    // Whoever asks is told.
    this.#loaded.catch(() => undefined);
  }

  /** Another number after each change. */
  get changes(): number {
    return this.#changes;
  }

  /** A host has finished, or given up, a blob. */
  finished(peerId: string, { name, zone }: { readonly name: string; readonly zone: string }, blob: FinishedBlob, nowMs: number): void {
    const repository = blob.origin === undefined || blob.repository === undefined ? '' : `${blob.origin}/${blob.repository}`;
    const key = `${peerId} ${repository === '' ? (blob.manifest ?? '') : repository}`;
    let open = this.#open.get(key);
    if (open === undefined) {
      open = { peerId, host: name, zone, repository, manifest: undefined, blobs: new Map(), from: new Map(), bytes: { peer: 0, origin: 0, resumed: 0, duplicate: 0 }, startedAtMs: blob.startedAtMs, endedAtMs: blob.endedAtMs, heardAtMs: nowMs, failed: undefined, requestIds: new Set() };
      this.#open.set(key, open);
    }
    this.#changes++;
    open.manifest ??= blob.manifest;
    open.heardAtMs = nowMs;
    open.startedAtMs = Math.min(open.startedAtMs, blob.startedAtMs);
    open.endedAtMs = Math.max(open.endedAtMs, blob.endedAtMs);
    if (open.blobs.size < MAX_BLOBS) open.blobs.set(blob.digest, blob.size);
    open.bytes.peer += blob.peerBytes;
    open.bytes.origin += blob.originBytes;
    open.bytes.resumed += blob.resumedBytes;
    open.bytes.duplicate += blob.duplicateBytes;
    if (blob.error !== undefined) open.failed = blob.error;
    for (const [sender, bytes] of blob.sources) {
      const number = this.#from.numbers.of(sender);
      if (open.from.has(number) || open.from.size < MAX_SENDERS) open.from.set(number, (open.from.get(number) ?? 0) + bytes);
    }
    for (const id of blob.requestIds ?? []) if (open.requestIds.size < MAX_REQUEST_IDS) open.requestIds.add(id);
  }

  /** Writes what has been quiet, removes what is old. @param all whatever is open: the tracker stops @returns undefined where nothing is written */
  flush(nowMs: number, all = false): Promise<void> | undefined {
    const changes = new Map<string, PullRecord | undefined>();
    for (const [id, open] of this.#open) {
      if (!all && (nowMs - open.heardAtMs < QUIET_MS || (open.manifest !== undefined && this.#from.fetches(open.peerId, open.manifest)))) continue;
      this.#open.delete(id);
      const key = `${String(nowMs).padStart(KEY_DIGITS, '0')}-${(this.#numbers++).toString(36).padStart(6, '0')}`;
      const record = this.#close(open);
      changes.set(key, record);
      this.#unwritten.set(key, record);
      this.#remember(key, record);
    }
    let old = 0;
    const oldestKey = String(Math.max(0, nowMs - KEEP_MS)).padStart(KEY_DIGITS, '0');
    while (old < this.#light.length && (this.#light.length - old > MAX_PULLS || this.#light[old]!.key < oldestKey)) changes.set(this.#light[old++]!.key, undefined);
    if (old > 0) this.#forget(old);
    if (changes.size === 0) return undefined;
    this.#changes++;
    return Promise.resolve(this.#from.numbers.flush())
      .then(() => this.#table.write(changes))
      .finally(() => {
        for (const key of changes.keys()) this.#unwritten.delete(key);
      });
  }

  /** Newest first. */
  async find({ host, image, digest, before, limit = 100 }: PullsQuery): Promise<PullPage> {
    await this.#loaded;
    const images = digest === undefined ? undefined : new Set([digest, ...this.#from.imagesOf(digest)]);
    const wantedHost = host?.toLowerCase();
    const wantedImage = image?.toLowerCase();
    const keys: string[] = [];
    for (let at = this.#light.length - 1; at >= 0 && keys.length <= limit; at--) {
      const each = this.#light[at]!;
      if (before !== undefined && each.key >= before) continue;
      if (wantedHost !== undefined && this.#from.numbers.peer(each.peer) !== host && !each.host.toLowerCase().includes(wantedHost)) continue;
      if (wantedImage !== undefined && !each.image.toLowerCase().includes(wantedImage)) continue;
      if (images !== undefined && !(each.digest !== undefined && images.has(each.digest))) continue;
      keys.push(each.key);
    }
    const more = keys.length > limit;
    const page = keys.slice(0, limit);
    const pulls = await Promise.all(page.map((key) => this.get(key)));
    return { pulls: pulls.filter((pull) => pull !== undefined), ...(more && { next: page.at(-1)! }) };
  }

  /** @throws PULL_UNKNOWN */
  async known(id: string): Promise<Pull> {
    const pull = await this.get(id);
    if (pull === undefined) throw new TrackerError('PULL_UNKNOWN', id);
    return pull;
  }

  async get(id: string): Promise<Pull | undefined> {
    const record = await this.#record(id);
    return record && this.#pull(id, record);
  }

  /** The pull that a client's request belonged to. */
  async byRequest(requestId: string): Promise<Pull | undefined> {
    const [found] = await this.byRequestBegin(requestId, 1);
    return found?.requestIds.includes(requestId) === true ? found : undefined;
  }

  /** Pulls with a request whose id begins so, the exact one first, then the latest. */
  async byRequestBegin(begin: string, most: number): Promise<Pull[]> {
    await this.#loaded;
    const exact = this.#byRequest.get(begin);
    const keys = new Set(exact === undefined ? [] : [exact]);
    if (begin.length >= MIN_BEGIN) {
      for (const [id, key] of [...this.#byRequest].toReversed()) {
        if (keys.size >= most) break;
        if (id.startsWith(begin)) keys.add(key);
      }
    }
    const pulls = await Promise.all([...keys].map((key) => this.get(key)));
    return pulls.filter((pull) => pull !== undefined);
  }

  /** Who got bytes from this peer. The first question about a peer reads all that is kept, the next what came since. */
  async receivedFrom(peerId: string): Promise<{ receivers: Map<string, { name: string; bytes: number; lastAtMs: number; images: Set<string> }>; sinceMs: number | undefined; complete: boolean }> {
    await this.#loaded;
    const number = this.#from.numbers.of(peerId);
    const kept = await this.#givers.gifts(number, this.#light);
    const open = [...this.#open.values()].map((each) => giftOf(number, '', this.#close(each))).filter((gift) => gift !== undefined);
    const receivers = new Map<string, { name: string; bytes: number; lastAtMs: number; images: Set<string> }>();
    for (const { to, host, image, bytes, atMs } of [...kept, ...open]) {
      const receiver = this.#from.numbers.peer(to);
      if (receiver === undefined) continue;
      const known = receivers.get(receiver) ?? { name: host, bytes: 0, lastAtMs: 0, images: new Set<string>() };
      receivers.set(receiver, known);
      known.bytes += bytes;
      known.lastAtMs = Math.max(known.lastAtMs, atMs);
      if (image !== '') known.images.add(image);
    }
    const first = this.#light[0];
    const crowded = this.#light.some((each) => each.crowded) || [...this.#open.values()].some(({ from }) => from.size >= MAX_SENDERS);
    return { receivers, sinceMs: first && Number(first.key.slice(0, KEY_DIGITS)), complete: this.#light.length < MAX_PULLS && !crowded };
  }

  async #load(): Promise<void> {
    const known: Light[] = [];
    const ids: [string, string][] = [];
    for await (const [key, record] of this.#table.entries()) {
      known.push(lightOf(key, record));
      for (const id of record.requestIds) ids.push([id, key]);
    }
    // Pulls may have ended meanwhile: theirs are the newer ids.
    const later = [...this.#byRequest];
    this.#byRequest.clear();
    for (const [id, key] of [...ids, ...later]) this.#askedBy(id, key);
    const newer = new Set(this.#light.map(({ key }) => key));
    this.#light = [...known.filter(({ key }) => !newer.has(key)), ...this.#light];
  }

  #record(key: string): Promise<PullRecord | undefined> {
    const record = this.#unwritten.get(key);
    return record === undefined ? this.#table.get(key) : Promise.resolve(record);
  }

  #remember(key: string, record: PullRecord): void {
    this.#light.push(lightOf(key, record));
    for (const id of record.requestIds) this.#askedBy(id, key);
  }

  #askedBy(requestId: string, key: string): void {
    this.#byRequest.delete(requestId);
    this.#byRequest.set(requestId, key);
    for (const id of this.#byRequest.keys()) {
      if (this.#byRequest.size <= MAX_PULLS) break;
      this.#byRequest.delete(id);
    }
  }

  /** So many of the oldest, with the ids that led to them. */
  #forget(count: number): void {
    this.#light = this.#light.slice(count);
    const oldest = this.#light[0]?.key;
    for (const [id, key] of this.#byRequest) {
      if (oldest !== undefined && key >= oldest) break;
      this.#byRequest.delete(id);
    }
  }

  #close({ peerId, host, zone, repository, manifest, blobs, from, bytes, startedAtMs, endedAtMs, failed, requestIds }: Open): PullRecord {
    const name = manifest === undefined ? undefined : this.#from.imageName(manifest);
    return {
      peer: this.#from.numbers.of(peerId),
      host,
      zone,
      image: name ?? repository,
      ...(manifest !== undefined && { digest: manifest }),
      blobs: [...blobs],
      startedAtMs,
      endedAtMs,
      bytes: { ...bytes },
      from: [...from].sort(([, a], [, b]) => b - a),
      ...(failed !== undefined && { failed }),
      requestIds: [...requestIds],
    };
  }

  #pull(id: string, { peer, host, zone, image, digest, blobs, startedAtMs, endedAtMs, bytes, from, failed, requestIds }: PullRecord): Pull {
    const peerOf = (number: number): string => this.#from.numbers.peer(number) ?? '';
    return {
      id,
      peerId: peerOf(peer),
      host,
      zone,
      image,
      ...(digest !== undefined && { digest }),
      blobs: blobs.map(([blob, size]) => ({ digest: blob, size })),
      startedAtMs,
      endedAtMs,
      bytes,
      from: from.slice(0, NAMED_SENDERS).map(([sender, sent]) => ({ peerId: peerOf(sender), name: this.#from.hostName(peerOf(sender)), bytes: sent })),
      sources: from.length,
      ...(failed !== undefined && { failed }),
      requestIds: [...requestIds],
    };
  }
}

function lightOf(key: string, { peer, host, image, digest, from }: PullRecord): Light {
  return { key, peer, host, image, digest, crowded: from.length >= MAX_SENDERS };
}
