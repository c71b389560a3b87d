// registries.conf(5): what podman, skopeo, buildah and CRI-O read. One drop-in of ours, 50-flotilla.conf, puts the agent before each
// registry; without the agent these clients go on to the registry by themselves.
//
// A [[registry]] of a later file takes the place of an earlier one with the same prefix. So what earlier files say of a registry is
// carried over into ours, and a later file that names it is in the way.

import { stringify, type TomlTable } from 'smol-toml';
import { CommandFailure } from '../failure.ts';
import type { Host, HostFiles } from './host.ts';
import { hostPort, trustNote, type Client, type MirroredOrigin, type Plan, type Route, type Target } from './plan.ts';
import { isTable, parseToml } from './toml.ts';

const DROP_IN = '50-flotilla.conf';
const SYSTEM = '/etc/containers';
/** Of services, whatever HOME says where they are set up. */
const ROOTS_HOME = '/root';

const HEADER = `# Written by "flotilla setup": pulls ask the agent of this host first, and the registry itself where the agent does not answer.
# "flotilla setup CLIENT --undo" takes it away. Changes belong into other files of this folder.

`;

interface RegistryEntry {
  readonly file: string;
  /** All that the file says of it, `prefix` included. */
  readonly table: TomlTable;
}

/** @param asRoot the client runs as a service of root's, whoever sets it up (CRI-O) */
export function registriesConf(programs: readonly string[], { asRoot = false, restart }: { readonly asRoot?: boolean; readonly restart?: string } = {}): Client {
  const readerOn = (host: Host): Host => (asRoot ? { ...host, uid: 0, home: ROOTS_HOME } : host);
  const seen = (files: HostFiles, host: Host): HostFiles => (asRoot && host.uid !== 0 ? outsideRootsHome(files) : files);
  return {
    journal: (files, host) => journalOf(dropInPath(seen(files, host), readerOn(host))),
    programs,

    plan(all, host, target): Plan {
      const files = seen(all, host);
      const reader = readerOn(host);
      const path = dropInPath(files, reader);
      if (files.read(path) !== undefined && !target.force) {
        throw new CommandFailure(`${path} is there, but "flotilla setup" has no record of writing it`, 'Look at what it says and remove it, or replace it with --force.');
      }
      const order = filesInOrder(files, reader, path);
      const before = effective(files, order.slice(0, order.indexOf(path)));
      const after = effective(files, order.slice(order.indexOf(path) + 1));
      const tables: TomlTable[] = [];
      const notes = trustNote(target, `/etc/containers/certs.d/${hostPort(target)}/ca.crt`);
      for (const origin of target.origins) {
        const table = entryFor(origin, target, before.get(origin.registry), after.get(origin.registry), notes);
        if (table !== undefined) tables.push(table);
      }
      for (const prefix of new Set([...before.keys(), ...after.keys()])) {
        if (target.origins.some(({ registry }) => prefix.startsWith(`${registry}/`))) notes.push(`${prefix} has a [[registry]] of its own in ${(after.get(prefix) ?? before.get(prefix))?.file}: it goes on by that.`);
      }
      const text = tables.length === 0 ? undefined : `${HEADER}${stringify({ registry: tables }).trim()}\n`;
      return { files: new Map(text === undefined ? [] : [[path, text]]), notes, next: [] };
    },

    // The whole file is ours: what somebody wrote into it cannot be told apart.
    without: () => undefined,
    restart: () => restart,

    routes(all, host, target): Route[] {
      const files = seen(all, host);
      const registries = effective(files, filesInOrder(files, readerOn(host)));
      return target.origins.map((origin) => {
        const entry = registries.get(origin.registry);
        if (entry === undefined) return { registry: origin.registry, viaAgent: false, why: `no [[registry]] with prefix "${origin.registry}" in registries.conf(5)` };
        const viaAgent = isOurs(entry, origin, target);
        return { registry: origin.registry, viaAgent, why: viaAgent ? entry.file : `${entry.file} does not name ${mirrorLocation(origin, target)} as its first mirror` };
      });
    },
  };
}

