import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Bitfield } from '@flotilla/shared/bitfield';
import { Budget, MAX_DUPLICATES, Picker, type ImportGate, type PickContext } from './picker.ts';

const BYTES = 100;
const at = (nowMs: number): PickContext => ({ nowMs, patienceMs: 50 });

/** Peers whose names begin with f stand in another zone; chunks in `confined` are not to be asked of them. */
function setUp(chunks: number, { maxBytes = 1e9, random = (): number => 0 } = {}) {
  const have = new Set<number>();
  const unwanted = new Set<number>();
  const confined = new Set<number>();
  const heldBy = { here: new Map<number, number>(), outside: new Map<number, number>() };
  const count = (index: number, foreign: boolean, step: number): void => {
    const held = foreign ? heldBy.outside : heldBy.here;
    held.set(index, (held.get(index) ?? 0) + step);
  };
  const imports: ImportGate = {
    isForeign: (peer) => peer.startsWith('f'),
    confined: (index) => confined.has(index),
    gained: (index, foreign) => count(index, foreign, 1),
    lost: (index, foreign) => count(index, foreign, -1),
  };
  const budget = new Budget(maxBytes);
  const wants = (index: number): boolean => !have.has(index) && !unwanted.has(index);
  const picker = new Picker(chunks, { budget, random, wants, bytesOf: () => BYTES, imports });
  const confine = (index: number, on: boolean): void => {
    if (confined.has(index) === on) return;
    if (on) confined.add(index);
    else confined.delete(index);
    picker.confine(index, on);
  };
  const hold = (peer: string, ...indexes: number[]): void => {
    const field = new Bitfield(chunks);
    for (const index of indexes) field.set(index);
    picker.setHave(peer, field);
  };
  const deliver = (peer: string, index: number): string[] => {
    const cancelled = picker.arrived(peer, index);
    have.add(index);
    picker.settled(index);
    return cancelled;
  };
  return { picker, have, unwanted, budget, hold, deliver, confined, confine, heldBy };
}

describe('which chunk', () => {
  test('the rarest first', () => {
    const { picker, hold } = setUp(4);
    hold('a', 0, 1, 2, 3);
    hold('b', 0, 1, 3);
    hold('c', 0, 3);
    expect([1, 2, 3, 4].map(() => picker.pick('a', at(0)))).toEqual([2, 1, expect.any(Number), expect.any(Number)]);
  });

  test('what is wanted is looked at where it is said to have changed, and nowhere else', () => {
    const { picker, hold, unwanted } = setUp(6);
    hold('a', 0, 1, 2, 3, 4, 5);
    for (let index = 0; index < 6; index++) unwanted.add(index);
    picker.refresh([[1, 2], [4, 1]]);
    expect(picker.free).toBe(3);
    picker.refresh();
    expect(picker.free).toBe(0);
  });

  test('random among equals: every one of them may be first', () => {
    const seen = new Set<number | undefined>();
    for (let i = 0; i < 8; i++) {
      const { picker, hold } = setUp(8, { random: () => i / 8 });
      hold('a', ...Array.from({ length: 8 }, (_, index) => index));
      seen.add(picker.pick('a', at(0)));
    }
    expect(seen.size).toBe(8);
  });

  test('the starving chunk jumps the queue where two peers hold it, and only there', () => {
    const { picker, hold } = setUp(4);
    hold('a', 0, 1, 2, 3);
    hold('b', 3);
    expect(picker.pick('a', { ...at(0), urgent: 3 })).toBe(3);
    expect(picker.pick('a', { ...at(0), urgent: 2 })).toBe(0);
  });

  test('not what is not wanted any more, though nobody said so', () => {
    const { picker, hold, unwanted } = setUp(3);
    hold('a', 0, 1, 2);
    unwanted.add(0).add(1);
    expect(picker.pick('a', at(0))).toBe(2);
    expect(picker.pick('a', at(0))).toBeUndefined();
    unwanted.clear();
    picker.refresh();
    expect(new Set([picker.pick('a', at(0)), picker.pick('a', at(0))])).toEqual(new Set([0, 1]));
  });

  test('what was refused as a conflict is asked of others only', () => {
    const { picker, hold } = setUp(1);
    hold('a', 0);
    hold('b', 0);
    expect(picker.pick('a', at(0))).toBe(0);
    picker.arrived('a', 0);
    picker.forbid('a', 0);
    picker.settled(0);
    expect(picker.useful('a')).toBe(false);
    expect(picker.pick('a', at(0))).toBeUndefined();
    expect(picker.pick('b', at(0))).toBe(0);
  });

  test('a peer that went: its chunks are free for others', () => {
    const { picker, hold, budget } = setUp(2);
    hold('a', 0, 1);
    hold('b', 0, 1);
    picker.pick('a', at(0));
    picker.pick('a', at(0));
    expect(picker.useful('b')).toBe(false);
    picker.removePeer('a');
    expect(budget.usedBytes).toBe(0);
    expect(new Set([picker.pick('b', at(0)), picker.pick('b', at(0))])).toEqual(new Set([0, 1]));
    expect(picker.availability(0)).toBe(1);
  });
});

