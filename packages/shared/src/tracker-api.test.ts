// Golden: `/api/v1` between agents and trackers of different releases. A change is another version of the API.

import fc from 'fast-check';
import { Compile } from 'typebox/compile';
import { describe, expect, test } from 'vitest';
import {
  AgentMessage,
  API_PREFIX,
  EnrollRequest,
  EnrollResponse,
  LocateRequest,
  LocateResponse,
  MAC_HEADER,
  MAX_BATCH_BYTES,
  MessageBatch,
  messageMac,
  packDigests,
  ResolveRequest,
  ResolveResponse,
  ROUTES,
  SEQUENCE_HEADER,
  SessionRequest,
  sessionText,
  TrackerEvent,
  unpackDigests,
} from './tracker-api.ts';

const PEER = '12D3KooWKnDdG3iXw9eTFijk3EWSunZcFi54Zka4wmtqtt6rPxc8';
const BLOB = { digest: `sha256:${'0f'.repeat(32)}`, size: 123_456_789 };
const DIGEST = Buffer.alloc(32, 7).toString('base64url');

describe('names', () => {
  test('are pinned', () => {
    expect(API_PREFIX).toBe('/api/v1');
    expect(ROUTES.ca).toBe('/api/v1/ca');
    expect(ROUTES.enroll).toBe('/api/v1/enroll');
    expect(ROUTES.session).toBe('/api/v1/session');
    expect(ROUTES.messages('a/b')).toBe('/api/v1/session/a%2Fb/messages');
    expect(ROUTES.locate('x')).toBe('/api/v1/session/x/locate');
    expect(ROUTES.resolve('x')).toBe('/api/v1/session/x/resolve');
    expect(SEQUENCE_HEADER).toBe('flotilla-sequence');
    expect(MAC_HEADER).toBe('flotilla-mac');
    expect(MAX_BATCH_BYTES).toBe(1_048_576);
  });
});

describe('signing texts', () => {
  test('of a session', () => {
    expect(sessionText(PEER, 'nonce', 1_700_000_000_000)).toBe(`flotilla-session/1\n${PEER}\nnonce\n1700000000000`);
  });

  test('of a post: the MAC covers session, number and body', () => {
    const key = Buffer.from('0123456789abcdef0123456789abcdef');
    const mac = messageMac(key, 'session-1', 7, '{"messages":[]}');
    expect(mac).toBe('qFVQ53bt_bghhh-u73dazlCW0F2_d_FBbCN13zWLvs0');
    for (const other of [messageMac(Buffer.alloc(32), 'session-1', 7, '{"messages":[]}'), messageMac(key, 'session-2', 7, '{"messages":[]}'), messageMac(key, 'session-1', 8, '{"messages":[]}'), messageMac(key, 'session-1', 7, '{"messages": []}')]) {
      expect(other).not.toBe(mac);
    }
  });
});

describe('packed digests', () => {
  test('are pinned, and come back as they were', () => {
    expect(packDigests([new Uint8Array(32).fill(1), new Uint8Array(32).fill(2)])).toBe('AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQECAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg');
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ minLength: 32, maxLength: 32 }), { maxLength: 20 }), (digests) => {
        expect(unpackDigests(packDigests(digests)).map((digest) => [...digest])).toEqual(digests.map((digest) => [...digest]));
      }),
    );
  });

  test('that are cut off are refused', () => {
    expect(() => unpackDigests(packDigests([new Uint8Array(32)]).slice(0, -2))).toThrow(RangeError);
  });
});

