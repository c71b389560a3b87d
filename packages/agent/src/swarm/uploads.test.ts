import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { UPLOAD_LIMITS, Uploads, type UploadJob } from './uploads.ts';

const CHUNK = 256 * 1024;
let count = 0;
const job = (peerId = `p${count++}`, bytes = CHUNK): UploadJob => ({ peerId, bytes });

/** An uplink that gives `perSlot` bytes per second to each slot, `total` to all together; `seconds` with a full queue. */
function simulate(perSlot: number, total: number, seconds: number): Uploads<UploadJob> {
  const uploads = new Uploads();
  const active: { job: UploadJob; left: number }[] = [];
  const stepMs = 20;
  const start = (next: UploadJob): void => void active.push({ job: next, left: next.bytes });
  for (let nowMs = 1; nowMs < seconds * 1000; nowMs += stepMs) {
    while (uploads.queued < 20) {
      const next = job();
      if (uploads.offer(next, nowMs) === 'started') start(next);
    }
    const each = (Math.min(perSlot, total / Math.max(1, active.length)) * stepMs) / 1000;
    for (const one of active.slice()) {
      uploads.moved(one.job, Math.min(each, one.left), nowMs);
      one.left -= each;
      if (one.left > 0) continue;
      active.splice(active.indexOf(one), 1);
      uploads.end(one.job);
    }
    uploads.tick(nowMs);
    for (let next = uploads.next(nowMs); next !== undefined; next = uploads.next(nowMs)) start(next);
  }
  return uploads;
}

describe('slots', () => {
  test('open while the uplink is not full', () => {
    // Receivers take 1 MB/s each, the uplink has room for all of them.
    expect(simulate(1e6, 100e6, 20).slots).toBe(UPLOAD_LIMITS.maxSlots);
  });

  test('stay where more of them bring nothing', () => {
    expect(simulate(10e6, 10e6, 20).slots).toBeLessThanOrEqual(UPLOAD_LIMITS.startSlots + 1);
  });

  test('close where they would each take long over a chunk', () => {
    // 300 kB/s: a chunk in each of 8 slots takes 7 s.
    expect(simulate(1e6, 300e3, 20).slots).toBe(UPLOAD_LIMITS.minSlots);
  });

  test('one that does not move is not waited for, and goes on when it moves', () => {
    const uploads = new Uploads({ ...UPLOAD_LIMITS, minSlots: 1, startSlots: 1 });
    const [stuck, waiting] = [job(), job()];
    expect(uploads.offer(stuck, 0)).toBe('started');
    expect(uploads.offer(waiting, 0)).toBe('queued');
    uploads.tick(1000);
    expect(uploads.next(1000)).toBeUndefined();
    uploads.tick(2000);
    expect(uploads.next(2000)).toBe(waiting);
    uploads.moved(stuck, 10, 2100);
    uploads.end(waiting);
    const third = job();
    expect(uploads.offer(third, 2200)).toBe('queued');
    uploads.end(stuck);
    expect(uploads.next(2300)).toBe(third);
  });
});

describe('the queue', () => {
  test('first come, first served', () => {
    const uploads = new Uploads({ ...UPLOAD_LIMITS, startSlots: 1 });
    const jobs = Array.from({ length: 5 }, () => job());
    expect(jobs.map((each) => uploads.offer(each, 0))).toEqual(['started', 'queued', 'queued', 'queued', 'queued']);
    const order = [];
    uploads.end(jobs[0]!);
    uploads.end(jobs[2]!); // taken back while it waits
    for (let next = uploads.next(0); next !== undefined; next = uploads.next(0)) {
      order.push(next);
      uploads.end(next);
    }
    expect(order).toEqual([jobs[1], jobs[3], jobs[4]]);
    expect([uploads.active, uploads.queued]).toEqual([0, 0]);
  });

  test('full: busy, with a time that grows with what waits', () => {
    const uploads = new Uploads({ ...UPLOAD_LIMITS, startSlots: 1, maxQueued: 2 });
    for (let i = 0; i < 3; i++) uploads.offer(job(), 0);
    expect(uploads.offer(job(), 0)).toEqual({ busyMs: 50 });
  });

  test('one peer cannot fill it', () => {
    const uploads = new Uploads();
    const offers = Array.from({ length: 20 }, () => uploads.offer(job('greedy'), 0));
    expect(offers.filter((offer) => typeof offer === 'string')).toHaveLength(UPLOAD_LIMITS.maxPerPeer);
    expect(uploads.offer(job('other'), 0)).toBe('queued');
  });
});

