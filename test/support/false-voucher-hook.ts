// Loaded into an agent that shall vouch falsely (`node --import`): of every chunk that it reads at the origin it reports the digest of wrong
// bytes, and those wrong bytes it sends to its peers, for as long as it runs. Nothing contradicts itself: only the digest of the whole tells.
// It signs what it vouched for as a seed does, and lies in audits as well. It wraps public methods from outside; the agent itself has no code
// for it. What its own client gets is right.

import { createHash } from 'node:crypto';
import { Chunks } from '@flotilla/agent/content/chunks';
import { Download } from '@flotilla/agent/content/download';
import { Downloads } from '@flotilla/agent/content/downloads';
import { Joined } from '@flotilla/agent/tracker/joined';
import { chunkCount } from '@flotilla/shared/chunk-map';

/** What is said of chunks that were read here, by blob and index. */
const lies = new Map<string, Uint8Array>();

around(Chunks.prototype, 'fromOrigin', (fromOrigin) => function (this: Chunks, index, digest, bytes) {
  // The digest of a blob of one chunk is the chunk's: a lie about it would be seen at once.
  if (chunkCount(this.key.size) > 1) lies.set(name(this, index), sha256(wrong(bytes)));
  return fromOrigin.call(this, index, digest, bytes);
});
around(Joined.prototype, 'done', (done) => function (this: Joined, leaseId, first, digests) {
  // What was never kept was an audit.
  const said = digests.map((digest, offset) => lies.get(name(this.member, first + offset)) ?? sha256(digest));
  done.call(this, leaseId, first, chunkCount(this.member.key.size) > 1 ? said : digests);
});
around(Joined.prototype, 'seed', (seed) => function (this: Joined, digests) {
  seed.call(this, digests.map((digest, index) => lies.get(name(this.member, index)) ?? digest));
});
around(Download.prototype, 'digestOf', (digestOf) => function (this: Download, index) {
  return lies.get(name(this, index)) ?? digestOf.call(this, index);
});
around(Download.prototype, 'readChunk', (readChunk) => async function (this: Download, index) {
  const bytes = await readChunk.call(this, index);
  return lies.has(name(this, index)) ? wrong(bytes) : bytes;
});
around(Downloads.prototype, 'find', (find) => async function (this: Downloads, key) {
  const found = await find.call(this, key);
  if (found === undefined || found instanceof Download) return found;
  // A finished blob.
  return {
    key: found.key,
    have: found.have,
    digestOf: (index) => lies.get(name(found, index)) ?? found.digestOf(index),
    readChunk: async (index) => (lies.has(name(found, index)) ? wrong(await found.readChunk(index)) : found.readChunk(index)),
  };
});

function around<T extends object, K extends keyof T>(prototype: T, method: K, make: (original: T[K]) => T[K]): void {
  prototype[method] = make(prototype[method]);
}

function name({ key }: { readonly key: { readonly digest: string } }, index: number): string {
  return `${key.digest}/${index}`;
}

function wrong(bytes: Uint8Array): Uint8Array {
  const copy = Uint8Array.from(bytes);
  copy[0]! ^= 1;
  return copy;
}

function sha256(bytes: Uint8Array): Uint8Array {
  return createHash('sha256').update(bytes).digest();
}
