// Questions of agents what origins show to anybody, over real HTTPS and to an origin on a real socket.

import { createServer, type Server } from 'node:http';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseJoinToken } from '@flotilla/shared/join-token';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { loadConfig, type Flags } from './config.ts';
import { createLogger } from './log.ts';
import { startTracker, type Tracker } from './server.ts';
import { call, TestAgent } from './test-agent.ts';

let dir: string;
let tracker: Tracker;
let origin: Server;
const asked: string[] = [];
const digest = `sha256:${'c'.repeat(64)}`;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'flotilla-resolve-'));
  asked.length = 0;
  origin = createServer((request, response) => {
    asked.push(`${request.method} ${request.url}${request.headers.authorization === undefined ? '' : ' with credentials'}`);
    if (request.url?.includes('/secret/')) response.writeHead(401, { 'www-authenticate': 'Basic realm="lab"' });
    else response.writeHead(200, { 'content-type': 'application/vnd.oci.image.index.v1+json', 'docker-content-digest': digest, 'content-length': 7 });
    response.end();
  });
  await new Promise<void>((resolve) => origin.listen(0, '127.0.0.1', resolve));
});

afterEach(async () => {
  await tracker.close();
  origin.closeAllConnections();
  origin.close();
  await rm(dir, { recursive: true });
});

async function start(flags: Flags): Promise<void> {
  const { config } = loadConfig({ flags: { data: dir, listen: '127.0.0.1:0', ...flags }, env: {} });
  tracker = await startTracker(config, { log: createLogger('silent') });
}

async function connect(): Promise<TestAgent> {
  return TestAgent.connect(tracker.url, tracker.caPem, parseJoinToken(await readFile(tracker.joinTokenFile, 'utf8')));
}

const url = (): string => `http://127.0.0.1:${(origin.address() as AddressInfo).port}`;
const question = (more: object = {}): object => ({ origin: 'lab', urls: [url()], repository: 'team/app', kind: 'manifest', reference: 'v1', ...more });

test('a question is answered to members, by an origin that the settings name, asked once', async () => {
  await start({ resolve: true, origin: [`lab=${url()}`] });
  const [one, two] = [await connect(), await connect()];
  expect(one.welcome.resolves).toBe(true);
  const found = { found: { digest, size: 7, mediaType: 'application/vnd.oci.image.index.v1+json' } };
  for (const reply of await Promise.all([one.ask(question(), 0, 'resolve'), two.ask(question(), 0, 'resolve')])) expect(JSON.parse(reply.text)).toEqual(found);
  expect(JSON.parse((await one.ask(question({ repository: 'secret/app' }), 0, 'resolve')).text)).toEqual({ why: 'not-public' });
  expect(asked).toEqual(['HEAD /v2/team/app/manifests/v1', 'HEAD /v2/secret/app/manifests/v1']);
  const metrics = (await call(`${tracker.url}/metrics`, { ca: tracker.caPem })).text;
  expect(metrics).toContain('flotilla_tracker_resolved_total{answer="found",asked="true"} 1');
  expect(metrics).toContain('flotilla_tracker_resolved_total{answer="found",asked="false"} 1');
  expect(metrics).toContain('flotilla_tracker_origin_requests_total{kind="manifest",status="2xx"} 1');
});

test('a question leads the tracker nowhere but where its own settings say', async () => {
  await start({ resolve: true });
  const agent = await connect();
  const elsewhere = [
    question(),
    question({ origin: '127.0.0.1' }),
    question({ origin: 'docker.io' }),
    question({ origin: 'metadata.example', urls: ['https://metadata.example'] }),
  ];
  for (const each of elsewhere) expect(JSON.parse((await agent.ask(each, 0, 'resolve')).text)).toEqual({ why: 'not-configured' });
  expect((await agent.ask({ origin: 'lab' }, 0, 'resolve')).status).toBe(400);
  expect((await agent.ask(question(), 0, 'resolve', 'wrong')).status).toBe(401);
  expect(asked).toEqual([]);
});

test('the route is not there without the setting, and no welcome says so', async () => {
  await start({ origin: [`lab=${url()}`] });
  const agent = await connect();
  expect(agent.welcome.resolves).toBeUndefined();
  expect((await agent.ask(question(), 0, 'resolve')).status).toBe(404);
});
