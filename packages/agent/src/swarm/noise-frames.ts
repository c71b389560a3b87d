// Cuts what a socket gives into whole noise messages (noise spec, section 13: two bytes of length, big endian, then so many bytes).
//
// A slow link hands over a message of 64 KiB in thirty reads. Nobody can decrypt a part of it, yet libp2p carries each read through
// three layers of events and decrypts piece by piece: that was half of an agent's processor time. Here a message is put together in
// one buffer and handed on once.
//
// Before noise the connection speaks multistream-select. A peer whose first bytes are not the two lines expected of it (it refuses,
// or its library talks otherwise) is passed through as it comes: slower, never wrong.
// Bound: one message per connection, 64 KiB.

/** What either side sends before its first noise message: `/multistream/1.0.0\n` and `/noise\n`, each after its length. */
const GREETING = Buffer.from('\x13/multistream/1.0.0\n\x07/noise\n', 'latin1');
const LENGTH_BYTES = 2;
/** Chunks come in messages of this size and more. Noise decrypts them into memory of their own, shorter ones (below 1200 bytes) in place. */
const RECLAIMED_BYTES = 16 * 1024;
const LONGEST_BYTES = LENGTH_BYTES + 0xffff;

/** Memory of messages that were dealt with, for the next ones of any connection: else each is 64 KiB for V8 to collect. */
const spares: ArrayBufferLike[] = [];
const MAX_SPARES = 16;

export class NoiseFrames {
  #greeted = 0;
  #foreign = false;
  /** The first byte of a length whose second has not come. */
  #half: number | undefined;
  #message: Uint8Array | undefined;
  #filled = 0;

  /** Whether a long message has begun to come in, and more of it is on its way. */
  get midway(): boolean {
    return this.#message !== undefined && this.#message.length >= RECLAIMED_BYTES;
  }

  /** @param bytes are the caller's again after the call @returns whole messages, one buffer for each or for several in a row */
  push(bytes: Uint8Array): Uint8Array[] {
    if (this.#foreign) return [Buffer.from(bytes)];
    const whole: Uint8Array[] = [];
    let at = this.#greet(bytes);
    if (at > 0) whole.push(Buffer.from(bytes.subarray(0, at)));
    if (this.#foreign) return [Buffer.from(bytes)];
    at = this.#complete(bytes, at, whole);
    let end = at;
    while (bytes.length - end >= LENGTH_BYTES) {
      const next = end + LENGTH_BYTES + lengthAt(bytes, end);
      if (next > bytes.length) break;
      end = next;
    }
    if (end > at) whole.push(Buffer.from(bytes.subarray(at, end)));
    this.#begin(bytes.subarray(end));
    return whole;
  }

  /** The message, which `push` gave, has been dealt with to its end: nobody looks at its bytes any more. */
  reclaim(message: Uint8Array): void {
    if (message.length >= RECLAIMED_BYTES && message.buffer.byteLength === LONGEST_BYTES && spares.length < MAX_SPARES) spares.push(message.buffer);
  }

  /** @returns how many of these bytes belong to the greeting */
  #greet(bytes: Uint8Array): number {
    let at = 0;
    while (this.#greeted < GREETING.length && at < bytes.length) {
      if (bytes[at] !== GREETING[this.#greeted]) {
        this.#foreign = true;
        return at;
      }
      at++;
      this.#greeted++;
    }
    return at;
  }

  /** Goes on with the message that was begun. @returns where the next one starts */
  #complete(bytes: Uint8Array, from: number, whole: Uint8Array[]): number {
    let at = from;
    if (this.#half !== undefined && at < bytes.length) {
      this.#start((this.#half << 8) | bytes[at]!);
      at++;
    }
    if (this.#message === undefined) return at;
    const used = Math.min(bytes.length - at, this.#message.length - this.#filled);
    this.#message.set(bytes.subarray(at, at + used), this.#filled);
    this.#filled += used;
    if (this.#filled === this.#message.length) {
      whole.push(this.#message);
      this.#message = undefined;
    }
    return at + used;
  }

  #begin(rest: Uint8Array): void {
    if (rest.length === 0) return;
    if (rest.length < LENGTH_BYTES) {
      this.#half = rest[0];
      return;
    }
    this.#start(lengthAt(rest, 0));
    this.#message!.set(rest.subarray(LENGTH_BYTES), LENGTH_BYTES);
    this.#filled = rest.length;
  }

  #start(length: number): void {
    this.#half = undefined;
    // Not zeroed: it is handed on only when every byte has been written.
    this.#message = bufferOf(LENGTH_BYTES + length);
    this.#message[0] = length >> 8;
    this.#message[1] = length & 0xff;
    this.#filled = LENGTH_BYTES;
  }
}

function bufferOf(length: number): Uint8Array {
  if (length < RECLAIMED_BYTES) return Buffer.allocUnsafeSlow(length);
  return Buffer.from(spares.pop() ?? Buffer.allocUnsafeSlow(LONGEST_BYTES).buffer, 0, length);
}

function lengthAt(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!;
}
