import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { JoinToken } from '@flotilla/shared/join-token';
import { Locations, type Location } from './locations.ts';
import { Members, type Member } from './members.ts';
import { State } from './state.ts';
import { TestIdentity } from './test-agent.ts';
import { blobOf } from './test-swarms.ts';
import { ensureJoinToken, readJoinToken, rotateJoinToken } from './tokens.ts';

const DAY_MS = 86_400_000;
const TOKEN: JoinToken = { id: 'one', secret: Buffer.alloc(32, 5).toString('base64url') };

let dir: string;
let state: State;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'flotilla-members-'));
  state = await State.open(join(dir, 'state'));
});

afterEach(async () => {
  await state.close();
  await rm(dir, { recursive: true });
});

function open(nowMs: number): Promise<Members> {
  return Members.open(dir, state.table<Member>('members'), nowMs);
}

describe('members', () => {
  test('are remembered until they were away for 60 days; banned ones always', async () => {
    const members = await open(0);
    const [a, b] = [new TestIdentity(), new TestIdentity()];
    for (const identity of [a, b]) await members.enroll(identity.enrolment(TOKEN, 0), TOKEN, 0);
    await members.ban(b.peerId, 'expelled', 'stolen');
    await members.seen(a.peerId, 10 * DAY_MS);
    expect((await open(69 * DAY_MS)).get(a.peerId)).toMatchObject({ state: 'member', seenAtMs: 10 * DAY_MS, enrolledAtMs: 0 });
    const late = await open(71 * DAY_MS);
    expect(late.get(a.peerId)).toBeUndefined();
    expect(late.banned()).toEqual([b.peerId]);
    expect(late.fleet).toEqual(members.fleet);
  });

  test('an enrolment can be repeated; a banned member cannot come back that way', async () => {
    const members = await open(0);
    const identity = new TestIdentity();
    await members.enroll(identity.enrolment(TOKEN, 0), TOKEN, 0);
    await members.enroll(identity.enrolment(TOKEN, 1000), TOKEN, 1000);
    expect(members.size).toBe(1);
    expect(members.get(identity.peerId)!.enrolledAtMs).toBe(0);
    await members.ban(identity.peerId, 'quarantined', 'lied');
    await expect(members.enroll(identity.enrolment(TOKEN, 2000), TOKEN, 2000)).rejects.toMatchObject({ code: 'MEMBER_BANNED' });
    await members.readmit(identity.peerId);
    await members.enroll(identity.enrolment(TOKEN, 3000), TOKEN, 3000);
    expect(members.get(identity.peerId)).toMatchObject({ state: 'member' });
    expect(members.get(identity.peerId)).not.toHaveProperty('reason');
  });

  test('their signatures are checked with the key that they enrolled with', async () => {
    const members = await open(0);
    const [a, b] = [new TestIdentity(), new TestIdentity()];
    for (const identity of [a, b]) await members.enroll(identity.enrolment(TOKEN, 0), TOKEN, 0);
    const bytes = Buffer.from('map');
    const signature = Buffer.from(a.sign('map'), 'base64url');
    expect(members.signedBy(a.peerId, bytes, signature)).toBe(true);
    expect(members.signedBy(b.peerId, bytes, signature)).toBe(false);
    expect(members.signedBy(a.peerId, Buffer.from('other'), signature)).toBe(false);
    expect(members.signedBy('stranger', bytes, signature)).toBe(false);
    expect(members.signedBy(a.peerId, bytes, Buffer.alloc(0))).toBe(false);
  });

  test('a nonce counts once, for as long as its time does', async () => {
    const members = await open(0);
    const identity = new TestIdentity();
    await members.enroll(identity.enrolment(TOKEN, 0), TOKEN, 0);
    const request = identity.session(0);
    members.authenticate(request, 0);
    expect(() => members.authenticate(request, 299_000)).toThrow(expect.objectContaining({ code: 'REPLAYED' }));
    members.authenticate(identity.session(300_000), 300_000);
    expect(() => members.authenticate(request, 301_000)).toThrow(expect.objectContaining({ code: 'CLOCK_SKEW' }));
  });
});

describe('tokens', () => {
  test('a rotation changes the secret, not the pin; a new pin keeps the secret', async () => {
    await expect(rotateJoinToken(dir)).rejects.toMatchObject({ code: 'TOKEN_NONE' });
    const first = await ensureJoinToken(dir, 'sha256:aa');
    expect(await ensureJoinToken(dir, 'sha256:aa')).toEqual(first);
    const second = await rotateJoinToken(dir);
    expect(second.caPin).toBe('sha256:aa');
    expect(second.secret).not.toBe(first.secret);
    expect(second.id).not.toBe(first.id);
    const plain = await ensureJoinToken(dir, undefined);
    expect(plain).toMatchObject({ id: second.id, secret: second.secret });
    expect(await readJoinToken(dir)).toEqual({ id: second.id, secret: second.secret });
  });
});

describe('state', () => {
  test('every epoch is new', async () => {
    const first = await state.raiseEpoch();
    await state.close();
    state = await State.open(join(dir, 'state'));
    expect(await state.raiseEpoch()).toBe(first + 1);
  });

  test('a folder in use, and one of a newer version, are refused', async () => {
    await expect(State.open(join(dir, 'state'))).rejects.toMatchObject({ code: 'STATE_LOCKED' });
    await state.table<number>('meta').put('layout', 99);
    await state.close();
    await expect(State.open(join(dir, 'state'))).rejects.toMatchObject({ code: 'STATE_FAILED' });
    state = await State.open(join(dir, 'other'));
  });

  test('tables do not see one another', async () => {
    const [a, b] = [state.table<number>('a'), state.table<number>('b')];
    await a.write(new Map([['x', 1], ['y', 2]]));
    await b.put('x', 3);
    await a.write(new Map([['y', undefined]]));
    const seen: [string, number][] = [];
    for await (const entry of a.entries()) seen.push(entry);
    expect(seen).toEqual([['x', 1]]);
  });
});

describe('locations', () => {
  const source = (repository: string): { origin: string; repository: string; kind: 'blob' } => ({ origin: 'docker.io', repository, kind: 'blob' });
  const question = (repository: string): { origin: string; repository: string; digest: string } => ({ origin: 'docker.io', repository, digest: blobOf(1).digest });

  test('the ones used longest ago make room, on disk as well', async () => {
    const table = state.table<Location>('located');
    const locations = await Locations.open(table, 2);
    locations.wanted(source('a'), blobOf(1), 1);
    locations.wanted(source('b'), blobOf(1), 2);
    locations.wanted(source('a'), blobOf(1), 3);
    locations.wanted(source('c'), blobOf(1), 4);
    await locations.flush();
    for (const known of [locations, await Locations.open(table, 2)]) {
      expect(known.size).toBe(2);
      expect(known.find(question('a'))).toEqual({ found: { size: 65_536, kind: 'blob' } });
      expect(known.find(question('b'))).toEqual({});
      expect(known.find(question('c'))).toEqual({ found: { size: 65_536, kind: 'blob' } });
    }
  });

  test('names cannot be shifted between origin and repository', async () => {
    const locations = await Locations.open(state.table<Location>('located'));
    locations.wanted({ origin: 'a', repository: 'b/1:c', kind: 'blob' }, blobOf(1), 1);
    expect(locations.find({ origin: 'a/5:b', repository: 'c', digest: blobOf(1).digest })).toEqual({});
  });
});
