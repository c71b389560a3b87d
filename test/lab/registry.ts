// The origin: Debian's docker-registry. Filled over loopback outside the namespaces, where no link is narrow, then served inside.

import { readFile, writeFile, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { request } from 'undici';
import { readAccessLog, type OriginUse } from './access-log.ts';
import type { Image, ImageBlob } from './image.ts';
import type { Link } from './network.ts';
import { startIn, type LabProcess } from './processes.ts';

const REGISTRY_PORT = 5000;
const START_TIMEOUT_MS = 60_000;

export interface ServedOrigin {
  readonly url: string;
  readonly process: LabProcess;
  /** Everything it served since it stands in its namespace, or since `forget`. */
  use(): Promise<OriginUse>;
  forget(): Promise<void>;
}

/** Fills a new registry with the images and serves them at the link. `opened` ends it; its data stay in `dir`. */
export async function serveImages(images: readonly Image[], link: Link, dir: string, opened: AsyncDisposableStack, signal: AbortSignal): Promise<ServedOrigin> {
  await mkdir(dir, { recursive: true });
  const filling = await start(undefined, '127.0.0.1:0', dir, 'filling', opened, signal);
  for (const image of images) await push(image, `http://127.0.0.1:${filling.port}`, signal);
  await filling.process.end();
  const serving = await start(link.namespace, `${link.address}:${REGISTRY_PORT}`, dir, 'serving', opened, signal);
  let forgotten = 0;
  return {
    url: `http://${link.address}:${REGISTRY_PORT}`,
    process: serving.process,
    use: async () => readAccessLog((await readFile(serving.logFile)).subarray(forgotten).toString()),
    forget: async () => {
      ({ length: forgotten } = await readFile(serving.logFile));
    },
  };
}

async function start(
  namespace: string | undefined,
  address: string,
  dir: string,
  name: string,
  opened: AsyncDisposableStack,
  signal: AbortSignal,
): Promise<{ process: LabProcess; port: number; logFile: string }> {
  const configFile = join(dir, `${name}.yml`);
  const logFile = join(dir, `${name}.log`);
  // YAML reads JSON.
  await writeFile(
    configFile,
    JSON.stringify({ version: 0.1, log: { level: 'info', formatter: 'json' }, storage: { filesystem: { rootdirectory: join(dir, 'data') } }, http: { addr: address, secret: 'lab' } }),
  );
  const registry = startIn(namespace, 'docker-registry', ['serve', configFile], { logFile });
  opened.defer(() => registry.end());
  const deadlineMs = Date.now() + START_TIMEOUT_MS;
  for (;;) {
    const log = await readFile(logFile, 'utf8');
    const [, port] = /listening on [^"]*?:(\d+)"/.exec(log) ?? [];
    if (port !== undefined) return { process: registry, port: Number(port), logFile };
    if (registry.exit !== undefined || Date.now() > deadlineMs) throw new Error(`docker-registry did not start: ${log.slice(-500)}`);
    await delay(20, undefined, { signal });
  }
}

async function push(image: Image, url: string, signal: AbortSignal): Promise<void> {
  const base = `${url}/v2/${image.repository}`;
  for (const blob of image.blobs) await pushBlob(blob, base, signal);
  await expect(201, `${base}/manifests/${image.tag}`, { method: 'PUT', body: image.manifest, headers: { 'content-type': image.manifestType }, signal });
}

async function pushBlob(blob: ImageBlob, base: string, signal: AbortSignal): Promise<void> {
  const opened = await expect(202, `${base}/blobs/uploads/`, { method: 'POST', signal });
  const sent = await expect(202, opened, { method: 'PATCH', body: blob.content(), headers: { 'content-type': 'application/octet-stream' }, signal });
  const closing = new URL(sent);
  closing.searchParams.set('digest', blob.digest);
  await expect(201, closing.href, { method: 'PUT', signal });
}

/** @returns the answer's Location */
async function expect(status: number, url: string, init: Parameters<typeof request>[1]): Promise<string> {
  const { statusCode, headers, body } = await request(url, init);
  const text = await body.text();
  if (statusCode !== status) throw new Error(`the origin answered ${statusCode} to a push: ${text}`);
  return String(headers['location'] ?? '');
}
