// What `npm start` runs and what it tells: options to programs, ports and texts. Pure.
//
// Agent k adds 100(k-1) to each of its ports. Invariant: everything listens on loopback, and every path lies under
// .flotilla/ (relative to the checkout: a control socket's path may have 107 bytes only).
import { parseArgs } from 'node:util';

/**
 * @typedef {{ flag: string, port: number }} Listener a port that the program needs, and the flag that sets it
 * @typedef {{ name: string, args: string[], listeners: Listener[], logFile: string, readyUrl: string }} Program
 * @typedef {{ agents: number, basePort: number, origins: { name: string, url: string }[], defaultOrigin?: string }} Options
 * @typedef {{ tracker: Program, agents: Program[], login: string[] }} Plan
 */

const HOST = '127.0.0.1';
const DEFAULT_BASE_PORT = 5050;
const AGENT_STRIDE = 100;
const MAX_AGENTS = 50;
const TRACKER_DATA = '.flotilla/tracker';
export const JOIN_TOKEN_FILE = `${TRACKER_DATA}/join-token`;

/** Prints a link again. */
const ANOTHER_LINK = `node_modules/.bin/node packages/tracker/src/main.ts login --data ${TRACKER_DATA}`;

export const USAGE = `npm start -- [options]

  --agents N              how many agents run (1)
  --origin NAME=URL       a registry under a name of your own; repeatable
  --default-origin NAME   the origin of image names that name none
  --base-port N           first port: endpoint N, peers N+1, tracker N+2, admin N+3 (${DEFAULT_BASE_PORT})
`;

/** An option that cannot be; the message is for the person who typed it. */
export class UsageError extends Error {}

/**
 * @param {string[]} argv
 * @returns {Options | 'help'}
 * @throws {UsageError}
 */
export function parseOptions(argv) {
  const { values } = parse(argv);
  if (values.help) return 'help';
  const agents = wholeNumber('--agents', values.agents ?? '1', 1, MAX_AGENTS);
  const highest = 65535 - 3 - AGENT_STRIDE * (agents - 1);
  const basePort = wholeNumber('--base-port', values['base-port'] ?? String(DEFAULT_BASE_PORT), 1024, highest);
  const origins = (values.origin ?? []).map((text) => {
    const at = text.indexOf('=');
    const url = text.slice(at + 1);
    if (at <= 0 || !/^https?:\/\/[^/]/.test(url)) throw new UsageError(`--origin takes NAME=URL, such as lab=http://127.0.0.1:5000, not "${text}"`);
    return { name: text.slice(0, at), url };
  });
  const defaultOrigin = values['default-origin'];
  return { agents, basePort, origins, ...(defaultOrigin !== undefined && { defaultOrigin }) };
}

/** @param {string[]} argv */
function parse(argv) {
  try {
    return parseArgs({
      args: argv,
      options: {
        agents: { type: 'string' },
        origin: { type: 'string', multiple: true },
        'default-origin': { type: 'string' },
        'base-port': { type: 'string' },
        help: { type: 'boolean', short: 'h' },
      },
    });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error), { cause: error });
  }
}

/**
 * @param {string} flag
 * @param {string} text
 * @param {number} min
 * @param {number} max
 */
function wholeNumber(flag, text, min, max) {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < min || value > max) throw new UsageError(`${flag} takes a whole number from ${min} to ${max}, not "${text}"`);
  return value;
}

/**
 * @param {Options} options
 * @returns {Plan}
 */
export function planFleet({ agents, basePort, origins, defaultOrigin }) {
  const trackerPort = basePort + 2;
  const shared = [
    ...origins.flatMap(({ name, url }) => ['--origin', `${name}=${url}`]),
    ...(defaultOrigin === undefined ? [] : ['--default-origin', defaultOrigin]),
  ];
  return {
    tracker: {
      name: 'tracker',
      args: ['packages/tracker/src/main.ts', '--listen', `${HOST}:${trackerPort}`, '--data', TRACKER_DATA],
      listeners: [{ flag: '--listen', port: trackerPort }],
      logFile: '.flotilla/tracker.log',
      readyUrl: `https://${HOST}:${trackerPort}/readyz`,
    },
    login: ['packages/tracker/src/main.ts', 'login', '--data', TRACKER_DATA],
    agents: Array.from({ length: agents }, (_, index) => planAgent(index + 1, basePort + AGENT_STRIDE * index, trackerPort, shared)),
  };
}

/**
 * @param {number} k
 * @param {number} port
 * @param {number} trackerPort
 * @param {string[]} shared
 * @returns {Program}
 */
function planAgent(k, port, trackerPort, shared) {
  const name = `agent-${k}`;
  const listeners = [
    { flag: '--listen', port },
    { flag: '--p2p-listen', port: port + 1 },
    { flag: '--admin-listen', port: port + 3 },
  ];
  return {
    name,
    args: [
      'packages/agent/src/main.ts', 'agent', '--name', name, '--data', `.flotilla/${name}`,
      ...listeners.flatMap((listener) => [listener.flag, `${HOST}:${listener.port}`]),
      '--tracker', `https://${HOST}:${trackerPort}`, '--join-token-file', JOIN_TOKEN_FILE,
      ...shared,
    ],
    listeners,
    logFile: `.flotilla/${name}.log`,
    readyUrl: `http://${HOST}:${port + 3}/readyz`,
  };
}

/**
 * What is printed once everything is ready.
 * @param {Options} options
 * @param {Plan} plan
 * @param {string} image the image of the pull line, origin first
 * @param {string | undefined} link to the dashboard, signing in once; undefined: none could be made
 */
export function welcomeText(options, plan, image, link) {
  // Clients take a name without a dot for a short name and never look for its mirror.
  const mirrored = options.origins.find((origin) => origin.name.includes('.'))?.name ?? 'docker.io';
  const endpoints = plan.agents.map((_, index) => `${HOST}:${options.basePort + AGENT_STRIDE * index}`);
  const agents = plan.agents.length === 1 ? 'one agent' : `${plan.agents.length} agents`;
  return `
Flotilla is running: a tracker and ${agents}${plan.agents.length === 1 ? '' : ` (${endpoints.join(', ')})`}.

Pull an image through ${plan.agents.length === 1 ? 'the agent' : 'agent 1'}:

  podman pull --tls-verify=false ${endpoints[0]}/${image}

Or keep image names as they are; put this into /etc/containers/registries.conf.d/flotilla.conf:

${mirrorDropIn(mirrored, endpoints[0] ?? '').replaceAll(/^(?=.)/gm, '  ')}
${link === undefined ? '' : `The dashboard; this link signs you in, once and within ten minutes:

  ${link}

Another  ${ANOTHER_LINK}
`}Tracker  https://${HOST}:${options.basePort + 2}
Logs     ${[plan.tracker, ...plan.agents].map((program) => program.logFile).join(', ')}
Stop     Ctrl-C
`;
}

/**
 * The registries.conf(5) text that sends one registry's pulls to an agent first.
 * @param {string} name
 * @param {string} endpoint
 */
export function mirrorDropIn(name, endpoint) {
  return `[[registry]]
prefix = "${name}"
location = "${name}"

[[registry.mirror]]
location = "${endpoint}/${name}"
insecure = true
`;
}
