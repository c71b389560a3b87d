import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { controlSocketPath, startControl, type AgentStatus } from '../control.ts';
import { run } from './program.ts';
import { describe as describeStatus, printStatus } from './status.ts';
import { humanBytes, humanDuration, table } from './terminal.ts';

const MAIN = join(import.meta.dirname, '..', 'main.ts');
const MIB = 1024 * 1024;

const STATUS: AgentStatus = {
  version: '0.1.0',
  name: 'host-a',
  pid: 1,
  startedAt: new Date(Date.now() - 3_700_000).toISOString(),
  state: 'ready',
  addresses: { registry: { host: '127.0.0.1', port: 5050 }, peers: { host: '::', port: 5051 }, admin: { host: '127.0.0.1', port: 5053 } },
  peerId: '12D3KooWexample',
  tracker: { state: 'lost', url: 'https://tracker:5052', lastError: { code: 'TRACKER_UNREACHABLE', message: 'refused' } },
  peers: { connected: 12 },
  store: { bytes: 1.5e9, limitBytes: 40e9, blobs: 37, freeBytes: 120e9 },
  bytes: { peer: 3e9, origin: 2e8, store: 1e9, uploaded: 9e9, duplicate: 0 },
  downloads: [
    {
      digest: `sha256:${'ab'.repeat(32)}`,
      size: 64 * MIB,
      source: { origin: 'docker.io', repository: 'library/nginx', kind: 'blob' },
      state: 'running',
      chunks: 1024,
      held: 512,
      readers: 2,
      kept: true,
      bytes: { peer: 30 * MIB, origin: 2 * MIB, duplicate: 0 },
      reading: [],
      sources: [],
      startedMs: 0,
    },
  ],
};

let folder: string;
const cleanups: (() => Promise<unknown>)[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'flotilla-cli-'));
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup();
  rmSync(folder, { recursive: true });
});

async function flotilla(...argv: string[]): Promise<{ code: number; out: string; err: string }> {
  let [out, err] = ['', ''];
  const code = await run(argv, { out: (text) => (out += text), err: (text) => (err += text) });
  return { code, out, err };
}

async function withStatus(status: AgentStatus): Promise<void> {
  const control = await startControl(folder, async () => status);
  cleanups.push(() => control.close());
}

