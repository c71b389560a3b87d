import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { importRank, MAX_IMPORT_SEATS, type ImportSeat } from '@flotilla/shared/import-seats';
import { Imports, MAX_RANK, seatAmong, SETTLE_MS, WAIT_MS } from './imports.ts';

const SALT = 7;

function setUp(chunks: number, selfId = 'm') {
  const clock = { nowMs: 1_000 };
  const open = new Set<number>();
  const have = new Set<number>();
  const imports = new Imports(chunks, {
    selfId,
    salt: SALT,
    nowMs: () => clock.nowMs,
    has: (index) => have.has(index),
    changed: (index, confined) => {
      expect(open.has(index)).toBe(confined);
      if (confined) open.delete(index);
      else open.add(index);
    },
  });
  const pass = (ms: number): void => {
    for (const end = clock.nowMs + ms; clock.nowMs < end; ) {
      clock.nowMs += 100;
      imports.tick();
    }
  };
  const take = (index: number, tookMs?: number): void => {
    have.add(index);
    imports.came(index, tookMs);
  };
  return { imports, clock, open, pass, take };
}

/** A chunk for which a seat has this rank. */
function chunkOf(seat: ImportSeat, rank: number): number {
  for (let index = 0; ; index++) if (importRank(SALT, index, seat) === rank) return index;
}

describe('a chunk that is held outside', () => {
  test('is open at once to whoever is first for it, and to the next ones, once they are not behind with their own, one wait after another', () => {
    const seat: ImportSeat = { seats: 3, seat: 1 };
    const { imports, open, pass, take } = setUp(100);
    imports.told(seat);
    const [mine, next, last] = [0, 1, 2].map((rank) => chunkOf(seat, rank));
    for (const index of [mine!, next!, last!]) imports.gained(index, true);
    const opened = (): boolean[] => [mine!, next!, last!].map((index) => open.has(index));
    expect(opened()).toEqual([true, false, false]);
    expect([mine!, next!].map((index) => imports.stepsIn(index))).toEqual([false, true]);
    pass(10 * WAIT_MS);
    expect(opened()).toEqual([true, false, false]);
    take(mine!);
    pass(WAIT_MS - 600);
    expect(opened()).toEqual([true, false, false]);
    pass(1_200);
    expect(opened()).toEqual([true, true, false]);
    pass(WAIT_MS);
    expect(opened()).toEqual([true, true, true]);
  });

  test('is stepped in for while chunks go on coming, by who keeps up with its own', () => {
    const seat: ImportSeat = { seats: 2, seat: 0 };
    const { imports, open, pass, take } = setUp(200);
    imports.told(seat);
    const own = Array.from({ length: 200 }, (_, index) => index).filter((index) => importRank(SALT, index, seat) === 0);
    const next = chunkOf(seat, 1);
    imports.gained(next, true);
    for (const index of own.slice(0, 12)) {
      imports.gained(index, true);
      pass(500);
      take(index);
    }
    expect(open.has(next)).toBe(true);
  });

  test('is taken here once somebody here has it, and asked across again where that one goes', () => {
    const { imports, open } = setUp(1);
    imports.told({ seats: 1, seat: 0 });
    imports.gained(0, true);
    expect(open.has(0)).toBe(true);
    imports.gained(0, false);
    expect(open.has(0)).toBe(false);
    imports.lost(0, false);
    expect(open.has(0)).toBe(true);
  });

  test('is asked across although somebody here has it, where nothing at all comes', () => {
    const seat: ImportSeat = { seats: 2, seat: 0 };
    const { imports, open, pass, take } = setUp(20);
    imports.told(seat);
    const [mine, other] = [chunkOf(seat, 0), chunkOf(seat, 1)];
    for (const index of [mine, other]) for (const foreign of [true, false]) imports.gained(index, foreign);
    pass(WAIT_MS - 100);
    take(19);
    pass(WAIT_MS - 600);
    expect(open.has(mine)).toBe(false);
    pass(1_200);
    expect([open.has(mine), open.has(other)]).toEqual([true, false]);
    pass(WAIT_MS);
    expect([open.has(mine), open.has(other)]).toEqual([true, true]);
    take(18);
    expect([open.has(mine), open.has(other)]).toEqual([false, false]);
  });

  test('is not asked across while bytes of any come, however long a chunk takes', () => {
    const { imports, open, pass } = setUp(4);
    imports.told({ seats: 1, seat: 0 });
    for (const foreign of [true, false]) imports.gained(0, foreign);
    for (let pieces = 0; pieces < 5; pieces++) {
      pass(WAIT_MS - 1_000);
      imports.moved();
    }
    expect(open.has(0)).toBe(false);
    pass(WAIT_MS + 600);
    expect(open.has(0)).toBe(true);
    imports.moved();
    pass(600);
    expect(open.has(0)).toBe(false);
  });

  test('is waited for longer where chunks take long from another zone', () => {
    const seat: ImportSeat = { seats: 2, seat: 0 };
    const { imports, open, pass, take } = setUp(100);
    imports.told(seat);
    take(chunkOf(seat, 0), 6_000);
    const next = chunkOf(seat, 1);
    imports.gained(next, true);
    pass(WAIT_MS + 1_000);
    expect(open.has(next)).toBe(false);
    pass(2 * 6_000 - WAIT_MS);
    expect(open.has(next)).toBe(true);
  });
});

