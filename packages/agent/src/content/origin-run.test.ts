import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { NoRangesError, readOriginRun, type OriginChunk } from './origin-run.ts';
import type { Origin, OriginBody } from './ports.ts';
import type { SourceRight } from './sources.ts';
import { CHUNK, Gate, makeBlob, TestOrigin, type TestBlob } from './test-ports.ts';

const RIGHT: SourceRight = { source: { origin: 'docker.io', repository: 'library/nginx', kind: 'blob' }, authority: { kind: 'agent' } };
const blob = makeBlob(6 * CHUNK + 100);

async function run(origin: Origin, first: number, count: number, { of = blob, whole = false } = {}): Promise<OriginChunk[]> {
  const chunks: OriginChunk[] = [];
  for await (const chunk of readOriginRun(origin, RIGHT, of.key, { first, count, whole }, () => {}, new AbortController().signal)) chunks.push(chunk);
  return chunks;
}

function originOf(...blobs: TestBlob[]): TestOrigin {
  const origin = new TestOrigin();
  for (const each of blobs) origin.add(each);
  return origin;
}

/** An origin that answers with these pieces, whatever was asked. */
function answering(answer: Omit<Partial<OriginBody>, 'body'>, pieces: readonly Uint8Array[]): { origin: Origin; cancelled: () => number } {
  let cancelled = 0;
  const body: OriginBody = {
    start: 0,
    size: undefined,
    ranged: true,
    ...answer,
    body: (async function* () {
      yield* pieces;
    })(),
    cancel: () => cancelled++,
  };
  const origin = originOf();
  origin.read = async () => body;
  return { origin, cancelled: () => cancelled };
}

describe('a run', () => {
  test('is one bounded range, cut into whole chunks', async () => {
    const origin = originOf(blob);
    const chunks = await run(origin, 2, 3);
    expect(chunks.map(({ index }) => index)).toEqual([2, 3, 4]);
    for (const { index, bytes } of chunks) expect(new Uint8Array(bytes)).toEqual(blob.chunk(index));
    expect(origin.events.all.filter((event) => event.type === 'read').map((event) => event.range)).toEqual([{ start: 2 * CHUNK, end: 5 * CHUNK }]);
  });

  test('has the short last chunk', async () => {
    const chunks = await run(originOf(blob), 5, 2);
    expect(chunks.map(({ bytes }) => bytes.length)).toEqual([CHUNK, 100]);
  });

  test('of the whole blob is asked for without Range', async () => {
    const origin = originOf(blob);
    origin.ranges = false;
    expect(await run(origin, 0, 7)).toHaveLength(7);
    expect(origin.events.all.find((event) => event.type === 'read')).toMatchObject({ range: undefined });
  });

  test('each buffer is of its own, of the exact size', async () => {
    const chunks = await run(originOf(blob), 0, 7);
    for (const { bytes } of chunks) expect(bytes.buffer.byteLength).toBe(bytes.length);
    expect(new Set(chunks.map(({ bytes }) => bytes.buffer)).size).toBe(7);
  });

  test('is cut alike however the socket splits it', async () => {
    const { start, end } = { start: CHUNK, end: 4 * CHUNK };
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 0, max: 3 * CHUNK }), { maxLength: 12 }), async (cuts) => {
        const edges = [0, ...cuts.sort((a, b) => a - b), end - start];
        const bytes = blob.bytes.subarray(start, end);
        const pieces = edges.slice(1).map((edge, i) => bytes.subarray(edges[i], edge));
        const { origin, cancelled } = answering({ start, size: blob.key.size }, pieces);
        const chunks = await run(origin, 1, 3);
        expect(chunks.map(({ index }) => index)).toEqual([1, 2, 3]);
        expect(Buffer.concat(chunks.map((chunk) => chunk.bytes)).equals(bytes)).toBe(true);
        expect(cancelled()).toBe(1);
      }),
      { numRuns: 40 },
    );
  });
});

describe('an origin that', () => {
  test('ignores Range: nothing of the answer is read', async () => {
    const origin = originOf(blob);
    origin.ranges = false;
    await expect(run(origin, 1, 2)).rejects.toBeInstanceOf(NoRangesError);
    expect(origin.bytesSent).toBe(0);
  });

  test('ignores Range, where the whole is taken: all chunks, from the first on', async () => {
    const origin = originOf(blob);
    origin.ranges = false;
    expect((await run(origin, 3, 4, { whole: true })).map(({ index }) => index)).toEqual([0, 1, 2, 3, 4, 5, 6]);
  });

  test.each([
    ['sends less', (bytes: Uint8Array) => bytes.subarray(0, bytes.length - 1)],
    ['ends between two chunks', (bytes: Uint8Array) => bytes.subarray(0, CHUNK)],
    ['sends nothing', () => new Uint8Array()],
    ['sends more', (bytes: Uint8Array) => new Uint8Array(Buffer.concat([bytes, Buffer.alloc(1)]))],
    ['sends a chunk more', (bytes: Uint8Array) => new Uint8Array(Buffer.concat([bytes, Buffer.alloc(CHUNK)]))],
  ])('%s', async (_, send) => {
    for (const [first, count] of [[1, 2], [0, 7], [5, 2]] as const) {
      const origin = originOf(blob);
      origin.send = send;
      await expect(run(origin, first, count)).rejects.toMatchObject({ code: 'ORIGIN_LENGTH' });
    }
  });

  test('has another size than was said', async () => {
    const { origin, cancelled } = answering({ start: CHUNK, size: 5 }, []);
    await expect(run(origin, 1, 1)).rejects.toMatchObject({ code: 'ORIGIN_LENGTH' });
    expect(cancelled()).toBe(1);
  });

  test('answers with another range', async () => {
    const { origin } = answering({ start: 0, size: blob.key.size }, [blob.chunk(0)]);
    await expect(run(origin, 1, 1)).rejects.toMatchObject({ code: 'ORIGIN_LENGTH' });
  });
});

test('an abort ends the read at once', async () => {
  const origin = originOf(blob);
  const gate = new Gate();
  origin.beforePiece = (at, signal) => (at > CHUNK ? gate.pass(signal) : undefined);
  const abort = new AbortController();
  const reading = (async () => {
    for await (const { index } of readOriginRun(origin, RIGHT, blob.key, { first: 0, count: 7, whole: false }, () => {}, abort.signal)) expect(index).toBe(0);
  })();
  await gate.reached;
  abort.abort(new Error('enough'));
  await expect(reading).rejects.toThrow('enough');
});
