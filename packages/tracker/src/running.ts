// Where the running tracker answers, told in DIR/address to the commands that want to reach it.

import { rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { readIfThere, writeSecret } from './durable-file.ts';

const PROBE_MS = 2_000;

/** @param url as operators reach it from this machine */
export async function announceAddress(dataDir: string, url: string): Promise<void> {
  await writeSecret(addressFile(dataDir), `${url}\n`);
}

export async function withdrawAddress(dataDir: string): Promise<void> {
  await rm(addressFile(dataDir), { force: true });
}

/** @returns the address of the tracker that uses this folder; undefined where none answers */
export async function runningAddress(dataDir: string): Promise<string | undefined> {
  const url = (await readIfThere(addressFile(dataDir)))?.trim();
  return url !== undefined && URL.canParse(url) && (await answers(new URL(url))) ? url : undefined;
}

function addressFile(dataDir: string): string {
  return join(dataDir, 'address');
}

function answers({ hostname, port, protocol }: URL): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = connect({ host: hostname.replace(/^\[|\]$/g, ''), port: Number(port || (protocol === 'https:' ? 443 : 80)), timeout: PROBE_MS });
  socket.once('connect', () => resolve(true));
  socket.once('timeout', () => resolve(false));
  socket.once('error', () => resolve(false));
  return promise.finally(() => socket.destroy());
}
