// How fast the local endpoint serves what is in the store, against Debian's nginx with the same file; how soon the first byte is there; and
// how much time a manifest takes more than at the origin itself. Sides take turns, request by request, so that both see the same machine.
//
// Clients of the throughput are curl processes: they cost little, and nothing of theirs runs in the measured programs.

import { createWriteStream } from 'node:fs';
import { once } from 'node:events';
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { request } from 'undici';
import { run } from '../support/command.ts';
import { FleetProcesses, type AgentProgram } from '../support/processes.ts';
import { PushTarget } from '../support/push.ts';
import { startRegistry } from '../support/registry.ts';
import { startNginx, type Nginx } from './nginx.ts';
import { startPatternOrigin, type PatternOrigin } from './pattern-origin.ts';
import { median } from './median.ts';

const MIB = 1024 * 1024;
/** The stated limits. */
export const MIN_SHARE_OF_NGINX = 0.5;
export const MAX_FIRST_BYTE_MS = 5;
export const MAX_MANIFEST_ADDED_MS = 3;

/** How much is measured. */
export interface ServingSize {
  readonly blobsMiB: readonly number[];
  /** Of downloads, each by all clients of a figure. */
  readonly pairs: number;
  /** Of single requests. */
  readonly requestPairs: number;
}

const FULL: ServingSize = { blobsMiB: [512, 16], pairs: 9, requestPairs: 101 };
const CLIENTS = [1, 4];
const WARMING_REQUESTS = 20;

interface ThroughputFigure {
  readonly blobMiB: number;
  readonly clients: number;
  readonly agentMBps: number;
  readonly nginxMBps: number;
  /** Median of the pairs' quotients. */
  readonly share: number;
}

interface ManifestFigure {
  readonly what: string;
  readonly originMs: number;
  readonly agentMs: number;
  /** Median of the pairs' differences. */
  readonly addedMs: number;
}

export interface ServingResult {
  readonly throughput: readonly ThroughputFigure[];
  readonly firstByteMs: readonly { readonly blobMiB: number; readonly agentMs: number; readonly nginxMs: number }[];
  readonly manifests: readonly ManifestFigure[];
  readonly ok: boolean;
}

interface Subject {
  readonly blobMiB: number;
  readonly agentUrl: string;
  readonly nginxUrl: string;
}

/** Needs Debian's docker-registry, nginx and curl. */
export async function benchServing(progress: (text: string) => void, size: ServingSize = FULL): Promise<ServingResult> {
  await using opened = new AsyncDisposableStack();
  const registry = await startRegistry();
  opened.defer(() => registry.close());
  const nginx = await startNginx();
  opened.defer(() => nginx.close());
  const fleet = await FleetProcesses.start();
  opened.defer(() => fleet.close());
  const origins = await Promise.all(size.blobsMiB.map((mib) => startPatternOrigin(mib * MIB)));
  opened.defer(async () => void (await Promise.all(origins.map((origin) => origin.close()))));
  const flags = [...origins.flatMap((origin, i) => ['--origin', `bench${i}=${origin.url}`]), '--origin', `lab=${registry.url}`];
  const agent = await fleet.addAgent('server', flags);

  const throughput: ThroughputFigure[] = [];
  const firstByteMs: { blobMiB: number; agentMs: number; nginxMs: number }[] = [];
  for (const [i, origin] of origins.entries()) {
    const subject = await place(agent, `bench${i}/blob`, nginx, origin);
    for (const clients of CLIENTS) {
      progress(`${subject.blobMiB} MiB to ${clients} ${clients === 1 ? 'client' : 'clients'}`);
      throughput.push(await measureThroughput(subject, clients, size.pairs));
    }
    progress(`first byte of ${subject.blobMiB} MiB`);
    firstByteMs.push({ blobMiB: subject.blobMiB, ...(await measureFirstByte(subject, size.requestPairs)) });
  }
  progress('manifests');
  const manifests = await measureManifests(registry.url, agent.url, size.requestPairs);
  const ok =
    throughput.every(({ share }) => share >= MIN_SHARE_OF_NGINX) &&
    firstByteMs.every(({ agentMs }) => agentMs <= MAX_FIRST_BYTE_MS) &&
    manifests.every(({ addedMs }) => addedMs <= MAX_MANIFEST_ADDED_MS);
  return { throughput, firstByteMs, manifests, ok };
}

