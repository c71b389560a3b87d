// Clients that read parts of layers: containers/image with zstd:chunked images, and the stargz snapshotter. Recorded 2026 with containers/image
// 5.34.0 (a second version of an image of which every other file had changed) and stargz-snapshotter 0.16.3.

import { TLS_HELLO, type Sequence } from './sequence.ts';

const CONTAINERS = { 'user-agent': 'containers/5.34.0 (github.com/containers/image)', 'docker-distribution-api-version': 'registry/2.0' };
const CONTAINERS_ANY = {
  accept:
    'application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json, ' +
    'application/vnd.docker.distribution.manifest.v1+prettyjws, application/vnd.docker.distribution.manifest.v1+json, ' +
    'application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.index.v1+json',
  'accept-encoding': 'gzip',
};
const STARGZ = { 'user-agent': 'Go-http-client/1.1' };
const PARTS = { 'accept-encoding': 'identity' };

/** So many ranges, as a client asks for the files that it lacks: of different lengths, with gaps, some of them adjacent. */
function ranges(count: number): string {
  const step = Math.floor(700_000 / count);
  return `bytes=${Array.from({ length: count }, (_, i) => `${i * step}-${i * step + (i % 7 === 0 ? step - 1 : Math.floor(step / 2))}`).join(',')}`;
}

export const partialReaders: readonly Sequence[] = [
  {
    client: 'containers/image 5.34.0',
    does: 'pull of a zstd:chunked image, a version of which is here',
    base: '/v2/docker.io/library/kinds',
    headers: CONTAINERS,
    steps: [
      TLS_HELLO,
      { ask: 'GET /v2/', headers: { 'accept-encoding': 'gzip' }, json: {} },
      { ask: 'GET manifests/zstd', headers: CONTAINERS_ANY, gives: 'zstd' },
      { ask: 'GET blobs/{zstd.config}', headers: { 'accept-encoding': 'gzip' }, gives: 'zstd.config' },
      // Its table of contents lies at the end.
      { ask: 'GET blobs/{zstd.layer}', headers: { range: 'bytes=680000-690920,690929-700500' }, gives: 'zstd.layer' },
      { ask: 'GET blobs/{zstd.layer}', headers: { range: ranges(103) }, gives: 'zstd.layer' },
      { ask: 'GET blobs/{zstd.layer}', headers: { range: ranges(1024) }, gives: 'zstd.layer' },
      // Where all is missing, one range.
      { ask: 'GET blobs/{zstd.layer2}', headers: { range: 'bytes=108-699999' }, gives: 'zstd.layer2' },
    ],
  },
  {
    client: 'containers/image 5.34.0',
    does: 'goes on after a connection that broke, and asks for too much',
    base: '/v2/docker.io/library/kinds',
    headers: CONTAINERS,
    steps: [
      { ask: 'GET blobs/{zstd.layer}', gives: 'zstd.layer', headers: { range: 'bytes=0-' }, leavesAfter: 100_000 },
      { ask: 'GET blobs/{zstd.layer}', gives: 'zstd.layer', headers: { range: 'bytes=131072-' } },
      // Upon 400 it halves its ranges; more than a client ever sends.
      { ask: 'GET blobs/{zstd.layer}', headers: { range: ranges(2049) }, status: 400 },
      { ask: 'GET blobs/{zstd.layer}', headers: { range: 'bytes=900000-' }, status: 416 },
    ],
  },
  {
    client: 'stargz-snapshotter 0.16.3',
    does: 'mounts a layer and reads in it',
    base: '/v2/docker.io/library/kinds',
    headers: STARGZ,
    steps: [
      { ask: 'GET blobs/{index.layer}', headers: { range: 'bytes=0-1' }, gives: 'index.layer' },
      { ask: 'HEAD blobs/{index.layer}', gives: 'index.layer' },
      { ask: 'GET blobs/{index.layer}', headers: { ...PARTS, range: 'bytes=0-49999' }, gives: 'index.layer' },
      { ask: 'GET blobs/{index.layer}', headers: { ...PARTS, range: 'bytes=200000-249999' }, gives: 'index.layer' },
      { ask: 'GET blobs/{index.layer}', headers: { ...PARTS, range: 'bytes=50000-199999,250000-399999' }, gives: 'index.layer' },
    ],
  },
  {
    client: 'any',
    does: 'asks for content of no bytes',
    base: '/v2/docker.io/library/kinds',
    steps: [
      { ask: 'GET manifests/empty', gives: 'empty' },
      { ask: 'HEAD blobs/{empty.layer}', gives: 'empty.layer' },
      { ask: 'GET blobs/{empty.layer}', gives: 'empty.layer' },
      { ask: 'GET blobs/{empty.layer}', headers: { range: 'bytes=0-' }, gives: 'empty.layer' },
    ],
  },
];