test('whatever happens: bounded, nothing is started twice, nothing is forgotten', () => {
  const steps = fc.array(
    fc.oneof(
      fc.record({ kind: fc.constant('offer' as const), peer: fc.nat(5) }),
      fc.record({ kind: fc.constantFrom('end' as const, 'move' as const), which: fc.nat(50) }),
      fc.record({ kind: fc.constant('tick' as const), ms: fc.nat(3000) }),
    ),
    { maxLength: 300 },
  );
  fc.assert(
    fc.property(steps, (all) => {
      const limits = { minSlots: 1, maxSlots: 4, startSlots: 2, maxQueued: 6, maxPerPeer: 3 };
      const uploads = new Uploads<UploadJob>(limits);
      const accepted: UploadJob[] = [];
      const started = new Set<UploadJob>();
      let nowMs = 0;
      const startAll = (): void => {
        for (let next = uploads.next(nowMs); next !== undefined; next = uploads.next(nowMs)) {
          expect(started.has(next)).toBe(false);
          // In order: nothing older still waits.
          expect(accepted.slice(0, accepted.indexOf(next)).every((older) => started.has(older))).toBe(true);
          started.add(next);
        }
      };
      for (const each of all) {
        if (each.kind === 'offer') {
          const one = job(`p${each.peer}`);
          const offer = uploads.offer(one, nowMs);
          if (typeof offer === 'string') accepted.push(one);
          else expect(offer.busyMs).toBeGreaterThan(0);
          if (offer === 'started') started.add(one);
        } else if (each.kind === 'tick') {
          nowMs += each.ms;
          uploads.tick(nowMs);
        } else if (accepted.length > 0) {
          const one = accepted[each.which % accepted.length]!;
          if (each.kind === 'move') {
            if (started.has(one)) uploads.moved(one, 1000, nowMs);
          } else {
            uploads.end(one);
            accepted.splice(accepted.indexOf(one), 1);
          }
        }
        startAll();
        expect(uploads.slots).toBeGreaterThanOrEqual(limits.minSlots);
        expect(uploads.slots).toBeLessThanOrEqual(limits.maxSlots);
        expect(uploads.queued).toBeLessThanOrEqual(limits.maxQueued);
        expect(uploads.active + uploads.queued).toBe(accepted.length);
        for (let p = 0; p <= 5; p++) expect(accepted.filter((one) => one.peerId === `p${p}`).length).toBeLessThanOrEqual(limits.maxPerPeer);
      }
      while (accepted.length > 0) {
        const one = accepted.find((each) => started.has(each));
        expect(one).toBeDefined();
        uploads.end(one!);
        accepted.splice(accepted.indexOf(one!), 1);
        startAll();
      }
    }),
    { numRuns: 300 },
  );
});

