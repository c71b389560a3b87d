// `/api/v1/rollouts` between operators and the tracker. Read by the dashboard, the CLI and scripts; what agents are told is in tracker-api.
//
// A rollout has an image, a fixed list of hosts, and waves. Every host of the list has a state; a rollout is made of 2,000 hosts and more,
// so hosts come as rows of short columns (RolloutHosts), everything else as one document (RolloutDetail).

import { Type, type Static } from 'typebox';
import { HookOutcome } from './tracker-api.ts';

export { ROLLOUT_COMMANDS, ROLLOUT_ROUTES, type RolloutCommand } from './routes.ts';

const Digest = Type.String({ maxLength: 160 });
const TimestampMs = Type.Integer({ minimum: 0 });
const Count = Type.Integer({ minimum: 0 });
const Bytes = Type.Integer({ minimum: 0 });
const Share = Type.Number({ minimum: 0, maximum: 1 });

export const RolloutRequest = Type.Object(
  {
    /** `origin/repository:tag` or `origin/repository@digest`, such as docker.io/library/nginx:1.27 */
    image: Type.String({ minLength: 3, maxLength: 512 }),
    /** `zone=a,role!=db,name=web-*`: all must hold; `zone`, `name` and `peer` are the host's own, the rest labels. Absent: all hosts. */
    hosts: Type.Optional(Type.String({ maxLength: 1024 })),
    /** `1,10%,100%`: how many hosts have been started once each wave has. The last is 100%. @default 1,10%,100% */
    waves: Type.Optional(Type.String({ maxLength: 256 })),
    /** It stops by itself when more than this share of the hosts that the open wave reaches to have failed. @default 0.02 */
    pauseOnFailure: Type.Optional(Share),
    /** Bytes per second that its blobs may leave their origin at, all hosts together. */
    originLimit: Type.Optional(Type.Integer({ minimum: 1024 })),
    /** Unix ms after which no host begins or goes on. */
    deadlineMs: Type.Optional(TimestampMs),
    /** Reads and checks what is there; fetches nothing. */
    verifyOnly: Type.Optional(Type.Boolean()),
    /** os/architecture[/variant]. Absent: each host's own. */
    platform: Type.Optional(Type.String({ pattern: '^[a-z0-9]+/[a-z0-9_]+(/[a-z0-9.]+)?$', maxLength: 64 })),
  },
  { additionalProperties: false },
);
export type RolloutRequest = Static<typeof RolloutRequest>;

/**
 * resolving: a canary asks the origin what the tag is. running. paused: by an operator, or by itself (`reason`). done: no host that is connected is left;
 * hosts that come back later still get it (`catchUpUntilMs`). cancelled. expired: the deadline has passed.
 */
export const RolloutState = Type.Union([
  Type.Literal('resolving'),
  Type.Literal('running'),
  Type.Literal('paused'),
  Type.Literal('done'),
  Type.Literal('cancelled'),
  Type.Literal('expired'),
]);
export type RolloutState = Static<typeof RolloutState>;

/** waiting: its wave has not come, or it is away. working. done. failed. */
export const RolloutHostState = Type.Union([Type.Literal('waiting'), Type.Literal('working'), Type.Literal('done'), Type.Literal('failed')]);
export type RolloutHostState = Static<typeof RolloutHostState>;

export const RolloutWave = Type.Object({
  /** Hosts that have been started once this wave has, those of earlier waves included. */
  target: Count,
  /** waiting, open, over */
  state: Type.Union([Type.Literal('waiting'), Type.Literal('open'), Type.Literal('over')]),
  /** Of the hosts that this wave itself started. */
  started: Count,
  done: Count,
  failed: Count,
  openedAtMs: Type.Optional(TimestampMs),
  endedAtMs: Type.Optional(TimestampMs),
});
export type RolloutWave = Static<typeof RolloutWave>;

