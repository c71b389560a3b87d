import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { controlSocketPath, startControl, type AgentStatus, type Control } from './control.ts';

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
