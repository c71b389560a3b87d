import { parseDigest } from '@flotilla/shared/digest';
import { describe, expect, test } from 'vitest';
import { choose, formatPlatform, HOST_PLATFORM, indexEntries, parsePlatform, type IndexEntry } from './platform.ts';

function entry(name: string, index: number): IndexEntry {
  return { digest: parseDigest(`sha256:${String(index).padStart(64, '0')}`), size: 1, mediaType: 'application/vnd.oci.image.manifest.v1+json', platform: parsePlatform(name) };
}

/** Which of these names is chosen. */
function chosen(wanted: string, names: readonly string[]): string {
  const { platform } = choose(names.map(entry), parsePlatform(wanted)!);
  return formatPlatform(platform!);
}

test.each([
  ['linux/amd64', ['linux/386', 'linux/amd64', 'linux/arm64'], 'linux/amd64'],
  ['linux/amd64', ['linux/amd64/v3', 'linux/amd64'], 'linux/amd64'],
  ['linux/amd64/v3', ['linux/amd64', 'linux/amd64/v2', 'linux/amd64/v4'], 'linux/amd64/v2'],
  ['linux/arm64', ['linux/arm64/v8'], 'linux/arm64/v8'],
  ['linux/arm64/v8', ['linux/arm64'], 'linux/arm64'],
  ['linux/arm', ['linux/arm/v5', 'linux/arm/v7', 'linux/arm/v6'], 'linux/arm/v7'],
  ['linux/arm/v6', ['linux/arm/v7', 'linux/arm/v5'], 'linux/arm/v5'],
  ['windows/amd64', ['linux/amd64', 'windows/amd64'], 'windows/amd64'],
  ['linux/s390x', ['linux/s390x'], 'linux/s390x'],
])('for %s out of %j: %s', (wanted, names, expected) => {
  expect(chosen(wanted, names)).toBe(expected);
});

test.each([
  ['linux/amd64', ['linux/arm64', 'unknown/unknown'], 'the image is not there for linux/amd64, only for linux/arm64'],
  ['linux/arm/v5', ['linux/arm/v7'], 'the image is not there for linux/arm/v5, only for linux/arm/v7'],
  ['linux/amd64', ['unknown/unknown'], 'the image is not there for linux/amd64, only for no platform that is named'],
])('for %s out of %j: none, and it is said what is there', (wanted, names, message) => {
  expect(() => chosen(wanted, names)).toThrow(expect.objectContaining({ code: 'PLATFORM_UNKNOWN', message }));
});

describe('platforms as text', () => {
  test.each(['linux/amd64', 'linux/arm/v7'])('%s', (text) => {
    expect(formatPlatform(parsePlatform(text)!)).toBe(text);
  });

  test.each(['', 'linux', 'linux/', '/amd64', 'linux/amd64/', 'a/b/c/d', 'linux/am d64'])('"%s" is none', (text) => {
    expect(parsePlatform(text)).toBeUndefined();
  });

  test("this machine's has a form that indexes use", () => {
    expect(formatPlatform(HOST_PLATFORM)).toMatch(/^(linux|windows)\/(amd64|arm64|arm|386|ppc64le|s390x|riscv64|loong64)$/);
  });
});

test('entries of an index: what cannot be one is left out, a manifest has none', () => {
  const digest = entry('linux/amd64', 7).digest;
  const json = { manifests: [null, { digest: 'x', size: 1 }, { digest, size: 3 }, { digest, size: 4, mediaType: 'm', platform: { os: 'linux', architecture: 'amd64', variant: '' } }] };
  expect(indexEntries(Buffer.from(JSON.stringify(json)))).toEqual([
    { digest, size: 3, mediaType: '', platform: undefined },
    { digest, size: 4, mediaType: 'm', platform: { os: 'linux', architecture: 'amd64', variant: undefined } },
  ]);
  expect(indexEntries(Buffer.from('{"layers": []}'))).toBeUndefined();
});
