// `npm start` in a copy of the checkout that has nothing installed: what it prints works as it stands, and it leaves nothing behind.
//
// The tests of this file follow one another in one copy: the first start installs, the others find everything there.

import { createServer } from 'node:net';
import { once } from 'node:events';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { CheckoutCopy, type NpmRun } from '../support/checkout-copy.ts';
import { ContainersHome } from '../support/containers.ts';
import { fetchBlob } from '../support/fetch.ts';
import { pushGreeter, type PushedImage } from '../support/image.ts';
import { OriginServer } from '../support/origin-server.ts';
import { freePorts } from '../support/ports.ts';
import { needs } from '../support/programs.ts';
import { startRegistry, type RunningRegistry } from '../support/registry.ts';

const RUNNING = /^Stop +Ctrl-C$/m;

needs('root', 'docker-registry', 'buildah', 'podman', 'skopeo', 'runc', 'nc', 'npm', 'git', 'ps')('npm start', () => {
  let copy: CheckoutCopy;
  let registry: RunningRegistry;
  let builder: ContainersHome;
  let image: PushedImage;
  let basePort: number;
  const runs: NpmRun[] = [];

  beforeAll(async () => {
    registry = await startRegistry();
    builder = await ContainersHome.create({ plainHttp: [registry.host] });
    image = await pushGreeter(builder, registry.host, 'library/hello', '1', 1, 'hello');
    copy = await CheckoutCopy.create();
    basePort = await freeBlock();
  });

  afterEach(async () => {
    for (const run of runs.splice(0)) {
      run.kill('SIGTERM');
      await run.ended();
    }
  });

  afterAll(async () => {
    await copy?.close();
    await builder?.close();
    await registry?.close();
  });

  it('installs, prints a pull line and a mirror drop-in that work, and is gone after Ctrl-C', async () => {
    const start = npmStart('--origin', `docker.io=${registry.url}`);
    await start.printed(RUNNING);
    expect(start.output).toContain(`https://127.0.0.1:${basePort + 2}`);
    expect(start.output).toContain('.flotilla/tracker.log, .flotilla/agent-1.log');

    // The dashboard is there, and its link signs in without a certificate to trust.
    const link = new URL(/^ *(http:.*#code=.*)$/m.exec(start.output)![1]!);
    expect(await (await fetch(link, { headers: { accept: 'text/html' } })).text()).toContain('<title>Flotilla</title>');
    const signIn = await fetch(new URL('/api/v1/sign-in', link), { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ code: link.hash.slice('#code='.length) }) });
    expect([signIn.status, await signIn.json()]).toEqual([200, expect.objectContaining({ role: 'admin' })]);

    const pullArgs = /^ *podman (pull .*)$/m.exec(start.output)?.[1]?.split(' ') ?? [];
    expect(pullArgs.at(-1)).toBe(`127.0.0.1:${basePort}/docker.io/library/hello:1`);
    const stranger = await ContainersHome.create();
    const mirrored = await ContainersHome.create({ dropIn: /^ *\[\[registry\]\][^]*?insecure = true$/m.exec(start.output)?.[0] });
    try {
      await stranger.podman(pullArgs);
      await mirrored.podman(['pull', '--quiet', 'docker.io/hello:1']);
      for (const [home, name] of [[stranger, pullArgs.at(-1)!], [mirrored, 'docker.io/library/hello:1']] as const) {
        const [inspected] = JSON.parse(await home.podman(['image', 'inspect', name])) as { Digest: string }[];
        expect(inspected?.Digest).toBe(image.manifestDigest);
      }
    } finally {
      await stranger.close();
      await mirrored.close();
    }

    start.interrupt();
    await start.ended();
    await expectNothingLeft();
    expect((await readdir(join(copy.dir, '.flotilla'))).toSorted()).toEqual(['agent-1', 'agent-1.log', 'setup', 'tracker', 'tracker.log']);
  });

  it('does no set-up the second time, names a port in use, and stops when npm alone is told to', async () => {
    const startedMs = performance.now();
    const second = npmStart('--agents', '2');
    await second.printed(RUNNING);
    console.log(`second start: ready after ${Math.round(performance.now() - startedMs)} ms`);
    expect(second.output).not.toContain('Setting up');
    expect(second.output).toContain(`127.0.0.1:${basePort}, 127.0.0.1:${basePort + 100}`);

    const third = npmStart();
    expect(await third.ended()).toBe(1);
    expect(third.output).toMatch(new RegExp(`^port ${basePort + 2} is in use: tracker needs it \\(its --listen\\)`, 'm'));

    second.kill('SIGTERM');
    await second.ended();
    await expectNothingLeft();
  });

  it('names the flag of an agent whose port is in use', async () => {
    const other = createServer().listen(basePort + 1, '127.0.0.1');
    await once(other, 'listening');
    const start = npmStart();
    expect(await start.ended()).toBe(1);
    other.close();
    expect(start.output).toMatch(new RegExp(`^port ${basePort + 1} is in use: agent-1 needs it \\(its --p2p-listen\\)`, 'm'));
    await expectNothingLeft();
  });

  it('finishes an open pull after Ctrl-C', async () => {
    const { origin, opened, pull, release } = await heldPull();
    try {
      const start = npmStart('--origin', `slow=${origin.url}`);
      await start.printed(RUNNING);
      const blob = pull();
      await opened;
      start.interrupt();
      await start.printed(/^Stopping; open pulls are finished first/m);
      release();
      const { status, digest, expected } = await blob;
      expect({ status, digest }).toEqual({ status: 200, digest: expected });
      await start.ended();
      await expectNothingLeft();
    } finally {
      await origin.goAway();
    }
  });

  it('waits for no pull after a second Ctrl-C', async () => {
    const { origin, opened, pull, release } = await heldPull();
    try {
      const start = npmStart('--origin', `slow=${origin.url}`);
      await start.printed(RUNNING);
      const broken = pull().then(() => false, () => true);
      await opened;
      start.interrupt();
      await start.printed(/^Stopping; open pulls are finished first/m);
      // A second one by hand comes later than the same one by another way; the scripts take 300 ms for the border.
      await new Promise((resolve) => setTimeout(resolve, 600));
      start.interrupt();
      await start.ended();
      expect(await broken).toBe(true);
      await expectNothingLeft();
    } finally {
      release();
      await origin.goAway();
    }
  });

  it('says which program died, shows its log, and stops the rest', async () => {
    const start = npmStart();
    await start.printed(RUNNING);
    const [agentPid] = [...(await copy.processes())].find(([, command]) => command.includes('packages/agent/src/main.ts')) ?? [];
    process.kill(agentPid!, 'SIGKILL');
    expect(await start.ended()).toBe(1);
    expect(start.output).toMatch(/^agent-1 stopped \(SIGKILL\); the last lines of \.flotilla\/agent-1\.log:$/m);
    await expectNothingLeft();
  });

  function npmStart(...flags: string[]): NpmRun {
    const run = copy.npm(['start', '--', '--base-port', String(basePort), ...flags]);
    runs.push(run);
    return run;
  }

  /** An origin that holds a blob back half-way, until released; `opened` once the agent waits for the rest. */
  async function heldPull(): Promise<{
    origin: OriginServer;
    opened: Promise<void>;
    release: () => void;
    pull: () => Promise<{ status: number; digest: string; expected: string }>;
  }> {
    const origin = await OriginServer.start();
    const { layers } = origin.addImage('team/slow', '1', [8 * 1024 * 1024]);
    const expected = layers[0]!.digest;
    const opened = Promise.withResolvers<void>();
    const released = Promise.withResolvers<void>();
    let pieces = 0;
    origin.faults.gate = async () => {
      pieces += 1;
      if (pieces < 32) return;
      opened.resolve();
      await released.promise;
    };
    const pull = async (): Promise<{ status: number; digest: string; expected: string }> => {
      const { status, digest } = await fetchBlob(`http://127.0.0.1:${basePort}`, 'slow/team/slow', expected);
      return { status, digest, expected };
    };
    return { origin, opened: opened.promise, release: () => released.resolve(), pull };
  }

  async function expectNothingLeft(): Promise<void> {
    expect([...(await copy.processes()).values()]).toEqual([]);
    for (let port = basePort; port < basePort + 4; port++) {
      const server = createServer().listen(port, '127.0.0.1');
      await once(server, 'listening');
      server.close();
    }
  }
});

/** The first of four free ports in a row, with another four 100 above. */
async function freeBlock(): Promise<number> {
  for (;;) {
    const [first] = await freePorts(1);
    const wanted = [0, 1, 2, 3, 100, 101, 103].map((offset) => first! + offset);
    const servers = wanted.map((port) => createServer().listen(port, '127.0.0.1'));
    const free = await Promise.all(servers.map((server) => once(server, 'listening').then(() => true, () => false)));
    for (const server of servers) server.close();
    if (free.every(Boolean) && first! + 103 < 65536) return first!;
  }
}
