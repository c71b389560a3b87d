// Loaded into an agent that shall have a slow disk or a full processor (`node --import`), while the file that FAULT_FILE names says `disk` or `cpu`.
// It wraps the agent's disk from outside and keeps its main thread at work; the agent itself has no code for it.

import { readFileSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { isMainThread } from 'node:worker_threads';
import { nodeDiskIo } from '@flotilla/agent/store/disk-io';

const LOOK_MS = 50;
/** A disk that does one write at a time. */
const WRITE_MS = 400;
const BUSY_MS = 900;

const file = process.env['FAULT_FILE'];
let fault = '';
setInterval(() => {
  fault = file === undefined ? '' : readFileSync(file, 'utf8').trim();
  if (fault === 'cpu' && isMainThread) keepBusy();
}, LOOK_MS).unref();

let disk: Promise<unknown> = Promise.resolve();
const honest = { ...nodeDiskIo };
Object.assign(nodeDiskIo, {
  write: (...args: Parameters<typeof honest.write>) => {
    if (fault !== 'disk') return honest.write(...args);
    const written = disk.then(() => delay(WRITE_MS)).then(() => honest.write(...args));
    disk = written.catch(() => undefined);
    return written;
  },
} satisfies Partial<typeof nodeDiskIo>);

function keepBusy(): void {
  const untilMs = performance.now() + BUSY_MS;
  while (performance.now() < untilMs) Math.sqrt(untilMs);
}
