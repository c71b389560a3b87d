// The chunks of one blob on this host, and whom to believe about them. Each chunk that comes is judged, written, and fed to
// the hash of the whole; what is contradicted is forgotten. Single writer of all this. Non-goals: what is asked of whom, and
// what follows for readers, peers and the tracker (ChunksOwner).
//
//   arriving --all here, digest right--> verified --finish--> on disk
//      ^  | digest wrong
//      |  v
//   repairing   until wrong chunks are named and forgotten, or all that peers gave is
//
// Without room on disk a verified blob is fetched again, chunk by chunk, when what a late reader needs has left memory.
// Invariant: no chunk that contradicts one that was hashed is kept as that chunk, so what was verified once is what all read.

import { toRanges, type IndexRange, type ReadonlyBitfield } from '@flotilla/shared/bitfield';
import { chunkBounds, type BlobKey } from '@flotilla/shared/chunk-map';
import { AgentError, toAgentError } from '../errors.ts';
import { chunkDigest, sameDigest } from '../hash.ts';
import type { ChunkVerdict, PartialBlob, Source, StoredBlob } from './ports.ts';
import type { HashPool } from './verification.ts';
import { Vouching } from './vouching.ts';
import { WholeHash } from './whole-hash.ts';

/** What chunks ask of their owner, and tell it besides the verdicts on what is handed in. */
export interface ChunksOwner {
  /** Whether a chunk may take room in memory while there is none on disk. */
  wanted(index: number): boolean;
  /** A chunk was written while there is no room on disk. */
  inMemory(index: number): void;
  /** A chunk is kept that was not here. All have been told of once `written` resolves. `peerId`: who gave it; undefined: the origin */
  came(bytes: number, peerId: string | undefined): void;
  /** The hash of the whole has moved on. */
  hashed(): void;
  /** Chunks are here no more. `damage`: why the disk lost them */
  forgotten(ranges: readonly IndexRange[], damage?: AgentError): void;
  /** Readers that took one of these chunks have wrong bytes, or bytes of which nobody can tell. */
  disbelieved(error: AgentError, which: (index: number) => boolean): void;
  /** `peerId` says `heard` of a chunk where `expected` is known. */
  conflict(index: number, peerId: string, heard: Uint8Array, expected: Uint8Array): void;
  /** What this host read itself contradicts what this peer gave: what is `suspicious` of it should not be asked for. */
  suspected(peerId: string): void;
  /** The whole is right. Awaited: what `finish` does belongs to it. */
  verified(): Promise<void>;
  /** The whole is wrong: a repair has begun. `doubtful`: the chunks that are here on the word of others */
  mismatch(error: AgentError, doubtful: ReadonlySet<number>): void;
  /** What was found wrong is not here, or was read here: the whole is as wrong as before. */
  stillWrong(): void;
  /** The end of a repair: what was wrong has been forgotten. */
  repaired(): void;
  /** The chunks can be neither hashed nor dropped. */
  failed(error: AgentError): void;
}

export class Chunks {
  readonly key: BlobKey;
  readonly #partial: PartialBlob;
  readonly #source: Source;
  readonly #owner: ChunksOwner;
  readonly #whole: WholeHash;
  readonly #vouching: Vouching;
  /** Chunks between verification and the end of their write. `wrong`: to be dropped then. */
  readonly #writing = new Map<number, { readonly done: Promise<void>; wrong: boolean }>();
  #open = true;
  #repairing = false;
  #stored: StoredBlob | undefined;
  #settling: Promise<void> | undefined;

  /** @param source where the blob comes from, for errors */
  constructor(partial: PartialBlob, hashes: HashPool, source: Source, owner: ChunksOwner) {
    this.key = partial.key;
    this.#partial = partial;
    this.#source = source;
    this.#owner = owner;
    this.#vouching = new Vouching(this.key);
    this.#whole = new WholeHash(partial, hashes.open(this.key.digest), (index) => this.readChunk(index));
    // An earlier pull may have left all of it.
    this.#settle();
  }

  get have(): ReadonlyBitfield {
    return this.#partial.have;
  }

  /** False where the disk has no room: chunks pass through memory. */
  get kept(): boolean {
    return this.#partial.kept;
  }

  /** The finished blob on disk. */
  get stored(): StoredBlob | undefined {
    return this.#stored;
  }

  /** The whole blob's digest is right; true before it is finished on disk. */
  get verified(): boolean {
    return this.#vouching.proven;
  }

