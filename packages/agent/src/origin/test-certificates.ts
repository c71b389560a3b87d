// For tests: a CA made on the spot, and what it issues for 127.0.0.1, ::1 and localhost.

import { webcrypto } from 'node:crypto';
import 'reflect-metadata';
import { BasicConstraintsExtension, PemConverter, SubjectAlternativeNameExtension, X509CertificateGenerator, type X509Certificate } from '@peculiar/x509';

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };

export interface Issued {
  readonly cert: string;
  readonly key: string;
}

export class TestCa {
  readonly #keys: webcrypto.CryptoKeyPair;
  readonly #certificate: X509Certificate;
  #serial = 1;

  private constructor(keys: webcrypto.CryptoKeyPair, certificate: X509Certificate) {
    this.#keys = keys;
    this.#certificate = certificate;
  }

  static async create(name = 'test CA'): Promise<TestCa> {
    const keys = await newKeys();
    const certificate = await X509CertificateGenerator.createSelfSigned(
      { name: `CN=${name}`, keys, signingAlgorithm: ALGORITHM, ...validity(), extensions: [new BasicConstraintsExtension(true, undefined, true)] },
      webcrypto,
    );
    return new TestCa(keys, certificate);
  }

  get cert(): string {
    return this.#certificate.toString('pem');
  }

  /** For servers on loopback, and for clients. */
  async issue(name: string): Promise<Issued> {
    const keys = await newKeys();
    const certificate = await X509CertificateGenerator.create(
      {
        serialNumber: (++this.#serial).toString(16).padStart(2, '0'),
        subject: `CN=${name}`,
        issuer: this.#certificate.subject,
        publicKey: keys.publicKey,
        signingKey: this.#keys.privateKey,
        signingAlgorithm: ALGORITHM,
        ...validity(),
        extensions: [new SubjectAlternativeNameExtension([{ type: 'ip', value: '127.0.0.1' }, { type: 'ip', value: '::1' }, { type: 'dns', value: 'localhost' }, { type: 'dns', value: 'registry.test.example' }])],
      },
      webcrypto,
    );
    return { cert: certificate.toString('pem'), key: PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey), 'PRIVATE KEY') };
  }
}

function newKeys(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
}

function validity(): { notBefore: Date; notAfter: Date } {
  return { notBefore: new Date(Date.now() - 3_600_000), notAfter: new Date(Date.now() + 24 * 3_600_000) };
}
