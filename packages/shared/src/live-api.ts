// What the dashboard sees live: GET /api/v1/live, server-sent events, and the same things by plain GET where a page needs them once.
//
//   GET /api/v1/live?topics=fleet,hosts,image:sha256:…      role read; at most MAX_LIVE_TOPICS topics, their lifetime is the connection's
//     id: <epoch>-<number>     event: snapshot | delta | gone     data: {"topic": …, "atMs": …, …}
//
// A topic begins with a snapshot and goes on with deltas, at most one per topic and second, only when something changed. After a lost
// connection every topic begins with a fresh snapshot, whatever Last-Event-ID says: forget what was known. `gone`: there is no such thing (any more).
// A comment line comes every 15 s. Events of one second and topic are made once for all listeners, so nothing in them depends on who listens.
//
//   topic            snapshot        delta
//   fleet            FleetSnapshot   FleetDelta: `now` replaces, `point` is appended to `series`
//   hosts            HostsSnapshot   HostsDelta: rows replace rows of the same n, `gone` removes
//   image:<digest>   ImageSnapshot   ImageDelta: `now` replaces, rows replace rows of the same n, `point` is appended
//   swarm:<digest>   SwarmLive       SwarmLive, whole
//   host:<peer id>   HostDetail      HostDetail, whole
//   changes          Changes         Changes, whole: what is asked for by plain GET has changed
//   rollouts         RolloutList     RolloutList, whole (rollout-api.ts)
//   rollout:<id>     RolloutSnapshot RolloutDelta: as image
//
// Hosts go by their number `n` in compact rows: HostInfo says who n is. A number stays while the tracker runs (an epoch).
// Rates are bytes per second. Shares in rows are thousandths.

import { Type, type Static } from 'typebox';
import { HOST_STATES, SLOW_REASONS } from './live-lists.ts';
import { RolloutDetail } from './rollout-api.ts';

export { HOST_STATES, MAX_LIVE_TOPICS, MAX_MAP_CELLS, ROLLOUT_HOST_STATES, SLOW_REASONS } from './live-lists.ts';

const TimestampMs = Type.Integer({ minimum: 0 });
const Count = Type.Integer({ minimum: 0 });
const Bytes = Type.Number({ minimum: 0 });
const Rate = Type.Number({ minimum: 0 });
const Thousandths = Type.Integer({ minimum: 0, maximum: 1000 });
const HostNumber = Type.Integer({ minimum: 0 });
const Digest = Type.String();

// ---------------------------------------------------------------- why something is slow

export type SlowReason = (typeof SLOW_REASONS)[number];
export const SlowReason = Type.Unsafe<SlowReason>(Type.Union(SLOW_REASONS.map((reason) => Type.Literal(reason))));

export const SlowHost = Type.Object({
  n: HostNumber,
  reason: SlowReason,
  /** The figures behind it, in words: "writes take 240 ms each". */
  evidence: Type.String(),
  rate: Rate,
  /** Of what it is fetching now. */
  share: Thousandths,
  timeLeftMs: Type.Optional(Count),
});
export type SlowHost = Static<typeof SlowHost>;

/** How many slow hosts there are of a kind. `key`: a reason, a zone or a version; empty: none known. */
export const Group = Type.Object({ key: Type.String(), hosts: Count, pulling: Count, done: Count, slow: Count, rate: Rate, share: Thousandths });
export type Group = Static<typeof Group>;

export const SlowGroups = Type.Object({ byReason: Type.Array(Group), byZone: Type.Array(Group), byVersion: Type.Array(Group) });
export type SlowGroups = Static<typeof SlowGroups>;

// ---------------------------------------------------------------- the first line

/** ok: nothing wrong. notice: slower than it could be. warning: hosts are held up. bad: hosts get nothing. */
export const Severity = Type.Union([Type.Literal('ok'), Type.Literal('notice'), Type.Literal('warning'), Type.Literal('bad')]);
export type Severity = Static<typeof Severity>;

/** Is it us (hosts, settings, the tracker), the registry, or the network between? */
export const Blamed = Type.Union([Type.Literal('nobody'), Type.Literal('us'), Type.Literal('registry'), Type.Literal('network')]);
export type Blamed = Static<typeof Blamed>;

