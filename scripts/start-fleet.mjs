// Runs the planned programs: checks their ports, starts them, waits until they are ready, and stops all of them.
//
// The programs get sessions of their own, so that Ctrl-C reaches this process alone; it stops agents first (they finish open pulls with
// the tracker's help), then the tracker. A second Ctrl-C stops at once. A terminal's Ctrl-C arrives twice, from the terminal and from npm:
// signals that close together are one. Invariant: when this process ends, none of its programs is left.
import { execFile, spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, renameSync } from 'node:fs';
import { get as httpGet } from 'node:http';
import { get as httpsGet } from 'node:https';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { root, workspaceNode } from './setup.mjs';
import { pullableImage } from './start-image.mjs';
import { JOIN_TOKEN_FILE, parseOptions, planFleet, USAGE, UsageError, welcomeText } from './start-plan.mjs';

/** @typedef {import('./start-plan.mjs').Program} Program */

const READY_TIMEOUT_MS = 30_000;
const READY_POLL_MS = 50;
/** Two signals closer than this are one Ctrl-C that came by two ways. */
const SAME_SIGNAL_MS = 300;
/** A little over the agent's own drainTimeoutMs. */
const DRAIN_KILL_MS = 70_000;
const AT_ONCE_KILL_MS = 5_000;
const LOGIN_TIMEOUT_MS = 10_000;
const LOG_TAIL_LINES = 10;

/** @param {string[]} argv */
export async function start(argv) {
  // A terminal that is gone (SIGHUP) must not keep the programs from being stopped.
  process.stdout.on('error', () => {});
  process.stderr.on('error', () => {});
  let options;
  try {
    options = parseOptions(argv);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    fail(error.message);
  }
  if (options === 'help') {
    process.stdout.write(USAGE);
    return;
  }
  const plan = planFleet(options);
  await checkPorts([plan.tracker, ...plan.agents], options.basePort);

  const fleet = new RunningFleet();
  const image = pullableImage(options.origins);
  mkdirSync(join(root, '.flotilla'), { recursive: true });
  const known = existsSync(join(root, JOIN_TOKEN_FILE));
  // The tracker makes the join token at its first start; later the agents need not wait for it.
  if (!known) await fleet.start([plan.tracker]);
  const link = known ? undefined : loginLink(plan.login);
  await fleet.start(known ? [plan.tracker, ...plan.agents] : plan.agents);
  const text = welcomeText(options, plan, await image, await (link ?? loginLink(plan.login)));
  if (!fleet.stopping) process.stdout.write(text);
}

/** The programs of one `npm start`. `starting -> running -> stopping`, and never back. */
class RunningFleet {
  /** @type {Child[]} in the order of their start */
  #children = [];
  #stopping = false;
  #atOnce = new AbortController();
  #lastSignalMs = -Infinity;
  #exitCode = 0;

  constructor() {
    for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) process.on(signal, () => this.#onSignal());
  }

  get stopping() {
    return this.#stopping;
  }

