import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { HOST_PLATFORM } from './content/platform.ts';
import type { LoggedRequest } from './content/request-log.ts';
import { controlSocketPath, startControl, type AgentStatus, type Control, type ControlCommands, type OriginProbe } from './control.ts';
import type { FleetKnowledge } from './fleet-knowledge.ts';
import type { PullEvent, PullRequest } from './pull.ts';

const STATUS: AgentStatus = {
  version: '0.1.0',
  name: 'host-a',
  pid: 1,
  startedAt: '2026-01-01T00:00:00.000Z',
  state: 'ready',
  addresses: { registry: { host: '127.0.0.1', port: 5050 }, admin: { host: '127.0.0.1', port: 5053 } },
  tracker: { state: 'none' },
  peers: { connected: 0 },
  store: { bytes: 0, limitBytes: 1, blobs: 0, freeBytes: 1 },
  bytes: { peer: 0, origin: 0, store: 0, uploaded: 0, duplicate: 0 },
  downloads: [],
};

let folder: string;
const open: Control[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'flotilla-control-'));
});
afterEach(async () => {
  for (const control of open.splice(0)) await control.close();
  rmSync(folder, { recursive: true });
});

async function start(dataDir = folder): Promise<Control> {
  const control = await startControl(dataDir, async () => STATUS);
  open.push(control);
  return control;
}

test('answers /status to those who may open the file', async () => {
  const { path } = await start();
  expect(statSync(path).mode & 0o777).toBe(0o660);
  const [response] = (await once(http.get({ socketPath: path, path: '/status', agent: false }), 'response')) as [http.IncomingMessage];
  expect(JSON.parse(await text(response))).toEqual(STATUS);
});

test('makes the data folder, and removes its socket at the end', async () => {
  const control = await startControl(join(folder, 'new'), async () => STATUS);
  expect(existsSync(control.path)).toBe(true);
  await control.close();
  expect(existsSync(control.path)).toBe(false);
});

test('a socket that answers is left to its agent', async () => {
  await start();
  await expect(startControl(folder, async () => STATUS)).rejects.toMatchObject({ code: 'STORE_LOCKED' });
  expect(existsSync(controlSocketPath(folder))).toBe(true);
});

test('a socket left over by a killed agent is replaced', async () => {
  const path = controlSocketPath(folder);
  const child = spawn(process.execPath, ['-e', `require('node:net').createServer().listen(${JSON.stringify(path)}, () => console.log('up'))`]);
  await once(child.stdout, 'data');
  child.kill('SIGKILL');
  await once(child, 'exit');
  expect(existsSync(path)).toBe(true);
  await start();
});

test('a path that no socket can have is refused with the setting', async () => {
  await expect(startControl(join(folder, 'x'.repeat(120)), async () => STATUS)).rejects.toMatchObject({ code: 'CONFIG_INVALID', message: expect.stringContaining('--data') });
});

async function ask(path: string, method: string, requestPath: string, body?: unknown): Promise<{ code: number | undefined; text: string }> {
  const headers = body === undefined ? {} : { 'content-type': 'application/json' };
  const request = http.request({ socketPath: path, method, path: requestPath, headers, agent: false });
  request.end(body === undefined ? undefined : JSON.stringify(body));
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  return { code: response.statusCode, text: await text(response) };
}

/** Commands that remember what they were asked. */
class Commands implements ControlCommands {
  readonly limits: unknown[] = [];
  readonly pulls: PullRequest[] = [];
  readonly aborted = Promise.withResolvers<void>();
  /** Set: a pull goes on until whoever asked has gone. */
  endless = false;

  async *pull(request: PullRequest, signal: AbortSignal): AsyncGenerator<PullEvent> {
    this.pulls.push(request);
    yield { type: 'progress', blobs: [] };
    if (this.endless) {
      await once(signal, 'abort');
      this.aborted.resolve();
    }
    yield { type: 'failed', code: 'MANIFEST_UNKNOWN', message: 'not there', help: 'Look.' };
  }
  fleet(): FleetKnowledge {
    return { name: 'host-a', peerId: 'me', tracker: { state: 'lost', sinceMs: 1 }, peers: [], bans: [], banned: [], blobs: [] };
  }
  requests(): LoggedRequest[] {
    return [{ atMs: 1, kind: 'manifest', origin: 'docker.io', repository: 'library/a', reference: '1', outcome: 'served' }];
  }
  limit(change: unknown): { upload: number } {
    this.limits.push(change);
    return { upload: 5 };
  }
  async probe(origin: string): Promise<OriginProbe> {
    return { origin, answers: true };
  }
}

test('passes commands on, a pull as lines', async () => {
  const commands = new Commands();
  const control = await startControl(folder, async () => STATUS, commands);
  open.push(control);
  expect(await ask(control.path, 'POST', '/pull', { image: 'docker.io/library/a:1', platform: 'linux/arm/v7' })).toEqual({
    code: 200,
    text: '{"type":"progress","blobs":[]}\n{"type":"failed","code":"MANIFEST_UNKNOWN","message":"not there","help":"Look."}\n',
  });
  await ask(control.path, 'POST', '/pull', { image: 'docker.io/library/a:1' });
  expect(commands.pulls).toEqual([
    { image: 'docker.io/library/a:1', platform: { os: 'linux', architecture: 'arm', variant: 'v7' }, named: true },
    { image: 'docker.io/library/a:1', platform: HOST_PLATFORM, named: false },
  ]);
  expect(JSON.parse((await ask(control.path, 'GET', '/requests')).text)).toEqual(commands.requests());
  expect(JSON.parse((await ask(control.path, 'POST', '/probe', { origin: 'quay.io' })).text)).toEqual({ origin: 'quay.io', answers: true });
});

test('passes changes of limits on: rates, none, what is not said, and what the settings have', async () => {
  const commands = new Commands();
  const control = await startControl(folder, async () => STATUS, commands);
  open.push(control);
  expect(await ask(control.path, 'POST', '/limits', { upload: 1e6, origin: null, zone: 2e6 })).toEqual({ code: 200, text: '{"upload":5}' });
  await ask(control.path, 'POST', '/limits', {});
  await ask(control.path, 'POST', '/limits', { settings: true });
  expect(commands.limits).toEqual([{ uploadLimit: 1e6, originLimit: undefined, zoneLimit: 2e6 }, {}, 'settings']);
});

test.each([['/limits', { upload: 5 }], ['/limits', { download: 'fast' }], ['/limits', { settings: false }], ['/pull', {}], ['/pull', { image: '' }], ['/pull', { image: 'a', platform: 'linux' }], ['/pull', { image: 'x'.repeat(600) }], ['/probe', {}]])('%s refuses %j', async (path, body) => {
  const commands = new Commands();
  open.push(await startControl(folder, async () => STATUS, commands));
  expect((await ask(controlSocketPath(folder), 'POST', path, body)).code).toBe(400);
  expect([commands.pulls, commands.limits]).toEqual([[], []]);
});

test('a pull ends when whoever asked has gone', async () => {
  const commands = new Commands();
  commands.endless = true;
  const { path } = await startControl(folder, async () => STATUS, commands).then((control) => (open.push(control), control));
  const request = http.request({ socketPath: path, method: 'POST', path: '/pull', headers: { 'content-type': 'application/json' }, agent: false });
  request.end('{"image":"docker.io/library/a:1"}');
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  await once(response, 'data');
  response.destroy();
  await commands.aborted.promise;
});
