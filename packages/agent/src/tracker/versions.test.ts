// Trackers of other releases, as an agent of this one meets them: over real HTTP, with what they would say written by hand.

import { createServer, type Server } from 'node:http';
import { once } from 'node:events';
import { generateKeyPairSync } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { signMembership } from '@flotilla/shared/membership';
import { TRACKER_PROTOCOL } from '@flotilla/shared/protocol-version';
import type { TrackerEvent } from '@flotilla/shared/tracker-api';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Membership } from '../access/membership.ts';
import type { AgentError } from '../errors.ts';
import { openIdentity, type Identity } from '../identity.ts';
import { TrackerClient } from './client.ts';
import { TrackerSession } from './session.ts';

const { privateKey, publicKey } = generateKeyPairSync('ed25519');
let dir: string;
let identity: Identity;
let server: Server;
let session: TrackerSession;
let client: TrackerClient;
/** What the agent opened its session with. */
let introduction: Record<string, unknown>;

/** What came first of the session: its opening, or why there is none. */
type Outcome = { opened: number; events: TrackerEvent[] } | AgentError;

/** A tracker that says `lines` on the stream, or refuses it with `problem`. */
async function meet(lines: (welcome: object) => object[], problem?: object): Promise<Outcome> {
  const membership = signMembership({ fleetId: 'fleet', peerId: identity.peerId, notAfterMs: Date.now() + 3_600_000 }, privateKey);
  const fleet = { fleetId: 'fleet', fleetKey: publicKey.export({ type: 'spki', format: 'pem' }), membership };
  server = createServer((request, response) => {
    void (async () => {
      let body = '';
      for await (const part of request) body += String(part);
      if (request.url === '/api/v1/enroll') response.end(JSON.stringify(fleet));
      else if (request.url !== '/api/v1/session') response.writeHead(204).end();
      else {
        introduction = JSON.parse(body) as Record<string, unknown>;
        if (problem !== undefined) response.writeHead(400, { 'content-type': 'application/problem+json' }).end(JSON.stringify(problem));
        else for (const line of lines({ type: 'welcome', sessionId: 's', key: 'a2V5', epoch: 5, heartbeatMs: 30_000, ...fleet })) response.write(`${JSON.stringify(line)}\n`);
      }
    })();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const { promise, resolve } = Promise.withResolvers<Outcome>();
  const events: TrackerEvent[] = [];
  let epoch = 0;
  session = new TrackerSession(
    { client, identity, membership: await Membership.open(dir), log: { info: () => undefined, warn: () => undefined } },
    {
      urls: [url],
      joinToken: () => Promise.resolve({ id: 't', secret: Buffer.alloc(32, 7).toString('base64url') }),
      describe: () => ({ addresses: [], name: 'host', labels: {}, agentVersion: '1' }),
      stats: () => ({ bytes: { peer: 0, origin: 0, store: 0, uploaded: 0, duplicate: 0 }, pulls: { active: 0, done: 0, failed: 0 }, store: { bytes: 0, limit: 0, blobs: 0 } }),
    },
    {
      opened: (opened) => (epoch = opened),
      event: (event) => {
        events.push(event);
        resolve({ opened: epoch, events });
      },
      lost: resolve,
      failed: resolve,
    },
  );
  session.start();
  return promise;
}

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'flotilla-versions-'));
  identity = await openIdentity(dir);
  client = new TrackerClient();
});

afterEach(async () => {
  await session.close();
  await client.close();
  server.close();
  server.closeAllConnections();
  await rm(dir, { recursive: true, force: true });
});

const mesh = { type: 'mesh', peers: [] };

describe('a tracker', () => {
  test('one version older says no version: the session is as good', async () => {
    expect(await meet((welcome) => [welcome, mesh])).toEqual({ opened: 5, events: [mesh] });
    expect(introduction['protocol']).toBe(TRACKER_PROTOCOL);
  });

  test('one version newer: fields and events that are unknown are passed over, and counted', async () => {
    const outcome = await meet((welcome) => [{ ...welcome, protocol: TRACKER_PROTOCOL + 1, theme: 'dark' }, { type: 'from-the-future', peers: 3 }, { ...mesh, wide: true }]);
    expect(outcome).toMatchObject({ opened: 5, events: [mesh] });
    expect(session.status().eventsIgnored).toBe(1);
  });

  test.each([
    ['older', TRACKER_PROTOCOL - 2, 'upgrade the tracker'],
    ['newer', TRACKER_PROTOCOL + 2, 'upgrade this agent'],
  ])('two versions %s: no session, and it is said what to do', async (_kind, protocol, advice) => {
    const outcome = await meet((welcome) => [{ ...welcome, protocol }, mesh]);
    expect(outcome).toMatchObject({ code: 'TRACKER_VERSION' });
    expect((outcome as AgentError).message).toContain(advice);
  });

  test('that refuses this release: the same, in its words', async () => {
    const outcome = await meet(() => [], { type: 'x', title: 'x', status: 400, code: 'PROTOCOL_UNSUPPORTED', detail: 'upgrade the agent of host' });
    expect(outcome).toMatchObject({ code: 'TRACKER_VERSION' });
    expect((outcome as AgentError).message).toContain('upgrade the agent of host');
  });
});