test('until a seat was told, or the peers of the zone had time to come, nothing is asked across', () => {
  const { imports, open, pass } = setUp(8);
  imports.mates(['a', 'z']);
  for (let index = 0; index < 8; index++) imports.gained(index, true);
  pass(SETTLE_MS - 100);
  expect(open.size).toBe(0);
  pass(600);
  const seat = seatAmong('m', ['a', 'z']);
  expect(seat).toEqual({ seats: 3, seat: 1 });
  const mine = Array.from({ length: 8 }, (_, index) => index).filter((index) => importRank(SALT, index, seat) === 0);
  expect([...open].toSorted((a, b) => a - b)).toEqual(mine);
  imports.told({ seats: 1, seat: 0 });
  expect(open.size).toBe(8);
  imports.told(undefined);
  expect(open.size).toBe(mine.length);
});

test('with more peers in sight than there are seats the first ones have them', () => {
  const mates = Array.from({ length: 20 }, (_, at) => `peer ${String(at).padStart(2, '0')}`);
  expect(seatAmong('a', mates)).toEqual({ seats: MAX_IMPORT_SEATS, seat: 0 });
  expect(seatAmong('z', mates)).toEqual({ seats: MAX_IMPORT_SEATS });
});

// A zone whose members see one another, chunks that appear outside, requests that take a while or fail, members that die.

const CHUNKS = 12;
type Step =
  | { readonly kind: 'outside'; readonly index: number }
  | { readonly kind: 'ask' | 'deliver' | 'die' | 'mute'; readonly member: number }
  | { readonly kind: 'pass'; readonly ms: number };
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ kind: fc.constant('outside' as const), index: fc.nat(CHUNKS - 1) }),
  { weight: 4, arbitrary: fc.record({ kind: fc.constantFrom('ask' as const, 'deliver' as const), member: fc.nat(4) }) },
  fc.record({ kind: fc.constantFrom('die' as const, 'mute' as const), member: fc.nat(4) }),
  fc.record({ kind: fc.constant('pass' as const), ms: fc.integer({ min: 100, max: WAIT_MS / 4 }) }),
);

class Zone {
  nowMs = 0;
  readonly members: Member[];
  /** Chunks held outside. */
  readonly outside = new Set<number>();
  /** How often each chunk came in. */
  readonly imported = Array.from({ length: CHUNKS }, () => 0);

  constructor(size: number) {
    this.members = Array.from({ length: size }, (_, at) => new Member(`m${at}`, this));
    this.seat();
  }

  get alive(): Member[] {
    return this.members.filter(({ alive }) => alive);
  }

  seat(): void {
    for (const [seat, member] of this.alive.entries()) member.imports.told({ seats: this.alive.length, seat });
  }

