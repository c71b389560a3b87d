// Uses memory once before the clock starts: a virtual machine whose free memory goes back to its host pays for each page that it uses
// again, ten times what writing to it costs. Agents that store an image would be counted with that, and a transfer without a disk would not.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { freemem } from 'node:os';

/** Of the memory that the machine can give, what it caches of files included. */
const MOST = 0.5;
/** What a host uses besides the image. */
const HOST_BYTES = 64 * 1024 * 1024;
/** The agent's and its client's. */
const COPIES = 2;
const TOUCH = `const pieces = []; for (let left = Number(process.argv[1]); left > 0; left -= 2 ** 26) pieces.push(Buffer.alloc(Math.min(left, 2 ** 26), 1));`;

/**
 * Writes to as much memory as `hosts` hosts will use for an image of `imageBytes`, and gives it back: what is used next are the same pages. No more
 * than half of what there is. @throws where the program that does it is ended, by `signal` or otherwise
 */
export async function useMemoryOnce(hosts: number, imageBytes: number, signal: AbortSignal): Promise<void> {
  const bytes = Math.min(hosts * (HOST_BYTES + COPIES * imageBytes), Math.floor(freemem() * MOST));
  const child = spawn(process.execPath, ['-e', TOUCH, String(bytes)], { stdio: 'ignore', killSignal: 'SIGKILL', signal });
  const [code] = await once(child, 'exit');
  if (code !== 0) throw new Error(`the program that uses memory once ended with ${code}`);
}
