// What clients send that are not at hand everywhere, request by request (sequences/), against an agent that has nothing, and once more against
// one that has it all.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ReferenceRegistry } from '../conformance/reference-registry.ts';
import { pushEveryKind, type EveryKind } from '../support/every-kind.ts';
import { TestFleet, type TestAgent } from '../support/fleet.ts';
import { Content } from './sequences/content.ts';
import { daemons } from './sequences/daemons.ts';
import { goClients } from './sequences/go-clients.ts';
import { partialReaders } from './sequences/partial.ts';
import { play } from './sequences/sequence.ts';

const REPOSITORY = 'library/kinds';
const SEQUENCES = [...goClients, ...daemons, ...partialReaders];

describe('recorded clients', () => {
  let registry: ReferenceRegistry;
  let kinds: EveryKind;
  let content: Content;
  let fleet: TestFleet;
  let full: TestAgent;
  let count = 0;

  beforeAll(async () => {
    registry = await ReferenceRegistry.start();
    kinds = await pushEveryKind(registry.url, REPOSITORY, 'http://127.0.0.1:1/layer');
    content = await Content.load(registry.url, REPOSITORY, kinds);
    fleet = await TestFleet.start({ 'docker.io': registry.url });
    full = await newAgent();
    for (const { client: _, ...sequence } of SEQUENCES) await play({ ...sequence, client: 'warming up' }, full.url, content);
  });

  afterAll(async () => {
    await fleet?.stop();
    await registry?.close();
  });

  /** Nothing of the image is at it, or at anybody that it knows. */
  const newAgent = (): Promise<TestAgent> => fleet.agent(`agent-${count++}`, { defaultOrigin: 'docker.io' }, { alone: true });

  it.each(SEQUENCES)('$client: $does', async (sequence) => {
    const empty = await newAgent();
    try {
      await play(sequence, empty.url, content);
    } finally {
      await empty.stop();
    }
    const before = await full.bytes();
    await play(sequence, full.url, content);
    const after = await full.bytes();
    expect(after.origin).toBe(before.origin);
  });
});
