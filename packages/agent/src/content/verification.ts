// The digest of a whole blob, computed in order while chunks arrive out of order, off the main thread.

import { Worker } from 'node:worker_threads';
import { digestAlgorithm, digestHex, type Digest } from '@flotilla/shared/digest';
import type { HashCommand, HashReply } from './hash-worker.ts';

/** Where the next bytes of a blob are read from. */
export type HashInput = { readonly path: string; readonly start: number; readonly end: number } | { readonly bytes: Uint8Array };

interface Waiting {
  resolve(hex: string | undefined): void;
  reject(error: Error): void;
}

/** A few worker threads that hash whole blobs; each blob stays on one of them. */
export class HashPool {
  readonly #threads: HashThread[];
  #next = 0;

  constructor(threads = 1) {
    this.#threads = Array.from({ length: threads }, () => new HashThread());
  }

  open(digest: Digest): BlobHasher {
    const thread = this.#threads[this.#next++ % this.#threads.length]!;
    return new BlobHasher(thread, digest);
  }

  async close(): Promise<void> {
    await Promise.all(this.#threads.map((thread) => thread.close()));
  }
}

/** The running hash of one blob. Calls are carried out in the order they are made. */
export class BlobHasher {
  readonly #thread: HashThread;
  readonly #digest: Digest;
  #id: number;

  constructor(thread: HashThread, digest: Digest) {
    this.#thread = thread;
    this.#digest = digest;
    this.#id = thread.open(digestAlgorithm(digest));
  }

  /** Feeds the bytes that follow the last ones. */
  async feed(input: HashInput): Promise<void> {
    await this.#thread.ask(
      'bytes' in input
        ? (ticket) => ({ type: 'bytes', id: this.#id, ticket, bytes: input.bytes })
        : (ticket) => ({ type: 'file', id: this.#id, ticket, ...input }),
    );
  }

  /** Whether all that was fed has the blob's digest. Ends the hash. */
  async matches(): Promise<boolean> {
    const hex = await this.#thread.ask((ticket) => ({ type: 'digest', id: this.#id, ticket }));
    return hex === digestHex(this.#digest);
  }

  /** Starts again from the first byte. */
  reset(): void {
    this.close();
    this.#id = this.#thread.open(digestAlgorithm(this.#digest));
  }

  close(): void {
    this.#thread.send({ type: 'close', id: this.#id });
  }
}

class HashThread {
  readonly #worker = new Worker(new URL('./hash-worker.ts', import.meta.url));
  readonly #waiting = new Map<number, Waiting>();
  #ids = 0;
  #tickets = 0;
  #failure: Error | undefined;

  constructor() {
    this.#worker.unref();
    this.#worker.on('message', (reply: HashReply) => {
      const waiting = this.#waiting.get(reply.ticket);
      this.#waiting.delete(reply.ticket);
      if (reply.error === undefined) waiting?.resolve(reply.hex);
      else waiting?.reject(new Error(`hashing failed: ${reply.error}`));
    });
    this.#worker.on('error', (error) => this.#fail(error instanceof Error ? error : new Error(String(error))));
    this.#worker.on('exit', () => this.#fail(new Error('hash worker has ended')));
  }

  open(algorithm: string): number {
    const id = ++this.#ids;
    this.send({ type: 'open', id, algorithm });
    return id;
  }

  send(command: HashCommand): void {
    if (this.#failure === undefined) this.#worker.postMessage(command);
  }

  ask(command: (ticket: number) => HashCommand): Promise<string | undefined> {
    return new Promise((resolve, reject) => {
      if (this.#failure !== undefined) {
        reject(this.#failure);
        return;
      }
      const ticket = ++this.#tickets;
      this.#waiting.set(ticket, { resolve, reject });
      this.#worker.postMessage(command(ticket));
    });
  }

  async close(): Promise<void> {
    await this.#worker.terminate();
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    for (const waiting of this.#waiting.values()) waiting.reject(this.#failure);
    this.#waiting.clear();
  }
}
