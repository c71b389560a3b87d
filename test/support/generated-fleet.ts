// A fleet of any size that pulls an image, by itself or for a rollout, made up: for the cost of the operators' view, and for pages that must stay readable at 2,000 hosts.
//
// Hosts speak to the tracker's Fleet as their sessions would, a second at a time: stats with vitals, chunks that arrived, manifests, finished blobs.
// Some are slow, each for a reason of its own. The same seed makes the same fleet. Non-goals: sockets, leases, what peers really send each other.

import { createHash } from 'node:crypto';
import type { FinishedBlob, Vitals } from '@flotilla/shared/agent-report';
import { chunkCount, chunkSize, type BlobKey } from '@flotilla/shared/chunk-map';
import { parseDigest } from '@flotilla/shared/digest';
import type { AgentMessage, RolloutTask, TrackerEvent } from '@flotilla/shared/tracker-api';
import type { Fleet } from '@flotilla/tracker/fleet';
import type { Session } from '@flotilla/tracker/sessions';
import { TestIdentity } from '@flotilla/tracker/test-agent';
import { seededRandom } from '@flotilla/tracker/test-swarms';
import { ensureJoinToken } from '@flotilla/tracker/tokens';

const MIB = 1024 * 1024;

export interface GeneratedInit {
  readonly dataDir: string;
  readonly hosts?: number;
  readonly zones?: number;
  /** Sizes of the image's layers, in MiB. */
  readonly layersMiB?: readonly number[];
  readonly image?: string;
  readonly seed?: number;
  /** Share of hosts with something wrong. @default 0.02 */
  readonly slowShare?: number;
  /** Share of hosts on which a rollout fails. @default 0 */
  readonly failShare?: number;
  /** Bytes per second of a healthy host, about. @default 20 MiB */
  readonly rate?: number;
}

const TROUBLES = ['link', 'disk', 'cpu', 'no-peers', 'throttled'] as const;
type Trouble = (typeof TROUBLES)[number];

const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';

interface Layer {
  readonly blob: BlobKey;
  readonly chunks: number;
  readonly chunkBytes: number;
}

interface Host {
  readonly session: Session;
  readonly rate: number;
  readonly trouble: Trouble | undefined;
  /** Of which image pull: bytes that came from the origin, and what of it came in the last second. */
  fromOrigin: { sum: number; last: number };
  /** Chunks of each layer that are here, from the first on. */
  readonly held: number[];
  carry: number;
  bytes: { peer: number; origin: number; store: number; uploaded: number; duplicate: number };
  done: number;
  startedAtMs: number;
  begun: boolean;
  readonly fails: boolean;
  /** What a rollout wants of it. */
  task: RolloutTask | undefined;
  /** What it says with its next second. */
  readonly answers: AgentMessage[];
}

export class GeneratedFleet {
  readonly digest = digestOf('manifest');
  readonly layers: readonly Layer[];
  readonly #fleet: Fleet;
  readonly #init: Required<GeneratedInit>;
  readonly #random: () => number;
  readonly #hosts: Host[] = [];
  /** Chunks of each layer that have left the origin: whoever is the first to come so far reads them there. */
  readonly #copied: number[];

