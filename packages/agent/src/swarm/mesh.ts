// Whom to be connected to, and when to dial again. The clock, timers aside, and randomness are handed in.
//
// Standing peers (the tracker's mesh) are dialled until connected, and again when lost: after 250 ms, doubled with each
// failure up to 30 s, jittered so that a fleet does not dial in step. Extra holders are tried EXTRA_TRIES times.
// Of two agents that are told of one another the one with the lower id dials; the other waits a moment for it.
// Bounds: MAX_EXTRA extra peers, MAX_DIALS dials at a time.

import type { PeerInfo } from '@flotilla/shared/tracker-api';

const FIRST_RETRY_MS = 250;
const LAST_RETRY_MS = 30_000;
const REFUSED_RETRY_MS = 30_000;
/** A session that ends sooner counts as a failed dial: the other side may not accept us. */
const STABLE_MS = 10_000;
const POLITE_MS = 200;
const EXTRA_TRIES = 3;
const MAX_EXTRA = 64;
const MAX_DIALS = 16;

export interface MeshComponents {
  readonly selfId: string;
  readonly random: () => number;
  readonly nowMs: () => number;
  readonly isConnected: (peerId: string) => boolean;
  /** Not banned. */
  readonly mayDial: (peerId: string) => boolean;
  /** Resolves when the peer is connected: accepted by both sides, as far as we can tell. */
  readonly dial: (peer: PeerInfo, signal: AbortSignal) => Promise<void>;
  readonly failed: (peerId: string, error: unknown) => void;
}

interface Target {
  info: PeerInfo;
  standing: boolean;
  failures: number;
  dueMs: number;
  connectedAtMs: number | undefined;
  dialling: boolean;
}

export class Mesh {
  readonly #with: MeshComponents;
  readonly #targets = new Map<string, Target>();
  readonly #closed = new AbortController();
  #dials = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(components: MeshComponents) {
    this.#with = components;
  }

  /** The standing mesh, in place of the last one. Peers that fall out keep their connection until it is idle. */
  set(peers: readonly PeerInfo[]): void {
    const wanted = new Set(peers.map((peer) => peer.peerId));
    for (const [peerId, target] of this.#targets) if (target.standing && !wanted.has(peerId)) this.#targets.delete(peerId);
    for (const peer of peers) this.#want(peer, true);
    this.#run();
  }

  /** Holders outside the mesh. */
  connect(peers: readonly PeerInfo[]): void {
    let room = MAX_EXTRA - [...this.#targets.values()].filter((target) => !target.standing).length;
    for (const peer of peers) {
      if (this.#with.isConnected(peer.peerId)) continue;
      if (!this.#targets.has(peer.peerId) && room-- <= 0) break;
      this.#want(peer, false);
    }
    this.#run();
  }

  isStanding(peerId: string): boolean {
    return this.#targets.get(peerId)?.standing === true;
  }

  /** The session with this peer ended. `refused`: one side did not accept the other, so there is no hurry. */
  lost(peerId: string, refused: boolean): void {
    const target = this.#targets.get(peerId);
    if (target === undefined) return;
    if (!target.standing) this.#targets.delete(peerId);
    const nowMs = this.#with.nowMs();
    const brief = target.connectedAtMs !== undefined && nowMs - target.connectedAtMs < STABLE_MS;
    target.failures = brief ? target.failures + 1 : 0;
    target.connectedAtMs = undefined;
    target.dueMs = Math.max(target.dueMs, nowMs + this.#jitter(refused ? REFUSED_RETRY_MS : retryMs(target.failures)));
    this.#run();
  }

  close(): void {
    this.#closed.abort();
    clearTimeout(this.#timer);
    this.#targets.clear();
  }

  #want(info: PeerInfo, standing: boolean): void {
    if (info.peerId === this.#with.selfId || this.#closed.signal.aborted) return;
    const target = this.#targets.get(info.peerId);
    if (target !== undefined) {
      // New addresses deserve a new try.
      if (target.info.addresses.join() !== info.addresses.join()) target.dueMs = this.#with.nowMs();
      target.info = info;
      target.standing ||= standing;
      return;
    }
    const politeMs = this.#with.selfId > info.peerId ? this.#jitter(POLITE_MS) : 0;
    this.#targets.set(info.peerId, { info, standing, failures: 0, dueMs: this.#with.nowMs() + politeMs, connectedAtMs: undefined, dialling: false });
  }

  #run(): void {
    clearTimeout(this.#timer);
    if (this.#closed.signal.aborted) return;
    const nowMs = this.#with.nowMs();
    let nextMs = Infinity;
    for (const target of this.#targets.values()) {
      if (target.dialling || this.#with.isConnected(target.info.peerId)) continue;
      if (!this.#with.mayDial(target.info.peerId)) {
        nextMs = Math.min(nextMs, nowMs + LAST_RETRY_MS);
        continue;
      }
      if (target.dueMs > nowMs) nextMs = Math.min(nextMs, target.dueMs);
      else if (this.#dials < MAX_DIALS) void this.#dial(target);
    }
    if (nextMs < Infinity) {
      this.#timer = setTimeout(() => this.#run(), nextMs - nowMs);
      this.#timer.unref();
    }
  }

  async #dial(target: Target): Promise<void> {
    const { peerId } = target.info;
    target.dialling = true;
    this.#dials++;
    try {
      await this.#with.dial(target.info, this.#closed.signal);
      target.connectedAtMs = this.#with.nowMs();
    } catch (error) {
      if (!this.#closed.signal.aborted) {
        target.failures++;
        target.dueMs = Math.max(target.dueMs, this.#with.nowMs() + this.#jitter(retryMs(target.failures)));
        if (!target.standing && target.failures >= EXTRA_TRIES) this.#targets.delete(peerId);
        this.#with.failed(peerId, error);
      }
    } finally {
      target.dialling = false;
      this.#dials--;
      this.#run();
    }
  }

  #jitter(ms: number): number {
    return ms * (0.5 + this.#with.random() / 2);
  }
}

function retryMs(failures: number): number {
  return Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(failures, 10));
}
