// `/api/v1` between operators and the tracker, by plain requests. Read by the dashboard, the CLI and scripts. What is shown live, and the
// parts that pages are made of, stand in live-api.ts; rollouts in rollout-api.ts.
//
// Schemas check what arrives at the tracker and make its OpenAPI document. Errors are problem details (tracker-api.ts, Problem). Times are unix ms.

import { Type, type Static } from 'typebox';
import { Brake, HostState } from './live-api.ts';

export { OPERATOR_ROUTES, ROLES } from './routes.ts';

/** Each may do what the one before it may. read: look. operate: rollouts, brakes, members. admin: tokens as well. */
export const Role = Type.Union([Type.Literal('read'), Type.Literal('operate'), Type.Literal('admin')]);
export type Role = Static<typeof Role>;

const TimestampMs = Type.Integer({ minimum: 0 });
const OperatorName = Type.String({ minLength: 1, maxLength: 64, pattern: '^[A-Za-z0-9][A-Za-z0-9._@ -]*$' });

/** POST /api/v1/sign-in: with the code of a link, or a token. Sets the session's cookie. */
export const SignInRequest = Type.Union([
  Type.Object({ code: Type.String({ minLength: 1, maxLength: 64 }) }, { additionalProperties: false }),
  Type.Object({ token: Type.String({ minLength: 1, maxLength: 128 }) }, { additionalProperties: false }),
]);
export type SignInRequest = Static<typeof SignInRequest>;

/** The answer of POST /api/v1/sign-in and GET /api/v1/me. */
export const Me = Type.Object({ name: Type.String(), role: Role, fleetId: Type.String(), version: Type.String() });
export type Me = Static<typeof Me>;

export const TokenInfo = Type.Object({ name: Type.String(), role: Role, createdAtMs: TimestampMs, createdBy: Type.String() });
export type TokenInfo = Static<typeof TokenInfo>;

export const CreateTokenRequest = Type.Object({ name: OperatorName, role: Role });
export type CreateTokenRequest = Static<typeof CreateTokenRequest>;

/** `token` is shown this once. */
export const CreatedToken = Type.Object({ name: Type.String(), role: Role, token: Type.String() });
export type CreatedToken = Static<typeof CreatedToken>;

/** One change: who, when, what. `action` is a noun and what was done to it, such as `rollout.pause`. */
export const AuditEntry = Type.Object({
  id: Type.Integer(),
  atMs: TimestampMs,
  /** Name of the operator; `tracker` where nobody asked for it. */
  actor: Type.String(),
  action: Type.String(),
  target: Type.String(),
  detail: Type.Record(Type.String(), Type.Union([Type.String(), Type.Number(), Type.Boolean()])),
});
export type AuditEntry = Static<typeof AuditEntry>;

/** GET /api/v1/audit-log: newest first; `before` is the id of the last entry seen. */
export const AuditQuery = Type.Object({ limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 1000, default: 100 })), before: Type.Optional(Type.Integer({ minimum: 1 })) });
export const AuditPage = Type.Object({ entries: Type.Array(AuditEntry) });
export type AuditPage = Static<typeof AuditPage>;

// ---------------------------------------------------------------- members

export const Member = Type.Object({
  peerId: Type.String(),
  /** As its last session told it; empty: it never had one. */
  name: Type.String(),
  zone: Type.String(),
  version: Type.String(),
  state: HostState,
  reason: Type.Optional(Type.String()),
  trusted: Type.Boolean(),
  /** Members that say it sent them bytes which contradict its own digest, at most two; blobs about which it lied. */
  accusers: Type.Array(Type.String()),
  lies: Type.Integer(),
  enrolledAtMs: TimestampMs,
  seenAtMs: TimestampMs,
});
export type Member = Static<typeof Member>;
export const MemberList = Type.Object({ members: Type.Array(Member) });
export type MemberList = Static<typeof MemberList>;

export const BanRequest = Type.Object({ reason: Type.String({ minLength: 1, maxLength: 255 }) });

/** The secret itself is only in the file. */
export const JoinTokenInfo = Type.Object({ id: Type.String(), file: Type.String(), caPin: Type.Optional(Type.String()) });
export type JoinTokenInfo = Static<typeof JoinTokenInfo>;

/** Verified bytes all the same: what a liar sends is found out before it is kept. `complete`: false where records that old are gone. */
export const ReceivedFrom = Type.Object({
  peerId: Type.String(),
  sinceMs: TimestampMs,
  complete: Type.Boolean(),
  receivers: Type.Array(Type.Object({ peerId: Type.String(), name: Type.String(), bytes: Type.Number(), lastAtMs: TimestampMs, images: Type.Array(Type.String()) })),
});
export type ReceivedFrom = Static<typeof ReceivedFrom>;

// ---------------------------------------------------------------- images

export const ImageSort = Type.Union([Type.Literal('used'), Type.Literal('size'), Type.Literal('copies'), Type.Literal('name')]);
export const ImagesQuery = Type.Object({
  q: Type.Optional(Type.String({ maxLength: 512 })),
  sort: Type.Optional(ImageSort),
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 1000, default: 200 })),
  offset: Type.Optional(Type.Integer({ minimum: 0 })),
});
export type ImagesQuery = Static<typeof ImagesQuery>;

