// A token server as registries have it (distribution's token flow): anybody may pull from public repositories, one user may push and read all.
//
// Tokens are RS256 with the certificate in their header, so that a real registry believes them by its rootcertbundle.

import { createPrivateKey, randomUUID, sign, X509Certificate, type KeyObject } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { run } from './command.ts';
import type { RegistryTokenAuth } from './registry.ts';

const ISSUER = 'flotilla test';
const SERVICE = 'flotilla test registry';
const LIFETIME_S = 60;

export interface TokenRequest {
  readonly scope: string | undefined;
  /** with credentials, right or wrong */
  readonly signedIn: boolean;
}

export class TokenServer {
  /** user:password that may do all */
  readonly credentials = 'builder:not a secret';
  readonly requests: TokenRequest[] = [];
  readonly #dir: string;
  readonly #key: KeyObject;
  readonly #certificate: X509Certificate;
  readonly #publicPrefix: string;
  readonly #server: Server;

  private constructor(dir: string, key: KeyObject, certificate: X509Certificate, publicPrefix: string) {
    this.#dir = dir;
    this.#key = key;
    this.#certificate = certificate;
    this.#publicPrefix = publicPrefix;
    this.#server = createServer((request, response) => {
      const answer = this.#answer(request);
      response.writeHead(answer === undefined ? 401 : 200, { 'content-type': 'application/json' });
      response.end(JSON.stringify(answer ?? { errors: [{ code: 'UNAUTHORIZED', message: 'wrong credentials' }] }));
    });
  }

  /** @param publicPrefix repositories that begin so may be pulled by anybody */
  static async start(publicPrefix: string): Promise<TokenServer> {
    const dir = await mkdtemp(join(tmpdir(), 'flotilla-tokens-'));
    const keyFile = join(dir, 'key.pem');
    const certFile = join(dir, 'cert.pem');
    await run('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=flotilla-test', '-keyout', keyFile, '-out', certFile]);
    const [key, certificate] = await Promise.all([readFile(keyFile), readFile(certFile)]);
    const tokens = new TokenServer(dir, createPrivateKey(key), new X509Certificate(certificate), publicPrefix);
    await new Promise<void>((resolve) => tokens.#server.listen(0, '127.0.0.1', resolve));
    return tokens;
  }

  /** What the registry is to be told. */
  get auth(): RegistryTokenAuth {
    const { port } = this.#server.address() as AddressInfo;
    return { realm: `http://127.0.0.1:${port}/token`, service: SERVICE, issuer: ISSUER, rootCertBundle: join(this.#dir, 'cert.pem') };
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
    await rm(this.#dir, { recursive: true });
  }

  #answer(request: IncomingMessage): { token: string; expires_in: number } | undefined {
    const { searchParams } = new URL(request.url ?? '/', 'http://tokens');
    const basic = /^Basic (.+)$/.exec(request.headers.authorization ?? '')?.[1];
    const scopes = searchParams.getAll('scope');
    this.requests.push({ scope: scopes[0], signedIn: basic !== undefined });
    const known = basic !== undefined && Buffer.from(basic, 'base64').toString() === this.credentials;
    if (basic !== undefined && !known) return undefined;
    const access = scopes.flatMap((scope) => {
      const [type, name, actions] = scope.split(':');
      const allowed = actions?.split(',').filter((action) => known || (action === 'pull' && name?.startsWith(this.#publicPrefix) === true));
      return type === 'repository' ? [{ type, name, actions: allowed }] : [];
    });
    return { token: this.#token(access), expires_in: LIFETIME_S };
  }

  #token(access: readonly unknown[]): string {
    const nowS = Math.floor(Date.now() / 1000);
    const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');
    const header = part({ typ: 'JWT', alg: 'RS256', x5c: [this.#certificate.raw.toString('base64')] });
    const claims = part({ iss: ISSUER, sub: '', aud: SERVICE, exp: nowS + LIFETIME_S, nbf: nowS - 5, iat: nowS, jti: randomUUID(), access });
    return `${header}.${claims}.${sign('RSA-SHA256', Buffer.from(`${header}.${claims}`), this.#key).toString('base64url')}`;
  }
}
