// The noise of libp2p, told that it gets whole messages only.
//
// Its decoder looks for the next message behind each one, and takes the RangeError of an empty buffer for the answer that there is none:
// an error with its stack for every message that comes. And it says when a chunk's bytes have been encrypted, after which nobody here needs them
// (chunk-memory.ts): what lies between the outbox and the cipher may wait for windows and sockets. The connection of the library is adapted from outside; where it has other insides
// nothing is changed, and transport.test.ts fails.

import { noise } from '@chainsafe/libp2p-noise';
import type { Uint8ArrayList } from 'uint8arraylist';
import { release } from '../chunk-memory.ts';

type LengthDecoder = (bytes: { readonly byteLength: number }) => number;

/** What is used of the library's encrypted connection beyond its interface. */
interface Encrypted {
  readonly decoder?: { lengthDecoder: LengthDecoder };
  readonly handshake?: { encrypt(plaintext: Uint8Array | Uint8ArrayList): Uint8Array | Uint8ArrayList };
}

/** Longer than what is there: the decoder waits. */
const NOT_YET = 0xffff;
const LENGTH_BYTES = 2;

export function wholeNoise(): ReturnType<typeof noise> {
  const make = noise();
  return (components) => {
    const encrypter = make(components);
    const secureOutbound = encrypter.secureOutbound.bind(encrypter);
    const secureInbound = encrypter.secureInbound.bind(encrypter);
    encrypter.secureOutbound = async (stream, options) => adapt(await secureOutbound(stream, options));
    encrypter.secureInbound = async (stream, options) => adapt(await secureInbound(stream, options));
    return encrypter;
  };
}

function adapt<Secured extends { readonly connection: object }>(secured: Secured): Secured {
  const { decoder, handshake } = secured.connection as Encrypted;
  if (decoder === undefined || handshake === undefined) return secured;
  const decode = decoder.lengthDecoder;
  decoder.lengthDecoder = (bytes) => (bytes.byteLength < LENGTH_BYTES ? NOT_YET : decode(bytes));
  const encrypt = handshake.encrypt.bind(handshake);
  handshake.encrypt = (plaintext) => {
    const encrypted = encrypt(plaintext);
    const parts = plaintext instanceof Uint8Array ? [plaintext] : [...plaintext];
    // Not now: the lists that this is cut from still count the bytes before what they send next, and freed ones have no length.
    queueMicrotask(() => {
      for (const part of parts) release(part, part.length);
    });
    return encrypted;
  };
  return secured;
}
