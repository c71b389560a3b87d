// The operators' view of the fleet: hears what agents tell, looks at the swarms once a second, and keeps what pages show up to date.
//
//   sessions and stats -> Hosts      manifests -> ImageCatalogue      finished blobs -> PullHistory      each second: look() -> Live
//
// Invariant: nothing here is needed to lease or to serve; it may fail without a pull noticing. Cost is bounded per second, not per message:
// a message touches one host. Non-goals: HTTP (view-routes.ts), decisions about swarms.

import { HOST_STATES, type Brake, type Changes, type FleetNow, type ThroughputPoint } from '@flotilla/shared/live-api';
import type { SessionRequest } from '@flotilla/shared/tracker-api';
import type { Fleet } from '../fleet.ts';
import type { Logger } from '../log.ts';
import type { AuditDetail, AuditLog } from '../operators/audit-log.ts';
import type { EndReason } from '../sessions.ts';
import type { State } from '../state.ts';
import { ActiveImages } from './active-images.ts';
import { TRACKER_VERSION } from '../version.ts';
import { Alerts } from './alerts.ts';
import { brakeText } from './brake-text.ts';
import { Brakes, reaches } from './brakes.ts';
import { gatherFacts, originFacts } from './facts.ts';
import { Duplicates } from './duplicates.ts';
import { fetchingOf } from './fetching.ts';
import { fleetNow } from './fleet-now.ts';
import type { Host, Stats } from './host.ts';
import { Hosts, type Fetching } from './hosts.ts';
import { ImageCatalogue } from './image-catalogue.ts';
import { Live } from './live.ts';
import { PeerNumbers } from './peer-numbers.ts';
import { PullHistory } from './pull-history.ts';
import { RolloutCharts } from './rollout-charts.ts';
import { Series } from './series.ts';
import { Verdicts } from './verdict.ts';
import { VersionWatch } from './version-watch.ts';

const LOOK_MS = 1_000;
/** Silent for longer than this many heartbeats. */
const STALE_HEARTBEATS = 1.5;
const UP = 0;
const STALE = 1;
const DOWN = 2;

export class View {
  readonly hosts = new Hosts();
  readonly catalogue: ImageCatalogue;
  readonly images: ActiveImages;
  readonly rollouts: RolloutCharts;
  readonly history: PullHistory;
  readonly brakes: Brakes;
  readonly series: Series;
  readonly duplicates = new Duplicates();
  /** Topics are registered by live-topics.ts. */
  readonly live: Live;
  readonly #fleet: Fleet;
  readonly #audit: AuditLog;
  readonly #log: Logger;
  readonly #numbers: PeerNumbers;
  readonly #versions: VersionWatch;
  readonly #verdicts = new Verdicts();
  readonly #alerts = new Alerts();
  readonly #writes = new Set<Promise<unknown>>();
  #fetching: ReadonlyMap<string, Fetching> = new Map();
  #brakesTold = 0;
  #timer: NodeJS.Timeout | undefined;
  #now: FleetNow | undefined;
  #nowText: string | undefined;
  #point: ThroughputPoint = [0, 0, 0, 0, 0];
  #facts: ReturnType<typeof gatherFacts> | undefined;
  #verdictCode = 'ok';
  #onLook: (seconds: number) => void = () => undefined;

