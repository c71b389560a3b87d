// What a TLS server that is not ours says when it wants a client certificate: OpenSSL's own, with the alerts of the protocol.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest';
import { TestCa } from '@flotilla/agent/origin/test-certificates';
import { AGENT, ANONYMOUS, LAB, sha256, testOrigin, type TestOrigin } from '@flotilla/agent/origin/test-origin';
import { needs, programPath } from '../support/programs.ts';

needs('openssl')('an origin that demands client certificates', () => {
  let folder: string;
  const path = (name: string): string => join(folder, name);

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'flotilla-openssl-'));
    const ca = await TestCa.create();
    const write = async (name: string, from: TestCa): Promise<void> => {
      const { cert, key } = await from.issue(name);
      writeFileSync(path(`${name}.pem`), cert);
      writeFileSync(path(`${name}.key`), key);
    };
    writeFileSync(path('ca.pem'), ca.cert);
    await write('server', ca);
    await write('client', ca);
    await write('stranger', await TestCa.create('another CA'));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  /** The port of a server that answers every GET with a page. */
  async function serve(version: '-tls1_2' | '-tls1_3'): Promise<number> {
    const args = ['s_server', '-accept', '127.0.0.1:0', '-www', version, '-cert', path('server.pem'), '-key', path('server.key'), '-CAfile', path('ca.pem'), '-Verify', '1', '-verify_return_error'];
    const child = spawn(programPath('openssl') ?? '', args, { stdio: ['ignore', 'pipe', 'ignore'] });
    onTestFinished(async () => {
      const closed = once(child, 'close');
      child.kill('SIGKILL');
      await closed;
    });
    let said = '';
    for await (const piece of child.stdout) {
      said += String(piece);
      const port = /ACCEPT 127\.0\.0\.1:(\d+)/.exec(said)?.[1];
      if (port !== undefined) return Number(port);
    }
    throw new Error(`openssl did not start: ${said}`);
  }

  function origin(port: number, certificate: string | undefined): TestOrigin {
    const tls = { caFile: path('ca.pem'), ...(certificate !== undefined && { certFile: path(`${certificate}.pem`), keyFile: path(`${certificate}.key`) }) };
    const lab = testOrigin([`https://127.0.0.1:${port}`], { settings: { tls } });
    onTestFinished(() => lab[Symbol.asyncDispose]());
    return lab;
  }
  const ask = ({ client, signal }: TestOrigin, authority = AGENT) => client.read({ ...LAB, kind: 'blob' }, sha256('x'), undefined, authority, signal).then((body) => body.cancel());

  it.each(['-tls1_2', '-tls1_3'] as const)('lets the right one in (%s)', async (version) => {
    await ask(origin(await serve(version), 'client'));
  });

  it('says that there is none', async () => {
    const port = await serve('-tls1_3');
    await expect(ask(origin(port, undefined))).rejects.toMatchObject({ code: 'ORIGIN_CLIENT_CERT', detail: { systemCode: 'ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED' } });
    await expect(ask(origin(port, 'client'), ANONYMOUS)).rejects.toMatchObject({ code: 'ORIGIN_UNAUTHORIZED' });
  });

  it('says it less clearly in TLS 1.2', async () => {
    const port = await serve('-tls1_2');
    await expect(ask(origin(port, undefined))).rejects.toMatchObject({ code: 'ORIGIN_TLS' });
    await expect(ask(origin(port, 'client'), ANONYMOUS)).rejects.toMatchObject({ code: 'ORIGIN_UNAUTHORIZED' });
  });

  it.each(['-tls1_2', '-tls1_3'] as const)('says that it is a stranger (%s)', async (version) => {
    await expect(ask(origin(await serve(version), 'stranger'))).rejects.toMatchObject({ code: 'ORIGIN_CLIENT_CERT' });
  });
});