describe('zones', () => {
  test('a confined chunk is asked of peers of the own zone only, urgent or late as it may be', () => {
    const { picker, hold, confine } = setUp(2);
    hold('f1', 0, 1);
    hold('f2', 0, 1);
    confine(0, true);
    expect(picker.pick('f1', { ...at(0), urgent: 0 })).toBe(1);
    expect(picker.useful('f2')).toBe(false);
    expect(picker.pick('f2', { ...at(0), urgent: 0 })).toBeUndefined();
    hold('a', 0);
    expect(picker.pick('a', at(0))).toBe(0);
    confine(1, true);
    expect(picker.pick('f2', at(1000))).toBeUndefined();
    confine(0, false);
    expect(picker.pick('f2', at(1000))).toBe(0);
  });
});

describe('the endgame', () => {
  test('a late request is asked once more, the loser is cancelled', () => {
    const { picker, hold, deliver, budget } = setUp(1);
    hold('a', 0);
    hold('b', 0);
    hold('c', 0);
    picker.pick('a', at(0));
    expect(picker.pick('b', at(49))).toBeUndefined();
    expect(picker.pick('b', at(50))).toBe(0);
    expect(picker.pick('c', at(1000))).toBeUndefined();
    expect(deliver('b', 0)).toEqual(['a']);
    expect(budget.usedBytes).toBe(0);
  });

  test('not while anything wanted is unasked, even if nobody holds it', () => {
    const { picker, hold, unwanted } = setUp(2);
    hold('a', 0);
    hold('b', 0);
    picker.pick('a', at(0));
    expect(picker.pick('b', at(1000))).toBeUndefined();
    unwanted.add(1);
    picker.refresh();
    expect(picker.pick('b', at(1000))).toBe(0);
  });

  test(`${MAX_DUPLICATES} per blob`, () => {
    const { picker, hold } = setUp(10);
    const all = Array.from({ length: 10 }, (_, index) => index);
    hold('a', ...all);
    hold('b', ...all);
    for (const _ of all) picker.pick('a', at(0));
    const duplicates = all.map(() => picker.pick('b', at(1000))).filter((index) => index !== undefined);
    expect(duplicates).toHaveLength(MAX_DUPLICATES);
    expect(new Set(duplicates).size).toBe(MAX_DUPLICATES);
  });
});

test('the budget is shared; one chunk fits however small it is', () => {
  const budget = new Budget(150);
  const make = (bytes: number) => new Picker(3, { budget, random: () => 0, wants: () => true, bytesOf: () => bytes });
  const one = make(BYTES);
  const two = make(200);
  one.setHave('a', Bitfield.full(3));
  two.setHave('a', Bitfield.full(3));
  expect(one.pick('a', at(0))).toBe(0);
  expect(one.pick('a', at(0))).toBeUndefined();
  expect(two.pick('a', at(0))).toBeUndefined();
  one.failed('a', 0);
  expect(two.pick('a', at(0))).toBe(0);
  two.close();
  expect(budget.usedBytes).toBe(0);
});

