// From the agent's settings and what the operator named: where clients are to be sent, and for which registries.

import type { AgentConfig } from '../../config.ts';
import type { SocketAddress } from '../../listen.ts';
import { isUnlistedHost } from '../../origin/names.ts';
import { OriginTable } from '../../origin/origins.ts';
import { EXIT } from '../exit-codes.ts';
import { CommandFailure } from '../failure.ts';
import { ANY_REGISTRY } from './hosts-toml.ts';
import type { MirroredOrigin, Target } from './plan.ts';

export interface TargetOptions {
  /** Registries as they stand in image names, or NAMEs of the agent. undefined: all that the agent knows by name. */
  readonly origins?: readonly string[] | undefined;
  /** HOST:PORT or URL. undefined: where the agent listens by its settings. */
  readonly endpoint?: string | undefined;
  readonly force?: boolean;
}

type Settings = Pick<AgentConfig, 'listen' | 'tlsCert' | 'origin' | 'defaultOrigin'>;

/** @throws CommandFailure EXIT.usage */
export function targetOf(config: Settings, { origins, endpoint, force = false }: TargetOptions): Target {
  const table = new OriginTable(Object.entries(config.origin).map(([name, { urls }]) => ({ name, ...(urls !== undefined && { urls }) })));
  return {
    endpoint: endpoint === undefined ? reachedAt(config.listen, config) : readEndpoint(endpoint),
    origins: (origins ?? table.names()).map((text) => mirroredOrigin(text.toLowerCase(), table)),
    named: origins !== undefined,
    defaultOrigin: config.defaultOrigin,
    force,
  };
}

/** How a client of this host reaches the agent that listens there. */
export function reachedAt({ host, port }: SocketAddress, { tlsCert }: Pick<AgentConfig, 'tlsCert'>): URL {
  const reached = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '[::1]' : host.includes(':') ? `[${host}]` : host;
  return new URL(`${tlsCert === undefined ? 'http' : 'https'}://${reached}:${port}`);
}

function readEndpoint(text: string): URL {
  const url = URL.parse(/^https?:\/\//.test(text) ? text : `http://${text}`);
  if (url !== null && url.href === `${url.origin}/` && url.hostname !== '') return url;
  throw new CommandFailure(`--endpoint "${text}" is not where an agent could be`, 'Write HOST:PORT, or https://HOST:PORT for an endpoint with a certificate.', { exitCode: EXIT.usage });
}

function mirroredOrigin(text: string, table: OriginTable): MirroredOrigin {
  if (text === ANY_REGISTRY) return { registry: text, name: undefined, server: undefined };
  // Clients take a first part without a dot or a port for a part of the path: there it goes by the registry's host.
  if (table.has(text) && !text.includes('.')) {
    const [url] = table.entry(text).urls;
    return { registry: url.host, name: text, server: url.origin };
  }
  if (table.has(text)) return { registry: text, name: text, server: text === 'docker.io' ? 'https://registry-1.docker.io' : `https://${text}` };
  const alias = table.byHost(text);
  if (alias !== undefined) return { registry: text, name: alias, server: table.entry(alias).urls.find((url) => url.host === text)?.origin ?? `https://${text}` };
  if (!isUnlistedHost(text)) {
    throw new CommandFailure(`--origin "${text}" is neither a registry's host nor a name that the agent knows`, 'Write it as in image names, such as quay.io or registry.example:5000.', { exitCode: EXIT.usage });
  }
  return { registry: text, name: text.includes(':') ? undefined : text, server: `https://${text}` };
}
