// Which digests were read in which repository, as members that may read them there have said: the answer while an origin is down.
// Durable, bounded: the entries wanted longest ago go first. Writes are gathered. Image names stay in this table and for operators.

import type { LocateRequest, LocateResponse, Source } from '@flotilla/shared/tracker-api';
import type { BlobKey } from '@flotilla/shared/chunk-map';
import type { Table } from './state.ts';

const MAX_LOCATIONS = 50_000;
/** A use is written again only after so long. */
const REFRESH_MS = 60 * 60 * 1000;

type Found = NonNullable<LocateResponse['found']>;

export interface Location extends Found {
  readonly usedAtMs: number;
}

export class Locations {
  readonly #table: Table<Location>;
  /** Oldest use first. */
  readonly #entries: Map<string, Location>;
  readonly #maxEntries: number;
  #changes = new Map<string, Location | undefined>();
  #writing: Promise<void> = Promise.resolve();

  private constructor(table: Table<Location>, entries: Map<string, Location>, maxEntries: number) {
    this.#table = table;
    this.#entries = entries;
    this.#maxEntries = maxEntries;
  }

  static async open(table: Table<Location>, maxEntries = MAX_LOCATIONS): Promise<Locations> {
    const entries: [string, Location][] = [];
    for await (const entry of table.entries()) entries.push(entry);
    entries.sort(([, a], [, b]) => a.usedAtMs - b.usedAtMs);
    return new Locations(table, new Map(entries), maxEntries);
  }

  get size(): number {
    return this.#entries.size;
  }

  /** A member that may read it wanted this blob from there. */
  wanted(source: Source, blob: Pick<BlobKey, 'size'> & { digest: string }, nowMs: number): void {
    const key = keyOf({ ...source, digest: blob.digest });
    const known = this.#entries.get(key);
    const location: Location = { size: blob.size, kind: source.kind, ...(source.mediaType !== undefined && { mediaType: source.mediaType }), ...(source.private === true && { private: true }), usedAtMs: nowMs };
    this.#entries.delete(key);
    this.#entries.set(key, location);
    const written = known !== undefined && known.size === location.size && known.mediaType === location.mediaType && known.private === location.private && nowMs - known.usedAtMs < REFRESH_MS;
    if (written) this.#entries.set(key, { ...location, usedAtMs: known.usedAtMs });
    else this.#changes.set(key, location);
    for (const oldest of this.#entries.keys()) {
      if (this.#entries.size <= this.#maxEntries) break;
      this.#entries.delete(oldest);
      this.#changes.set(oldest, undefined);
    }
  }

  find(request: LocateRequest): LocateResponse {
    const known = this.#entries.get(keyOf(request));
    if (known === undefined) return {};
    const { usedAtMs: _, ...found } = known;
    return { found };
  }

  /** Writes what was gathered. */
  flush(): Promise<void> {
    if (this.#changes.size > 0) {
      const changes = this.#changes;
      this.#changes = new Map();
      const write = (): Promise<void> => this.#table.write(changes);
      // In order, and an earlier failure was told to whoever flushed then.
      this.#writing = this.#writing.then(write, write);
    }
    return this.#writing;
  }
}

/** Names cannot hold a line feed in any grammar that is accepted; what does is kept apart by its length. */
function keyOf({ origin, repository, digest }: LocateRequest): string {
  return `${origin.length}:${origin}/${repository.length}:${repository}@${digest}`;
}
