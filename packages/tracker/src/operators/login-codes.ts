// One-use codes for signing in: `flotilla-tracker login` makes one, the running tracker takes it once.
//
// The two processes meet in the folder DIR/login-codes (0700): one file per code, named by the code's hash, saying for whom and until
// when. Whoever removes the file has used the code, so it works once however many try. Whoever can write there owns the tracker anyway.
// Bound: what is over is removed at each use. Non-goals: sessions (operator-sessions.ts).

import { createHash, randomBytes } from 'node:crypto';
import { mkdir, readdir, readFile, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { ROLES, type Role } from '@flotilla/shared/operator-api';
import { writeSecret } from '../durable-file.ts';
import type { Operator } from './roles.ts';

/** How long a code is good. */
export const CODE_TTL_MS = 10 * 60_000;

interface CodeFile extends Operator {
  readonly notAfterMs: number;
}

export class LoginCodes {
  readonly #folder: string;

  constructor(dataDir: string) {
    this.#folder = join(dataDir, 'login-codes');
  }

  /** @returns a code that signs in `operator` once, within ten minutes */
  async create({ name, role }: Operator, nowMs: number): Promise<string> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    const code = randomBytes(18).toString('base64url');
    const file: CodeFile = { name, role, notAfterMs: nowMs + CODE_TTL_MS };
    await writeSecret(join(this.#folder, hashOf(code)), JSON.stringify(file));
    return code;
  }

  /** @returns for whom the code is; undefined where it is wrong, used or too old */
  async redeem(code: string, nowMs: number): Promise<Operator | undefined> {
    const path = join(this.#folder, hashOf(code));
    const file = await readCode(path);
    await this.#removeOld(nowMs);
    if (file === undefined || file.notAfterMs <= nowMs || !(await removed(path))) return undefined;
    return { name: file.name, role: file.role };
  }

  async #removeOld(nowMs: number): Promise<void> {
    for (const name of await names(this.#folder)) {
      const path = join(this.#folder, name);
      const file = await readCode(path);
      if (file === undefined || file.notAfterMs <= nowMs) await removed(path);
    }
  }
}

async function names(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder)).filter((name) => /^[0-9a-f]{64}$/.test(name));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

/** undefined: no such file, or not one of ours. */
async function readCode(path: string): Promise<CodeFile | undefined> {
  try {
    const { name, role, notAfterMs } = JSON.parse(await readFile(path, 'utf8')) as Partial<CodeFile>;
    return typeof name === 'string' && isRole(role) && typeof notAfterMs === 'number' ? { name, role, notAfterMs } : undefined;
  } catch (error) {
    if (error instanceof SyntaxError || (error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** @returns whether it was this call that removed it */
async function removed(path: string): Promise<boolean> {
  try {
    await unlink(path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}

function isRole(value: unknown): value is Role {
  return ROLES.some((role) => role === value);
}

function hashOf(code: string): string {
  return createHash('sha256').update(code).digest('hex');
}
