// How long to wait before the next try: 0.2 to 5 s, doubling, with full jitter, so that a fleet whose tracker restarts
// does not come back in one moment.

export const MIN_BACKOFF_MS = 200;
export const MAX_BACKOFF_MS = 5_000;

/**
 * @param failures how many tries have failed in a row, from 1
 * @param random in [0, 1)
 */
export function backoffMs(failures: number, random: number): number {
  const ceiling = Math.min(MAX_BACKOFF_MS, MIN_BACKOFF_MS * 2 ** Math.min(failures, 16));
  return Math.round(MIN_BACKOFF_MS + random * (ceiling - MIN_BACKOFF_MS));
}
