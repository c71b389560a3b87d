import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { caPin, formatJoinToken, type JoinToken } from '@flotilla/shared/join-token';
import { ROUTES } from '@flotilla/shared/tracker-api';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { readJoinToken, TrackerClient, trackerUrl } from './client.ts';
import { STRANGER_CERTIFICATE, TEST_CA, TRACKER_CERTIFICATE } from './test-certificates.ts';
import { TestTracker } from './test-tracker.ts';

const token: JoinToken = { id: 'token-1', secret: Buffer.alloc(32, 7).toString('base64url') };
const pin = caPin(TEST_CA);
const never = new AbortController().signal;

let client: TrackerClient;
const trackers: TestTracker[] = [];
beforeEach(() => {
  client = new TrackerClient();
});
afterEach(async () => {
  await client.close();
  await Promise.all(trackers.splice(0).map((tracker) => tracker.close()));
});

async function started(tls?: { cert: string; key: string; ca: string }): Promise<{ tracker: TestTracker; url: string }> {
  const tracker = new TestTracker(token, tls);
  trackers.push(tracker);
  return { tracker, url: await tracker.listen() };
}

/** An enrolment that any tracker refuses as malformed: a refusal is proof of an answer. */
function ask(url: string, caPin?: string): Promise<unknown> {
  return client.post({ url, caPin }, ROUTES.enroll, '{}', never);
}

describe('trust', () => {
  test('the pinned CA is fetched once and trusted whatever the name in the certificate', async () => {
    const { tracker, url } = await started({ ...TRACKER_CERTIFICATE, ca: TEST_CA });
    await expect(ask(url, pin)).rejects.toMatchObject({ code: 'TRACKER_REFUSED', detail: { status: 400, code: 'MALFORMED' } });
    await expect(ask(url, pin)).rejects.toMatchObject({ code: 'TRACKER_REFUSED' });
    expect(tracker.requests).toEqual(['GET /api/v1/ca', 'POST /api/v1/enroll', 'POST /api/v1/enroll']);
  });

  test('another CA than the pinned one: nothing is sent', async () => {
    const { tracker, url } = await started({ ...TRACKER_CERTIFICATE, ca: TEST_CA });
    await expect(ask(url, `sha256:${'0'.repeat(64)}`)).rejects.toMatchObject({ code: 'TRACKER_PIN', detail: { shown: pin } });
    expect(tracker.requests).toEqual(['GET /api/v1/ca']);
  });

  test('somebody who shows the right CA without a certificate of it: nothing is sent', async () => {
    const { tracker, url } = await started({ ...STRANGER_CERTIFICATE, ca: TEST_CA });
    await expect(ask(url, pin)).rejects.toMatchObject({ code: 'TRACKER_PIN' });
    expect(tracker.requests).toEqual(['GET /api/v1/ca']);
  });

  test.each(['', 'no certificate'])('a CA that is none (%j) is refused', async (ca) => {
    const { url } = await started({ ...TRACKER_CERTIFICATE, ca });
    await expect(ask(url, pin)).rejects.toMatchObject({ code: 'TRACKER_PIN' });
  });

  test("without a pin the system's CAs decide", async () => {
    const { tracker, url } = await started({ ...TRACKER_CERTIFICATE, ca: TEST_CA });
    await expect(ask(url)).rejects.toMatchObject({ code: 'TRACKER_UNREACHABLE' });
    expect(tracker.requests).toEqual([]);
  });

  test('http needs none of it, even with a pin in the token', async () => {
    const { tracker, url } = await started();
    await expect(ask(url, pin)).rejects.toMatchObject({ code: 'TRACKER_REFUSED' });
    expect(tracker.requests).toEqual(['POST /api/v1/enroll']);
  });

  test('a failure is not remembered', async () => {
    const { tracker, url } = await started({ ...TRACKER_CERTIFICATE, ca: TEST_CA });
    const port = Number(new URL(url).port);
    await tracker.close();
    trackers.length = 0;
    await expect(ask(url, pin)).rejects.toMatchObject({ code: 'TRACKER_UNREACHABLE' });
    const again = new TestTracker(token, { ...TRACKER_CERTIFICATE, ca: TEST_CA });
    trackers.push(again);
    await again.listen(port);
    await expect(ask(url, pin)).rejects.toMatchObject({ code: 'TRACKER_REFUSED' });
  });
});

describe('answers', () => {
  test('passing trouble of the tracker counts as unreachable, a refusal does not', async () => {
    const { url } = await started();
    await expect(client.post({ url, caPin: undefined }, '/nowhere', '{}', never)).rejects.toMatchObject({ code: 'TRACKER_REFUSED', detail: { status: 404 } });
    await expect(client.post({ url, caPin: undefined }, ROUTES.enroll, '{no json', never)).rejects.toMatchObject({ code: 'TRACKER_UNREACHABLE', detail: { status: 500 } });
  });

  test('an aborted request ends', async () => {
    const { url } = await started();
    await expect(client.post({ url, caPin: undefined }, ROUTES.enroll, '{}', AbortSignal.abort())).rejects.toMatchObject({ code: 'TRACKER_UNREACHABLE' });
  });
});

describe('the join token file', () => {
  let dir: string;
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'flotilla-token-'));
  });
  afterEach(() => rm(dir, { recursive: true, force: true }));

  test('is read with the newline that editors leave', async () => {
    await writeFile(join(dir, 'join-token'), `${formatJoinToken({ ...token, caPin: pin })}\n`);
    expect(await readJoinToken(join(dir, 'join-token'))).toEqual({ ...token, caPin: pin });
  });

  test('missing or cut short it is a typed error', async () => {
    await expect(readJoinToken(join(dir, 'join-token'))).rejects.toMatchObject({ code: 'JOIN_TOKEN_INVALID' });
    await writeFile(join(dir, 'join-token'), formatJoinToken(token).slice(0, 30));
    await expect(readJoinToken(join(dir, 'join-token'))).rejects.toMatchObject({ code: 'JOIN_TOKEN_INVALID' });
  });
});

test('tracker URLs', () => {
  expect(trackerUrl('https://tracker.example:5052/')).toBe('https://tracker.example:5052');
  expect(trackerUrl('http://10.0.0.1/flotilla/')).toBe('http://10.0.0.1/flotilla');
  expect(() => trackerUrl('tracker:5052')).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
  expect(() => trackerUrl('ftp://tracker')).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
  expect(() => trackerUrl('')).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
});
