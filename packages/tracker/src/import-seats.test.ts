import fc from 'fast-check';
import { expect, test } from 'vitest';
import { MAX_IMPORT_SEATS, type ImportSeat } from '@flotilla/shared/import-seats';
import { ImportSeats } from './import-seats.ts';

const step = fc.record({ peer: fc.nat(29), zone: fc.option(fc.nat(1)), act: fc.constantFrom('whole', 'part', 'gone', 'tell') });

test('whatever happens: what was told last is true, and the seats of a zone are numbered without gaps', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
      const seats = new ImportSeats();
      const members = new Map<string, { zone: string; whole: boolean }>();
      const told = new Map<string, ImportSeat>();
      const tell = (): void => {
        for (const { peer, seat } of seats.takeChanged()) {
          expect(members.has(peer)).toBe(true);
          told.set(peer, seat);
        }
        expect(seats.due).toBe(false);
        for (const zone of ['z0', 'z1']) {
          const here = [...members].filter(([, member]) => member.zone === zone);
          const count = Math.min(MAX_IMPORT_SEATS, here.filter(([, { whole }]) => whole).length);
          for (const [peer, { whole }] of here) {
            expect(told.get(peer)?.seats).toBe(count);
            if (!whole) expect(told.get(peer)?.seat).toBeUndefined();
          }
          const taken = here.map(([peer]) => told.get(peer)!.seat).filter((seat) => seat !== undefined);
          expect(taken.toSorted((a, b) => a - b)).toEqual(Array.from({ length: count }, (_, at) => at));
        }
      };
      for (const { peer: at, zone, act } of steps) {
        const peer = `p${at}`;
        if (act === 'tell') tell();
        else if (act === 'gone') {
          seats.remove(peer);
          members.delete(peer);
          told.delete(peer);
        } else {
          const name = zone === null ? undefined : `z${zone}`;
          seats.put(peer, name, act === 'whole');
          if (members.get(peer)?.zone !== name) told.delete(peer);
          if (name === undefined) members.delete(peer);
          else members.set(peer, { zone: name, whole: act === 'whole' });
        }
      }
      tell();
    }),
    { numRuns: 300 },
  );
});

test('a join beyond the last seat, and a leave that somebody waits for, are told to one each', () => {
  const seats = new ImportSeats();
  for (let at = 0; at < MAX_IMPORT_SEATS; at++) seats.put(`p${at}`, 'x', true);
  seats.takeChanged();
  seats.put('late', 'x', true);
  expect(seats.takeChanged()).toEqual([{ peer: 'late', seat: { seats: MAX_IMPORT_SEATS } }]);
  seats.remove('p3');
  expect(seats.takeChanged()).toEqual([{ peer: 'late', seat: { seats: MAX_IMPORT_SEATS, seat: 3 } }]);
});
