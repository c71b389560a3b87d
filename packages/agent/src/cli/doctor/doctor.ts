// `flotilla doctor`: looks at everything that a pull on this host depends on, says what is wrong and what to do about it.
//
// It gathers facts here and has them judged in checks.ts and canary.ts. Nothing is changed but for the canary, which is taken away again.

import { accessSync, constants, readFileSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import http from 'node:http';
import https from 'node:https';
import { delimiter, join } from 'node:path';
import { once } from 'node:events';
import { InvalidReferenceError, parseImageName } from '@flotilla/shared/reference';
import { loadConfig, programEnvironment, type AgentConfig, type ConfigInput } from '../../config.ts';
import type { AgentStatus } from '../../control.ts';
import { ControlClient } from '../control-client.ts';
import { EXIT } from '../exit-codes.ts';
import { because, CommandFailure } from '../failure.ts';
import { CLIENT_NAMES, CLIENTS, type ClientName } from '../setup/clients.ts';
import { containerdFolder } from '../setup/containerd.ts';
import { filesOnDisk, unlessAbsent, type Host } from '../setup/host.ts';
import type { MirroredOrigin, Route, Target } from '../setup/plan.ts';
import { reachedAt, targetOf } from '../setup/target.ts';
import { table, type Terminal } from '../terminal.ts';
import { CANARIES, canaryPuller, judgeCanary, noCanary, noProgram } from './canary.ts';
import { judgeAgent, judgeClient, judgeClock, judgeDisk, judgeEndpoint, judgeOpenFiles, judgeOrigin, judgePeers, judgeTracker } from './checks.ts';
import { problem, skipped, type Finding } from './finding.ts';

const ANSWER_TIMEOUT_MS = 5000;
/** Canaries tried for one client. */
const MAX_CANARIES = 3;
const TMPFS_MAGIC = 0x01021994;
/** What says that an image is not there, rather than that something is wrong. */
const NOT_THERE: ReadonlySet<string> = new Set(['MANIFEST_UNKNOWN', 'REPOSITORY_UNKNOWN', 'ACCESS_DENIED']);

export interface DoctorOptions {
  /** Only these; undefined: those that are installed. */
  readonly clients?: readonly ClientName[] | undefined;
  readonly canary?: string | undefined;
  readonly json?: boolean | undefined;
}

/** @returns 0 all is well, 1 there are findings @throws CommandFailure EXIT.noAccess, AgentError CONFIG_INVALID: it could not look */
export async function examine(options: DoctorOptions, input: ConfigInput, host: Host, terminal: Terminal, signal: AbortSignal): Promise<number> {
  const wanted = options.canary === undefined ? undefined : readCanary(options.canary);
  const { config, warnings } = loadConfig(input);
  for (const text of warnings) terminal.err(`flotilla: ${text}\n`);
  const findings: Finding[] = [];
  const tell = (...found: Finding[]): void => {
    findings.push(...found);
    if (options.json !== true) for (const finding of found) terminal.out(describe(finding));
  };
  const client = new ControlClient(config.data);
  const status = await statusOrFinding(client, signal);
  const target = examined(config, status, wanted);
  if ('check' in status) tell(status);
  else {
    tell(judgeAgent(status), await endpoint(status, target, signal), judgeTracker(status), judgePeers(status), await clock(status, signal));
    tell(await disk(status, config.data), judgeOpenFiles(unlessUnreadable(() => readFileSync(`/proc/${status.pid}/limits`, 'utf8'))));
  }
  const clients = clientsHere(options, host, target);
  tell(...clientFindings(clients));
  const setUp = clients.filter(({ routes }) => routes?.some(({ viaAgent }) => viaAgent));
  if (!('check' in status)) {
    const answers = await origins(client, config, status, mirrored(setUp, target), signal);
    tell(...answers.values());
    const faulty = new Set([...answers].filter(([, { verdict }]) => verdict !== 'ok').map(([name]) => name));
    for (const each of setUp) tell(await canary(each, wanted, target, faulty, client, host, signal));
  }
  const wrong = findings.filter(({ verdict }) => verdict === 'warning' || verdict === 'problem').length;
  if (options.json === true) terminal.out(`${JSON.stringify({ ok: wrong === 0, findings }, null, 2)}\n`);
  else terminal.out(wrong === 0 ? 'All is well.\n' : `${wrong} ${wrong === 1 ? 'finding' : 'findings'}.\n`);
  return wrong === 0 ? EXIT.ok : EXIT.failed;
}

/** An image that was named, as the agent's log will have it. */
interface Canary {
  readonly image: string;
  readonly registry: string;
  readonly repository: string;
}

/** @throws CommandFailure EXIT.usage */
function readCanary(image: string): Canary {
  try {
    const { origin: registry, repository } = parseImageName(image);
    // As the agent and every client complete it.
    return { image, registry, repository: registry === 'docker.io' && !repository.includes('/') ? `library/${repository}` : repository };
  } catch (error) {
    if (!(error instanceof InvalidReferenceError)) throw error;
    throw new CommandFailure(error.message, 'Name a small image that this host may read.', { exitCode: EXIT.usage, cause: error });
  }
}

/** All registries that the agent knows by name, and the one that is asked about. */
function examined(config: AgentConfig, status: AgentStatus | Finding, wanted: Canary | undefined): Target {
  const running = 'check' in status ? {} : { endpoint: reachedAt(status.addresses.registry, config).origin };
  const target = targetOf(config, running);
  const registries = target.origins.map(({ registry }) => registry);
  if (wanted === undefined || registries.includes(wanted.registry)) return target;
  return { ...target, origins: [...target.origins, ...targetOf(config, { ...running, origins: [wanted.registry] }).origins] };
}

async function statusOrFinding(client: ControlClient, signal: AbortSignal): Promise<AgentStatus | Finding> {
  try {
    return await client.status(signal);
  } catch (error) {
    if (!(error instanceof CommandFailure) || error.exitCode === EXIT.noAccess) throw error;
    return problem('agent', error.message, error.help);
  }
}

async function endpoint(status: AgentStatus, target: Target, signal: AbortSignal): Promise<Finding> {
  try {
    return judgeEndpoint(status, (await ask(new URL('/v2/', target.endpoint), 'GET', signal)).statusCode);
  } catch (error) {
    signal.throwIfAborted();
    return judgeEndpoint(status, error instanceof Error ? error.message : String(error));
  }
}

/** Against the Date of a tracker's answer: to the second, which is enough. */
async function clock({ tracker }: AgentStatus, signal: AbortSignal): Promise<Finding> {
  if (tracker.url === undefined) return skipped('clock', 'without a tracker there is no other to compare it with');
  try {
    const { headers } = await ask(new URL('/healthz', tracker.url), 'HEAD', signal);
    const theirs = Date.parse(headers.date ?? '');
    // The header has whole seconds: half of one is the best guess.
    return Number.isNaN(theirs) ? skipped('clock', 'the tracker does not tell the time') : judgeClock(Date.now() - (theirs + 500));
  } catch (error) {
    signal.throwIfAborted();
    return skipped('clock', `the tracker cannot be asked${because(error)}`);
  }
}

/** The answer's head. No certificate is checked, as nothing that is said in it is believed but whether and when it came. */
async function ask(url: URL, method: string, signal: AbortSignal): Promise<{ statusCode: number; headers: http.IncomingHttpHeaders }> {
  const init = { method, agent: false, signal: AbortSignal.any([signal, AbortSignal.timeout(ANSWER_TIMEOUT_MS)]) } as const;
  const request = url.protocol === 'https:' ? https.request(url, { ...init, rejectUnauthorized: false }) : http.request(url, init);
  request.end();
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  response.resume();
  return { statusCode: response.statusCode ?? 0, headers: response.headers };
}

async function disk(status: AgentStatus, data: string): Promise<Finding> {
  try {
    const { bsize, blocks, bavail, type } = await statfs(data);
    return judgeDisk(status, data, { totalBytes: bsize * blocks, freeBytes: bsize * bavail, volatile: type === TMPFS_MAGIC });
  } catch (error) {
    return skipped('disk', `${data} cannot be looked at${because(error)}`);
  }
}

interface ClientHere {
  readonly name: ClientName;
  /** undefined: its configuration cannot be read, `fault` says why. */
  readonly routes: readonly Route[] | undefined;
  readonly fault?: CommandFailure;
}

/** Clients that are installed, or were named. */
function clientsHere({ clients }: DoctorOptions, host: Host, target: Target): ClientHere[] {
  const files = filesOnDisk(host);
  const names = clients ?? CLIENT_NAMES.filter((name) => CLIENTS[name].programs.some((program) => findProgram(program) !== undefined));
  return names.map((name) => {
    try {
      return { name, routes: CLIENTS[name].routes(files, host, target) };
    } catch (error) {
      if (!(error instanceof CommandFailure)) throw error;
      return { name, routes: undefined, fault: error };
    }
  });
}

function clientFindings(clients: readonly ClientHere[]): Finding[] {
  if (clients.length === 0) return [skipped('clients', 'no container client that is known is installed here')];
  const isSetUp = ({ routes = [] }: ClientHere): boolean => routes.some(({ viaAgent }) => viaAgent);
  return clients.map((client) =>
    client.routes === undefined
      ? problem(`client ${client.name}`, client.fault!.message, client.fault!.help)
      : judgeClient(client.name, client.routes, { others: clients.some((other) => other !== client && isSetUp(other)) }),
  );
}

/** Origins whose pulls some client sends by the agent. */
function mirrored(clients: readonly ClientHere[], target: Target): MirroredOrigin[] {
  const via = new Set(clients.flatMap(({ routes = [] }) => routes.filter(({ viaAgent }) => viaAgent).map(({ registry }) => registry)));
  return target.origins.filter(({ registry }) => via.has(registry));
}

/** By the agent's name of the origin. */
async function origins(client: ControlClient, config: AgentConfig, status: AgentStatus, used: readonly MirroredOrigin[], signal: AbortSignal): Promise<Map<string, Finding>> {
  const configured = new Set(Object.keys(config.origin));
  // Flags of the agent are not known here, but what it has asked is.
  const asked = (status.origins ?? []).filter(({ requests }) => requests > 0).map(({ name }) => name);
  const names = [...new Set([...configured, ...asked, ...used.flatMap(({ name }) => (name === undefined ? [] : [name]))])];
  const probed = await Promise.all(
    names.map(async (name): Promise<[string, Finding]> => {
      const probe = await client.probe(name, signal);
      const credentials = status.origins?.find((origin) => origin.name === name)?.credentials;
      return [name, judgeOrigin(probe, { configured: configured.has(name), credentials })];
    }),
  );
  return new Map(probed);
}

async function canary({ name, routes = [] }: ClientHere, wanted: Canary | undefined, target: Target, faulty: ReadonlySet<string>, client: ControlClient, host: Host, signal: AbortSignal): Promise<Finding> {
  const via = routes.filter(({ viaAgent }) => viaAgent).map(({ registry }) => registry);
  const origin = (registry: string): string => target.origins.find((each) => each.registry === registry)?.name ?? registry;
  if (wanted !== undefined && !via.includes(wanted.registry)) return skipped(`canary ${name}`, `not tried: ${name} does not ask the agent for ${wanted.registry}, by its configuration`);
  // Docker sends other registries by the agent with one of its two image stores only.
  const sure = via.filter((registry) => (name !== 'docker' || registry === 'docker.io') && !faulty.has(origin(registry)));
  const known = sure.flatMap((registry) => CANARIES.get(registry) ?? []).map(readCanary);
  const canaries = wanted === undefined ? known.slice(0, MAX_CANARIES) : [wanted];
  const pull = canaryPuller({ findProgram, certsFolder: containerdFolder(filesOnDisk(host), host) });
  const absent: string[] = [];
  for (const { image, registry, repository } of canaries) {
    const sinceMs = Date.now();
    const result = await pull(name, image, signal);
    signal.throwIfAborted();
    if (result === 'no program') return noProgram(name);
    const requests = (await client.requests(signal)).filter((request) => request.atMs >= sinceMs && request.origin === origin(registry) && request.repository === repository);
    const isAbsent = wanted === undefined && result.error !== undefined && requests.length > 0 && requests.every(({ outcome }) => NOT_THERE.has(outcome));
    if (!isAbsent) return judgeCanary(name, image, result.error, requests);
    absent.push(image);
  }
  const last = (await client.requests(signal)).findLast(({ kind, outcome, reference }) => kind === 'manifest' && outcome === 'served' && !reference.includes(':'));
  return noCanary(name, absent, last && `${last.origin}/${last.repository}:${last.reference}`);
}

/** Where a program lies, as a shell would find it, or among those of root. */
function findProgram(name: string): string | undefined {
  const folders = [...(programEnvironment()['PATH'] ?? '').split(delimiter), '/usr/local/sbin', '/usr/sbin', '/sbin'];
  return folders.map((folder) => join(folder, name)).find((path) => unlessUnreadable(() => accessSync(path, constants.X_OK) ?? true) === true);
}

function unlessUnreadable<T>(read: () => T): T | undefined {
  try {
    return unlessAbsent(read);
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (code === 'EACCES' || code === 'EPERM') return undefined;
    throw error;
  }
}

const INDENT = ' '.repeat('problem  '.length);

function describe({ check, verdict, message, help }: Finding): string {
  const line = table([[verdict.padEnd(INDENT.length - 2), `${check}: ${message}`]]);
  return help === undefined ? line : `${line}${INDENT}-> ${help}\n`;
}
