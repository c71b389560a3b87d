// The commands of `flotilla rollout` against a small tracker that speaks the operator's side of the contract and decides nothing.

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { RolloutDetail, RolloutHosts } from '@flotilla/shared/rollout-api';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { run } from '../program.ts';
import { describeDetail, describeList, ending, line } from './describe.ts';
import { follow } from './follow.ts';
import { OperatorClient } from './operator-client.ts';
import { rolloutRequest } from './request.ts';

const NOW = Date.parse('2027-01-01T00:00:00Z');

function detail(change: Partial<RolloutDetail> = {}): RolloutDetail {
  return {
    id: 'r-abc',
    image: 'docker.io/library/nginx:1.27',
    digest: `sha256:${'d'.repeat(64)}`,
    state: 'running',
    selector: 'role=web',
    verifyOnly: false,
    pauseOnFailure: 0.02,
    createdAtMs: NOW,
    createdBy: 'ann',
    wave: 1,
    waves: [
      { target: 1, state: 'over', started: 1, done: 1, failed: 0, openedAtMs: NOW, endedAtMs: NOW },
      { target: 20, state: 'open', started: 19, done: 4, failed: 1, openedAtMs: NOW },
    ],
    hosts: { total: 20, waiting: 3, working: 11, done: 5, failed: 1, away: 2 },
    bytes: { total: 20e9, held: 7e9, peer: 6e9, origin: 1e9, rate: 4e8 },
    timeLeftMs: 65_000,
    manifests: [],
    slowest: [],
    failures: [{ code: 'DISK_FULL', message: 'no room', hosts: 1, names: ['web-3'] }],
    ...change,
  };
}

const HOSTS: RolloutHosts = {
  id: 'r-abc',
  rows: [
    ['12D3a', 'web-1', 'z1', 'done', 1, 0, 1000, 0, ''],
    ['12D3b', 'web-2', '', 'working', 0, 1, 250, 1_000_000, 'pulling'],
    ['12D3c', 'web-3', 'z1', 'failed', 1, 1, 0, 0, 'DISK_FULL'],
  ],
  outcomes: { '12D3c': { attempt: 2, error: { code: 'DISK_FULL', message: 'no room' }, hook: { exitCode: 3, ms: 5, output: 'line\nlast line\n' } } },
};

describe('flags', () => {
  test.each([
    [{}, {}],
    [{ hosts: 'zone=a', waves: '1,100%' }, { hosts: 'zone=a', waves: '1,100%' }],
    [{ pauseOnFailure: '2.5%' }, { pauseOnFailure: 0.025 }],
    [{ originLimit: '200MB/s' }, { originLimit: 200_000_000 }],
    [{ deadline: '90m' }, { deadlineMs: NOW + 5_400_000 }],
    [{ deadline: '1.5d' }, { deadlineMs: NOW + 129_600_000 }],
    [{ deadline: '2027-03-01T04:00Z' }, { deadlineMs: Date.parse('2027-03-01T04:00Z') }],
    [{ verifyOnly: true, platform: 'linux/arm/v7' }, { verifyOnly: true, platform: 'linux/arm/v7' }],
  ])('%j', (flags, expected) => {
    expect(rolloutRequest('docker.io/library/nginx', flags, NOW)).toEqual({ image: 'docker.io/library/nginx', ...expected });
  });

  test.each([
    ['--pause-on-failure', { pauseOnFailure: '2' }],
    ['--pause-on-failure', { pauseOnFailure: '200%' }],
    ['--origin-limit', { originLimit: 'fast' }],
    ['--origin-limit', { originLimit: '1' }],
    ['--deadline', { deadline: 'tomorrow' }],
    ['--deadline', { deadline: '5' }],
    ['--platform', { platform: 'linux' }],
  ])('%s %j is refused', (flag, flags) => {
    expect(() => rolloutRequest('docker.io/library/nginx', flags, NOW)).toThrow(flag);
  });
});

