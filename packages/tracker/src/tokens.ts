// The join token in the data folder (0600): it lets agents enrol.
// It is read anew at each use, so that `flotilla-tracker token rotate` counts at once without a restart.

import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { formatJoinToken, parseJoinToken, type JoinToken } from '@flotilla/shared/join-token';
import { readIfThere, writeSecret } from './durable-file.ts';
import { TrackerError } from './errors.ts';

export function joinTokenFile(dataDir: string): string {
  return join(dataDir, 'join-token');
}

/** The token in the folder; made where there is none. Its pin is made to fit the tracker's CA, its secret stays. */
export async function ensureJoinToken(dataDir: string, caPin: string | undefined): Promise<JoinToken> {
  const known = await readJoinToken(dataDir);
  if (known !== undefined && known.caPin === caPin) return known;
  const token = { ...(known ?? newToken()), caPin };
  await writeSecret(joinTokenFile(dataDir), `${formatJoinToken(token)}\n`);
  return token;
}

/** @throws InvalidJoinTokenError @returns undefined where there is none */
export async function readJoinToken(dataDir: string): Promise<JoinToken | undefined> {
  const text = await readIfThere(joinTokenFile(dataDir));
  return text === undefined ? undefined : parseJoinToken(text);
}

/** A new secret: agents that enrol from now on need it, members stay members. @throws TOKEN_NONE */
export async function rotateJoinToken(dataDir: string): Promise<JoinToken> {
  const known = await readJoinToken(dataDir);
  if (known === undefined) throw new TrackerError('TOKEN_NONE', `${joinTokenFile(dataDir)} does not exist`);
  const token = { ...newToken(), ...(known.caPin !== undefined && { caPin: known.caPin }) };
  await writeSecret(joinTokenFile(dataDir), `${formatJoinToken(token)}\n`);
  return token;
}

function newToken(): JoinToken {
  return { id: randomBytes(6).toString('hex'), secret: randomBytes(32).toString('base64url') };
}
