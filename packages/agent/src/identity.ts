// Who this agent is: its libp2p Ed25519 key, in DIR/identity.key (0600, libp2p's protobuf form).
// Made at the first start. A damaged file is an error and never replaced: a new key would be a new member of the fleet,
// and the old one would stay on the books.

import { createPrivateKey, hkdfSync, sign as signBytes } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { generateKeyPair, privateKeyFromProtobuf, privateKeyToProtobuf, publicKeyToProtobuf } from '@libp2p/crypto/keys';
import type { Ed25519PrivateKey } from '@libp2p/interface';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';
import { writeDurably } from './durable-file.ts';
import { AgentError } from './errors.ts';

export interface Identity {
  readonly privateKey: Ed25519PrivateKey;
  /** As text: how peers, tracker and logs name this agent. */
  readonly peerId: string;
  /** The public key in libp2p's protobuf form. */
  readonly publicKey: Uint8Array;
  /** 32 bytes that only this agent can know, the same after a restart, others for each purpose. */
  secretFor(purpose: string): Uint8Array;
  /** Ed25519 signature, 64 bytes. */
  sign(bytes: Uint8Array): Uint8Array;
}

/**
 * Loads the key of the data folder, or makes one there.
 * @throws IDENTITY_DAMAGED
 */
export async function openIdentity(dir: string): Promise<Identity> {
  const path = join(dir, 'identity.key');
  const stored = await readIfThere(path);
  if (stored !== undefined) return identityOf(parseKey(stored, path));
  const created = await generateKeyPair('Ed25519');
  await mkdir(dir, { recursive: true });
  await writeDurably(path, privateKeyToProtobuf(created));
  return identityOf(created);
}

function identityOf(privateKey: Ed25519PrivateKey): Identity {
  // libp2p's own sign() makes a key object for each signature and may answer with a promise.
  const key = createPrivateKey({
    format: 'jwk',
    key: {
      kty: 'OKP',
      crv: 'Ed25519',
      d: Buffer.from(privateKey.raw.subarray(0, 32)).toString('base64url'),
      x: Buffer.from(privateKey.publicKey.raw).toString('base64url'),
    },
  });
  return {
    privateKey,
    peerId: peerIdFromPrivateKey(privateKey).toString(),
    publicKey: publicKeyToProtobuf(privateKey.publicKey),
    secretFor: (purpose) => new Uint8Array(hkdfSync('sha256', privateKey.raw.subarray(0, 32), '', `flotilla ${purpose}`, 32)),
    sign: (bytes) => signBytes(null, bytes, key),
  };
}

function parseKey(stored: Uint8Array, path: string): Ed25519PrivateKey {
  let key;
  try {
    key = privateKeyFromProtobuf(stored);
  } catch (error) {
    throw new AgentError('IDENTITY_DAMAGED', `${path} holds no key`, { cause: error });
  }
  if (key.type !== 'Ed25519') throw new AgentError('IDENTITY_DAMAGED', `${path} holds a key of type ${key.type}`);
  return key;
}

async function readIfThere(path: string): Promise<Uint8Array | undefined> {
  try {
    return await readFile(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new AgentError('IDENTITY_DAMAGED', `${path} cannot be read`, { cause: error });
  }
}