describe('words', () => {
  test('of a rollout at work', () => {
    expect(line(detail())).toBe('running, wave 2 of 2, 5 of 20 hosts done, 11 at work, 1 failed, 2 away, 7.00 GB of 20.0 GB, 400 MB/s, about 1 min 5 s left');
  });

  test('of one that has stopped by itself, and what to do', () => {
    const paused = detail({ state: 'paused', reason: { code: 'FAILURES', message: '1 of 20 hosts failed', host: 'web-3' } });
    expect(line(paused)).toContain('FAILURES: 1 of 20 hosts failed (web-3)');
    expect(ending(paused)).toBe('1 host failed with DISK_FULL: no room (web-3)\ngo on: flotilla rollout resume r-abc, or try the failed again: flotilla rollout retry r-abc\n');
  });

  test('of one that is done', () => {
    const done = detail({ state: 'done', failures: [], hosts: { total: 20, waiting: 2, working: 0, done: 18, failed: 0, away: 2 } });
    expect(ending(done)).toBe(`docker.io/library/nginx:1.27 is there on 18 of 20 hosts; 7.00 GB came, 86 % from peers\nsha256:${'d'.repeat(64)}\n2 away: they get it when back\n`);
  });

  test('tables of waves and hosts: failures first, each with its reason and its hook', () => {
    const text = describeDetail(detail(), HOSTS, false);
    expect(text).toMatch(/^WAVE +HOSTS +STATE +STARTED +DONE +FAILED\n1 +to 1 +over +1 +1 +0\n2 +to 20 +open +19 +4 +1$/m);
    expect(text).toMatch(/^web-3 +z1 +failed +2 +0 % +- +DISK_FULL\nweb-2 +- +working, away +2 +25 % +1\.00 MB\/s +pulling\nweb-1 +z1 +done +1 +100 % +-$/m);
    expect(text).toContain('web-3: DISK_FULL: no room\nweb-3: hook ended with 3: last line\n');
  });

  test('a list', () => {
    expect(describeList([], NOW)).toBe('no rollouts\n');
    expect(describeList([detail()], NOW + 61_000)).toMatch(/^r-abc +running +5\/20 +1 +2 +1 min 1 s ago +ann +role=web +docker\.io\/library\/nginx:1\.27$/m);
  });
});

