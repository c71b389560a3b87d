// `/api/v1` between agent and tracker: what both sides must agree on. docs/protocol.md tells the story.
//
// One long-lived response per agent carries events (a JSON line each); the agent posts batches of messages.
// A session is opened with a signature of the agent's libp2p key; each batch carries a sequence number and an HMAC.
// Schemas check what arrives on both sides. Signing texts are wire contracts (pinned by tracker-api.test.ts).

import { createHash, createHmac } from 'node:crypto';
import { Type, type Static } from 'typebox';
import { MAX_IMPORT_SEATS } from './import-seats.ts';
import { BrakeOrder, FleetWord, REPORT_FIELDS } from './agent-report.ts';

export const API_PREFIX = '/api/v1';
/** Batches larger than this are refused with 413; an agent splits before it. */
export const MAX_BATCH_BYTES = 1024 * 1024;

/** Where the agent's requests go. A route with a session in it carries SEQUENCE_HEADER and MAC_HEADER. */
export const ROUTES = {
  /** GET: the tracker's CA certificate as PEM, text/plain; fetched unverified and compared with the pin. 404: no CA of its own. */
  ca: `${API_PREFIX}/ca`,
  /** POST EnrollRequest -> EnrollResponse */
  enroll: `${API_PREFIX}/enroll`,
  /** POST SessionRequest -> the stream of events, application/x-ndjson */
  session: `${API_PREFIX}/session`,
  /** POST MessageBatch -> 204. 401: wrong MAC; 404: no such session; 409: wrong sequence. After each the agent opens a new session. */
  messages: (sessionId: string): string => `${API_PREFIX}/session/${encodeURIComponent(sessionId)}/messages`,
  /** POST LocateRequest -> LocateResponse. It only reads, so its sequence is always 0 and no other post waits for it. */
  locate: (sessionId: string): string => `${API_PREFIX}/session/${encodeURIComponent(sessionId)}/locate`,
  /** POST ResolveRequest -> ResolveResponse, where the welcome says `resolves`. Its sequence is always 0, as that of locate. */
  resolve: (sessionId: string): string => `${API_PREFIX}/session/${encodeURIComponent(sessionId)}/resolve`,
} as const;

const PeerIdText = Type.String({ minLength: 10, maxLength: 128 });
const DigestText = Type.String({ pattern: '^(sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})$' });
const Name = Type.String({ maxLength: 255 });
const Index = Type.Integer({ minimum: 0, maximum: 0x7fffffff });
const ImportSeats = Type.Integer({ minimum: 0, maximum: MAX_IMPORT_SEATS });
const LeaseId = Type.String({ maxLength: 64 });
const TimestampMs = Type.Integer({ minimum: 0 });
/** Of `invalid`s of a blob: an agent says with which it last heard what it says was true. Absent: of an older release. */
const Round = Type.Optional(Index);

const BlobKeySchema = Type.Object({ digest: DigestText, size: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }) });
/** Of one `need`. */
const MAX_NEED_STRETCHES = 64;

const IndexRangeSchema = Type.Tuple([Index, Index]);
const Ranges = Type.Array(IndexRangeSchema, { maxItems: 65536 });
/** base64url of concatenated 32-byte chunk digests. */
const Digests = Type.String({ maxLength: 4 * 1024 * 1024 });

/** Where a blob can be read at its origin. Told to the tracker only, and only where names are not kept back. */
export const SourceSchema = Type.Object({
  origin: Name,
  repository: Name,
  kind: Type.Union([Type.Literal('blob'), Type.Literal('manifest')]),
  mediaType: Type.Optional(Name),
  /** The origin shows it to nobody without credentials. */
  private: Type.Optional(Type.Boolean()),
});
export type Source = Static<typeof SourceSchema>;

export const EnrollRequest = Type.Object({
  tokenId: Type.String({ maxLength: 64 }),
  peerId: PeerIdText,
  /** the agent's libp2p public key, protobuf, base64url */
  publicKey: Type.String({ maxLength: 512 }),
  timestampMs: TimestampMs,
  mac: Type.String({ maxLength: 64 }),
  /** over enrolmentText, base64url */
  signature: Type.String({ maxLength: 256 }),
});
export type EnrollRequest = Static<typeof EnrollRequest>;

export const EnrollResponse = Type.Object({
  fleetId: Type.String(),
  /** Ed25519 public key, SPKI PEM: checks every membership of this fleet */
  fleetKey: Type.String(),
  membership: Type.String(),
});
export type EnrollResponse = Static<typeof EnrollResponse>;

