import { expect, test } from 'vitest';
import { messageMac, type SessionRequest } from '@flotilla/shared/tracker-api';
import { Sessions, type EndReason, type EventStream, type Session } from './sessions.ts';

class Stream implements EventStream {
  queuedBytes = 0;
  readonly written: string[] = [];
  ended = false;
  write(text: string): void {
    this.written.push(text);
  }
  end(): void {
    this.ended = true;
  }
}

function request(peerId: string): SessionRequest {
  return { peerId, nonce: 'n'.repeat(16), timestampMs: 0, signature: '', addresses: [], name: peerId, labels: {}, agentVersion: '0' };
}

function setUp(): { sessions: Sessions; ended: [string, EndReason][]; open: (peer: string, nowMs?: number) => { session: Session; stream: Stream } } {
  const ended: [string, EndReason][] = [];
  const sessions = new Sessions({ heartbeatMs: 1000, maxQueuedBytes: 100 }, (session, reason) => ended.push([session.peerId, reason]));
  const open = (peer: string, nowMs = 0): { session: Session; stream: Stream } => {
    const stream = new Stream();
    return { session: sessions.open(request(peer), stream, nowMs), stream };
  };
  return { sessions, ended, open };
}

const flushed = (): Promise<void> => Promise.resolve();

test('events of one turn go out in one write, in order', async () => {
  const { sessions, open } = setUp();
  const [a, b] = [open('a'), open('b')];
  for (const by of ['x', 'y']) for (const peer of ['a', 'b', 'nobody']) sessions.send(peer, { type: 'banned', peers: [by] });
  await flushed();
  for (const { stream } of [a, b]) expect(stream.written).toEqual(['{"type":"banned","peers":["x"]}\n{"type":"banned","peers":["y"]}\n']);
});

test('a queue over the bound has five seconds to drain; far over, none', async () => {
  const { sessions, ended, open } = setUp();
  const [slow, quick, hopeless] = [open('slow'), open('quick'), open('hopeless')];
  for (const { session } of [slow, quick]) session.heardAtMs = 1e9;
  slow.stream.queuedBytes = 101;
  quick.stream.queuedBytes = 101;
  sessions.tick(1000);
  quick.stream.queuedBytes = 0;
  sessions.tick(2000);
  quick.stream.queuedBytes = 101;
  hopeless.stream.queuedBytes = 801;
  sessions.send('hopeless', { type: 'ping' });
  await flushed();
  expect(ended).toEqual([['hopeless', 'slow']]);
  sessions.tick(6000);
  expect(ended).toEqual([['hopeless', 'slow'], ['slow', 'slow']]);
  expect(slow.stream.ended).toBe(true);
});

test('pings each heartbeat, ends after three silent ones, and a post counts as a sign of life', async () => {
  const { sessions, ended, open } = setUp();
  const { session, stream } = open('a');
  sessions.tick(999);
  sessions.tick(1000);
  sessions.tick(1500);
  await flushed();
  expect(stream.written).toEqual(['{"type":"ping"}\n']);
  const mac = messageMac(session.key, session.id, 1, 'body');
  expect(sessions.accept(session.id, 1, mac, 'body', 2500)).toEqual({ session, repeated: false });
  sessions.tick(5500);
  expect(ended).toEqual([]);
  sessions.tick(5501);
  expect(ended).toEqual([['a', 'silent']]);
});

test('an old stream that closes late does not end the session that replaced it', () => {
  const { sessions, ended, open } = setUp();
  const old = open('a');
  const { session } = open('a');
  expect(ended).toEqual([['a', 'replaced']]);
  sessions.streamClosed(old.session);
  expect(sessions.of('a')).toBe(session);
  expect(ended).toHaveLength(1);
  sessions.streamClosed(session);
  expect(ended.at(-1)).toEqual(['a', 'gone']);
  expect(sessions.size).toBe(0);
});