function entryFor(origin: MirroredOrigin, target: Target, before: RegistryEntry | undefined, after: RegistryEntry | undefined, notes: string[]): TomlTable | undefined {
  const { registry } = origin;
  const refuse = (reason: string, help: string): undefined => {
    if (target.named) throw new CommandFailure(reason, help);
    notes.push(`${registry} is left out: ${reason}.`);
  };
  if (origin.name === undefined) {
    return refuse(`the agent has no name for ${registry}, and a port cannot stand in a path`, `Give the agent --origin NAME=https://${registry}.`);
  }
  const present = after ?? before;
  if (present !== undefined && isOurs(present, origin, target)) {
    notes.push(`${registry} goes by the agent already, by ${present.file}.`);
    return undefined;
  }
  if (present?.table['blocked'] === true) return refuse(`${present.file} blocks ${registry}`, 'Remove "blocked" there if it is to be pulled from.');
  if (after !== undefined) {
    throw new CommandFailure(
      `${after.file} has a [[registry]] with prefix "${registry}" too, and is read after ${DROP_IN}: it would take its place`,
      `Add the mirror ${mirrorLocation(origin, target)} there, rename that file so that it sorts before ${DROP_IN}, or leave ${registry} out with --origin.`,
    );
  }
  const { mirror, ...kept } = before?.table ?? {};
  const others = Array.isArray(mirror) ? mirror : [];
  if (before !== undefined) notes.push(`What ${before.file} says of ${registry} is carried over.`);
  const insecure = target.endpoint.protocol === 'http:';
  return {
    prefix: registry,
    location: registry,
    ...kept,
    mirror: [{ location: mirrorLocation(origin, target), ...(insecure && { insecure }) }, ...others],
  };
}

function mirrorLocation({ name }: MirroredOrigin, target: Target): string {
  return `${hostPort(target)}/${name}`;
}

function isOurs(entry: RegistryEntry, origin: MirroredOrigin, target: Target): boolean {
  const mirrors = entry.table['mirror'];
  const [first] = Array.isArray(mirrors) ? mirrors : [];
  return isTable(first) && first['location'] === mirrorLocation(origin, target) && entry.table['blocked'] !== true;
}

/** The [[registry]] that holds for each prefix. */
function effective(files: HostFiles, paths: readonly string[]): Map<string, RegistryEntry> {
  const registries = new Map<string, RegistryEntry>();
  for (const path of paths) {
    const text = files.read(path);
    if (text === undefined) continue;
    const parsed = parseToml(path, text);
    if (isTable(parsed['registries'])) {
      throw new CommandFailure(`${path} is written in the old format ([registries.search]), which cannot be combined with mirrors`, 'Rewrite it with unqualified-search-registries and [[registry]], as containers-registries.conf(5) says.');
    }
    const tables = Array.isArray(parsed['registry']) ? parsed['registry'] : [];
    for (const table of tables.filter(isTable)) {
      const prefix = [table['prefix'], table['location']].find((value) => typeof value === 'string' && value !== '');
      if (typeof prefix === 'string') registries.set(prefix.replace(/\/+$/, ''), { file: path, table: { ...table, prefix } });
    }
  }
  return registries;
}

/** All files that the client reads, in the order in which they count, with `planned` where it would be read. */
function filesInOrder(files: HostFiles, host: Host, planned?: string): string[] {
  const own = hasOwnMain(files, host);
  const user = userFolder(host);
  const folders = (own ? [user] : [SYSTEM, user]).map((folder) => `${folder}/registries.conf.d`);
  const dropIns = folders.flatMap((folder) => {
    const names = (files.list(folder) ?? []).filter((name) => name.endsWith('.conf'));
    return [...new Set([...names.map((name) => `${folder}/${name}`), ...(planned?.startsWith(`${folder}/`) === true ? [planned] : [])])].sort();
  });
  return [`${own ? user : SYSTEM}/registries.conf`, ...dropIns];
}

/** Where the client reads it: root's own files, too, make it leave the host's unread. */
function dropInPath(files: HostFiles, host: Host): string {
  const own = host.uid !== 0 || hasOwnMain(files, host);
  return `${own ? userFolder(host) : SYSTEM}/registries.conf.d/${DROP_IN}`;
}

/** Nobody but root can look there: taken for empty, as it nearly always is. */
function outsideRootsHome(files: HostFiles): HostFiles {
  const inside = (path: string): boolean => path.startsWith(`${ROOTS_HOME}/`);
  return { read: (path) => (inside(path) ? undefined : files.read(path)), list: (folder) => (inside(folder) ? undefined : files.list(folder)) };
}

/** One for each file, whichever client it was set up for. */
function journalOf(dropIn: string): string {
  if (dropIn.startsWith(`${SYSTEM}/`)) return 'registries-conf';
  return dropIn.startsWith(`${ROOTS_HOME}/`) ? 'registries-conf-root' : 'registries-conf-user';
}

/** A user's own registries.conf takes the place of all the host's. */
function hasOwnMain(files: HostFiles, host: Host): boolean {
  return files.read(`${userFolder(host)}/registries.conf`) !== undefined;
}

function userFolder({ home }: Host): string {
  return `${home}/.config/containers`;
}
