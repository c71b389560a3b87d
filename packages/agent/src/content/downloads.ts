// The downloads at work on this host: one per blob, whoever asks. Also where peers' requests find what is here.

import { Bitfield } from '@flotilla/shared/bitfield';
import { chunkBounds, type BlobKey } from '@flotilla/shared/chunk-map';
import { toAgentError } from '../errors.ts';
import type { Logger } from '../log.ts';
import { Download, type DownloadComponents, type DownloadEvents, type DownloadInit, type DownloadStatus } from './download.ts';
import type { ByteRange, Holding, Holdings, ServedBlob, Store, StoredBlob } from './ports.ts';

/** Slices that a stored blob is read and sent in. */
const STORED_READ_BYTES = 512 * 1024;

export interface DownloadsComponents extends Omit<DownloadComponents, 'partial' | 'events'> {
  readonly store: Store;
  readonly log: Logger;
  readonly metrics: Pick<DownloadEvents, 'bytes'> & { stored(bytes: number): void; fallback(kind: string): void };
}

export type DownloadSettings = Pick<DownloadInit, 'lingerMs' | 'hedgeMs' | 'stallMs' | 'auditMs' | 'windowBytes'>;

/** The table of downloads. Holds at most one per blob. */
export class Downloads implements Holdings {
  readonly #with: DownloadsComponents;
  readonly #settings: DownloadSettings;
  readonly #active = new Map<string, Download>();
  readonly #opening = new Map<string, Promise<Download>>();

  constructor(components: DownloadsComponents, settings: DownloadSettings = {}) {
    this.#with = components;
    this.#settings = settings;
  }

  /** A stored blob, or the download of it that this call starts or joins. */
  served(key: BlobKey, init: DownloadInit): ServedBlob {
    return { key, open: (range, signal) => this.#open(key, init, range, signal) };
  }

  /** Fetches a whole blob for nobody in particular; returns at once when it is stored. */
  async fetch(key: BlobKey, init: DownloadInit, signal: AbortSignal): Promise<void> {
    if ((await this.#with.store.find(key.digest)) !== undefined) return;
    const download = await this.#join(key, init);
    await download.background(signal);
  }

  async find(key: BlobKey): Promise<Holding | undefined> {
    const active = this.#active.get(name(key));
    if (active !== undefined) return active;
    const stored = await this.#with.store.find(key.digest);
    return stored !== undefined && stored.key.size === key.size ? new StoredHolding(stored) : undefined;
  }

  status(): DownloadStatus[] {
    return [...this.#active.values()].map((download) => download.status());
  }

  async close(): Promise<void> {
    await Promise.allSettled(this.#opening.values());
    await Promise.all([...this.#active.values()].map((download) => download.close()));
  }

  async #open(key: BlobKey, init: DownloadInit, range: ByteRange, signal: AbortSignal): Promise<AsyncIterable<Uint8Array>> {
    const stored = await this.#with.store.find(key.digest);
    if (stored !== undefined) {
      try {
        return await this.#readStored(stored, range, signal);
      } catch (error) {
        // The store has dropped the blob: fetch it again rather than fail the pull.
        if (toAgentError(error).code !== 'STORE_CORRUPT') throw error;
        this.#with.metrics.fallback('store-corrupt');
        this.#with.log.error({ digest: key.digest, err: error }, 'stored blob could not be read');
      }
    }
    const download = await this.#join(key, init);
    return download.read(range, signal);
  }

  async #join(key: BlobKey, init: DownloadInit): Promise<Download> {
    const id = name(key);
    const active = this.#active.get(id);
    if (active?.open) return active;
    const opening = this.#opening.get(id);
    if (opening !== undefined) return opening;
    const started = this.#start(key, init).finally(() => this.#opening.delete(id));
    this.#opening.set(id, started);
    return started;
  }

  async #start(key: BlobKey, init: DownloadInit): Promise<Download> {
    const { store, log, metrics } = this.#with;
    const partial = await store.openPartial(key);
    const events: DownloadEvents = {
      bytes: (source, bytes) => metrics.bytes(source, bytes),
      fallback: (kind, which) => {
        metrics.fallback(kind);
        log.warn({ digest: key.digest, kind, ...which.status().bytes, lastError: which.status().lastError }, 'fallback');
      },
      finished: (which, stored) => {
        if (stored !== undefined) {
          // Readers under way read on from the finished file: it stays until they have gone.
          store.pin(key.digest);
          this.#forget(which);
        }
        const { bytes, startedMs } = which.status();
        log.info({ digest: key.digest, size: key.size, ...init.source, ...bytes, ms: this.#with.now() - startedMs, kept: stored !== undefined }, 'blob finished');
      },
      closed: (which, stored) => {
        this.#forget(which);
        if (stored) store.unpin(key.digest);
      },
    };
    const download = new Download({ ...this.#with, partial, events }, { ...this.#settings, ...init });
    this.#active.set(name(key), download);
    if (!partial.kept) events.fallback('unkept', download);
    return download;
  }

  #forget(download: Download): void {
    const id = name(download.key);
    if (this.#active.get(id) === download) this.#active.delete(id);
  }

  /** The first slice is read before this resolves, so that a failing disk is found while another source can be taken. */
  async #readStored(stored: StoredBlob, range: ByteRange, signal: AbortSignal): Promise<AsyncIterable<Uint8Array>> {
    const slices = this.#slices(stored, range, signal);
    const first = await slices.next();
    return (async function* () {
      if (first.done !== true) yield first.value;
      yield* slices;
    })();
  }

  /** Pinned until the reader has left. */
  async *#slices(stored: StoredBlob, range: ByteRange, signal: AbortSignal): AsyncGenerator<Uint8Array> {
    const { digest } = stored.key;
    this.#with.store.pin(digest);
    try {
      for (let start = range.start; start < range.end; start += STORED_READ_BYTES) {
        signal.throwIfAborted();
        const bytes = await stored.read({ start, end: Math.min(range.end, start + STORED_READ_BYTES) });
        this.#with.metrics.stored(bytes.length);
        yield bytes;
      }
    } finally {
      this.#with.store.unpin(digest);
    }
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
    return this.#stored.read(chunkBounds(this.key.size, index));
  }
}

function name(key: BlobKey): string {
  return `${key.digest}/${key.size}`;
}
