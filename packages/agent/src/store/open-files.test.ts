import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { nodeDiskIo } from './disk-io.ts';
import { DataFile, OpenFiles } from './open-files.ts';
import { testFolder } from './store.test-support.ts';

async function setUp(count: number, maxIdle: number): Promise<{ files: OpenFiles; data: DataFile[]; opens: string[] }> {
  const dir = await testFolder();
  const data: DataFile[] = [];
  for (let i = 0; i < count; i++) {
    await writeFile(join(dir, `${i}`), `file ${i}`);
    data.push(new DataFile(join(dir, `${i}`), false));
  }
  const opens: string[] = [];
  const files = new OpenFiles({ ...nodeDiskIo, open: (path, writable) => (opens.push(path), nodeDiskIo.open(path, writable)) }, maxIdle);
  onTestFinished(() => files.close());
  return { files, data, opens };
}

async function text(files: OpenFiles, file: DataFile): Promise<string> {
  const into = Buffer.alloc(10);
  return into.subarray(0, await files.use(file, (handle) => nodeDiskIo.read(handle, into, 0))).toString();
}

describe('OpenFiles', () => {
  it('opens a file once for many reads, also at the same moment', async () => {
    const { files, data, opens } = await setUp(1, 4);
    expect(await Promise.all([1, 2, 3].map(() => text(files, data[0]!)))).toEqual(['file 0', 'file 0', 'file 0']);
    expect(await text(files, data[0]!)).toBe('file 0');
    expect(opens).toHaveLength(1);
  });

  it('closes the handle that was used longest ago', async () => {
    const { files, data, opens } = await setUp(3, 2);
    for (const i of [0, 1, 0, 2, 0]) await text(files, data[i]!);
    expect(files.size).toBe(2);
    expect(opens).toHaveLength(3);
    await text(files, data[1]!);
    expect(opens).toHaveLength(4);
  });

  it('lets a read end though the file is removed and forgotten', async () => {
    const { files, data } = await setUp(1, 4);
    const file = data[0]!;
    const gate = Promise.withResolvers<void>();
    const started = Promise.withResolvers<void>();
    const into = Buffer.alloc(6);
    const reading = files.use(file, async (handle) => {
      started.resolve();
      await gate.promise;
      return nodeDiskIo.read(handle, into, 0);
    });
    await started.promise;
    expect(files.busy(file)).toBe(true);
    await rm(file.path);
    const forgotten = files.forget(file);
    gate.resolve();
    expect(await reading).toBe(6);
    await forgotten;
    expect(into.toString()).toBe('file 0');
    await expect(text(files, file)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('tries anew after a file could not be opened', async () => {
    const { files, data } = await setUp(1, 4);
    const file = new DataFile(`${data[0]!.path}.later`, false);
    await expect(text(files, file)).rejects.toMatchObject({ code: 'ENOENT' });
    await writeFile(file.path, 'now');
    expect(await text(files, file)).toBe('now');
  });

  it('waits for readers when it is closed, and serves nobody afterwards', async () => {
    const { files, data } = await setUp(2, 4);
    const reading = text(files, data[0]!);
    await files.close();
    expect(await reading).toBe('file 0');
    expect(files.size).toBe(0);
    await expect(text(files, data[1]!)).rejects.toMatchObject({ code: 'INTERNAL' });
  });
});
