// containerd and Docker: by mirror, with `ns` and without. Recorded 2026 with containerd 1.6.20 and 2.1.4 and Docker 20.10.24.

import { TLS_HELLO, type Sequence, type Step } from './sequence.ts';

const CONTAINERD_ANY = {
  accept:
    'application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json, ' +
    'application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, */*',
};
/** For blobs as well: what is compressed already must stay as it is. */
const ENCODINGS = { 'accept-encoding': 'zstd;q=1.0, gzip;q=0.8, deflate;q=0.5' };
const typed = (type: string, range?: string): Record<string, string> => ({ ...ENCODINGS, accept: `${type}, */*`, ...(range !== undefined && { range }) });

const OCI = 'application/vnd.oci.image';
const DOCKER = 'application/vnd.docker';
const PART_BYTES = 131_072;

/** Each part is asked for to the end of the layer, and left once it is here. */
function openEnded(starts: readonly number[]): Step[] {
  return starts.map((start) => ({
    ask: 'GET blobs/{index.layer}',
    headers: typed(`${OCI}.layer.v1.tar+gzip`, `bytes=${start}-`),
    gives: 'index.layer',
    leavesAfter: PART_BYTES,
  }));
}

const DOCKER_HEADERS = { 'user-agent': 'docker/20.10.24+dfsg1 go/go1.19.8 os/linux arch/amd64 UpstreamClient(Docker-Client/20.10.24 \\(linux\\))', 'accept-encoding': 'gzip' };
const DOCKER_ANY = {
  accept:
    `${OCI}.index.v1+json, ${DOCKER}.distribution.manifest.v1+prettyjws, application/json, ${OCI}.manifest.v1+json, ` +
    `${DOCKER}.distribution.manifest.v2+json, ${DOCKER}.distribution.manifest.list.v2+json`,
};

export const daemons: readonly Sequence[] = [
  {
    client: 'containerd 1.6.20',
    does: 'ctr images pull --hosts-dir DIR docker.io/library/kinds:list',
    base: '/v2/library/kinds',
    query: '?ns=docker.io',
    headers: { 'user-agent': 'containerd/1.6.20~ds1' },
    steps: [
      { ask: 'HEAD manifests/list', headers: CONTAINERD_ANY, gives: 'list' },
      { ask: 'GET manifests/{list}', headers: typed(`${DOCKER}.distribution.manifest.list.v2+json`), gives: 'list' },
      { ask: 'GET manifests/{list.image}', headers: typed(`${DOCKER}.distribution.manifest.v2+json`), gives: 'list.image' },
      { ask: 'GET blobs/{list.config}', headers: typed(`${DOCKER}.container.image.v1+json`), gives: 'list.config' },
      { ask: 'GET blobs/{list.layer}', headers: typed(`${DOCKER}.image.rootfs.diff.tar.gzip`), gives: 'list.layer' },
    ],
  },
  {
    client: 'containerd 2.1.4',
    does: 'ctr images pull --hosts-dir DIR docker.io/library/kinds:index (concurrent_layer_fetch_buffer = 131072, max_concurrent_downloads = 4)',
    base: '/v2/library/kinds',
    query: '?ns=docker.io',
    headers: { 'user-agent': 'containerd/2.1.4' },
    steps: [
      { ask: 'HEAD manifests/index', headers: CONTAINERD_ANY, gives: 'index' },
      { ask: 'GET manifests/{index}', headers: typed(`${OCI}.index.v1+json`, 'bytes=0-'), gives: 'index' },
      { ask: 'GET manifests/{index.image}', headers: typed(`${OCI}.manifest.v1+json`, 'bytes=0-'), gives: 'index.image' },
      { ask: 'GET blobs/{index.config}', headers: typed(`${OCI}.config.v1+json`, 'bytes=0-'), gives: 'index.config' },
      openEnded([0, 131_072, 262_144]),
      openEnded([524_288, 393_216]),
      { ask: 'GET blobs/{index.layer}', headers: typed(`${OCI}.layer.v1.tar+gzip`, 'bytes=655360-'), gives: 'index.layer' },
    ],
  },
  {
    client: 'Docker 20.10.24',
    does: 'docker pull kinds:list (registry-mirrors)',
    base: '/v2/library/kinds',
    headers: DOCKER_HEADERS,
    steps: [
      { ask: 'GET /v2/', json: {} },
      { ask: 'HEAD manifests/list', headers: DOCKER_ANY, gives: 'list' },
      { ask: 'GET manifests/{list}', headers: DOCKER_ANY, gives: 'list' },
      { ask: 'GET manifests/{list.image}', headers: DOCKER_ANY, gives: 'list.image' },
      [
        { ask: 'GET blobs/{list.config}', gives: 'list.config' },
        { ask: 'GET blobs/{list.layer}', gives: 'list.layer' },
      ],
    ],
  },
  {
    client: 'Docker 20.10.24',
    does: 'docker pull HOST/docker.io/library/kinds:index',
    base: '/v2/docker.io/library/kinds',
    headers: DOCKER_HEADERS,
    steps: [
      TLS_HELLO,
      { ask: 'GET /v2/', json: {} },
      { ask: 'HEAD manifests/index', headers: DOCKER_ANY, gives: 'index' },
      { ask: 'GET manifests/{index}', headers: DOCKER_ANY, gives: 'index' },
      { ask: 'GET manifests/{index.image}', headers: DOCKER_ANY, gives: 'index.image' },
      [
        { ask: 'GET blobs/{index.config}', gives: 'index.config' },
        { ask: 'GET blobs/{index.layer}', gives: 'index.layer' },
      ],
      // After a connection that broke.
      { ask: 'GET blobs/{index.layer}', headers: { range: 'bytes=327137-' }, gives: 'index.layer' },
    ],
  },
];
