// A small file that is either the old or the new one after a crash at any moment: written beside, fsynced, renamed, folder fsynced.
// One writer per path at a time; what lies there is never parsed here.

import { open, rename } from 'node:fs/promises';
import { dirname } from 'node:path';

/** Replaces `path` with `bytes`, readable by its owner alone. On return it survives a power cut. */
export async function writeDurably(path: string, bytes: Uint8Array): Promise<void> {
  const beside = `${path}.new`;
  const file = await open(beside, 'w', 0o600);
  try {
    await file.chmod(0o600);
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(beside, path);
  const folder = await open(dirname(path), 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
