// What the exit code of `flotilla` says.

export const EXIT = {
  ok: 0,
  /** It was tried and failed; for `status`: the agent answers but is not ready. */
  failed: 1,
  /** Flags or settings are wrong; nothing was tried. */
  usage: 2,
  /** `status`: no agent runs with this data folder. */
  notRunning: 3,
} as const;
