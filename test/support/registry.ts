// Debian's docker-registry as a real origin, with its access log read as numbers.
//
// It listens on a free port of 127.0.0.1 and keeps its blobs in a folder of its own. A request is in the log once its response has ended;
// after `stop` the log is complete, so counts that must be exact are read then.

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

/** One finished response. */
interface RegistryRequest {
  readonly method: string;
  /** path and query */
  readonly uri: string;
  readonly status: number;
  /** payload bytes written */
  readonly bytes: number;
  readonly userAgent: string;
}

/** GETs of one blob that were answered with content. */
interface BlobTraffic {
  readonly requests: number;
  readonly bytes: number;
}

/** The token flow: whom the registry sends callers to, and whose tokens it believes. */
export interface RegistryTokenAuth {
  readonly realm: string;
  readonly service: string;
  readonly issuer: string;
  /** PEM file */
  readonly rootCertBundle: string;
}

export interface RunningRegistry {
  /** 127.0.0.1:PORT */
  readonly host: string;
  readonly url: string;
  readonly requests: readonly RegistryRequest[];
  /** By digest. */
  blobTraffic(): ReadonlyMap<string, BlobTraffic>;
  /** Ends the process; the log is whole then. */
  stop(): Promise<void>;
  /** Stops, and deletes what was pushed. */
  close(): Promise<void>;
}

/** @throws Error with the registry's own words when it does not listen */
export async function startRegistry(options: { readonly token?: RegistryTokenAuth } = {}): Promise<RunningRegistry> {
  const dir = await mkdtemp(join(tmpdir(), 'flotilla-registry-'));
  const configFile = join(dir, 'config.yml');
  await writeFile(configFile, registryConfig(dir, options.token));
  const child = spawn('docker-registry', ['serve', configFile], { stdio: ['ignore', 'pipe', 'pipe'] });
  const requests: RegistryRequest[] = [];
  let host: string;
  let closed: Promise<unknown>;
  try {
    ({ host, closed } = await listening(child, requests));
  } catch (error) {
    child.kill('SIGKILL');
    await rm(dir, { recursive: true });
    throw error;
  }

  const stop = async (): Promise<void> => {
    child.kill('SIGTERM');
    await closed;
  };
  return {
    host,
    url: `http://${host}`,
    requests,
    blobTraffic: () => sumBlobs(requests),
    stop,
    close: async () => {
      await stop();
      await rm(dir, { recursive: true, force: true });
    },
  };
}

/** Reads the log: first the port, then requests, until the process has ended. */
async function listening(child: ChildProcess, requests: RegistryRequest[]): Promise<{ host: string; closed: Promise<unknown> }> {
  const firstLines: string[] = [];
  const closed = once(child, 'close');
  const host = await new Promise<string>((resolve, reject) => {
    // Debian's registry writes its log to stderr.
    for (const stream of [child.stdout, child.stderr]) {
      createInterface({ input: stream! }).on('line', (line) => {
        const entry = parseLine(line);
        if (firstLines.length < 20) firstLines.push(line);
        const listens = /^listening on (\S+)/.exec(String(entry['msg']))?.[1];
        if (listens !== undefined) resolve(listens);
        if (entry['msg'] === 'response completed') requests.push(requestOf(entry));
      });
    }
    child.once('error', reject);
    child.once('close', () => reject(new Error(`docker-registry ended before it listened:\n${firstLines.join('\n')}`)));
  });
  return { host, closed };
}

function parseLine(line: string): Record<string, unknown> {
  return line.startsWith('{') ? (JSON.parse(line) as Record<string, unknown>) : {};
}

function requestOf(entry: Record<string, unknown>): RegistryRequest {
  const text = (key: string): string => {
    const value = entry[key];
    return typeof value === 'string' ? value : '';
  };
  return {
    method: text('http.request.method'),
    uri: text('http.request.uri'),
    status: Number(entry['http.response.status']),
    bytes: Number(entry['http.response.written']),
    userAgent: text('http.request.useragent'),
  };
}

function sumBlobs(requests: readonly RegistryRequest[]): ReadonlyMap<string, BlobTraffic> {
  const sums = new Map<string, BlobTraffic>();
  for (const { method, uri, status, bytes } of requests) {
    const digest = /^\/v2\/.+\/blobs\/([a-z0-9]+:[a-f0-9]+)(?:\?|$)/.exec(uri)?.[1];
    if (digest === undefined || method !== 'GET' || (status !== 200 && status !== 206)) continue;
    const sum = sums.get(digest) ?? { requests: 0, bytes: 0 };
    sums.set(digest, { requests: sum.requests + 1, bytes: sum.bytes + bytes });
  }
  return sums;
}

function registryConfig(dir: string, token: RegistryTokenAuth | undefined): string {
  return JSON.stringify({
    version: '0.1',
    log: { level: 'info', formatter: 'json', accesslog: { disabled: true } },
    storage: { filesystem: { rootdirectory: join(dir, 'blobs') }, delete: { enabled: true } },
    validation: { manifests: { urls: { allow: ['^http://'] } } },
    http: { addr: '127.0.0.1:0', secret: 'one registry only', draintimeout: '5s' },
    ...(token !== undefined && {
      auth: { token: { realm: token.realm, service: token.service, issuer: token.issuer, rootcertbundle: token.rootCertBundle } },
    }),
  });
}
