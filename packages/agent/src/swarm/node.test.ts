import { afterEach, expect, test } from 'vitest';
import { generateKeyPair } from '@libp2p/crypto/keys';
import type { Libp2p } from '@libp2p/interface';
import { reachableAt, startNode, toMultiaddr } from './node.ts';

const nodes: Libp2p[] = [];
afterEach(async () => {
  for (const node of nodes.splice(0)) await node.stop();
});

async function start(listen: string): Promise<Libp2p> {
  const node = await startNode({ privateKey: await generateKeyPair('Ed25519'), listen, banned: () => false });
  nodes.push(node);
  return node;
}

test.each([
  ['10.0.0.7:5051', '/ip4/10.0.0.7/tcp/5051'],
  ['[::1]:5051', '/ip6/::1/tcp/5051'],
  ['host.example:5051', '/dns/host.example/tcp/5051'],
  ['host-a', '/dns/host-a/tcp/99'],
  ['10.0.0.7', '/ip4/10.0.0.7/tcp/99'],
])('%s is %s', (text, expected) => {
  expect(toMultiaddr(text, 99)).toBe(expected);
});

test.each(['', ':5051', '10.0.0.7:', 'host:123456', '999.0.0.1:1', '::1:5051', '/ip4/1.2.3.4/tcp/1', 'a b:1'])('"%s" is refused', (text) => {
  expect(() => toMultiaddr(text, 1)).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
});

test('a port in use is said to be in use, by its flag', async () => {
  const first = await start('127.0.0.1:0');
  const port = /tcp\/(\d+)/.exec(first.getMultiaddrs()[0]!.toString())![1]!;
  await expect(start(`127.0.0.1:${port}`)).rejects.toMatchObject({ code: 'PORT_IN_USE', message: expect.stringContaining('--p2p-listen') as unknown });
});

test('what is announced replaces what is listened on, with the port that was got', async () => {
  const node = await start('127.0.0.1:0');
  const [address] = reachableAt(node, []);
  expect(address).toMatch(/^\/ip4\/127\.0\.0\.1\/tcp\/\d+$/);
  const port = address!.split('/').at(-1);
  expect(reachableAt(node, ['10.9.8.7', 'name.example:1'])).toEqual([`/ip4/10.9.8.7/tcp/${port}`, '/dns/name.example/tcp/1']);
});
