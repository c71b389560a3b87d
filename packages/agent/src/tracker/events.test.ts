import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { readEvents } from './events.ts';

const digest = `sha256:${'0'.repeat(64)}`;
const grant = { type: 'grant', epoch: 1, leaseId: 'x', blob: { digest, size: 9 }, first: 0, count: 1, deadlineMs: 5, mode: 'run' };

test('events come out whole however the stream was cut', async () => {
  const sent = [{ type: 'ping' }, grant, { type: 'banned', peers: ['päer-näme-éè'] }, { type: 'mesh', peers: [] }];
  const bytes = Buffer.from(sent.map((event) => JSON.stringify(event)).join('\n') + '\n\r\n\n');
  await fc.assert(fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 }), async (lengths) => {
    const pieces: Uint8Array[] = [];
    for (let at = 0, i = 0; at < bytes.length; i++) {
      const length = lengths[i % lengths.length]!;
      pieces.push(bytes.subarray(at, at + length));
      at += length;
    }
    expect(await read(pieces)).toEqual({ events: sent, unknown: [] });
  }));
});

test('types of a newer tracker are passed over, new fields of known types too', async () => {
  const text = `{"type":"weather","fine":true}\n{"type":"ping","at":5}\n`;
  expect(await read([Buffer.from(text)])).toEqual({ events: [{ type: 'ping', at: 5 }], unknown: ['weather'] });
});

test('a last line without its end is no event', async () => {
  expect(await read([Buffer.from('{"type":"ping"}\n{"type":"ping"}')])).toEqual({ events: [{ type: 'ping' }], unknown: [] });
});

test.each(['no json', '5', 'null', '{"kind":"ping"}', '{"type":7}', '{"type":"grant"}', JSON.stringify({ ...grant, first: -1 }), JSON.stringify({ ...grant, blob: { digest: 'sha256:x', size: 1 } })])(
  'the malformed line %s ends the stream',
  async (line) => {
    await expect(read([Buffer.from(`{"type":"ping"}\n${line}\n{"type":"ping"}\n`)])).rejects.toMatchObject({ code: 'TRACKER_PROTOCOL' });
  },
);

test('a line without end is not collected for ever', async () => {
  const piece = Buffer.alloc(1024 * 1024, 'x');
  let taken = 0;
  const endless = function* (): Generator<Uint8Array> {
    for (;;) {
      taken++;
      yield piece;
    }
  };
  await expect(read(endless())).rejects.toMatchObject({ code: 'TRACKER_PROTOCOL' });
  expect(taken).toBeLessThan(12);
});

async function read(pieces: Iterable<Uint8Array>): Promise<{ events: unknown[]; unknown: string[] }> {
  const events: unknown[] = [];
  const unknown: string[] = [];
  const stream = async function* (): AsyncGenerator<Uint8Array> {
    yield* pieces;
  };
  for await (const event of readEvents(stream(), (type) => unknown.push(type))) events.push(event);
  return { events, unknown };
}
