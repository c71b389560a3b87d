// The tracker's own certificates: a CA made at the first start, whose pin goes into the join token, and a server certificate
// that is renewed in time and when the tracker's names or addresses have changed. Files under DIR/tls, 0600.
// Non-goals: certificates that others issued (given with --tls-cert and --tls-key; the operator renews those).

import 'reflect-metadata';
import { mkdir, readFile } from 'node:fs/promises';
import { hostname, networkInterfaces } from 'node:os';
import { isIP } from 'node:net';
import { join } from 'node:path';
import { createPrivateKey, webcrypto, X509Certificate as NodeCertificate } from 'node:crypto';
import { createSecureContext } from 'node:tls';
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  cryptoProvider,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from '@peculiar/x509';
import { readIfThere, writeSecret } from './durable-file.ts';
import { TrackerError } from './errors.ts';

const DAY_MS = 24 * 60 * 60 * 1000;
const CA_DAYS = 3650;
const SERVER_DAYS = 365;
const RENEW_DAYS = 90;
/** Clocks of agents may be behind. */
const BACKDATE_MS = DAY_MS;
const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;

/** What a TLS server needs, as PEM. */
export interface Credentials {
  readonly cert: string;
  readonly key: string;
}

export interface OwnTls extends Credentials {
  readonly caPem: string;
}

/** Names and addresses that the server certificate is for: this machine's, where it listens on all of them. */
export function certificateNames(listenHost: string, extra: readonly string[]): string[] {
  const wildcard = listenHost === '0.0.0.0' || listenHost === '::';
  const own = wildcard ? Object.values(networkInterfaces()).flatMap((addresses) => (addresses ?? []).map(({ address }) => address)) : [listenHost];
  return [...new Set(['localhost', '127.0.0.1', '::1', hostname(), ...own, ...extra])].filter((name) => !name.includes('%'));
}

/** CA and server certificate from DIR/tls, made or renewed where needed. */
export async function ensureOwnTls(dataDir: string, names: readonly string[], nowMs: number): Promise<OwnTls> {
  cryptoProvider.set(webcrypto);
  const dir = join(dataDir, 'tls');
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const ca = (await readPair(dir, 'ca')) ?? (await makeCa(dir, nowMs));
  if (!fit(ca)) throw new TrackerError('CERTIFICATE_UNUSABLE', `${join(dir, 'ca.pem')} and ca-key.pem do not fit; restore them, or remove both: agents then need the new join token`);
  const server = await readPair(dir, 'server');
  if (server !== undefined && serves(server, ca.cert, names, nowMs)) return { ...server, caPem: ca.cert };
  return { ...(await makeServer(dir, ca, names, nowMs)), caPem: ca.cert };
}

/** Certificates that the operator gave. @throws CERTIFICATE_UNUSABLE */
export async function readGivenTls(certFile: string, keyFile: string): Promise<Credentials> {
  try {
    const [cert, key] = await Promise.all([readFile(certFile, 'utf8'), readFile(keyFile, 'utf8')]);
    createSecureContext({ cert, key });
    return { cert, key };
  } catch (error) {
    throw new TrackerError('CERTIFICATE_UNUSABLE', `${certFile} with ${keyFile} is no usable certificate`, { cause: error });
  }
}

async function readPair(dir: string, name: string): Promise<Credentials | undefined> {
  const [cert, key] = await Promise.all([readIfThere(join(dir, `${name}.pem`)), readIfThere(join(dir, `${name}-key.pem`))]);
  return cert === undefined || key === undefined ? undefined : { cert, key };
}

function fit({ cert, key }: Credentials): boolean {
  return new NodeCertificate(cert).checkPrivateKey(createPrivateKey(key));
}

/** Whether the pair is whole (a crash may have left a new key beside the old certificate), for these names, and not about to end. */
function serves(pair: Credentials, ca: string, names: readonly string[], nowMs: number): boolean {
  if (!fit(pair)) return false;
  const parsed = new NodeCertificate(pair.cert);
  if (!parsed.checkIssued(new NodeCertificate(ca)) || Date.parse(parsed.validTo) - nowMs < RENEW_DAYS * DAY_MS) return false;
  return names.every((name) => (isIP(name) === 0 ? parsed.checkHost(name, { wildcards: false }) : parsed.checkIP(name)) !== undefined);
}

async function makeCa(dir: string, nowMs: number): Promise<Credentials> {
  const keys = await newKeys();
  const cert = await X509CertificateGenerator.createSelfSigned({
    name: 'CN=Flotilla tracker CA',
    notBefore: new Date(nowMs - BACKDATE_MS),
    notAfter: new Date(nowMs + CA_DAYS * DAY_MS),
    signingAlgorithm: ALGORITHM,
    keys,
    extensions: [
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return write(dir, 'ca', cert, keys.privateKey);
}

async function makeServer(dir: string, ca: Credentials, names: readonly string[], nowMs: number): Promise<Credentials> {
  const keys = await newKeys();
  const caCert = new X509Certificate(ca.cert);
  const signingKey = await webcrypto.subtle.importKey('pkcs8', createPrivateKey(ca.key).export({ type: 'pkcs8', format: 'der' }), ALGORITHM, false, ['sign']);
  const cert = await X509CertificateGenerator.create({
    subject: 'CN=flotilla-tracker',
    issuer: caCert.subject,
    notBefore: new Date(nowMs - BACKDATE_MS),
    notAfter: new Date(nowMs + SERVER_DAYS * DAY_MS),
    signingAlgorithm: ALGORITHM,
    publicKey: keys.publicKey,
    signingKey,
    extensions: [
      new BasicConstraintsExtension(false, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
      new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth]),
      new SubjectAlternativeNameExtension(names.map((value) => ({ type: isIP(value) === 0 ? 'dns' : 'ip', value }))),
      await AuthorityKeyIdentifierExtension.create(caCert.publicKey),
    ],
  });
  return write(dir, 'server', cert, keys.privateKey);
}

function newKeys(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
}

/** The key first: a certificate is there only together with a key. */
async function write(dir: string, name: string, certificate: X509Certificate, privateKey: webcrypto.CryptoKey): Promise<Credentials> {
  const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', privateKey));
  const key = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' }).export({ type: 'pkcs8', format: 'pem' });
  const cert = `${certificate.toString('pem')}\n`;
  await writeSecret(join(dir, `${name}-key.pem`), key);
  await writeSecret(join(dir, `${name}.pem`), cert);
  return { cert, key };
}
