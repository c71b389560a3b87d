// An Origin whose bodies flow no faster than the agent's limits allow (--origin-limit, --download-limit).
// Answers without a body (tags, sizes) are not held back.

import { setTimeout as delay } from 'node:timers/promises';
import type { Origin, OriginBody } from './content/ports.ts';
import type { TokenBucket } from './swarm/limits.ts';

/** All buckets must have room before the next piece is taken from the socket. */
export function limitOrigin(origin: Origin, buckets: readonly TokenBucket[], nowMs: () => number): Origin {
  return {
    resolve: (...args) => origin.resolve(...args),
    stat: (...args) => origin.stat(...args),
    listTags: (...args) => origin.listTags(...args),
    referrers: (...args) => origin.referrers(...args),
    read: async (source, digest, range, authority, signal) => {
      const answer = await origin.read(source, digest, range, authority, signal);
      return { ...answer, body: limited(answer, buckets, nowMs, signal), cancel: () => answer.cancel() };
    },
  };
}

async function* limited(answer: OriginBody, buckets: readonly TokenBucket[], nowMs: () => number, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  for await (const piece of answer.body) {
    const waitMs = (): number => Math.max(...buckets.map((bucket) => bucket.waitMs(piece.length, nowMs())));
    for (let ms = waitMs(); ms > 0; ms = waitMs()) await delay(ms, undefined, { signal });
    for (const bucket of buckets) bucket.take(piece.length, nowMs());
    yield piece;
  }
}
