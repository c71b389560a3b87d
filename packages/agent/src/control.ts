// The control socket DIR/agent.sock: what the commands of the CLI ask of a running agent. Who may open the file (0660) may ask;
// image names are told here, unlike on the admin port.

import { chmod, mkdir, unlink } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import { connect } from 'node:net';
import { dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import fastify, { type FastifyInstance } from 'fastify';
import type { OwnLimits } from './brakes.ts';
import type { RightsStatus } from './access/rights.ts';
import type { DownloadStatus } from './content/download-contract.ts';
import type { FleetResolverStatus } from './content/fleet-resolver.ts';
import { HOST_PLATFORM, parsePlatform } from './content/platform.ts';
import type { Store } from './content/ports.ts';
import type { LoggedRequest } from './content/request-log.ts';
import { AgentError, type ErrorCode } from './errors.ts';
import type { FleetKnowledge } from './fleet-knowledge.ts';
import type { SocketAddress } from './listen.ts';
import type { ByteTotals } from './metrics.ts';
import type { OriginStatus } from './origin/standing.ts';
import type { RolloutStatus } from './rollouts/executor.ts';
import type { PullEvent, PullRequest } from './pull.ts';

const SOCKET_MODE = 0o660;
/** sun_path of Linux, less its final zero. */
const MAX_SOCKET_PATH_BYTES = 107;

/** The answer to GET /status. */
export interface AgentStatus {
  readonly version: string;
  readonly name: string;
  readonly zone?: string | undefined;
  readonly pid: number;
  /** ISO 8601 */
  readonly startedAt: string;
  readonly state: 'starting' | 'ready' | 'draining';
  readonly addresses: { readonly registry: SocketAddress; readonly peers?: SocketAddress | undefined; readonly admin: SocketAddress };
  readonly peerId?: string | undefined;
  readonly tracker: TrackerStatus;
  /** `known`: as many as the tracker wants this agent to be connected with; undefined without one. */
  readonly peers: { readonly connected: number; readonly known?: number | undefined };
  readonly store: ReturnType<Store['usage']>;
  /** Since the start. */
  readonly bytes: ByteTotals;
  readonly downloads: readonly DownloadStatus[];
  /** At work now. */
  readonly rollouts?: readonly RolloutStatus[];
  /** Ids of the brakes that operators have set on this host; `limits` has them in. */
  readonly brakes?: readonly string[];
  /** Bytes per second; absent: no limit. */
  readonly limits?: { readonly upload?: number | undefined; readonly download?: number | undefined; readonly origin?: number | undefined; readonly zone?: number | undefined };
  /** Share of the file system that is left free. */
  readonly minFreeShare?: number;
  readonly defaultOrigin?: string | undefined;
  /** Who may read what through this agent (docs/rights.md). */
  readonly rights?: RightsStatus;
  /** What the tracker is asked instead of origins; absent: nothing. */
  readonly resolvedByTracker?: FleetResolverStatus;
  /** Those that are configured, or were asked since the start. */
  readonly origins?: readonly OriginStatus[];
}

/** What may be asked of a running agent besides its status. */
export interface ControlCommands {
  /** Ends with `done` or `failed`; a signal that aborts ends the pull. */
  pull(request: PullRequest, signal: AbortSignal): AsyncIterable<PullEvent>;
  /** What this agent knows of its fleet. */
  fleet(): FleetKnowledge;
  /** Changes this host's own limits, or makes them what its settings say again. @returns what is in force, operators' brakes included */
  limit(change: Partial<OwnLimits> | 'settings'): NonNullable<AgentStatus['limits']>;
  /** The last requests of local clients, the oldest first. */
  requests(): readonly LoggedRequest[];
  /** Asks an origin something, to see whether it answers this agent. */
  probe(origin: string, signal: AbortSignal): Promise<OriginProbe>;
}

/** `code` and what follows: why it does not. */
export interface OriginProbe {
  readonly origin: string;
  readonly answers: boolean;
  readonly code?: ErrorCode;
  readonly message?: string;
  readonly help?: string;
}

export interface TrackerStatus {
  /** none: no tracker is configured. */
  readonly state: 'none' | 'connecting' | 'connected' | 'lost';
  readonly url?: string | undefined;
  readonly lastError?: { readonly code: ErrorCode; readonly message: string } | undefined;
}

export interface Control {
  readonly path: string;
  close(): Promise<void>;
}

export function controlSocketPath(dataDir: string): string {
  return join(dataDir, 'agent.sock');
}

/**
 * Listens on the control socket. A file left over by a killed agent is replaced; one that answers is not.
 * @throws AgentError STORE_LOCKED when another agent answers, CONFIG_INVALID when the path is too long
 */
export async function startControl(dataDir: string, status: () => Promise<AgentStatus>, commands?: ControlCommands): Promise<Control> {
  const path = controlSocketPath(dataDir);
  if (Buffer.byteLength(path) > MAX_SOCKET_PATH_BYTES) {
    throw new AgentError('CONFIG_INVALID', `--data ${dataDir} is too long: the control socket's path may have ${MAX_SOCKET_PATH_BYTES} bytes`);
  }
  await mkdir(dirname(path), { recursive: true, mode: 0o750 });
  await removeStale(path);
  const app = fastify({ logger: false, forceCloseConnections: true, return503OnClosing: false });
  app.get('/status', async () => status());
  if (commands !== undefined) addCommands(app, commands);
  try {
    await app.listen({ path });
  } catch (error) {
    throw new AgentError('STORE_LOCKED', `the control socket ${path} cannot be opened`, { cause: error });
  }
  await chmod(path, SOCKET_MODE);
  return { path, close: () => app.close() };
}

/** The body of POST /limits: bytes per second, null for no limit; what is absent stays. */
export interface LimitChange {
  readonly upload?: number | null;
  readonly download?: number | null;
  readonly origin?: number | null;
  readonly zone?: number | null;
  /** All as the settings have them. */
  readonly settings?: true;
}

/** The least that settings allow, too. */
const Rate = { type: ['integer', 'null'], minimum: 1024 } as const;
const Text = { type: 'string', minLength: 1, maxLength: 512 } as const;

function addCommands(app: FastifyInstance, commands: ControlCommands): void {
  app.get('/requests', async () => commands.requests());
  app.get('/fleet', async () => commands.fleet());
  const probe = { schema: { body: { type: 'object', required: ['origin'], properties: { origin: Text } } } };
  app.post<{ Body: { origin: string } }>('/probe', probe, async (request, reply) => commands.probe(request.body.origin, untilClosed(reply.raw)));
  const limits = { schema: { body: { type: 'object', properties: { upload: Rate, download: Rate, origin: Rate, zone: Rate, settings: { const: true } } } } };
  app.post<{ Body: LimitChange }>('/limits', limits, async ({ body: { settings, upload, download, origin, zone } }) =>
    commands.limit(
      settings === true
        ? 'settings'
        : {
            ...(upload !== undefined && { uploadLimit: upload ?? undefined }),
            ...(download !== undefined && { downloadLimit: download ?? undefined }),
            ...(origin !== undefined && { originLimit: origin ?? undefined }),
            ...(zone !== undefined && { zoneLimit: zone ?? undefined }),
          },
    ),
  );
  const pull = { schema: { body: { type: 'object', required: ['image'], properties: { image: Text, platform: Text } } } };
  // One JSON object a line, as things happen.
  app.post<{ Body: { image: string; platform?: string } }>('/pull', pull, async (request, reply) => {
    const { image, platform: wanted } = request.body;
    const platform = wanted === undefined ? HOST_PLATFORM : parsePlatform(wanted);
    if (platform === undefined) return reply.code(400).send({ message: `"${wanted}" is no platform` });
    const events = commands.pull({ image, platform, named: wanted !== undefined }, untilClosed(reply.raw));
    return reply.type('application/x-ndjson').send(Readable.from(lines(events)));
  });
}

/** Aborts when whoever asked has gone. */
function untilClosed(response: ServerResponse): AbortSignal {
  const abort = new AbortController();
  response.once('close', () => abort.abort());
  return abort.signal;
}

async function* lines(events: AsyncIterable<PullEvent>): AsyncGenerator<string> {
  for await (const event of events) yield `${JSON.stringify(event)}\n`;
}

async function removeStale(path: string): Promise<void> {
  switch (await probe(path)) {
    case 'answers':
      throw new AgentError('STORE_LOCKED', `an agent already runs with this data folder (${path} answers)`);
    case 'stale':
      await unlink(path);
      break;
    case 'absent':
  }
}

/** Whether somebody listens. @throws AgentError STORE_LOCKED when that cannot be told */
function probe(path: string): Promise<'answers' | 'stale' | 'absent'> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve('answers');
    });
    socket.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') resolve('absent');
      else if (error.code === 'ECONNREFUSED') resolve('stale');
      else reject(new AgentError('STORE_LOCKED', `the control socket ${path} cannot be asked`, { cause: error }));
    });
  });
}
