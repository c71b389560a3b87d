import type { BlobKey } from '@flotilla/shared/chunk-map';
import { beforeEach, expect, test } from 'vitest';
import { ChunkJournal } from './chunk-journal.ts';
import type { IndexDb } from './index-db.ts';

type Batch = ReadonlyMap<number, Uint8Array | undefined>;

const key = { digest: `sha256:${'a'.repeat(64)}`, size: 1, chunkSize: 1 } as unknown as BlobKey;
const digest = new Uint8Array(32).fill(1);

/** Batches given to the index, each with what ends its write. */
let writes: { batch: Batch; done: PromiseWithResolvers<void> }[];
let failures: unknown[];
let journal: ChunkJournal;

beforeEach(() => {
  writes = [];
  failures = [];
  const index = {
    putChunks: (_: BlobKey, batch: Batch) => {
      const done = Promise.withResolvers<void>();
      writes.push({ batch, done });
      return done.promise;
    },
  } as unknown as IndexDb;
  journal = new ChunkJournal(key, index, (error) => failures.push(error));
});

const turn = () => new Promise((resolve) => setImmediate(resolve));
const indices = () => writes.map(({ batch }) => [...batch.keys()]);

test('a record is given to the index before anything else happens', async () => {
  journal.record(0, digest);
  await Promise.resolve();

  expect(indices()).toEqual([[0]]);
});

test('what comes up during a write waits for it, and goes together', async () => {
  journal.record(0, digest);
  await turn();
  journal.record(1, digest);
  journal.record(2, digest);
  journal.record(1, undefined);
  await turn();
  expect(indices()).toEqual([[0]]);

  writes[0]!.done.resolve();
  await turn();

  expect(indices()).toEqual([[0], [1, 2]]);
  expect(writes[1]!.batch.get(1)).toBeUndefined();
});

test('is settled once all is written, or has failed and was told', async () => {
  journal.record(0, digest);
  await turn();
  journal.record(1, digest);
  let settled = false;
  const settling = journal.settled().then(() => (settled = true));
  writes[0]!.done.reject(new Error('disk full'));
  await turn();
  expect(settled).toBe(false);

  writes[1]!.done.resolve();
  await settling;

  expect(failures).toEqual([new Error('disk full')]);
});