describe('what gives way to the pulls of the host itself', () => {
  test('fills half of the queue, and the other half is for what does not', () => {
    const uploads = new Uploads({ ...UPLOAD_LIMITS, startSlots: 2, maxQueued: 4 });
    const shares = (each: UploadJob): boolean => each.peerId.startsWith('share');
    const offers = [1, 2, 3, 4, 5].map((at) => uploads.offer(job(`share${at}`), 0, shares));
    expect(offers).toEqual(['started', 'started', 'queued', 'queued', { busyMs: 50 }]);
    expect([1, 2, 3].map((at) => uploads.offer(job(`own${at}`), 0, shares))).toEqual(['queued', 'queued', { busyMs: 50 }]);
  });

  const shared = new Set<UploadJob>();
  const givesWay = (each: UploadJob): boolean => shared.has(each);
  function sharedJob(): UploadJob {
    const made = job();
    shared.add(made);
    return made;
  }

  test('has two slots, and is passed by; it has all of them once nobody waits', () => {
    const uploads = new Uploads();
    const seeds = Array.from({ length: 6 }, sharedJob);
    expect(seeds.map((each) => uploads.offer(each, 0, givesWay))).toEqual(['started', 'started', 'queued', 'queued', 'queued', 'queued']);
    const own = job();
    expect(uploads.offer(own, 0, givesWay)).toBe('queued');
    expect(uploads.next(0, givesWay)).toBe(own);
    expect(uploads.next(0, givesWay)).toBeUndefined();
    uploads.end(seeds[0]!);
    expect(uploads.next(0, givesWay)).toBe(seeds[2]);
    expect(uploads.next(0, givesWay)).toBeUndefined();
    expect([uploads.next(0), uploads.next(0), uploads.next(0), uploads.next(0)]).toEqual([seeds[3], seeds[4], seeds[5], undefined]);
  });

  test('what has begun goes on: only what starts meanwhile waits', () => {
    const uploads = new Uploads();
    const begun = Array.from({ length: 4 }, sharedJob);
    for (const each of begun) expect(uploads.offer(each, 0)).toBe('started');
    const later = sharedJob();
    expect(uploads.offer(later, 0, givesWay)).toBe('queued');
    for (const each of begun.slice(0, 2)) uploads.end(each);
    expect(uploads.next(0, givesWay)).toBeUndefined();
    uploads.end(begun[2]!);
    expect(uploads.next(0, givesWay)).toBe(later);
  });

  test('receivers that take nothing do not keep the rest of it waiting', () => {
    const uploads = new Uploads();
    const stuck = [sharedJob(), sharedJob()];
    for (const each of stuck) expect(uploads.offer(each, 0, givesWay)).toBe('started');
    const waiting = sharedJob();
    expect(uploads.offer(waiting, 0, givesWay)).toBe('queued');
    expect(uploads.next(0, givesWay)).toBeUndefined();
    uploads.tick(2000);
    expect(uploads.next(2000, givesWay)).toBe(waiting);
  });

  test('in any order: no more than two at once, and nothing else is kept from a slot', () => {
    fc.assert(
      fc.property(fc.array(fc.record({ do: fc.constantFrom('share', 'own', 'end'), which: fc.nat(15) }), { maxLength: 200 }), (steps) => {
        const uploads = new Uploads();
        const active: UploadJob[] = [];
        const queuedOwn: UploadJob[] = [];
        const started = (each: UploadJob): void => {
          active.push(each);
          if (queuedOwn.includes(each)) queuedOwn.splice(queuedOwn.indexOf(each), 1);
        };
        for (const step of steps) {
          if (step.do === 'end') {
            const [gone] = active.splice(step.which % Math.max(1, active.length), 1);
            if (gone !== undefined) uploads.end(gone);
          } else {
            const made = step.do === 'share' ? sharedJob() : job();
            const said = uploads.offer(made, 0, givesWay);
            if (said === 'started') started(made);
            else if (said === 'queued' && step.do === 'own') queuedOwn.push(made);
          }
          for (let next = uploads.next(0, givesWay); next !== undefined; next = uploads.next(0, givesWay)) started(next);
          expect(active.filter(givesWay).length).toBeLessThanOrEqual(2);
          expect(queuedOwn.length === 0 || uploads.active >= uploads.slots).toBe(true);
        }
      }),
    );
  });
});
