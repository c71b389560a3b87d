// Fewer window updates: yamux as libp2p has it tells the sender of every frame that was taken, in a noise message and a packet of its
// own; here it is told when half of the window is used up (yamux spec, "flow control": when to update is the receiver's to choose).
//
// The stream object of the library is adapted from outside; where it has other insides it stays as it is, and transport.test.ts fails.

import type { Stream } from '@libp2p/interface';

/** What is used of a yamux stream beyond its interface. */
interface YamuxStream extends Stream {
  readonly state: number;
  readonly recvWindow: number;
  readonly recvWindowCapacity: number;
  sendWindowUpdate(): void;
}

/** StreamState.Established of the library: both sides have said so, an update carries nothing else. */
const ESTABLISHED = 3;

export function updateWindowByHalves(given: Stream): void {
  const stream = given as YamuxStream;
  if (typeof stream.sendWindowUpdate !== 'function') return;
  const update = stream.sendWindowUpdate.bind(stream);
  stream.sendWindowUpdate = () => {
    if (stream.state === ESTABLISHED && stream.recvWindowCapacity > stream.recvWindow / 2) return;
    update();
  };
}
