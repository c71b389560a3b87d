// A member that vouches for wrong bytes as soon as it reads them, and sends them: nobody can tell before the whole is here. What a fleet
// of real agents and a real tracker make of it: no wrong answer, few bytes of the origin, and the liar found within the blob.

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeEach, expect, test } from 'vitest';
import { Agent as HttpAgent, request } from 'undici';
import { pull, TestFleet, until, type TestAgent } from '../support/fleet.ts';
import { OriginServer } from '../support/origin-server.ts';
import { freePorts } from '../support/ports.ts';
import { AgentProgram } from '../support/processes.ts';

const MIB = 1024 * 1024;
const HOOK = fileURLToPath(new URL('../support/false-voucher-hook.ts', import.meta.url));
const HONEST = 5;
/** As often as clients try by themselves. */
const TRIES = 5;

let origin: OriginServer;
let fleet: TestFleet;
let liar: AgentProgram;
let honest: TestAgent[];
/** Loopback: the tracker's own CA is nobody's here. */
const trust = new HttpAgent({ connect: { rejectUnauthorized: false } });

beforeEach(async () => {
  origin = await OriginServer.start();
  // Slow enough that everybody reads a share.
  origin.faults.rate = 2 * MIB;
  fleet = await TestFleet.start({ lab: origin.url });
  honest = [];
  for (let at = 1; at <= HONEST; at++) honest.push(await fleet.agent(`a${at}`));
  liar = await liarProgram();
  await liar.start();
  await until('all meshed', async () => {
    for (const agent of honest) if ((await agent.running.status()).peers.connected < HONEST) return false;
    return true;
  });
}, 120_000);

afterEach(async () => {
  await liar.stop('SIGKILL');
  await fleet.stop();
  await origin.goAway();
});

afterAll(() => trust.close());

async function liarProgram(): Promise<AgentProgram> {
  const [port, p2pPort, adminPort] = await freePorts(3);
  const dataDir = join(fleet.dir, 'liar');
  const args = [
    '--import', HOOK, 'packages/agent/src/main.ts', 'agent', '--name', 'liar', '--data', dataDir,
    '--listen', `127.0.0.1:${port}`, '--p2p-listen', `127.0.0.1:${p2pPort}`, '--admin-listen', `127.0.0.1:${adminPort}`,
    '--tracker', fleet.tracker.url, '--join-token-file', join(fleet.dir, 'tracker', 'join-token'), '--origin', `lab=${origin.url}`,
  ];
  return new AgentProgram('liar', args, dataDir, join(fleet.dir, 'liar.log'), `127.0.0.1:${port}`, `http://127.0.0.1:${adminPort}`, trust);
}

/** As clients do: again, until an answer is complete. */
async function pullLikeAClient(agent: TestAgent, path: string): Promise<{ tries: number; digests: string[] }> {
  const digests: string[] = [];
  for (let tries = 1; ; tries++) {
    const answer = await pull(agent, path)
      .then((pulled) => (pulled.status === 200 ? pulled : new Error(`answered ${pulled.status}`)))
      .catch((error: unknown) => error as Error);
    if (!(answer instanceof Error)) {
      digests.push(answer.sha256);
      return { tries, digests };
    }
    if (tries === TRIES) throw answer;
  }
}

test('all that is wrong is its leases, read once more; every complete answer is right, and the tracker knows who lied', async () => {
  const image = origin.addImage('team/app', 'v1', [12 * MIB]);
  const [layer] = image.layers;
  const path = `lab/team/app/blobs/${layer!.digest}`;
  const liarId = (await members()).find(({ session }) => session?.name === 'liar')!.peerId;
  const enough = new AbortController();
  const liars = request(`${liar.url}/v2/${path}`, { signal: enough.signal }).then(({ body }) => body.dump({ limit: 64 * MIB })).catch(() => undefined);
  const pulls = await Promise.all(honest.map((agent) => pullLikeAClient(agent, path)));
  // Whether it gets the blob is not asked: found out, it has neither leases nor peers, and goes on for as long as its patience.
  enough.abort();
  await liars;
  await until('the liar has let go of it', async () => (await liar.metrics()).get('flotilla_downloads_active') === 0);

  expect(pulls.flatMap(({ digests }) => digests)).toEqual(honest.map(() => layer!.digest));
  const leased = (await liar.metrics()).get('flotilla_blob_bytes_total{source="origin"}') ?? 0;
  const left = origin.requests.filter(({ digest }) => digest === layer!.digest).reduce((sum, { bytes }) => sum + bytes, 0);
  const extra = left - layer!.bytes.length;
  expect(leased).toBeGreaterThan(0);
  expect(extra).toBeLessThanOrEqual(1.5 * leased);
  expect((await members()).filter(({ trusted }) => !trusted).map(({ peerId }) => peerId)).toEqual([liarId]);

  // Found within one blob: the next one is not touched.
  const next = origin.addImage('team/app', 'v2', [4 * MIB]).layers[0]!;
  const again = await Promise.all(honest.map((agent) => pullLikeAClient(agent, `lab/team/app/blobs/${next.digest}`)));
  expect(again).toEqual(honest.map(() => ({ tries: 1, digests: [next.digest] })));
}, 120_000);

interface Member {
  readonly peerId: string;
  readonly trusted: boolean;
  readonly session?: { readonly name: string };
}

/** As an operator sees them. */
async function members(): Promise<readonly Member[]> {
  const token = (await readFile(join(fleet.dir, 'tracker', 'operator-token'), 'utf8')).trim();
  const { body } = await request(`${fleet.tracker.url}/api/v1/status`, { headers: { authorization: `Bearer ${token}` }, dispatcher: trust });
  return ((await body.json()) as { members: Member[] }).members;
}
