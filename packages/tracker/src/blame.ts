// Which members of the fleet are not believed any more, and why.
//
// A first proven lie costs a member its vouching and its leases; a second blob, or two independent accusers, puts it into
// quarantine. Only an audit by a third party is proof; an audit by one of the two sides costs trust, but never membership.
// Durable: the record of each blamed member is handed to `changed`. Non-goals: finding out who lied (audit.ts).

const PROOFS_TO_QUARANTINE = 2;
const ACCUSERS_TO_QUARANTINE = 2;

/** What is held against one member. */
export interface BlameRecord {
  readonly peer: string;
  readonly distrusted: boolean;
  /** Keys of blobs about which it was proven to have lied, at most two. */
  readonly blobs: readonly string[];
  /** Members that say it sent them bytes which contradict its own digest, at most two. */
  readonly accusers: readonly string[];
}

export interface BlameOutput {
  /** Keep this. */
  changed(record: BlameRecord): void;
  distrust(peer: string): void;
  quarantine(peer: string, reason: string): void;
}

export class Blame {
  readonly #records = new Map<string, BlameRecord>();
  readonly #out: BlameOutput;
  #changes = 0;

  constructor(saved: Iterable<BlameRecord>, out: BlameOutput) {
    for (const record of saved) this.#records.set(record.peer, record);
    this.#out = out;
  }

  /** Another number after each change. */
  get changes(): number {
    return this.#changes;
  }

  /** Whether what `peer` vouches for counts. */
  trusted(peer: string): boolean {
    return !(this.#records.get(peer)?.distrusted ?? false);
  }

  /** `peer` vouched for a digest that is wrong. @param byThird the audit was read by neither side */
  proven(peer: string, blob: string, byThird: boolean): void {
    const before = this.of(peer);
    const blobs = byThird ? [...new Set([...before.blobs, blob])].slice(0, PROOFS_TO_QUARANTINE) : before.blobs;
    this.#change({ ...before, distrusted: true, blobs });
    if (!before.distrusted) this.#out.distrust(peer);
    if (blobs.length >= PROOFS_TO_QUARANTINE && before.blobs.length < PROOFS_TO_QUARANTINE) this.#out.quarantine(peer, 'vouched for wrong chunks of two blobs');
  }

  /** `accuser` says that `peer` sent it wrong bytes. */
  accused(accuser: string, peer: string): void {
    if (accuser === peer || !this.trusted(accuser)) return;
    const before = this.of(peer);
    if (before.accusers.includes(accuser)) return;
    const accusers = [...before.accusers, accuser].slice(0, ACCUSERS_TO_QUARANTINE);
    this.#change({ ...before, accusers });
    if (accusers.length >= ACCUSERS_TO_QUARANTINE) this.#out.quarantine(peer, 'two members got wrong bytes from it');
  }

  /** Nothing is held against `peer` any more. */
  forgive(peer: string): void {
    this.#records.delete(peer);
    this.#changes++;
  }

  /** What is held against `peer`. */
  of(peer: string): BlameRecord {
    return this.#records.get(peer) ?? { peer, distrusted: false, blobs: [], accusers: [] };
  }

  #change(record: BlameRecord): void {
    this.#records.set(record.peer, record);
    this.#changes++;
    this.#out.changed(record);
  }
}
