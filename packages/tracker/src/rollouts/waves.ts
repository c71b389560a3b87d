// `1,10%,100%`: how many of a rollout's hosts have been started once each wave has. Pure.

import { TrackerError } from '../errors.ts';

/** A canary, a tenth, the rest. */
export const DEFAULT_WAVES = '1,10%,100%';
const MAX_WAVES = 32;

/**
 * Hosts by the end of each wave, the last being all of them. Waves that would add nobody (a tenth of five hosts, after a canary) are left out.
 * @param hosts how many the rollout has, at least one
 * @throws TrackerError WAVES_INVALID
 */
export function waveTargets(text: string, hosts: number): number[] {
  const parts = text.split(',').map((part) => part.trim());
  if (parts.length > MAX_WAVES) throw new TrackerError('WAVES_INVALID', `more than ${MAX_WAVES} waves`);
  if (parts.at(-1) !== '100%') throw new TrackerError('WAVES_INVALID', `"${text}" does not end with 100%`);
  const targets: number[] = [];
  const last = { hosts: 0, percent: 0 };
  for (const part of parts) {
    const target = targetOf(part, hosts);
    // Numbers are compared with numbers: what five hosts and a tenth are depends on how many there are.
    const unit = part.endsWith('%') ? 'percent' : 'hosts';
    const amount = Number.parseFloat(part);
    if (amount < last[unit]) throw new TrackerError('WAVES_INVALID', `"${text}": ${part} is less than a wave before it`);
    last[unit] = amount;
    if (target > (targets.at(-1) ?? 0)) targets.push(target);
  }
  return targets;
}

function targetOf(part: string, hosts: number): number {
  const [, digits, percent] = /^(\d{1,7}(?:\.\d{1,3})?)(%?)$/.exec(part) ?? [];
  const amount = Number(digits);
  if (digits === undefined || amount === 0) throw new TrackerError('WAVES_INVALID', `"${part}" is neither a number of hosts nor a percentage`);
  if (percent === '' && !Number.isInteger(amount)) throw new TrackerError('WAVES_INVALID', `"${part}" is no whole number of hosts`);
  if (percent === '%' && amount > 100) throw new TrackerError('WAVES_INVALID', `"${part}" is more than all`);
  return Math.min(hosts, percent === '' ? amount : Math.ceil((hosts * amount) / 100));
}
