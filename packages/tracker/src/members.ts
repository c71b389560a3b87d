// Who belongs to the fleet: enrolment by join token, memberships, quarantine and expulsion. Durable in state.
//
// Invariant: a membership is signed only for a peer that has proven its key here and is not banned. The fleet's Ed25519 key is
// made at the first start (DIR/fleet-key.pem); the fleet's id is derived from it. Non-goals: sessions, and what agents trade.

import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, verify, type KeyObject } from 'node:crypto';
import { join } from 'node:path';
import { publicKeyFromProtobuf } from '@libp2p/crypto/keys';
import { peerIdFromPublicKey } from '@libp2p/peer-id';
import { enrolmentMac, enrolmentText, sameMac, type JoinToken } from '@flotilla/shared/join-token';
import { signMembership } from '@flotilla/shared/membership';
import { sessionText, type EnrollRequest, type SessionRequest } from '@flotilla/shared/tracker-api';
import { readIfThere, writeSecret } from './durable-file.ts';
import { TrackerError } from './errors.ts';
import type { Table } from './state.ts';

const DAY_MS = 24 * 60 * 60 * 1000;
const MEMBERSHIP_MS = 30 * DAY_MS;
const CLOCK_SKEW_MS = 5 * 60 * 1000;
const MAX_MEMBERS = 100_000;
/** Members that were not seen for so long are forgotten; their membership has ended, and they can enrol again. */
const FORGET_MS = 60 * DAY_MS;
/** A nonce counts as used for as long as its time would be accepted; so many are remembered. */
const MAX_NONCES = 200_000;

export type MemberState = 'member' | 'quarantined' | 'expelled';

export interface Member {
  readonly peerId: string;
  /** Raw Ed25519 key, base64url. */
  readonly publicKey: string;
  readonly state: MemberState;
  readonly reason?: string;
  readonly enrolledAtMs: number;
  readonly seenAtMs: number;
}

export interface Fleet {
  readonly id: string;
  /** Ed25519 public key, SPKI PEM. */
  readonly keyPem: string;
}

export class Members {
  readonly fleet: Fleet;
  readonly #fleetKey: KeyObject;
  readonly #table: Table<Member>;
  readonly #members: Map<string, Member>;
  #changes = 0;
  readonly #keys = new Map<string, KeyObject>();
  /** Oldest first. */
  readonly #nonces = new Map<string, number>();

  private constructor(fleetKey: KeyObject, table: Table<Member>, members: Map<string, Member>) {
    const publicKey = createPublicKey(fleetKey);
    const der = publicKey.export({ type: 'spki', format: 'der' });
    this.fleet = { id: createHash('sha256').update(der).digest('hex').slice(0, 32), keyPem: publicKey.export({ type: 'spki', format: 'pem' }) };
    this.#fleetKey = fleetKey;
    this.#table = table;
    this.#members = members;
  }

  static async open(dataDir: string, table: Table<Member>, nowMs: number): Promise<Members> {
    const members = new Map<string, Member>();
    const forgotten = new Map<string, undefined>();
    for await (const [peerId, member] of table.entries()) {
      if (member.state === 'member' && nowMs - member.seenAtMs > FORGET_MS) forgotten.set(peerId, undefined);
      else members.set(peerId, member);
    }
    if (forgotten.size > 0) await table.write(forgotten);
    return new Members(await fleetKey(dataDir), table, members);
  }

  get size(): number {
    return this.#members.size;
  }

  all(): Iterable<Member> {
    return this.#members.values();
  }

  get(peerId: string): Member | undefined {
    return this.#members.get(peerId);
  }

