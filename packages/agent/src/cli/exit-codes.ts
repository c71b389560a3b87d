// What the exit code of `flotilla` says. docs/cli.md is made from this table.

export const EXIT = { ok: 0, failed: 1, usage: 2, notRunning: 3, noAccess: 4 } as const;

export const EXIT_MEANINGS: Readonly<Record<keyof typeof EXIT, string>> = {
  ok: 'It is done; for `doctor`: all is well.',
  failed: 'It was tried and failed; for `status`: the agent answers but is not ready; for `doctor`: there are findings.',
  usage: 'Flags or settings are wrong; nothing was tried.',
  notRunning: 'No agent runs with this data folder.',
  noAccess: "The agent's control socket is not open to this user; nothing could be looked at.",
};