type Step =
  | { kind: 'have'; peer: number; first: number; count: number }
  | { kind: 'replace'; peer: number; bits: number }
  | { kind: 'gone' | 'pick' | 'arrive' | 'refuse' | 'conflict' | 'fail'; peer: number }
  | { kind: 'want' | 'origin' | 'confine'; index: number };

const CHUNKS = 12;
const PEERS = 4;
const peer = fc.nat(PEERS - 1);
const index = fc.nat(CHUNKS - 1);
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ kind: fc.constant('have' as const), peer, first: index, count: fc.integer({ min: 1, max: 4 }) }),
  fc.record({ kind: fc.constant('replace' as const), peer, bits: fc.nat(2 ** CHUNKS - 1) }),
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('pick' as const), peer }) },
  fc.record({ kind: fc.constantFrom('gone' as const, 'arrive' as const, 'refuse' as const, 'conflict' as const, 'fail' as const), peer }),
  fc.record({ kind: fc.constantFrom('want' as const, 'origin' as const, 'confine' as const), index }),
);

test('whatever happens: only what is held and wanted is asked, never beyond the bounds, and in the end everything', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), fc.infiniteStream(fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true })), (steps, randoms) => {
      const maxBytes = 5 * BYTES;
      const { picker, have, unwanted, budget, confined, confine, heldBy } = setUp(CHUNKS, { maxBytes, random: () => randoms.next().value as number });
      const held = new Map<string, Set<number>>();
      const asked: { peer: string; index: number }[] = [];
      const refused = new Set<string>();
      let nowMs = 0;
      let duplicates = 0;
      const of = (id: string): Set<number> => {
        const set = held.get(id) ?? new Set();
        held.set(id, set);
        return set;
      };
      const check = (id: string, picked: number): void => {
        expect(of(id).has(picked)).toBe(true);
        expect(have.has(picked) || unwanted.has(picked) || refused.has(`${id}/${picked}`)).toBe(false);
        expect(id.startsWith('f') && confined.has(picked)).toBe(false);
        const before = asked.filter((each) => each.index === picked);
        expect(before.map((each) => each.peer)).not.toContain(id);
        expect(before.length).toBeLessThanOrEqual(1);
        if (before.length === 1) {
          duplicates++;
          // Everything else that is wanted had been asked for.
          for (let each = 0; each < CHUNKS; each++) expect(have.has(each) || unwanted.has(each) || asked.some((one) => one.index === each)).toBe(true);
        }
        expect(duplicates).toBeLessThanOrEqual(MAX_DUPLICATES);
        asked.push({ peer: id, index: picked });
      };
      const take = (id: string): { peer: string; index: number } | undefined => {
        const found = asked.findIndex((each) => each.peer === id);
        return found < 0 ? undefined : asked.splice(found, 1)[0];
      };
      const arrive = (id: string, verdict: 'kept' | 'forged' | 'conflict'): void => {
        const one = take(id);
        if (one === undefined) return;
        for (const other of picker.arrived(id, one.index)) asked.splice(asked.findIndex((each) => each.peer === other && each.index === one.index), 1);
        expect(asked.some((each) => each.index === one.index)).toBe(false);
        if (verdict === 'kept') have.add(one.index);
        if (verdict === 'conflict') {
          refused.add(`${id}/${one.index}`);
          picker.forbid(id, one.index);
        }
        picker.settled(one.index);
      };
      for (const each of steps) {
        nowMs += 20;
        const id = 'peer' in each ? `${each.peer < 2 ? 'p' : 'f'}${each.peer}` : '';
        switch (each.kind) {
          case 'have': {
            const count = Math.min(each.count, CHUNKS - each.first);
            if (!held.has(id)) picker.setHave(id, new Bitfield(CHUNKS));
            for (let i = 0; i < count; i++) of(id).add(each.first + i);
            picker.addHave(id, [[each.first, count]]);
            break;
          }
          case 'replace': {
            const field = new Bitfield(CHUNKS);
            of(id).clear();
            for (let i = 0; i < CHUNKS; i++) {
              if ((each.bits >> i) % 2 === 0) continue;
              of(id).add(i);
              field.set(i);
            }
            picker.setHave(id, field);
            break;
          }
          case 'gone':
            picker.removePeer(id);
            held.delete(id);
            for (const key of refused) if (key.startsWith(`${id}/`)) refused.delete(key);
            while (take(id) !== undefined);
            break;
          case 'pick': {
            const picked = picker.pick(id, at(nowMs));
            if (picked !== undefined) check(id, picked);
            break;
          }
          case 'arrive':
            arrive(id, 'kept');
            break;
          case 'refuse':
            arrive(id, 'forged');
            break;
          case 'conflict':
            arrive(id, 'conflict');
            break;
          case 'fail': {
            const one = take(id);
            if (one !== undefined) picker.failed(id, one.index);
            break;
          }
          case 'confine':
            confine(each.index, !confined.has(each.index));
            break;
          case 'want':
            if (!unwanted.delete(each.index)) unwanted.add(each.index);
            picker.refresh();
            break;
          case 'origin':
            have.add(each.index);
            for (const other of picker.obtained(each.index)) asked.splice(asked.findIndex((one) => one.peer === other && one.index === each.index), 1);
            break;
        }
        expect(budget.usedBytes).toBe(asked.length * BYTES);
        expect(budget.usedBytes).toBeLessThanOrEqual(maxBytes);
        for (let i = 0; i < CHUNKS; i++) {
          const holders = [...held].filter(([, set]) => set.has(i)).map(([name]) => name);
          expect(picker.availability(i)).toBe(holders.length);
          expect(heldBy.outside.get(i) ?? 0).toBe(holders.filter((name) => name.startsWith('f')).length);
          expect(heldBy.here.get(i) ?? 0).toBe(holders.filter((name) => name.startsWith('p')).length);
        }
        // A peer is passed over exactly where it has nothing that may be asked of it.
        for (const [name, set] of held) {
          const free = [...set].some((i) => !have.has(i) && !unwanted.has(i) && !refused.has(`${name}/${i}`) && !asked.some((one) => one.index === i) && !(name.startsWith('f') && confined.has(i)));
          expect(picker.useful(name)).toBe(free);
        }
      }
      // Let every peer deliver what it is asked until nothing more is asked.
      for (let round = 0; round < 3 * CHUNKS; round++) {
        for (const id of held.keys()) {
          const picked = picker.pick(id, at((nowMs += 1000)));
          if (picked !== undefined) check(id, picked);
          arrive(id, 'kept');
        }
      }
      for (let i = 0; i < CHUNKS; i++) {
        const available = [...held].some(([id, set]) => set.has(i) && !refused.has(`${id}/${i}`) && !(id.startsWith('f') && confined.has(i)));
        if (available && !unwanted.has(i)) expect(have.has(i)).toBe(true);
      }
      expect(budget.usedBytes).toBe(0);
    }),
    { numRuns: 300 },
  );
});

test('2048 chunks of 16 peers: each pick looks at few chunks', () => {
  let looks = 0;
  const chunks = 2048;
  const have = new Set<number>();
  let seed = 1;
  const random = (): number => (seed = (seed * 48271) % 2147483647) / 2147483647;
  const picker = new Picker(chunks, {
    budget: new Budget(1e12),
    random,
    wants: (index) => {
      looks++;
      return !have.has(index);
    },
    bytesOf: () => 1,
  });
  const peers = Array.from({ length: 16 }, (_, i) => `p${i}`);
  for (const id of peers) picker.setHave(id, Bitfield.full(chunks));
  looks = 0;
  for (let done = 0; done < chunks; ) {
    for (const id of peers) {
      const picked = picker.pick(id, { nowMs: 0, patienceMs: 1e9 });
      if (picked === undefined) continue;
      picker.arrived(id, picked);
      have.add(picked);
      picker.settled(picked);
      done++;
    }
  }
  expect(looks).toBeLessThanOrEqual(3 * chunks);
});