/** One of each, as they go over the wire. An old agent must still be understood: add, never change. */
const MESSAGES: Record<AgentMessage['type'], AgentMessage> = {
  inventory: { type: 'inventory', seeds: [BLOB], complete: true },
  want: { type: 'want', blob: BLOB, source: { origin: 'docker.io', repository: 'library/nginx', kind: 'blob' }, canRead: true, have: [[0, 2]], reading: [], round: 0 },
  have: { type: 'have', blob: BLOB, ranges: [[0, 1], [5, 2]], round: 1 },
  lost: { type: 'lost', blob: BLOB, ranges: [[0, 1]] },
  need: { type: 'need', blob: BLOB, runs: 2, originRate: 1.5e6, within: [10, 4] },
  hedge: { type: 'hedge', blob: BLOB, index: 3 },
  progress: { type: 'progress', leaseId: '3.1.a', bytes: 65_536 },
  done: { type: 'done', leaseId: '3.1.a', blob: BLOB, first: 4, digests: DIGEST },
  release: { type: 'release', leaseId: '3.1.a', reason: 'throttled', retryAfterMs: 2000 },
  seed: { type: 'seed', blob: BLOB, signature: 'c2ln' },
  leave: { type: 'leave', blob: BLOB, kept: true },
  conflict: { type: 'conflict', blob: BLOB, index: 3, peer: PEER, heard: DIGEST, expected: DIGEST },
  mismatch: { type: 'mismatch', blob: BLOB, round: 2 },
  accuse: { type: 'accuse', blob: BLOB, index: 3, peer: PEER },
  stats: { type: 'stats', bytes: { peer: 1, origin: 2, store: 3, uploaded: 4, duplicate: 5 }, pulls: { active: 1, done: 2, failed: 0 }, store: { bytes: 10, limit: 100, blobs: 2 } },
  'rollout-progress': { type: 'rollout-progress', rolloutId: 'r-1', attempt: 1, phase: 'pulling', manifest: BLOB.digest, layers: [BLOB], held: [1000] },
  'rollout-result': {
    type: 'rollout-result',
    rolloutId: 'r-1',
    attempt: 2,
    ok: false,
    resolved: { ...BLOB, mediaType: 'application/vnd.oci.image.index.v1+json' },
    error: { code: 'DISK_FULL', message: 'no room' },
    manifest: BLOB.digest,
    bytes: { size: 10, peer: 6, origin: 4 },
    ms: 1200,
    hook: { exitCode: 0, ms: 5, output: 'done' },
  },
};

const EVENTS: Record<TrackerEvent['type'], TrackerEvent> = {
  welcome: { type: 'welcome', sessionId: 's', key: 'a2V5', epoch: 3, heartbeatMs: 30_000, fleetId: 'f', fleetKey: 'PEM', membership: 'm' },
  ping: { type: 'ping' },
  mesh: { type: 'mesh', peers: [{ peerId: PEER, addresses: ['/ip4/10.0.0.7/tcp/5051'] }] },
  peers: { type: 'peers', blob: BLOB, peers: [] },
  importer: { type: 'importer', blob: BLOB, seats: 3, seat: 0 },
  grant: { type: 'grant', epoch: 3, leaseId: '3.1.a', blob: BLOB, first: 4, count: 4, deadlineMs: 4000, mode: 'run' },
  revoke: { type: 'revoke', leaseId: '3.1.a', keep: 2 },
  digests: { type: 'digests', blob: BLOB, first: 0, digests: DIGEST, by: PEER },
  invalid: { type: 'invalid', blob: BLOB, ranges: [[0, 4]], round: 2 },
  banned: { type: 'banned', peers: [PEER] },
  rollouts: {
    type: 'rollouts',
    tasks: [
      { rolloutId: 'r-1', attempt: 1, task: 'resolve', origin: 'docker.io', repository: 'library/nginx', tag: '1.27' },
      { rolloutId: 'r-2', attempt: 3, task: 'pull', origin: 'docker.io', repository: 'library/nginx', tag: '1.27', digest: BLOB.digest, platform: 'linux/arm64/v8' },
    ],
  },
  brakes: { type: 'brakes', brakes: [{ id: 'b-1', forMs: 60_000, stopUploads: true, originOnly: false, downloadLimit: 1e6 }] },
  watch: { type: 'watch', forMs: 10_000 },
};

/** As a host says them that is pulling, and that somebody looks at. */
const FULL_STATS: AgentMessage = {
  ...(MESSAGES.stats as Extract<AgentMessage, { type: 'stats' }>),
  vitals: { atMs: 1, peerRate: 5, originRate: 6, uploadRate: 7, loop: 0.25, cpu: 1.5, diskWriteMs: 12.5, diskBusy: 1, peers: 14, sources: 3, missingBytes: 10, freeBytes: 1e12, memoryBytes: 2e8 },
  faults: [['docker.io', 'throttled', 3]],
  limits: { upload: 1_000_000 },
  brakes: ['b-1'],
  finished: [
    { digest: BLOB.digest, size: 10, origin: 'docker.io', repository: 'library/nginx', manifest: BLOB.digest, startedAtMs: 1, endedAtMs: 2, originBytes: 4, resumedBytes: 0, duplicateBytes: 0, peerBytes: 6, sources: [[PEER, 6]], requestIds: ['r'] },
    { digest: BLOB.digest, size: 10, startedAtMs: 1, endedAtMs: 2, originBytes: 0, resumedBytes: 0, duplicateBytes: 0, peerBytes: 0, sources: [], error: 'PULL_STALLED' },
  ],
  manifests: [{ digest: BLOB.digest, size: 10, mediaType: 'application/vnd.oci.image.index.v1+json', origin: 'docker.io', repository: 'library/nginx', tag: '1.27', blobs: [{ ...BLOB, kind: 'manifest', platform: 'linux/arm64' }] }],
  detail: { peers: [[PEER, 1, 2, 3, 4]], downloads: [{ digest: BLOB.digest, size: 10, peerBytes: 1, originBytes: 2, duplicateBytes: 0, sources: [[PEER, 1, 0]], error: 'x' }], errors: [{ atMs: 1, code: 'DISK_FULL', message: 'no room' }] },
};

