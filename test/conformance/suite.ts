// Runs the OCI distribution-spec conformance suite against a registry, and reads its report row by row.
//
// The suite is not part of this checkout: FLOTILLA_CONFORMANCE names its program, or the folder `conformance` of a checkout of
// github.com/opencontainers/distribution-spec, which is built with go: that of a release (v1.1.1), whose rows are Go tests, or that of its
// main branch, a program. Its other settings (OCI_...) are taken from the environment.

import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { programPath } from '../support/programs.ts';

const VARIABLE = 'FLOTILLA_CONFORMANCE';
const RUN_TIMEOUT_MS = 300_000;

const STATUSES = ['passed', 'skipped', 'failure', 'error'] as const;
export type RowStatus = (typeof STATUSES)[number];

/** One line of the report. Several rows have one name: the same test of several blobs. */
export interface Row {
  readonly name: string;
  readonly status: RowStatus;
  /** What the suite has to say of it. */
  readonly output: string;
}

/** Why the suite cannot be run here; undefined: it can. */
export function whyNot(): string | undefined {
  if (process.env[VARIABLE] === undefined) return `${VARIABLE} does not name the conformance suite`;
  return programPath('go') === undefined ? 'go is not installed' : undefined;
}

export class ConformanceSuite {
  readonly #program: string;
  readonly #dir: string;

  private constructor(program: string, dir: string) {
    this.#program = program;
    this.#dir = dir;
  }

  static async open(): Promise<ConformanceSuite> {
    const where = process.env[VARIABLE];
    if (where === undefined) throw new Error(whyNot());
    const dir = await mkdtemp(join(tmpdir(), 'flotilla-conformance-'));
    if (!(await stat(where)).isDirectory()) return new ConformanceSuite(where, dir);
    const program = join(dir, 'conformance');
    const goTests = await stat(join(where, 'main.go')).then(() => false, () => true);
    const { code, output } = await run('go', [...(goTests ? ['test', '-c'] : ['build']), '-o', program, '.'], { cwd: where, env: process.env });
    if (code !== 0) throw new Error(`the conformance suite does not build:\n${output}`);
    return new ConformanceSuite(program, dir);
  }

  /** @param host HOST:PORT of a registry without TLS */
  async run(host: string): Promise<Row[]> {
    const results = await mkdtemp(join(this.#dir, 'run-'));
    const { output } = await run(this.#program, [], { cwd: results, env: { PATH: process.env['PATH'], ...furtherSettings(), ...ofMain(host, results), ...ofRelease(host, results) } });
    const report = await readFile(join(results, 'junit.xml'), 'utf8').catch((error: unknown) => {
      throw new Error(`the conformance suite gave no report:\n${output.slice(-4000)}`, { cause: error });
    });
    return readRows(report);
  }

  async close(): Promise<void> {
    await rm(this.#dir, { recursive: true });
  }
}

/** How a registry does beside another: rows of one name are compared worst with worst. */
export function worseRows(ours: readonly Row[], theirs: readonly Row[]): Row[] {
  const rank = ({ status }: Row): number => STATUSES.indexOf(status);
  const byName = (rows: readonly Row[]): Map<string, Row[]> => {
    const grouped = Map.groupBy(rows, ({ name }) => name);
    for (const group of grouped.values()) group.sort((a, b) => rank(b) - rank(a));
    return grouped;
  };
  const their = byName(theirs);
  const our = byName(ours);
  const missing = [...their].flatMap(([name, rows]) => rows.slice(our.get(name)?.length ?? 0).map((row) => ({ ...row, status: 'error' as const, output: 'the row is missing' })));
  const worse = [...our].flatMap(([name, rows]) => {
    const beside = their.get(name);
    // A row more is a test that was not even tried at the other.
    return rows.filter((row, i) => rank(row) > (beside?.[i] === undefined ? 0 : rank(beside[i])));
  });
  return [...missing, ...worse];
}

export function countRows(rows: readonly Row[]): Record<RowStatus, number> {
  return Object.fromEntries(STATUSES.map((status) => [status, rows.filter((row) => row.status === status).length])) as Record<RowStatus, number>;
}

function furtherSettings(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => name.startsWith('OCI_')));
}

function ofMain(host: string, results: string): NodeJS.ProcessEnv {
  return { OCI_REGISTRY: host, OCI_TLS: 'disabled', OCI_REPO1: 'conformance/repo1', OCI_REPO2: 'conformance/repo2', OCI_RESULTS_DIR: results, OCI_LOG: 'error', OCI_VERSION: process.env['OCI_VERSION'] ?? '1.1' };
}

function ofRelease(host: string, results: string): NodeJS.ProcessEnv {
  const workflows = { OCI_TEST_PULL: '1', OCI_TEST_PUSH: '1', OCI_TEST_CONTENT_DISCOVERY: '1', OCI_TEST_CONTENT_MANAGEMENT: '1' };
  return { OCI_ROOT_URL: `http://${host}`, OCI_NAMESPACE: 'myorg/myrepo', OCI_CROSSMOUNT_NAMESPACE: 'myorg/other', OCI_REPORT_DIR: results, ...workflows };
}

function readRows(junit: string): Row[] {
  return [...junit.matchAll(/<testcase ([^>]*?)(?:\/>|>(.*?)<\/testcase>)/gs)].map(([, attributes = '', content = '']) => {
    const attribute = (name: string): string => plain(new RegExp(` ?\\b${name}="([^"]*)"`).exec(attributes)?.[1] ?? '');
    const status = attribute('status').replace(/^failed$/, 'failure');
    return { name: attribute('name'), status: STATUSES.find((known) => known === status) ?? 'error', output: plain(/<system-out>(.*?)<\/system-out>/s.exec(content)?.[1] ?? '') };
  });
}

function plain(xml: string): string {
  const named: Record<string, string> = { lt: '<', gt: '>', quot: '"', apos: "'", amp: '&' };
  return xml.replace(/&(?:#x([0-9a-f]+)|#(\d+)|(\w+));/gi, (whole, hex?: string, decimal?: string, name?: string) => {
    if (hex !== undefined) return String.fromCodePoint(Number.parseInt(hex, 16));
    return decimal === undefined ? (named[name ?? ''] ?? whole) : String.fromCodePoint(Number(decimal));
  });
}

async function run(program: string, args: readonly string[], options: { cwd: string; env: NodeJS.ProcessEnv }): Promise<{ code: number | null; output: string }> {
  const child = spawn(program, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'], timeout: RUN_TIMEOUT_MS });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (piece: Buffer) => (output += piece.toString()));
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, output };
}
