// Content digests as the OCI image-spec writes them (descriptor.md, "Digests"): `algorithm:encoded`.
// A Digest that exists has passed the grammar; nothing else in Flotilla checks it again.

/** A digest of a registered algorithm: `sha256:<64 hex>` or `sha512:<128 hex>`, lower case. */
export type Digest = string & { readonly __digest: unique symbol };

export type DigestAlgorithm = 'sha256' | 'sha512';

const HEX_LENGTH: Record<DigestAlgorithm, number> = { sha256: 64, sha512: 128 };

/** The text is no digest of a registered algorithm. */
export class InvalidDigestError extends Error {
  readonly code = 'DIGEST_INVALID';
  constructor(text: string) {
    super(`"${text.slice(0, 160)}" is not a digest (sha256:<64 hex> or sha512:<128 hex>)`);
    this.name = 'InvalidDigestError';
  }
}

export function isDigest(text: string): text is Digest {
  const colon = text.indexOf(':');
  const length = HEX_LENGTH[text.slice(0, colon) as DigestAlgorithm];
  if (length === undefined || text.length !== colon + 1 + length) return false;
  return /^[a-f0-9]+$/.test(text.slice(colon + 1));
}

/** @throws InvalidDigestError */
export function parseDigest(text: string): Digest {
  if (!isDigest(text)) throw new InvalidDigestError(text);
  return text;
}

export function digestAlgorithm(digest: Digest): DigestAlgorithm {
  return digest.slice(0, digest.indexOf(':')) as DigestAlgorithm;
}

/** The encoded part: lower-case hex. */
export function digestHex(digest: Digest): string {
  return digest.slice(digest.indexOf(':') + 1);
}
