// Switches that hold hosts back: no uploads, origin only, a rate. For the fleet, a zone or a host; each expires by itself. Durable.
//
// A host obeys all that reach it: switches add up, of rates the lowest counts. Agents are told how long each lasts, so that it ends without the
// tracker too. Bound: MAX_BRAKES. Non-goals: who may set one (routes), obeying (the agent).

import { randomBytes } from 'node:crypto';
import type { BrakeOrder } from '@flotilla/shared/agent-report';
import type { Brake } from '@flotilla/shared/live-api';
import type { BrakeRequest } from '@flotilla/shared/operator-api';
import { TrackerError } from '../errors.ts';
import type { Table } from '../state.ts';

const MAX_BRAKES = 100;
/** Of one host: as the event to agents has it. */
const MAX_ORDERS = 16;

export type BrakeRecord = Omit<Brake, 'hosts'>;

/** What a brake's reach depends on. */
export interface Reached {
  readonly peerId: string;
  readonly zone: string;
}

export class Brakes {
  readonly #table: Table<BrakeRecord>;
  readonly #brakes: Map<string, BrakeRecord>;
  #version = 0;

  private constructor(table: Table<BrakeRecord>, brakes: Map<string, BrakeRecord>) {
    this.#table = table;
    this.#brakes = brakes;
  }

  static async open(table: Table<BrakeRecord>): Promise<Brakes> {
    const brakes = new Map<string, BrakeRecord>();
    for await (const [id, brake] of table.entries()) brakes.set(id, brake);
    return new Brakes(table, brakes);
  }

  /** Rises with each change: orders made before are old. */
  get version(): number {
    return this.#version;
  }

  all(): Iterable<BrakeRecord> {
    return this.#brakes.values();
  }

  get size(): number {
    return this.#brakes.size;
  }

  /** @throws BRAKE_INVALID, BRAKES_FULL */
  async set({ scope, stopUploads = false, originOnly = false, downloadLimit, uploadLimit, zoneLimit, reason, forMs }: BrakeRequest, setBy: string, nowMs: number): Promise<BrakeRecord> {
    if (!stopUploads && !originOnly && downloadLimit === undefined && uploadLimit === undefined && zoneLimit === undefined) throw new TrackerError('BRAKE_INVALID', 'the brake would hold nothing back');
    if (this.#brakes.size >= MAX_BRAKES) throw new TrackerError('BRAKES_FULL', `${MAX_BRAKES} brakes are on`);
    const brake: BrakeRecord = {
      id: randomBytes(4).toString('hex'),
      scope,
      stopUploads,
      originOnly,
      ...(downloadLimit !== undefined && { downloadLimit }),
      ...(uploadLimit !== undefined && { uploadLimit }),
      ...(zoneLimit !== undefined && { zoneLimit }),
      reason,
      setBy,
      setAtMs: nowMs,
      untilMs: nowMs + forMs,
    };
    this.#brakes.set(brake.id, brake);
    this.#version++;
    await this.#table.put(brake.id, brake, true);
    return brake;
  }

  /** @throws BRAKE_UNKNOWN */
  async release(id: string): Promise<BrakeRecord> {
    const brake = this.#brakes.get(id);
    if (brake === undefined) throw new TrackerError('BRAKE_UNKNOWN', `there is no brake ${id}`);
    this.#brakes.delete(id);
    this.#version++;
    await this.#table.del(id, true);
    return brake;
  }

  /** @returns those whose time is over, and the write that removes them */
  expire(nowMs: number): { readonly ended: readonly BrakeRecord[]; readonly write: Promise<void> | undefined } {
    const ended = [...this.#brakes.values()].filter(({ untilMs }) => untilMs <= nowMs);
    if (ended.length === 0) return { ended, write: undefined };
    for (const { id } of ended) this.#brakes.delete(id);
    this.#version++;
    return { ended, write: this.#table.write(new Map(ended.map(({ id }) => [id, undefined]))) };
  }

  /** Those that reach this host. */
  on(host: Reached): BrakeRecord[] {
    return this.#brakes.size === 0 ? [] : [...this.#brakes.values()].filter(({ scope }) => reaches(scope, host));
  }

  orders(host: Reached, nowMs: number): BrakeOrder[] {
    return this.on(host)
      .slice(0, MAX_ORDERS)
      .map(({ id, stopUploads, originOnly, downloadLimit, uploadLimit, zoneLimit, untilMs }) => ({
        id,
        forMs: Math.max(0, untilMs - nowMs),
        stopUploads,
        originOnly,
        ...(downloadLimit !== undefined && { downloadLimit }),
        ...(uploadLimit !== undefined && { uploadLimit }),
        ...(zoneLimit !== undefined && { zoneLimit }),
      }));
  }
}

export function reaches(scope: Brake['scope'], { peerId, zone }: Reached): boolean {
  switch (scope.kind) {
    case 'fleet':
      return true;
    case 'zone':
      return scope.zone === zone;
    case 'host':
      return scope.peerId === peerId;
  }
}
