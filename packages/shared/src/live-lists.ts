// Lists that rows of the live stream index into, and its limits (live-api.ts has the schemas). Apart from them, because pages need no schemas.

/**
 * Why a host is slow. In rows: the index into this list. `''`: it is not slow, or nothing unusual can be seen.
 * link: peers would give more than arrives. disk: writes take long. cpu: the agent's thread or core is full. dns: the origin's name is not found.
 * 429: the origin says "too many requests". credentials: it wants others. origin: it does not answer or fails otherwise. no-peers: others hold what it
 * lacks, and it is connected to none of them. throttled: a limit or a brake holds it back.
 */
export const SLOW_REASONS = ['', 'link', 'disk', 'cpu', 'dns', '429', 'credentials', 'origin', 'no-peers', 'throttled'] as const;

export const HOST_STATES = ['up', 'stale', 'down', 'quarantined', 'expelled'] as const;

export const ROLLOUT_HOST_STATES = ['waiting', 'working', 'done', 'failed'] as const;

/** How many cells a chunk map has at most; each cell stands for as many chunks. */
export const MAX_MAP_CELLS = 128;

/** Of one live stream. */
export const MAX_LIVE_TOPICS = 8;
