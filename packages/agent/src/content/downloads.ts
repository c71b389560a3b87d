// The downloads at work on this host: one per blob, whoever asks. Also where peers' requests find what is here.

import { Bitfield } from '@flotilla/shared/bitfield';
import type { BlobKey } from '@flotilla/shared/chunk-map';
import type { Digest } from '@flotilla/shared/digest';
import { AgentError, toAgentError } from '../errors.ts';
import type { Logger } from '../log.ts';
import { Download } from './download.ts';
import type { DownloadComponents, DownloadEvents, DownloadInit, DownloadStatus } from './download-contract.ts';
import { ReadPlan } from './read-plan.ts';
import type { Provenance } from './provenance.ts';
import type { SourceRight } from './sources.ts';
import type { ByteRange, Holding, Holdings, OnServed, ServedBlob, Source, Store, StoredBlob } from './ports.ts';

export interface DownloadsComponents extends Omit<DownloadComponents, 'partial' | 'events'> {
  readonly store: Store;
  readonly log: Logger;
  /** Told of each blob that is finished, or given up with an error. */
  readonly onEnd?: (ended: EndedDownload) => void;
  readonly metrics: Pick<DownloadEvents, 'bytes'> & { stored(bytes: number): void; fallback(kind: string): void };
  /** Who is told of what is read with whose right. */
  readonly rights: {
    /** Before bytes are asked for, wherever they come from. */
    reading(source: Source, digest: Digest): Promise<void>;
    /** The origin does not let this right read this blob (any more). */
    refused(right: SourceRight, digest: Digest, error: AgentError): void;
  };
}

/** Clients pause between two chunks; what gives way to them waits this long for the next. */
const CLIENTS_PAUSE_MS = 1000;
/** What this host finished within this time is part of the pull at hand, and its peers wait for it as this host does. */
const PULL_MS = 10 * 60_000;
const MAX_FINISHED = 4096;

/** Where the bytes of a blob came from that was fetched for nobody in particular. */
export interface FetchedBytes {
  readonly peer: number;
  readonly origin: number;
}

type Asked = ByteRange | readonly ByteRange[];

export type DownloadSettings = Pick<DownloadInit, 'lingerMs' | 'hedgeMs' | 'stallMs' | 'auditMs' | 'settleMs' | 'windowBytes'>;

export interface EndedDownload {
  readonly key: BlobKey;
  readonly source: Source;
  readonly startedMs: number;
  readonly provenance: Provenance;
  /** What it was given up for; absent: it is finished. */
  readonly error?: string;
}

/** The table of downloads. Holds at most one per blob; one that ends is waited for before the blob is opened anew. */
export class Downloads implements Holdings {
  readonly #with: DownloadsComponents;
  readonly #settings: DownloadSettings;
  readonly #active = new Map<string, Download>();
  readonly #opening = new Map<string, Promise<void>>();
  /** Downloads that are not closed yet, stored blobs with readers under way included. */
  readonly #running = new Set<Download>();
  #closed = false;
  #clientWaitedAtMs = Number.NEGATIVE_INFINITY;
  /** When blobs were finished here, the newest last: as many as may still belong to a pull. */
  readonly #finishedAtMs = new Map<string, number>();

  constructor(components: DownloadsComponents, settings: DownloadSettings = {}) {
    this.#with = components;
    this.#settings = settings;
  }

