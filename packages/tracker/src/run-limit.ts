// How many runs of one blob may be read at its origin at once.
//
// Starts with 3, because the first readers of a small blob should not be many, and doubles ten times a second until every ready member
// has one run being read and one spare, or FLOOR_RUNS are live: fewer starve the origin's uplink (docs/decisions/0014). More are a loss where
// that uplink is full: each reader gets its chunk later, and when the last byte has left there are as many fresh chunks to spread as there were
// readers. So beyond the floor a few more are tried now and then, kept where the summed rate rose, and taken back where it did not.
// Pure: the clock is handed in.

const START_RUNS = 3;
const RUNS_PER_MEMBER = 2;
/** Up to here the limit grows whatever the rate does: decisions 0014 and 0022. */
const FLOOR_RUNS = 12;
const RAMP_INTERVAL_MS = 100;
/** A rate is what came in so long; after a change the first one is not looked at, as runs that were given take a while to begin. */
const RATE_INTERVAL_MS = 1_000;
const STEP = 1.5;
/** A rise below this is noise. */
const RISE = 1.05;
/** After a try that brought nothing. */
const HOLD_MS = 10_000;

export class RunLimit {
  #runs = START_RUNS;
  #steppedAtMs: number | undefined;
  #ratedAtMs = 0;
  #bytes = 0;
  /** The window that is going on did not begin with a change. */
  #settled = false;
  /** What more runs have to beat, and how many there were before; undefined: nothing is being tried. */
  #trial: { readonly rate: number; readonly runs: number } | undefined;
  #holdUntilMs = 0;

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
      this.#trial = undefined;
      this.#holdUntilMs = 0;
      this.#changed(nowMs);
      return;
    }
    this.#steppedAtMs = nowMs;
    const wanted = ready * RUNS_PER_MEMBER;
    const floor = Math.min(wanted, FLOOR_RUNS);
    if (this.#runs < floor) {
      this.#runs = Math.min(this.#runs * 2, floor);
      this.#changed(nowMs);
    } else if (this.#runs < wanted || this.#trial !== undefined) this.#search(wanted, nowMs);
  }

  #search(wanted: number, nowMs: number): void {
    const elapsedMs = nowMs - this.#ratedAtMs;
    if (elapsedMs < RATE_INTERVAL_MS) return;
    const rate = this.#bytes / elapsedMs;
    this.#bytes = 0;
    this.#ratedAtMs = nowMs;
    if (!this.#settled) {
      this.#settled = true;
      return;
    }
    if (this.#trial !== undefined && rate <= this.#trial.rate * RISE) {
      this.#runs = this.#trial.runs;
      this.#trial = undefined;
      this.#holdUntilMs = nowMs + HOLD_MS;
      this.#changed(nowMs);
      return;
    }
    this.#trial = undefined;
    if (nowMs < this.#holdUntilMs || this.#runs >= wanted) return;
    this.#trial = { rate, runs: this.#runs };
    this.#runs = Math.min(wanted, Math.ceil(this.#runs * STEP));
    this.#changed(nowMs);
  }

  #changed(nowMs: number): void {
    this.#bytes = 0;
    this.#ratedAtMs = nowMs;
    this.#settled = false;
  }
}
