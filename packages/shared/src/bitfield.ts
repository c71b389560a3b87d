// Which chunks of a blob somebody holds. Indexes are chunk indexes; ranges are `[first, count]`.

/** A run of consecutive chunks: `[first index, how many]`. */
export type IndexRange = readonly [first: number, count: number];

/** The read-only face of a Bitfield, for those who are not its writer. */
export interface ReadonlyBitfield {
  readonly length: number;
  readonly count: number;
  readonly full: boolean;
  has(index: number): boolean;
  ranges(): IndexRange[];
  bytes(): Uint8Array;
}

export class Bitfield implements ReadonlyBitfield {
  readonly length: number;
  readonly #bits: Uint8Array;
  #count = 0;

  constructor(length: number) {
    this.length = length;
    this.#bits = new Uint8Array(Math.ceil(length / 8));
  }

  static full(length: number): Bitfield {
    const field = new Bitfield(length);
    field.setRange([0, length]);
    return field;
  }

  /** From the wire: bit 0 is the highest bit of the first byte. @throws RangeError on a wrong length or stray bits */
  static fromBytes(length: number, bytes: Uint8Array): Bitfield {
    const field = new Bitfield(length);
    if (bytes.length !== field.#bits.length) {
      throw new RangeError(`bitfield of ${bytes.length} bytes for ${length} chunks`);
    }
    field.#bits.set(bytes);
    for (const byte of bytes) field.#count += popCount(byte);
    for (let index = length; index < bytes.length * 8; index++) {
      if (field.#bit(index)) throw new RangeError('bitfield has bits past its end');
    }
    return field;
  }

  /** How many bits are set. */
  get count(): number {
    return this.#count;
  }

  get full(): boolean {
    return this.#count === this.length;
  }

  has(index: number): boolean {
    return index >= 0 && index < this.length && this.#bit(index);
  }

  /** @returns whether the bit was clear before @throws RangeError when the index is outside */
  set(index: number): boolean {
    this.#check(index);
    if (this.#bit(index)) return false;
    this.#bits[index >> 3]! |= 128 >> (index & 7);
    this.#count++;
    return true;
  }

  /** @returns whether the bit was set before @throws RangeError when the index is outside */
  clear(index: number): boolean {
    this.#check(index);
    if (!this.#bit(index)) return false;
    this.#bits[index >> 3]! &= ~(128 >> (index & 7));
    this.#count--;
    return true;
  }

  /** @throws RangeError when part of it is outside; nothing is changed then */
  setRange([first, count]: IndexRange): void {
    this.#checkRange(first, count);
    for (let index = first; index < first + count; index++) {
      const at = index >> 3;
      const bit = 128 >> (index & 7);
      const before = this.#bits[at]!;
      if ((before & bit) !== 0) continue;
      this.#bits[at] = before | bit;
      this.#count++;
    }
  }

  /** @throws RangeError when part of it is outside; nothing is changed then */
  clearRange([first, count]: IndexRange): void {
    this.#checkRange(first, count);
    for (let index = first; index < first + count; index++) this.clear(index);
  }

  /** The set bits as maximal runs in ascending order. */
  ranges(): IndexRange[] {
    const runs: IndexRange[] = [];
    let first = -1;
    for (let index = 0; index <= this.length; index++) {
      const held = index < this.length && this.#bit(index);
      if (held && first < 0) first = index;
      if (!held && first >= 0) {
        runs.push([first, index - first]);
        first = -1;
      }
    }
    return runs;
  }

  /** A copy for the wire. */
  bytes(): Uint8Array {
    return this.#bits.slice();
  }

  #bit(index: number): boolean {
    return (this.#bits[index >> 3]! & (128 >> (index & 7))) !== 0;
  }

  #checkRange(first: number, count: number): void {
    if (count <= 0) return;
    this.#check(first);
    this.#check(first + count - 1);
  }

  #check(index: number): void {
    if (!(Number.isInteger(index) && index >= 0 && index < this.length)) {
      throw new RangeError(`chunk ${index} of ${this.length}`);
    }
  }
}

/** Sorted, merged runs of a list of indexes; an index may come more than once. */
export function toRanges(indexes: Iterable<number>): IndexRange[] {
  const sorted = [...indexes];
  if (sorted.some((index, at) => at > 0 && index < sorted[at - 1]!)) sorted.sort((a, b) => a - b);
  const runs: [number, number][] = [];
  let last: [number, number] | undefined;
  for (const index of sorted) {
    const end = last === undefined ? Number.NaN : last[0] + last[1];
    if (index < end) continue;
    if (index === end) last![1]++;
    else runs.push((last = [index, 1]));
  }
  return runs;
}

/** What is in either list, as sorted and merged runs. Costs what the runs are, not what they cover. */
export function mergeRanges(a: readonly IndexRange[], b: readonly IndexRange[]): [first: number, count: number][] {
  const runs: [number, number][] = [];
  for (const [first, count] of [...a, ...b].sort((one, other) => one[0] - other[0])) {
    const last = runs.at(-1);
    if (count <= 0) continue;
    if (last !== undefined && first <= last[0] + last[1]) last[1] = Math.max(last[1], first + count - last[0]);
    else runs.push([first, count]);
  }
  return runs;
}

function popCount(byte: number): number {
  let count = 0;
  for (let rest = byte; rest !== 0; rest &= rest - 1) count++;
  return count;
}
