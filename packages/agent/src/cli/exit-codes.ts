// What the exit code of `flotilla` says. docs/cli.md is made from this table.

export const EXIT = {
  ok: 0,
  /** It was tried and failed; for `status`: the agent answers but is not ready; for `doctor`: there are findings. */
  failed: 1,
  /** Flags or settings are wrong; nothing was tried. */
  usage: 2,
  /** No agent runs with this data folder. */
  notRunning: 3,
  /** The agent's control socket is not open to this user; nothing could be looked at. */
  noAccess: 4,
} as const;
