import fc from 'fast-check';
import { expect, test } from 'vitest';
import { AgentError } from '../errors.ts';
import { Patience, type PatienceView } from './patience.ts';

const LIMITS = { lingerMs: 5000, hedgeMs: 5000, stallMs: 60_000, auditMs: 15_000, settleMs: 2000 };
const START = 1_000_000;
const VIEW: PatienceView = { repairing: false, followed: false, starving: { index: 3, sinceMs: START }, expected: false, covered: false, alone: false };
const gone = new AgentError('ORIGIN_UNREACHABLE', 'gone');
const denied = new AgentError('ORIGIN_DENIED', 'denied');

function patient(): Patience {
  const patience = new Patience(LIMITS, START);
  patience.readersChanged(1, START);
  return patience;
}

test('a download that nobody ever reads ends', () => {
  const patience = new Patience(LIMITS, START);
  expect(patience.decide({ ...VIEW, starving: undefined }, START + 4999).kind).toBe('wait');
  expect(patience.decide({ ...VIEW, starving: undefined }, START + 5000).kind).toBe('close');
  expect(patience.decide({ ...VIEW, starving: undefined, followed: true }, START + 9000).kind).toBe('wait');
});

test('changes among no readers do not lengthen the wait', () => {
  const patience = new Patience(LIMITS, START);
  patience.readersChanged(0, START + 4000);
  expect(patience.decide({ ...VIEW, starving: undefined }, START + 5000).kind).toBe('close');
});

test('a repair is waited for although nobody reads', () => {
  const patience = new Patience(LIMITS, START);
  patience.repairing(START + 1000);
  expect(patience.decide({ ...VIEW, repairing: true }, START + 15_999).kind).toBe('wait');
  expect(patience.decide({ ...VIEW, repairing: true }, START + 16_000).kind).toBe('unrepaired');
});

test('a hedge every five seconds, and no other verdict before a minute', () => {
  const patience = patient();
  patience.progressed(START);
  const hedges = [];
  for (let ms = 500; ms < 60_000; ms += 500) {
    const { kind } = patience.decide(VIEW, START + ms);
    if (kind === 'hedge') hedges.push(ms);
    else expect(kind).toBe('wait');
  }
  expect(hedges).toEqual(Array.from({ length: 11 }, (_, i) => (i + 1) * 5000));
  expect(patience.decide(VIEW, START + 60_000).kind).toBe('stalled');
});

test('the first byte is waited for longer where there are peers', () => {
  expect(patient().decide({ ...VIEW, alone: true }, START + 5000).kind).toBe('hedge');
  const patience = patient();
  expect(patience.decide(VIEW, START + 14_999).kind).toBe('wait');
  expect(patience.decide(VIEW, START + 15_000).kind).toBe('hedge');
  expect(patience.decide(VIEW, START + 20_000).kind).toBe('hedge');
});

test('no hedge for a chunk that a lease of this host covers, or while bytes come', () => {
  const patience = patient();
  expect(patience.decide({ ...VIEW, covered: true }, START + 6000).kind).toBe('wait');
  patience.received(10, START + 6000);
  expect(patience.decide(VIEW, START + 10_999).kind).toBe('wait');
  patience.received(10, START + 10_999);
  expect(patience.decide(VIEW, START + 11_000).kind).toBe('hedge');
  // A source has left and the sum fell: no bytes.
  patience.received(4, START + 12_000);
  expect(patience.decide(VIEW, START + 16_000).kind).toBe('hedge');
  patience.received(5, START + 17_000);
  expect(patience.decide(VIEW, START + 21_000).kind).toBe('wait');
});

test('a failing origin alone: given up once peers had their time', () => {
  const patience = patient();
  patience.originFailed(gone, START + 100);
  const view = { ...VIEW, alone: true };
  expect(patience.decide(view, START + 1999)).toEqual({ kind: 'wait' });
  expect(patience.decide(view, START + 2000)).toEqual({ kind: 'give-up', error: gone });
  expect(patience.decide({ ...view, expected: true }, START + 2000)).toEqual({ kind: 'wait' });
  expect(patience.decide({ ...view, covered: true }, START + 2000)).toEqual({ kind: 'wait' });
});

test('among peers three failures in a row, or one that will not pass', () => {
  const patience = patient();
  patience.originFailed(gone, START + 100);
  patience.originFailed(gone, START + 200);
  expect(patience.decide(VIEW, START + 3000).kind).toBe('wait');
  patience.originWell();
  patience.originFailed(gone, START + 300);
  patience.originFailed(gone, START + 400);
  expect(patience.decide(VIEW, START + 3000).kind).toBe('wait');
  patience.originFailed(gone, START + 500);
  expect(patience.decide(VIEW, START + 3000)).toEqual({ kind: 'give-up', error: gone });
  const other = patient();
  other.originFailed(denied, START + 100);
  expect(other.decide(VIEW, START + 3000)).toEqual({ kind: 'give-up', error: denied });
});

test('a failure of before the reader came is no reason, unless it will not pass', () => {
  const patience = patient();
  patience.originFailed(gone, START + 100);
  const later = { ...VIEW, alone: true, starving: { index: 3, sinceMs: START + 1000 } };
  expect(patience.decide(later, START + 4000).kind).toBe('wait');
  patience.originFailed(denied, START + 200);
  expect(patience.decide(later, START + 4000)).toEqual({ kind: 'give-up', error: denied });
});

test('who does not starve is never given up', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 100_000 }), { maxLength: 20 }), fc.boolean(), (delays, alone) => {
      const patience = patient();
      let now = START;
      for (const delay of delays) {
        now += delay;
        patience.originFailed(denied, now);
        expect(patience.decide({ ...VIEW, starving: undefined, alone }, now)).toEqual({ kind: 'wait' });
      }
    }),
  );
});

test('while only hedges bring bytes the next one is asked for at once; not after other bytes', () => {
  const patience = patient();
  patience.progressed(START);
  expect(patience.decide(VIEW, START + 5000).kind).toBe('hedge');
  patience.progressed(START + 5100, true);
  expect(patience.hedging).toBe(true);
  expect(patience.decide({ ...VIEW, covered: true }, START + 5100).kind).toBe('wait');
  expect(patience.decide(VIEW, START + 5100).kind).toBe('hedge');
  expect(patience.decide(VIEW, START + 5200).kind, 'one at a time').toBe('wait');
  patience.progressed(START + 5300, true);
  patience.progressed(START + 5400);
  expect(patience.decide(VIEW, START + 5500).kind).toBe('wait');
  expect(patience.decide(VIEW, START + 10_400).kind).toBe('hedge');
});
