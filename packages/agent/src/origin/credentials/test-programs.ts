// For tests: programs of the kind that give credentials, as scripts in a folder that is PATH, which note what they were asked.

import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export class ProgramFolder implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), 'flotilla-programs-'));

  /** A program whose body is `sh`; each run adds a line with its arguments and its input to `asked(name)`. */
  add(name: string, body: string): string {
    const file = join(this.path, name);
    const log = `${file}.asked`;
    writeFileSync(file, `#!/bin/sh\ninput=$(cat)\nprintf '%s %s\\n' "$*" "$input" >> '${log}'\n${body}\n`);
    chmodSync(file, 0o700);
    return file;
  }

  /** A file with this text. */
  write(name: string, text: string | object): string {
    const file = join(this.path, name);
    writeFileSync(file, typeof text === 'string' ? text : JSON.stringify(text), { mode: 0o600 });
    return file;
  }

  asked(name: string): string[] {
    const log = join(this.path, `${name}.asked`);
    return existsSync(log) ? readFileSync(log, 'utf8').trimEnd().split('\n') : [];
  }

  /** What programs see: this folder before the system's. */
  get env(): Record<string, string> {
    return { PATH: `${this.path}:${process.env['PATH'] ?? ''}`, HOME: this.path };
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}
