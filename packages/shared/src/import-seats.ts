// Who of a zone brings which chunk of a blob into it.
//
// The importers of a blob in a zone have numbered seats. For each chunk every seat has a score, and the highest brings the chunk in;
// the others take it from there, or step in one after the other where it does not come. So nobody has to be asked chunk by chunk, and where a seat is
// added or the last one taken away only the chunks of that seat change hands. All must score alike: this belongs to the exchange protocol.
// Non-goals: who gets a seat (the tracker's import-seats.ts), when somebody steps in (the agent's imports.ts).

/** Seats of one blob in one zone. More importers than this are of no use to a narrow link, and each change has to be told to all of them. */
export const MAX_IMPORT_SEATS = 16;

/** One agent's seat among those of its zone. */
export interface ImportSeat {
  /** 0: nobody is to bring anything in for others, so everybody may. */
  readonly seats: number;
  /** Absent: it has none, and comes after all that have. */
  readonly seat?: number;
}

/** What tells the chunks of one blob from those of another: the first 32 bits of its digest. @param digest `sha256:<hex>` */
export function importSalt(digest: string): number {
  return Number.parseInt(digest.slice(digest.indexOf(':') + 1, digest.indexOf(':') + 9), 16) >>> 0;
}

/** How many importers come before this one for chunk `index`; 0: it brings the chunk in. */
export function importRank(salt: number, index: number, { seats, seat }: ImportSeat): number {
  if (seat === undefined) return seats;
  const own = score(salt, index, seat);
  let rank = 0;
  for (let other = 0; other < seats; other++) {
    const their = score(salt, index, other);
    if (other !== seat && (their > own || (their === own && other < seat))) rank++;
  }
  return rank;
}

/** 32 bits, well mixed. */
function score(salt: number, index: number, seat: number): number {
  let mixed = (salt + Math.imul(index, 0x9e3779b1) + Math.imul(seat + 1, 0x85ebca6b)) >>> 0;
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x7feb352d);
  mixed = Math.imul(mixed ^ (mixed >>> 15), 0x846ca68b);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}
