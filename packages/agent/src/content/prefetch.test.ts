import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { parseDigest, type Digest } from '@flotilla/shared/digest';
import type { ManifestReference } from './manifest.ts';
import { Prefetch } from './prefetch.ts';
import type { Permit } from './ports.ts';
import { Events } from './test-ports.ts';

const PERMIT: Permit = { repository: { origin: 'docker.io', repository: 'library/big' }, authority: { kind: 'anonymous' }, private: false };

function digestOf(n: number): Digest {
  return parseDigest(`sha256:${n.toString(16).padStart(64, '0')}`);
}

function image(blobs: number, from = 0): ManifestReference[] {
  return Array.from({ length: blobs }, (_, i) => ({ digest: digestOf(from + i), size: 10, mediaType: 'application/x', kind: 'blob' as const }));
}

/** Fetches end when the test says so. */
class Fetches {
  readonly started = new Events<{ digest: Digest; signal: AbortSignal; end(error?: Error): void }>();
  readonly errors: unknown[] = [];
  readonly permits: Permit[] = [];
  readonly fetch = (permit: Permit, { digest }: ManifestReference, signal: AbortSignal): Promise<void> => {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    signal.addEventListener('abort', () => reject(signal.reason as Error));
    this.permits.push(permit);
    this.started.push({ digest, signal, end: (error) => (error ? reject(error) : resolve()) });
    return promise;
  };
}

let fetches: Fetches;
let prefetch: Prefetch;
beforeEach(() => {
  vi.useFakeTimers();
  fetches = new Fetches();
  prefetch = new Prefetch(fetches.fetch, (error) => fetches.errors.push(error));
});
afterEach(() => {
  prefetch.close();
  expect(vi.getTimerCount()).toBe(0);
  vi.useRealTimers();
});

function open(...numbers: number[]): (() => void)[] {
  return numbers.map((n) => prefetch.opened(PERMIT, digestOf(n)));
}

describe('the rest of an image is fetched', () => {
  test('once a client has asked for as many blobs as it opens at once', async () => {
    prefetch.remember(PERMIT, digestOf(999), image(20));
    open(0, 1, 2, 3, 4);
    expect(fetches.started.all).toEqual([]);
    open(4);
    expect(fetches.started.all).toEqual([]);
    open(5);
    expect(fetches.started.all.map(({ digest }) => digest)).toEqual([6, 7, 8, 9, 10, 11].map(digestOf));
    fetches.started.all[0]!.end();
    expect((await fetches.started.when(({ digest }) => digest === digestOf(12))).signal.aborted).toBe(false);
  });

  test('not of an image that a client reads at once anyway', () => {
    prefetch.remember(PERMIT, digestOf(999), image(6));
    open(0, 1, 2, 3, 4, 5);
    expect(fetches.started.all).toEqual([]);
  });

  test('without child manifests and layers that are not in the registry', () => {
    const foreign = image(3, 100).map((reference) => ({ ...reference, mediaType: 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip' }));
    const children = image(3, 200).map((reference) => ({ ...reference, kind: 'manifest' as const }));
    prefetch.remember(PERMIT, digestOf(999), [...foreign, ...children, ...image(7)]);
    open(0, 1, 2, 3, 4, 5);
    expect(fetches.started.all.map(({ digest }) => digest)).toEqual([digestOf(6)]);
  });

  test('only where the setting says so', () => {
    const off = new Prefetch(fetches.fetch, () => {}, { enabled: false });
    off.remember(PERMIT, digestOf(999), image(20));
    for (let n = 0; n < 6; n++) off.opened(PERMIT, digestOf(n));
    expect(fetches.started.all).toEqual([]);
  });
});

describe('rights', () => {
  const b: Permit = { ...PERMIT, repository: { origin: 'docker.io', repository: 'library/other' } };
  const ann: Permit = { ...PERMIT, authority: { kind: 'caller', id: 'ann', authorization: 'Basic YTph' }, private: true };

  test('a blob that is opened in one repository has nothing fetched of another', () => {
    prefetch.remember(PERMIT, digestOf(999), image(20));
    for (let n = 0; n < 6; n++) prefetch.opened(b, digestOf(n));
    expect(fetches.started.all).toEqual([]);
    prefetch.remember(b, digestOf(999), image(20));
    for (let n = 0; n < 6; n++) prefetch.opened(b, digestOf(n));
    expect(fetches.permits).toEqual(Array.from({ length: 6 }, () => b));
  });

  test('the rest is read with the right of the caller that came last', () => {
    prefetch.remember(PERMIT, digestOf(999), image(20));
    open(0, 1, 2, 3, 4);
    prefetch.opened(ann, digestOf(5));
    expect(fetches.permits).toEqual(Array.from({ length: 6 }, () => ann));
  });
});

test('a failed fetch is told, and the next one begins', async () => {
  prefetch.remember(PERMIT, digestOf(999), image(20));
  open(0, 1, 2, 3, 4, 5);
  fetches.started.all[0]!.end(new Error('no'));
  await fetches.started.when(({ digest }) => digest === digestOf(12));
  expect(fetches.errors).toEqual([new Error('no')]);
});

describe('a client that has gone', () => {
  test('stops it, after the time between two layers', () => {
    prefetch.remember(PERMIT, digestOf(999), image(20));
    const closers = open(0, 1, 2, 3, 4, 5);
    for (const close of closers) close();
    vi.advanceTimersByTime(4999);
    expect(fetches.started.all[0]!.signal.aborted).toBe(false);
    vi.advanceTimersByTime(1);
    expect(fetches.started.all.every(({ signal }) => signal.aborted)).toBe(true);
    expect(fetches.errors).toEqual([]);
  });

  test('and comes back in time, stops nothing', () => {
    prefetch.remember(PERMIT, digestOf(999), image(20));
    for (const close of open(0, 1, 2, 3, 4, 5)) close();
    vi.advanceTimersByTime(4000);
    open(6);
    vi.advanceTimersByTime(60_000);
    expect(fetches.started.all[0]!.signal.aborted).toBe(false);
  });

  test('counts once, however often it says so', () => {
    prefetch.remember(PERMIT, digestOf(999), image(20));
    const [first] = open(0, 1, 2, 3, 4, 5);
    for (let i = 0; i < 6; i++) first!();
    vi.advanceTimersByTime(60_000);
    expect(fetches.started.all[0]!.signal.aborted).toBe(false);
  });

  test('and pulls the image again later, starts it again', () => {
    prefetch.remember(PERMIT, digestOf(999), image(8));
    for (const close of open(0, 1, 2, 3, 4, 5)) close();
    vi.advanceTimersByTime(5000);
    open(0, 1, 2, 3, 4, 5);
    expect(fetches.started.all.filter(({ signal }) => !signal.aborted).map(({ digest }) => digest)).toEqual([6, 7].map(digestOf));
  });
});

test('images beyond the bound are forgotten, their fetches stopped', () => {
  prefetch.remember(PERMIT, digestOf(900_000), image(20));
  for (const close of open(0, 1, 2, 3, 4, 5)) close();
  for (let i = 1; i <= 256; i++) prefetch.remember(PERMIT, digestOf(900_000 + i), image(7, i * 100));
  expect(fetches.started.all.every(({ signal }) => signal.aborted)).toBe(true);
  open(0, 1, 2, 3, 4, 5);
  expect(fetches.started.all.filter(({ signal }) => !signal.aborted)).toEqual([]);
});
