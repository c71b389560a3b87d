// What the operators' view costs the tracker while 2,000 hosts pull: CPU per second of the fleet's time, of one core.
//
// The dashboard's part is all that would not be there without it: reading the longer stats (JSON, schema), keeping hosts up to date, the look each
// second, the bytes for whoever listens, and the lists that pages ask for after a change, each second: images, finished pulls, who got bytes from one
// host (30,000 pulls are kept). It is measured against the same fleet without a view; leases and swarms are not in it.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MessageBatch, type AgentMessage } from '@flotilla/shared/tracker-api';
import { Fleet } from '@flotilla/tracker/fleet';
import { createLogger } from '@flotilla/tracker/log';
import { AuditLog } from '@flotilla/tracker/operators/audit-log';
import { State } from '@flotilla/tracker/state';
import { ImagePages } from '@flotilla/tracker/view/image-pages';
import { registerTopics } from '@flotilla/tracker/view/live-topics';
import { View } from '@flotilla/tracker/view/view';
import { Compile } from 'typebox/compile';
import { GeneratedFleet } from '../support/generated-fleet.ts';

export const MAX_CORE_SHARE = 0.2;
const LISTENERS = 5;
const SECONDS = 30;
const WARM_UP = 5;
const KEPT_PULLS = 30_000;

export interface ViewResult {
  readonly hosts: number;
  readonly seconds: number;
  readonly listeners: number;
  /** Mean CPU ms per second. */
  readonly cpuMs: { readonly read: number; readonly intake: number; readonly look: number; readonly lists: number };
  /** Of the slowest look. */
  readonly longestLookMs: number;
  readonly coreShare: number;
  /** Per listener of fleet, hosts and the image: bytes per second, and of the snapshots. */
  readonly deltaBytes: number;
  readonly snapshotBytes: number;
  readonly ok: boolean;
}

interface Measured {
  readonly readMs: number;
  readonly takeMs: number;
  readonly lookMs: number;
  readonly listsMs: number;
  readonly longestLookMs: number;
  readonly bytes: number;
  readonly snapshotBytes: number;
}

export async function benchView(hosts: number, progress: (text: string) => void): Promise<ViewResult> {
  progress(`${hosts} hosts pull, nobody looks`);
  const without = await measure(hosts, false);
  progress(`${hosts} hosts pull, ${LISTENERS} pages look`);
  const watched = await measure(hosts, true);
  const cpuMs = { read: (watched.readMs - without.readMs) / SECONDS, intake: Math.max(0, watched.takeMs - without.takeMs) / SECONDS, look: watched.lookMs / SECONDS, lists: watched.listsMs / SECONDS };
  const coreShare = (cpuMs.read + cpuMs.intake + cpuMs.look + cpuMs.lists) / 1000;
  return {
    hosts,
    seconds: SECONDS,
    listeners: LISTENERS,
    cpuMs,
    longestLookMs: watched.longestLookMs,
    coreShare,
    deltaBytes: Math.round(watched.bytes / SECONDS / LISTENERS),
    snapshotBytes: watched.snapshotBytes,
    ok: coreShare <= MAX_CORE_SHARE,
  };
}

