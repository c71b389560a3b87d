// What an agent may say of itself in `stats` beyond its totals, so that the tracker can tell why a host is slow and who had what from whom.
//
// All of it is optional: an older agent says none of it, an older tracker reads over it. Figures are of the agent; what they mean is decided
// at the tracker alone. Lists have bounds, and a report stays within a few KiB while nobody looks closer (`watch`).

import { Type, type Static } from 'typebox';

const Digest = Type.String({ pattern: '^(sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})$' });
const PeerId = Type.String({ minLength: 10, maxLength: 128 });
const Name = Type.String({ maxLength: 255 });
const Bytes = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
const Rate = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
const Count = Type.Integer({ minimum: 0, maximum: 0x7fffffff });
const TimestampMs = Type.Integer({ minimum: 0 });

export const MAX_FINISHED = 256;
export const MAX_REQUEST_IDS = 4;
export const MAX_SOURCES = 64;
export const MAX_MANIFESTS = 32;
export const MAX_MANIFEST_BLOBS = 1024;
export const MAX_FAULTS = 64;
export const MAX_ERRORS = 10;
export const MAX_DETAIL_PEERS = 64;
export const MAX_DETAIL_DOWNLOADS = 32;
/** A main thread that is at work for this share of the time is full. */
export const FULL_LOOP = 0.9;

/** How the host itself did in the last second. */
export const Vitals = Type.Object({
  /** The agent's clock. */
  atMs: TimestampMs,
  /** What comes over the wire from peers and from origins, and goes to peers; unlike totals, before a chunk is whole and verified. */
  peerRate: Rate,
  originRate: Rate,
  uploadRate: Rate,
  /** Share of the time in which the agent's main thread was at work: 0 to 1. */
  loop: Type.Number({ minimum: 0, maximum: 1 }),
  /** CPU time of the agent over time: 1 is one core. */
  cpu: Type.Number({ minimum: 0, maximum: 1024 }),
  /** Mean time that a write of a chunk took, in ms; 0: nothing was written. */
  diskWriteMs: Type.Number({ minimum: 0 }),
  /** Share of the time in which a write was under way. */
  diskBusy: Type.Number({ minimum: 0, maximum: 1 }),
  /** Peers connected; of these, that hold something which this host lacks. */
  peers: Count,
  sources: Count,
  /** Bytes of running downloads that are not here yet. */
  missingBytes: Bytes,
  freeBytes: Bytes,
  memoryBytes: Bytes,
});
export type Vitals = Static<typeof Vitals>;

/** What went wrong at an origin. `unreachable`: no answer; `other`: an answer that helps nobody. */
export type FaultKind = 'dns' | 'throttled' | 'credentials' | 'unreachable' | 'other';

/** `[origin, FaultKind, how often since the agent's start]`; kinds that are not known are read over. */
export const OriginFault = Type.Tuple([Name, Type.String({ maxLength: 32 }), Count]);
export type OriginFault = Static<typeof OriginFault>;

/** Bytes per second that are let through; absent: no limit. Brakes are in it. */
export const Limits = Type.Object({ upload: Type.Optional(Rate), download: Type.Optional(Rate), origin: Type.Optional(Rate), zone: Type.Optional(Rate) });
export type Limits = Static<typeof Limits>;

/** A blob that this host has taken, or given up (`error`). */
export const FinishedBlob = Type.Object({
  digest: Digest,
  size: Bytes,
  /** Where it was read, unless names are kept back. */
  origin: Type.Optional(Name),
  repository: Type.Optional(Name),
  /** Manifest that names it, as far as this host has seen it. */
  manifest: Type.Optional(Digest),
  startedAtMs: TimestampMs,
  endedAtMs: TimestampMs,
  originBytes: Bytes,
  resumedBytes: Bytes,
  duplicateBytes: Bytes,
  /** `[peer, verified bytes]`, most first; their sum may be less than `peerBytes`. */
  peerBytes: Bytes,
  sources: Type.Array(Type.Tuple([PeerId, Bytes]), { maxItems: MAX_SOURCES }),
  error: Type.Optional(Type.String({ maxLength: 64 })),
  /** Of the clients' requests that waited for it, the first few. */
  requestIds: Type.Optional(Type.Array(Type.String({ maxLength: 128 }), { maxItems: MAX_REQUEST_IDS })),
});
export type FinishedBlob = Static<typeof FinishedBlob>;