export const ImageRow = Type.Object({
  /** Of the manifest of one platform. */
  digest: Type.String(),
  names: Type.Array(Type.String()),
  /** os/architecture, where the index said it. */
  platform: Type.Optional(Type.String()),
  layers: Type.Integer(),
  size: Type.Number(),
  /** Connected hosts that hold all of it, and that hold some of it. */
  copies: Type.Integer(),
  partial: Type.Integer(),
  firstSeenMs: TimestampMs,
  usedAtMs: TimestampMs,
});
export type ImageRow = Static<typeof ImageRow>;
export const ImagePage = Type.Object({ total: Type.Integer(), images: Type.Array(ImageRow) });
export type ImagePage = Static<typeof ImagePage>;

// ---------------------------------------------------------------- brakes

export const BrakeRequest = Type.Object(
  {
    scope: Brake.properties.scope,
    stopUploads: Type.Optional(Type.Boolean()),
    originOnly: Type.Optional(Type.Boolean()),
    downloadLimit: Type.Optional(Type.Number({ minimum: 1024 })),
    uploadLimit: Type.Optional(Type.Number({ minimum: 1024 })),
    zoneLimit: Type.Optional(Type.Number({ minimum: 1024 })),
    reason: Type.String({ maxLength: 255 }),
    /** It ends by itself after this: a minute to a day. */
    forMs: Type.Integer({ minimum: 1_000, maximum: 86_400_000 }),
  },
  { additionalProperties: false },
);
export type BrakeRequest = Static<typeof BrakeRequest>;

// ---------------------------------------------------------------- finished pulls

/** An image, or blobs of one repository, that one host has taken in one go. Kept for 7 days, within bounds. */
export const Pull = Type.Object({
  id: Type.String(),
  peerId: Type.String(),
  host: Type.String(),
  zone: Type.String(),
  /** `origin/repository:tag`, `origin/repository`, or empty where names are kept back. */
  image: Type.String(),
  /** Of the manifest, where it was asked for by this host. */
  digest: Type.Optional(Type.String()),
  blobs: Type.Array(Type.Object({ digest: Type.String(), size: Type.Number() })),
  startedAtMs: TimestampMs,
  endedAtMs: TimestampMs,
  bytes: Type.Object({ peer: Type.Number(), origin: Type.Number(), resumed: Type.Number(), duplicate: Type.Number() }),
  /** Those that gave the most, at most 5 of `sources`. */
  from: Type.Array(Type.Object({ peerId: Type.String(), name: Type.String(), bytes: Type.Number() })),
  sources: Type.Integer(),
  failed: Type.Optional(Type.String()),
  requestIds: Type.Array(Type.String()),
});
export type Pull = Static<typeof Pull>;

export const PullsQuery = Type.Object({
  /** Each narrows: a host by peer id or name, part of an image's name, a digest of manifest or blob. */
  host: Type.Optional(Type.String({ maxLength: 255 })),
  image: Type.Optional(Type.String({ maxLength: 512 })),
  digest: Type.Optional(Type.String({ maxLength: 160 })),
  before: Type.Optional(Type.String({ maxLength: 64 })),
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 500, default: 100 })),
});
export type PullsQuery = Static<typeof PullsQuery>;
/** Newest first; `next` is the `before` of the next page. */
export const PullPage = Type.Object({ pulls: Type.Array(Pull), next: Type.Optional(Type.String()) });
export type PullPage = Static<typeof PullPage>;

// ---------------------------------------------------------------- timeline

export const TimelineQuery = Type.Object({ fromMs: Type.Optional(TimestampMs), toMs: Type.Optional(TimestampMs) });
export type TimelineQuery = Static<typeof TimelineQuery>;

/** `kind`: version, settings, rollout, member, brake, verdict, access (tokens and sessions), tracker. */
export const TimelineEvent = Type.Object({ atMs: TimestampMs, kind: Type.String(), text: Type.String(), entry: AuditEntry });
export type TimelineEvent = Static<typeof TimelineEvent>;

/** `series`: as ThroughputPoint, with `stepMs` between points: seconds in the last hour, minutes for 7 days. Events newest first, at most 1000. */
export const Timeline = Type.Object({ fromMs: TimestampMs, toMs: TimestampMs, stepMs: Type.Integer(), series: Type.Array(Type.Array(Type.Number())), events: Type.Array(TimelineEvent) });
export type Timeline = Static<typeof Timeline>;

// ---------------------------------------------------------------- search

export const SearchQuery = Type.Object({ q: Type.String({ minLength: 1, maxLength: 512 }) });

/** One line of the search box; `link` is a page of the dashboard below /: hosts/…, images/…, swarms/…, pulls/…, rollouts/…. At most 20 of a kind. */
export const SearchHit = Type.Object({
  kind: Type.Union([Type.Literal('host'), Type.Literal('image'), Type.Literal('blob'), Type.Literal('pull'), Type.Literal('request'), Type.Literal('rollout')]),
  title: Type.String(),
  detail: Type.String(),
  link: Type.String(),
});
export type SearchHit = Static<typeof SearchHit>;
export const SearchResult = Type.Object({ hits: Type.Array(SearchHit) });
export type SearchResult = Static<typeof SearchResult>;