async function measure(hosts: number, looking: boolean): Promise<Measured> {
  const dataDir = await mkdtemp(join(tmpdir(), 'flotilla-bench-view-'));
  const state = await State.open(join(dataDir, 'state'));
  const log = createLogger('silent');
  let nowMs = Date.now();
  const fleet = await Fleet.open({ dataDir, heartbeatMs: 30_000, now: () => nowMs }, state, log);
  const view = looking ? await View.open(fleet, await AuditLog.open(state.table('audit-log'), () => nowMs), state, log) : undefined;
  if (view !== undefined) registerTopics(view, fleet);
  // Slow enough that nobody is done before the end.
  const generated = new GeneratedFleet(fleet, { dataDir, hosts, rate: 12 * 1024 * 1024 });
  await generated.connect();
  generated.begin();
  view?.look(nowMs);
  const listeners = { bytes: 0 };
  for (let n = 0; n < LISTENERS; n++) {
    view?.live.listen(['fleet', 'hosts', 'changes', `image:${generated.digest}`], { queuedBytes: 0, allowed: () => true, write: (bytes) => (listeners.bytes += bytes.length), end: () => undefined }, nowMs);
  }
  const snapshotBytes = Math.round(listeners.bytes / LISTENERS);
  const images = view && new ImagePages(view.catalogue, fleet.swarms);
  const [sender] = generated.peers;
  if (view !== undefined) await fillHistory(view, generated, nowMs);
  const check = Compile(MessageBatch);
  const sums = { readMs: 0, takeMs: 0, lookMs: 0, listsMs: 0, longestLookMs: 0 };
  for (let second = -WARM_UP; second < SECONDS; second++) {
    nowMs += 1_000;
    if (second === 0) {
      Object.assign(sums, { readMs: 0, takeMs: 0, lookMs: 0, listsMs: 0, longestLookMs: 0 });
      listeners.bytes = 0;
    }
    const posts = [...generated.second()].map(({ session, messages }) => ({ session, messages, body: JSON.stringify({ messages: looking ? messages : messages.map(plain) }) }));
    sums.readMs += cpuOf(() => {
      for (const { body } of posts) if (!check.Check(JSON.parse(body))) throw new Error('a post that the tracker would refuse');
    });
    sums.takeMs += cpuOf(() => {
      for (const { session, messages } of posts) generated.take(session, messages);
    });
    fleet.swarms.tick(nowMs);
    if (view === undefined) continue;
    const lookMs = cpuOf(() => view.look(nowMs));
    sums.lookMs += lookMs;
    sums.longestLookMs = Math.max(sums.longestLookMs, lookMs);
    const before = cpuNowMs();
    JSON.stringify([images!.page({}), await view.history.find({}), [...(await view.history.receivedFrom(sender!)).receivers]]);
    sums.listsMs += cpuNowMs() - before;
    // Writes that nobody waits for get their turn, as they would.
    await new Promise(setImmediate);
  }
  const { pulling } = view?.fleetNow(nowMs).hosts ?? { pulling: hosts };
  if (pulling !== hosts) throw new Error(`${pulling} of ${hosts} hosts pull: nothing was measured`);
  await view?.close();
  await fleet.close();
  await state.close();
  await rm(dataDir, { recursive: true });
  return { ...sums, bytes: listeners.bytes, snapshotBytes };
}

/** As an agent without reports says it. */
function plain(message: AgentMessage): AgentMessage {
  if (message.type !== 'stats') return message;
  const { type, bytes, pulls, store } = message;
  return { type, bytes, pulls, store };
}

/** As many finished pulls as are kept, of all hosts, each from the first of them and a few more. */
async function fillHistory(view: View, { peers }: GeneratedFleet, nowMs: number): Promise<void> {
  const digest = `sha256:${'d'.repeat(64)}`;
  for (let round = 0; round * peers.length < KEPT_PULLS; round++) {
    peers.forEach((peer, at) => {
      const sources = [0, at + 1, at + 2, at + 3].map((from): [string, number] => [peers[from % peers.length]!, 1_000_000]);
      view.history.finished(peer, { name: `host-${at}`, zone: '' }, { digest, size: 4_000_000, origin: 'docker.io', repository: `team/app-${round}`, startedAtMs: nowMs, endedAtMs: nowMs, originBytes: 0, resumedBytes: 0, duplicateBytes: 0, peerBytes: 4_000_000, sources }, nowMs);
    });
    await view.history.flush(nowMs, true);
  }
}

function cpuNowMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

function cpuOf(work: () => void): number {
  const before = cpuNowMs();
  work();
  return cpuNowMs() - before;
}
