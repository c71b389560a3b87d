// crane (go-containerregistry) and oras: image names only, no mirror setting. Recorded 2026 with crane 0.20.6 and oras 1.2.3.

import { TLS_HELLO, type Sequence } from './sequence.ts';

const BASE = '/v2/docker.io/library/kinds';
const CRANE = { 'user-agent': 'crane/v0.20.6 go-containerregistry/v0.20.6', 'accept-encoding': 'gzip' };
const CRANE_ANY = {
  accept:
    'application/vnd.docker.distribution.manifest.v1+json,application/vnd.docker.distribution.manifest.v1+prettyjws,' +
    'application/vnd.docker.distribution.manifest.v2+json,application/vnd.oci.image.manifest.v1+json,' +
    'application/vnd.docker.distribution.manifest.list.v2+json,application/vnd.oci.image.index.v1+json',
};
const ORAS = { 'user-agent': 'oras/1.2.3', 'accept-encoding': 'gzip' };
const ORAS_ANY = {
  accept:
    'application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json, ' +
    'application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, application/vnd.oci.artifact.manifest.v1+json',
};
const OCI_MANIFEST = { accept: 'application/vnd.oci.image.manifest.v1+json' };
/** Each command begins so. */
const CRANE_PING = [TLS_HELLO, { ask: 'GET /v2/', json: {} }] as const;

export const goClients: readonly Sequence[] = [
  {
    client: 'crane 0.20.6',
    does: 'pull --platform linux/amd64 NAME:index',
    base: BASE,
    headers: CRANE,
    steps: [
      ...CRANE_PING,
      { ask: 'GET manifests/index', headers: CRANE_ANY, gives: 'index' },
      { ask: 'GET manifests/{index.image}', headers: OCI_MANIFEST, gives: 'index.image' },
      { ask: 'GET blobs/{index.config}', gives: 'index.config' },
      { ask: 'GET blobs/{index.layer}', gives: 'index.layer' },
    ],
  },
  {
    client: 'crane 0.20.6',
    does: 'digest NAME:index',
    base: BASE,
    headers: CRANE,
    steps: [...CRANE_PING, { ask: 'HEAD manifests/index', headers: CRANE_ANY, gives: 'index' }],
  },
  {
    client: 'crane 0.20.6',
    does: 'digest NAME:missing',
    base: BASE,
    headers: CRANE,
    steps: [
      ...CRANE_PING,
      { ask: 'HEAD manifests/missing', headers: CRANE_ANY, status: 404 },
      ...CRANE_PING,
      { ask: 'GET manifests/missing', headers: CRANE_ANY, status: 404, code: 'MANIFEST_UNKNOWN' },
    ],
  },
  {
    client: 'crane 0.20.6',
    does: 'pull --format oci NAME:artifact; ls NAME; blob NAME@sha512:...',
    base: BASE,
    headers: CRANE,
    steps: [
      ...CRANE_PING,
      { ask: 'GET manifests/artifact', headers: CRANE_ANY, gives: 'artifact' },
      [
        { ask: 'GET blobs/{artifact.layer}', gives: 'artifact.layer' },
        { ask: 'GET blobs/{artifact.config}', gives: 'artifact.config' },
      ],
      { ask: 'GET tags/list?n=1000', json: { name: 'docker.io/library/kinds' } },
      { ask: 'GET manifests/sha512', headers: CRANE_ANY, gives: 'sha512' },
      { ask: 'GET blobs/{sha512.layer}', gives: 'sha512.layer' },
    ],
  },
  {
    client: 'oras 1.2.3',
    does: 'cp --from-plain-http NAME:index --to-oci-layout DIR',
    base: BASE,
    headers: ORAS,
    steps: [
      { ask: 'GET manifests/index', headers: ORAS_ANY, gives: 'index' },
      { ask: 'GET manifests/{index.image}', headers: OCI_MANIFEST, gives: 'index.image' },
      [
        { ask: 'GET blobs/{index.layer}', gives: 'index.layer' },
        { ask: 'GET blobs/{index.config}', gives: 'index.config' },
      ],
    ],
  },
  {
    client: 'oras 1.2.3',
    does: 'cp -r --from-plain-http NAME:zstd --to-oci-layout DIR (with what refers to it)',
    base: BASE,
    headers: ORAS,
    steps: [
      { ask: 'HEAD manifests/zstd', headers: ORAS_ANY, gives: 'zstd' },
      { ask: 'HEAD manifests/{zstd}', headers: ORAS_ANY, gives: 'zstd' },
      { ask: 'GET referrers/{zstd}', json: { schemaVersion: 2, mediaType: 'application/vnd.oci.image.index.v1+json', manifests: [{ artifactType: 'application/vnd.example.report' }] } },
      { ask: 'GET referrers/{artifact}', json: { schemaVersion: 2, manifests: [] } },
      { ask: 'GET manifests/{artifact}', headers: OCI_MANIFEST, gives: 'artifact' },
      { ask: 'GET blobs/{artifact.config}', gives: 'artifact.config' },
      { ask: 'GET manifests/{zstd}', headers: OCI_MANIFEST, gives: 'zstd' },
      [
        { ask: 'GET blobs/{artifact.layer}', gives: 'artifact.layer' },
        { ask: 'GET blobs/{zstd.layer}', gives: 'zstd.layer' },
        { ask: 'GET blobs/{zstd.config}', gives: 'zstd.config' },
        { ask: 'GET blobs/{zstd.layer2}', gives: 'zstd.layer2' },
      ],
    ],
  },
  {
    client: 'oras 1.2.3',
    does: 'repo tags --plain-http NAME; resolve NAME:index (without --plain-http)',
    base: BASE,
    headers: ORAS,
    steps: [{ ask: 'GET tags/list', json: { name: 'docker.io/library/kinds' } }, TLS_HELLO],
  },
];