/** Sizes agreed on by both sides; told to the tracker so that a lease fits the agent. */
export const SessionRequest = Type.Object({
  peerId: PeerIdText,
  nonce: Type.String({ minLength: 16, maxLength: 64 }),
  timestampMs: TimestampMs,
  /** over sessionText, base64url */
  signature: Type.String({ maxLength: 256 }),
  /** multiaddrs without the peer id, such as /ip4/10.0.0.7/tcp/5051 */
  addresses: Type.Array(Type.String({ maxLength: 256 }), { maxItems: 16 }),
  name: Name,
  zone: Type.Optional(Name),
  labels: Type.Record(Type.String({ maxLength: 63 }), Type.String({ maxLength: 255 })),
  agentVersion: Type.String({ maxLength: 64 }),
  /** TRACKER_PROTOCOL of the agent (protocol-version.ts). */
  protocol: Type.Optional(Type.Integer({ minimum: 0 })),
});
export type SessionRequest = Static<typeof SessionRequest>;

const RolloutId = Type.String({ pattern: '^[a-z0-9-]{1,32}$' });
const Attempt = Type.Integer({ minimum: 1 });
const DescriptorSchema = Type.Object({ digest: DigestText, size: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }), mediaType: Name });
/** Blobs of an image that are told one by one; of an image with more, the rest goes unmentioned. */
export const MAX_ROLLOUT_LAYERS = 1024;
/** What is told of a hook's output: its end. */
export const MAX_HOOK_OUTPUT = 4096;

/** Something that a host has to do for a rollout. A task is one (rolloutId, attempt): told again, it is the same. */
export const RolloutTask = Type.Object({
  rolloutId: RolloutId,
  attempt: Attempt,
  /**
   * resolve: ask the origin, with the agent's own right, what the tag is, and say so. pull: have the image of `digest` here, whole and verified. verify: read
   * all of it from disk, and fetch nothing. What an agent does not know it refuses with a result.
   */
  task: Type.String({ maxLength: 32 }),
  origin: Name,
  repository: Name,
  tag: Type.Optional(Name),
  /** The pinned manifest or index. Absent in `resolve`. */
  digest: Type.Optional(DigestText),
  /** os/architecture[/variant]; absent: the host's own. */
  platform: Type.Optional(Type.String({ maxLength: 64 })),
});
export type RolloutTask = Static<typeof RolloutTask>;

/** What came of the command that the host's own settings name. */
export const HookOutcome = Type.Object({
  /** Absent: it did not end by itself. */
  exitCode: Type.Optional(Type.Integer()),
  ms: Type.Integer({ minimum: 0 }),
  output: Type.String({ maxLength: MAX_HOOK_OUTPUT }),
});
export type HookOutcome = Static<typeof HookOutcome>;

