// `flotilla status --fleet`: what the agent of this host knows of its fleet. It needs no tracker: any agent answers.

import { loadDataDir, type ConfigInput } from '../config.ts';
import type { FleetKnowledge } from '../fleet-knowledge.ts';
import { ControlClient } from './control-client.ts';
import { EXIT } from './exit-codes.ts';
import { humanBytes, humanDuration, table, type Terminal } from './terminal.ts';

/** @throws CommandFailure, AgentError CONFIG_INVALID */
export async function printFleet(input: ConfigInput, { json = false }: { readonly json?: boolean | undefined }, terminal: Terminal, signal: AbortSignal): Promise<number> {
  const fleet = await new ControlClient(loadDataDir(input)).fleet(signal);
  terminal.out(json ? `${JSON.stringify(fleet, null, 2)}\n` : describeFleet(fleet, Date.now()));
  return EXIT.ok;
}

/** The page that a person reads. */
export function describeFleet({ name, peerId, tracker, peers, bans, banned, blobs }: FleetKnowledge, nowMs: number): string {
  const ago = (atMs: number): string => humanDuration(Math.max(0, nowMs - atMs));
  const { word } = tracker;
  const facts = table([
    ['asked', `${name}, id ${peerId}`],
    ['tracker', `${tracker.state}${tracker.url === undefined ? '' : `, ${tracker.url}`}, for ${ago(tracker.sinceMs)}${tracker.state === 'lost' && tracker.lastError !== undefined ? ` (${tracker.lastError.code}: ${tracker.lastError.message})` : ''}`],
    ...(word === undefined ? [] : [['last word', `${ago(word.atMs)} ago: ${word.up} up, ${word.stale} stale, ${word.down} down, ${word.pulling} pulling; ${word.verdict}`]]),
    ['peers', `${peers.length} connected, ${peers.filter(({ standing }) => standing).length} of the standing mesh`],
    ...(bans.length + banned.length === 0 ? [] : [['shut out', `${banned.length} by the tracker, ${bans.length} by this host`]]),
  ]);
  const rates = (down: number, up: number): string[] => [`${humanBytes(Math.round(down))}/s`, `${humanBytes(Math.round(up))}/s`];
  const peerRows = [...peers]
    .sort((a, b) => b.downRate + b.upRate - a.downRate - a.upRate)
    .map((peer) => [peer.peerId, peer.address, ago(peer.sinceMs), ...rates(peer.downRate, peer.upRate), humanBytes(peer.bytesDown), humanBytes(peer.bytesUp)]);
  const peerTable = peerRows.length === 0 ? '' : `\n${table([['PEER', 'ADDRESS', 'FOR', 'FROM IT', 'TO IT', 'GOT', 'GAVE'], ...peerRows])}`;
  const blobRows = blobs.map(({ digest, size, chunks, held, sources }) => {
    const whole = sources.filter((source) => source.held === chunks).length;
    return [digest.slice(0, 19), humanBytes(size), `${Math.floor((100 * held) / Math.max(1, chunks))} %`, String(sources.length), String(whole), humanBytes(Math.round(sources.reduce((sum, { downRate }) => sum + downRate, 0))) + '/s'];
  });
  const blobTable = blobRows.length === 0 ? '' : `\n${table([['BLOB', 'SIZE', 'HERE', 'PEERS', 'WITH ALL', 'FROM THEM'], ...blobRows])}`;
  return `${facts}${peerTable}${blobTable}`;
}