export const Verdict = Type.Object({
  severity: Severity,
  blamed: Blamed,
  /** The line: "origin docker.io slow: 429 since 02:14 UTC", "12 hosts of zone b: link full", "nothing wrong". */
  text: Type.String(),
  /** Stable, for icons and tests: `origin-429`, `origin-credentials`, `origin-down`, `dns`, `link`, `disk`, `cpu`, `no-peers`, `brakes`, `disk-full`, `hosts-lost`, `state`, `quiet`. */
  code: Type.String(),
  sinceMs: TimestampMs,
  evidence: Type.Array(Type.Object({ text: Type.String(), hosts: Type.Optional(Count), examples: Type.Optional(Type.Array(HostNumber)) })),
});
export type Verdict = Static<typeof Verdict>;

/** Something to be done. `cause` says why, `next` what to do. Ordered by severity, then age. */
export const Alert = Type.Object({
  /** Stable while it lasts: what it is about. */
  id: Type.String(),
  /** `origin-errors`, `no-progress`, `disk-nearly-full`, `clock-skew`, `quarantined`, `hosts-lost`, `state-failed`, `brake`. */
  code: Type.String(),
  severity: Severity,
  title: Type.String(),
  cause: Type.String(),
  next: Type.String(),
  sinceMs: TimestampMs,
  hosts: Count,
  /** The first few. */
  examples: Type.Array(HostNumber),
});
export type Alert = Static<typeof Alert>;

// ---------------------------------------------------------------- fleet

/** `[unix seconds, from peers, from origins, sent to peers, served from the store]`: bytes per second, sums over all hosts. */
export const ThroughputPoint = Type.Tuple([Count, Rate, Rate, Rate, Rate]);
export type ThroughputPoint = Static<typeof ThroughputPoint>;

export const ByteSums = Type.Object({ peer: Bytes, origin: Bytes, store: Bytes, uploaded: Bytes, duplicate: Bytes });
export type ByteSums = Static<typeof ByteSums>;

/** A switch that holds back hosts, and expires by itself. */
export const Brake = Type.Object({
  id: Type.String(),
  /** The fleet, a zone, or a host by its peer id. */
  scope: Type.Union([Type.Object({ kind: Type.Literal('fleet') }), Type.Object({ kind: Type.Literal('zone'), zone: Type.String() }), Type.Object({ kind: Type.Literal('host'), peerId: Type.String() })]),
  stopUploads: Type.Boolean(),
  /** Fetches from its own origin alone, as if there were no fleet. */
  originOnly: Type.Boolean(),
  /** Bytes per second of each host; absent: as its own settings say. */
  downloadLimit: Type.Optional(Rate),
  uploadLimit: Type.Optional(Rate),
  /** To peers of other zones, and as much from them. */
  zoneLimit: Type.Optional(Rate),
  reason: Type.String(),
  setBy: Type.String(),
  setAtMs: TimestampMs,
  untilMs: TimestampMs,
  /** Connected hosts that it reaches now. */
  hosts: Count,
});
export type Brake = Static<typeof Brake>;

/** An image that somebody pulls now, or did a moment ago. */
export const ActiveImage = Type.Object({
  digest: Digest,
  /** `origin/repository:tag`; empty: not told. */
  name: Type.String(),
  size: Bytes,
  /** Hosts that have begun, of these with all of it, and the share that all together hold. */
  hosts: Count,
  done: Count,
  share: Thousandths,
  rate: Rate,
  timeLeftMs: Type.Optional(Count),
});
export type ActiveImage = Static<typeof ActiveImage>;

export const FleetNow = Type.Object({
  verdict: Verdict,
  alerts: Type.Array(Alert),
  /** up + stale + down = members in good standing. stale: connected, and silent for longer than it should be. */
  hosts: Type.Object({ up: Count, stale: Count, down: Count, quarantined: Count, expelled: Count, pulling: Count }),
  /** Connected hosts by version, most first. */
  versions: Type.Array(Type.Tuple([Type.String(), Count])),
  /** Since the start of each connected agent. */
  bytes: ByteSums,
  /** What all hosts took in, less what came from origins. */
  sparedBytes: Bytes,
  /** Of what came over a network: from peers. */
  peerShare: Thousandths,
  rates: Type.Object({ peer: Rate, origin: Rate, uploaded: Rate, store: Rate }),
  pulls: Type.Object({ active: Count, done: Count, failed: Count }),
  store: Type.Object({ bytes: Bytes, limit: Bytes }),
  /** Most hosts at work first; at most 20. */
  images: Type.Array(ActiveImage),
  /** Over everything that is pulled now. */
  slowest: Type.Array(SlowHost),
  groups: SlowGroups,
  brakes: Type.Array(Brake),
});
export type FleetNow = Static<typeof FleetNow>;

