// The file system as the store uses it, and what its errors mean. One seam, so that tests can fill the disk or stop the
// process at any single step. Non-goals: which file, when, and how many stay open (open-files.ts).

import { constants } from 'node:fs';
import { mkdir, open, rename, rm, stat, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { AgentError, type ErrorCode } from '../errors.ts';
import type { FileStamp } from './verified-chunks.ts';

export interface DiskIo {
  open(path: string, writable: boolean): Promise<FileHandle>;
  /** Makes or keeps the file, `bytes` long, sparse. */
  create(path: string, bytes: number): Promise<void>;
  /** Fills `into`; fewer bytes than asked for only where the file ends. */
  read(file: FileHandle, into: Uint8Array, position: number): Promise<number>;
  /** What the file is at this moment. */
  stamp(file: FileHandle): Promise<FileStamp>;
  /** Writes all of it. */
  write(file: FileHandle, bytes: Uint8Array, position: number): Promise<void>;
  /** Data and size are on the disk itself. */
  sync(file: FileHandle): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  /** What was renamed into the folder stays there across a loss of power. */
  syncFolder(path: string): Promise<void>;
  /** Makes the folder and syncs every parent that gained one. */
  makeFolder(path: string): Promise<void>;
  /** Also where nothing is there; folders with all in them. */
  remove(path: string): Promise<void>;
  /** What the file takes on disk; a sparse file takes less than its length. */
  allocatedBytes(path: string): Promise<number>;
}

const FILE_MODE = 0o600;
const FOLDER_MODE = 0o700;
/** `stat` counts blocks of this many bytes whatever the file system's own block size. */
const STAT_BLOCK_BYTES = 512;

export const nodeDiskIo: DiskIo = {
  open: (path, writable) => open(path, writable ? 'r+' : 'r'),

  async create(path, bytes) {
    const file = await open(path, constants.O_RDWR | constants.O_CREAT, FILE_MODE);
    try {
      await file.truncate(bytes);
    } finally {
      await file.close();
    }
  },

  async read(file, into, position) {
    let filled = 0;
    while (filled < into.length) {
      const { bytesRead } = await file.read(into, filled, into.length - filled, position + filled);
      if (bytesRead === 0) break;
      filled += bytesRead;
    }
    return filled;
  },

  async stamp(file) {
    const { ino, size, mtimeNs, ctimeNs, ctimeMs } = await file.stat({ bigint: true });
    return { text: `${ino} ${size} ${mtimeNs} ${ctimeNs}`, changedMs: Number(ctimeMs) };
  },

  async write(file, bytes, position) {
    let written = 0;
    while (written < bytes.length) {
      const { bytesWritten } = await file.write(bytes, written, bytes.length - written, position + written);
      written += bytesWritten;
    }
  },

  sync: (file) => file.sync(),

  rename,

  async syncFolder(path) {
    const folder = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
    try {
      await folder.sync();
    } finally {
      await folder.close();
    }
  },

  async makeFolder(path) {
    const first = await mkdir(path, { recursive: true, mode: FOLDER_MODE });
    if (first === undefined) return;
    for (let made = path; made.length >= first.length; made = dirname(made)) await this.syncFolder(dirname(made));
  },

  remove: (path) => rm(path, { recursive: true, force: true }),

  allocatedBytes: async (path) => (await stat(path)).blocks * STAT_BLOCK_BYTES,
};

const FULL = new Set(['ENOSPC', 'EDQUOT']);
/** The disk, or what lies on it, is broken; the file system says EUCLEAN and ENODATA for damaged structures. */
const BROKEN = new Set(['EIO', 'EUCLEAN', 'ENODATA', 'LEVEL_CORRUPTION']);

/** What the store throws for a failed call of the file system or of level. */
export function diskError(error: unknown, message: string, detail: Readonly<Record<string, unknown>>): AgentError {
  if (error instanceof AgentError) return error;
  return new AgentError(diskErrorCode(error), message, { cause: error, detail });
}

function diskErrorCode(error: unknown): ErrorCode {
  const { code = '', message = '' } = error as { code?: string; message?: string };
  // level passes on no errno, only the system's own words
  if (FULL.has(code) || (code.startsWith('LEVEL_') && /No space left|quota exceeded/i.test(message))) return 'DISK_FULL';
  return BROKEN.has(code) ? 'STORE_CORRUPT' : 'INTERNAL';
}

/** Whether reading a finished blob failed because of the blob, not for want of handles or memory. */
export function blamesFile(error: unknown): boolean {
  const code = (error as { code?: string }).code ?? '';
  return BROKEN.has(code) || code === 'ENOENT' || code === 'STORE_CORRUPT';
}
