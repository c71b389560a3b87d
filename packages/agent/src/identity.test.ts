import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { generateKeyPair, privateKeyToProtobuf, publicKeyFromProtobuf } from '@libp2p/crypto/keys';
import { peerIdFromString } from '@libp2p/peer-id';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openIdentity } from './identity.ts';

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'flotilla-identity-'));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

test('is made once, private to its owner, and found again', async () => {
  const first = await openIdentity(join(dir, 'data'));
  const again = await openIdentity(join(dir, 'data'));
  expect(again.peerId).toBe(first.peerId);
  expect((await stat(join(dir, 'data', 'identity.key'))).mode & 0o777).toBe(0o600);
  expect(await readdir(join(dir, 'data'))).toEqual(['identity.key']);
});

test('has a secret for each purpose, the same after a restart, and another one than other agents', async () => {
  const first = await openIdentity(join(dir, 'a'));
  const again = await openIdentity(join(dir, 'a'));
  const other = await openIdentity(join(dir, 'b'));
  expect(again.secretFor('rights')).toEqual(first.secretFor('rights'));
  expect(first.secretFor('rights')).toHaveLength(32);
  const secrets = [first.secretFor('rights'), first.secretFor('other'), other.secretFor('rights'), first.privateKey.raw.subarray(0, 32)];
  expect(new Set(secrets.map((secret) => Buffer.from(secret).toString('hex'))).size).toBe(4);
});

test('signs so that its public key and its peer id verify it', async () => {
  const identity = await openIdentity(dir);
  const bytes = Buffer.from('flotilla');
  const signature = identity.sign(bytes);
  expect(await publicKeyFromProtobuf(identity.publicKey).verify(bytes, signature)).toBe(true);
  expect(await peerIdFromString(identity.peerId).publicKey!.verify(bytes, signature)).toBe(true);
  expect(await publicKeyFromProtobuf(identity.publicKey).verify(Buffer.from('flotilla!'), signature)).toBe(false);
});

test.each([
  ['cut short', (bytes: Buffer) => bytes.subarray(0, 20)],
  ['empty', () => Buffer.alloc(0)],
  ['not a key', () => Buffer.from('hello, I am no key at all')],
])('a damaged file (%s) is an error and stays as it is', async (_name, damage) => {
  await openIdentity(dir);
  const path = join(dir, 'identity.key');
  const damaged = damage(await readFile(path));
  await writeFile(path, damaged);
  await expect(openIdentity(dir)).rejects.toMatchObject({ code: 'IDENTITY_DAMAGED' });
  expect(await readFile(path)).toEqual(Buffer.from(damaged));
});

test('a key of another type is refused', async () => {
  await writeFile(join(dir, 'identity.key'), privateKeyToProtobuf(await generateKeyPair('secp256k1')));
  await expect(openIdentity(dir)).rejects.toMatchObject({ code: 'IDENTITY_DAMAGED' });
});
