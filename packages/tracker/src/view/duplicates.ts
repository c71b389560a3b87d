// Bytes of each blob that arrived twice at hosts that have finished it, or given it up, since the tracker's start: what is under way, hosts tell themselves.
//
// Bound: MAX_BLOBS, the longest without a duplicate go.

const MAX_BLOBS = 10_000;

export class Duplicates {
  readonly #bytes = new Map<string, number>();

  add(digest: string, bytes: number): void {
    if (bytes === 0) return;
    const sum = this.of(digest) + bytes;
    this.#bytes.delete(digest);
    this.#bytes.set(digest, sum);
    for (const oldest of this.#bytes.keys()) {
      if (this.#bytes.size <= MAX_BLOBS) break;
      this.#bytes.delete(oldest);
    }
  }

  of(digest: string): number {
    return this.#bytes.get(digest) ?? 0;
  }
}
