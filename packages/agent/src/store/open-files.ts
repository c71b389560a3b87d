// Open file handles, kept for the next read. At most `maxIdle` handles that nobody uses at the moment stay open (least
// recently used closed first); those in use are bounded by the reads and writes that their callers have under way.
// A file that was removed while it is read stays readable for that read: its handle is closed only afterwards.

import type { FileHandle } from 'node:fs/promises';
import { AgentError } from '../errors.ts';
import type { DiskIo } from './disk-io.ts';

const MAX_IDLE_HANDLES = 64;

/** A file of the store. A partial's moves and is written no more once it is a blob; an open handle outlives that. */
export class DataFile {
  path: string;
  writable: boolean;

  constructor(path: string, writable: boolean) {
    this.path = path;
    this.writable = writable;
  }
}

interface Opened {
  readonly handle: Promise<FileHandle>;
  users: number;
  /** Set when it was taken out of the pool: called when its last user is done. */
  onFree: (() => void) | undefined;
}

export class OpenFiles {
  readonly #io: DiskIo;
  readonly #maxIdle: number;
  /** Least recently used first. */
  readonly #opened = new Map<DataFile, Opened>();
  #closed = false;

  constructor(io: DiskIo, maxIdle = MAX_IDLE_HANDLES) {
    this.#io = io;
    this.#maxIdle = maxIdle;
  }

  get size(): number {
    return this.#opened.size;
  }

  /** Whether somebody reads or writes the file at this moment. */
  busy(file: DataFile): boolean {
    return (this.#opened.get(file)?.users ?? 0) > 0;
  }

  /** Runs `work` with the file's handle, which stays open at least until it is done. */
  async use<T>(file: DataFile, work: (handle: FileHandle) => Promise<T>): Promise<T> {
    if (this.#closed) throw new AgentError('INTERNAL', 'the store is closed');
    const known = this.#opened.get(file);
    const opened = known ?? { handle: this.#io.open(file.path, file.writable), users: 0, onFree: undefined };
    this.#opened.delete(file);
    this.#opened.set(file, opened);
    opened.users++;
    try {
      return await work(await this.#handleOf(file, opened));
    } finally {
      opened.users--;
      if (opened.users === 0) opened.onFree?.();
      if (this.#opened.size > this.#maxIdle) await this.#trim();
    }
  }

  /** Closes the file's handle as soon as nobody uses it; resolves when it is closed. Never rejects. */
  async forget(file: DataFile): Promise<void> {
    const opened = this.#opened.get(file);
    if (opened === undefined) return;
    this.#opened.delete(file);
    if (opened.users > 0) {
      await new Promise<void>((resolve) => {
        opened.onFree = resolve;
      });
    }
    // A handle that could not be opened was reported to whoever wanted to use it.
    const handle = await opened.handle.catch(() => undefined);
    // Closing can only fail for data that was never synced, and nothing unsynced is trusted.
    await handle?.close().catch(() => undefined);
  }

  /** Waits for all that is under way, then closes every handle. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#opened.keys()].map((file) => this.forget(file)));
  }

  async #handleOf(file: DataFile, opened: Opened): Promise<FileHandle> {
    try {
      return await opened.handle;
    } catch (error) {
      if (this.#opened.get(file) === opened) this.#opened.delete(file);
      throw error;
    }
  }

  async #trim(): Promise<void> {
    const idle: DataFile[] = [];
    for (const [file, { users }] of this.#opened) if (users === 0) idle.push(file);
    await Promise.all(idle.slice(0, Math.max(0, idle.length - this.#maxIdle)).map((file) => this.forget(file)));
  }
}
