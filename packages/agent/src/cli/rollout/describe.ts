// Rollouts in words and tables. Pure.

import type { RolloutDetail, RolloutHosts, RolloutSummary } from '@flotilla/shared/rollout-api';
import { humanBytes, humanDuration, table } from '../terminal.ts';

const MAX_ROWS = 40;

/** What a rollout is doing, in one line. */
export function line(rollout: RolloutSummary): string {
  const { state, wave, waves, hosts, bytes, timeLeftMs, reason } = rollout;
  const parts = [
    state,
    ...(waves.length > 1 && (state === 'running' || state === 'paused') ? [`wave ${wave + 1} of ${waves.length}`] : []),
    `${hosts.done} of ${hosts.total} hosts ${rollout.verifyOnly ? 'verified' : 'done'}`,
    ...(hosts.working > 0 ? [`${hosts.working} at work`] : []),
    ...(hosts.failed > 0 ? [`${hosts.failed} failed`] : []),
    ...(hosts.away > 0 ? [`${hosts.away} away`] : []),
    ...(bytes.total > 0 && state === 'running' ? [`${humanBytes(bytes.held)} of ${humanBytes(bytes.total)}`] : []),
    ...(bytes.rate > 0 && state === 'running' ? [`${humanBytes(bytes.rate)}/s`] : []),
    ...(timeLeftMs !== undefined && state === 'running' ? [`about ${humanDuration(timeLeftMs)} left`] : []),
    ...(reason === undefined ? [] : [`${reason.code}: ${reason.message}${reason.host === undefined ? '' : ` (${reason.host})`}`]),
  ];
  return parts.join(', ');
}

/** Said once when nothing more is waited for. */
export function ending(rollout: RolloutDetail): string {
  const { id, state, hosts, failures, digest, bytes } = rollout;
  const lines = failures.map(({ code, message, hosts: count, names }) => `${count} ${count === 1 ? 'host' : 'hosts'} failed with ${code}: ${message} (${names.join(', ')}${names.length < count ? ', …' : ''})`);
  if (state === 'done' && digest !== undefined) {
    const came = bytes.peer + bytes.origin;
    const share = came === 0 ? '' : `; ${humanBytes(came)} came, ${Math.round((100 * bytes.peer) / came)} % from peers`;
    lines.unshift(`${rollout.image} is ${rollout.verifyOnly ? 'whole' : 'there'} on ${hosts.done} of ${hosts.total} hosts${share}`, digest);
  }
  if (state === 'done' && hosts.away > 0) lines.push(`${hosts.away} away: ${hosts.away === 1 ? 'it gets' : 'they get'} it when back`);
  if (state === 'paused') lines.push(`go on: flotilla rollout resume ${id}${hosts.failed > 0 ? `, or try the failed again: flotilla rollout retry ${id}` : ''}`);
  else if (hosts.failed > 0 && state === 'done') lines.push(`try them again: flotilla rollout retry ${id}`);
  return lines.map((each) => `${each}\n`).join('');
}

export function describeList(rollouts: readonly RolloutSummary[], nowMs: number): string {
  if (rollouts.length === 0) return 'no rollouts\n';
  const rows = rollouts.map(({ id, image, state, hosts, createdAtMs, createdBy, selector }) => [
    id,
    state,
    `${hosts.done}/${hosts.total}`,
    String(hosts.failed),
    String(hosts.away),
    `${humanDuration(nowMs - createdAtMs)} ago`,
    createdBy,
    selector === '' ? 'all' : selector,
    image,
  ]);
  return table([['ID', 'STATE', 'DONE', 'FAILED', 'AWAY', 'MADE', 'BY', 'HOSTS', 'IMAGE'], ...rows]);
}

/** @param all every host, however many */
export function describeDetail(rollout: RolloutDetail, hosts: RolloutHosts, all: boolean): string {
  const { image, digest, createdBy, createdAtMs, selector, platform, originLimit, pauseOnFailure, deadlineMs, catchUpUntilMs, waves } = rollout;
  const time = (atMs: number): string => new Date(atMs).toISOString();
  const facts = table([
    ['rollout', `${rollout.id}: ${line(rollout)}`],
    ['image', image],
    ...(digest === undefined ? [] : [['digest', digest]]),
    ['made', `${time(createdAtMs)} by ${createdBy}`],
    ['hosts', selector === '' ? 'all' : selector],
    ...(platform === undefined ? [] : [['platform', platform]]),
    ['stops at', `more than ${Number((pauseOnFailure * 100).toFixed(2))} % failed`],
    ...(originLimit === undefined ? [] : [['origin', `at most ${humanBytes(originLimit)}/s`]]),
    ...(deadlineMs === undefined ? [] : [['deadline', time(deadlineMs)]]),
    ...(catchUpUntilMs === undefined || rollout.hosts.away === 0 ? [] : [['catching up', `until ${time(catchUpUntilMs)}`]]),
  ]);
  const waveRows = waves.map(({ target, state, started, done, failed }, index) => [String(index + 1), `to ${target}`, state, String(started), String(done), String(failed)]);
  const rows = hosts.rows.toSorted((a, b) => rank(a) - rank(b) || (a[1] < b[1] ? -1 : 1));
  const shown = all ? rows : rows.slice(0, MAX_ROWS);
  const hostRows = shown.map(([, name, zone, state, connected, wave, share, rate, word]) => [
    name,
    zone === '' ? '-' : zone,
    connected === 1 || state === 'done' ? state : `${state}, away`,
    wave < 0 ? '-' : String(wave + 1),
    share < 0 ? '-' : `${Math.floor(share / 10)} %`,
    rate === 0 ? '-' : `${humanBytes(rate)}/s`,
    word,
  ]);
  const rest = rows.length > shown.length ? `… and ${rows.length - shown.length} more (--all)\n` : '';
  const hooks = shown.flatMap(([peerId, name]) => {
    const outcome = hosts.outcomes[peerId];
    const said = [...(outcome?.error === undefined ? [] : [`${outcome.error.code}: ${outcome.error.message}`]), ...(outcome?.hook === undefined ? [] : [hookLine(outcome.hook)])];
    return said.map((text) => `${name}: ${text}\n`);
  });
  return [
    facts,
    table([['WAVE', 'HOSTS', 'STATE', 'STARTED', 'DONE', 'FAILED'], ...waveRows]),
    table([['HOST', 'ZONE', 'STATE', 'WAVE', 'HERE', 'RATE', ''], ...hostRows]) + rest,
    ...(hooks.length === 0 ? [] : [hooks.join('')]),
  ].join('\n');
}

/** Failures first, then what is at work, then what waits. */
function rank([, , , state]: RolloutHosts['rows'][number]): number {
  return ['failed', 'working', 'waiting', 'done'].indexOf(state);
}

function hookLine({ exitCode, output }: { exitCode?: number; output: string }): string {
  const last = output.trimEnd().split('\n').at(-1) ?? '';
  return `hook ${exitCode === undefined ? 'was killed' : `ended with ${exitCode}`}${last === '' ? '' : `: ${last}`}`;
}
