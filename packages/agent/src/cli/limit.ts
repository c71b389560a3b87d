// `flotilla limit`: how fast this host may take and give, changed while its agent runs. What is set here is forgotten when the agent ends: what shall last
// stands in the settings.

import { readRate } from '../config-values.ts';
import { loadDataDir, type ConfigInput } from '../config.ts';
import type { LimitChange } from '../control.ts';
import { ControlClient } from './control-client.ts';
import { EXIT } from './exit-codes.ts';
import { CommandFailure } from './failure.ts';
import { describeLimits } from './status.ts';
import type { Terminal } from './terminal.ts';

/** Rates as people write them, or `none`; absent: as it is. */
export interface LimitOptions {
  readonly upload?: string | undefined;
  readonly download?: string | undefined;
  readonly origin?: string | undefined;
  readonly zone?: string | undefined;
  /** All as the settings have them. */
  readonly settings?: boolean | undefined;
  readonly json?: boolean | undefined;
}

const LEAST = 1024;

/** @returns 0 @throws CommandFailure */
export async function changeLimits({ settings, json, ...rates }: LimitOptions, input: ConfigInput, terminal: Terminal, signal: AbortSignal): Promise<number> {
  const change: LimitChange = Object.fromEntries(
    Object.entries(rates).flatMap(([name, text]) => (text === undefined ? [] : [[name, rateOf(name, text)]])),
  );
  if (settings === true && Object.keys(change).length > 0) throw new CommandFailure('--settings stands alone', 'Give either it or rates.', { exitCode: EXIT.usage });
  const limits = await new ControlClient(loadDataDir(input)).limit(settings === true ? { settings } : change, signal);
  terminal.out(json === true ? `${JSON.stringify(limits)}\n` : `${describeLimits(limits)}\n`);
  return EXIT.ok;
}

function rateOf(name: string, text: string): number | null {
  if (text === 'none') return null;
  const rate = readRate(text);
  if (rate === undefined || rate < LEAST) throw new CommandFailure(`--${name} ${text} is no rate`, 'Write a rate of at least 1KiB/s, such as 50MB/s or 400Mbit/s, or none.', { exitCode: EXIT.usage });
  return rate;
}