describe('schemas', () => {
  const batch = Compile(MessageBatch);
  const message = Compile(AgentMessage);
  const event = Compile(TrackerEvent);

  test.each(Object.entries(MESSAGES))('message %s', (_, example) => {
    expect(message.Check(example)).toBe(true);
    expect(batch.Check(JSON.parse(JSON.stringify({ messages: [example] })))).toBe(true);
  });

  test('message stats, with all that it may say', () => {
    expect(batch.Check(JSON.parse(JSON.stringify({ messages: [FULL_STATS] })))).toBe(true);
  });

  test.each(Object.entries(EVENTS))('event %s', (_, example) => {
    expect(event.Check(JSON.parse(JSON.stringify(example)))).toBe(true);
  });

  test('event welcome, of a tracker that asks origins for the fleet', () => {
    expect(event.Check({ ...EVENTS.welcome, protocol: 1, resolves: true })).toBe(true);
  });

  test('event ping, with a word of the fleet', () => {
    expect(event.Check({ type: 'ping', fleet: { up: 1, stale: 0, down: 2, pulling: 0, verdict: 'nothing wrong', version: '0.1.0' } })).toBe(true);
  });

  test.each([
    [{ ...MESSAGES.want, blob: { ...BLOB, digest: 'sha256:short' } }],
    [{ ...MESSAGES.have, ranges: [[-1, 2]] }],
    [{ ...MESSAGES.have, ranges: [[0, 1, 2]] }],
    [{ ...MESSAGES.need, runs: 17 }],
    [{ ...MESSAGES.release, reason: 'bored' }],
    [{ ...MESSAGES.done, leaseId: 'x'.repeat(65) }],
    [{ type: 'unheard-of' }],
  ])('refuse %o', (bad) => {
    expect(message.Check(bad)).toBe(false);
  });

  test('a newer side may say more: fields that are not known do not make a message malformed', () => {
    for (const example of Object.values(MESSAGES)) expect(batch.Check({ messages: [{ ...example, mood: 'fine' }], more: 1 })).toBe(true);
    for (const example of Object.values(EVENTS)) expect(event.Check({ ...example, mood: 'fine' })).toBe(true);
    expect(event.Check({ type: 'rollouts', tasks: [{ ...EVENTS.rollouts, rolloutId: 'r', attempt: 1, task: 'polish', origin: 'o', repository: 'r', gently: true }] })).toBe(true);
    expect(message.Check({ ...MESSAGES['rollout-progress'], phase: 'polishing' })).toBe(true);
  });

  test('of requests and replies', () => {
    expect(Compile(EnrollRequest).Check({ tokenId: 't', peerId: PEER, publicKey: 'k', timestampMs: 1, mac: 'm', signature: 's' })).toBe(true);
    expect(Compile(EnrollResponse).Check({ fleetId: 'f', fleetKey: 'PEM', membership: 'm' })).toBe(true);
    const session = { peerId: PEER, nonce: '0123456789abcdef', timestampMs: 1, signature: 's', addresses: [], name: 'host', labels: { rack: '7' }, agentVersion: '1' };
    expect(Compile(SessionRequest).Check(session)).toBe(true);
    expect(Compile(SessionRequest).Check({ ...session, nonce: 'short' })).toBe(false);
    expect(Compile(LocateRequest).Check({ origin: 'docker.io', repository: 'library/nginx', digest: BLOB.digest })).toBe(true);
    expect(Compile(LocateResponse).Check({})).toBe(true);
    expect(Compile(LocateResponse).Check({ found: { size: 1, kind: 'manifest', mediaType: 'x' } })).toBe(true);
    const resolve = { origin: 'docker.io', urls: ['https://registry-1.docker.io'], repository: 'library/nginx', kind: 'manifest', reference: '1.27' };
    expect(Compile(ResolveRequest).Check(resolve)).toBe(true);
    expect(Compile(ResolveRequest).Check({ ...resolve, accept: ['application/vnd.oci.image.index.v1+json'], mood: 'fine' })).toBe(true);
    expect(Compile(ResolveRequest).Check({ ...resolve, urls: [] })).toBe(false);
    expect(Compile(ResolveResponse).Check({ found: { ...BLOB, mediaType: 'x' } })).toBe(true);
    expect(Compile(ResolveResponse).Check({ why: 'a-reason-of-a-newer-tracker' })).toBe(true);
    expect(Compile(ResolveResponse).Check({ found: { digest: 'latest', size: 1, mediaType: 'x' } })).toBe(false);
  });
});
