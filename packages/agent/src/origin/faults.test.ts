// One code for each fault, made over real sockets: what is thrown, what the status keeps of it, and what is counted. A code without a way to
// make it fails here.

import { createServer, type LookupFunction } from 'node:net';
import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Authority } from '../content/ports.ts';
import { AgentError, ERRORS, type ErrorCode } from '../errors.ts';
import type { CredentialSource } from './credentials/secret.ts';
import { ScriptedServer, reply } from './scripted-server.ts';
import { TestCa } from './test-certificates.ts';
import { AGENT, LAB, LAB_BLOB, alwaysCredentials, bytesOf, sha256, testOrigin, type TestOrigin } from './test-origin.ts';
import { TestProxy } from './test-proxy.ts';

type OriginCode = Extract<ErrorCode, `ORIGIN_${string}`>;
type Ask = (lab: TestOrigin, authority: Authority) => Promise<unknown>;
interface Scenario {
  readonly lab: TestOrigin;
  /** @default a read of a blob */
  readonly ask?: Ask;
}

const digest = sha256('the blob');
const read: Ask = async ({ client, signal }, authority) => bytesOf(await client.read(LAB_BLOB, digest, undefined, authority, signal));

let opened: AsyncDisposableStack;
beforeEach(() => {
  opened = new AsyncDisposableStack();
});
afterEach(() => opened.disposeAsync());

function origin(...args: Parameters<typeof testOrigin>): TestOrigin {
  return opened.use(testOrigin(...args));
}
async function answering(handler: (request: IncomingMessage, response: ServerResponse) => void, options?: Parameters<typeof testOrigin>[1]): Promise<TestOrigin> {
  const server = opened.use(await ScriptedServer.start(handler));
  return origin([server.url], options);
}
const challenged = (realm: string) => (_request: IncomingMessage, response: ServerResponse) => reply(response, 401, '', { 'www-authenticate': `Bearer realm="${realm}"` });
async function deadPort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  return typeof address === 'object' && address !== null ? address.port : 0;
}
const resolvesTo = (address: string): LookupFunction => (_host, _options, callback) => callback(null, [{ address, family: 4 }]);

const SCENARIOS: Record<OriginCode, () => Promise<Scenario>> = {
  ORIGIN_FORBIDDEN: async () => ({ lab: origin(['http://registry.example'], { deps: { lookup: resolvesTo('169.254.169.254') } }) }),
  ORIGIN_UNREACHABLE: async () => ({ lab: origin([`http://127.0.0.1:${await deadPort()}`]) }),
  ORIGIN_TLS: async () => {
    const server = opened.use(await ScriptedServer.start((_request, response) => reply(response, 200), await (await TestCa.create()).issue('x')));
    return { lab: origin([server.url]) };
  },
  ORIGIN_CLIENT_CERT: async () => ({ lab: await answering((_request, response) => reply(response, 400, '<h1>400</h1>No required SSL certificate was sent')) }),
  ORIGIN_PROXY: async () => {
    const proxy = opened.use(await TestProxy.start({ tunnels: 403 }));
    return { lab: origin(['https://registry.example'], { config: { proxy: { https: proxy.url } } }) };
  },
  ORIGIN_CREDENTIALS: async () => {
    const credentials: CredentialSource = { find: async () => ({ secret: undefined, from: undefined, failure: new AgentError('ORIGIN_CREDENTIALS', 'docker-credential-x: it ended with code 1') }), refused: () => undefined };
    return { lab: await answering((_request, response) => reply(response, 401, '', { 'www-authenticate': 'Basic realm="x"' }), { deps: { credentials } }) };
  },
  ORIGIN_TIMEOUT: async () => ({ lab: await answering(() => undefined, { config: { limits: { headersTimeoutMs: 200 } } }) }),
  ORIGIN_STATUS: async () => ({ lab: await answering((_request, response) => reply(response, 500)) }),
  ORIGIN_UNAUTHORIZED: async () => ({ lab: await answering((_request, response) => reply(response, 401, '', { 'www-authenticate': 'Basic realm="x"' })) }),
  ORIGIN_CREDENTIALS_REFUSED: async () => {
    const credentials = alwaysCredentials({ kind: 'basic', username: 'ann', password: 'wrong' });
    return { lab: await answering((_request, response) => reply(response, 401, '', { 'www-authenticate': 'Basic realm="x"' }), { deps: { credentials } }) };
  },
  ORIGIN_DENIED: async () => ({ lab: await answering((_request, response) => reply(response, 403)) }),
  ORIGIN_AUTH_FAILED: async () => {
    const tokens = opened.use(await ScriptedServer.start((_request, response) => reply(response, 200, '{}')));
    return { lab: await answering(challenged(tokens.url)) };
  },
  ORIGIN_REALM_REFUSED: async () => ({ lab: await answering(challenged('https://elsewhere.example/token')) }),
  ORIGIN_THROTTLED: async () => ({ lab: await answering((_request, response) => reply(response, 429, '', { 'retry-after': '5' })) }),
  ORIGIN_REDIRECT: async () => ({ lab: await answering((request, response) => reply(response, 307, '', { location: request.url ?? '' })) }),
  ORIGIN_LISTING: async () => ({ lab: await answering((_request, response) => reply(response, 200, '{}')), ask: ({ client, signal }, authority) => client.listTags(LAB, {}, authority, signal) }),
  ORIGIN_LENGTH: async () => ({
    lab: await answering((_request, response) => {
      response.writeHead(200, { 'content-length': 8 });
      response.write('the', () => response.destroy());
    }),
  }),
};

test('every code of an origin can be made', () => {
  expect(Object.keys(SCENARIOS).toSorted()).toEqual(Object.keys(ERRORS).filter((code) => code.startsWith('ORIGIN_')).toSorted());
});

test.each(Object.keys(SCENARIOS) as OriginCode[])('%s', async (code) => {
  const { lab, ask = read } = await SCENARIOS[code]();
  await expect(ask(lab, AGENT)).rejects.toMatchObject({ code });
  const [status] = lab.client.status();
  expect(status).toMatchObject({ name: 'lab', faults: [{ code, count: 1, message: expect.any(String), firstAtMs: lab.clock.nowMs, lastAtMs: lab.clock.nowMs }] });
  expect(lab.counts.faults).toEqual([code]);
  // The second one is the same fault again.
  await expect(ask(lab, AGENT)).rejects.toMatchObject({ code });
  expect(lab.client.status()[0]!.faults.map((fault) => [fault.code, fault.count])).toEqual([[code, 2]]);
});