/** A manifest that this host was asked for. */
export const SeenManifest = Type.Object({
  digest: Digest,
  size: Bytes,
  mediaType: Name,
  origin: Type.Optional(Name),
  repository: Type.Optional(Name),
  /** The tag that it was asked by. */
  tag: Type.Optional(Name),
  /** What it names: config and layers, or the manifests of an index with their platform. */
  blobs: Type.Array(Type.Object({ digest: Digest, size: Bytes, kind: Type.Union([Type.Literal('blob'), Type.Literal('manifest')]), platform: Type.Optional(Type.String({ maxLength: 64 })) }), { maxItems: MAX_MANIFEST_BLOBS }),
});
export type SeenManifest = Static<typeof SeenManifest>;

/** Said only while the tracker has asked for it (`watch`). */
export const HostReport = Type.Object({
  /** `[peer, rate down, rate up, bytes down, bytes up]` */
  peers: Type.Array(Type.Tuple([PeerId, Rate, Rate, Bytes, Bytes]), { maxItems: MAX_DETAIL_PEERS }),
  downloads: Type.Array(
    Type.Object({
      digest: Digest,
      size: Bytes,
      peerBytes: Bytes,
      originBytes: Bytes,
      duplicateBytes: Bytes,
      /** `[peer, rate down, rate up]` */
      sources: Type.Array(Type.Tuple([PeerId, Rate, Rate]), { maxItems: MAX_DETAIL_PEERS }),
      error: Type.Optional(Type.String({ maxLength: 255 })),
    }),
    { maxItems: MAX_DETAIL_DOWNLOADS },
  ),
  errors: Type.Array(Type.Object({ atMs: TimestampMs, code: Type.String({ maxLength: 64 }), message: Type.String({ maxLength: 255 }) }), { maxItems: MAX_ERRORS }),
});
export type HostReport = Static<typeof HostReport>;

/** Fields of `stats`. */
export const REPORT_FIELDS = {
  vitals: Type.Optional(Vitals),
  faults: Type.Optional(Type.Array(OriginFault, { maxItems: MAX_FAULTS })),
  limits: Type.Optional(Limits),
  /** Ids of the brakes that it obeys. */
  brakes: Type.Optional(Type.Array(Type.String({ maxLength: 32 }), { maxItems: 16 })),
  /** Told once each. */
  finished: Type.Optional(Type.Array(FinishedBlob, { maxItems: MAX_FINISHED })),
  manifests: Type.Optional(Type.Array(SeenManifest, { maxItems: MAX_MANIFESTS })),
  detail: Type.Optional(HostReport),
} as const;

/** Tracker -> agent, with a ping: the fleet in a few words, for whoever asks an agent while the tracker is gone. */
export const FleetWord = Type.Object({
  up: Count,
  stale: Count,
  down: Count,
  pulling: Count,
  /** The first line of the dashboard. */
  verdict: Type.String({ maxLength: 512 }),
  version: Type.String({ maxLength: 64 }),
});
export type FleetWord = Static<typeof FleetWord>;

/** Tracker -> agent: what holds this host back from now on. Replaces what was said before; each brake ends by itself `forMs` after it was told. */
export const BrakeOrder = Type.Object({
  id: Type.String({ maxLength: 32 }),
  forMs: Type.Integer({ minimum: 0 }),
  stopUploads: Type.Boolean(),
  originOnly: Type.Boolean(),
  downloadLimit: Type.Optional(Type.Number({ minimum: 1 })),
  uploadLimit: Type.Optional(Type.Number({ minimum: 1 })),
  zoneLimit: Type.Optional(Type.Number({ minimum: 1 })),
});
export type BrakeOrder = Static<typeof BrakeOrder>;
