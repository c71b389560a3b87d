// What settings are where nobody has set them: defaults, and the variables that are not ours but say the same to many programs.

import { homedir, hostname } from 'node:os';
import { join } from 'node:path';
import type { Environment, SettingName } from './config.ts';

const MIB = 1024 * 1024;

/** Written as in the file. */
export function defaults(env: Environment): Partial<Record<SettingName, unknown>> {
  const dataHome = env['XDG_DATA_HOME'] || join(env['HOME'] || homedir(), '.local', 'share');
  return {
    data: process.getuid?.() === 0 ? '/var/lib/flotilla' : join(dataHome, 'flotilla'),
    listen: '127.0.0.1:5050',
    p2pListen: '0.0.0.0:5051',
    adminListen: '127.0.0.1:5053',
    advertise: [],
    tracker: [],
    origin: {},
    origins: 'any-public',
    authFiles: authFiles(env),
    name: hostname(),
    label: {},
    storeMinFreeShare: 0.2,
    cacheBytes: 8 * MIB,
    rights: 'agent',
    allow: [],
    originDown: 'same-repository',
    challenge: false,
    tellPrivateNames: false,
    resolveBy: 'agent',
    prefetch: true,
    stallMs: 60_000,
    rolloutHookTimeoutMs: 300_000,
    drainTimeoutMs: 60_000,
    logLevel: 'info',
  };
}

/** Variables that are not ours, but say the same to many programs. */
const AMBIENT: Readonly<Partial<Record<SettingName, readonly string[]>>> = {
  httpProxy: ['http_proxy', 'HTTP_PROXY'],
  httpsProxy: ['https_proxy', 'HTTPS_PROXY'],
  noProxy: ['no_proxy', 'NO_PROXY'],
  authFiles: ['REGISTRY_AUTH_FILE'],
};

/** What another program's variable says of a setting, and which one it is. */
export function ambient(name: SettingName, env: Environment): { readonly variable: string; readonly value: string } | undefined {
  const found = AMBIENT[name]?.find((each) => env[each] !== undefined && env[each] !== '');
  return found === undefined ? undefined : { variable: found, value: env[found]! };
}

/** Where podman and docker leave credentials (containers-auth.json(5), docker's config.json). */
function authFiles(env: Environment): string[] {
  const home = env['HOME'] || homedir();
  const runtime = env['XDG_RUNTIME_DIR'] || `/run/containers/${process.getuid?.() ?? 0}`;
  return [
    join(runtime, 'containers', 'auth.json'),
    join(env['XDG_CONFIG_HOME'] || join(home, '.config'), 'containers', 'auth.json'),
    join(env['DOCKER_CONFIG'] || join(home, '.docker'), 'config.json'),
  ];
}
