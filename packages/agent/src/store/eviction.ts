// What must go so that something else may come. A pure decision: figures in, names out.
//
// Invariants: nothing is given up for a blob that would not fit even then; nothing beyond need is given up; candidates go
// in the order in which they are offered (blobs in use are not offered at all). What the limits ask for by themselves
// (the limit was lowered, others have filled the disk) is given up in any case, as far as it goes.

/** How full the store and its file system are. Bytes, except for the counts of files. */
export interface Fullness {
  /** What the store takes, with all that is promised to open partials. */
  readonly usedBytes: number;
  readonly limitBytes: number;
  readonly files: number;
  readonly maxFiles: number;
  /** Free on the file system now, whoever fills it. */
  readonly freeBytes: number;
  readonly minFreeBytes: number;
  /** Of `usedBytes`, what is promised but not yet written: it will come off `freeBytes`. */
  readonly promisedBytes: number;
}

/** Something that may be given up. */
export interface Candidate<T> {
  readonly item: T;
  readonly bytes: number;
}

export interface EvictionPlan<T> {
  /** Whether there is room for what is needed once `evict` is gone. */
  readonly admitted: boolean;
  readonly evict: readonly T[];
}

/** What is wanted: bytes, and how many files more. */
export interface Need {
  readonly bytes: number;
  readonly files: number;
}

export const NO_NEED: Need = { bytes: 0, files: 0 };

/** @param candidates in the order in which they should go; read only as far as needed */
export function planEviction<T>(now: Fullness, need: Need, candidates: Iterable<Candidate<T>>): EvictionPlan<T> {
  const missing = shortfall(now, need);
  const forced = shortfall(now, NO_NEED);
  const taken: Candidate<T>[] = [];
  let bytes = 0;
  if (!covers(missing, bytes, taken.length)) {
    for (const candidate of candidates) {
      taken.push(candidate);
      bytes += candidate.bytes;
      if (covers(missing, bytes, taken.length)) break;
    }
  }
  if (covers(missing, bytes, taken.length)) return { admitted: true, evict: taken.map(({ item }) => item) };
  let keepFrom = 0;
  for (let freed = 0; keepFrom < taken.length && !covers(forced, freed, keepFrom); keepFrom++) freed += taken[keepFrom]!.bytes;
  return { admitted: false, evict: taken.slice(0, keepFrom).map(({ item }) => item) };
}

/** What has to be freed for `need` to fit; negative where there is room to spare. */
function shortfall(now: Fullness, need: Need): Need {
  const overLimit = now.usedBytes + need.bytes - now.limitBytes;
  const overFree = now.minFreeBytes - (now.freeBytes - now.promisedBytes - need.bytes);
  return { bytes: Math.max(overLimit, overFree), files: now.files + need.files - now.maxFiles };
}

function covers(missing: Need, bytes: number, files: number): boolean {
  return bytes >= missing.bytes && files >= missing.files;
}