  /** A stored blob, or the download of it that this call starts or joins. */
  served(key: BlobKey, init: DownloadInit): ServedBlob {
    return { key, open: (asked, signal, onBytes) => this.#open(key, init, asked, signal, onBytes) };
  }

  /**
   * Fetches a whole blob for nobody in particular; returns at once when it is stored. @param low behind whatever clients wait for
   * @throws DISK_FULL where it cannot be kept
   */
  async fetch(key: BlobKey, init: DownloadInit, signal: AbortSignal, low = false): Promise<FetchedBytes> {
    await this.#with.rights.reading(init.source, key.digest);
    for (;;) {
      const found = await this.#find(key, init, signal);
      if (!(found instanceof Download)) return { peer: 0, origin: 0 };
      if (!found.open) continue;
      await found.background(signal, low);
      const { peer, origin } = found.provenance.bytes;
      return { peer, origin };
    }
  }

  /** Bytes of the blob that are here: finished, or on their way. */
  async held(key: BlobKey): Promise<number> {
    const active = this.#active.get(name(key))?.status();
    if (active !== undefined) return active.held === active.chunks ? key.size : Math.floor((active.held / active.chunks) * key.size);
    return (await this.#stored(key)) === undefined ? 0 : key.size;
  }

  /** Where the bytes of a blob on its way have come from up to now. */
  underWay(key: BlobKey): FetchedBytes | undefined {
    const bytes = this.#active.get(name(key))?.provenance.bytes;
    return bytes && { peer: bytes.peer, origin: bytes.origin };
  }

  async find(key: BlobKey): Promise<Holding | undefined> {
    const active = this.#active.get(name(key));
    if (active?.open) return active;
    const stored = await this.#stored(key);
    return stored && new StoredHolding(stored);
  }

  givesWay(): ((key: BlobKey) => boolean) | undefined {
    if (!this.#clientsWait()) return undefined;
    const sinceMs = this.#with.now() - PULL_MS;
    return (key) => !this.#active.has(name(key)) && (this.#finishedAtMs.get(name(key)) ?? Number.NEGATIVE_INFINITY) < sinceMs;
  }

  status(): DownloadStatus[] {
    return [...this.#active.values()].map((download) => download.status());
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.allSettled(this.#opening.values());
    await Promise.all([...this.#running].map((download) => download.close()));
  }

  async #open(key: BlobKey, init: DownloadInit, asked: Asked, signal: AbortSignal, onBytes?: OnServed): Promise<AsyncIterable<Uint8Array>> {
    await this.#with.rights.reading(init.source, key.digest);
    for (let corrupt = false; ; ) {
      const found = await this.#find(key, init, signal);
      if (found instanceof Download) {
        // It may have ended since it was found.
        if (found.open) return found.read(asked, signal, onBytes);
        continue;
      }
      try {
        return await this.#readStored(found, asked, signal, onBytes);
      } catch (error) {
        // The store has dropped the blob: fetch it again rather than fail the pull.
        if (corrupt || toAgentError(error).code !== 'STORE_CORRUPT') throw error;
        corrupt = true;
        this.#with.metrics.fallback('store-corrupt');
        this.#with.log.error({ digest: key.digest, err: error }, 'stored blob could not be read');
      }
    }
  }

  /** The stored blob, or a download that is open when this is decided. */
  async #find(key: BlobKey, init: DownloadInit, signal: AbortSignal): Promise<StoredBlob | Download> {
    const id = name(key);
    for (;;) {
      signal.throwIfAborted();
      if (this.#closed) throw new AgentError('DRAINING', 'the agent is stopping');
      const active = this.#active.get(id);
      if (active?.open) {
        active.admit(init);
        return active;
      }
      const stored = await this.#stored(key);
      if (stored !== undefined) return stored;
      if (this.#active.get(id)?.open) continue;
      await (this.#opening.get(id) ?? this.#start(id, key, init));
    }
  }

  /** One at a time for each blob. Starts nothing where the blob was finished meanwhile. */
  #start(id: string, key: BlobKey, init: DownloadInit): Promise<void> {
    const started = this.#begin(id, key, init).finally(() => this.#opening.delete(id));
    this.#opening.set(id, started);
    return started;
  }

  async #begin(id: string, key: BlobKey, init: DownloadInit): Promise<void> {
    const { store, log, metrics } = this.#with;
    await this.#active.get(id)?.close();
    // The last one may have finished it between the look into the store and now.
    if ((await this.#stored(key)) !== undefined) return;
    // Readers under way read on from the finished file: it stays until they have gone.
    store.pin(key.digest);
    const partial = await store.openPartial(key).catch((error: unknown) => {
      store.unpin(key.digest);
      throw error;
    });
    let ended = false;
    const events: DownloadEvents = {
      bytes: (source, bytes) => metrics.bytes(source, bytes),
      fallback: (kind, which) => {
        metrics.fallback(kind);
        const { peerBytes, originBytes, duplicateBytes } = which.provenance.summary();
        log.warn({ digest: key.digest, kind, peerBytes, originBytes, duplicateBytes, lastError: which.status().lastError }, 'fallback');
      },
      finished: (which, stored) => {
        // From now on readers are served from the store.
        if (stored !== undefined) this.#forget(which);
        this.#noteFinished(key);
        ended = true;
        const { startedMs } = which.status();
        const ms = this.#with.now() - startedMs;
        this.#with.onEnd?.({ key, source: init.source, startedMs, provenance: which.provenance });
        log.info({ digest: key.digest, size: key.size, ...init.source, ...which.provenance.summary(), ms, kept: stored !== undefined }, 'blob finished');
      },
      refused: (_, right, error) => this.#with.rights.refused(right, key.digest, error),
      closed: (which) => {
        const { startedMs, lastError, held, chunks } = which.status();
        if (!ended && lastError !== undefined && held < chunks) this.#with.onEnd?.({ key, source: init.source, startedMs, provenance: which.provenance, error: lastError.split(':', 1)[0]! });
        this.#forget(which);
        this.#running.delete(which);
        store.unpin(key.digest);
      },
    };
    const download = new Download({ ...this.#with, partial, events, clientsWait: () => this.#clientsWait() }, { ...this.#settings, ...init });
    this.#active.set(id, download);
    this.#running.add(download);
    if (!partial.kept) events.fallback('unkept', download);
  }

  #noteFinished(key: BlobKey): void {
    const nowMs = this.#with.now();
    this.#finishedAtMs.delete(name(key));
    this.#finishedAtMs.set(name(key), nowMs);
    for (const [id, atMs] of this.#finishedAtMs) {
      if (this.#finishedAtMs.size <= MAX_FINISHED && atMs >= nowMs - PULL_MS) break;
      this.#finishedAtMs.delete(id);
    }
  }

  #clientsWait(): boolean {
    const nowMs = this.#with.now();
    for (const download of this.#active.values()) if (download.waitedFor) this.#clientWaitedAtMs = nowMs;
    return nowMs - this.#clientWaitedAtMs < CLIENTS_PAUSE_MS;
  }

  async #stored(key: BlobKey): Promise<StoredBlob | undefined> {
    const stored = await this.#with.store.find(key.digest);
    return stored?.key.size === key.size ? stored : undefined;
  }

  #forget(download: Download): void {
    const id = name(download.key);
    if (this.#active.get(id) === download) this.#active.delete(id);
  }

  /**
   * The first piece is read before this resolves, so that a failing disk is found while another source can be taken.
   * The blob is pinned until the iteration ends or the signal aborts: an iteration that never begins has no end.
   */
  async #readStored(stored: StoredBlob, asked: Asked, signal: AbortSignal, onBytes?: OnServed): Promise<AsyncIterable<Uint8Array>> {
    signal.throwIfAborted();
    const { digest } = stored.key;
    const { store } = this.#with;
    const [range, ...more] = 'start' in asked ? [asked] : asked;
    const pieces = range !== undefined && more.length === 0 ? stored.read(range) : visitAll(stored, 'start' in asked ? [asked] : asked);
    let pinned = true;
    const end = (): void => {
      signal.removeEventListener('abort', end);
      if (pinned) store.unpin(digest);
      pinned = false;
      void pieces.return();
    };
    store.pin(digest);
    signal.addEventListener('abort', end, { once: true });
    try {
      const first = await pieces.next();
      signal.throwIfAborted();
      return this.#counted(first, pieces, signal, end, onBytes);
    } catch (error) {
      end();
      throw error;
    }
  }

  async *#counted(first: IteratorResult<Uint8Array, void>, rest: AsyncGenerator<Uint8Array, void, void>, signal: AbortSignal, end: () => void, onBytes: OnServed | undefined): AsyncGenerator<Uint8Array> {
    try {
      for (let piece = first; piece.done !== true; piece = await rest.next()) {
        signal.throwIfAborted();
        this.#with.metrics.stored(piece.value.length);
        onBytes?.('store', piece.value.length);
        yield piece.value;
      }
    } finally {
      end();
    }
  }
}

/** Several ranges: each chunk is read once for all that is taken of it. */
async function* visitAll(stored: StoredBlob, ranges: readonly ByteRange[]): AsyncGenerator<Uint8Array, void, void> {
  for (const { index, pieces } of new ReadPlan(stored.key, ranges).visits) {
    const chunk = await stored.readChunk(index);
    for (const [from, to] of pieces) yield chunk.subarray(from, to);
  }
}

/** A finished blob as peers see it. */
class StoredHolding implements Holding {
  readonly key: BlobKey;
  readonly have: Bitfield;
  readonly #stored: StoredBlob;

  constructor(stored: StoredBlob) {
    this.key = stored.key;
    this.have = Bitfield.full(stored.chunkDigests.length);
    this.#stored = stored;
  }

  digestOf(index: number): Uint8Array | undefined {
    return this.#stored.chunkDigests[index];
  }

  readChunk(index: number): Promise<Uint8Array> {
    return this.#stored.readChunk(index);
  }
}

function name(key: BlobKey): string {
  return `${key.digest}/${key.size}`;
}
