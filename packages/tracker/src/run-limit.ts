// How many runs of one blob may be read at its origin at once.
//
// Starts with 3, because the first readers of a small blob should not be many, and doubles ten times a second until every ready
// member has one run being read and one spare (fewer starve the origin's uplink: docs/decisions/0014). Beyond FLOOR_RUNS more are added
// only while the summed rate still rises: an origin that is full gains nothing from more connections.

const START_RUNS = 3;
const RUNS_PER_MEMBER = 2;
/** Up to here every ready member has its two runs, whatever the rate does. */
const FLOOR_RUNS = 256;
const RAMP_INTERVAL_MS = 100;
const RATE_INTERVAL_MS = 500;
/** A rise below this is noise. */
const RISE = 1.05;

export class RunLimit {
  #runs = START_RUNS;
  #steppedAtMs: number | undefined;
  #ratedAtMs = 0;
  #bytes = 0;
  #bestRate = 0;

  /** How many may be live now. */
  get runs(): number {
    return this.#runs;
  }

  /** Bytes that arrived from the origin. */
  add(bytes: number): void {
    this.#bytes += bytes;
  }

  /** @param countReady how many members read or want to read; asked ten times a second at most */
  step(nowMs: number, countReady: () => number): void {
    if (this.#steppedAtMs !== undefined && nowMs - this.#steppedAtMs < RAMP_INTERVAL_MS) return;
    const ready = countReady();
    if (ready === 0 || this.#steppedAtMs === undefined) {
      this.#runs = START_RUNS;
      this.#steppedAtMs = ready === 0 ? undefined : nowMs;
      this.#ratedAtMs = nowMs;
      this.#bytes = 0;
      this.#bestRate = 0;
      return;
    }
    this.#steppedAtMs = nowMs;
    const wanted = ready * RUNS_PER_MEMBER;
    const floor = Math.min(wanted, FLOOR_RUNS);
    if (this.#runs < floor) this.#runs = Math.min(this.#runs * 2, floor);
    else if (this.#runs < wanted && this.#rises(nowMs)) this.#runs = Math.min(this.#runs * 2, wanted);
  }

  #rises(nowMs: number): boolean {
    const elapsedMs = nowMs - this.#ratedAtMs;
    if (elapsedMs < RATE_INTERVAL_MS) return false;
    const rate = this.#bytes / elapsedMs;
    this.#bytes = 0;
    this.#ratedAtMs = nowMs;
    if (rate <= this.#bestRate * RISE) return false;
    this.#bestRate = rate;
    return true;
  }
}
