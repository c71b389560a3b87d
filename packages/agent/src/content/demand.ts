// Which chunks of a blob are worth having now, and, while the disk has no room, which may stay in memory.
//
// With room, that is what readers want next, and the rest of the blob while somebody waits for the whole. Without
// room each reader has a stretch of its own from its cursor on, all stretches together no longer than the window: a reader
// that is slow holds up nobody, one that starts late reads from the start, and what no stretch covers is dropped. The hash of
// the whole goes with the foremost reader, so that reader's stretch begins where the hash stands.
// Readers beyond the number that fits wait their turn.

import { toRanges, type IndexRange, type ReadonlyBitfield } from '@flotilla/shared/bitfield';
import { chunkCount, chunkSize, type BlobKey } from '@flotilla/shared/chunk-map';
import type { Readers } from './readers.ts';

/** Stretches that leases are asked for at once; the tracker takes as many. */
const MAX_STRETCHES = 32;
/** A reader that has its chunk and awaits the next one. */
const MIN_STRETCH_CHUNKS = 2;

/** What Chunks tells. */
export interface DemandView {
  readonly have: ReadonlyBitfield;
  /** Chunks go to disk. */
  readonly kept: boolean;
  /** The chunks before this one were hashed. */
  readonly hashedTo: number;
  /** All must come although no reader waits for the whole: what is here is in doubt. */
  readonly doubted: boolean;
  readonly verified: boolean;
}

export class Demand {
  readonly #chunks: number;
  readonly #windowChunks: number;
  readonly #readers: Readers;
  readonly #view: DemandView;
  /** Chunks that were written while there was no room on disk. */
  readonly #inMemory = new Set<number>();
  /** The stretches as they were computed last, and from what. */
  #last: { readonly from: string; readonly stretches: IndexRange[] } = { from: '', stretches: [] };

  constructor(key: BlobKey, windowBytes: number, readers: Readers, view: DemandView) {
    this.#chunks = chunkCount(key.size);
    this.#windowChunks = Math.max(MIN_STRETCH_CHUNKS, Math.floor(windowBytes / chunkSize(key.size)));
    this.#readers = readers;
    this.#view = view;
  }

  includes(index: number): boolean {
    if (!this.#view.kept) return this.#stretches().some(([first, count]) => index >= first && index < first + count);
    return this.#readers.demands(index) || (this.#wholeWanted() && index >= this.#view.hashedTo);
  }

  /** What leases are asked for; undefined: nothing. */
  ranges(): readonly IndexRange[] | undefined {
    if (this.#view.have.full) return undefined;
    if (!this.#view.kept) {
      const stretch = this.#stretches().find((range) => this.#lacks(range));
      return stretch && [stretch];
    }
    if (this.#wholeWanted()) return [[0, this.#chunks]];
    const ranges: IndexRange[] = [];
    for (const range of this.#readers.wanted()) {
      if (ranges.length === MAX_STRETCHES) break;
      if (this.#lacks(range)) ranges.push(range);
    }
    return ranges.length > 0 ? united(ranges) : undefined;
  }

  wroteToMemory(index: number): void {
    this.#inMemory.add(index);
  }

  /** Chunks that only take room in memory now. They are the caller's to drop. */
  takePassed(): IndexRange[] {
    if (this.#inMemory.size === 0) return [];
    const stretches = this.#stretches();
    const passed = [...this.#inMemory].filter((index) => !stretches.some(([first, count]) => index >= first && index < first + count));
    for (const index of passed) this.#inMemory.delete(index);
    return toRanges(passed.filter((index) => this.#view.have.has(index)));
  }

  #wholeWanted(): boolean {
    return !this.#view.verified && (this.#readers.wantWhole || (this.#view.doubted && this.#readers.count > 0));
  }

  /** Asked for each chunk of a blob in turn, hence remembered. */
  #stretches(): IndexRange[] {
    const from = `${this.#readers.version} ${this.#view.hashedTo} ${this.#view.have.count} ${this.#inMemory.size}`;
    if (this.#last.from !== from) this.#last = { from, stretches: this.#compute() };
    return this.#last.stretches;
  }

  #compute(): IndexRange[] {
    const served = this.#readers.positions().slice(0, Math.floor(this.#windowChunks / MIN_STRETCH_CHUNKS));
    const count = Math.floor(this.#windowChunks / Math.max(1, served.length));
    const foremost = Math.max(...served.filter((reader) => reader.whole).map((reader) => reader.cursor));
    return served.map(({ cursor, last, whole }) => {
      let first = whole && cursor === foremost ? Math.min(cursor, this.#view.hashedTo) : cursor;
      // What is on disk takes no memory, so the stretch reaches beyond it.
      while (first < last && this.#view.have.has(first) && !this.#inMemory.has(first)) first++;
      return [first, Math.min(count, last - first + 1)];
    });
  }

  #lacks([first, count]: IndexRange): boolean {
    for (let index = first; index < first + count; index++) if (!this.#view.have.has(index)) return true;
    return false;
  }
}

/** In ascending order, what touches or overlaps made one. */
function united(ranges: readonly IndexRange[]): IndexRange[] {
  const result: IndexRange[] = [];
  for (const [first, count] of ranges.toSorted(([a], [b]) => a - b)) {
    const last = result.at(-1);
    if (last === undefined || first > last[0] + last[1]) result.push([first, count]);
    else result[result.length - 1] = [last[0], Math.max(last[0] + last[1], first + count) - last[0]];
  }
  return result;
}
