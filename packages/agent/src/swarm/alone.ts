// The swarm of an agent without a tracker: nobody to trade with, no port to listen on.

import type { Swarm, SwarmHandle } from '../content/ports.ts';

const HANDLE: SwarmHandle = {
  announce: () => undefined,
  reading: () => undefined,
  poke: () => undefined,
  retract: () => undefined,
  distrust: () => undefined,
  importer: () => undefined,
  connect: () => undefined,
  heldByPeer: () => false,
  readByPeer: () => false,
  peers: () => [],
  sources: () => [],
  leave: () => undefined,
};

/** Members are known by the tracker alone; without one there are no peers. */
export const ALONE: Swarm = { join: () => HANDLE, seeded: () => undefined };
