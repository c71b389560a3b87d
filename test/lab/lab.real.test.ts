// The lab itself, small: its figures are right where they are known, and nothing of it is left, however it ends.

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { needs } from '../support/programs.ts';
import { run } from './command.ts';

const MAIN = fileURLToPath(new URL('main.ts', import.meta.url));
const TIMEOUT_MS = 180_000;

interface Lab {
  readonly process: ChildProcess;
  readonly ended: Promise<{ code: number | null; outcome: Outcome; stderr: string }>;
}

interface Outcome {
  readonly runs: readonly { copies: number; lastOverBound: number; failures: number; wrong: number; framesPerPayload: number; brokenAnswers: number; liarsNamed?: number; honestNamed?: number; fallbacks: Record<string, number>; bytes: Record<string, number>; complaints: string[]; zoneCopies?: number[]; zoneWireMax?: number }[];
}

function startLab(...flags: string[]): Lab {
  const lab = spawn(process.execPath, [MAIN, '--json', ...flags], { stdio: ['ignore', 'pipe', 'pipe'] });
  const ended = Promise.all([once(lab, 'close') as Promise<[number | null]>, text(lab.stdout), text(lab.stderr)]).then(([[code], stdout, stderr]) => ({
    code,
    outcome: (stdout === '' ? { runs: [] } : JSON.parse(stdout)) as Outcome,
    stderr,
  }));
  return { process: lab, ended };
}

/** Namespaces and folders of a lab. */
async function leftOf({ process: { pid } }: Lab): Promise<string[]> {
  const namespaces = (await run('ip', ['netns', 'list'])).split('\n').filter((name) => name.startsWith(`flotilla-lab-${pid}-`));
  return [...namespaces, ...readdirSync(tmpdir()).filter((name) => name.startsWith(`flab-${pid}-`))];
}

needs('root', 'docker-registry', 'ip', 'tc', 'curl')('the lab', () => {
  it('without Flotilla takes a transfer per host', { timeout: TIMEOUT_MS }, async () => {
    const lab = startLab('--scenario', 'direct', '--hosts', '3', '--rate', '20mbit', '--size', '2MiB');
    const { code, outcome, stderr } = await lab.ended;
    expect(code, stderr).toBe(0);
    const [figures] = outcome.runs;
    expect(figures).toMatchObject({ copies: 3, failures: 0, wrong: 0 });
    // Each frame has 66 bytes of headers for 1448 of payload; what is lost under way is sent again.
    expect(figures!.framesPerPayload).toBeGreaterThan(1.04);
    expect(figures!.framesPerPayload).toBeLessThan(1.15);
    // Three transfers through one link: less would mean that the links are not narrow.
    expect(figures!.lastOverBound).toBeGreaterThan(2.5);
    expect(await leftOf(lab)).toEqual([]);
  });

  it('with Flotilla takes one copy out of the origin', { timeout: TIMEOUT_MS }, async () => {
    const lab = startLab('--scenario', 'crowd', '--hosts', '3', '--rate', '20mbit', '--size', '4MiB');
    const { code, outcome, stderr } = await lab.ended;
    expect(code, stderr).toBe(0);
    const [figures] = outcome.runs;
    expect(figures).toMatchObject({ failures: 0, wrong: 0, complaints: [] });
    // A hedge reads a chunk a second time, where a busy machine stalls a pull.
    if (figures!.fallbacks['hedge'] === undefined) expect(figures!.copies).toBe(1);
    expect(await leftOf(lab)).toEqual([]);
  });

  it('does not count what the hosts pull to warm up', { timeout: TIMEOUT_MS }, async () => {
    const lab = startLab('--hosts', '3', '--rate', '20mbit', '--size', '2MiB', '--warm', '4MiB');
    const { code, outcome, stderr } = await lab.ended;
    expect(code, stderr).toBe(0);
    const [figures] = outcome.runs;
    expect(figures).toMatchObject({ failures: 0, wrong: 0, complaints: [] });
    expect(figures!.copies).toBeLessThan(1.5);
    // Both images' bytes over those of the measured one would be three.
    const { origin = 0, peer = 0 } = figures!.bytes;
    expect(origin + peer).toBeGreaterThanOrEqual(3 * 2 * 1024 ** 2);
    expect(origin + peer).toBeLessThan(1.5 * 3 * 2 * 1024 ** 2);
    expect(await leftOf(lab)).toEqual([]);
  });

  it('moves the same bytes by plain libp2p, over its transport and over ours', { timeout: TIMEOUT_MS }, async () => {
    for (const scenario of ['bare', 'bare-own']) {
      const lab = startLab('--scenario', scenario, '--hosts', '3', '--rate', '20mbit', '--size', '2MiB');
      const { code, outcome, stderr } = await lab.ended;
      expect(code, stderr).toBe(0);
      const [figures] = outcome.runs;
      expect(figures).toMatchObject({ failures: 0, wrong: 0 });
      // All of it crosses each host's link once: TCP, yamux and noise are on top, and what is lost under way.
      expect(figures!.framesPerPayload).toBeGreaterThan(1.04);
      expect(figures!.framesPerPayload).toBeLessThan(1.2);
      expect(await leftOf(lab)).toEqual([]);
    }
  });

  it('an agent that vouches falsely is named, and nobody gets a wrong byte', { timeout: TIMEOUT_MS }, async () => {
    const lab = startLab('--scenario', 'false-vouchers', '--hosts', '4', '--rate', '6mbit', '--size', '3MiB');
    const { code, outcome, stderr } = await lab.ended;
    expect(code, stderr).toBe(0);
    const [figures] = outcome.runs;
    expect(figures).toMatchObject({ failures: 0, wrong: 0, liarsNamed: 1, honestNamed: 0 });
    expect(figures!.brokenAnswers).toBeGreaterThan(0);
    expect(await leftOf(lab)).toEqual([]);
  });

  it('counts what comes into each zone over its narrow link', { timeout: TIMEOUT_MS }, async () => {
    const lab = startLab('--scenario', 'zones', '--hosts', '3', '--rate', '20mbit', '--zone-rate', '10mbit', '--size', '4MiB');
    const { code, outcome, stderr } = await lab.ended;
    expect(code, stderr).toBe(0);
    const [figures] = outcome.runs;
    expect(figures).toMatchObject({ failures: 0, wrong: 0, complaints: [] });
    // One host a zone: all that it has came over the link. A request that was given up may have sent some of it for nothing.
    expect(figures!.zoneCopies).toHaveLength(3);
    for (const copies of figures!.zoneCopies!) {
      expect(copies).toBeGreaterThanOrEqual(1);
      expect(copies).toBeLessThan(1.5);
    }
    expect(figures!.zoneWireMax).toBeGreaterThan(Math.max(...figures!.zoneCopies!));
    // Narrow it is: 10 Mbit/s, not 20.
    expect(figures!.lastOverBound).toBeGreaterThan(0.9);
    expect(await leftOf(lab)).toEqual([]);
  });

  it('leaves nothing after Ctrl-C', { timeout: TIMEOUT_MS }, async () => {
    const lab = startLab('--scenario', 'direct', '--hosts', '2', '--rate', '1mbit', '--size', '8MiB');
    await new Promise<void>((resolve) => {
      createInterface({ input: lab.process.stderr! }).on('line', (line) => {
        if (line.includes('is up')) resolve();
      });
    });
    expect(await leftOf(lab)).not.toEqual([]);
    lab.process.kill('SIGINT');
    const [code] = (await once(lab.process, 'close')) as [number | null];
    expect(code).toBe(130);
    expect(await leftOf(lab)).toEqual([]);
  });
});