  private constructor(fleet: Fleet, audit: AuditLog, log: Logger, parts: { catalogue: ImageCatalogue; brakes: Brakes; series: Series; numbers: PeerNumbers; versions: VersionWatch; state: State }) {
    this.#fleet = fleet;
    this.#audit = audit;
    this.#log = log;
    this.catalogue = parts.catalogue;
    this.brakes = parts.brakes;
    this.series = parts.series;
    this.#numbers = parts.numbers;
    this.#versions = parts.versions;
    this.live = new Live(fleet.epoch);
    this.images = new ActiveImages({ hosts: this.hosts, catalogue: this.catalogue, swarms: fleet.swarms });
    this.rollouts = new RolloutCharts(fleet.rollouts, this.hosts, this.images);
    this.history = new PullHistory(parts.state.table('pulls'), {
      numbers: this.#numbers,
      imageName: (digest) => this.catalogue.get(digest)?.names[0],
      imagesOf: (blob) => this.catalogue.of(blob),
      hostName: (peerId) => this.hosts.find(peerId)?.info.name ?? '',
      fetches: (peerId, manifest) =>
        this.catalogue.get(manifest)?.blobs.some(({ digest, size }) => {
          const book = fleet.swarms.find(digest, size)?.book;
          return book !== undefined && book.readers.has(peerId) && !book.holdings.isSeed(peerId);
        }) ?? false,
    });
    for (const { peerId } of fleet.members.all()) this.#recall(peerId);
  }

  static async open(fleet: Fleet, audit: AuditLog, state: State, log: Logger): Promise<View> {
    const view = new View(fleet, audit, log, {
      catalogue: await ImageCatalogue.open(state.table('images')),
      brakes: await Brakes.open(state.table('brakes')),
      series: await Series.open(state.table('throughput'), fleet.now()),
      numbers: await PeerNumbers.open(state.table('peer-numbers')),
      versions: await VersionWatch.open(state.table('versions')),
      state,
    });
    fleet.observe(view);
    return view;
  }

