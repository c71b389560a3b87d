import { expect, test } from 'vitest';
import { readAccessLog } from './access-log.ts';

const DIGEST = `sha256:${'a'.repeat(64)}`;

function line(method: string, uri: string, written: number, status = 200, client = '10.77.0.3:40000'): string {
  return JSON.stringify({ 'http.request.method': method, 'http.request.uri': uri, 'http.response.status': status, 'http.response.written': written, 'http.request.remoteaddr': client, msg: 'response completed' });
}

test('payload is counted per digest over all its ranges, heads and manifests apart', () => {
  const use = readAccessLog(
    [
      '{"level":"info","msg":"listening on 10.77.0.2:5000"}',
      '10.77.0.3 - - "GET /v2/fleet/image/blobs/x HTTP/1.1" 200 5 "" "curl"',
      line('GET', `/v2/fleet/image/blobs/${DIGEST}`, 1000, 206),
      line('GET', `/v2/fleet/image/blobs/${DIGEST}`, 20, 206, '10.77.0.3:40001'),
      line('GET', `/v2/fleet/image/blobs/${DIGEST}`, 4, 206, '10.77.0.4:40000'),
      line('HEAD', `/v2/fleet/image/blobs/${DIGEST}`, 0),
      line('HEAD', '/v2/fleet/image/manifests/v1', 0),
      line('HEAD', '/v2/fleet/image/manifests/v1', 0),
      line('GET', '/v2/', 2),
      JSON.stringify({ 'http.request.method': 'GET', 'http.request.uri': '/v2/x/manifests/y', 'http.response.status': 404, 'http.response.written': 91, msg: 'response completed with error' }),
      '',
    ].join('\n'),
  );
  expect([...use.payload]).toEqual([[DIGEST, 1024]]);
  expect([...use.payloadByClient]).toEqual([['10.77.0.3', 1020], ['10.77.0.4', 4]]);
  expect(use).toMatchObject({ requests: 8, blobReads: 3, other: { 'HEAD blobs': 1, 'HEAD manifests': 2, 'GET manifests': 1, 'GET ping': 1 } });
});