describe('usage', () => {
  test('an unknown flag is refused with the nearest one', async () => {
    const { code, err } = await flotilla('agent', '--listn', '127.0.0.1:1');
    expect(code).toBe(2);
    expect(err).toMatch(/unknown option '--listn'\n\(Did you mean --listen\?\)/);
  });

  test('a tracker without its join token is refused at once', async () => {
    const { code, err, out } = await flotilla('agent', '--data', folder, '--tracker', 'https://127.0.0.1:1');
    expect({ code, out }).toEqual({ code: 2, out: '' });
    expect(err).toMatch(/^flotilla: --tracker needs --join-token-file.*\n$/);
  });

  test('a wrong setting is one line that names it', async () => {
    const { code, err, out } = await flotilla('agent', '--data', folder, '--listen', '5050');
    expect({ code, out }).toEqual({ code: 2, out: '' });
    expect(err).toBe('flotilla: listen: "5050" is not allowed (--listen); write ADDRESS:PORT, such as 127.0.0.1:5050 or [::]:5050\n');
  });

  test('help names every flag of the agent and is no failure', async () => {
    const { code, out } = await flotilla('agent', '--help');
    expect(code).toBe(0);
    for (const flag of ['--config <FILE>', '--join-token-file <FILE>', '--origin <NAME=URL>', '--store-limit <SIZE>']) expect(out).toContain(flag);
  });

  test('the program runs as it is, and its exit code is the command\'s', async () => {
    const { stdout } = await promisify(execFile)(process.execPath, [MAIN, '--version']);
    expect(stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
    await expect(promisify(execFile)(process.execPath, [MAIN, 'nothing'])).rejects.toMatchObject({ code: 2, stderr: expect.stringContaining("unknown command 'nothing'") });
    await expect(promisify(execFile)(process.execPath, [MAIN, 'status', '--data', folder])).rejects.toMatchObject({ code: 3, stdout: '' });
  });
});

describe('config', () => {
  test('says each value and where it comes from', async () => {
    const file = join(folder, 'flotilla.yaml');
    writeFileSync(file, 'zone: z1\n');
    const { code, out } = await flotilla('config', '--config', file, '--origin', 'docker.io=https://a.example', '--origin', 'docker.io=https://b.example');
    expect(code).toBe(0);
    expect(out).toMatch(/^SETTING +VALUE +FROM\n/);
    expect(out).toMatch(/^listen +127\.0\.0\.1:5050 +default$/m);
    expect(out).toMatch(new RegExp(`^zone +z1 +${file}$`, 'm'));
    expect(out).toMatch(/^origin\.docker\.io +https:\/\/a\.example, https:\/\/b\.example +--origin$/m);
    expect(out).toMatch(/^uploadLimit +- +default$/m);
  });

  test('as JSON', async () => {
    const { out } = await flotilla('config', '--json', '--upload-limit', '50MB/s');
    const settings = JSON.parse(out) as { setting: string }[];
    expect(settings.find(({ setting }) => setting === 'uploadLimit')).toEqual({ setting: 'uploadLimit', value: 50_000_000, source: 'flag', where: '--upload-limit' });
    expect(settings.find(({ setting }) => setting === 'downloadLimit')).toMatchObject({ value: null });
  });
});

describe('status', () => {
  test('for a person', async () => {
    await withStatus(STATUS);
    const { code, out } = await flotilla('status', '--data', folder);
    expect(code).toBe(0);
    expect(out).toMatch(/^agent +host-a, version 0\.1\.0, ready, up 1 h 1 min$/m);
    expect(out).toMatch(/^peers +\[::\]:5051, 12 connected, id 12D3KooWexample$/m);
    expect(out).toMatch(/^tracker +lost, https:\/\/tracker:5052 \(TRACKER_UNREACHABLE: refused\)$/m);
    expect(out).toMatch(/^store +1\.50 GB of 40\.0 GB, 37 blobs/m);
    expect(out).toMatch(/^sha256:abababababab +67\.1 MB +50 % +31\.5 MB +2\.10 MB +0 +2 +running$/m);
  });

  test('limits, and what went wrong at origins', async () => {
    const nowMs = Date.now();
    const faults = [{ code: 'ORIGIN_TLS' as const, message: 'certificate has expired', host: 'quay.io', count: 3, firstAtMs: 0, lastAtMs: nowMs - 61_000 }];
    const origins = [{ name: 'quay.io', urls: ['https://quay.io'], requests: 3, bytes: 0, throttledUntilMs: undefined, credentials: undefined, faults }];
    await withStatus({ ...STATUS, limits: { upload: 50e6, zone: 5e6 }, origins });
    const { out } = await flotilla('status', '--data', folder);
    expect(out).toMatch(/^limits +upload 50\.0 MB\/s, download unlimited, from origins unlimited, between zones 5\.00 MB\/s$/m);
    expect(out).toMatch(/^quay\.io +ORIGIN_TLS +quay\.io +3 +1 min \d s ago +certificate has expired$/m);
  });

  test('limit refuses what is no rate, and says so before it asks the agent', async () => {
    expect(await flotilla('limit', '--data', folder, '--upload', 'fast')).toMatchObject({ code: 2, err: expect.stringContaining('--upload fast is no rate') });
    expect(await flotilla('limit', '--data', folder, '--origin', '1B')).toMatchObject({ code: 2 });
    expect(await flotilla('limit', '--data', folder, '--origin', 'none', '--settings')).toMatchObject({ code: 2, err: expect.stringContaining('--settings stands alone') });
    expect(await flotilla('limit', '--data', folder, '--origin', 'none')).toMatchObject({ code: 3 });
  });

  test('--watch goes on until the agent is gone', async () => {
    let asked = 0;
    const control = await startControl(folder, async () => {
      // Gone with its third answer.
      if (++asked === 3) setImmediate(() => void control.close());
      return { ...STATUS, downloads: [] };
    });
    let out = '';
    const terminal = { out: (text: string) => (out += text), err: () => undefined };
    const watching = printStatus({ flags: { data: folder } }, { watch: true, json: true, watchMs: 1 }, terminal, new AbortController().signal);
    await expect(watching).rejects.toMatchObject({ exitCode: 3, message: expect.stringContaining('no agent runs') });
    expect(out.trim().split('\n').map((line) => (JSON.parse(line) as AgentStatus).name)).toEqual(['host-a', 'host-a', 'host-a']);
  });

  test('rollouts at work on this host', async () => {
    await withStatus({ ...STATUS, rollouts: [{ rolloutId: 'r-abc', attempt: 2, task: 'pull', image: 'docker.io/library/nginx:1.27', phase: 'pulling', held: 5e6, size: 2e7 }] });
    const { out } = await flotilla('status', '--data', folder);
    expect(out).toMatch(/^ROLLOUT +IMAGE +PHASE +HERE\nr-abc +docker\.io\/library\/nginx:1\.27 +pulling +5\.00 MB of 20\.0 MB$/m);
  });

  test('as JSON', async () => {
    await withStatus(STATUS);
    const { out } = await flotilla('status', '--json', '--data', folder);
    expect(JSON.parse(out)).toEqual(STATUS);
  });

  test('an agent that is not ready is told by the exit code', async () => {
    await withStatus({ ...STATUS, state: 'starting', downloads: [] });
    const { code, out } = await flotilla('status', '--data', folder);
    expect(code).toBe(1);
    expect(out).toContain('no downloads');
  });

  test('where no agent runs, the next step is said', async () => {
    const { code, out, err } = await flotilla('status', '--data', folder);
    expect({ code, out }).toEqual({ code: 3, out: '' });
    expect(err).toContain(`flotilla agent --data ${folder}`);
  });

  test('an agent that answers nonsense is a failure, not a status', async () => {
    const server = createServer((_request, response) => response.writeHead(500).end('broken'));
    await new Promise<void>((resolve) => server.listen(controlSocketPath(folder), resolve));
    cleanups.push(() => new Promise((resolve) => server.close(resolve)));
    const { code, err } = await flotilla('status', '--data', folder);
    expect(code).toBe(1);
    expect(err).toContain('the agent answered 500: broken');
  });
});

test.each([
  [{ mode: 'agent', allow: [], decided: {} }, 'public images only; origin down: deny; 0 denied'],
  [{ mode: 'agent', allow: ['lab/**', 'docker.io/acme/*'], decided: { public: 3, denied: 2 } }, "the agent's own for lab/** docker.io/acme/*; origin down: deny; 2 denied"],
  [{ mode: 'pass-through', allow: ['lab/a'], decided: {} }, "callers' own credentials, the agent's own for lab/a; origin down: deny; 0 denied"],
] as const)('status says whose credentials are used: %j', (rights, line) => {
  const page = describeStatus({ ...STATUS, rights: { ...rights, originDown: 'deny', challenge: false, tellPrivateNames: false } }, Date.now());
  expect(page).toContain(line);
});

describe('figures', () => {
  test.each([
    [0, '0 B'],
    [999, '999 B'],
    [1000, '1.00 kB'],
    [999_500, '1.00 MB'],
    [123_456_789, '123 MB'],
    [5e15, '5.00 PB'],
  ])('%d bytes are %s', (bytes, text) => {
    expect(humanBytes(bytes)).toBe(text);
  });

  test.each([
    [999, '0 s'],
    [61_000, '1 min 1 s'],
    [3_660_000, '1 h 1 min'],
    [90_000_000, '1 d 1 h'],
  ])('%d ms are %s', (ms, text) => {
    expect(humanDuration(ms)).toBe(text);
  });

  test('columns line up', () => {
    expect(table([['a', 'bb', ''], ['ccc', 'd', 'e']])).toBe('a    bb\nccc  d   e\n');
  });
});
