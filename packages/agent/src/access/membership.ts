// Whether a peer belongs to this fleet, and the proof that this agent does.
//
// Kept in DIR/membership.json so that members recognise one another after a restart while the tracker is away.
// A file that cannot be read counts as not enrolled (nobody is let in on it) and the tracker's next word replaces it.
// Non-goals: talking to the tracker (tracker/) and cutting connections (swarm/ listens to onChange).

import { createPublicKey, type KeyObject } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { MembershipError, verifyMembership, type Membership as VerifiedMembership } from '@flotilla/shared/membership';
import { writeDurably } from '../durable-file.ts';
import { AgentError } from '../errors.ts';

/** What the tracker says at enrolment and at the start of every session. */
export interface FleetMembership {
  readonly fleetId: string;
  /** Ed25519 public key, SPKI PEM */
  readonly fleetKey: string;
  /** this agent's own, signed by the fleet */
  readonly membership: string;
}

interface MembershipState {
  readonly fleet: FleetMembership | undefined;
  readonly banned: readonly string[];
}

/** Told after a change: who is banned now that was not before, and whether the fleet or the own membership is another. */
export type MembershipListener = (change: { readonly banned: readonly string[]; readonly renewed: boolean }) => void;

export class Membership {
  /** Why the stored file was not used, if there was one. */
  readonly damaged: AgentError | undefined;
  readonly #path: string;
  #fleet: FleetMembership | undefined;
  #fleetKey: KeyObject | undefined;
  #banned: ReadonlySet<string>;
  #written: Promise<void> = Promise.resolve();
  readonly #listeners = new Set<MembershipListener>();

  private constructor(path: string, state: MembershipState, damaged: AgentError | undefined) {
    this.#path = path;
    this.#fleet = state.fleet;
    this.#fleetKey = state.fleet && createPublicKey(state.fleet.fleetKey);
    this.#banned = new Set(state.banned);
    this.damaged = damaged;
  }

  /** Reads what the data folder knows; a damaged file leaves the agent not enrolled, see `damaged`. */
  static async open(dir: string): Promise<Membership> {
    const path = join(dir, 'membership.json');
    try {
      return new Membership(path, await readState(path), undefined);
    } catch (error) {
      const damaged = new AgentError('STORE_CORRUPT', `${path} cannot be used`, { cause: error });
      return new Membership(path, { fleet: undefined, banned: [] }, damaged);
    }
  }

  get fleetId(): string | undefined {
    return this.#fleet?.fleetId;
  }

  get banned(): ReadonlySet<string> {
    return this.#banned;
  }

  /** The text for this agent's hello; undefined while it is not enrolled. */
  own(): string | undefined {
    return this.#fleet?.membership;
  }

  /**
   * Whether the text makes `peerId` a member whom this agent may trade with.
   * @param peerId the identity that the connection itself has proven
   * @throws MembershipError
   */
  check(membershipText: string, peerId: string, nowMs: number): VerifiedMembership {
    if (this.#fleetKey === undefined) throw new MembershipError('MEMBERSHIP_UNKNOWN', 'this agent is not enrolled itself');
    const membership = verifyMembership(membershipText, this.#fleetKey, peerId, nowMs);
    if (this.#banned.has(peerId)) throw new MembershipError('MEMBERSHIP_BANNED', `${peerId} was expelled or is in quarantine`);
    return membership;
  }

  /**
   * Takes over what the tracker says; in force at once, on disk when the promise resolves.
   * @throws RangeError when the fleet's key is none, before anything changes
   */
  async enrolled({ fleetId, fleetKey, membership }: FleetMembership): Promise<void> {
    const key = parseFleetKey(fleetKey);
    const old = this.#fleet;
    if (old?.fleetId === fleetId && old.fleetKey === fleetKey && old.membership === membership) return;
    this.#fleetKey = key;
    this.#fleet = { fleetId, fleetKey, membership };
    if (old !== undefined && old.fleetKey !== fleetKey) this.#banned = new Set();
    this.#tell({ banned: [], renewed: true });
    await this.#write();
  }

  /** Replaces the list of banned members; in force at once, on disk when the promise resolves. */
  async ban(peerIds: readonly string[]): Promise<void> {
    const old = this.#banned;
    const added = peerIds.filter((peerId) => !old.has(peerId));
    if (added.length === 0 && new Set(peerIds).size === old.size) return;
    this.#banned = new Set(peerIds);
    this.#tell({ banned: added, renewed: false });
    await this.#write();
  }

  /** Resolves when what was taken over so far is on disk, or could not be written. */
  async settled(): Promise<void> {
    await Promise.allSettled([this.#written]);
  }

  /** @returns a function that ends it */
  onChange(listener: MembershipListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #tell(change: Parameters<MembershipListener>[0]): void {
    for (const listener of this.#listeners) listener(change);
  }

  /** One write at a time, each with the state of its start: the last one always wins. */
  #write(): Promise<void> {
    const write = async (): Promise<void> => {
      const state: MembershipState = { fleet: this.#fleet, banned: [...this.#banned].sort() };
      await mkdir(dirname(this.#path), { recursive: true });
      await writeDurably(this.#path, Buffer.from(JSON.stringify(state)));
    };
    // A failed write is its own caller's to hear of; the next one writes everything anyway.
    this.#written = this.#written.then(write, write);
    return this.#written;
  }
}

async function readState(path: string): Promise<MembershipState> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { fleet: undefined, banned: [] };
    throw error;
  }
  const { fleet, banned } = JSON.parse(text) as Partial<Record<keyof MembershipState, unknown>>;
  if (!Array.isArray(banned) || !banned.every((peerId) => typeof peerId === 'string')) throw new RangeError('no list of banned members');
  return { fleet: fleet === undefined ? undefined : parseFleet(fleet), banned };
}

function parseFleet(fields: unknown): FleetMembership {
  const { fleetId, fleetKey, membership } = (fields ?? {}) as Record<keyof FleetMembership, unknown>;
  if (typeof fleetId !== 'string' || typeof fleetKey !== 'string' || typeof membership !== 'string') throw new RangeError('no fleet in it');
  parseFleetKey(fleetKey);
  return { fleetId, fleetKey, membership };
}

function parseFleetKey(pem: string): KeyObject {
  let key: KeyObject;
  try {
    key = createPublicKey(pem);
  } catch (error) {
    throw new RangeError("the fleet's key cannot be read", { cause: error });
  }
  if (key.asymmetricKeyType !== 'ed25519') throw new RangeError(`the fleet's key is of type ${key.asymmetricKeyType}`);
  return key;
}
