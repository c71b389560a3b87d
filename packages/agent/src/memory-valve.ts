// Says when the old generation is collected: when it, and the buffers outside of V8's heap, have grown by GROWTH_BYTES.
//
// A chunk's buffer outlives the young generation; once it is done with, only a major collection frees it. V8 by itself would collect
// for every few MiB of buffers, or only after 64 MiB, as its heuristics go (docs/decisions/0004). Needs --expose-gc, which main.ts gives.

import { getHeapStatistics } from 'node:v8';

/** How soon it is looked again where something grows, and at rest. */
const BUSY_LOOK_MS = 50;
const REST_LOOK_MS = 200;
/** Less between two looks is rest. */
const REST_BYTES = 1024 * 1024;
/** Heap and buffers may grow by so much since the last collection. */
const GROWTH_BYTES = 16 * 1024 * 1024;

/** Collects once, then whenever it is due. @returns what stops it; without `gc` there is nothing to do */
export function startMemoryValve(): () => void {
  const { gc } = globalThis;
  if (gc === undefined) return () => undefined;
  // 20 MiB of source text and half-used objects are left of loading and starting.
  gc({ type: 'major', execution: 'sync', flavor: 'last-resort' });
  let floorBytes = usedBytes();
  let lastBytes = floorBytes;
  const look = (): void => {
    const bytes = usedBytes();
    floorBytes = Math.min(floorBytes, bytes);
    const rests = Math.abs(bytes - lastBytes) < REST_BYTES;
    lastBytes = bytes;
    if (bytes - floorBytes >= GROWTH_BYTES) {
      gc({ type: 'major', execution: 'sync' });
      floorBytes = lastBytes = usedBytes();
    }
    timer = setTimeout(look, rests ? REST_LOOK_MS : BUSY_LOOK_MS).unref();
  };
  let timer = setTimeout(look, BUSY_LOOK_MS).unref();
  return () => clearTimeout(timer);
}

/** process.memoryUsage() would read /proc each time, for the resident size. */
function usedBytes(): number {
  const { used_heap_size: heap, external_memory: buffers } = getHeapStatistics();
  return heap + buffers;
}