  get repairing(): boolean {
    return this.#repairing;
  }

  /** The whole was wrong once, and is not right yet. */
  get doubted(): boolean {
    return this.#vouching.doubted;
  }

  /** No peer is believed any more. */
  get originOnly(): boolean {
    return this.#vouching.originOnly;
  }

  /** Chunks before this one are in the hash of the whole. */
  get hashedTo(): number {
    return this.#whole.next;
  }

  digestOf(index: number): Uint8Array | undefined {
    return this.#partial.digestOf(index);
  }

  async readChunk(index: number): Promise<Uint8Array> {
    if (this.#stored !== undefined) return this.#stored.readChunk(index);
    const held = this.have.has(index);
    try {
      return await this.#partial.read(index);
    } catch (error) {
      if (held && !this.have.has(index)) this.#owner.forgotten([[index, 1]], toAgentError(error));
      throw error;
    }
  }

  /** The first chunk that the hash of the whole still lacks; undefined: all are here. */
  missing(): number | undefined {
    if (this.verified) return undefined;
    for (let index = this.#whole.next; index < this.have.length; index++) if (!this.have.has(index)) return index;
    return undefined;
  }

  /** Whether a chunk that is here may go out. */
  trusts(index: number): boolean {
    return this.#vouching.isReadHere(index) || (!this.#repairing && this.#vouching.trusts(index));
  }

  /** How a chunk that is here came: from the disk where an earlier download had left it, unless this one fetched it. */
  sourceOf(index: number): 'store' | 'peer' | 'origin' {
    if (this.#vouching.isReadHere(index)) return 'origin';
    return this.#vouching.giver(index) === undefined ? 'store' : 'peer';
  }

  /** Whether anybody but the peer that gave it says what this chunk is. */
  vouchedFor(index: number): boolean {
    return this.verified || this.#vouching.isReadHere(index) || this.#vouching.expected(index) !== undefined;
  }

  /** Whether a peer's copy of a chunk would be taken now. */
  takes(index: number): boolean {
    return this.#open && !this.#repairing && !this.have.has(index) && !this.#writing.has(index) && this.#vouching.believes(index);
  }

  /** Whether this peer's copy of a chunk is not believed, because it gave wrong ones and nobody else says what this one is. */
  suspicious(index: number, peerId: string): boolean {
    return this.#vouching.suspicious(index, peerId);
  }

  // ---- chunks come

  async fromPeer(index: number, digest: Uint8Array, bytes: Uint8Array, peerId: string): Promise<ChunkVerdict> {
    const actual = await chunkDigest(bytes);
    const { start, end } = chunkBounds(this.key.size, index);
    if (!sameDigest(actual, digest) || bytes.length !== end - start) return 'forged';
    const expected = this.#vouching.expected(index);
    if (expected !== undefined && !sameDigest(expected.digest, digest)) {
      if (expected.certain) return 'forged';
      if (!this.#vouching.isWithdrawn(index, digest)) this.#owner.conflict(index, peerId, digest, expected.digest);
      return 'conflict';
    }
    // It has not heard yet; nobody is to blame but who vouched for it.
    if (this.#vouching.isWithdrawn(index, digest)) return 'conflict';
    const read = this.#vouching.isReadHere(index) ? this.#digestHere(index) : undefined;
    if (read !== undefined && !sameDigest(read, digest)) {
      this.#owner.conflict(index, peerId, digest, read);
      this.#forget(this.#suspect(peerId, expected?.by === peerId));
      return 'conflict';
    }
    if (!this.takes(index) || !this.#hasRoom(index)) return 'duplicate';
    if (this.#vouching.suspicious(index, peerId)) return 'conflict';
    this.#vouching.given(index, peerId);
    if (!(await this.#write(index, digest, bytes, peerId))) return 'duplicate';
    const since = this.#vouching.expected(index);
    if (since?.by !== undefined && !sameDigest(since.digest, digest)) {
      // Vouched for otherwise while it was being written.
      this.#contradicted(index, digest, since.digest, since.by);
      return 'conflict';
    }
    this.#settle();
    return 'kept';
  }

  /** A chunk that this host read itself: what differs from it is forgotten. @throws DIGEST_MISMATCH where it cannot be of the blob */
  async fromOrigin(index: number, digest: Uint8Array, bytes: Uint8Array): Promise<'kept' | 'duplicate'> {
    // A peer's chunk on its way to the disk has to be compared as well.
    await this.#writing.get(index)?.done;
    const expected = this.#vouching.expected(index);
    if (expected !== undefined && !sameDigest(expected.digest, digest)) {
      if (expected.certain) throw this.mismatch('the origin sent other bytes than');
      if (expected.by !== undefined) this.#owner.conflict(index, expected.by, expected.digest, digest);
    }
    const here = this.#digestHere(index);
    if (here !== undefined && !sameDigest(here, digest)) {
      const giver = this.#vouching.giver(index);
      if (giver !== undefined && giver !== expected?.by) this.#owner.conflict(index, giver, here, digest);
      // Who passed on what another vouched for is not to blame for it.
      const alone = giver !== undefined && (expected?.by === undefined || expected.by === giver);
      this.#forget([index, ...(alone ? this.#suspect(giver, expected !== undefined) : [])]);
    }
    this.#vouching.readHere(index, digest);
    if (this.have.has(index) || !this.#hasRoom(index) || !(await this.#write(index, digest, bytes, undefined))) return 'duplicate';
    this.#settle();
    return 'kept';
  }

  /** `by` vouches for the digests of the chunks from `first` on. */
  vouched(first: number, digests: readonly Uint8Array[], by: string): void {
    digests.slice(0, Math.max(0, this.have.length - first)).forEach((digest, offset) => {
      const index = first + offset;
      const here = this.#digestHere(index);
      if (!this.verified) this.#vouching.vouch(index, digest, by);
      if (here !== undefined && !sameDigest(here, digest)) this.#contradicted(index, here, digest, by);
    });
  }

  /** A peer gave other bytes than the origin: one by one its chunks would be found wrong, and each would break a reader. @returns what came on its word alone */
  #suspect(peerId: string, vouched: boolean): number[] {
    if (this.verified) return [];
    const alone = this.#vouching.suspect(peerId, vouched);
    this.#owner.suspected(peerId);
    return alone;
  }

  #hasRoom(index: number): boolean {
    return this.kept || this.#owner.wanted(index);
  }

  /** @returns whether the chunk is here now */
  async #write(index: number, digest: Uint8Array, bytes: Uint8Array, peerId: string | undefined): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const write = { done: promise, wrong: false };
    const { length } = bytes;
    this.#writing.set(index, write);
    try {
      await this.#partial.write(index, digest, bytes);
      if (!write.wrong) this.#owner.came(length, peerId);
    } finally {
      this.#writing.delete(index);
      resolve();
    }
    // It may be in the hash of the whole already, and the whole be verified: told to stop meanwhile, it is kept all the same.
    if (this.#open && !this.kept) this.#owner.inMemory(index);
    if (write.wrong && this.#open) this.#drop([[index, 1]]);
    return !write.wrong && this.have.has(index);
  }

  /** Resolves when no chunk is being written that is now. A chunk can be hashed, and the whole verified, before its write is over. */
  async written(): Promise<void> {
    await Promise.all([...this.#writing.values()].map(({ done }) => done));
  }

  /** The digest of a chunk that is here, or that was here and left memory. */
  #digestHere(index: number): Uint8Array | undefined {
    return this.have.has(index) ? this.digestOf(index) : this.#vouching.passed(index);
  }

  /** A held chunk is not what `by` vouches for. */
  #contradicted(index: number, here: Uint8Array, vouched: Uint8Array, by: string): void {
    if (this.verified || this.#vouching.isReadHere(index) || this.#vouching.expected(index)?.certain === true) {
      this.#owner.conflict(index, by, vouched, here);
      return;
    }
    const giver = this.#vouching.giver(index);
    if (giver !== undefined && giver !== by) this.#owner.conflict(index, giver, here, vouched);
    this.#forget([index]);
    this.#vouching.vouch(index, vouched, by);
  }

  // ---- chunks go

  /** These chunks were found wrong. What this host read itself stays. */
  invalid(ranges: readonly IndexRange[]): void {
    if (this.verified) return;
    const indexes = ranges.flatMap((range) => this.#indexes(range));
    for (const index of indexes) this.#vouching.withdraw(index, this.#vouching.isReadHere(index) ? this.#digestHere(index) : undefined);
    this.#forget(indexes.filter((index) => !this.#vouching.isReadHere(index)));
    if (!this.#repairing) return;
    // In memory only, the wrong chunks are gone already.
    if (this.kept) this.#owner.stillWrong();
    else this.#repaired();
  }

  /** No tracker vouches for what it has taken back. */
  trackerLost(): void {
    this.#vouching.forgetWithdrawn();
  }

  /** Nobody can say which peer is wrong: drops all that they gave, and takes no more from them. */
  distrustPeers(): void {
    this.#vouching.distrustPeers();
    this.#forget(this.#vouching.doubtful());
    if (this.#repairing) this.#repaired();
  }

  /** In memory only: no reader needs these chunks any more. */
  pass(ranges: readonly IndexRange[]): void {
    for (const index of ranges.flatMap((range) => this.#indexes(range))) {
      const digest = this.digestOf(index);
      if (index < this.#whole.fed && digest !== undefined) this.#vouching.pass(index, digest);
    }
    this.#drop(ranges);
  }

  /** Drops chunks that are or may be wrong, and disbelieves them where they were given out. */
  #forget(indexes: readonly number[]): void {
    const wrong = new Set(indexes.filter((index) => this.#digestHere(index) !== undefined));
    for (const index of indexes) {
      this.#vouching.forget(index);
      const write = this.#writing.get(index);
      if (write !== undefined) write.wrong = true;
    }
    if (wrong.size === 0) return;
    const hashed = this.#whole.fed;
    const restarted = this.#whole.forget(Math.min(...wrong));
    this.#drop(toRanges([...wrong].filter((index) => this.have.has(index))));
    if (restarted) this.#hashAnew();
    // Without the disk what was hashed cannot be hashed again: its readers have to begin anew.
    this.#owner.disbelieved(this.mismatch('a part of what arrived is not of'), (index) => wrong.has(index) || (restarted && !this.kept && index < hashed));
    if (this.#repairing) this.#repaired();
    else this.#settle();
  }

  #drop(ranges: readonly IndexRange[]): void {
    if (ranges.length === 0) return;
    this.#partial.drop(ranges).catch((error: unknown) => this.#owner.failed(toAgentError(error)));
    this.#owner.forgotten(ranges);
  }

  #indexes([first, count]: IndexRange): number[] {
    return Array.from({ length: Math.max(0, Math.min(count, this.have.length - first)) }, (_, offset) => first + offset);
  }

  // ---- the whole

  /** Hashes on, and decides when the end is reached. One at a time; runs until nothing more can be done. */
  #settle(): void {
    this.#settling ??= this.#hashOn()
      .catch((error: unknown) => this.#owner.failed(toAgentError(error)))
      .finally(() => {
        this.#settling = undefined;
        if (this.#hashable()) this.#settle();
      });
  }

  /** Makes the verified blob a stored one. @returns undefined where there is no room to keep it */
  async finish(mediaType: string | undefined): Promise<StoredBlob | undefined> {
    this.#stored = await this.#partial.finish(mediaType);
    return this.#stored;
  }

  /** Takes nothing more. A blob that is verified is first finished on disk: closing now would throw it away. */
  async stop(): Promise<void> {
    this.#open = false;
    if (this.verified) await this.#settling;
  }

  /** After `stop`. @param keep the chunks stay for the next pull */
  async close(keep: boolean): Promise<void> {
    this.#whole.close();
    await this.#partial.close(keep);
  }

  /** The error of bytes that are not the blob's. @param what ends before the digest */
  mismatch(what: string): AgentError {
    return new AgentError('DIGEST_MISMATCH', `${what} ${this.key.digest}`, { detail: { ...this.#source } });
  }

  #hashable(): boolean {
    return this.#open && !this.#repairing && !this.verified && (this.#whole.atEnd || this.#whole.due);
  }

  async #hashOn(): Promise<void> {
    while (this.#hashable()) {
      await this.#whole.advance();
      this.#owner.hashed();
      if (this.#whole.atEnd && this.#hashable()) await this.#decide();
    }
  }

  async #decide(): Promise<void> {
    const right = await this.#whole.matches();
    if (right === undefined || !this.#hashable()) return;
    if (right) {
      this.#vouching.prove();
      await this.#owner.verified();
    } else {
      // Every chunk matches what was vouched for, the whole does not: somebody lied, or the origin has changed.
      this.#repairing = true;
      if (this.kept) this.#vouching.doubt();
      this.#hashAnew();
      this.#owner.mismatch(this.mismatch('the bytes that arrived are not'), new Set(this.#vouching.doubtful()));
    }
  }

  #repaired(): void {
    this.#repairing = false;
    this.#owner.repaired();
    this.#settle();
  }

  /** The hash begins at the first chunk again. */
  #hashAnew(): void {
    this.#whole.forget(0);
    this.#vouching.forgetPassed();
  }
}