  start(): void {
    this.#timer = setInterval(() => {
      try {
        this.look(this.#fleet.now());
      } catch (error) {
        this.#log.error({ error }, 'the view could not be brought up to date');
      }
    }, LOOK_MS);
  }

  /** Ends all streams, writes what waits. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.live.close();
    const nowMs = this.#fleet.now();
    this.#keep(this.history.flush(nowMs, true));
    this.#keep(this.catalogue.flush(nowMs));
    this.#keep(this.#versions.flush().write);
    await Promise.all(this.#writes);
  }

  // ---- what the fleet says (FleetObserver)

  opened(request: SessionRequest, nowMs: number): void {
    const host = this.hosts.opened(request, nowMs);
    this.#versions.seen(request.peerId, request.agentVersion);
    this.#tellBrakes(host, nowMs, false);
  }

  closed(peerId: string, reason: EndReason, nowMs: number): void {
    if (reason !== 'replaced') this.hosts.closed(peerId, reason === 'banned' || reason === 'stopping', nowMs);
  }

  stats(peerId: string, stats: Stats, nowMs: number): void {
    const host = this.hosts.stats(peerId, stats, nowMs);
    if (host === undefined) return;
    for (const manifest of stats.manifests ?? []) this.catalogue.seen(peerId, manifest, nowMs);
    for (const blob of stats.finished ?? []) {
      this.history.finished(peerId, host.info, blob, nowMs);
      this.duplicates.add(blob.digest, blob.duplicateBytes);
      for (const image of this.catalogue.of(blob.digest)) this.catalogue.used(image, nowMs);
    }
  }

  banned(peerId: string, state: 'quarantined' | 'expelled', reason: string): void {
    this.record('tracker', state === 'quarantined' ? 'member.quarantine' : 'member.expel', peerId, { reason, host: this.hosts.find(peerId)?.info.name ?? '' });
  }

  forgotten(peerId: string): void {
    this.hosts.forget(peerId);
  }

  // ---- once a second

  look(nowMs: number): void {
    const startedMs = performance.now();
    this.#look(nowMs);
    this.#onLook((performance.now() - startedMs) / 1000);
  }

  /** Told of each look how many seconds it took. */
  onLook(listener: (seconds: number) => void): void {
    this.#onLook = listener;
  }

  #look(nowMs: number): void {
    const { hosts } = this;
    const { sessions, swarms } = this.#fleet;
    for (const { peerId, heardAtMs } of sessions.all()) {
      const host = hosts.find(peerId);
      if (host !== undefined) host.heardAtMs = heardAtMs;
    }
    this.#expireBrakes(nowMs);
    this.#fetching = fetchingOf(swarms.fetched());
    const origins = originFacts({ hosts, fetching: this.#fetching, throttled: swarms.throttledOrigins(nowMs) }, nowMs);
    hosts.judge(this.#fetching, origins, (host) => this.brakesOn(host), nowMs);
    this.images.look(nowMs);
    this.rollouts.look(nowMs);
    for (const { digest, image } of this.#fleet.rollouts.list(nowMs)) if (digest !== undefined) this.catalogue.named(digest, image);
    this.#addPoint(nowMs);
    this.#facts = gatherFacts(
      {
        hosts,
        quarantined: [...this.#fleet.members.all()].filter(({ state }) => state === 'quarantined'),
        stale: this.#countStates(nowMs).stale,
        brakes: this.brakesWithReach(),
        stateFailed: !this.#fleet.healthy,
      },
      origins,
      nowMs,
    );
    this.#now = undefined;
    this.#nowText = undefined;
    this.#noteVerdict(nowMs);
    this.#sayToAgents(nowMs);
    this.live.tick(nowMs);
    this.#keep(this.history.flush(nowMs));
    this.#keep(this.catalogue.flush(nowMs));
    this.#noteVersions(nowMs);
  }

  /** As of the last look. */
  fleetNow(nowMs: number): FleetNow {
    this.#now ??= this.#makeNow(nowMs);
    return this.#now;
  }

  /** Its JSON, made once per look. */
  fleetText(nowMs: number): string {
    this.#nowText ??= JSON.stringify(this.fleetNow(nowMs));
    return this.#nowText;
  }

  get point(): ThroughputPoint {
    return this.#point;
  }

  /** Index into HOST_STATES. */
  stateOf(host: Host, nowMs: number): number {
    const member = this.#fleet.members.get(host.peerId);
    if (member !== undefined && member.state !== 'member') return HOST_STATES.indexOf(member.state);
    if (!host.connected) return DOWN;
    return nowMs - host.heardAtMs > STALE_HEARTBEATS * this.#fleet.sessions.heartbeatMs ? STALE : UP;
  }

  brakesOn(host: Host): Brake[] {
    if (this.brakes.size === 0) return [];
    return this.brakes.on({ peerId: host.peerId, zone: host.info.zone }).map((brake) => ({ ...brake, hosts: 1 }));
  }

  brakesWithReach(): Brake[] {
    return [...this.brakes.all()].map((brake) => {
      let reached = 0;
      for (const { peerId, info } of this.hosts.connected) if (reaches(brake.scope, { peerId, zone: info.zone })) reached++;
      return { ...brake, hosts: reached };
    });
  }

  /** A brake was set or released: all hosts are told at the next look, at once where that is now. */
  brakesChanged(nowMs: number): void {
    if (this.#brakesTold === this.brakes.version) return;
    this.#brakesTold = this.brakes.version;
    for (const host of this.hosts.connected) this.#tellBrakes(host, nowMs, true);
  }

  /** Numbers that are others after each change, of what pages ask for by plain GET. */
  changes(): Changes['of'] {
    const { members, swarms, rollouts } = this.#fleet;
    return {
      audit: this.#audit.written,
      images: this.catalogue.version + swarms.holdingsChanges,
      members: members.changes + swarms.blameChanges,
      minutes: this.series.changes,
      pulls: this.history.changes,
      rollouts: rollouts.outcomes,
    };
  }

  /** An entry that nobody waits for. */
  record(actor: string, action: string, target: string, detail: AuditDetail): void {
    this.#keep(this.#audit.record(actor, action, target, detail));
  }

  // ---- inside

  #addPoint(nowMs: number): void {
    const rates: [number, number, number, number] = [0, 0, 0, 0];
    for (const host of this.hosts.connected) {
      rates[0] += host.rateOf('peer', nowMs);
      rates[1] += host.rateOf('origin', nowMs);
      rates[2] += host.rateOf('uploaded', nowMs);
      rates[3] += host.rateOf('store', nowMs);
    }
    const { point, write } = this.series.add(rates, nowMs);
    this.#point = point;
    this.#keep(write);
  }

  #makeNow(nowMs: number): FleetNow {
    const { hosts, images } = this;
    const facts = this.#facts ?? gatherFacts({ hosts, quarantined: [], stale: 0, brakes: [], stateFailed: false }, [], nowMs);
    return fleetNow(
      { hosts, states: this.#countStates(nowMs), verdict: this.#verdicts.decide(facts, nowMs), alerts: this.#alerts.decide(facts, nowMs), point: this.#point, images: images.told(), brakes: [...facts.brakes] },
      nowMs,
    );
  }

  #countStates(nowMs: number): Omit<FleetNow['hosts'], 'pulling'> {
    const counts = { up: 0, stale: 0, down: 0, quarantined: 0, expelled: 0 };
    for (const { peerId } of this.#fleet.members.all()) counts[HOST_STATES[this.stateOf(this.hosts.of(peerId), nowMs)]!]++;
    return counts;
  }

  /** What was known of a member before it has connected. */
  #recall(peerId: string): void {
    const host = this.hosts.of(peerId);
    const facts = this.#fleet.hosts.get(peerId);
    host.info = { n: host.n, peerId, name: facts?.name ?? '', zone: facts?.zone ?? '', version: this.#versions.of(peerId) ?? '', labels: facts?.labels ?? {} };
    host.heardAtMs = this.#fleet.members.get(peerId)?.seenAtMs ?? 0;
  }

  #tellBrakes(host: Host, nowMs: number, always: boolean): void {
    const brakes = this.brakes.orders({ peerId: host.peerId, zone: host.info.zone }, nowMs);
    const braked = brakes.length > 0;
    this.#fleet.swarms.mute(host.peerId, brakes.some(({ stopUploads }) => stopUploads));
    if (braked || always) this.#fleet.send(host.peerId, { type: 'brakes', brakes });
  }

  #expireBrakes(nowMs: number): void {
    const { ended, write } = this.brakes.expire(nowMs);
    this.#keep(write);
    for (const brake of ended) this.record('tracker', 'brake.expire', brake.id, { brake: brakeText({ ...brake, hosts: 0 }), setBy: brake.setBy });
    this.brakesChanged(nowMs);
  }

  /** What was wrong, and when it was over: the timeline tells. */
  #noteVerdict(nowMs: number): void {
    const { severity, code, text } = this.fleetNow(nowMs).verdict;
    const known = severity === 'warning' || severity === 'bad' ? code : 'ok';
    if (known === this.#verdictCode) return;
    this.#verdictCode = known;
    this.record('tracker', 'verdict.change', known, { severity, text });
  }

  /** For whoever asks an agent while this tracker is gone. */
  #sayToAgents(nowMs: number): void {
    const { hosts, verdict } = this.fleetNow(nowMs);
    const { up, stale, down, pulling } = hosts;
    this.#fleet.sessions.sayWithPings({ up, stale, down, pulling, verdict: verdict.text.slice(0, 512), version: TRACKER_VERSION });
  }

  #noteVersions(nowMs: number): void {
    const { changes, write } = this.#versions.due(nowMs);
    this.#keep(write);
    for (const { from, to, hosts } of changes) this.record('tracker', 'version.change', to, { from, hosts });
  }

  /** A write that nobody waits for. What cannot be written is told; the view goes on with what it has in memory. */
  #keep(write: Promise<unknown> | undefined): void {
    if (write === undefined) return;
    const kept = write.catch((error: unknown) => this.#log.error({ error }, 'what operators see could not be written')).finally(() => this.#writes.delete(kept));
    this.#writes.add(kept);
  }
}

