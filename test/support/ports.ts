// Ports for what a test starts later, or starts again at the same address.
//
// Asked of the kernel (port 0) they would come from the range that it also takes from for every connection and every other test's server: between
// here and the program's start it would now and then give one away. These come from below that range.

import { once } from 'node:events';
import { createServer } from 'node:net';

const FIRST = 10_240;
/** Linux begins there; others later. */
const END = 32_768;

/** Ports of 127.0.0.1 that nobody listens on, all different. */
export async function freePorts(count: number): Promise<number[]> {
  const ports = new Set<number>();
  while (ports.size < count) {
    const port = FIRST + Math.floor(Math.random() * (END - FIRST));
    if (await isFree(port)) ports.add(port);
  }
  return [...ports];
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  const listens = await new Promise<boolean>((resolve) => {
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => resolve(true));
  });
  if (listens) await once(server.close(), 'close');
  return listens;
}
