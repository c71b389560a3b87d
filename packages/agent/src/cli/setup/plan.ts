// What `flotilla setup` is to do for one client, before anything is done. Plans are pure: they read files through HostFiles and say
// which texts are to stand where. The journal carries them out and back.

import type { Host, HostFiles } from './host.ts';

/** A registry whose pulls are to go by the agent. */
export interface MirroredOrigin {
  /** As it stands in image names that the client sees: `docker.io`, `registry.corp:5000`. */
  readonly registry: string;
  /** The agent's NAME for it, where the client can only say it in the path. undefined: the agent has none. */
  readonly name: string | undefined;
  /** Where the registry itself answers; the client goes there without the agent. undefined: as the client decides. */
  readonly server: string | undefined;
}

export interface Target {
  /** The agent's endpoint: `http://127.0.0.1:5050`. */
  readonly endpoint: URL;
  readonly origins: readonly MirroredOrigin[];
  /** The origins were named by the operator: one that cannot be had is refused rather than left out. */
  readonly named: boolean;
  readonly defaultOrigin: string | undefined;
  /** What somebody else wrote may be lost. */
  readonly force: boolean;
}

export interface Plan {
  /** Text by path. */
  readonly files: ReadonlyMap<string, string>;
  /** What the operator should know: what was left out and why. */
  readonly notes: readonly string[];
  /** What is left to do by hand besides restarts. */
  readonly next: readonly string[];
}

/** How one registry's pulls go now. */
export interface Route {
  readonly registry: string;
  readonly viaAgent: boolean;
  /** Which file says so, or what is missing. */
  readonly why: string;
}

export interface Client {
  /** Name of the journal: clients that read the same file share one. */
  journal(files: HostFiles, host: Host): string;
  /** Programs of which one is there where the client is installed. */
  readonly programs: readonly string[];
  /** @throws CommandFailure where what stands there cannot be merged */
  plan(files: HostFiles, host: Host, target: Target): Plan;
  /**
   * The text without what a plan put into it, for a file that somebody has changed since.
   * null: nothing of it is anybody else's. undefined: that cannot be told.
   */
  without(path: string, text: string, target: Pick<Target, 'endpoint'>): string | null | undefined;
  /** What makes the client read this file again after a change. undefined: nothing is needed. */
  restart(path: string): string | undefined;
  /** How pulls of these origins go, by the client's configuration. @throws CommandFailure where it cannot be read */
  routes(files: HostFiles, host: Host, target: Target): Route[];
}

/** Where a client takes the CA of the agent's certificate from, if it needs to be told. */
export function trustNote(target: Pick<Target, 'endpoint'>, place: string): string[] {
  return target.endpoint.protocol === 'http:' ? [] : [`The agent's endpoint has a certificate: unless this host trusts its CA, put the CA into ${place}.`];
}

/** host:port of the endpoint, as clients write it. */
export function hostPort({ endpoint }: Pick<Target, 'endpoint'>): string {
  return endpoint.port === '' ? `${endpoint.hostname}:${endpoint.protocol === 'https:' ? 443 : 80}` : endpoint.host;
}
