// Keeps the buffers outside of V8's heap from piling up between its collections.
//
// A chunk's buffer outlives the young generation; once it is done with, only a major collection frees it, and V8 starts one for
// buffers only after 64 MiB of them. Here one is started earlier (docs/decisions/0004). Needs --expose-gc, which main.ts gives.

const CHECK_INTERVAL_MS = 50;
/** Buffers may grow by so much since the last collection. */
const GROWTH_BYTES = 16 * 1024 * 1024;

/** @returns what stops it; without `gc` there is nothing to do */
export function startMemoryValve(): () => void {
  const { gc } = globalThis;
  if (gc === undefined) return () => undefined;
  let floorBytes = process.memoryUsage().arrayBuffers;
  const timer = setInterval(() => {
    const { arrayBuffers } = process.memoryUsage();
    floorBytes = Math.min(floorBytes, arrayBuffers);
    if (arrayBuffers - floorBytes < GROWTH_BYTES) return;
    gc({ type: 'major', execution: 'sync' });
    floorBytes = process.memoryUsage().arrayBuffers;
  }, CHECK_INTERVAL_MS);
  timer.unref();
  return () => clearInterval(timer);
}
