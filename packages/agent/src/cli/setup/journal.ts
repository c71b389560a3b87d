// What `flotilla setup` has changed on this host, so that it can be taken back byte for byte.
//
//   STATE/<client>/journal.json     paths, the digests of what we wrote there, folders that we made
//   STATE/<client>/<digest>-<name>  what stood at a path before us
//
// Order of a change: backups, journal, files, journal again with what no longer counts left out. Cut off anywhere, the next run finds
// at each path either what stood there before us or something whose digest is in the journal. All of it is synchronous: Ctrl-C comes
// between two changes of files only where the process is killed.
//
// Invariant: a file that somebody has changed since we wrote it is never overwritten, unless told (`force`).

import { createHash } from 'node:crypto';
import { chmodSync, closeSync, fchmodSync, fchownSync, fsyncSync, lstatSync, mkdirSync, openSync, renameSync, rmdirSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { CommandFailure } from '../failure.ts';
import { explained, filesOnDisk, onDisk, readText, unlessAbsent, type Host, type HostFiles } from './host.ts';

export type Action = 'created' | 'changed' | 'restored' | 'removed' | 'unchanged';

export interface FileReport {
  readonly path: string;
  readonly action: Action;
}

/** See Client.without. */
export type Without = (path: string, text: string) => string | null | undefined;

interface Owner {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

interface Entry {
  readonly path: string;
  /** undefined: there was no such file. */
  readonly before?: (Owner & { readonly backup: string }) | undefined;
  /** sha256 of every text of ours that may stand there. */
  readonly ours: readonly string[];
}

interface Journal {
  readonly version: 1;
  readonly entries: readonly Entry[];
  /** Made by us, outermost first. */
  readonly folders: readonly string[];
}

/** What would stand at a path without us. `text` undefined: no file. */
interface Base {
  readonly text: string | undefined;
  readonly owner: Owner;
  /** Somebody has changed the file since; `text` is what is left without our part. */
  readonly edited: boolean;
}

const NEW_FILE_MODE = 0o644;
const FOLDER_MODE = 0o755;

export class SetupJournal {
  readonly #host: Host;
  readonly #folder: string;
  readonly #without: Without;
  readonly #force: boolean;
  readonly #bases = new Map<string, Base>();
  #journal: Journal;

  /** @throws CommandFailure where the journal cannot be read */
  constructor(host: Host, name: string, without: Without, { force = false } = {}) {
    this.#host = host;
    this.#folder = join(stateFolder(host), name);
    this.#without = without;
    this.#force = force;
    const text = explained(this.#path, () => unlessAbsent(() => readText(onDisk(host, this.#path))));
    this.#journal = text === undefined ? { version: 1, entries: [], folders: [] } : readJournal(this.#path, text);
  }

  /** Whether anything is set up. */
  get isEmpty(): boolean {
    return this.#journal.entries.length === 0;
  }

  get #path(): string {
    return join(this.#folder, 'journal.json');
  }

  /** The files of the host as they would be without us. */
  files(): HostFiles {
    const disk = filesOnDisk(this.#host);
    return {
      read: (path) => this.#base(path).text,
      list: (folder) => {
        const names = disk.list(folder)?.filter((name) => !this.#isOursAlone(join(folder, name)));
        return names?.length === 0 && this.#journal.folders.includes(folder) ? undefined : names;
      },
    };
  }

  /** What `apply` would do; changes nothing. @throws CommandFailure */
  preview(wanted: ReadonlyMap<string, string>): FileReport[] {
    return this.#changes(wanted).map(({ path, action }) => ({ path, action }));
  }

  /** Makes the files be what is wanted, and those of an earlier set-up that are no longer wanted what they were. @throws CommandFailure */
  apply(wanted: ReadonlyMap<string, string>): FileReport[] {
    const changes = this.#changes(wanted);
    const reports = changes.map(({ path, action }) => ({ path, action }));
    const isKnown = (path: string): boolean => this.#journal.entries.some((entry) => entry.path === path);
    const settled = changes.every(({ path, base, text, action }) => action === 'unchanged' && !base.edited && isKnown(path) === (text !== base.text));
    if (settled) return reports;
    const ours = changes.filter(({ path, base, text }) => text !== base.text || isKnown(path));
    const entries = ours.map(({ path, base, text }): Entry => {
      const known = this.#journal.entries.find((entry) => entry.path === path)?.ours ?? [];
      return { path, before: this.#backup(path, base), ours: [...new Set([...known, ...(text === undefined ? [] : [sha256(text)])])] };
    });
    this.#save({ ...this.#journal, entries });
    for (const { path, base, text, action } of ours) if (action !== 'unchanged') this.#place(path, text, base.owner);
    const kept = entries.filter((_, index) => ours[index]!.text !== ours[index]!.base.text);
    if (kept.length > 0) this.#save({ ...this.#journal, entries: kept });
    else this.#forget();
    return reports;
  }

  /** Makes everything be as before us. @throws CommandFailure */
  undo(): FileReport[] {
    return this.apply(new Map());
  }

  #changes(wanted: ReadonlyMap<string, string>): { path: string; base: Base; text: string | undefined; action: Action }[] {
    const paths = new Set([...this.#journal.entries.map(({ path }) => path), ...wanted.keys()]);
    return [...paths].map((path) => {
      const base = this.#base(path);
      const text = wanted.get(path) ?? base.text;
      const current = this.#current(path);
      return { path, base, text, action: actionOf(current?.text, text, wanted.has(path)) };
    });
  }

  #base(path: string): Base {
    const known = this.#bases.get(path);
    if (known !== undefined) return known;
    const base = this.#findBase(path);
    this.#bases.set(path, base);
    return base;
  }

  #findBase(path: string): Base {
    const current = this.#current(path);
    const owner = current?.owner ?? { mode: NEW_FILE_MODE, uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
    const entry = this.#journal.entries.find((candidate) => candidate.path === path);
    // Not ours, or removed by somebody since: what is there is what is there.
    if (entry === undefined || current === undefined) return { text: current?.text, owner, edited: false };
    const { before } = entry;
    const original = (): Base => ({ text: before === undefined ? undefined : this.#readBackup(before.backup), owner: before ?? owner, edited: false });
    if (entry.ours.includes(sha256(current.text))) return original();
    if (before !== undefined && current.text === this.#readBackup(before.backup)) return original();
    const rest = this.#without(path, current.text);
    if (rest !== undefined) return { text: rest ?? undefined, owner, edited: true };
    if (this.#force) return original();
    const help = before === undefined ? 'Remove it yourself, or give --force to lose those changes.' : `Take your changes back, or give --force to lose them; what stood there before is kept in ${onDisk(this.#host, join(this.#folder, before.backup))}.`;
    throw new CommandFailure(`${path} was changed by somebody after "flotilla setup" had written it`, help);
  }

  #isOursAlone(path: string): boolean {
    const entry = this.#journal.entries.find((candidate) => candidate.path === path);
    return entry !== undefined && this.#base(path).text === undefined;
  }

  #current(path: string): { text: string; owner: Owner } | undefined {
    const place = onDisk(this.#host, path);
    return explained(path, () => {
      const stat = unlessAbsent(() => lstatSync(place));
      if (stat === undefined) return undefined;
      if (!stat.isFile()) throw new CommandFailure(`${path} is no plain file, so something else takes care of it`, 'Let that write the configuration; --print shows what it should be.');
      return { text: readText(place), owner: { mode: stat.mode & 0o7777, uid: stat.uid, gid: stat.gid } };
    });
  }

  #backup(path: string, { text, owner }: Base): Entry['before'] {
    if (text === undefined) return undefined;
    const backup = `${sha256(text).slice(0, 16)}-${basename(path)}`;
    this.#makeFolders(this.#folder);
    const { mode, uid, gid } = owner;
    // As readable as the original was: it may hold credentials.
    writeWhole(onDisk(this.#host, join(this.#folder, backup)), text, owner);
    return { backup, mode, uid, gid };
  }

  #readBackup(name: string): string {
    const path = onDisk(this.#host, join(this.#folder, name));
    return explained(path, () => readText(path));
  }

  #place(path: string, text: string | undefined, owner: Owner): void {
    const place = onDisk(this.#host, path);
    if (text === undefined) {
      explained(path, () => rmSync(place, { force: true }));
      this.#removeEmptyFolders();
      return;
    }
    this.#makeFolders(dirname(path));
    explained(path, () => writeWhole(place, text, owner));
  }

  #save(journal: Journal): void {
    this.#journal = journal;
    this.#makeFolders(this.#folder);
    const owner = { mode: 0o600, uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
    explained(this.#path, () => writeWhole(onDisk(this.#host, this.#path), `${JSON.stringify(this.#journal, null, 2)}\n`, owner));
    this.#sweep();
  }

  /** Backups that the journal no longer names. */
  #sweep(): void {
    const named = new Set(this.#journal.entries.flatMap(({ before }) => (before === undefined ? [] : [before.backup])));
    for (const name of filesOnDisk(this.#host).list(this.#folder) ?? []) {
      if (name !== 'journal.json' && !named.has(name)) unlinkSync(onDisk(this.#host, join(this.#folder, name)));
    }
  }

  /** Nothing is set up any more. */
  #forget(): void {
    this.#journal = { ...this.#journal, entries: [] };
    this.#sweep();
    rmSync(onDisk(this.#host, this.#path), { force: true });
    this.#removeEmptyFolders();
  }

  #makeFolders(folder: string): void {
    const missing: string[] = [];
    for (let each = folder; each !== dirname(each) && unlessAbsent(() => lstatSync(onDisk(this.#host, each))) === undefined; each = dirname(each)) missing.unshift(each);
    for (const each of missing) {
      explained(each, () => {
        mkdirSync(onDisk(this.#host, each), { mode: FOLDER_MODE });
        chmodSync(onDisk(this.#host, each), FOLDER_MODE);
      });
    }
    if (missing.length === 0) return;
    this.#journal = { ...this.#journal, folders: [...new Set([...this.#journal.folders, ...missing])] };
    // Said before anything stands in them, so that they can be taken away whatever happens next.
    if (unlessAbsent(() => lstatSync(onDisk(this.#host, this.#path))) !== undefined) this.#save(this.#journal);
  }

  /** Of those that we made; one in which somebody has put something stays. */
  #removeEmptyFolders(): void {
    // The folder of all journals may have been made for another client's.
    for (const folder of [...this.#journal.folders.toReversed(), stateFolder(this.#host)]) {
      try {
        rmdirSync(onDisk(this.#host, folder));
      } catch (error) {
        const code = error instanceof Error && 'code' in error ? error.code : undefined;
        if (code !== 'ENOTEMPTY' && code !== 'ENOENT' && code !== 'ENOTDIR') throw error;
      }
    }
  }
}

/** Outside of the agent's data folder, which belongs to the agent's user. */
function stateFolder({ uid, home }: Host): string {
  return uid === 0 ? '/var/lib/flotilla-setup' : join(home, '.local', 'state', 'flotilla-setup');
}

function actionOf(current: string | undefined, text: string | undefined, wanted: boolean): Action {
  if (current === text) return 'unchanged';
  if (text === undefined) return 'removed';
  if (current === undefined) return 'created';
  return wanted ? 'changed' : 'restored';
}

function readJournal(path: string, text: string): Journal {
  const value = explained(path, () => JSON.parse(text) as Journal);
  if (value.version !== 1 || !Array.isArray(value.entries) || !Array.isArray(value.folders)) {
    throw new CommandFailure(`${path} was written by another version of flotilla`, 'Undo the set-up with that version.');
  }
  return value;
}

/** Old or new after a crash at any moment. */
function writeWhole(path: string, text: string, { mode, uid, gid }: Owner): void {
  const beside = `${path}.flotilla-new`;
  const file = openSync(beside, 'w', 0o600);
  try {
    writeFileSync(file, text);
    fchmodSync(file, mode);
    if (process.getuid?.() === 0) fchownSync(file, uid, gid);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  renameSync(beside, path);
  const folder = openSync(dirname(path), 'r');
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
