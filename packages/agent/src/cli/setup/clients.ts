// The clients that `flotilla setup` and `flotilla doctor` know.

import { containerd } from './containerd.ts';
import { docker } from './docker.ts';
import type { Client } from './plan.ts';
import { registriesConf } from './registries-conf.ts';

export const CLIENTS = {
  podman: registriesConf(['podman', 'skopeo', 'buildah']),
  containerd,
  docker,
  crio: registriesConf(['crio'], { asRoot: true, restart: 'systemctl reload crio (running containers go on)' }),
} as const satisfies Record<string, Client>;

export type ClientName = keyof typeof CLIENTS;
export const CLIENT_NAMES = Object.keys(CLIENTS) as ClientName[];
