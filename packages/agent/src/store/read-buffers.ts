// Buffers that readers of finished blobs borrow, so that serving costs no new memory for each piece.
//
// Bound: LENT_BYTES are lent at a time, and of what comes back SPARE_BYTES are kept; who finds nothing left uses memory of its own.

const MIB = 1024 * 1024;
const LENT_BYTES = 24 * MIB;
const SPARE_BYTES = 6 * MIB;

export class ReadBuffers {
  readonly #maxLentBytes: number;
  readonly #spare: Buffer[] = [];
  #lentBytes = 0;
  #spareBytes = 0;

  constructor(maxLentBytes = LENT_BYTES) {
    this.#maxLentBytes = maxLentBytes;
  }

  get lentBytes(): number {
    return this.#lentBytes;
  }

  /** undefined: all are lent. Every buffer must be given back. */
  take(bytes: number): Buffer | undefined {
    if (this.#lentBytes + bytes > this.#maxLentBytes) return undefined;
    this.#lentBytes += bytes;
    const at = this.#spare.findIndex((buffer) => buffer.length === bytes);
    if (at < 0) return Buffer.allocUnsafeSlow(bytes);
    this.#spareBytes -= bytes;
    return this.#spare.splice(at, 1)[0]!;
  }

  giveBack(buffer: Buffer): void {
    this.#lentBytes -= buffer.length;
    if (this.#spareBytes + buffer.length > SPARE_BYTES) return;
    this.#spareBytes += buffer.length;
    this.#spare.push(buffer);
  }
}