/** `series`: each second of the last hour, oldest first; seconds in which nothing moved may be missing. */
export const FleetSnapshot = Type.Object({ topic: Type.Literal('fleet'), atMs: TimestampMs, epoch: Count, version: Type.String(), startedAtMs: TimestampMs, now: FleetNow, series: Type.Array(ThroughputPoint) });
export type FleetSnapshot = Static<typeof FleetSnapshot>;
export const FleetDelta = Type.Object({ topic: Type.Literal('fleet'), atMs: TimestampMs, now: FleetNow, point: ThroughputPoint });
export type FleetDelta = Static<typeof FleetDelta>;

// ---------------------------------------------------------------- hosts

export type HostState = (typeof HOST_STATES)[number];
export const HostState = Type.Unsafe<HostState>(Type.Union(HOST_STATES.map((state) => Type.Literal(state))));

/** What rarely changes of a host. */
export const HostInfo = Type.Object({
  n: HostNumber,
  peerId: Type.String(),
  name: Type.String(),
  zone: Type.String(),
  version: Type.String(),
  labels: Type.Record(Type.String(), Type.String()),
});
export type HostInfo = Static<typeof HostInfo>;

/** What changes each second: only while it pulls, mostly. */
export const HostFigures = Type.Tuple([
  /** 0 n */
  HostNumber,
  /** 1 index into HOST_STATES */
  Count,
  /** 2 rate that arrives from peers */
  Rate,
  /** 3 rate that arrives from origins */
  Rate,
  /** 4 rate sent to peers */
  Rate,
  /** 5 blobs being pulled */
  Count,
  /** 6 bytes from peers since its start */
  Bytes,
  /** 7 bytes from origins since its start */
  Bytes,
  /** 8 bytes sent to peers since its start */
  Bytes,
  /** 9 bytes in its store */
  Bytes,
  /** 10 what its store may hold */
  Bytes,
  /** 11 index into SLOW_REASONS */
  Count,
  /** 12 share of what it is pulling, in thousandths; -1: it pulls nothing */
  Type.Integer({ minimum: -1, maximum: 1000 }),
  /** 13 unix ms of the last word from it */
  TimestampMs,
]);
export type HostFigures = Static<typeof HostFigures>;

export const HostsSnapshot = Type.Object({ topic: Type.Literal('hosts'), atMs: TimestampMs, infos: Type.Array(HostInfo), figures: Type.Array(HostFigures) });
export type HostsSnapshot = Static<typeof HostsSnapshot>;
export const HostsDelta = Type.Object({ topic: Type.Literal('hosts'), atMs: TimestampMs, infos: Type.Array(HostInfo), figures: Type.Array(HostFigures), gone: Type.Array(HostNumber) });
export type HostsDelta = Static<typeof HostsDelta>;

// ---------------------------------------------------------------- progress of an image

/** `[n, share in thousandths, rate, index into SLOW_REASONS, time left in seconds or -1]` */
export const ProgressRow = Type.Tuple([HostNumber, Thousandths, Rate, Count, Type.Integer({ minimum: -1 })]);
export type ProgressRow = Static<typeof ProgressRow>;

/** `[seconds since it began, hosts that are done, share that all hosts hold in thousandths, hosts that it is about]`: hosts may join */
export const ProgressPoint = Type.Tuple([Type.Number({ minimum: 0 }), Count, Thousandths, Count]);
export type ProgressPoint = Static<typeof ProgressPoint>;

export const LayerProgress = Type.Object({
  digest: Digest,
  size: Bytes,
  mediaType: Type.String(),
  /** Hosts that fetch it or hold it, and of these with all of it. */
  hosts: Count,
  done: Count,
  share: Thousandths,
  /** Bytes that left the origin for it under leases, as long as the tracker knows it. */
  originBytes: Bytes,
});
export type LayerProgress = Static<typeof LayerProgress>;

