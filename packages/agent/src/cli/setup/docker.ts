// Docker: `registry-mirrors` of daemon.json for Docker Hub, the only registry for which the classic image store knows mirrors; hosts.toml
// below certs.d for the others, which Docker reads with the containerd image store.
//
// The classic store names no registry to a mirror, so the agent must have docker.io as its default origin.

import { applyEdits, modify, parse, type ParseError } from 'jsonc-parser';
import { CommandFailure } from '../failure.ts';
import type { Host, HostFiles } from './host.ts';
import { hostsRoute, hostsToml, withoutHost } from './hosts-toml.ts';
import { hostPort, trustNote, type Client, type Plan, type Target } from './plan.ts';

const DOCKER_HUB = 'docker.io';
const KEY = 'registry-mirrors';
/** Where a service's flags stand. Docker does not start when a setting stands both there and in daemon.json. */
const FLAG_FILES = ['/etc/systemd/system/docker.service', '/lib/systemd/system/docker.service', '/usr/lib/systemd/system/docker.service', '/etc/default/docker', '/etc/sysconfig/docker'];
const DROP_INS = '/etc/systemd/system/docker.service.d';

export const docker: Client = {
  journal: () => 'docker',
  programs: ['dockerd'],

  plan(files, host, target): Plan {
    const base = baseFolder(host);
    const planned = new Map<string, string>();
    const notes = trustNote(target, `${base}/certs.d/${hostPort(target)}/ca.crt`);
    const next: string[] = [];
    if (target.origins.some(({ registry }) => registry === DOCKER_HUB)) {
      refuseFlags(files);
      const path = `${base}/daemon.json`;
      const text = withMirror(path, files.read(path), mirrorUrl(target));
      if (text !== undefined) planned.set(path, text);
      if (target.defaultOrigin !== DOCKER_HUB) {
        notes.push("Docker's classic image store does not tell a mirror which registry it means: the agent takes what names none for docker.io only if told so.");
        next.push('start the agent with --default-origin docker.io (defaultOrigin: docker.io in its settings file)');
      }
    }
    const others = target.origins.filter(({ registry }) => registry !== DOCKER_HUB);
    for (const origin of others) {
      const change = hostsToml(files, `${base}/certs.d`, origin, target);
      if (change !== undefined) planned.set(...change);
    }
    if (others.length > 0) notes.push('Registries other than Docker Hub go by the agent only with the containerd image store ("docker info" says so) of a release that reads hosts.toml.');
    return { files: planned, notes, next };
  },

  without(path, text, target) {
    return path.endsWith('/hosts.toml') ? withoutHost(text) : withoutMirror(path, text, mirrorUrl(target));
  },

  restart: (path) => (path.endsWith('/daemon.json') ? 'systemctl reload docker (with --user where it is rootless; running containers go on)' : undefined),

  routes(files, host, target) {
    const base = baseFolder(host);
    return target.origins.map(({ registry }) => {
      if (registry !== DOCKER_HUB) return { registry, ...hostsRoute(files, `${base}/certs.d`, registry, target) };
      const path = `${base}/daemon.json`;
      const viaAgent = mirrorsOf(settings(path, files.read(path) ?? '{}')).some((url) => sameUrl(url, mirrorUrl(target)));
      return { registry, viaAgent, why: viaAgent ? path : `${path} does not name ${mirrorUrl(target)} in "${KEY}"` };
    });
  },
};

function baseFolder({ uid, home }: Host): string {
  return uid === 0 ? '/etc/docker' : `${home}/.config/docker`;
}

function mirrorUrl({ endpoint }: Pick<Target, 'endpoint'>): string {
  return endpoint.origin;
}

/** @returns the text with the mirror first, or undefined where it is named already */
function withMirror(path: string, text: string | undefined, url: string): string | undefined {
  if (text === undefined || text.trim() === '') return `${JSON.stringify({ [KEY]: [url] }, null, 2)}\n`;
  const mirrors = mirrorsOf(settings(path, text));
  if (mirrors.some((mirror) => sameUrl(mirror, url))) return undefined;
  const formattingOptions = formattingOf(text);
  return mirrors.length === 0
    ? applyEdits(text, modify(text, [KEY], [url], { formattingOptions }))
    : applyEdits(text, modify(text, [KEY, 0], url, { formattingOptions, isArrayInsertion: true }));
}

function withoutMirror(path: string, text: string, url: string): string | null | undefined {
  const all = settings(path, text);
  const mirrors = mirrorsOf(all);
  const index = mirrors.findIndex((mirror) => sameUrl(mirror, url));
  if (index < 0) return text;
  const alone = mirrors.length === 1;
  if (alone && Object.keys(all).length === 1) return null;
  return applyEdits(text, modify(text, alone ? [KEY] : [KEY, index], undefined, { formattingOptions: formattingOf(text) }));
}

/** daemon.json as Docker reads it: strict JSON, an object. */
function settings(path: string, text: string): Record<string, unknown> {
  const errors: ParseError[] = [];
  const value: unknown = parse(text, errors, { disallowComments: true });
  if (errors.length > 0 || typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new CommandFailure(`${path} is no JSON object`, 'Correct it first; Docker cannot read it either.');
  }
  return value as Record<string, unknown>;
}

function mirrorsOf(all: Record<string, unknown>): string[] {
  const mirrors = all[KEY] ?? [];
  if (Array.isArray(mirrors) && mirrors.every((mirror) => typeof mirror === 'string')) return mirrors;
  throw new CommandFailure(`"${KEY}" in daemon.json is no list of texts`, 'Correct it first; Docker cannot read it either.');
}

function sameUrl(a: string, b: string): boolean {
  return a.replace(/\/+$/, '') === b.replace(/\/+$/, '');
}

/** As the file is indented now. */
function formattingOf(text: string): { insertSpaces: boolean; tabSize: number; eol: string } {
  const indent = /^([ \t]+)\S/m.exec(text)?.[1] ?? '  ';
  return { insertSpaces: !indent.startsWith('\t'), tabSize: indent.startsWith('\t') ? 1 : indent.length, eol: text.includes('\r\n') ? '\r\n' : '\n' };
}

function refuseFlags(files: HostFiles): void {
  const dropIns = (files.list(DROP_INS) ?? []).filter((name) => name.endsWith('.conf')).map((name) => `${DROP_INS}/${name}`);
  const found = [...FLAG_FILES, ...dropIns].find((path) => /^[^#\n]*--registry-mirror\b/m.test(files.read(path) ?? ''));
  if (found === undefined) return;
  throw new CommandFailure(`${found} starts Docker with --registry-mirror, which excludes "${KEY}" in daemon.json`, 'Add the mirror there, or move that flag into daemon.json first.');
}
