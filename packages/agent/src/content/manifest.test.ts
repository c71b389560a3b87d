import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { AgentError } from '../errors.ts';
import { parseManifest } from './manifest.ts';

const A = `sha256:${'a'.repeat(64)}`;
const B = `sha256:${'b'.repeat(64)}`;
const C = `sha512:${'c'.repeat(128)}`;
const OCI = 'application/vnd.oci.image.manifest.v1+json';
const INDEX = 'application/vnd.oci.image.index.v1+json';

function parse(value: unknown, declared?: string): ReturnType<typeof parseManifest> {
  return parseManifest(Buffer.from(JSON.stringify(value)), declared);
}

describe('what a manifest refers to', () => {
  test('config and layers are blobs', () => {
    expect(
      parse({
        schemaVersion: 2,
        mediaType: OCI,
        config: { mediaType: 'application/vnd.oci.image.config.v1+json', digest: A, size: 7 },
        layers: [{ mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', digest: B, size: 0 }, { digest: C, size: 9 }],
      }),
    ).toEqual({
      mediaType: OCI,
      references: [
        { digest: A, size: 7, mediaType: 'application/vnd.oci.image.config.v1+json', kind: 'blob' },
        { digest: B, size: 0, mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', kind: 'blob' },
        { digest: C, size: 9, mediaType: 'application/octet-stream', kind: 'blob' },
      ],
    });
  });

  test('entries of an index are manifests', () => {
    expect(parse({ schemaVersion: 2, manifests: [{ mediaType: OCI, digest: A, size: 5, platform: { os: 'linux' } }] })).toEqual({
      mediaType: INDEX,
      references: [{ digest: A, size: 5, mediaType: OCI, kind: 'manifest' }],
    });
  });

  test('blobs of an artifact', () => {
    expect(parse({ blobs: [{ digest: A, size: 1, mediaType: 'text/plain' }] }).references).toEqual([{ digest: A, size: 1, mediaType: 'text/plain', kind: 'blob' }]);
  });

  test('entries that are none are left out', () => {
    const bad = [null, 7, 'x', [], {}, { digest: A }, { digest: A, size: -1 }, { digest: A, size: 1.5 }, { digest: A, size: '3' }, { digest: 'sha256:abc', size: 3 }, { digest: A.toUpperCase(), size: 3 }, { digest: 4, size: 4 }, { digest: A, size: 2 ** 60 }];
    expect(parse({ layers: bad, manifests: bad, config: 'x', blobs: 'y' }).references).toEqual([]);
  });
});

test('the declared type wins over the one within, that over the fields', () => {
  expect(parse({ mediaType: OCI }, INDEX).mediaType).toBe(INDEX);
  expect(parse({ mediaType: 'application/x' }).mediaType).toBe('application/x');
  expect(parse({ schemaVersion: 1 }).mediaType).toBe('application/vnd.docker.distribution.manifest.v1+prettyjws');
  expect(parse({ schemaVersion: 2 }).mediaType).toBe(OCI);
});

test.each(['', 'null', '[]', '"text"', '12', '{', '{"a":1}x', '\u0000'])('%j is no manifest', (text) => {
  expect(() => parseManifest(Buffer.from(text), OCI)).toThrow(expect.objectContaining({ code: 'MANIFEST_MALFORMED' }));
});

test('very deep nesting is no trouble', () => {
  const text = `{"layers":${'['.repeat(200_000)}${']'.repeat(200_000)}}`;
  expect(parseManifest(Buffer.from(text), undefined).references).toEqual([]);
});

test('whatever the bytes are, it answers or throws MANIFEST_MALFORMED', () => {
  const descriptor = fc.record({ digest: fc.oneof(fc.constantFrom(A, B, C), fc.string()), size: fc.oneof(fc.nat(), fc.double(), fc.string()), mediaType: fc.option(fc.string()) }, { requiredKeys: [] });
  const list = fc.oneof(fc.array(fc.oneof(descriptor, fc.jsonValue())), fc.jsonValue());
  const manifest = fc.record({ schemaVersion: fc.jsonValue(), mediaType: fc.jsonValue(), config: fc.oneof(descriptor, fc.jsonValue()), layers: list, manifests: list, blobs: list }, { requiredKeys: [] });
  const bytes = fc.oneof(fc.uint8Array(), fc.json().map((text) => Buffer.from(text)), manifest.map((value) => Buffer.from(JSON.stringify(value))));
  fc.assert(
    fc.property(bytes, fc.option(fc.string(), { nil: undefined }), (input, declared) => {
      try {
        const { mediaType, references } = parseManifest(input, declared);
        expect(typeof mediaType).toBe('string');
        for (const { digest, size, kind } of references) {
          expect(digest).toMatch(/^sha(256:[a-f0-9]{64}|512:[a-f0-9]{128})$/);
          expect(Number.isSafeInteger(size) && size >= 0).toBe(true);
          expect(['blob', 'manifest']).toContain(kind);
        }
      } catch (error) {
        expect(error).toBeInstanceOf(AgentError);
        expect(error).toMatchObject({ code: 'MANIFEST_MALFORMED' });
      }
    }),
    { numRuns: 500 },
  );
});
