import { X509Certificate } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { certificateNames, ensureOwnTls, readGivenTls } from './tls.ts';

const DAY_MS = 86_400_000;
const NOW_MS = Date.parse('2026-11-23T00:00:00Z');

let dir: string;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'flotilla-tls-'));
});

afterEach(() => rm(dir, { recursive: true }));

test('the certificate is for this machine, where it listens, and further names', async () => {
  const names = certificateNames('10.1.2.3', ['tracker.example']);
  expect(names).toEqual(['localhost', '127.0.0.1', '::1', hostname(), '10.1.2.3', 'tracker.example']);
  const { cert, caPem } = await ensureOwnTls(dir, names, NOW_MS);
  const parsed = new X509Certificate(cert);
  for (const ip of ['127.0.0.1', '::1', '10.1.2.3']) expect(parsed.checkIP(ip), ip).toBeDefined();
  for (const host of ['localhost', 'tracker.example']) expect(parsed.checkHost(host), host).toBe(host);
  expect(parsed.checkHost('other.example')).toBeUndefined();
  const ca = new X509Certificate(caPem);
  expect(parsed.verify(ca.publicKey)).toBe(true);
  expect([ca.ca, parsed.ca]).toEqual([true, false]);
});

test('listening everywhere, it is for all addresses of the machine', () => {
  expect(certificateNames('0.0.0.0', []).length).toBeGreaterThanOrEqual(3);
  expect(certificateNames('0.0.0.0', []).some((name) => name.includes('%') || name === '0.0.0.0')).toBe(false);
});

test('it is kept, renewed 90 days before its end, and made anew for another name, always by the same CA', async () => {
  const first = await ensureOwnTls(dir, ['localhost'], NOW_MS);
  expect(await ensureOwnTls(dir, ['localhost'], NOW_MS + 274 * DAY_MS)).toEqual(first);
  const renewed = await ensureOwnTls(dir, ['localhost'], NOW_MS + 276 * DAY_MS);
  expect(renewed.cert).not.toBe(first.cert);
  const named = await ensureOwnTls(dir, ['localhost', 'new.example'], NOW_MS + 276 * DAY_MS);
  expect(named.cert).not.toBe(renewed.cert);
  expect([renewed.caPem, named.caPem]).toEqual([first.caPem, first.caPem]);
});

test('a crash between the two files of a renewal is mended; a CA that lost its key is not replaced silently', async () => {
  const first = await ensureOwnTls(dir, ['localhost'], NOW_MS);
  const other = await mkdtemp(join(tmpdir(), 'flotilla-tls-'));
  const { key } = await ensureOwnTls(other, ['localhost'], NOW_MS);
  await rm(other, { recursive: true });
  await writeFile(join(dir, 'tls/server-key.pem'), key);
  const mended = await ensureOwnTls(dir, ['localhost'], NOW_MS);
  expect(mended.caPem).toBe(first.caPem);
  expect(mended.cert).not.toBe(first.cert);
  await writeFile(join(dir, 'tls/ca-key.pem'), key);
  await expect(ensureOwnTls(dir, ['localhost'], NOW_MS)).rejects.toMatchObject({ code: 'CERTIFICATE_UNUSABLE' });
});

test('given files that do not belong together are refused', async () => {
  await ensureOwnTls(dir, ['localhost'], NOW_MS);
  await readGivenTls(join(dir, 'tls/server.pem'), join(dir, 'tls/server-key.pem'));
  await expect(readGivenTls(join(dir, 'tls/server.pem'), join(dir, 'tls/ca-key.pem'))).rejects.toMatchObject({ code: 'CERTIFICATE_UNUSABLE' });
  await expect(readGivenTls(join(dir, 'none'), join(dir, 'none'))).rejects.toMatchObject({ code: 'CERTIFICATE_UNUSABLE' });
});
