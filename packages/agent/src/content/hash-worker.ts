// Hashes whole blobs on a worker thread: in order, from the partial's file where there is one, from bytes otherwise.

import { createHash, type Hash } from 'node:crypto';
import { closeSync, openSync, readSync } from 'node:fs';
import { parentPort } from 'node:worker_threads';

/** Messages to the worker; `id` names one blob's running hash. Answered with HashReply for all but `close`. */
export type HashCommand =
  | { readonly type: 'open'; readonly id: number; readonly algorithm: string }
  | { readonly type: 'file'; readonly id: number; readonly ticket: number; readonly path: string; readonly start: number; readonly end: number }
  | { readonly type: 'bytes'; readonly id: number; readonly ticket: number; readonly bytes: Uint8Array }
  | { readonly type: 'digest'; readonly id: number; readonly ticket: number }
  | { readonly type: 'close'; readonly id: number };

export interface HashReply {
  readonly ticket: number;
  /** lower-case hex, for `digest` */
  readonly hex?: string;
  readonly error?: string;
}

const READ_BYTES = 1024 * 1024;
const hashes = new Map<number, Hash>();
const buffer = Buffer.allocUnsafe(READ_BYTES);

function hashFile(hash: Hash, path: string, start: number, end: number): void {
  const file = openSync(path, 'r');
  try {
    for (let at = start; at < end; ) {
      const read = readSync(file, buffer, 0, Math.min(READ_BYTES, end - at), at);
      if (read === 0) throw new Error(`file ends at ${at}, not at ${end}`);
      hash.update(buffer.subarray(0, read));
      at += read;
    }
  } finally {
    closeSync(file);
  }
}

function run(command: HashCommand): HashReply | undefined {
  if (command.type === 'open') {
    hashes.set(command.id, createHash(command.algorithm));
    return undefined;
  }
  if (command.type === 'close') {
    hashes.delete(command.id);
    return undefined;
  }
  const hash = hashes.get(command.id);
  const { ticket } = command;
  if (hash === undefined) return { ticket, error: 'no such hash' };
  switch (command.type) {
    case 'bytes':
      hash.update(command.bytes);
      // A copy of this thread's own: freed now, not at this thread's next collection.
      (command.bytes.buffer as ArrayBuffer).transfer(0);
      return { ticket };
    case 'file':
      hashFile(hash, command.path, command.start, command.end);
      return { ticket };
    case 'digest':
      return { ticket, hex: hash.digest('hex') };
  }
}

parentPort?.on('message', (command: HashCommand) => {
  let reply: HashReply | undefined;
  try {
    reply = run(command);
  } catch (error) {
    reply = { ticket: 'ticket' in command ? command.ticket : -1, error: String(error) };
  }
  if (reply !== undefined) parentPort?.postMessage(reply);
});