/** Agent -> tracker. `first`/`index` count chunks, `bytes` bytes. */
export const AgentMessage = Type.Union([
  /** After the session has opened: all finished blobs held; `complete` with the last part. Answers the restart window. */
  Type.Object({ type: Type.Literal('inventory'), seeds: Type.Array(BlobKeySchema, { maxItems: 4096 }), complete: Type.Boolean() }),
  /** Joins the swarm. `canRead`: this agent may read the blob at its origin. */
  Type.Object({
    type: Type.Literal('want'),
    blob: BlobKeySchema,
    source: Type.Optional(SourceSchema),
    canRead: Type.Boolean(),
    have: Ranges,
    reading: Ranges,
    round: Round,
  }),
  /** Chunks verified and servable since the last message. */
  Type.Object({ type: Type.Literal('have'), blob: BlobKeySchema, ranges: Ranges, round: Round }),
  /** Chunks held no more (window moved on, evicted, found wrong). */
  Type.Object({ type: Type.Literal('lost'), blob: BlobKeySchema, ranges: Ranges }),
  /** Asks for `runs` more leases, within `within` where the agent has no use for the rest. Replaces the last `need`. */
  Type.Object({
    type: Type.Literal('need'),
    blob: BlobKeySchema,
    runs: Type.Integer({ minimum: 0, maximum: 16 }),
    /** bytes per second this agent gets from the origin, 0 if unknown */
    originRate: Type.Number({ minimum: 0 }),
    within: Type.Optional(IndexRangeSchema),
    /** Only these stretches of `within` are of use. */
    stretches: Type.Optional(Type.Array(IndexRangeSchema, { maxItems: MAX_NEED_STRETCHES })),
  }),
  /** No progress for 5 s: asks to read from this chunk on what somebody else may hold or read. Granted is at most a run, each chunk once. */
  Type.Object({ type: Type.Literal('hedge'), blob: BlobKeySchema, index: Index }),
  Type.Object({ type: Type.Literal('progress'), leaseId: LeaseId, bytes: Type.Integer({ minimum: 0 }) }),
  /** Chunks of a lease were read and hashed: `digests` from `first` on. Repeated as a run advances; late ones count. */
  Type.Object({ type: Type.Literal('done'), leaseId: LeaseId, blob: BlobKeySchema, first: Index, digests: Digests }),
  /** Gives back what is unread of a lease. */
  Type.Object({
    type: Type.Literal('release'),
    leaseId: LeaseId,
    reason: Type.Union([
      Type.Literal('unneeded'),
      Type.Literal('failed'),
      Type.Literal('denied'),
      Type.Literal('throttled'),
      Type.Literal('no-ranges'),
    ]),
    retryAfterMs: Type.Optional(Type.Integer({ minimum: 0 })),
  }),
  /** The blob is finished, verified and kept: `signature` over chunkMapSigningBytes, base64url. */
  Type.Object({ type: Type.Literal('seed'), blob: BlobKeySchema, signature: Type.String({ maxLength: 256 }) }),
  /** Leaves the swarm; `kept` says whether the agent still serves what it announced. */
  Type.Object({ type: Type.Literal('leave'), blob: BlobKeySchema, kept: Type.Boolean() }),
  /** `peer` sent a chunk whose digest contradicts what was vouched for; both base64url, 32 bytes. */
  Type.Object({ type: Type.Literal('conflict'), blob: BlobKeySchema, index: Index, peer: PeerIdText, heard: Type.String({ maxLength: 64 }), expected: Type.String({ maxLength: 64 }) }),
  /** All chunks are here and match, yet the blob's digest does not: some voucher lied. */
  Type.Object({ type: Type.Literal('mismatch'), blob: BlobKeySchema, round: Round }),
  /** `peer` sent bytes that contradict the digest that it sent with them. */
  Type.Object({ type: Type.Literal('accuse'), blob: BlobKeySchema, index: Index, peer: PeerIdText }),
  /** Every heartbeat interval, and more often while pulling: totals since the agent's start. */
  Type.Object({
    type: Type.Literal('stats'),
    bytes: Type.Object({ peer: Type.Number(), origin: Type.Number(), store: Type.Number(), uploaded: Type.Number(), duplicate: Type.Number() }),
    pulls: Type.Object({ active: Type.Integer(), done: Type.Integer(), failed: Type.Integer() }),
    store: Type.Object({ bytes: Type.Number(), limit: Type.Number(), blobs: Type.Integer() }),
    ...REPORT_FIELDS,
  }),
  /** A task of `rollouts` is at work: at once when it was taken, each second while something moves, every ten seconds in any case. Only after a `rollouts`. */
  Type.Object({
    type: Type.Literal('rollout-progress'),
    rolloutId: RolloutId,
    attempt: Attempt,
    /** resolving, waiting, pulling, verifying, hook; more may come. */
    phase: Type.String({ maxLength: 32 }),
    /** The manifest of the host's platform, and its blobs: said once per session and task. */
    manifest: Type.Optional(DigestText),
    layers: Type.Optional(Type.Array(BlobKeySchema, { maxItems: MAX_ROLLOUT_LAYERS })),
    /** Bytes that are here, for each of `layers`. */
    held: Type.Optional(Type.Array(Type.Integer({ minimum: 0 }), { maxItems: MAX_ROLLOUT_LAYERS })),
    /** What was fetched for this attempt up to now; an older agent tells it with its result alone. */
    fetched: Type.Optional(Type.Object({ peer: Type.Integer({ minimum: 0 }), origin: Type.Integer({ minimum: 0 }) })),
  }),
  /** A task of `rollouts` is over. Said again whenever it is listed again. */
  Type.Object({
    type: Type.Literal('rollout-result'),
    rolloutId: RolloutId,
    attempt: Attempt,
    ok: Type.Boolean(),
    /** Of `resolve`. */
    resolved: Type.Optional(DescriptorSchema),
    error: Type.Optional(Type.Object({ code: Type.String({ maxLength: 64 }), message: Type.String({ maxLength: 1024 }) })),
    /** The host's platform as its manifest was chosen by. */
    manifest: Type.Optional(DigestText),
    /** Bytes of the image on this host, and where those came from that were fetched for this task. */
    bytes: Type.Optional(Type.Object({ size: Type.Integer({ minimum: 0 }), peer: Type.Integer({ minimum: 0 }), origin: Type.Integer({ minimum: 0 }) })),
    ms: Type.Optional(Type.Integer({ minimum: 0 })),
    hook: Type.Optional(HookOutcome),
  }),
]);
export type AgentMessage = Static<typeof AgentMessage>;

