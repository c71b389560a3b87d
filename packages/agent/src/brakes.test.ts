import type { BrakeOrder } from '@flotilla/shared/agent-report';
import { expect, test } from 'vitest';
import { Brakes, type Held } from './brakes.ts';

const order = (id: string, forMs: number, more: Partial<BrakeOrder> = {}): BrakeOrder => ({ id, forMs, stopUploads: false, originOnly: false, ...more });

class World {
  nowMs = 0;
  readonly applied: Held[] = [];
  #timer: { readonly atMs: number; readonly act: () => void } | undefined;
  readonly brakes = new Brakes({
    own: { downloadLimit: 100, uploadLimit: undefined, originLimit: 40, zoneLimit: 70 },
    apply: (held) => this.applied.push(held),
    now: () => this.nowMs,
    after: (delayMs, act) => {
      const timer = { atMs: this.nowMs + delayMs, act };
      this.#timer = timer;
      return () => {
        if (this.#timer === timer) this.#timer = undefined;
      };
    },
  });

  get waiting(): boolean {
    return this.#timer !== undefined;
  }

  pass(ms: number): void {
    this.nowMs += ms;
    const timer = this.#timer;
    if (timer === undefined || timer.atMs > this.nowMs) return;
    this.#timer = undefined;
    timer.act();
  }
}

test('brakes add up, the lowest rate counts, and each ends by itself', () => {
  const world = new World();
  world.brakes.told([order('a', 1_000, { stopUploads: true, downloadLimit: 50 }), order('b', 5_000, { downloadLimit: 200, uploadLimit: 10, zoneLimit: 7 })]);
  expect(world.brakes.held).toEqual({ stopUploads: true, originOnly: false, downloadLimit: 50, uploadLimit: 10, originLimit: 40, zoneLimit: 7 });
  expect(world.brakes.ids).toEqual(['a', 'b']);
  world.pass(1_000);
  expect(world.brakes.held).toEqual({ stopUploads: false, originOnly: false, downloadLimit: 100, uploadLimit: 10, originLimit: 40, zoneLimit: 7 });
  world.pass(4_000);
  expect(world.brakes.held).toEqual({ stopUploads: false, originOnly: false, downloadLimit: 100, uploadLimit: undefined, originLimit: 40, zoneLimit: 70 });
  expect([world.applied.length, world.brakes.ids, world.waiting]).toEqual([3, [], false]);
});

test('a new list replaces the old one, and the same is not applied twice', () => {
  const world = new World();
  world.brakes.told([order('a', 1_000, { originOnly: true })]);
  world.pass(500);
  world.brakes.told([order('a', 500, { originOnly: true })]);
  expect(world.applied).toHaveLength(1);
  world.brakes.told([]);
  expect(world.applied.at(-1)).toMatchObject({ originOnly: false });
  expect(world.waiting).toBe(false);
});

test('what is over when it is told is nothing', () => {
  const world = new World();
  world.brakes.told([order('a', 0, { stopUploads: true })]);
  expect([world.applied, world.brakes.ids]).toEqual([[], []]);
});

test("the host's own limits change at once, stand beside the brakes, and are what the settings say again when that is asked", () => {
  const world = new World();
  world.brakes.told([order('a', 1_000, { downloadLimit: 50 })]);
  world.brakes.limit({ uploadLimit: 30, downloadLimit: 70 });
  expect(world.brakes.held).toMatchObject({ downloadLimit: 50, uploadLimit: 30, originLimit: 40 });
  world.pass(1_000);
  expect(world.brakes.held).toMatchObject({ downloadLimit: 70, uploadLimit: 30, originLimit: 40 });
  world.brakes.limit({ downloadLimit: undefined, originLimit: 5 });
  expect(world.brakes.held).toMatchObject({ downloadLimit: undefined, uploadLimit: 30, originLimit: 5 });
  world.brakes.unlimit();
  expect(world.applied.at(-1)).toEqual({ stopUploads: false, originOnly: false, downloadLimit: 100, uploadLimit: undefined, originLimit: 40, zoneLimit: 70 });
  const before = world.applied.length;
  world.brakes.unlimit();
  expect(world.applied).toHaveLength(before);
});
