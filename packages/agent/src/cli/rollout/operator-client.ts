// Asks the tracker as an operator: which tracker, whom to believe that it is the tracker, and with which token.
//
// The tracker's CA is pinned by the join token, as agents do it, or given as a file; without either the system's CAs count. Where no flag says so, tracker and
// join token are those of this host's agent. The operator's token is a file, so that it stands neither in the process list nor in a shell's history.

import { readFile } from 'node:fs/promises';
import { ROLLOUT_ROUTES, RolloutDetail, RolloutHosts, RolloutList, type RolloutCommand, type RolloutHostState, type RolloutRequest } from '@flotilla/shared/rollout-api';
import { API_PREFIX } from '@flotilla/shared/tracker-api';
import type { TSchema } from 'typebox';
import { Compile } from 'typebox/compile';
import { loadConfig } from '../../config.ts';
import { AgentError } from '../../errors.ts';
import { readJoinToken, TrackerClient, trackerUrl, type TrackerAddress } from '../../tracker/client.ts';
import { EXIT } from '../exit-codes.ts';
import { because, CommandFailure } from '../failure.ts';

/** A row of a host has about 120 bytes. */
const MAX_REPLY_BYTES = 64 * 1024 * 1024;

const checkDetail = Compile(RolloutDetail as TSchema);
const checkList = Compile(RolloutList as TSchema);
const checkHosts = Compile(RolloutHosts as TSchema);

export interface OperatorFlags {
  readonly tracker?: string;
  readonly tokenFile?: string;
  readonly ca?: string;
  readonly joinTokenFile?: string;
  readonly config?: string;
}

/** Every method throws CommandFailure, but for a tracker that does not answer: AgentError TRACKER_UNREACHABLE. */
export class OperatorClient {
  readonly #client = new TrackerClient();
  readonly #address: TrackerAddress;
  readonly #token: string;

  private constructor(address: TrackerAddress, token: string) {
    this.#address = address;
    this.#token = token;
  }

  /** @throws CommandFailure EXIT.usage */
  static async open({ tracker, tokenFile, ca, joinTokenFile, config }: OperatorFlags): Promise<OperatorClient> {
    const settings = loadConfig({ flags: { config } }).config;
    const url = tracker ?? settings.tracker[0];
    if (url === undefined) throw new CommandFailure('no tracker is named', 'Give --tracker URL, or name it in the settings of this host (--config).', { exitCode: EXIT.usage });
    if (tokenFile === undefined) throw new CommandFailure("no operator's token is named", "Give --token-file FILE, such as the tracker's DIR/operator-token.", { exitCode: EXIT.usage });
    const token = (await readText(tokenFile, '--token-file')).trim();
    const pem = ca === undefined ? undefined : await readText(ca, '--ca');
    const joinToken = joinTokenFile ?? (tracker === undefined || settings.tracker.includes(tracker) ? settings.joinTokenFile : undefined);
    const caPin = joinToken === undefined || pem !== undefined ? undefined : (await readJoinToken(joinToken)).caPin;
    return new OperatorClient({ url: trackerUrl(url), caPin, ...(pem !== undefined && { ca: pem }) }, token);
  }

  get url(): string {
    return this.#address.url;
  }

  async create(request: RolloutRequest, signal: AbortSignal): Promise<RolloutDetail> {
    return (await this.#ask('POST', ROLLOUT_ROUTES.all, checkDetail, signal, request)) as RolloutDetail;
  }

  async list(signal: AbortSignal): Promise<RolloutList> {
    return (await this.#ask('GET', ROLLOUT_ROUTES.all, checkList, signal)) as RolloutList;
  }

  async show(id: string, signal: AbortSignal): Promise<RolloutDetail> {
    return (await this.#ask('GET', ROLLOUT_ROUTES.one(id), checkDetail, signal)) as RolloutDetail;
  }

  async hosts(id: string, state: RolloutHostState | undefined, signal: AbortSignal): Promise<RolloutHosts> {
    const query = state === undefined ? '' : `?state=${state}`;
    return (await this.#ask('GET', `${ROLLOUT_ROUTES.hosts(id)}${query}`, checkHosts, signal)) as RolloutHosts;
  }

  async command(id: string, command: RolloutCommand, signal: AbortSignal): Promise<RolloutDetail> {
    return (await this.#ask('POST', ROLLOUT_ROUTES.command(id, command), checkDetail, signal)) as RolloutDetail;
  }

  close(): Promise<void> {
    return this.#client.close();
  }

  async #ask(method: 'GET' | 'POST', route: string, check: { Check(value: unknown): boolean }, signal: AbortSignal, body?: object): Promise<unknown> {
    const headers = { authorization: `Bearer ${this.#token}` };
    const request = { method, path: API_PREFIX + route, headers, maxReplyBytes: MAX_REPLY_BYTES, ...(body !== undefined && { body: JSON.stringify(body) }) };
    const reply = await this.#client.ask(this.#address, request, signal).catch((error: unknown) => {
      throw explained(error);
    });
    if (!check.Check(reply)) throw new CommandFailure(`${this.url} answered with something else`, 'Run the same release here and there.');
    return reply;
  }
}

/** What the tracker refuses, in its own words. */
function explained(error: unknown): unknown {
  if (!(error instanceof AgentError) || error.code !== 'TRACKER_REFUSED') return error;
  const { status, code, said } = error.detail ?? {};
  const message = typeof code === 'string' ? `the tracker refuses: ${code}` : `the tracker answered ${String(status)}`;
  return new CommandFailure(message, typeof said === 'string' ? said : 'Is it a tracker, and of this release?', { cause: error });
}

async function readText(path: string, flag: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw new CommandFailure(`${flag} ${path} cannot be read${because(error)}`, 'Name a file that this user may read.', { exitCode: EXIT.usage, cause: error });
  }
}
