// `flotilla doctor` as an operator runs it, beside an agent of this process. The container client is a script of a few lines, so that it can
// do what a real one does when it is set up wrongly; setup.real.test.ts has real ones.

import { execFile } from 'node:child_process';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Finding } from '@flotilla/agent/cli/doctor/finding';
import { ScriptedServer, reply } from '@flotilla/agent/origin/scripted-server';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { TestFleet, type TestAgent } from '../support/fleet.ts';
import { OriginServer } from '../support/origin-server.ts';
import { checkout } from '../support/processes.ts';

const MAIN = join(checkout, 'packages/agent/src/main.ts');

let origin: OriginServer;
let fleet: TestFleet;
let agent: TestAgent;
let home: string;
/** Whether the command is told of the origin as the agent was, by a setting. */
let told: boolean;

beforeAll(async () => {
  origin = await OriginServer.start();
  origin.addImage('library/hello-world', 'latest', [1000]);
  origin.addImage('library/small', '1', [1000]);
  fleet = await TestFleet.start({ 'docker.io': origin.url });
  agent = await fleet.agent('a');
});
afterAll(async () => {
  await fleet.stop();
  await origin.goAway();
});
beforeEach(async () => {
  told = true;
  home = await mkdtemp(join(tmpdir(), 'flotilla-doctor-'));
  // A registries.conf of its own: what the machine has under /etc does not count.
  await mkdir(join(home, '.config/containers'), { recursive: true });
  await writeFile(join(home, '.config/containers/registries.conf'), '');
  await mkdir(join(home, 'bin'));
});
afterEach(() => rm(home, { recursive: true }));

/** Runs the command in a home of its own. */
function flotilla(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  return new Promise((resolve) => {
    const env = { HOME: home, PATH: `${join(home, 'bin')}:/usr/bin:/bin`, FLOTILLA_DATA: agent.dir, ...(told && { FLOTILLA_ORIGIN: `docker.io=${origin.url}` }) };
    execFile(process.execPath, [MAIN, ...args], { env }, (error, out, err) => resolve({ code: error === null ? 0 : Number(error.code), out, err }));
  });
}

/** The canary client: a shell script with the URL of the agent's endpoint and the image's path. */
async function skopeo(script: string): Promise<void> {
  const path = join(home, 'bin', 'skopeo');
  await writeFile(path, `#!${process.execPath}\nconst image = process.argv.find((arg) => arg.startsWith('docker://'))?.slice(9) ?? '';\nconst [name, tag] = image.split(':');\n${script}\n`);
  await chmod(path, 0o755);
}

const setUp = (): Promise<unknown> => flotilla('setup', 'podman', '--origin', 'docker.io', '--endpoint', agent.url);
const PULLS = (): string => `const answer = await fetch('${agent.url}/v2/' + name + '/manifests/' + tag); if (!answer.ok) { console.error('manifest unknown'); process.exitCode = 1; }`;

async function findings(...args: string[]): Promise<Map<string, Finding>> {
  const { out } = await flotilla('doctor', '--client', 'podman', '--json', ...args);
  return new Map((JSON.parse(out) as { findings: Finding[] }).findings.map((finding) => [finding.check, finding]));
}

test('all is well where a canary comes by the agent', async () => {
  await setUp();
  await skopeo(PULLS());
  const { code, out } = await flotilla('doctor', '--client', 'podman');
  expect(out).toMatch(/^ok {7}agent: a, version .*, ready$/m);
  for (const check of ['endpoint', 'tracker', 'peers', 'clock', 'open files', 'origin docker.io', 'client podman', 'canary podman']) expect(out).toMatch(new RegExp(`^ok +${check}: `, 'm'));
  expect(out).toContain('canary podman: docker.io/library/hello-world:latest came by the agent');
  // The disk is the machine's own.
  expect(code).toBe(/^(warning|problem)/m.test(out) ? 1 : 0);
});

test('a client that bypasses its mirror is found out', async () => {
  await setUp();
  await skopeo('');
  const found = await findings();
  expect(found.get('client podman')).toMatchObject({ verdict: 'ok' });
  expect(found.get('canary podman')).toMatchObject({ verdict: 'problem', message: 'podman pulled docker.io/library/hello-world:latest past the agent', help: expect.stringContaining('CONTAINERS_REGISTRIES_CONF') });
});

