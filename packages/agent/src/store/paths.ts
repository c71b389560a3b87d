// Where everything in the data folder lies. Layout 1:
//
//   DIR/
//     layout                             the layout's number as text; a larger one than ours is refused
//     index/                             level: what is known of blobs and partials (index-db.ts); its lock is the folder's lock
//     blobs/<algorithm>/<hh>/<hex>       finished blobs; <hh> is how <hex> begins
//     partials/<algorithm>/<hex>.<size>  unfinished blobs: sparse, as long as the blob will be
//
// blobs/ and partials/ hold nothing else: what does not fit the pattern is removed at start (reconcile.ts).
// The rest of DIR belongs to others (socket, keys) and is never touched.

import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { digestAlgorithm, digestHex, isDigest, type Digest } from '@flotilla/shared/digest';
import type { BlobKey } from '@flotilla/shared/chunk-map';
import { AgentError } from '../errors.ts';

export const LAYOUT_VERSION = 1;

/** Algorithm folders that may exist. */
export const ALGORITHMS = ['sha256', 'sha512'] as const;

/** Blobs of private images lie here: nobody but the agent's user may look. */
const FOLDER_MODE = 0o700;

export class StorePaths {
  readonly dir: string;

  constructor(dir: string) {
    this.dir = dir;
  }

  get layout(): string {
    return join(this.dir, 'layout');
  }

  get index(): string {
    return join(this.dir, 'index');
  }

  get blobs(): string {
    return join(this.dir, 'blobs');
  }

  get partials(): string {
    return join(this.dir, 'partials');
  }

  blobFolder(digest: Digest): string {
    return join(this.blobs, digestAlgorithm(digest), digestHex(digest).slice(0, 2));
  }

  blob(digest: Digest): string {
    return join(this.blobFolder(digest), digestHex(digest));
  }

  partial({ digest, size }: BlobKey): string {
    return join(this.partials, digestAlgorithm(digest), `${digestHex(digest)}.${size}`);
  }
}

/** The digest of the blob that lies at blobs/`algorithm`/`folder`/`name`; undefined: no blob lies at such a place. */
export function digestOfBlobFile(algorithm: string, folder: string, name: string): Digest | undefined {
  const text = `${algorithm}:${name}`;
  return isDigest(text) && name.startsWith(folder) ? text : undefined;
}

/** What partials/`algorithm`/`name` is a part of; undefined: not a name that we give. */
export function keyOfPartialFile(algorithm: string, name: string): BlobKey | undefined {
  const dot = name.indexOf('.');
  const digest = `${algorithm}:${name.slice(0, dot)}`;
  const size = Number(name.slice(dot + 1));
  if (dot < 0 || !isDigest(digest) || !Number.isSafeInteger(size) || size < 0 || `${size}` !== name.slice(dot + 1)) return undefined;
  return { digest, size };
}

/**
 * Checks the layout, before the index is opened.
 * @returns whether the folder is already marked
 * @throws STORE_LAYOUT
 */
export async function checkLayout(paths: StorePaths): Promise<boolean> {
  let text: string;
  try {
    text = await readFile(paths.layout, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
  const version = /^[0-9]+\n$/.test(text) ? Number(text) : Number.NaN;
  if (version >= 1 && version <= LAYOUT_VERSION) return true;
  throw new AgentError('STORE_LAYOUT', `the data folder has layout "${text.trim().slice(0, 20)}", this version knows ${LAYOUT_VERSION}`, {
    detail: { dir: paths.dir },
  });
}

/** Makes the folders and, in a new data folder, the mark: after the index was opened, as only then the folder is ours alone. */
export async function makeLayout(paths: StorePaths, marked: boolean): Promise<void> {
  for (const root of [paths.blobs, paths.partials]) {
    for (const algorithm of ALGORITHMS) await mkdir(join(root, algorithm), { recursive: true, mode: FOLDER_MODE });
  }
  if (marked) return;
  const unfinished = `${paths.layout}.new`;
  await writeFile(unfinished, `${LAYOUT_VERSION}\n`, { flush: true });
  await rename(unfinished, paths.layout);
}
