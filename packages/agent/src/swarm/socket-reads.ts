// Socket reads into one buffer of the process, instead of 64 KiB of new memory for each.
//
// A slow link gives a few KiB per read, and each read would be an object for V8 to collect: that was a third of an agent's processor time.
// Node has this for sockets that net.connect makes (option `onread`), not for those that a server accepts, nor after the fact. The fields
// that the option sets are found by their names on a socket of our own; where Node has them no more, or bytes have been read already,
// nothing is changed, and transport.test.ts fails.

import { Socket } from 'node:net';

const READ_BYTES = 64 * 1024;

/** What a socket reads into. All of a process: a read is handed on before the next one begins. */
const shared = Buffer.allocUnsafeSlow(READ_BYTES);

type Fields = Record<symbol, unknown> & { readonly _handle?: { useUserBuffer?(buffer: Uint8Array): void } | null };

const [bufferField, callbackField] = fieldsOfOnread();

/**
 * `take` gets what the socket reads, in place of its 'data' event. The bytes are `take`'s until it returns.
 * @returns false: the socket could not be changed
 */
export function readIntoShared(socket: Socket, take: (bytes: Uint8Array) => void): boolean {
  const fields = socket as unknown as Fields;
  const handle = fields._handle;
  if (bufferField === undefined || callbackField === undefined || typeof handle?.useUserBuffer !== 'function' || socket.bytesRead > 0) return false;
  fields[bufferField] = shared;
  fields[callbackField] = (bytes: number): boolean => {
    take(shared.subarray(0, bytes));
    return true;
  };
  handle.useUserBuffer(shared);
  return true;
}

function fieldsOfOnread(): (symbol | undefined)[] {
  const buffer = Buffer.alloc(1);
  const callback = (): boolean => true;
  const probe = new Socket({ onread: { buffer, callback } });
  const symbols = Object.getOwnPropertySymbols(probe);
  const found = [buffer, callback].map((value) => symbols.find((symbol) => (probe as unknown as Fields)[symbol] === value));
  probe.destroy();
  return found;
}