test('a client that is not set up, and the command that does it', async () => {
  const found = await findings();
  expect(found.get('client podman')).toMatchObject({ verdict: 'problem', help: 'Run "flotilla setup podman".' });
  expect(found.has('canary podman')).toBe(false);
  expect((await flotilla('doctor', '--client', 'podman')).code).toBe(1);
});

test('a canary of one\'s own, completed as clients do', async () => {
  await setUp();
  await skopeo(PULLS());
  expect((await findings('--canary', 'docker.io/small:1')).get('canary podman')).toMatchObject({ verdict: 'ok' });
  expect((await findings('--canary', 'docker.io/none:1')).get('canary podman')).toMatchObject({ verdict: 'problem', message: expect.stringMatching(/manifest unknown\); the agent answered MANIFEST_UNKNOWN/) });
  expect((await findings('--canary', 'quay.io/some/app:1')).get('canary podman')).toMatchObject({ verdict: 'skipped' });
  expect((await flotilla('doctor', '--canary', 'small')).code).toBe(2);
});

describe('an origin', () => {
  test('without the usual canary: a warning says to name one, and which came lately', async () => {
    await setUp();
    await skopeo(PULLS());
    await fetch(`${agent.url}/v2/docker.io/library/small/manifests/1`);
    const { faults } = origin;
    faults.status = 404;
    const found = await findings();
    faults.status = undefined;
    expect(found.get('canary podman')).toMatchObject({ verdict: 'warning', help: expect.stringContaining('--canary IMAGE, such as docker.io/library/small:1') });
  });

  test('that is away is a problem by its code', async () => {
    await setUp();
    await skopeo(PULLS());
    await origin.goAway();
    const found = await findings();
    await origin.listen();
    expect(found.get('origin docker.io')).toMatchObject({ verdict: 'problem', message: expect.stringContaining('ORIGIN_UNREACHABLE'), help: expect.stringMatching(/\.$/) });
  });
});

test('an origin that only the agent was told of is looked at once it was asked', async () => {
  told = false;
  expect((await fetch(`${agent.url}/v2/docker.io/library/small/manifests/1`)).status).toBe(200);
  expect((await findings('--canary', 'docker.io/library/small:1')).get('origin docker.io')).toMatchObject({ verdict: 'ok' });
});

test('credentials that the origin does not take: where they are from, and what to do', async () => {
  const locked = await ScriptedServer.start((_request, response) => reply(response, 401, '{}', { 'www-authenticate': 'Basic realm="locked"' }));
  const auth = join(home, 'auth.json');
  await writeFile(auth, JSON.stringify({ auths: { [new URL(locked.url).host]: { auth: Buffer.from('ann:of-last-year').toString('base64') } } }));
  const settings = join(home, 'agent.yaml');
  await writeFile(settings, JSON.stringify({ origin: { locked: locked.url }, authFiles: [auth] }));
  const other = await fleet.agent('b', { config: settings });
  try {
    const { code, out } = await flotilla('doctor', '--config', settings, '--client', 'podman', '--data', other.dir, '--json');
    const found = (JSON.parse(out) as { findings: Finding[] }).findings.find(({ check }) => check === 'origin locked');
    expect(found).toMatchObject({ verdict: 'problem', message: expect.stringContaining(`did not take the credentials for locked from ${auth}`), help: expect.stringMatching(/^The origin did not take .*\.$/) });
    expect([code, out.includes('of-last-year')]).toEqual([1, false]);
  } finally {
    await other.stop();
    await locked[Symbol.asyncDispose]();
  }
});

test('without an agent what is left is still looked at', async () => {
  await setUp();
  const { code, out } = await flotilla('doctor', '--client', 'podman', '--data', join(home, 'nothing'));
  expect(code).toBe(1);
  expect(out).toMatch(/^problem {2}agent: no agent runs/m);
  expect(out).toMatch(/^problem {2}client podman: does not ask the agent/m);
  expect(out).toMatch(/2 findings\.\n$/);
});

test('settings that are wrong are no findings', async () => {
  const { code, out, err } = await flotilla('doctor', '--config', join(home, 'none.yaml'));
  expect({ code, out }).toEqual({ code: 2, out: '' });
  expect(err).toContain('none.yaml');
});