  /** @param {readonly Program[]} programs started together; resolves when all are ready, or the fleet stops */
  async start(programs) {
    if (this.#stopping) return;
    const children = programs.map((program) => new Child(program));
    this.#children.push(...children);
    for (const child of children) void child.exited.then(() => this.#onExit(child));
    const ready = await Promise.all(children.map((child) => child.ready()));
    const late = children.find((_, index) => !ready[index]);
    if (late !== undefined && !this.#stopping) this.#giveUp(late, `is not ready after ${READY_TIMEOUT_MS / 1000} s`);
  }

  #onSignal() {
    const nowMs = performance.now();
    const same = nowMs - this.#lastSignalMs < SAME_SIGNAL_MS;
    this.#lastSignalMs = nowMs;
    if (same) return;
    if (this.#stopping) {
      this.#atOnce.abort();
      return;
    }
    process.stdout.write('\nStopping; open pulls are finished first. Ctrl-C again stops at once.\n');
    void this.#stop();
  }

  /** @param {Child} child */
  #onExit(child) {
    if (!this.#stopping) this.#giveUp(child, `stopped (${child.howItEnded})`);
  }

  /**
   * @param {Child} child
   * @param {string} what
   */
  #giveUp(child, what) {
    const { name, logFile } = child.program;
    process.stderr.write(`\n${name} ${what}; the last lines of ${logFile}:\n${logTail(logFile)}\n`);
    this.#exitCode = 1;
    void this.#stop();
  }

  async #stop() {
    this.#stopping = true;
    const [tracker, ...agents] = this.#children;
    await Promise.all(agents.map((agent) => agent.stop(this.#atOnce.signal)));
    await tracker?.stop(this.#atOnce.signal);
    process.exit(this.#exitCode);
  }
}

/**
 * @param {string[]} args
 * @returns {Promise<string | undefined>} the dashboard's address with a code that signs in once; undefined where none could be made
 */
function loginLink(args) {
  return new Promise((resolve) => {
    execFile(workspaceNode, args, { cwd: root, env: childEnv(), timeout: LOGIN_TIMEOUT_MS }, (error, stdout) => resolve(error === null ? stdout.trim() : undefined));
  });
}

/** Compiled code is kept: a second start takes a quarter less. */
function childEnv() {
  return { ...process.env, NODE_COMPILE_CACHE: join(root, '.flotilla', 'setup', 'compiled') };
}

/** One program with its log. */
class Child {
  /** @type {Program} */
  program;
  /** @type {Promise<void>} never rejects */
  exited;
  howItEnded = '';
  #process;
  #running = true;

  /** @param {Program} program */
  constructor(program) {
    this.program = program;
    const log = join(root, program.logFile);
    if (existsSync(log)) renameSync(log, `${log}.1`);
    const output = openSync(log, 'w', 0o600);
    this.#process = spawn(workspaceNode, program.args, { cwd: root, env: childEnv(), detached: true, stdio: ['ignore', output, output] });
    closeSync(output);
    this.exited = new Promise((resolve) => {
      const end = (/** @type {string} */ how) => {
        this.howItEnded = how;
        this.#running = false;
        resolve();
      };
      this.#process.once('exit', (code, signal) => end(signal ?? `exit code ${code}`));
      this.#process.once('error', (error) => end(error.message));
    });
  }

  /** @returns {Promise<boolean>} whether it became ready in time, or ended, which is told elsewhere */
  async ready() {
    const deadlineMs = performance.now() + READY_TIMEOUT_MS;
    while (this.#running && performance.now() < deadlineMs) {
      if (await answersOk(this.program.readyUrl)) return true;
      await delay(READY_POLL_MS);
    }
    return !this.#running;
  }

  /** @param {AbortSignal} atOnce finish nothing any more */
  async stop(atOnce) {
    if (!this.#running) return;
    const kill = (/** @type {NodeJS.Signals} */ signal) => this.#running && this.#process.kill(signal);
    /** @type {NodeJS.Timeout} */
    let killTimer = setTimeout(kill, DRAIN_KILL_MS, 'SIGKILL');
    const hurry = () => {
      kill('SIGTERM');
      clearTimeout(killTimer);
      killTimer = setTimeout(kill, AT_ONCE_KILL_MS, 'SIGKILL');
    };
    kill('SIGTERM');
    if (atOnce.aborted) hurry();
    else atOnce.addEventListener('abort', hurry, { once: true });
    await this.exited;
    atOnce.removeEventListener('abort', hurry);
    clearTimeout(killTimer);
  }
}

/**
 * @param {readonly Program[]} programs
 * @param {number} basePort
 */
async function checkPorts(programs, basePort) {
  for (const { name, listeners } of programs) {
    for (const { port, flag } of listeners) {
      const code = await listenError(port);
      if (code === undefined) continue;
      const reason = code === 'EADDRINUSE' ? 'is in use' : `cannot be listened on (${code})`;
      fail(`port ${port} ${reason}: ${name} needs it (its ${flag}). Stop what uses it, or choose other ports: npm start -- --base-port ${basePort + 1000}`);
    }
  }
}

/**
 * @param {number} port
 * @returns {Promise<string | undefined>} an error code, or undefined where the port is free
 */
function listenError(port) {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', (error) => resolve('code' in error ? String(error.code) : error.message));
    server.listen({ host: '127.0.0.1', port, exclusive: true }, () => server.close(() => resolve(undefined)));
  });
}

/**
 * @param {string} url
 * @returns {Promise<boolean>}
 */
function answersOk(url) {
  return new Promise((resolve) => {
    // Whether it is up is all that is asked, over loopback: nothing is trusted, so the tracker's own CA is not checked.
    const request = url.startsWith('https:') ? httpsGet(url, { agent: false, rejectUnauthorized: false, timeout: 2000 }) : httpGet(url, { agent: false, timeout: 2000 });
    request.once('response', (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    });
    request.once('timeout', () => request.destroy());
    request.once('error', () => resolve(false));
    request.once('close', () => resolve(false));
  });
}

/** @param {string} file */
function logTail(file) {
  const lines = readFileSync(join(root, file), 'utf8').trimEnd().split('\n');
  return lines.slice(-LOG_TAIL_LINES).map((line) => `  ${line}`).join('\n');
}

/**
 * @param {string} message
 * @returns {never}
 */
function fail(message) {
  process.stderr.write(`${message}\n`);
  process.exit(1);
}