export const ImageNow = Type.Object({
  /** Hosts of the rows. */
  hosts: Count,
  done: Count,
  share: Thousandths,
  rate: Rate,
  /** Until the last of those that move is done. */
  timeLeftMs: Type.Optional(Count),
  layers: Type.Array(LayerProgress),
  slowest: Type.Array(SlowHost),
  groups: SlowGroups,
  /**
   * The least time in which links alone would let all hosts finish, from the first that began; a model: `size / min(origin, download, upload share)`
   * with the best rates that were seen. Absent until rates are known.
   */
  bound: Type.Optional(Type.Object({ ms: Count, originRate: Rate, downRate: Rate, upRate: Rate })),
});
export type ImageNow = Static<typeof ImageNow>;

export const ImageSnapshot = Type.Object({
  topic: Type.String(),
  atMs: TimestampMs,
  digest: Digest,
  /** Every name that it was pulled by. */
  names: Type.Array(Type.String()),
  size: Bytes,
  beganAtMs: Type.Optional(TimestampMs),
  now: ImageNow,
  rows: Type.Array(ProgressRow),
  series: Type.Array(ProgressPoint),
});
export type ImageSnapshot = Static<typeof ImageSnapshot>;
export const ImageDelta = Type.Object({ topic: Type.String(), atMs: TimestampMs, now: ImageNow, rows: Type.Array(ProgressRow), gone: Type.Array(HostNumber), point: Type.Optional(ProgressPoint) });
export type ImageDelta = Static<typeof ImageDelta>;

// ---------------------------------------------------------------- swarm of a blob

export const SwarmMemberRow = Type.Object({
  n: HostNumber,
  /** Chunks held; all of them: a seed. */
  held: Count,
  /** One byte for each cell, base64: how much of its chunks are held, 0 to 255. Empty: all. */
  map: Type.String(),
  canRead: Type.Boolean(),
  /** Whether it fetches the blob, or only serves it. */
  fetching: Type.Boolean(),
  downRate: Rate,
  upRate: Rate,
});
export type SwarmMemberRow = Static<typeof SwarmMemberRow>;

export const LeaseRow = Type.Object({
  n: HostNumber,
  first: Count,
  count: Count,
  read: Count,
  bytes: Bytes,
  mode: Type.Union([Type.Literal('run'), Type.Literal('stream'), Type.Literal('hedge'), Type.Literal('audit'), Type.Literal('adopted')]),
  deadlineMs: TimestampMs,
});
export type LeaseRow = Static<typeof LeaseRow>;

export const SwarmLive = Type.Object({
  topic: Type.String(),
  atMs: TimestampMs,
  digest: Digest,
  size: Bytes,
  chunks: Count,
  chunkSize: Bytes,
  /** Images that it is part of: digest and a name where one is known. */
  images: Type.Array(Type.Object({ digest: Digest, name: Type.String() })),
  seeds: Count,
  fetching: Count,
  /** At most 200: those that fetch, least held first, then seeds. */
  members: Type.Array(SwarmMemberRow),
  /** `[from n, to n, rate]`: who sends to whom now, fastest first, at most 500; of members that were asked to tell. */
  sends: Type.Array(Type.Tuple([HostNumber, HostNumber, Rate])),
  /** Of how many members `sends` tells. */
  told: Count,
  leases: Type.Array(LeaseRow),
  /** Per cell: how many members hold the least held chunk of it. */
  availability: Type.Array(Count),
  /** `[chunk, members that hold it]`, least first, at most 10. */
  rarest: Type.Array(Type.Tuple([Count, Count])),
  /** How many chunks are as rare as the first of these. */
  rarestChunks: Count,
  originBytes: Bytes,
  hedgedBytes: Bytes,
  /** Arrived twice: of pulls that are over, since the tracker's start, and of those under way at hosts that tell. */
  duplicateBytes: Bytes,
});
export type SwarmLive = Static<typeof SwarmLive>;

// ---------------------------------------------------------------- what is asked for by plain GET

/** A number each, another one after every change: whoever shows such a thing asks again then, and only then. They mean something within an epoch. */
export const Changes = Type.Object({
  topic: Type.Literal('changes'),
  atMs: TimestampMs,
  epoch: Count,
  of: Type.Object({
    /** The audit log, and so tokens and the join token: all changes of these are in it. */
    audit: Count,
    images: Count,
    /** Who is a member and what is held against whom; who is connected is in `hosts`. */
    members: Count,
    /** The curve of minutes. */
    minutes: Count,
    /** Finished pulls, those that are not quiet yet too. */
    pulls: Count,
    /** How hosts of rollouts ended. */
    rollouts: Count,
  }),
});
export type Changes = Static<typeof Changes>;

