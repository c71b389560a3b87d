// A private repository of a real registry with token authentication, pulled through agents: with the agent's own credentials where a rule
// allows it, with the caller's own (skopeo, podman) in pass-through, and not at all otherwise.

import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { request } from 'undici';
import { ContainersHome } from '../support/containers.ts';
import { pushGreeter, type PushedImage } from '../support/image.ts';
import { FleetProcesses, type AgentProgram } from '../support/processes.ts';
import { needs } from '../support/programs.ts';
import { startRegistry, type RunningRegistry } from '../support/registry.ts';
import { TokenServer } from '../support/token-server.ts';

needs('root', 'docker-registry', 'buildah', 'podman', 'skopeo', 'runc', 'nc', 'openssl')('a private repository', () => {
  let tokens: TokenServer;
  let registry: RunningRegistry;
  let builder: ContainersHome;
  let fleet: FleetProcesses;
  let image: PushedImage;
  let other: PushedImage;

  beforeAll(async () => {
    tokens = await TokenServer.start('public/');
    registry = await startRegistry({ token: tokens.auth });
    builder = await ContainersHome.create({ plainHttp: [registry.host] });
    const creds = ['--creds', tokens.credentials];
    image = await pushGreeter(builder, registry.host, 'private/hello', '1', 1, 'for some', creds);
    other = await pushGreeter(builder, registry.host, 'private/other', '1', 1, 'for fewer', creds);
    await pushGreeter(builder, registry.host, 'public/hello', '1', 1, 'for all', creds);
    fleet = await FleetProcesses.start();
  });

  afterAll(async () => {
    await fleet?.close();
    await builder?.close();
    await registry?.close();
    await tokens?.close();
  });

  /** An agent of the fleet with a settings file. */
  async function agent(name: string, settings: string): Promise<AgentProgram> {
    const file = join(fleet.dir, `${name}.yaml`);
    await writeFile(file, settings);
    return fleet.addAgent(name, ['--config', file]);
  }

  async function status(url: string, credentials?: string): Promise<{ status: number; code: string | undefined; challenge: unknown }> {
    const headers = credentials === undefined ? {} : { authorization: `Basic ${Buffer.from(credentials).toString('base64')}` };
    const { statusCode, headers: answered, body } = await request(url, { headers });
    const text = await body.text();
    const code = statusCode < 400 ? undefined : (JSON.parse(text) as { errors: { detail: { code: string } }[] }).errors[0]?.detail.code;
    return { status: statusCode, code, challenge: answered['www-authenticate'] };
  }

  async function inHome<T>(of: AgentProgram, use: (home: ContainersHome) => Promise<T>): Promise<T> {
    const home = await ContainersHome.create({ plainHttp: [of.host, registry.host] });
    try {
      return await use(home);
    } finally {
      await home.close();
    }
  }

  function pullWithPodman(of: AgentProgram, name: string, flags: readonly string[] = []): Promise<string> {
    return inHome(of, async (home) => {
      await home.podman(['pull', '--quiet', ...flags, name]);
      const [inspected] = JSON.parse(await home.podman(['image', 'inspect', name])) as { Digest: string }[];
      return inspected?.Digest ?? '';
    });
  }

  describe("with the agent's own credentials", () => {
    let own: AgentProgram;
    beforeAll(async () => {
      const [username, password] = tokens.credentials.split(':');
      const passwordFile = join(fleet.dir, 'password');
      await writeFile(passwordFile, password!, { mode: 0o600 });
      own = await agent('own', `origin:\n  lab:\n    urls: [${registry.url}]\n    credentials: { username: ${username}, passwordFile: ${passwordFile} }\nallow:\n  - lab/private/hello\n`);
    });

    it('is pulled by a podman that has none, where a rule allows it', async () => {
      expect(await pullWithPodman(own, `${own.host}/lab/private/hello:1`)).toBe(image.manifestDigest);
      expect((await own.blobBytes()).origin).toBeGreaterThan(0);
    });

    it('is not there without a rule, by tag or by digest, and nobody is asked for credentials', async () => {
      for (const path of [`lab/private/other/manifests/1`, `lab/private/other/manifests/${other.manifestDigest}`]) {
        expect(await status(`${own.url}/v2/${path}`)).toEqual({ status: 404, code: 'ACCESS_DENIED', challenge: undefined });
        // What the caller sends makes no difference here.
        expect(await status(`${own.url}/v2/${path}`, tokens.credentials)).toEqual({ status: 404, code: 'ACCESS_DENIED', challenge: undefined });
      }
      await expect(pullWithPodman(own, `${own.host}/lab/private/other:1`)).rejects.toThrow();
    });

    it('is pulled from the origin by a podman that has the agent as a mirror, where no rule allows it', async () => {
      const dropIn = `[[registry]]\nprefix = "${registry.host}"\nlocation = "${registry.host}"\ninsecure = true\n[[registry.mirror]]\nlocation = "${own.host}/lab"\ninsecure = true\n`;
      const home = await ContainersHome.create({ dropIn });
      const before = await own.blobBytes();
      try {
        await home.podman(['pull', '--quiet', '--creds', tokens.credentials, `${registry.host}/private/other:1`]);
      } finally {
        await home.close();
      }
      expect(await own.blobBytes()).toEqual(before);
      expect((await own.metrics()).get('flotilla_access_total{outcome="denied"}')).toBeGreaterThan(0);
    });
  });

  describe("with the caller's own credentials", () => {
    let passing: AgentProgram;
    beforeAll(async () => {
      passing = await agent('passing', `origin: { lab: "${registry.url}" }\nrights: pass-through\nchallenge: true\n`);
    });

    it('is copied by skopeo --src-creds, and not without them or with wrong ones', async () => {
      await inHome(passing, async (home) => {
        const source = `docker://${passing.host}/lab/private/hello:1`;
        const copy = (flags: readonly string[], to: string): Promise<string> => home.skopeo(['copy', '--src-tls-verify=false', ...flags, source, `dir:${join(home.dir, to)}`]);
        await copy(['--src-creds', tokens.credentials], 'right');
        const inspected = JSON.parse(await home.skopeo(['inspect', '--tls-verify=false', '--creds', tokens.credentials, source])) as { Digest: string };
        expect(inspected.Digest).toBe(image.manifestDigest);
        await expect(copy([], 'none')).rejects.toThrow();
        await expect(copy(['--src-creds', 'builder:a guess'], 'wrong')).rejects.toThrow();
      });
    });

    it('is pulled by a podman that is logged in, and stays closed to the next caller', async () => {
      expect(await pullWithPodman(passing, `${passing.host}/lab/private/hello:1`, ['--creds', tokens.credentials])).toBe(image.manifestDigest);
      expect((await passing.blobBytes()).store).toBeGreaterThan(0);
      for (const path of [`manifests/${image.manifestDigest}`, `blobs/${image.layers[0]!.digest}`]) {
        expect(await status(`${passing.url}/v2/lab/private/hello/${path}`)).toMatchObject({ status: 401, code: 'CREDENTIALS_WANTED' });
        expect(await status(`${passing.url}/v2/lab/private/hello/${path}`, 'builder:a guess')).toMatchObject({ status: 401 });
        expect(await status(`${passing.url}/v2/lab/public/hello/${path}`)).toMatchObject({ status: 404 });
        expect(await status(`${passing.url}/v2/lab/private/hello/${path}`, tokens.credentials)).toMatchObject({ status: 200 });
      }
    });

    it('leaves public images to a podman that has no credentials', async () => {
      await pullWithPodman(passing, `${passing.host}/lab/public/hello:1`);
    });

    it('is known to no log and no file by its password', async () => {
      expect(passing.log).toContain('private/hello');
      for (const secret of ['not a secret', Buffer.from(tokens.credentials).toString('base64')]) expect(passing.log.includes(secret)).toBe(false);
    });
  });

  it('is told to the tracker by digest only', async () => {
    await fleet.tracker.stop();
    const told = await grep('public/hello', join(fleet.dir, 'tracker'));
    expect(told.length).toBeGreaterThan(0);
    expect(await grep('private/', join(fleet.dir, 'tracker'))).toEqual([]);
    expect(fleet.tracker.log.includes('private/')).toBe(false);
  });
});

/** Files below a folder that hold a text. */
async function grep(text: string, dir: string): Promise<string[]> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const contents = await Promise.all(files.map((file) => readFile(file)));
  return files.filter((_, i) => contents[i]!.includes(text));
}
