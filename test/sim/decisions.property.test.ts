// Properties of all decisions together, under orders of events that no test would think of: hosts of any rates that come at any
// time, die at any time, lie; control that takes any time. Properties of each decision alone stand beside it
// (picker.test.ts, uploads.test.ts, leases.property.test.ts, handout.test.ts).

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Bitfield } from '@flotilla/shared/bitfield';
import { chunkCount } from '@flotilla/shared/chunk-map';
import type { ReadyFrame } from '@flotilla/agent/swarm/session';
import type { Plan } from '../lab/scenarios.ts';
import { simulate } from './rollout.ts';
import { MODEL } from './test-plan.ts';
import type { FrameObserver } from './wire.ts';

const KIB = 1024;
/** requests.ts: two where there are few sources. */
const MAX_PER_PEER = 2;

const host = fc.record({
  rateMbit: fc.integer({ min: 1, max: 20 }),
  delayS: fc.oneof({ weight: 2, arbitrary: fc.constant(0) }, fc.double({ min: 0, max: 3, noNaN: true })),
  diesAtS: fc.option(fc.double({ min: 0.05, max: 4, noNaN: true }), { freq: 5 }),
  lies: fc.constantFrom(true, false, false, false, false),
});
const fleet = fc.record({
  /** The first one lives and is honest: somebody is left to be served. */
  hosts: fc.array(host, { minLength: 1, maxLength: 9 }).map(([first, ...rest]) => [{ ...first!, diesAtS: null, lies: false }, ...rest]),
  originMbit: fc.integer({ min: 1, max: 40 }),
  chunks: fc.integer({ min: 1, max: 24 }),
  latencyMs: fc.constantFrom(1, 10, 30, 200),
  seed: fc.nat(1_000_000),
});
type Fleet = typeof fleet extends fc.Arbitrary<infer F> ? F : never;

function planOf({ hosts, originMbit, chunks }: Fleet): Plan {
  const dying = hosts.flatMap(({ diesAtS }, what) => (diesAtS === null ? [] : [{ atS: diesAtS, what }]));
  return {
    fleet: true,
    bare: undefined,
    layerBytes: [chunks * 64 * KIB - 1000],
    originBps: originMbit * 1e6,
    hostsBps: hosts.map(({ rateMbit }) => rateMbit * 1e6),
    waves: [hosts.map(({ delayS }, number) => ({ host: number, delayS }))],
    kills: dying,
    liars: hosts.flatMap(({ lies }, number) => (lies ? [number] : [])),
    falseVouchers: [],
    tries: 1,
    zones: undefined,
    judged: [0],
    // Far more than anything should take: at 1 Mbit/s a chunk is half a second.
    boundS: 60,
  };
}

/** What each host was told by each peer, what came, and what it still waits for, as seen on the wire. */
class Watch implements FrameObserver {
  readonly #chunks: number;
  readonly #told = new Map<string, Bitfield>();
  readonly #held = new Map<string, Set<number>>();
  readonly #open = new Map<string, Set<number>>();
  readonly #liars: ReadonlySet<string>;
  readonly #banned = new Set<string>();
  requests = 0;

  constructor(chunks: number, liars: ReadonlySet<string>) {
    this.#chunks = chunks;
    this.#liars = liars;
  }

  sent(from: string, to: string, frame: ReadyFrame): void {
    const pair = `${from} ${to}`;
    if (frame.type === 'cancel') this.#of(this.#open, pair).delete(frame.index);
    if (frame.type !== 'request') return;
    this.requests++;
    const { index } = frame;
    expect(this.#of(this.#held, from).has(index), `${from} holds chunk ${index}`).toBe(false);
    expect(this.#told.get(pair)?.has(index), `${to} told ${from} that it holds chunk ${index}`).toBe(true);
    expect(this.#banned.has(pair), `${from} has banned ${to}`).toBe(false);
    const open = this.#of(this.#open, pair);
    expect(open.has(index), `chunk ${index} is asked of ${to} twice`).toBe(false);
    open.add(index);
    expect(open.size).toBeLessThanOrEqual(MAX_PER_PEER);
  }

  taken(from: string, to: string, frame: ReadyFrame): void {
    const pair = `${to} ${from}`;
    expect(this.#banned.has(pair), `${to} has banned ${from}`).toBe(false);
    switch (frame.type) {
      case 'bitfield':
        this.#told.set(pair, Bitfield.fromBytes(this.#chunks, frame.bits));
        break;
      case 'have':
        for (const range of frame.ranges) this.#told.get(pair)?.setRange(range);
        break;
      case 'busy':
        this.#of(this.#open, pair).delete(frame.index);
        break;
      case 'chunk':
        // What comes after its cancel is thrown away, and may be asked for again.
        if (this.#of(this.#open, pair).delete(frame.index) && !this.#liars.has(from)) this.#of(this.#held, to).add(frame.index);
        break;
      default:
    }
  }

  banned(by: string, peer: string): void {
    expect(this.#liars.has(peer), `${peer}, whom ${by} bans, has lied`).toBe(true);
    this.#banned.add(`${by} ${peer}`);
  }

  #of(sets: Map<string, Set<number>>, key: string): Set<number> {
    let set = sets.get(key);
    if (set === undefined) sets.set(key, (set = new Set()));
    return set;
  }
}

test('whatever happens: only what a peer announced and nobody here holds is asked, a little at a time, and every honest host gets all of it', async () => {
  await fc.assert(
    fc.asyncProperty(fleet, async (init) => {
      const plan = planOf(init);
      const nameOf = (number: number): string => `host-${String(number + 1).padStart(5, '0')}`;
      const liars = new Set(plan.liars.map(nameOf));
      const watch = new Watch(chunkCount(plan.layerBytes[0]!), liars);
      const { endS, origin, banned } = await simulate(plan, { ...MODEL, seed: init.seed, latencyMs: init.latencyMs, observe: watch });
      for (const [number, { diesAtS }] of init.hosts.entries()) if (diesAtS === null) expect(endS[number], `host ${number + 1} has all of it`).toBeDefined();
      // Who is put out has lied.
      expect(banned.filter((peer) => !liars.has(peer))).toEqual([]);
      // The dead may take chunks with them that nobody else had; a liar in quarantine reads for itself, and what it alone held is read again.
      const more = plan.kills.length + 2 * plan.liars.length;
      expect(origin.bytes / plan.layerBytes[0]!).toBeLessThanOrEqual(1 + more);
      if (more === 0) expect(origin.bytes).toBe(plan.layerBytes[0]);
    }),
    { numRuns: 150 },
  );
});