/** What an agent may say to a tracker of this release; of a newer agent the tracker passes over the rest. */
export const AGENT_MESSAGE_TYPES: ReadonlySet<unknown> = new Set(AgentMessage.anyOf.map((message) => message.properties.type.const));

export const MessageBatch = Type.Object({ messages: Type.Array(AgentMessage, { maxItems: 4096 }) });
export type MessageBatch = Static<typeof MessageBatch>;

export const PeerInfoSchema = Type.Object({ peerId: PeerIdText, addresses: Type.Array(Type.String()) });
/** A peer to connect to: its id and multiaddrs; never a name (peers need none). */
export type PeerInfo = Static<typeof PeerInfoSchema>;

/** Tracker -> agent, one JSON line each. Unknown types are ignored, so that a newer tracker may say more. */
export const TrackerEvent = Type.Union([
  /** First on every stream. `key`: base64url, for messageMac. `membership` renews the agent's own. */
  Type.Object({
    type: Type.Literal('welcome'),
    sessionId: Type.String(),
    key: Type.String(),
    epoch: Type.Integer(),
    heartbeatMs: Type.Integer(),
    fleetId: Type.String(),
    fleetKey: Type.String(),
    membership: Type.String(),
    /** TRACKER_PROTOCOL of the tracker. */
    protocol: Type.Optional(Type.Integer({ minimum: 0 })),
    /** It answers `resolve`: it asks origins for the fleet what anybody may read there. */
    resolves: Type.Optional(Type.Boolean()),
  }),
  /** Keeps the stream alive and proves it; every heartbeat interval. */
  Type.Object({ type: Type.Literal('ping'), fleet: Type.Optional(FleetWord) }),
  /** The standing mesh: whom to be connected to. Replaces the last one. */
  Type.Object({ type: Type.Literal('mesh'), peers: Type.Array(PeerInfoSchema) }),
  /** Peers that hold or fetch this blob, outside the mesh: connect to these as well. */
  Type.Object({ type: Type.Literal('peers'), blob: BlobKeySchema, peers: Type.Array(PeerInfoSchema) }),
  /** Who brings this blob's chunks into the agent's zone: this many seats, and the agent's own (import-seats.ts). Replaces the last one. */
  Type.Object({ type: Type.Literal('importer'), blob: BlobKeySchema, seats: ImportSeats, seat: Type.Optional(ImportSeats) }),
  /** Permission to read chunks `first .. first+count-1` at the origin, for `deadlineMs` from now, extended by progress. */
  Type.Object({
    type: Type.Literal('grant'),
    epoch: Type.Integer(),
    leaseId: LeaseId,
    blob: BlobKeySchema,
    first: Index,
    count: Index,
    deadlineMs: Type.Integer(),
    /** run: as usual. stream: the origin has no Range, read all. hedge: others may read it too. audit: read, report `done`, keep nothing. */
    mode: Type.Union([Type.Literal('run'), Type.Literal('stream'), Type.Literal('hedge'), Type.Literal('audit')]),
  }),
  /**
   * Give back what is unread of this lease after its first `keep` chunks. Answer with `release` or `done`; `release` ends the lease.
   * `spare`: only where it is not being read yet, or what the origin has sent of it is lost; otherwise it goes on, and nothing is answered.
   */
  Type.Object({ type: Type.Literal('revoke'), leaseId: LeaseId, keep: Index, spare: Type.Optional(Type.Boolean()) }),
  /** What `by` vouches for, from chunk `first` on. */
  Type.Object({ type: Type.Literal('digests'), blob: BlobKeySchema, first: Index, digests: Digests, by: PeerIdText }),
  /** These chunks were proven or suspected wrong: forget bytes and digests, fetch them again. Answer with `lost` for what was held. `round`: the last that was told to all. */
  Type.Object({ type: Type.Literal('invalid'), blob: BlobKeySchema, ranges: Ranges, round: Round }),
  /** Members that are expelled or in quarantine: no connection, no chunk. Replaces the last list. */
  Type.Object({ type: Type.Literal('banned'), peers: Type.Array(PeerIdText) }),
  /** All that this host has to do for rollouts now. Replaces the last list: what is not in it any more is stopped. Told after every welcome. */
  Type.Object({ type: Type.Literal('rollouts'), tasks: Type.Array(RolloutTask, { maxItems: 1024 }) }),
  /** What operators have switched off or held back on this host. Replaces the last list. */
  Type.Object({ type: Type.Literal('brakes'), brakes: Type.Array(BrakeOrder, { maxItems: 16 }) }),
  /** Somebody looks at this host: `stats` each second with `detail`, for this long. */
  Type.Object({ type: Type.Literal('watch'), forMs: Type.Integer({ minimum: 0, maximum: 60_000 }) }),
]);
export type TrackerEvent = Static<typeof TrackerEvent>;
export type Grant = Extract<TrackerEvent, { type: 'grant' }>;

