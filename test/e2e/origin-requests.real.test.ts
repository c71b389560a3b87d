// What a fleet asks of a real registry (Debian's docker-registry), by the registry's own access log: manifests by digest come from peers, and with the
// tracker asking for all the requests apart from blobs are as many for six hosts as for two.

import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { pull, TestFleet, type TestAgent } from '../support/fleet.ts';
import { needs } from '../support/programs.ts';
import { PushTarget, type Descriptor } from '../support/push.ts';
import { startRegistry, type RunningRegistry } from '../support/registry.ts';

const OCI = 'application/vnd.oci.image.manifest.v1+json';

needs('docker-registry')('a crowd at a registry', () => {
  let registry: RunningRegistry;
  let fleet: TestFleet;
  let layers: Descriptor[];
  let manifest: Descriptor;
  let pushed: number;

  beforeEach(async () => {
    registry = await startRegistry();
    const target = new PushTarget(registry.url, 'team/app');
    layers = [];
    for (const size of [900_000, 70_000, 3_000]) layers.push(await target.blob('application/vnd.oci.image.layer.v1.tar', randomBytes(size)));
    const config = await target.blob('application/vnd.oci.image.config.v1+json', Buffer.from('{"architecture":"amd64","os":"linux"}'));
    manifest = await target.manifest({ schemaVersion: 2, mediaType: OCI, config, layers }, 'v1');
    layers.push(config);
    pushed = registry.requests.length;
  });

  afterEach(async () => {
    await fleet?.stop();
    await registry.close();
  });

  async function crowd(hosts: number, byTracker: boolean): Promise<TestAgent[]> {
    fleet = await TestFleet.start({ lab: registry.url }, byTracker ? { resolve: true, origin: [`lab=${registry.url}`] } : {});
    const agents: TestAgent[] = [];
    for (let host = 0; host < hosts; host++) agents.push(await fleet.agent(`h${host}`, byTracker ? { resolveBy: 'tracker' } : {}));
    await fleet.meshed();
    return agents;
  }

  /** As containerd pulls: HEAD of the tag, the manifest by its digest, then the blobs. */
  async function pullImage(agent: TestAgent): Promise<void> {
    expect((await fetch(`${agent.url}/v2/lab/team/app/manifests/v1`, { method: 'HEAD', headers: { accept: OCI } })).headers.get('docker-content-digest')).toBe(manifest.digest);
    expect((await pull(agent, `lab/team/app/manifests/${manifest.digest}`)).sha256).toBe(manifest.digest);
    for (const { digest } of layers) expect((await pull(agent, `lab/team/app/blobs/${digest}`)).sha256).toBe(digest);
  }

  /** What is not a GET of a blob, by method and kind. The log is whole once the registry has stopped. */
  async function others(): Promise<Record<string, number>> {
    await registry.stop();
    const counts: Record<string, number> = {};
    for (const { method, uri } of registry.requests.slice(pushed)) {
      const kind = /\/(manifests|blobs)\//.exec(uri)?.[1] ?? uri;
      if (method !== 'GET' || kind !== 'blobs') counts[`${method} ${kind}`] = (counts[`${method} ${kind}`] ?? 0) + 1;
    }
    return counts;
  }

  it.each([2, 6])('%i hosts, each asking for itself: a HEAD each, one GET of the manifest, each blob once', async (hosts) => {
    const agents = await crowd(hosts, false);
    await Promise.all(agents.map(pullImage));
    expect(await others()).toEqual({ 'HEAD manifests': hosts, 'GET manifests': 1 });
    for (const { digest, size } of layers) expect(registry.blobTraffic().get(digest)?.bytes).toBe(size);
  });

  it.each([2, 6])('%i hosts, the tracker asking for all: one HEAD, one GET of the manifest, each blob once', async (hosts) => {
    const agents = await crowd(hosts, true);
    await Promise.all(agents.map(pullImage));
    expect(await others()).toEqual({ 'HEAD manifests': 1, 'GET manifests': 1 });
    for (const { digest, size } of layers) expect(registry.blobTraffic().get(digest)?.bytes).toBe(size);
  });
});