// ---------------------------------------------------------------- one host

export const HostDetail = Type.Object({
  topic: Type.String(),
  atMs: TimestampMs,
  info: HostInfo,
  figures: HostFigures,
  state: HostState,
  stateReason: Type.Optional(Type.String()),
  /** False: caught in a lie. */
  trusted: Type.Boolean(),
  addresses: Type.Array(Type.String()),
  enrolledAtMs: TimestampMs,
  seenAtMs: TimestampMs,
  sessionAtMs: Type.Optional(TimestampMs),
  /** How far its clock is ahead of the tracker's; known since its session opened. */
  clockSkewMs: Type.Optional(Type.Integer()),
  slow: SlowHost,
  /** What it told of itself in the last second; absent: an older agent. */
  vitals: Type.Optional(
    Type.Object({ loop: Type.Number(), cpu: Type.Number(), diskWriteMs: Type.Number(), diskBusy: Type.Number(), peers: Count, sources: Count, missingBytes: Bytes, freeBytes: Bytes, memoryBytes: Bytes }),
  ),
  limits: Type.Optional(Type.Object({ upload: Type.Optional(Rate), download: Type.Optional(Rate), origin: Type.Optional(Rate), zone: Type.Optional(Rate) })),
  brakes: Type.Array(Type.String()),
  downloads: Type.Array(Type.Object({ digest: Digest, size: Bytes, image: Type.String(), share: Thousandths, peer: Bytes, origin: Bytes, duplicate: Bytes, sources: Count, error: Type.Optional(Type.String()) })),
  /** `n` is absent for a peer that the tracker does not know. Told while somebody looks. */
  peers: Type.Array(Type.Object({ n: Type.Optional(HostNumber), peerId: Type.String(), downRate: Rate, upRate: Rate, bytesDown: Bytes, bytesUp: Bytes })),
  store: Type.Object({ bytes: Bytes, limit: Bytes, blobs: Count, freeBytes: Type.Optional(Bytes) }),
  /** By origin and kind: how often it failed since the agent's start. */
  faults: Type.Array(Type.Object({ origin: Type.String(), kind: Type.String(), count: Count })),
  /** Newest first. */
  errors: Type.Array(Type.Object({ atMs: TimestampMs, code: Type.String(), message: Type.String() })),
});
export type HostDetail = Static<typeof HostDetail>;

// ---------------------------------------------------------------- a rollout, live

export const RolloutRow = Type.Tuple([
  /** 0 n */
  HostNumber,
  /** 1 index into ROLLOUT_HOST_STATES */
  Count,
  /** 2 1: connected to the tracker */
  Type.Integer({ minimum: 0, maximum: 1 }),
  /** 3 index of its wave; -1: not started */
  Type.Integer({ minimum: -1 }),
  /** 4 share of the image in thousandths; -1: not known */
  Type.Integer({ minimum: -1, maximum: 1000 }),
  /** 5 rate */
  Rate,
  /** 6 what it is at, or the code of its failure; empty otherwise */
  Type.String(),
  /** 7 index into SLOW_REASONS */
  Count,
]);
export type RolloutRow = Static<typeof RolloutRow>;

export const RolloutNow = Type.Object({
  detail: RolloutDetail,
  slowest: Type.Array(SlowHost),
  groups: SlowGroups,
  bound: ImageNow.properties.bound,
});
export type RolloutNow = Static<typeof RolloutNow>;

/** `series`: since the rollout was created, as far as this tracker has seen it. */
export const RolloutSnapshot = Type.Object({ topic: Type.String(), atMs: TimestampMs, now: RolloutNow, rows: Type.Array(RolloutRow), series: Type.Array(ProgressPoint) });
export type RolloutSnapshot = Static<typeof RolloutSnapshot>;
export const RolloutDelta = Type.Object({ topic: Type.String(), atMs: TimestampMs, now: RolloutNow, rows: Type.Array(RolloutRow), gone: Type.Array(HostNumber), point: Type.Optional(ProgressPoint) });
export type RolloutDelta = Static<typeof RolloutDelta>;
