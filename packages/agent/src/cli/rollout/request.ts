// What stands behind the flags of `flotilla rollout`, as the tracker wants it. Pure; hosts, waves and image are the tracker's to understand.

import type { RolloutRequest } from '@flotilla/shared/rollout-api';
import { readRate } from '../../config-values.ts';
import { formatPlatform, parsePlatform } from '../../content/platform.ts';
import { EXIT } from '../exit-codes.ts';
import { CommandFailure } from '../failure.ts';

export interface RequestFlags {
  readonly hosts?: string;
  readonly waves?: string;
  readonly pauseOnFailure?: string;
  readonly originLimit?: string;
  readonly deadline?: string;
  readonly verifyOnly?: boolean;
  readonly platform?: string;
}

const UNIT_MS: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, min: 60_000, h: 3_600_000, d: 86_400_000 };

/** @throws CommandFailure EXIT.usage */
export function rolloutRequest(image: string, flags: RequestFlags, nowMs: number): RolloutRequest {
  const { hosts, waves, verifyOnly } = flags;
  return {
    image,
    ...(hosts !== undefined && { hosts }),
    ...(waves !== undefined && { waves }),
    ...(flags.pauseOnFailure !== undefined && { pauseOnFailure: readShare(flags.pauseOnFailure) }),
    ...(flags.originLimit !== undefined && { originLimit: readLimit(flags.originLimit) }),
    ...(flags.deadline !== undefined && { deadlineMs: readDeadline(flags.deadline, nowMs) }),
    ...(verifyOnly === true && { verifyOnly }),
    ...(flags.platform !== undefined && { platform: readPlatform(flags.platform) }),
  };
}

function readShare(text: string): number {
  const percent = Number(/^(\d+(?:\.\d+)?)\s*%$/.exec(text.trim())?.[1] ?? Number.NaN);
  if (percent >= 0 && percent <= 100) return percent / 100;
  throw wrong('--pause-on-failure', text, 'a percentage from 0% to 100%');
}

function readLimit(text: string): number {
  const rate = readRate(text);
  if (rate !== undefined && rate >= 1024) return rate;
  throw wrong('--origin-limit', text, 'a rate of at least 1KiB/s, such as 200MB/s');
}

/** From now on, or a time of its own. */
function readDeadline(text: string, nowMs: number): number {
  const [, amount, unit] = /^(\d+(?:\.\d+)?)\s*(s|m|min|h|d)$/.exec(text.trim()) ?? [];
  if (amount !== undefined) return Math.round(nowMs + Number(amount) * UNIT_MS[unit!]!);
  const atMs = /^\d{4}-\d\d-\d\d/.test(text.trim()) ? Date.parse(text.trim()) : Number.NaN;
  if (!Number.isNaN(atMs)) return atMs;
  throw wrong('--deadline', text, 'a time from now such as 90m or 2h, or one such as 2027-03-01T04:00Z');
}

function readPlatform(text: string): string {
  const platform = parsePlatform(text);
  if (platform !== undefined) return formatPlatform(platform);
  throw wrong('--platform', text, 'os/architecture, such as linux/arm64 or linux/arm/v7');
}

function wrong(flag: string, text: string, allowed: string): CommandFailure {
  return new CommandFailure(`${flag} "${text}" is not allowed`, `Write ${allowed}.`, { exitCode: EXIT.usage });
}
