// What `flotilla doctor` says of one thing that it looked at.

export interface Finding {
  /** What was looked at: `tracker`, `origin quay.io`. */
  readonly check: string;
  /** warning: something is slower or less safe than it could be; problem: something does not work; skipped: it could not be looked at. */
  readonly verdict: 'ok' | 'warning' | 'problem' | 'skipped';
  readonly message: string;
  /** What to do; present where something is wrong. */
  readonly help?: string;
}

export function ok(check: string, message: string): Finding {
  return { check, verdict: 'ok', message };
}

export function warning(check: string, message: string, help: string): Finding {
  return { check, verdict: 'warning', message, help };
}

export function problem(check: string, message: string, help: string): Finding {
  return { check, verdict: 'problem', message, help };
}

export function skipped(check: string, message: string): Finding {
  return { check, verdict: 'skipped', message };
}
