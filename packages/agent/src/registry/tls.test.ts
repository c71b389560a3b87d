import 'reflect-metadata';
import { once } from 'node:events';
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';
import https from 'node:https';
import { connect as tcpConnect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect, type TLSSocket } from 'node:tls';
import * as x509 from '@peculiar/x509';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { BLOB, BLOB_PATH, cleanups, oci, say, serve, type Served } from './test-endpoint.ts';
import { EndpointTls, type TlsFiles } from './tls.ts';

interface Pair {
  readonly cert: string;
  readonly key: string;
}

let first: Pair;
let second: Pair;
let dir: string;
let pairs = 0;

beforeAll(async () => {
  [first, second] = [await makePair('first.test'), await makePair('second.test')];
  dir = await mkdtemp(join(tmpdir(), 'flotilla-tls-'));
});
afterAll(() => rm(dir, { recursive: true }));

async function makePair(name: string): Promise<Pair> {
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
  const keys = await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({ name: `CN=${name}`, keys, signingAlgorithm: algorithm });
  const key = Buffer.from(await crypto.subtle.exportKey('pkcs8', keys.privateKey)).toString('base64');
  return { cert: certificate.toString('pem'), key: `-----BEGIN PRIVATE KEY-----\n${key}\n-----END PRIVATE KEY-----\n` };
}

/** Replaces a file as operators do: whole. */
async function put(file: string, text: string): Promise<void> {
  await writeFile(`${file}.new`, text);
  await rename(`${file}.new`, file);
}

async function filesOf({ cert, key }: Pair): Promise<TlsFiles> {
  const files = { certFile: join(dir, `${++pairs}-cert.pem`), keyFile: join(dir, `${pairs}-key.pem`) };
  await put(files.certFile, cert);
  await put(files.keyFile, key);
  return files;
}

interface Secure {
  readonly served: Served;
  readonly files: TlsFiles;
  /** Resolves with the next line of what TLS has to say. */
  line(): Promise<Record<string, unknown>>;
}

async function serveTls(): Promise<Secure> {
  const files = await filesOf(first);
  const waiting: ((line: Record<string, unknown>) => void)[] = [];
  const log = pino({ base: undefined }, { write: (text) => waiting.splice(0).forEach((resolve) => resolve(JSON.parse(text) as Record<string, unknown>)) });
  const served = await serve({ tls: await EndpointTls.open(files, log) });
  return { served, files, line: () => new Promise((resolve) => waiting.push(resolve)) };
}

async function nameShown({ served }: Secure): Promise<string> {
  const socket: TLSSocket = connect({ ...served.address, rejectUnauthorized: false });
  await once(socket, 'secureConnect');
  const { CN } = socket.getPeerCertificate().subject;
  socket.destroy();
  return String(CN);
}

describe('an endpoint with a certificate', () => {
  test('serves over TLS, connections kept', async () => {
    const { served } = await serveTls();
    const agent = new https.Agent({ keepAlive: true, ca: first.cert, checkServerIdentity: () => undefined });
    cleanups.push(async () => agent.destroy());
    for (let i = 0; i < 2; i++) {
      const request = https.get({ ...served.address, path: BLOB_PATH, agent });
      const [response] = (await once(request, 'response')) as [IncomingMessage];
      const pieces: Buffer[] = [];
      for await (const piece of response) pieces.push(piece as Buffer);
      expect(response.statusCode).toBe(200);
      expect(Buffer.concat(pieces).equals(BLOB)).toBe(true);
      expect(request.reusedSocket).toBe(i === 1);
    }
  });

  test('tells who speaks plain HTTP to it', async () => {
    const { served } = await serveTls();
    const answer = await say(served, Buffer.from('GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n'));
    expect(answer).toMatch(/^HTTP\/1\.1 400 /);
    const body = Buffer.from(answer.slice(answer.indexOf('\r\n\r\n') + 4), 'latin1');
    expect(oci({ status: 400, headers: {}, body })).toMatchObject({ code: 'UNSUPPORTED', detail: { code: 'PLAIN_ON_TLS_PORT' } });
  });

  test('shows the certificate that the files hold now', async () => {
    const secure = await serveTls();
    expect(await nameShown(secure)).toBe('first.test');
    const line = secure.line();
    await put(secure.files.keyFile, second.key);
    expect(await line, 'a key without its certificate').toMatchObject({ level: 40, err: { code: 'CONFIG_INVALID' } });
    expect(await nameShown(secure)).toBe('first.test');
    const next = secure.line();
    await put(secure.files.certFile, second.cert);
    expect(await next).toMatchObject({ level: 30 });
    expect(await nameShown(secure)).toBe('second.test');
  });

  test('closes although somebody has connected and says nothing', async () => {
    const { served } = await serveTls();
    const silent = tcpConnect(served.address);
    await once(silent, 'connect');
    const closed = once(silent, 'close');
    silent.on('error', () => silent.destroy());
    await served.registry.close();
    await closed;
  });

  test.each<[string, (files: TlsFiles) => TlsFiles | Promise<TlsFiles>, RegExp]>([
    ['a file that is missing', (files) => ({ ...files, keyFile: join(dir, 'nowhere') }), /^--tls-key: .*nowhere cannot be read$/],
    ['a key of another certificate', async (files) => ({ ...files, keyFile: (await filesOf(second)).keyFile }), /no certificate and its key/],
    ['files that are no PEM', (files) => ({ ...files, certFile: files.keyFile }), /no certificate and its key/],
  ])('refuses %s at the start', async (_, change, message) => {
    const files = await change(await filesOf(first));
    await expect(EndpointTls.open(files, pino({ level: 'silent' }))).rejects.toMatchObject({ code: 'CONFIG_INVALID', message: expect.stringMatching(message) });
  });
});
