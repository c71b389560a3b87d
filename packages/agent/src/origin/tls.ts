// TLS towards one origin: what is trusted, and the client certificate. Read at the start and when the files change; each context parses every
// trusted certificate.

import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createSecureContext, getCACertificates, type ConnectionOptions } from 'node:tls';
import { AgentError } from '../errors.ts';
import type { OriginTls } from './origins.ts';

type TlsOptions = Pick<ConnectionOptions, 'secureContext' | 'rejectUnauthorized'>;

export interface TlsFaces {
  /** As anybody would appear. */
  readonly plain: TlsOptions;
  /** With the client certificate; undefined: there is none. */
  readonly certified: TlsOptions | undefined;
}

/** @throws AgentError CONFIG_INVALID where a file cannot be read or is none of its kind */
export function tlsFaces(origin: string, { caFile, certFile, keyFile, insecure }: OriginTls): TlsFaces {
  if ((certFile === undefined) !== (keyFile === undefined)) {
    throw new AgentError('CONFIG_INVALID', `origin "${origin}" needs both clientCert and clientKey, or neither`);
  }
  const read = (path: string): Buffer => {
    try {
      return readFileSync(path);
    } catch (error) {
      throw new AgentError('CONFIG_INVALID', `the TLS file ${path} of origin "${origin}" cannot be read`, { cause: error });
    }
  };
  const trust = insecure === true ? { rejectUnauthorized: false } : {};
  try {
    const ca = caFile === undefined ? {} : { ca: [...getCACertificates('default'), ...certificates(read(caFile).toString('utf8'))] };
    const plain = caFile === undefined ? trust : { ...trust, secureContext: createSecureContext(ca) };
    if (certFile === undefined || keyFile === undefined) return { plain, certified: undefined };
    return { plain, certified: { ...trust, secureContext: createSecureContext({ ...ca, cert: read(certFile), key: read(keyFile) }) } };
  } catch (error) {
    if (error instanceof AgentError) throw error;
    throw new AgentError('CONFIG_INVALID', `the TLS files of origin "${origin}" are no PEM certificates and keys that belong together`, { cause: error });
  }
}

/** The files behind the faces. */
export function tlsFilesOf({ caFile, certFile, keyFile }: OriginTls): string[] {
  return [caFile, certFile, keyFile].filter((file) => file !== undefined);
}

/** The certificates of a PEM file. TLS itself would skip what it cannot read, and fail at every connection. @throws Error */
function certificates(pem: string): string[] {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [];
  if (blocks.length === 0) throw new Error('no certificate');
  return blocks.map((block) => new X509Certificate(block).toString());
}