  banned(): string[] {
    return [...this.#members.values()].filter(({ state }) => state !== 'member').map(({ peerId }) => peerId);
  }

  /** Checks token, proof, time, key and signature. @returns the membership @throws TrackerError */
  async enroll(request: EnrollRequest, token: JoinToken, nowMs: number): Promise<string> {
    const { peerId, tokenId, timestampMs } = request;
    if (tokenId !== token.id) throw new TrackerError('TOKEN_UNKNOWN', `token ${tokenId} is not the current one`);
    if (!sameMac(request.mac, enrolmentMac(token, peerId, timestampMs))) throw new TrackerError('TOKEN_PROOF_WRONG', `${peerId} does not hold the secret of token ${tokenId}`);
    checkTime(timestampMs, nowMs);
    const raw = rawKey(request);
    if (!verify(null, Buffer.from(enrolmentText(tokenId, peerId, timestampMs)), toKey(raw), Buffer.from(request.signature, 'base64url'))) {
      throw new TrackerError('SIGNATURE_WRONG', `${peerId} did not sign its enrolment`);
    }
    const known = this.#members.get(peerId);
    checkState(known);
    if (known === undefined && this.#members.size >= MAX_MEMBERS) throw new TrackerError('FLEET_FULL', `${MAX_MEMBERS} members`);
    await this.#put({ peerId, publicKey: raw.toString('base64url'), state: 'member', enrolledAtMs: known?.enrolledAtMs ?? nowMs, seenAtMs: nowMs });
    return this.membership(peerId, nowMs);
  }

  /** Checks that the request is of a member, fresh, and signed by its key. @throws TrackerError */
  authenticate({ peerId, nonce, timestampMs, signature }: SessionRequest, nowMs: number): Member {
    const member = this.#members.get(peerId);
    if (member === undefined) throw new TrackerError('MEMBER_UNKNOWN', `${peerId} is not enrolled`);
    checkState(member);
    checkTime(timestampMs, nowMs);
    if (!this.signedBy(peerId, Buffer.from(sessionText(peerId, nonce, timestampMs)), Buffer.from(signature, 'base64url'))) {
      throw new TrackerError('SIGNATURE_WRONG', `${peerId} did not sign this session`);
    }
    this.#useNonce(`${peerId} ${nonce}`, nowMs);
    return member;
  }

  /** Signed for 30 days. */
  membership(peerId: string, nowMs: number): string {
    return signMembership({ fleetId: this.fleet.id, peerId, notAfterMs: nowMs + MEMBERSHIP_MS }, this.#fleetKey);
  }

  /** Whether `signature` over `bytes` is of the member's own key. */
  signedBy(peerId: string, bytes: Uint8Array, signature: Uint8Array): boolean {
    const member = this.#members.get(peerId);
    if (member === undefined) return false;
    let key = this.#keys.get(peerId);
    if (key === undefined) this.#keys.set(peerId, (key = toKey(Buffer.from(member.publicKey, 'base64url'))));
    return verify(null, bytes, key, signature);
  }

  /** Another number whenever somebody has become a member or ceased to be one, or has changed state. */
  get changes(): number {
    return this.#changes;
  }

  /** Remembers that the member was here. */
  async seen(peerId: string, nowMs: number): Promise<void> {
    const member = this.#members.get(peerId);
    if (member !== undefined) await this.#put({ ...member, seenAtMs: nowMs });
  }

  /** Bans a member for good, or until it is readmitted. @returns whether there is such a member */
  async ban(peerId: string, state: 'quarantined' | 'expelled', reason: string): Promise<boolean> {
    const member = this.#members.get(peerId);
    if (member === undefined) return false;
    await this.#put({ ...member, state, reason }, true);
    return true;
  }

  /** No member any more. @returns whether there was such a member */
  async forget(peerId: string): Promise<boolean> {
    this.#keys.delete(peerId);
    if (!this.#members.delete(peerId)) return false;
    this.#changes++;
    await this.#table.del(peerId, true);
    return true;
  }

  async readmit(peerId: string): Promise<boolean> {
    const member = this.#members.get(peerId);
    if (member === undefined) return false;
    const { reason: _, ...rest } = member;
    await this.#put({ ...rest, state: 'member' }, true);
    return true;
  }

  /** In memory first, so that a failing disk cannot let a banned member in. */
  async #put(member: Member, durable = false): Promise<void> {
    const before = this.#members.get(member.peerId);
    if (before?.state !== member.state || before.reason !== member.reason) this.#changes++;
    this.#members.set(member.peerId, member);
    await this.#table.put(member.peerId, member, durable);
  }

  #useNonce(nonce: string, nowMs: number): void {
    for (const [old, usedAtMs] of this.#nonces) {
      if (nowMs - usedAtMs <= 2 * CLOCK_SKEW_MS && this.#nonces.size < MAX_NONCES) break;
      this.#nonces.delete(old);
    }
    if (this.#nonces.has(nonce)) throw new TrackerError('REPLAYED', 'the nonce was used before');
    this.#nonces.set(nonce, nowMs);
  }
}

function checkTime(timestampMs: number, nowMs: number): void {
  const offMs = Math.abs(timestampMs - nowMs);
  if (offMs > CLOCK_SKEW_MS) throw new TrackerError('CLOCK_SKEW', `the request's time is ${Math.round(offMs / 1000)} s off`);
}

function checkState(member: Member | undefined): void {
  if (member === undefined || member.state === 'member') return;
  throw new TrackerError('MEMBER_BANNED', `${member.peerId} is ${member.state}: ${member.reason ?? 'no reason given'}`);
}

/** The raw Ed25519 key behind the protobuf one, if it is the key of the peer id. @throws KEY_INVALID */
function rawKey({ peerId, publicKey }: EnrollRequest): Buffer {
  try {
    const key = publicKeyFromProtobuf(Buffer.from(publicKey, 'base64url'));
    if (key.type === 'Ed25519' && peerIdFromPublicKey(key).toString() === peerId) return Buffer.from(key.raw);
  } catch (error) {
    throw new TrackerError('KEY_INVALID', 'the public key cannot be read', { cause: error });
  }
  throw new TrackerError('KEY_INVALID', `the public key is not the Ed25519 key of ${peerId}`);
}

function toKey(raw: Buffer): KeyObject {
  return createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x: raw.toString('base64url') }, format: 'jwk' });
}

async function fleetKey(dataDir: string): Promise<KeyObject> {
  const path = join(dataDir, 'fleet-key.pem');
  const pem = await readIfThere(path);
  if (pem !== undefined) return createPrivateKey(pem);
  const { privateKey } = generateKeyPairSync('ed25519');
  await writeSecret(path, privateKey.export({ type: 'pkcs8', format: 'pem' }));
  return privateKey;
}