/** One line of a list. */
export const RolloutSummary = Type.Object({
  id: Type.String(),
  image: Type.String(),
  /** What the tag was when it was resolved: what every host gets. */
  digest: Type.Optional(Digest),
  state: RolloutState,
  /** Why it is paused, or waits: a code of the host's or ours, and the host's name where one has to do with it. */
  reason: Type.Optional(Type.Object({ code: Type.String(), message: Type.String(), host: Type.Optional(Type.String()) })),
  /** As it was asked for; empty: all hosts. */
  selector: Type.String(),
  platform: Type.Optional(Type.String()),
  verifyOnly: Type.Boolean(),
  pauseOnFailure: Share,
  originLimit: Type.Optional(Bytes),
  createdAtMs: TimestampMs,
  createdBy: Type.String(),
  deadlineMs: Type.Optional(TimestampMs),
  endedAtMs: Type.Optional(TimestampMs),
  catchUpUntilMs: Type.Optional(TimestampMs),
  /** Index into `waves` of the one that is open, or was when it ended. */
  wave: Count,
  waves: Type.Array(RolloutWave),
  /** `away`: of waiting and working, those that have no connection to the tracker. */
  hosts: Type.Object({ total: Count, waiting: Count, working: Count, done: Count, failed: Count, away: Count }),
  /** Over all hosts of the list, as far as known. `rate`: bytes per second that reach them now. */
  bytes: Type.Object({ total: Bytes, held: Bytes, peer: Bytes, origin: Bytes, rate: Type.Number() }),
  /** Until no host that is connected is left; absent while nothing is known to tell it by. */
  timeLeftMs: Type.Optional(Type.Integer({ minimum: 0 })),
});
export type RolloutSummary = Static<typeof RolloutSummary>;

export const RolloutList = Type.Object({ rollouts: Type.Array(RolloutSummary) });
export type RolloutList = Static<typeof RolloutList>;

/** One of the image's blobs, over all hosts that have told of it. */
export const RolloutLayer = Type.Object({ digest: Digest, size: Bytes, held: Bytes, hosts: Count, complete: Count });
export type RolloutLayer = Static<typeof RolloutLayer>;

export const RolloutDetail = Type.Object({
  ...RolloutSummary.properties,
  /** By the manifest of a platform. */
  manifests: Type.Array(Type.Object({ manifest: Digest, hosts: Count, layers: Type.Array(RolloutLayer) })),
  /** Of those at work, the ten with the most to do at their rate. */
  slowest: Type.Array(Type.Object({ peerId: Type.String(), name: Type.String(), zone: Type.Optional(Type.String()), phase: Type.String(), held: Share, rate: Type.Number(), timeLeftMs: Type.Optional(Count) })),
  /** Grouped by code. `names`: the first few. */
  failures: Type.Array(Type.Object({ code: Type.String(), message: Type.String(), hosts: Count, names: Type.Array(Type.String()) })),
});
export type RolloutDetail = Static<typeof RolloutDetail>;

/** One host: short, because there are thousands. */
export const RolloutHostRow = Type.Tuple([
  /** 0 peer id */
  Type.String(),
  /** 1 name */
  Type.String(),
  /** 2 zone; empty: none */
  Type.String(),
  /** 3 state; a plain string to the serializer, because there are thousands */
  Type.Unsafe<RolloutHostState>(Type.String()),
  /** 4 1: connected to the tracker */
  Type.Integer({ minimum: 0, maximum: 1 }),
  /** 5 index of its wave; -1: not started */
  Type.Integer({ minimum: -1 }),
  /** 6 how much of the image it holds, in thousandths; -1: not known */
  Type.Integer({ minimum: -1, maximum: 1000 }),
  /** 7 bytes per second now */
  Type.Integer({ minimum: 0 }),
  /** 8 what it is at (`pulling`), or the code of its failure; empty otherwise */
  Type.String(),
]);
export type RolloutHostRow = Static<typeof RolloutHostRow>;

/** What a host told at its end, by peer id: only of hosts that failed or ran a hook. */
export const RolloutOutcome = Type.Object({
  attempt: Count,
  error: Type.Optional(Type.Object({ code: Type.String(), message: Type.String() })),
  ms: Type.Optional(Count),
  hook: Type.Optional(HookOutcome),
});
export type RolloutOutcome = Static<typeof RolloutOutcome>;

export const RolloutHosts = Type.Object({ id: Type.String(), rows: Type.Array(RolloutHostRow), outcomes: Type.Record(Type.String(), RolloutOutcome) });
export type RolloutHosts = Static<typeof RolloutHosts>;

export const RolloutHostsQuery = Type.Object({
  state: Type.Optional(RolloutHostState),
  /** Only hosts with an outcome that says more than their state. */
  outcome: Type.Optional(Type.Boolean()),
});
