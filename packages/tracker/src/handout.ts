// Whom agents are told to connect to: the standing mesh of the fleet, and for a blob a few sources outside of it.
//
// Invariants of the mesh: symmetric; nobody has more than `max` neighbours; up to `max` + 1 members everybody knows
// everybody; beyond, everybody has at least `min` and the graph is connected. Joins and leaves change few edges, because
// every edge is a connection that costs 4 ms of processor time to open. About half of a member's neighbours stand in its own zone, where it has
// one and they are there, so that chunks go round in the zone; the others bring them in. Pure: randomness is handed in.

/** How many neighbours a member has: as good as equally many, as whoever has fewer than others is served last (docs/decisions/0024). */
export interface Degrees {
  readonly min: number;
  /** What a member that joins is given. */
  readonly target: number;
  /** Even, so that a part in which everybody has so many has no bridges. */
  readonly max: number;
}

export const DEGREES: Degrees = { min: 9, target: 10, max: 10 };
/** Neighbours that are kept for other zones. */
const OUTSIDE = 4;
/** Random members looked at for one new edge before all are. */
const TRIES = 24;

export class Mesh {
  readonly #random: () => number;
  readonly #degrees: Degrees;
  readonly #neighbours = new Map<string, Set<string>>();
  /** The members in an array, and where each stands, to draw one at random. */
  readonly #members: string[] = [];
  readonly #at = new Map<string, number>();
  readonly #zoneOf = new Map<string, string>();
  readonly #inZone = new Map<string, string[]>();
  readonly #changed = new Set<string>();
  readonly #thin = new Set<string>();
  #mayBeSplit = false;

  constructor(random: () => number, degrees = DEGREES) {
    this.#random = random;
    this.#degrees = degrees;
  }

  get size(): number {
    return this.#members.length;
  }

  /** True while everybody is everybody's neighbour. */
  get full(): boolean {
    return this.size <= this.#degrees.max + 1;
  }

  has(peer: string): boolean {
    return this.#neighbours.has(peer);
  }

  neighbours(peer: string): ReadonlySet<string> {
    return this.#neighbours.get(peer) ?? new Set();
  }

  /** Adds a member, connected. One that is there already is told again, and so are its neighbours: its addresses changed. */
  add(peer: string, zone?: string): void {
    this.#changed.add(peer);
    this.#leaveZone(peer);
    if (zone !== undefined) this.#enterZone(peer, zone);
    if (this.#neighbours.has(peer)) {
      for (const other of this.neighbours(peer)) this.#changed.add(other);
      return;
    }
    this.#neighbours.set(peer, new Set());
    this.#at.set(peer, this.#members.push(peer) - 1);
    this.#fill(peer, this.#degrees.target);
  }

  remove(peer: string): void {
    const neighbours = this.#neighbours.get(peer);
    if (neighbours === undefined) return;
    for (const other of neighbours) {
      this.#neighbours.get(other)!.delete(peer);
      this.#changed.add(other);
      this.#thin.add(other);
    }
    this.#neighbours.delete(peer);
    this.#leaveZone(peer);
    this.#changed.delete(peer);
    this.#thin.delete(peer);
    const at = this.#at.get(peer)!;
    const last = this.#members.pop()!;
    this.#at.delete(peer);
    if (last !== peer) {
      this.#members[at] = last;
      this.#at.set(last, at);
    }
    this.#mayBeSplit = true;
  }

