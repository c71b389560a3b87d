import { generateKeyPairSync } from 'node:crypto';
import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { signMembership } from '@flotilla/shared/membership';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Membership, type FleetMembership } from './membership.ts';

const NOW_MS = 1_800_000_000_000;
const fleet = newFleet('harbour');

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'flotilla-membership-'));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

describe('check', () => {
  test('before enrolment nobody is let in', async () => {
    const membership = await Membership.open(dir);
    expect(membership.own()).toBeUndefined();
    expect(() => membership.check(fleet.membershipOf('peer-alpha'), 'peer-alpha', NOW_MS)).toThrow(expect.objectContaining({ code: 'MEMBERSHIP_UNKNOWN' }));
  });

  test('members pass; strangers, borrowed and expired memberships do not', async () => {
    const membership = await Membership.open(dir);
    await membership.enrolled(fleet.enrolment('peer-self'));
    expect(membership.check(fleet.membershipOf('peer-alpha'), 'peer-alpha', NOW_MS).fleetId).toBe('harbour');
    const refused = (text: string, peerId: string, nowMs = NOW_MS): (() => void) => () => membership.check(text, peerId, nowMs);
    expect(refused(newFleet('harbour').membershipOf('peer-alpha'), 'peer-alpha')).toThrow(expect.objectContaining({ code: 'MEMBERSHIP_FORGED' }));
    expect(refused(fleet.membershipOf('peer-alpha'), 'peer-beta')).toThrow(expect.objectContaining({ code: 'MEMBERSHIP_FOREIGN' }));
    expect(refused(fleet.membershipOf('peer-alpha'), 'peer-alpha', NOW_MS + 3_600_001)).toThrow(expect.objectContaining({ code: 'MEMBERSHIP_EXPIRED' }));
  });

  test('a banned member is refused until the list is replaced', async () => {
    const membership = await Membership.open(dir);
    await membership.enrolled(fleet.enrolment('peer-self'));
    await membership.ban(['peer-alpha']);
    expect(() => membership.check(fleet.membershipOf('peer-alpha'), 'peer-alpha', NOW_MS)).toThrow(expect.objectContaining({ code: 'MEMBERSHIP_BANNED' }));
    await membership.ban([]);
    expect(membership.check(fleet.membershipOf('peer-alpha'), 'peer-alpha', NOW_MS).peerId).toBe('peer-alpha');
  });
});

describe('on disk', () => {
  test('survives a restart, with what was banned', async () => {
    const before = await Membership.open(dir);
    await before.enrolled(fleet.enrolment('peer-self'));
    await before.ban(['peer-alpha']);
    const after = await Membership.open(dir);
    expect(after.own()).toBe(before.own());
    expect(after.fleetId).toBe('harbour');
    expect(() => after.check(fleet.membershipOf('peer-alpha'), 'peer-alpha', NOW_MS)).toThrow(expect.objectContaining({ code: 'MEMBERSHIP_BANNED' }));
    expect(await readdir(dir)).toEqual(['membership.json']);
    expect((await stat(join(dir, 'membership.json'))).mode & 0o777).toBe(0o600);
  });

  test('writes at the same moment end with the last state', async () => {
    const membership = await Membership.open(dir);
    const lists = Array.from({ length: 8 }, (_, i) => [`peer-${i}`]);
    await Promise.all([membership.enrolled(fleet.enrolment('peer-self')), ...lists.map((list) => membership.ban(list))]);
    const after = await Membership.open(dir);
    expect([...after.banned]).toEqual(['peer-7']);
    expect(after.own()).toBe(membership.own());
  });

  test.each(['', '{', '[]', 'null', '{"banned":[1]}', '{"banned":[],"fleet":{"fleetId":"x","fleetKey":"y","membership":"z"}}'])(
    'a damaged file (%s) leaves the agent not enrolled, says so, and is replaced by the next enrolment',
    async (text) => {
      await writeFile(join(dir, 'membership.json'), text);
      const membership = await Membership.open(dir);
      expect(membership.damaged).toMatchObject({ code: 'STORE_CORRUPT' });
      expect(membership.own()).toBeUndefined();
      await membership.enrolled(fleet.enrolment('peer-self'));
      expect((await Membership.open(dir)).damaged).toBeUndefined();
    },
  );
});

describe('listeners', () => {
  test('hear of newly banned members once, and of a renewal', async () => {
    const membership = await Membership.open(dir);
    const heard: unknown[] = [];
    const end = membership.onChange((change) => heard.push(change));
    await membership.enrolled(fleet.enrolment('peer-self'));
    await membership.enrolled(fleet.enrolment('peer-self'));
    await membership.ban(['peer-alpha']);
    await membership.ban(['peer-alpha', 'peer-beta']);
    await membership.ban(['peer-alpha', 'peer-beta']);
    end();
    await membership.ban([]);
    expect(heard).toEqual([
      { banned: [], renewed: true },
      { banned: ['peer-alpha'], renewed: false },
      { banned: ['peer-beta'], renewed: false },
    ]);
  });

  test('a fleet key that is none changes nothing', async () => {
    const membership = await Membership.open(dir);
    await membership.enrolled(fleet.enrolment('peer-self'));
    await expect(membership.enrolled({ fleetId: 'other', fleetKey: 'no key', membership: 'x' })).rejects.toThrow(RangeError);
    expect(membership.fleetId).toBe('harbour');
  });

  test("another fleet's list of banned members does not stay", async () => {
    const membership = await Membership.open(dir);
    await membership.enrolled(fleet.enrolment('peer-self'));
    await membership.ban(['peer-alpha']);
    await membership.enrolled(newFleet('elsewhere').enrolment('peer-self'));
    expect(membership.banned.size).toBe(0);
  });
});

function newFleet(fleetId: string): { membershipOf(peerId: string): string; enrolment(peerId: string): FleetMembership } {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const membershipOf = (peerId: string): string => signMembership({ fleetId, peerId, notAfterMs: NOW_MS + 3_600_000 }, privateKey);
  return {
    membershipOf,
    enrolment: (peerId) => ({ fleetId, fleetKey: publicKey.export({ type: 'spki', format: 'pem' }), membership: membershipOf(peerId) }),
  };
}
