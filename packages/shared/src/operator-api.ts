// `/api/v1` between operators and the tracker: roles, tokens, sign-in, the audit log. Read by the dashboard, the CLI and scripts.
//
// Schemas check what arrives at the tracker and make its OpenAPI document; types are all that the dashboard takes from here at run time.

import { Type, type Static } from 'typebox';

export const ROLES = ['read', 'operate', 'admin'] as const;
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
