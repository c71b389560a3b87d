// Asks the agent of this host over its control socket. What goes wrong there is told in the operator's words.

import { once } from 'node:events';
import http from 'node:http';
import { text } from 'node:stream/consumers';
import { controlSocketPath, type AgentStatus, type LimitChange, type OriginProbe } from '../control.ts';
import type { LoggedRequest } from '../content/request-log.ts';
import type { FleetKnowledge } from '../fleet-knowledge.ts';
import type { PullEvent } from '../pull.ts';
import { EXIT } from './exit-codes.ts';
import { because, CommandFailure } from './failure.ts';

const TIMEOUT_MS = 5000;
/** Longer than the agent waits for an origin. */
const PROBE_TIMEOUT_MS = 30_000;

/** Every method throws CommandFailure: EXIT.notRunning where no agent runs with this data folder. */
export class ControlClient {
  readonly #dataDir: string;

  constructor(dataDir: string) {
    this.#dataDir = dataDir;
  }

  async status(signal?: AbortSignal): Promise<AgentStatus> {
    return (await this.#json('GET', '/status', undefined, TIMEOUT_MS, signal)) as AgentStatus;
  }

  async fleet(signal?: AbortSignal): Promise<FleetKnowledge> {
    return (await this.#json('GET', '/fleet', undefined, TIMEOUT_MS, signal)) as FleetKnowledge;
  }

  async requests(signal?: AbortSignal): Promise<LoggedRequest[]> {
    return (await this.#json('GET', '/requests', undefined, TIMEOUT_MS, signal)) as LoggedRequest[];
  }

  /** @returns what is in force then */
  async limit(change: LimitChange, signal?: AbortSignal): Promise<NonNullable<AgentStatus['limits']>> {
    return (await this.#json('POST', '/limits', change, TIMEOUT_MS, signal)) as NonNullable<AgentStatus['limits']>;
  }

  async probe(origin: string, signal?: AbortSignal): Promise<OriginProbe> {
    return (await this.#json('POST', '/probe', { origin }, PROBE_TIMEOUT_MS, signal)) as OriginProbe;
  }

  /** Events as they come. Ends without `done` or `failed` only where the agent went away. */
  async *pull(image: string, platform: string | undefined, signal: AbortSignal): AsyncGenerator<PullEvent, void, void> {
    const response = await this.#ask('POST', '/pull', { image, ...(platform !== undefined && { platform }) }, signal);
    try {
      let rest = '';
      for await (const piece of response.setEncoding('utf8') as AsyncIterable<string>) {
        const lines = (rest + piece).split('\n');
        rest = lines.pop() ?? '';
        for (const line of lines) yield JSON.parse(line) as PullEvent;
      }
    } catch (error) {
      if (!signal.aborted) throw this.#explained(error);
      throw error;
    } finally {
      response.destroy();
    }
  }

  async #json(method: string, path: string, body: unknown, timeoutMs: number, signal: AbortSignal | undefined): Promise<unknown> {
    const limit = AbortSignal.timeout(timeoutMs);
    const response = await this.#ask(method, path, body, signal === undefined ? limit : AbortSignal.any([signal, limit]));
    try {
      return JSON.parse(await text(response)) as unknown;
    } catch (error) {
      throw this.#explained(error);
    }
  }

  async #ask(method: string, path: string, body: unknown, signal: AbortSignal): Promise<http.IncomingMessage> {
    try {
      const headers = body === undefined ? {} : { 'content-type': 'application/json' };
      const request = http.request({ socketPath: controlSocketPath(this.#dataDir), method, path, headers, signal, agent: false });
      request.end(body === undefined ? undefined : JSON.stringify(body));
      const [response] = (await once(request, 'response')) as [http.IncomingMessage];
      if (response.statusCode === 200) return response;
      throw new Error(`the agent answered ${response.statusCode}: ${(await text(response)).slice(0, 200)}`);
    } catch (error) {
      throw this.#explained(error);
    }
  }

  #explained(error: unknown): CommandFailure {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    const data = this.#dataDir;
    if (code === 'ENOENT' || code === 'ECONNREFUSED') {
      return new CommandFailure(`no agent runs with the data folder ${data}`, `Start it with "flotilla agent --data ${data}", or name the folder of the one that runs with --data.`, { exitCode: EXIT.notRunning, cause: error });
    }
    if (code === 'EACCES') {
      return new CommandFailure(`${controlSocketPath(data)} is not open to you`, "Ask as the agent's user or a member of its group.", { exitCode: EXIT.noAccess, cause: error });
    }
    return new CommandFailure(`the agent gave no answer${because(error)}`, 'See its log.', { cause: error });
  }
}