/** Asked while the origin is unreachable: what does the fleet know of this digest in this repository? */
export const LocateRequest = Type.Object({ origin: Name, repository: Name, digest: DigestText });
export type LocateRequest = Static<typeof LocateRequest>;
export const LocateResponse = Type.Object({
  /** absent: nobody has read this digest in this repository */
  found: Type.Optional(Type.Object({ size: Type.Integer(), kind: Type.Union([Type.Literal('blob'), Type.Literal('manifest')]), mediaType: Type.Optional(Name), private: Type.Optional(Type.Boolean()) })),
});
export type LocateResponse = Static<typeof LocateResponse>;

/** Asked of a tracker that asks origins for the fleet: what does the origin show to anybody, without credentials? */
export const ResolveRequest = Type.Object({
  origin: Name,
  /** Where the agent would ask, in its order. The tracker answers only where it would ask at the same places. */
  urls: Type.Array(Type.String({ maxLength: 512 }), { minItems: 1, maxItems: 16 }),
  repository: Name,
  kind: Type.Union([Type.Literal('blob'), Type.Literal('manifest')]),
  /** A tag, or a digest. Of a blob, its digest. */
  reference: Type.String({ minLength: 1, maxLength: 255 }),
  /** Media types of manifests that whoever asks can read, as they stand in Accept. */
  accept: Type.Optional(Type.Array(Name, { maxItems: 64 })),
});
export type ResolveRequest = Static<typeof ResolveRequest>;
export const ResolveResponse = Type.Object({
  /** What the origin said a few seconds ago at most. Absent: the agent asks the origin itself. */
  found: Type.Optional(DescriptorSchema),
  /** Why there is no `found`: not-public, not-configured, failed, busy; more may come. */
  why: Type.Optional(Type.String({ maxLength: 64 })),
});
export type ResolveResponse = Static<typeof ResolveResponse>;

/** Problem details (RFC 9457) of every refused request. `code` is stable; the table is in the tracker's errors.ts. */
export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly code: string;
  readonly detail: string;
}

export const SEQUENCE_HEADER = 'flotilla-sequence';
export const MAC_HEADER = 'flotilla-mac';

/** What an agent signs with its libp2p key to open a session. */
export function sessionText(peerId: string, nonce: string, timestampMs: number): string {
  return `flotilla-session/1\n${peerId}\n${nonce}\n${timestampMs}`;
}

/** base64url HMAC-SHA256 of one posted body; `sequence` rises by one with each post of a session, from 1. */
export function messageMac(key: Uint8Array, sessionId: string, sequence: number, body: string): string {
  const bodyHash = createHash('sha256').update(body).digest('hex');
  return createHmac('sha256', key).update(`flotilla-message/1\n${sessionId}\n${sequence}\n${bodyHash}`).digest('base64url');
}

/** Concatenated chunk digests as one base64url string. */
export function packDigests(digests: readonly Uint8Array[]): string {
  return Buffer.concat(digests).toString('base64url');
}

/** @throws RangeError when the text is no whole number of 32-byte digests */
export function unpackDigests(text: string): Uint8Array[] {
  const bytes = Buffer.from(text, 'base64url');
  if (bytes.length % 32 !== 0) throw new RangeError(`${bytes.length} bytes are no chunk digests`);
  return Array.from({ length: bytes.length / 32 }, (_, i) => bytes.subarray(i * 32, i * 32 + 32));
}
