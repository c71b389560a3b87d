// With what an agent's own process runs: a collector and a malloc set for buffers outside of V8's heap (docs/decisions/0004).
// Apart from main.ts, which acts on it, so that a measurement can give another program the same.

export const COLLECTOR_FLAGS: readonly string[] = [
  // MiB: what dies young is freed soon.
  '--max-semi-space-size=1',
  // MiB: V8 starts no collection of the old generation by itself below that; memory-valve.ts does.
  '--initial-heap-size=128',
  // Four helpers on two cores get in each other's way.
  '--v8-pool-size=1',
  // Many collections must not make functions look unused.
  '--no-flush-bytecode',
  '--expose-gc',
];

export const MALLOC_ENVIRONMENT: Readonly<Record<string, string>> = { MALLOC_ARENA_MAX: '2', MALLOC_MMAP_THRESHOLD_: '131072' };
