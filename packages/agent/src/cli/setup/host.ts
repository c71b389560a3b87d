// Where the files of this host lie that `flotilla setup` and `flotilla doctor` look at: under `/`, or under another root (an image
// being built, a mounted disk, a test). All paths elsewhere are those that the host itself would use.

import { readdirSync, readFileSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { EXIT } from '../exit-codes.ts';
import { because, CommandFailure } from '../failure.ts';

export interface Host {
  /** What stands before every path; `/` on the running host. */
  readonly root: string;
  readonly home: string;
  /** 0 configures the clients of the whole host, anybody else their own rootless ones. */
  readonly uid: number;
}

/** What can be asked of files: on disk as they are, or as they were before us (journal.ts). */
export interface HostFiles {
  /** undefined where there is none. */
  read(path: string): string | undefined;
  /** Names in a folder, sorted; undefined where there is none. */
  list(folder: string): string[] | undefined;
}

/** @throws CommandFailure EXIT.usage where the root is no folder */
export function thisHost(root = '/'): Host {
  if (unlessAbsent(() => statSync(root))?.isDirectory() !== true) throw new CommandFailure(`--root ${root} is no folder`, 'Name the folder that holds etc/.', { exitCode: EXIT.usage });
  return { root, home: homedir(), uid: process.getuid?.() ?? 0 };
}

/** Where a path of the host lies for this process. */
export function onDisk(host: Host, path: string): string {
  return join(host.root, path);
}

/** The files of the host as they are now. */
export function filesOnDisk(host: Host): HostFiles {
  return {
    read: (path) => explained(path, () => unlessAbsent(() => readText(onDisk(host, path)))),
    list: (folder) => explained(folder, () => unlessAbsent(() => readdirSync(onDisk(host, folder)))?.sort()),
  };
}

/** A file that must be UTF-8: what cannot be written back as it was is not read. @throws TypeError */
export function readText(path: string): string {
  return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(readFileSync(path));
}

/** undefined where the file or one of its folders does not exist. */
export function unlessAbsent<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw error;
  }
}

/** What the disk refuses is told with the path and what to do. @throws CommandFailure */
export function explained<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof CommandFailure) throw error;
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    const help = code === 'EACCES' || code === 'EPERM' || code === 'EROFS' ? 'Run it as a user who may write there: root, for the clients of the whole host.' : 'Look at the file and its folder.';
    throw new CommandFailure(`${path} cannot be read or written${because(error)}`, help, { cause: error });
  }
}