describe('at a tracker', () => {
  let dir: string;
  let server: Server;
  let url: string;
  const asked: { readonly route: string; readonly token: string | undefined; readonly body: string }[] = [];
  /** The next answers, in order; the last stays. */
  let answers: { readonly status: number; readonly body: unknown }[];

  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'flotilla-cli-'));
    asked.length = 0;
    answers = [{ status: 200, body: detail() }];
    server = createServer((request, response) => {
      let body = '';
      request.on('data', (part: Buffer) => (body += part.toString()));
      request.on('end', () => {
        asked.push({ route: `${request.method} ${request.url}`, token: request.headers.authorization, body });
        const { status, body: reply } = answers.length > 1 ? answers.shift()! : answers[0]!;
        if (status === 0) response.destroy();
        else response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(reply));
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    await writeFile(join(dir, 'token'), 'secret\n');
    await writeFile(join(dir, 'agent.yaml'), 'data: /nowhere\n');
  });

  afterEach(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    await rm(dir, { recursive: true });
  });

  async function flotilla(...argv: string[]): Promise<{ code: number; out: string; err: string }> {
    const said = { out: '', err: '' };
    const terminal = { out: (text: string) => void (said.out += text), err: (text: string) => void (said.err += text) };
    const flags = ['--tracker', url, '--token-file', join(dir, 'token'), '--config', join(dir, 'agent.yaml')];
    return { code: await run(['rollout', ...argv, ...flags], terminal), ...said };
  }

  test('a rollout is made as it was asked for, with the token, and followed to its end', async () => {
    answers = [{ status: 201, body: detail({ state: 'resolving' }) }, { status: 200, body: detail({ state: 'done', failures: [], hosts: { total: 20, waiting: 0, working: 0, done: 20, failed: 0, away: 0 } }) }];
    const { code, out, err } = await flotilla('docker.io/library/nginx:1.27', '--hosts', 'role=web', '--waves', '1,100%', '--origin-limit', '1MB/s');
    expect({ code, err }).toEqual({ code: 0, err: '' });
    expect(asked.map(({ route }) => route)).toEqual(['POST /api/v1/rollouts', 'GET /api/v1/rollouts/r-abc']);
    expect(asked[0]!.token).toBe('Bearer secret');
    expect(JSON.parse(asked[0]!.body)).toEqual({ image: 'docker.io/library/nginx:1.27', hosts: 'role=web', waves: '1,100%', originLimit: 1_000_000 });
    expect(out).toMatch(/^r-abc resolving, /);
    expect(out).toContain('is there on 20 of 20 hosts');
  });

  test('one that stops by itself is a failure', async () => {
    answers = [{ status: 201, body: detail({ state: 'paused' }) }];
    expect(await flotilla('docker.io/library/nginx:1.27')).toMatchObject({ code: 1 });
  });

  test('--detach returns at once; --json says it all', async () => {
    answers = [{ status: 201, body: detail() }];
    const { code, out } = await flotilla('docker.io/library/nginx:1.27', '--detach', '--json');
    expect(code).toBe(0);
    expect(JSON.parse(out)).toEqual(detail());
    expect(asked).toHaveLength(1);
  });

  test.each(['pause', 'resume', 'cancel', 'retry'])('%s', async (command) => {
    const { code, out } = await flotilla(command, 'r-abc');
    expect({ code, out }).toEqual({ code: 0, out: `r-abc ${line(detail())}\n` });
    expect(asked[0]!.route).toBe(`POST /api/v1/rollouts/r-abc/${command}`);
  });

  test('list and show', async () => {
    answers = [{ status: 200, body: { rollouts: [detail()] } }, { status: 200, body: detail() }, { status: 200, body: HOSTS }];
    expect((await flotilla('list')).out).toContain('r-abc');
    expect((await flotilla('show', 'r-abc', '--state', 'failed')).out).toContain('web-3');
    expect(asked.map(({ route }) => route)).toEqual(['GET /api/v1/rollouts', 'GET /api/v1/rollouts/r-abc', 'GET /api/v1/rollouts/r-abc/hosts?state=failed']);
    answers = [{ status: 200, body: { rollouts: [detail()] } }];
    expect(JSON.parse((await flotilla('list', '--json')).out)).toEqual({ rollouts: [detail()] });
  });

  test("what the tracker refuses is said in the tracker's words", async () => {
    answers = [{ status: 404, body: { code: 'ROLLOUT_UNKNOWN', detail: 'no rollout is called r-x. GET /api/v1/rollouts lists those that are kept.' } }];
    expect(await flotilla('pause', 'r-x')).toEqual({ code: 1, out: '', err: 'flotilla: the tracker refuses: ROLLOUT_UNKNOWN. no rollout is called r-x. GET /api/v1/rollouts lists those that are kept.\n' });
  });

  test('a tracker that answers something else is no tracker', async () => {
    answers = [{ status: 200, body: { fine: true } }];
    expect(await flotilla('show', 'r-x')).toMatchObject({ code: 1, err: expect.stringContaining('something else') as string });
  });

  test('while the tracker does not answer it is asked again', async () => {
    answers = [{ status: 0, body: {} }, { status: 503, body: {} }, { status: 200, body: detail({ state: 'cancelled' }) }];
    const said = { out: '', err: '' };
    const client = await OperatorClient.open({ tracker: url, tokenFile: join(dir, 'token'), config: join(dir, 'agent.yaml') });
    const terminal = { out: (text: string) => void (said.out += text), err: (text: string) => void (said.err += text) };
    expect(await follow(client, detail(), false, terminal, new AbortController().signal, 1)).toBe(1);
    await client.close();
    expect(said.err).toBe(`${url} does not answer; the rollout goes on when it is back\n`);
    expect(said.out).toContain('cancelled');
  });

  test.each([
    [['pause'], 'missing required argument'],
    [['lsit'], 'neither a command'],
    [['docker.io/library/nginx', '--waves'], 'argument missing'],
    [['show', 'r-a', '--state', 'odd'], 'Allowed choices'],
  ])('%j is a usage error', async (argv, text) => {
    const said = { err: '' };
    const code = await run(['rollout', ...argv], { out: () => undefined, err: (part) => void (said.err += part) });
    expect({ code, asked: asked.length }).toEqual({ code: 2, asked: 0 });
    expect(said.err).toContain(text);
  });

  test.each([
    [['--tracker', 'http://127.0.0.1:1'], '--token-file'],
    [['--token-file', '/dev/null'], 'no tracker is named'],
    [['--tracker', 'http://127.0.0.1:1', '--token-file', '/nowhere/token'], '--token-file /nowhere/token cannot be read'],
  ])('without what it needs it says what to give: %j', async (argv, text) => {
    const said = { err: '' };
    const code = await run(['rollout', 'list', '--config', join(dir, 'agent.yaml'), ...argv], { out: () => undefined, err: (part) => void (said.err += part) });
    expect(code).toBe(2);
    expect(said.err).toContain(text);
  });
});
