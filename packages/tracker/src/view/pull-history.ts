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
  readonly #byRequest = new Map<string, string>();
  readonly #open = new Map<string, Open>();
  /** On their way to the disk. */
  readonly #unwritten = new Map<string, PullRecord>();
  readonly #loaded: Promise<void>;
  #numbers = 0;

  constructor(table: Table<PullRecord>, from: HistorySources) {
    this.#table = table;
    this.#from = from;
    this.#loaded = this.#load();
    // Whoever asks is told.
    this.#loaded.catch(() => undefined);
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
    if (old > 0) this.#light = this.#light.slice(old);
    if (changes.size === 0) return undefined;
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
    const record = this.#unwritten.get(id) ?? (await this.#table.get(id));
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

  /** Who got bytes from this peer. Reads all that is kept: seldom asked. */
  async receivedFrom(peerId: string): Promise<{ receivers: Map<string, { name: string; bytes: number; lastAtMs: number; images: Set<string> }>; sinceMs: number | undefined; complete: boolean }> {
    await this.#loaded;
    const receivers = new Map<string, { name: string; bytes: number; lastAtMs: number; images: Set<string> }>();
    const number = this.#from.numbers.of(peerId);
    let complete = this.#light.length < MAX_PULLS;
    const take = (record: PullRecord): void => {
      if (record.from.length >= MAX_SENDERS) complete = false;
      const bytes = record.from.find(([sender]) => sender === number)?.[1];
      const receiver = this.#from.numbers.peer(record.peer);
      if (bytes === undefined || receiver === undefined) return;
      const known = receivers.get(receiver) ?? { name: record.host, bytes: 0, lastAtMs: 0, images: new Set<string>() };
      receivers.set(receiver, known);
      known.bytes += bytes;
      known.lastAtMs = Math.max(known.lastAtMs, record.endedAtMs);
      if (record.image !== '') known.images.add(record.image);
    };
    const unwritten = new Map(this.#unwritten);
    for await (const [key, record] of this.#table.entries()) if (!unwritten.has(key)) take(record);
    for (const record of unwritten.values()) take(record);
    for (const open of this.#open.values()) take(this.#close(open));
    const first = this.#light[0];
    return { receivers, sinceMs: first && Number(first.key.slice(0, KEY_DIGITS)), complete };
  }

  async #load(): Promise<void> {
    const known: Light[] = [];
    for await (const [key, record] of this.#table.entries()) {
      known.push(lightOf(key, record));
      for (const id of record.requestIds) this.#byRequest.set(id, key);
    }
    // Pulls may have ended meanwhile.
    const later = new Set(this.#light.map(({ key }) => key));
    this.#light = [...known.filter(({ key }) => !later.has(key)), ...this.#light];
  }

  #remember(key: string, record: PullRecord): void {
    this.#light.push(lightOf(key, record));
    for (const id of record.requestIds) this.#byRequest.set(id, key);
    for (const id of this.#byRequest.keys()) {
      if (this.#byRequest.size <= MAX_PULLS) break;
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

function lightOf(key: string, { peer, host, image, digest }: PullRecord): Light {
  return { key, peer, host, image, digest };
}