/** The blob in the agent's store and the same bytes in nginx's folder. */
async function place(agent: AgentProgram, repository: string, nginx: Nginx, origin: PatternOrigin): Promise<Subject> {
  const agentUrl = `${agent.url}/v2/${repository}/blobs/${origin.digest}`;
  const { statusCode, body } = await request(agentUrl);
  if (statusCode !== 200) throw new Error(`the agent answers ${statusCode}: ${await body.text()}`);
  const name = `${origin.size}`;
  await pipeline(body, createWriteStream(join(nginx.root, name)));
  return { blobMiB: origin.size / MIB, agentUrl, nginxUrl: `${nginx.url}/${name}` };
}

async function measureThroughput({ blobMiB, agentUrl, nginxUrl }: Subject, clients: number, pairs: number): Promise<ThroughputFigure> {
  const agent: number[] = [];
  const nginx: number[] = [];
  for (let pair = -1; pair < pairs; pair++) {
    const both = [await download(nginxUrl, clients, blobMiB), await download(agentUrl, clients, blobMiB)];
    // The first pair warms both.
    if (pair < 0) continue;
    nginx.push(both[0]!);
    agent.push(both[1]!);
  }
  return { blobMiB, clients, agentMBps: median(agent), nginxMBps: median(nginx), share: median(agent.map((rate, pair) => rate / nginx[pair]!)) };
}

/** @returns MB/s of all clients together */
async function download(url: string, clients: number, blobMiB: number): Promise<number> {
  const seconds = await Promise.all(
    Array.from({ length: clients }, async () => {
      const told = await run('curl', ['--silent', '--fail', '--output', '/dev/null', '--write-out', '%{size_download} %{time_total}', url]);
      const [bytes, time] = told.split(' ').map(Number);
      if (bytes !== blobMiB * MIB) throw new Error(`${url} gave ${bytes} bytes`);
      return time!;
    }),
  );
  return (clients * blobMiB * MIB) / 1e6 / Math.max(...seconds);
}

async function measureFirstByte({ agentUrl, nginxUrl }: Subject, pairs: number): Promise<{ agentMs: number; nginxMs: number }> {
  const agent: number[] = [];
  const nginx: number[] = [];
  for (let pair = 0; pair < pairs; pair++) {
    nginx.push(await firstByte(nginxUrl));
    agent.push(await firstByte(agentUrl));
  }
  return { agentMs: median(agent), nginxMs: median(nginx) };
}

/** From before the connection to the first byte of the body. */
async function firstByte(url: string): Promise<number> {
  const startMs = performance.now();
  const asked = httpRequest(url, { agent: false });
  asked.end();
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  await once(response, 'data');
  const ms = performance.now() - startMs;
  const closed = once(response, 'close');
  response.destroy();
  await closed;
  return ms;
}

async function measureManifests(originUrl: string, agentUrl: string, pairs: number): Promise<ManifestFigure[]> {
  const target = new PushTarget(originUrl, 'bench/image');
  const config = await target.blob('application/vnd.oci.image.config.v1+json', Buffer.from('{"architecture":"amd64","os":"linux"}'));
  const manifest = await target.manifest({ schemaVersion: 2, mediaType: 'application/vnd.oci.image.manifest.v1+json', config, layers: [] }, '1');
  const http = new HttpAgent({ keepAlive: true, maxSockets: 1 });
  const ask = async (method: string, url: string): Promise<number> => {
    const startMs = performance.now();
    const asked = httpRequest(url, { agent: http, method, headers: { accept: manifest.mediaType } });
    asked.end();
    const [response] = (await once(asked, 'response')) as [IncomingMessage];
    if (response.statusCode !== 200) throw new Error(`${method} ${url}: ${response.statusCode}`);
    response.resume();
    await once(response, 'end');
    return performance.now() - startMs;
  };
  const figures: ManifestFigure[] = [];
  for (const [method, reference, name] of [
    ['HEAD', '1', 'HEAD by tag'],
    ['GET', '1', 'GET by tag'],
    ['HEAD', manifest.digest, 'HEAD by digest'],
    ['GET', manifest.digest, 'GET by digest'],
  ] as const) {
    const path = `manifests/${reference}`;
    const origin: number[] = [];
    const agent: number[] = [];
    for (let pair = -WARMING_REQUESTS; pair < pairs; pair++) {
      const both = [await ask(method, `${originUrl}/v2/bench/image/${path}`), await ask(method, `${agentUrl}/v2/lab/bench/image/${path}`)];
      if (pair < 0) continue;
      origin.push(both[0]!);
      agent.push(both[1]!);
    }
    figures.push({ what: name, originMs: median(origin), agentMs: median(agent), addedMs: median(agent.map((ms, pair) => ms - origin[pair]!)) });
  }
  http.destroy();
  return figures;
}
