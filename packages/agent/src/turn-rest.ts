// Moderates how often the event loop wakes for peers, as network cards moderate their interrupts.
//
// A slow link hands over a chunk in thirty pieces, and each wakes a thread whose caches have gone cold: an agent in a crowd woke for next to
// nothing some 300 times a second. So after a turn that left messages half read the loop rests for a moment, and what comes meanwhile
// is read at one go. How long is learned: longer while a turn finds little, shorter when it finds much, or when nothing is half
// read any more: then the peers have been waiting for this host (docs/decisions/0019). What goes to peers and to clients and what comes from the
// origin counts as well, so whatever of it is fast soon ends the rests; and there is none while a client waits for an answer to begin.
//
// Only for a process whose loop is the agent's alone: it stands still. Pure but for what is handed in.

/** What is read is handed on no later than that. */
export const MAX_REST_MS = 45;
/** Shorter is not worth the call. */
const MIN_REST_MS = 0.5;
/** So much in one turn, of all kinds together, is what a rest is for: a host in a crowd sends and serves about what it reads. */
const LITTLE_BYTES = 192 * 1024;
const MUCH_BYTES = 384 * 1024;

/** What a transport tells of its sockets. */
export interface ReadPace {
  /** Bytes went another way than `read` tells. */
  moved(bytes: number): void;
  /** A socket was read. */
  read(bytes: number): void;
  /** One more connection (1), or one fewer (-1), is in the middle of a long message. */
  midway(by: 1 | -1): void;
}

export interface TurnRestComponents {
  /** Stands still for so many ms. */
  readonly sleep: (ms: number) => void;
  /** Calls back when all that this turn of the loop has found was dealt with. */
  readonly afterTurn: (act: () => void) => void;
}

export class TurnRest implements ReadPace {
  readonly #with: TurnRestComponents;
  #midway = 0;
  #bytes = 0;
  #armed = false;
  #clientWaits = (): boolean => false;
  #restMs = MIN_REST_MS;
  #restedMs = 0;

  constructor(components: TurnRestComponents) {
    this.#with = components;
  }

  /** How long it has stood still since it began, in ms. */
  get restedMs(): number {
    return this.#restedMs;
  }

  read(bytes: number): void {
    this.#bytes += bytes;
    if (this.#armed) return;
    this.#armed = true;
    this.#with.afterTurn(() => this.#turnEnded());
  }

  moved(bytes: number): void {
    this.#bytes += bytes;
  }

  /** @param clientWaits whether a client's request has not been answered yet: then the loop does not rest */
  attend(clientWaits: () => boolean): void {
    this.#clientWaits = clientWaits;
  }

  midway(by: 1 | -1): void {
    this.#midway += by;
  }

  #turnEnded(): void {
    const bytes = this.#bytes;
    this.#bytes = 0;
    this.#armed = false;
    if (this.#midway === 0 || bytes > MUCH_BYTES) this.#restMs = Math.max(MIN_REST_MS / 2, this.#restMs / 2);
    else if (bytes < LITTLE_BYTES) this.#restMs = Math.min(MAX_REST_MS, this.#restMs * 1.25);
    if (this.#midway === 0 || this.#restMs < MIN_REST_MS || this.#clientWaits()) return;
    this.#with.sleep(this.#restMs);
    this.#restedMs += this.#restMs;
  }
}

/** Of this process. */
export function turnRest(): TurnRest {
  const never = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
  return new TurnRest({
    sleep: (ms) => void Atomics.wait(never, 0, 0, ms),
    // Immediates come after the sockets of a turn; the second ones after what the sockets have put off to the first.
    afterTurn: (act) => void setImmediate(() => setImmediate(act)),
  });
}
