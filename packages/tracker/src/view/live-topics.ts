// Which topics there are, and where each takes what it shows (shared/live-api.ts has the contract).

import type { Fleet } from '../fleet.ts';
import { TRACKER_VERSION } from '../version.ts';
import { hostDetail } from './host-view.ts';
import { swarmLive, watchedOf } from './swarm-view.ts';
import { FleetTopic, HostsTopic, ImageTopic, RolloutTopic, WholeTopic } from './topics.ts';
import type { View } from './view.ts';

/** Agents that somebody looks at tell more for so long, and are asked anew in time. */
const WATCH_MS = 10_000;
const ASK_AGAIN_MS = 4_000;

export function registerTopics(view: View, fleet: Fleet): void {
  const { live, hosts, catalogue, images, series, duplicates } = view;
  const head = JSON.stringify({ epoch: fleet.epoch, version: TRACKER_VERSION, startedAtMs: fleet.startedAtMs }).slice(1, -1);
  const watch = new Watch((peerId) => fleet.send(peerId, { type: 'watch', forMs: WATCH_MS }));

  live.register('fleet', (argument) => (argument === '' ? new FleetTopic({ head, now: () => view.fleetText(fleet.now()), point: () => view.point, series: () => series.lastHour() }) : undefined));

  live.register('hosts', (argument, _, nowMs) =>
    argument !== ''
      ? undefined
      : new HostsTopic(
          {
            *infos() {
              for (const host of hosts.all()) yield host.info;
            },
            *figures(atMs) {
              for (const host of hosts.all()) yield [host.n, JSON.stringify(host.figures(view.stateOf(host, atMs), atMs))];
            },
          },
          nowMs,
        ),
  );

  live.register('image', (digest, topic, nowMs) => {
    const progress = images.progressOf(digest, nowMs);
    return progress && new ImageTopic(topic, progress, () => images.progressOf(digest, fleet.now()), nowMs);
  });

  live.register('swarm', (digest, topic) => {
    if (fleet.swarms.findDigest(digest) === undefined) return undefined;
    return new WholeTopic((nowMs) => {
      const swarm = fleet.swarms.findDigest(digest);
      if (swarm === undefined) return undefined;
      watch.all(watchedOf(swarm), nowMs);
      return swarmLive(topic, swarm, { hosts, catalogue, duplicates }, nowMs);
    });
  });

  live.register('host', (peerId, topic) => {
    if (hosts.find(peerId) === undefined) return undefined;
    return new WholeTopic((nowMs) => {
      const host = hosts.find(peerId);
      if (host === undefined) return undefined;
      watch.all([peerId], nowMs);
      return hostDetail(
        topic,
        host,
        {
          hosts,
          catalogue,
          member: fleet.members.get(peerId),
          trusted: fleet.swarms.trusted(peerId),
          state: view.stateOf(host, nowMs),
          brakes: view.brakes.on({ peerId, zone: host.info.zone }),
          shareOf: (digest, size) => {
            const holdings = fleet.swarms.find(digest, size)?.book.holdings;
            return holdings === undefined || holdings.chunks === 0 ? 0 : Math.floor((1000 * holdings.count(peerId)) / holdings.chunks);
          },
        },
        nowMs,
      );
    });
  });

  live.register('changes', (argument, topic) => (argument === '' ? new WholeTopic((nowMs) => ({ topic, atMs: nowMs, epoch: fleet.epoch, of: view.changes() })) : undefined));

  live.register('rollouts', (argument, topic) => (argument === '' ? new WholeTopic((nowMs) => ({ topic, atMs: nowMs, rollouts: fleet.rollouts.list(nowMs) })) : undefined));

  live.register('rollout', (id, topic, nowMs) => {
    const now = (atMs: number): ReturnType<typeof view.rollouts.now> | undefined => (view.rollouts.has(id, atMs) ? view.rollouts.now(id, atMs) : undefined);
    const first = now(nowMs);
    return first && new RolloutTopic(topic, { now, points: () => view.rollouts.points(id), point: () => view.rollouts.point(id) }, first);
  });
}

/** Asks each agent only as often as it forgets. */
class Watch {
  readonly #ask: (peerId: string) => void;
  readonly #askedMs = new Map<string, number>();

  constructor(ask: (peerId: string) => void) {
    this.#ask = ask;
  }

  all(peers: readonly string[], nowMs: number): void {
    for (const [peerId, atMs] of this.#askedMs) {
      if (nowMs - atMs < ASK_AGAIN_MS) break;
      this.#askedMs.delete(peerId);
    }
    for (const peerId of peers) {
      if (this.#askedMs.has(peerId)) continue;
      this.#askedMs.set(peerId, nowMs);
      this.#ask(peerId);
    }
  }
}
