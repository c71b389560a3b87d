// Who of each zone has a seat among the importers of one blob (shared/import-seats says what a seat means).
//
// Seats go to members that fetch the whole blob, in the order of their coming; a freed one to who waits the longest, else to the last.
// So a join or a leave changes one seat, and beyond MAX_IMPORT_SEATS it is told to one member only.
// Invariants: the seats of a zone are numbered without gaps; nobody has two; a member without a zone has none and is told nothing.
// Pure. Non-goals: which chunk is whose (each member reckons that itself), members that hold all of it.

import { MAX_IMPORT_SEATS, type ImportSeat } from '@flotilla/shared/import-seats';

interface Zone {
  readonly seated: string[];
  /** Would take a seat, oldest first. */
  readonly waiting: Set<string>;
  /** Take part, but bring in only what they need themselves. */
  readonly others: Set<string>;
}

export class ImportSeats {
  readonly #zones = new Map<string, Zone>();
  readonly #zoneOf = new Map<string, string>();
  /** To be told. */
  readonly #changed = new Set<string>();

  /** `peer` takes part. @param able it fetches all of the blob, and passes it on */
  put(peer: string, zone: string | undefined, able: boolean): void {
    if (this.#zoneOf.get(peer) !== zone) this.remove(peer);
    if (zone === undefined) return;
    let members = this.#zones.get(zone);
    if (members === undefined) this.#zones.set(zone, (members = { seated: [], waiting: new Set(), others: new Set() }));
    if (!this.#zoneOf.has(peer)) this.#changed.add(peer);
    this.#zoneOf.set(peer, zone);
    if (able === (members.seated.includes(peer) || members.waiting.has(peer))) {
      if (!able) members.others.add(peer);
      return;
    }
    if (!able) {
      this.#unseat(peer, members);
      members.others.add(peer);
      return;
    }
    members.others.delete(peer);
    if (members.seated.length >= MAX_IMPORT_SEATS) members.waiting.add(peer);
    else {
      members.seated.push(peer);
      this.#tellAll(members);
    }
  }

  remove(peer: string): void {
    const zone = this.#zoneOf.get(peer);
    const members = zone === undefined ? undefined : this.#zones.get(zone);
    if (zone === undefined || members === undefined) return;
    this.#zoneOf.delete(peer);
    this.#unseat(peer, members);
    members.others.delete(peer);
    this.#changed.delete(peer);
    if (members.seated.length + members.others.size === 0) this.#zones.delete(zone);
  }

  /** Whether anybody is to be told of a seat. */
  get due(): boolean {
    return this.#changed.size > 0;
  }

  /** Seats that changed since the last call, and whom to tell. */
  takeChanged(): { readonly peer: string; readonly seat: ImportSeat }[] {
    const changed = [...this.#changed].map((peer) => ({ peer, seat: this.#seatOf(peer) }));
    this.#changed.clear();
    return changed;
  }

  #seatOf(peer: string): ImportSeat {
    const { seated } = this.#zones.get(this.#zoneOf.get(peer)!)!;
    const seat = seated.indexOf(peer);
    return { seats: seated.length, ...(seat >= 0 && { seat }) };
  }

  #unseat(peer: string, members: Zone): void {
    const { seated, waiting } = members;
    if (waiting.delete(peer)) return;
    const seat = seated.indexOf(peer);
    if (seat < 0) return;
    this.#changed.add(peer);
    const [next] = waiting;
    if (next !== undefined) {
      waiting.delete(next);
      seated[seat] = next;
      this.#changed.add(next);
      return;
    }
    const last = seated.pop()!;
    if (last !== peer) seated[seat] = last;
    this.#tellAll(members);
  }

  #tellAll({ seated, waiting, others }: Zone): void {
    for (const group of [seated, waiting, others]) for (const peer of group) this.#changed.add(peer);
  }
}
