// Agents of other releases, as a host of this one meets them: real connections, hellos and frames written by hand.

import { generateKeyPair } from '@libp2p/crypto/keys';
import { multiaddr } from '@multiformats/multiaddr';
import { PROTOCOL_ID, PROTOCOL_VERSION } from '@flotilla/shared/exchange';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { MemoryMember, randomBlob } from './memory-member.ts';
import { startNode } from './node.ts';
import { RawPeer, RawStream } from './raw-peer.ts';
import { TestFleet, type TestHost } from './test-fleet.ts';

const fleet = new TestFleet();
let host: TestHost;
let raw: RawPeer;

beforeEach(async () => {
  host = await fleet.start();
  raw = await RawPeer.start();
});

afterEach(async () => {
  await raw.stop();
  await fleet.stop();
});

/** A frame of a kind that nobody knows: field 31 of the oneof, empty. */
const UNKNOWN_FRAME = Uint8Array.of(3, 0xfa, 0x01, 0x00);

async function greet(version: number): Promise<RawStream> {
  const stream = await raw.open(host.info);
  stream.send({ type: 'hello', version, membership: fleet.membership(raw.peerId), capabilities: ['teleport'], agentVersion: 'other' });
  return stream;
}

/** The host serves a chunk to it. */
async function trades(stream: RawStream): Promise<void> {
  const { key, bytes } = randomBlob(70_000);
  host.holdings.add(new MemoryMember(key, bytes));
  stream.send({ type: 'interest', channel: 9, digest: key.digest, size: key.size });
  await stream.next('bitfield');
  stream.send({ type: 'request', channel: 9, index: 0 });
  expect((await stream.next('chunk')).index).toBe(0);
}

describe('a peer', () => {
  test('one version older: it trades', async () => {
    await trades(await greet(PROTOCOL_VERSION - 1));
  });

  test('one version newer: it trades, and frames of unknown kinds are passed over and counted', async () => {
    const stream = await greet(PROTOCOL_VERSION + 1);
    await host.counted('sessions_opened', 1);
    stream.stream.send(UNKNOWN_FRAME);
    await trades(stream);
    expect(host.counts.skipped_frames).toBe(1);
    expect(host.counts.protocol_faults).toBe(0);
  });

  test('of this version that sends unknown frames breaks the protocol', async () => {
    const stream = await greet(PROTOCOL_VERSION);
    await host.counted('sessions_opened', 1);
    stream.stream.send(UNKNOWN_FRAME);
    await stream.closed;
    expect(host.counts.protocol_faults).toBe(1);
  });

  test('two versions newer: refused, and counted as such', async () => {
    const stream = await greet(PROTOCOL_VERSION + 2);
    await stream.closed;
    expect(host.counts.foreign_versions).toBe(1);
    expect(host.counts.sessions_opened).toBe(0);
    expect(host.counts.protocol_faults).toBe(0);
  });

  test('that offers a later protocol id first is talked to by the one that both know', async () => {
    const connection = await raw.node.dial(host.info.addresses.map((address) => multiaddr(`${address}/p2p/${host.info.peerId}`)));
    const opened = await connection.newStream(['/flotilla/exchange/2', PROTOCOL_ID]);
    expect(opened.protocol).toBe(PROTOCOL_ID);
    const stream = new RawStream(opened);
    stream.hello(fleet.membership(raw.peerId));
    await trades(stream);
  });

  test('that speaks later protocol ids only: no session, counted', async () => {
    const foreign = await startNode({ privateKey: await generateKeyPair('Ed25519'), listen: '127.0.0.1:0', banned: () => false });
    try {
      await foreign.handle('/flotilla/exchange/2', (stream) => stream.abort(new Error('not reached')));
      host.swarm.setMesh([{ peerId: foreign.peerId.toString(), addresses: foreign.getMultiaddrs().map((address) => address.toString().split('/p2p/')[0]!) }]);
      await host.counted('foreign_versions', 1);
      expect(host.counts.sessions_opened).toBe(0);
    } finally {
      await foreign.stop();
    }
  });
});
