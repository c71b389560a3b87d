// Loaded into an agent before its own code (`node --import`): notes which chunk came from whom when, into LAB_TRACE_FILE.
// It wraps public methods of the swarm and the download from outside, so that the agent itself carries nothing for it.
// Lines: {atMs (Unix), blob, event: ask | peer | origin | grant, chunk, from (peer id), tookMs, bytes, ...}

import { appendFileSync } from 'node:fs';
import { Download } from '@flotilla/agent/content/download';
import { BlobSwarm } from '@flotilla/agent/swarm/blob-swarm';

const FLUSH_MS = 300;

const file = process.env['LAB_TRACE_FILE'];
if (file !== undefined) record(file);

function record(file: string): void {
  // Bounded by the flush: what a link carries in that time.
  let lines: string[] = [];
  const write = (digest: string, fields: Record<string, unknown>): void => {
    lines.push(`${JSON.stringify({ atMs: Date.now(), blob: digest.slice(7, 15), ...fields })}\n`);
  };
  const flush = (): void => {
    if (lines.length > 0) appendFileSync(file, lines.join(''));
    lines = [];
  };
  setInterval(flush, FLUSH_MS).unref();
  process.once('exit', flush);
  traceSwarm(write);
  traceLeases(write);
}

type Write = (digest: string, fields: Record<string, unknown>) => void;

/** Replaces a method by one made around it. */
function around<T extends object, K extends keyof T>(prototype: T, name: K, make: (original: T[K]) => T[K]): void {
  prototype[name] = make(prototype[name]);
}

function traceSwarm(write: Write): void {
  /** Chunks of which a peer's copy is being checked: their announcement is no news. */
  const fromPeers = new WeakMap<BlobSwarm, Set<number>>();
  const swarm = BlobSwarm.prototype;
  around(swarm, 'pick', (pick) => function (this: BlobSwarm, link, nowMs) {
    const fetch = pick.call(this, link, nowMs);
    if (fetch !== undefined) write(this.key.digest, { event: 'ask', chunk: fetch.index, from: link.peerId });
    return fetch;
  });
  around(swarm, 'arrived', (arrived) => function (this: BlobSwarm, link, arrival, nowMs) {
    const { index, sinceMs } = arrival.fetch;
    write(this.key.digest, { event: 'peer', chunk: index, from: link.peerId, bytes: arrival.bytes.length, tookMs: Math.round(nowMs - sinceMs) });
    let seen = fromPeers.get(this);
    if (seen === undefined) fromPeers.set(this, (seen = new Set()));
    seen.add(index);
    arrived.call(this, link, arrival, nowMs);
  });
  around(swarm, 'announce', (announce) => function (this: BlobSwarm, indexes) {
    for (const index of indexes) if (fromPeers.get(this)?.delete(index) !== true) write(this.key.digest, { event: 'origin', chunk: index });
    announce.call(this, indexes);
  });
}

function traceLeases(write: Write): void {
  around(Download.prototype, 'grant', (grant) => function (this: Download, lease) {
    write(this.key.digest, { event: 'grant', lease: lease.leaseId, mode: lease.mode, first: lease.first, count: lease.count });
    grant.call(this, lease);
  });
}