  constructor(fleet: Fleet, init: GeneratedInit) {
    this.#fleet = fleet;
    this.#init = { hosts: 2_000, zones: 8, layersMiB: [400, 220, 90, 40, 20, 10, 5, 2, 1], image: 'library/service', seed: 1, slowShare: 0.02, failShare: 0, rate: 20 * MIB, ...init };
    this.#random = seededRandom(this.#init.seed);
    this.layers = this.#init.layersMiB.map((mib, index) => {
      const blob = { digest: digestOf(`layer ${index}`), size: mib * MIB };
      return { blob, chunks: chunkCount(blob.size), chunkBytes: chunkSize(blob.size) };
    });
    this.#copied = this.layers.map(() => 0);
  }

  /** Hosts that hold all of it. */
  /** Peer ids of all hosts. */
  get peers(): string[] {
    return this.#hosts.map(({ session }) => session.peerId);
  }

  get done(): number {
    return this.#hosts.filter(({ done }) => done === this.layers.length).length;
  }

  /** Enrols every host and opens its session. */
  async connect(): Promise<void> {
    const token = await ensureJoinToken(this.#init.dataDir, undefined);
    for (let n = 0; n < this.#init.hosts; n++) {
      const nowMs = this.#fleet.now();
      const identity = new TestIdentity();
      await this.#fleet.members.enroll(identity.enrolment(token, nowMs), token, nowMs);
      const zone = `zone-${String.fromCharCode(97 + (n % this.#init.zones))}`;
      const request = { ...identity.session(nowMs), name: `node-${String(n).padStart(4, '0')}`, zone, labels: { role: n % 5 === 0 ? 'gpu' : 'web' }, agentVersion: n % 10 === 0 ? '0.1.0' : '0.2.0' };
      this.#fleet.authenticate(request);
      const session = this.#fleet.openSession(request, { queuedBytes: 0, write: (text) => this.#hear(n, text), end: () => undefined });
      const trouble = this.#random() < this.#init.slowShare ? TROUBLES[Math.floor(this.#random() * TROUBLES.length)] : undefined;
      const rate = this.#init.rate * (0.7 + 0.6 * this.#random()) * (trouble === undefined ? 1 : trouble === 'no-peers' ? 0 : 0.08);
      const fails = this.#random() < this.#init.failShare;
      this.#hosts.push({ session, rate, trouble, fromOrigin: { sum: 0, last: 0 }, held: this.layers.map(() => 0), carry: 0, bytes: { peer: 0, origin: 0, store: 0, uploaded: 0, duplicate: 0 }, done: 0, startedAtMs: nowMs, begun: false, fails, task: undefined, answers: [] });
    }
  }

  /** Every host begins to pull. */
  begin(): void {
    for (const host of this.#hosts) this.#fleet.take(host.session, this.#begin(host, this.#fleet.now()));
  }

  #begin(host: Host, nowMs: number): AgentMessage[] {
    host.startedAtMs = nowMs;
    host.held.fill(0);
    host.fromOrigin = { sum: 0, last: 0 };
    host.done = 0;
    host.begun = true;
    const [origin, repository] = ['docker.io', this.#init.image];
    const blobs = this.layers.map(({ blob }) => ({ digest: blob.digest, size: blob.size, kind: 'blob' as const }));
    const manifests = [{ digest: this.digest, size: 2_000, mediaType: MANIFEST, origin, repository, tag: 'v2', blobs }];
    const wants = this.layers.map(({ blob }): AgentMessage => ({ type: 'want', blob, source: { origin, repository, kind: 'blob' }, canRead: true, have: [], reading: [] }));
    const manifest = { digest: this.digest, size: 2_000 };
    const read: AgentMessage[] = [{ type: 'want', blob: manifest, source: { origin, repository, kind: 'manifest' }, canRead: true, have: [[0, 1]], reading: [] }, { type: 'leave', blob: manifest, kept: true }];
    return [...read, ...wants, { ...this.#stats(host, 0, nowMs), manifests }];
  }

  /** An event of the tracker, as it goes over the wire: a line of JSON each. */
  #hear(n: number, text: string): void {
    const host = this.#hosts[n];
    // The welcome comes while it is still being made.
    if (host === undefined) return;
    for (const line of text.split('\n').filter((each) => each !== '')) {
      const event = JSON.parse(line) as TrackerEvent;
      const task = event.type === 'rollouts' ? event.tasks[0] : undefined;
      if (task === undefined || (task.attempt === host.task?.attempt && task.task === host.task.task)) continue;
      host.task = task;
      const of = { rolloutId: task.rolloutId, attempt: task.attempt };
      if (task.task === 'resolve') host.answers.push({ type: 'rollout-result', ...of, ok: true, resolved: { digest: this.digest, size: 2_000, mediaType: MANIFEST } });
      else if (task.task === 'pull' && host.fails) host.answers.push({ type: 'rollout-result', ...of, ok: false, error: { code: 'DISK_FULL', message: 'no room left for the image: 1.2 GB are needed, 0.3 GB are free above the limit' } });
      else if (task.task === 'pull') host.answers.push(...this.#begin(host, this.#fleet.now()), { type: 'rollout-progress', ...of, phase: 'pulling', manifest: this.digest, layers: this.layers.map(({ blob }) => blob), held: this.layers.map(() => 0) });
    }
  }

  /** How far a rollout is on this host. */
  #progress({ task, held, done, startedAtMs, fromOrigin }: Host, nowMs: number): AgentMessage[] {
    if (task?.task !== 'pull') return [];
    const of = { rolloutId: task.rolloutId, attempt: task.attempt };
    const size = this.layers.reduce((sum, { blob }) => sum + blob.size, 0);
    if (done === this.layers.length) return [{ type: 'rollout-result', ...of, ok: true, manifest: this.digest, bytes: { size, peer: size - fromOrigin.sum, origin: fromOrigin.sum }, ms: nowMs - startedAtMs }];
    return [{ type: 'rollout-progress', ...of, phase: 'pulling', held: this.layers.map(({ blob, chunkBytes }, at) => Math.min(blob.size, held[at]! * chunkBytes)) }];
  }

  /** What each host says in a second of its pull. To be handed to `take`. */
  *second(): Generator<{ readonly session: Session; readonly messages: AgentMessage[] }> {
    const nowMs = this.#fleet.now();
    for (const host of this.#hosts) {
      const messages = host.answers.splice(0);
      if (host.begun && host.done < this.layers.length) messages.push(...this.#pull(host, nowMs), ...this.#progress(host, nowMs));
      if (messages.length > 0) yield { session: host.session, messages };
    }
  }

  take(session: Session, messages: AgentMessage[]): void {
    session.heardAtMs = this.#fleet.now();
    this.#fleet.take(session, messages);
  }

  #pull(host: Host, nowMs: number): AgentMessage[] {
    const messages: AgentMessage[] = [];
    const finished: FinishedBlob[] = [];
    let budget = host.rate * (0.9 + 0.2 * this.#random()) + host.carry;
    let arrived = 0;
    let fromOrigin = 0;
    for (const [at, { blob, chunks, chunkBytes }] of this.layers.entries()) {
      const first = host.held[at]!;
      const count = Math.min(chunks - first, Math.floor(budget / chunkBytes));
      if (count <= 0) continue;
      budget -= count * chunkBytes;
      arrived += count * chunkBytes;
      const copied = Math.max(0, first + count - Math.max(first, this.#copied[at]!)) * chunkBytes;
      fromOrigin += copied;
      this.#copied[at] = Math.max(this.#copied[at]!, first + count);
      // Instead of leases.
      const swarm = this.#fleet.swarms.find(blob.digest, blob.size);
      if (swarm !== undefined) swarm.counted.originBytes += copied;
      host.held[at] = first + count;
      messages.push({ type: 'have', blob, ranges: [[first, count]] });
      if (first + count < chunks) break;
      host.done++;
      messages.push({ type: 'leave', blob, kept: true });
      finished.push(this.#finished(host, blob, nowMs));
    }
    host.carry = budget;
    host.fromOrigin = { sum: host.fromOrigin.sum + fromOrigin, last: fromOrigin };
    host.bytes = { ...host.bytes, peer: host.bytes.peer + arrived - fromOrigin, origin: host.bytes.origin + fromOrigin, uploaded: host.bytes.uploaded + Math.floor(arrived * (0.8 + 0.4 * this.#random())) };
    messages.push({ ...this.#stats(host, arrived, nowMs), ...(finished.length > 0 && { finished }) });
    return messages;
  }

  #stats(host: Host, arrived: number, nowMs: number): Extract<AgentMessage, { type: 'stats' }> {
    const { trouble, rate, fromOrigin } = host;
    const missing = this.layers.reduce((sum, { blob, chunkBytes }, at) => sum + Math.max(0, blob.size - host.held[at]! * chunkBytes), 0);
    const vitals: Vitals = {
      atMs: nowMs,
      peerRate: Math.max(0, Math.round(trouble === undefined ? (arrived + rate) / 2 : rate) - fromOrigin.last),
      originRate: fromOrigin.last,
      uploadRate: Math.round(rate * (0.8 + 0.4 * this.#random())),
      loop: trouble === 'cpu' ? 0.97 : 0.3 + 0.2 * this.#random(),
      cpu: 0.6,
      diskWriteMs: trouble === 'disk' ? 260 : 4,
      diskBusy: trouble === 'disk' ? 0.96 : 0.3,
      peers: trouble === 'no-peers' ? 0 : 14,
      sources: trouble === 'no-peers' ? 0 : 9,
      missingBytes: missing,
      freeBytes: 200 * 1024 * MIB,
      memoryBytes: 180 * MIB,
    };
    const active = this.layers.length - host.done;
    return { type: 'stats', bytes: host.bytes, pulls: { active, done: host.done, failed: 0 }, store: { bytes: host.bytes.peer, limit: 100 * 1024 * MIB, blobs: host.done }, vitals, limits: trouble === 'throttled' ? { download: Math.ceil(rate) } : {} };
  }

  #finished({ startedAtMs }: Host, { digest, size }: BlobKey, nowMs: number): FinishedBlob {
    const sources = Array.from({ length: 16 }, (): [string, number] => [this.#hosts[Math.floor(this.#random() * this.#hosts.length)]!.session.peerId, Math.floor(size / 16)]);
    return { digest, size, origin: 'docker.io', repository: this.#init.image, manifest: this.digest, startedAtMs, endedAtMs: nowMs, originBytes: 0, resumedBytes: 0, duplicateBytes: 0, peerBytes: size, sources };
  }
}

function digestOf(text: string): BlobKey['digest'] {
  return parseDigest(`sha256:${createHash('sha256').update(`generated ${text}`).digest('hex')}`);
}
