// Membership: what the tracker signs when it enrols an agent, and what the agent shows other agents in its hello.
//
// A peer checks it with the fleet's public key alone, so members recognise one another while the tracker is away.
// The signing text is a wire contract (pinned by membership.test.ts).

import { sign, verify, type KeyObject } from 'node:crypto';

export interface Membership {
  readonly fleetId: string;
  readonly peerId: string;
  /** Unix time in ms after which members refuse it; every new session renews it. */
  readonly notAfterMs: number;
}

/** Why a membership was not accepted. */
export class MembershipError extends Error {
  readonly code: 'MEMBERSHIP_MALFORMED' | 'MEMBERSHIP_FORGED' | 'MEMBERSHIP_EXPIRED' | 'MEMBERSHIP_FOREIGN' | 'MEMBERSHIP_BANNED' | 'MEMBERSHIP_UNKNOWN';
  constructor(code: MembershipError['code'], message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'MembershipError';
    this.code = code;
  }
}

function signingBytes({ fleetId, peerId, notAfterMs }: Membership): Buffer {
  return Buffer.from(`flotilla-membership/1\n${fleetId}\n${peerId}\n${notAfterMs}`);
}

/** base64url JSON `{fleetId, peerId, notAfterMs, signature}`; `fleetKey` is the tracker's Ed25519 private key. */
export function signMembership(membership: Membership, fleetKey: KeyObject): string {
  const signature = sign(null, signingBytes(membership), fleetKey).toString('base64url');
  return Buffer.from(JSON.stringify({ ...membership, signature })).toString('base64url');
}

/**
 * Checks that `text` makes `peerId` a member of the fleet whose public key is `fleetKey`.
 * @param peerId the identity that the connection itself has proven
 * @throws MembershipError
 */
export function verifyMembership(text: string, fleetKey: KeyObject, peerId: string, nowMs: number): Membership {
  const { signature, ...membership } = parse(text);
  if (!verify(null, signingBytes(membership), fleetKey, Buffer.from(signature, 'base64url'))) {
    throw new MembershipError('MEMBERSHIP_FORGED', 'membership was not signed by this fleet');
  }
  if (membership.peerId !== peerId) {
    throw new MembershipError('MEMBERSHIP_FOREIGN', `membership of ${membership.peerId} shown by ${peerId}`);
  }
  if (membership.notAfterMs < nowMs) {
    throw new MembershipError('MEMBERSHIP_EXPIRED', `membership of ${peerId} ended ${new Date(membership.notAfterMs).toISOString()}`);
  }
  return membership;
}

function parse(text: string): Membership & { signature: string } {
  try {
    const { fleetId, peerId, notAfterMs, signature } = JSON.parse(Buffer.from(text, 'base64url').toString('utf8')) as Record<string, unknown>;
    if (typeof fleetId === 'string' && typeof peerId === 'string' && typeof notAfterMs === 'number' && typeof signature === 'string') {
      return { fleetId, peerId, notAfterMs, signature };
    }
  } catch (error) {
    throw new MembershipError('MEMBERSHIP_MALFORMED', 'membership cannot be read', { cause: error });
  }
  throw new MembershipError('MEMBERSHIP_MALFORMED', 'membership lacks a field');
}