  /** Repairs what leaves have torn. @returns the members whose neighbours changed since the last call */
  settle(): string[] {
    if (this.full && this.#mayBeSplit) for (const peer of this.#members) this.#fill(peer, this.#degrees.max);
    else for (const peer of this.#thin) if (this.#degree(peer) < this.#degrees.min) this.#fill(peer, this.#degrees.min);
    this.#thin.clear();
    if (this.#mayBeSplit && !this.full) this.#join();
    this.#mayBeSplit = false;
    const changed = [...this.#changed];
    this.#changed.clear();
    return changed;
  }

  #degree(peer: string): number {
    return this.#neighbours.get(peer)!.size;
  }

  /** Gives `peer` neighbours up to `wanted`: members with room, else it is put into the middle of an edge. */
  #fill(peer: string, wanted: number): void {
    const enough = this.full ? this.size - 1 : Math.min(wanted, this.size - 1);
    if (!this.full) this.#fillInside(peer, Math.min(Math.floor(enough / 2), enough - this.#degree(peer) + this.#inside(peer)));
    while (this.#degree(peer) < enough) {
      const other = this.#draw((member) => member !== peer && this.#degree(member) < this.#degrees.max && !this.neighbours(peer).has(member));
      if (other !== undefined) this.#link(peer, other);
      else if (this.#degree(peer) + 2 > this.#degrees.max || this.#degree(peer) >= this.#degrees.min || !this.#splitEdge(peer)) return;
    }
  }

  /** Gives `peer` up to `wanted` neighbours of its own zone: members with room, else it is put into the middle of an edge that leads out of it. */
  #fillInside(peer: string, wanted: number): void {
    const zone = this.#zoneOf.get(peer);
    if (zone === undefined) return;
    const known = this.neighbours(peer);
    const mates = this.#inZone.get(zone)!;
    const isNew = (member: string): boolean => member !== peer && !known.has(member);
    const fits = (member: string): boolean => isNew(member) && this.#inside(member) < this.#degrees.max - OUTSIDE;
    const waysOut = (member: string): string[] => [...this.neighbours(member)].filter((other) => isNew(other) && this.#zoneOf.get(other) !== zone);
    while (this.#inside(peer) < wanted) {
      const free = this.#drawFrom(mates, (member) => fits(member) && this.#degree(member) < this.#degrees.max);
      if (free !== undefined) {
        this.#link(peer, free);
        continue;
      }
      if (this.#degree(peer) + 2 > this.#degrees.max) return;
      const full = this.#drawFrom(mates, (member) => fits(member) && waysOut(member).length > 0);
      if (full === undefined) return;
      const ends = waysOut(full);
      this.#putInto(peer, full, ends[Math.floor(this.#random() * ends.length)]!);
    }
  }

  /** Neighbours in its own zone. */
  #inside(peer: string): number {
    const zone = this.#zoneOf.get(peer);
    if (zone === undefined) return 0;
    let inside = 0;
    for (const other of this.neighbours(peer)) if (this.#zoneOf.get(other) === zone) inside++;
    return inside;
  }

  #enterZone(peer: string, zone: string): void {
    this.#zoneOf.set(peer, zone);
    const members = this.#inZone.get(zone);
    if (members === undefined) this.#inZone.set(zone, [peer]);
    else members.push(peer);
  }

  #leaveZone(peer: string): void {
    const zone = this.#zoneOf.get(peer);
    const members = zone === undefined ? undefined : this.#inZone.get(zone);
    if (zone === undefined || members === undefined) return;
    this.#zoneOf.delete(peer);
    members.splice(members.indexOf(peer), 1);
    if (members.length === 0) this.#inZone.delete(zone);
  }

  /** u-v becomes u-peer-v: the degrees of both stay, and so does every path. */
  #splitEdge(peer: string): boolean {
    const known = this.neighbours(peer);
    const u = this.#draw((member) => member !== peer && !known.has(member) && [...this.neighbours(member)].some((v) => v !== peer && !known.has(v)));
    if (u === undefined) return false;
    const ends = [...this.neighbours(u)].filter((v) => v !== peer && !known.has(v));
    const v = ends[Math.floor(this.#random() * ends.length)]!;
    this.#putInto(peer, u, v);
    return true;
  }

  #putInto(peer: string, u: string, v: string): void {
    this.#unlink(u, v);
    this.#link(peer, u);
    this.#link(peer, v);
  }

  /** A random member that fits; all are looked at before there is none. */
  #draw(fits: (member: string) => boolean): string | undefined {
    return this.#drawFrom(this.#members, fits);
  }

  #drawFrom(members: readonly string[], fits: (member: string) => boolean): string | undefined {
    const { length } = members;
    for (let tries = 0; tries < Math.min(TRIES, length); tries++) {
      const member = members[Math.floor(this.#random() * length)]!;
      if (fits(member)) return member;
    }
    const start = Math.floor(this.#random() * length);
    for (let step = 0; step < length; step++) {
      const member = members[(start + step) % length]!;
      if (fits(member)) return member;
    }
    return undefined;
  }

  /** Connects the parts that leaves have made, should there be several. */
  #join(): void {
    const [whole, ...parts] = this.#parts();
    for (const part of parts) {
      this.#bridge(whole!, part);
      whole!.push(...part);
    }
  }

  /** Where all members of a part have `max` neighbours, an even number, no edge is a bridge: one can be taken out. */
  #bridge(left: readonly string[], right: readonly string[]): void {
    const [a, b] = [this.#spare(left), this.#spare(right)];
    this.#link(a ?? this.#open(left), b ?? this.#open(right));
  }

  #spare(part: readonly string[]): string | undefined {
    return part.find((member) => this.#degree(member) < this.#degrees.max);
  }

  /** Takes an edge out of a full part. @returns one end, which has room now */
  #open(part: readonly string[]): string {
    const end = part[0]!;
    this.#unlink(end, [...this.neighbours(end)][0]!);
    return end;
  }

  #parts(): string[][] {
    const parts: string[][] = [];
    const seen = new Set<string>();
    for (const start of this.#members) {
      if (seen.has(start)) continue;
      const part = [start];
      seen.add(start);
      for (const member of part) {
        for (const other of this.neighbours(member)) {
          if (seen.has(other)) continue;
          seen.add(other);
          part.push(other);
        }
      }
      parts.push(part);
    }
    return parts;
  }

  #link(a: string, b: string): void {
    this.#neighbours.get(a)!.add(b);
    this.#neighbours.get(b)!.add(a);
    this.#changed.add(a).add(b);
  }

  #unlink(a: string, b: string): void {
    this.#neighbours.get(a)!.delete(b);
    this.#neighbours.get(b)!.delete(a);
    this.#changed.add(a).add(b);
    this.#thin.add(a).add(b);
  }
}
