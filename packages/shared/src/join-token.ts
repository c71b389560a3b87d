// The join token: the secret that lets an agent enrol, and the pin that lets it trust the tracker from its first byte.
// Text form: `flotilla1.<base64url JSON {id, secret, caPin?}>`. Made by the tracker, reusable until rotated.

import { createHmac, timingSafeEqual, X509Certificate, createHash } from 'node:crypto';

const PREFIX = 'flotilla1.';

export interface JoinToken {
  readonly id: string;
  /** base64url, 32 random bytes */
  readonly secret: string;
  /** `caPin()` of the tracker's CA; absent where the tracker speaks plain HTTP or has a public certificate */
  readonly caPin?: string;
}

export class InvalidJoinTokenError extends Error {
  readonly code = 'JOIN_TOKEN_INVALID';
  constructor(options?: ErrorOptions) {
    super('the join token cannot be read; copy DIR/join-token of the tracker again, whole', options);
    this.name = 'InvalidJoinTokenError';
  }
}

export function formatJoinToken(token: JoinToken): string {
  return PREFIX + Buffer.from(JSON.stringify(token)).toString('base64url');
}

/** @throws InvalidJoinTokenError */
export function parseJoinToken(text: string): JoinToken {
  const trimmed = text.trim();
  if (!trimmed.startsWith(PREFIX)) throw new InvalidJoinTokenError();
  let fields: Record<string, unknown> | null;
  try {
    fields = JSON.parse(Buffer.from(trimmed.slice(PREFIX.length), 'base64url').toString('utf8')) as Record<string, unknown> | null;
  } catch (error) {
    throw new InvalidJoinTokenError({ cause: error });
  }
  const { id, secret, caPin } = fields ?? {};
  if (typeof id !== 'string' || typeof secret !== 'string' || id === '' || secret === '') throw new InvalidJoinTokenError();
  if (caPin !== undefined && typeof caPin !== 'string') throw new InvalidJoinTokenError();
  return { id, secret, ...(caPin !== undefined && { caPin }) };
}

/** `sha256:<hex>` over the DER of a CA certificate given as PEM. */
export function caPin(pem: string): string {
  return `sha256:${createHash('sha256').update(new X509Certificate(pem).raw).digest('hex')}`;
}

/** What an agent proves at enrolment: it has the secret, without sending it. base64url HMAC-SHA256. */
export function enrolmentMac(token: JoinToken, peerId: string, timestampMs: number): string {
  return createHmac('sha256', Buffer.from(token.secret, 'base64url'))
    .update(enrolmentText(token.id, peerId, timestampMs))
    .digest('base64url');
}

/** The text that the MAC covers and that the agent also signs with its libp2p key. */
export function enrolmentText(tokenId: string, peerId: string, timestampMs: number): string {
  return `flotilla-enroll/1\n${tokenId}\n${peerId}\n${timestampMs}`;
}

/** Compares two base64url MACs in constant time. */
export function sameMac(a: string, b: string): boolean {
  const left = Buffer.from(a, 'base64url');
  const right = Buffer.from(b, 'base64url');
  return left.length === right.length && timingSafeEqual(left, right);
}
