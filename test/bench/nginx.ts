// Debian's nginx as the yardstick of serving a file: own folder, own port, its usual settings (sendfile, tcp_nopush), no access log.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { freePorts } from '../support/ports.ts';
import { programPath } from '../support/programs.ts';

const START_TIMEOUT_MS = 60_000;
const POLL_MS = 20;

export interface Nginx {
  readonly url: string;
  /** What lies here is served under its name. */
  readonly root: string;
  close(): Promise<void>;
}

/** @throws Error where nginx is not installed or does not start */
export async function startNginx(): Promise<Nginx> {
  const program = programPath('nginx');
  if (program === undefined) throw new Error('nginx is not installed (Debian: nginx-light)');
  const dir = await mkdtemp(join(tmpdir(), 'flotilla-nginx-'));
  const root = join(dir, 'root');
  await mkdir(root);
  const [port] = await freePorts(1);
  const config = join(dir, 'nginx.conf');
  await writeFile(config, settings(dir, root, port!));
  const child = spawn(program, ['-p', dir, '-c', config, '-e', join(dir, 'error.log')], { stdio: ['ignore', 'ignore', 'inherit'] });
  const exited = once(child, 'exit');
  const close = async (): Promise<void> => {
    child.kill('SIGQUIT');
    await exited;
    await rm(dir, { recursive: true, force: true });
  };
  const deadlineMs = performance.now() + START_TIMEOUT_MS;
  while (!(await listens(port!))) {
    if (child.exitCode === null && performance.now() < deadlineMs) {
      await delay(POLL_MS);
      continue;
    }
    await close();
    throw new Error('nginx does not listen');
  }
  return { url: `http://127.0.0.1:${port}`, root, close };
}

/** The master runs as whoever started it; as root its worker must be allowed to read the folder. */
function settings(dir: string, root: string, port: number): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `  ${name}_temp_path ${join(dir, name)};`);
  return `${process.getuid?.() === 0 ? 'user root;\n' : ''}worker_processes auto;
daemon off;
pid ${join(dir, 'nginx.pid')};
events {}
http {
  access_log off;
  sendfile on;
  tcp_nopush on;
${temporary.join('\n')}
  server {
    listen 127.0.0.1:${port};
    root ${root};
  }
}
`;
}

async function listens(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    return true;
  } catch (error) {
    // Refused: not listening yet.
    if (error instanceof Error) return false;
    throw error;
  } finally {
    socket.destroy();
  }
}
