// A process that is killed while it stores blobs; run by crash.test.ts, which sees to the rest.
//
//   node crash.test-child.ts DIR steps N   stores one blob, and kills itself before its N-th call of the file system
//   node crash.test-child.ts DIR loop SEED pulls blobs in any order until it is killed, a line of output for each step

import { openStore } from './blob-store.ts';
import { nodeDiskIo, type DiskIo } from './disk-io.ts';
import { crashBlob, CRASH_BLOBS } from './test-blob.test-support.ts';

const [, , dir = '', mode, argument = ''] = process.argv;

/** Kills this process, as hard as can be, before call number `last`. */
function dyingIo(last: number): DiskIo {
  let calls = 0;
  return Object.fromEntries(
    Object.entries(nodeDiskIo).map(([name, call]: [string, (...args: never[]) => unknown]) => [
      name,
      async (...args: never[]): Promise<unknown> => {
        calls++;
        if (calls === last) {
          process.kill(process.pid, 'SIGKILL');
          await new Promise(() => {});
        }
        return call.apply(nodeDiskIo, args);
      },
    ]),
  ) as unknown as DiskIo;
}

async function steps(last: number): Promise<void> {
  const store = await openStore({ dir, minFreeShare: 0, io: dyingIo(last) });
  const blob = crashBlob(0);
  const partial = await store.openPartial(blob.key);
  for (const [index, { digest, bytes }] of blob.chunks.entries()) {
    await partial.write(index, digest, bytes);
    // Nothing is dropped; but it resolves when all that came before has been recorded.
    await partial.drop([]);
  }
  await partial.finish('application/x-crash');
  await partial.close(true);
  await store.close();
}

async function loop(seed: number): Promise<void> {
  let state = seed;
  const random = (below: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  // The limit is too small for all of them, so that there is eviction as well.
  const store = await openStore({ dir, minFreeShare: 0, limitBytes: 2 * 1024 * 1024 });
  for (;;) {
    const blob = crashBlob(random(CRASH_BLOBS));
    if ((await store.find(blob.key.digest)) !== undefined) {
      process.stdout.write('found\n');
      continue;
    }
    const partial = await store.openPartial(blob.key);
    const missing = [...blob.chunks.keys()].filter((index) => !partial.have.has(index));
    const stopAt = random(3) === 0 ? random(missing.length) : missing.length;
    const writes = missing.sort(() => random(3) - 1).slice(0, stopAt);
    await Promise.all(
      writes.map(async (index) => {
        await partial.write(index, blob.chunks[index]!.digest, blob.chunks[index]!.bytes);
        process.stdout.write('chunk\n');
      }),
    );
    if (partial.have.full) await partial.finish(undefined);
    process.stdout.write('finish\n');
    await partial.close(random(8) > 0);
    process.stdout.write('close\n');
  }
}

await (mode === 'steps' ? steps(Number(argument)) : loop(Number(argument)));
