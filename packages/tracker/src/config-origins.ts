// The origins that the tracker asks for its fleet, as its settings name them: written as in the agents' settings, and read by the same code, so that
// both sides mean the same. Pure. What stands for credentials there is refused here: the tracker asks as anybody would.

import { joinOrigins, readOrigin, SettingRefused, showOrigin, type OriginSetting } from '@flotilla/agent/config-origins';
import { readProxy, withoutUserinfo } from '@flotilla/agent/config-values';
import type { OriginConfig } from '@flotilla/agent/origin/client';
import { TrackerError } from './errors.ts';

export interface NamedOrigin {
  readonly name: string;
  readonly setting: OriginSetting;
}

/** Where the tracker goes by itself. */
export interface Proxies {
  readonly http?: string | undefined;
  readonly https?: string | undefined;
  readonly no?: string | undefined;
}

const NAME = /^[a-z0-9]+([._-][a-z0-9]+)*$/;
const OF_CREDENTIALS = ['credentials', 'clientCert', 'clientKey'] as const;

/** `NAME=URL`, or a mapping of names as in the file. undefined: it is neither. @throws TrackerError CONFIG_INVALID */
export function readOrigins(raw: unknown): NamedOrigin[] | undefined {
  if (typeof raw === 'string') {
    const [, name, url] = /^([^=]+)=(.+)$/.exec(raw) ?? [];
    return name === undefined ? undefined : one(name, url);
  }
  if (typeof raw !== 'object' || raw === null || Array.isArray(raw)) return undefined;
  const read = Object.entries(raw).map(([name, value]) => one(name, value));
  return read.every((each) => each !== undefined) ? read.flat() : undefined;
}

export function showOrigins(origins: readonly NamedOrigin[]): string {
  return [...joined(origins)].map(([name, setting]) => `${name}=${showOrigin(setting)}`).join(', ');
}

export { readProxy };

/** Without its password. */
export function showProxy(url: string): string {
  return url === '' ? 'none' : withoutUserinfo(url);
}

/** In the words of the registry client. */
export function originConfig(origins: readonly NamedOrigin[], { http, https, no }: Proxies): OriginConfig {
  return {
    origins: [...joined(origins)].map(([name, { urls, realms, ca, insecure }]) => ({
      name,
      ...(urls !== undefined && { urls }),
      ...(realms !== undefined && { realms }),
      tls: { ...(ca !== undefined && { caFile: ca }), ...(insecure !== undefined && { insecure }) },
    })),
    proxy: { ...(http !== undefined && { http }), ...(https !== undefined && { https }), ...(no !== undefined && { no }) },
  };
}

function one(name: string, raw: unknown): NamedOrigin[] | undefined {
  if (!NAME.test(name)) return undefined;
  let setting: OriginSetting | undefined;
  try {
    setting = readOrigin(raw);
  } catch (error) {
    if (!(error instanceof SettingRefused)) throw error;
    throw new TrackerError('CONFIG_INVALID', `origin.${name}: ${error.message}`, { cause: error });
  }
  const secret = OF_CREDENTIALS.find((key) => setting?.[key] !== undefined);
  if (secret !== undefined) throw new TrackerError('CONFIG_INVALID', `origin.${name}: ${secret} is not for the tracker, which asks only what anybody may read`);
  return setting && [{ name, setting }];
}

/** Several URLs for a name are tried in order. */
function joined(origins: readonly NamedOrigin[]): Map<string, OriginSetting> {
  const byName = new Map<string, OriginSetting>();
  for (const { name, setting } of origins) {
    const before = byName.get(name);
    byName.set(name, before === undefined ? setting : joinOrigins(before, setting));
  }
  return byName;
}
