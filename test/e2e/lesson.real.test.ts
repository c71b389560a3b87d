// The lesson: an image that answers, run by its full name through one agent; a second version under the same tag reaches the next pull through
// another. A tag is resolved at the origin each time, whatever the fleet holds.

import { afterAll, beforeAll, expect, it } from 'vitest';
import { run } from '../support/command.ts';
import { ContainersHome } from '../support/containers.ts';
import { pushGreeter } from '../support/image.ts';
import { freePorts } from '../support/ports.ts';
import { FleetProcesses, type AgentProgram } from '../support/processes.ts';
import { needs } from '../support/programs.ts';
import { startRegistry, type RunningRegistry } from '../support/registry.ts';

const REPOSITORY = 'lesson/database';
const TAG = 'latest';

needs('root', 'docker-registry', 'buildah', 'podman', 'runc', 'nc', 'curl')('a database that says hi', () => {
  let registry: RunningRegistry;
  let builder: ContainersHome;
  let fleet: FleetProcesses;
  let a: AgentProgram;
  let b: AgentProgram;
  let port: number;

  beforeAll(async () => {
    registry = await startRegistry();
    builder = await ContainersHome.create({ plainHttp: [registry.host] });
    fleet = await FleetProcesses.start();
    const flags = ['--origin', `lab=${registry.url}`];
    [a, b] = await Promise.all([fleet.addAgent('a', flags), fleet.addAgent('b', flags)]);
    port = (await freePorts(1))[0]!;
  });

  afterAll(async () => {
    await fleet?.close();
    await builder?.close();
    await registry?.close();
  });

  it('starts by its full name through agent a, and its next version through agent b', async () => {
    const first = await pushGreeter(builder, registry.host, REPOSITORY, TAG, port, "Hi! I'm a database");
    expect(await greetingThrough(a)).toBe("Hi! I'm a database\n");

    const second = await pushGreeter(builder, registry.host, REPOSITORY, TAG, port, "Hi! I'm a newer database");
    expect(second.manifestDigest).not.toBe(first.manifestDigest);
    expect(await greetingThrough(b)).toBe("Hi! I'm a newer database\n");
    // a has the old version's blobs and asked for the tag before: that must not matter.
    expect(await greetingThrough(a)).toBe("Hi! I'm a newer database\n");
  });

  /** On a host of its own: nothing pulled before is there. */
  async function greetingThrough(agent: AgentProgram): Promise<string> {
    const home = await ContainersHome.create({ plainHttp: [agent.host] });
    try {
      await home.runContainer(`${agent.host}/lab/${REPOSITORY}:${TAG}`);
      return await run('curl', ['--silent', '--http0.9', '--retry', '20', '--retry-connrefused', '--retry-delay', '1', `http://127.0.0.1:${port}`]);
    } finally {
      await home.close();
    }
  }
});
