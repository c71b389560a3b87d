import { describe, expect, test } from 'vitest';
import { AgentError } from '../errors.ts';
import { OwnImages } from './own-images.ts';
import type { Caller, Descriptor, ServedManifest } from './ports.ts';
import { makeBlob, TestStore, TestStored } from './test-ports.ts';

const REPOSITORY = { origin: 'docker.io', repository: 'library/nginx' };
const blob = makeBlob(200_000);
const descriptor: Descriptor = { digest: blob.key.digest, size: 200_000, mediaType: 'application/vnd.oci.image.manifest.v1+json' };
const signal = new AbortController().signal;

function host({ stale = false, low = true } = {}): { readonly own: OwnImages; readonly callers: Caller[]; readonly fetches: unknown[]; readonly store: TestStore; readonly pins: unknown[] } {
  const callers: Caller[] = [];
  const fetches: unknown[] = [];
  const pins: unknown[] = [];
  const store = new TestStore();
  const served: ServedManifest = { descriptor, stale, bytes: async () => blob.bytes };
  const own = new OwnImages({
    images: {
      manifest: async (_repository, _reference, _accept, caller) => {
        callers.push(caller);
        return served;
      },
      fetch: async (_repository, key, caller, behind) => {
        callers.push(caller);
        fetches.push([key, behind]);
        return { peer: 1, origin: 2 };
      },
    },
    downloads: { held: async ({ size }) => size, underWay: () => ({ peer: 3, origin: 4 }) },
    store,
    rights: { facts: { resolved: async (...args) => void pins.push(args) } },
    low,
  });
  return { own, callers, fetches, store, pins };
}

describe('at the origin', () => {
  test('what an operator pulls on this host was named to nobody', async () => {
    const { own, callers } = host({ low: false });
    await own.resolve(REPOSITORY, '1.27', signal);
    expect(callers).toEqual([{ authorization: undefined, asksOrigin: true, own: true }]);
  });

  test("it is the agent that asks, with its own rights; for a tag the origin itself is asked", async () => {
    const { own, callers } = host();
    expect(await own.resolve(REPOSITORY, '1.27', signal)).toEqual(descriptor);
    expect(await own.manifest(REPOSITORY, descriptor.digest, signal)).toEqual({ descriptor, bytes: blob.bytes });
    await own.fetch(REPOSITORY, descriptor, signal);
    expect(callers).toEqual([
      { authorization: undefined, asksOrigin: true, own: true, named: true },
      { authorization: undefined, asksOrigin: false, own: true, named: true },
      { authorization: undefined, asksOrigin: false, own: true, named: true },
    ]);
  });

  test('an older answer is none: a rollout must not pin what a tag was', async () => {
    await expect(host({ stale: true }).own.resolve(REPOSITORY, '1.27', signal)).rejects.toMatchObject({ code: 'ORIGIN_UNREACHABLE' });
  });

  test.each([true, false])('fetches come behind clients where that is wanted: %s', async (low) => {
    const { own, fetches } = host({ low });
    expect(await own.fetch(REPOSITORY, descriptor, signal)).toEqual({ peer: 1, origin: 2 });
    expect(fetches).toEqual([[{ digest: descriptor.digest, size: descriptor.size }, low]]);
  });

  test('a pin is what the tag answers while the origin is silent', async () => {
    const { own, pins } = host();
    await own.pin(REPOSITORY, '1.27', descriptor);
    expect(pins).toEqual([[REPOSITORY, '1.27', descriptor]]);
  });
});

describe('on disk', () => {
  const digests = Array.from({ length: blob.chunks }, (_, index) => blob.chunkDigest(index));

  test('what is kept is kept once, and let go of once', () => {
    const { own, store } = host();
    const release = own.keep([blob.key.digest]);
    expect(store.pins.get(blob.key.digest)).toBe(1);
    release();
    release();
    expect(store.pins.get(blob.key.digest)).toBe(0);
  });

  test('a stored blob is read chunk by chunk, and stays while it is read', async () => {
    const { own, store } = host();
    expect(await own.readStored(blob.key.digest, signal)).toBeUndefined();
    store.put(new TestStored(blob.key, undefined, blob.bytes, digests));
    const parts: Uint8Array[] = [];
    for await (const piece of (await own.readStored(blob.key.digest, signal))!) {
      expect(store.pins.get(blob.key.digest)).toBe(1);
      parts.push(Uint8Array.from(piece));
    }
    expect(Buffer.concat(parts)).toEqual(Buffer.from(blob.bytes));
    expect(store.pins.get(blob.key.digest)).toBe(0);
  });

  test('reading ends when it is stopped', async () => {
    const { own, store } = host();
    store.put(new TestStored(blob.key, undefined, blob.bytes, digests));
    const stop = new AbortController();
    const read = async (): Promise<void> => {
      for await (const _ of (await own.readStored(blob.key.digest, stop.signal))!) stop.abort(new AgentError('ROLLOUT_STOPPED', 'stopped'));
    };
    await expect(read()).rejects.toMatchObject({ code: 'ROLLOUT_STOPPED' });
    expect(store.pins.get(blob.key.digest)).toBe(0);
  });
});