  pass(ms: number): void {
    for (const end = this.nowMs + ms; this.nowMs < end; ) {
      this.nowMs = Math.min(end, this.nowMs + 100);
      for (const { imports } of this.alive) imports.tick();
    }
  }

  appears(index: number): void {
    if (this.outside.has(index)) return;
    this.outside.add(index);
    for (const { imports } of this.alive) imports.gained(index, true);
  }
}

class Member {
  readonly id: string;
  readonly imports: Imports;
  readonly have = new Set<number>();
  asked: number | undefined;
  alive = true;
  /** It asks for nothing and gives nothing, and nobody knows. */
  mute = false;
  readonly #zone: Zone;

  constructor(id: string, zone: Zone) {
    this.id = id;
    this.#zone = zone;
    this.imports = new Imports(CHUNKS, { selfId: id, salt: SALT, nowMs: () => zone.nowMs, has: (index) => this.have.has(index), changed: () => undefined });
  }

  /** Asks another zone for a chunk that it may. */
  ask(): void {
    if (this.mute) return;
    this.asked ??= [...this.#zone.outside].find((index) => !this.have.has(index) && !this.imports.confined(index));
  }

  deliver(): void {
    const index = this.asked;
    this.asked = undefined;
    if (index === undefined || this.have.has(index)) return;
    this.#zone.imported[index]!++;
    this.take(index);
  }

  /** Brings in all that it may. */
  work(): void {
    for (this.ask(); this.asked !== undefined; this.ask()) this.deliver();
  }

  /** Takes from the zone what it has. */
  takeHere(): void {
    for (const other of this.#zone.alive) if (other !== this && !other.mute) for (const index of other.have) if (!this.have.has(index)) this.take(index);
  }

  take(index: number): void {
    this.have.add(index);
    this.imports.came(index);
    for (const other of this.#zone.alive) if (other !== this) other.imports.gained(index, false);
  }

  die(): void {
    if (this.#zone.alive.length === 1) return;
    this.alive = false;
    for (const other of this.#zone.alive) for (const index of this.have) other.imports.lost(index, false);
    this.#zone.seat();
  }
}

function play(size: number, steps: readonly Step[], calm: boolean): Zone {
  const zone = new Zone(size);
  for (const each of steps) {
    const member = 'member' in each ? zone.members[each.member % size]! : undefined;
    switch (each.kind) {
      case 'outside':
        zone.appears(each.index);
        break;
      case 'ask':
        if (member!.alive) member!.ask();
        break;
      case 'deliver':
        if (member!.alive) member!.deliver();
        break;
      case 'die':
        if (!calm && member!.alive) member!.die();
        break;
      case 'mute':
        if (!calm && zone.alive.filter(({ mute }) => !mute).length > 1) member!.mute = true;
        break;
      case 'pass':
        zone.pass(each.ms);
        break;
    }
    if (calm && each.kind === 'pass') for (const one of zone.alive) one.work();
  }
  return zone;
}

test('while all live and work, a chunk comes in once, whatever the order', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 5 }), fc.array(step, { maxLength: 80 }), (size, steps) => {
      const zone = play(size, steps, true);
      expect(Math.max(0, ...zone.imported)).toBeLessThanOrEqual(1);
    }),
    { numRuns: 300 },
  );
});

test('whoever dies or goes dumb: every chunk that is held outside comes to everybody who still works', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 5 }), fc.array(step, { maxLength: 80 }), (size, steps) => {
      const zone = play(size, steps, false);
      for (let index = 0; index < CHUNKS; index++) zone.appears(index);
      const working = (): Member[] => zone.alive.filter(({ mute }) => !mute);
      // After MAX_RANK + 1 waits without a chunk everything is open to everybody.
      for (let wait = 0; wait < (MAX_RANK + 2) * CHUNKS && working().some(({ have }) => have.size < CHUNKS); wait++) {
        for (let round = 0; round < CHUNKS; round++) {
          for (const member of working()) {
            member.ask();
            member.deliver();
          }
          for (const member of working()) member.takeHere();
        }
        zone.pass(WAIT_MS + 500);
      }
      for (const { have } of working()) expect(have.size).toBe(CHUNKS);
    }),
    { numRuns: 200 },
  );
});
