// `npm test`: set-up, types, lint, then every test that needs neither root nor other programs. `--all` adds the tests against real
// programs and namespaces (test/**/*.real.test.ts); `--only-real` runs those alone. Other arguments go to vitest.
//
// Invariant: the last line printed is `N passed, N failed`, with `, N skipped` where tests were skipped; above it stand the reason of each
// that was skipped, then a line `failed: …` for each failure. The exit code is 0 only when tests were found and none failed.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { orExplain, root, setUp, workspaceNode } from './setup.mjs';

/** @typedef {{ passed: number, failed: string[], skipped: string[] }} Outcome */

const OPTIONS = new Set(['--all', '--only-real']);
const given = process.argv.slice(2);
const vitestArgs = given.filter((arg) => !OPTIONS.has(arg));
const onlyReal = given.includes('--only-real');

orExplain(setUp);
const outcomes = [];
if (!onlyReal) {
  outcomes.push(check('types', 'tsc', ['--noEmit']), check('types of the dashboard', 'tsc', ['--noEmit', '-p', 'packages/tracker/web']), check('lint', 'oxlint', ['--deny-warnings']));
  outcomes.push(runVitest(false));
}
if (onlyReal || given.includes('--all')) outcomes.push(runVitest(true));
process.exitCode = report(outcomes);

/**
 * Prints nothing and counts nothing when all is well.
 * @param {string} what
 * @param {string} program
 * @param {string[]} args
 * @returns {Outcome}
 */
function check(what, program, args) {
  const { status } = spawnSync(join(root, 'node_modules', '.bin', program), args, { cwd: root, stdio: 'inherit' });
  if (status !== 0) process.stdout.write(`${what}: not clean (see above)\n`);
  return { passed: 0, failed: status === 0 ? [] : [`${what}: not clean`], skipped: [] };
}

/**
 * @param {boolean} real
 * @returns {Outcome}
 */
function runVitest(real) {
  const folder = mkdtempSync(join(tmpdir(), 'flotilla-test-'));
  try {
    const resultFile = join(folder, 'result.json');
    const args = ['run', '--reporter=default', '--reporter=json', `--outputFile.json=${resultFile}`, '--passWithNoTests', ...vitestArgs];
    const { status } = spawnSync(workspaceNode, [join(root, 'node_modules', 'vitest', 'vitest.mjs'), ...args], {
      cwd: root,
      stdio: 'inherit',
      env: { ...process.env, FLOTILLA_TEST_REAL: real ? '1' : '0' },
    });
    const outcome = readOutcome(resultFile);
    // A worker that crashed or an error outside every test fails the run without failing a test.
    return status !== 0 && outcome.failed.length === 0 ? { ...outcome, failed: [`vitest: exit code ${status}`] } : outcome;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/**
 * @param {string} file vitest's JSON report
 * @returns {Outcome}
 */
function readOutcome(file) {
  /** @type {{ testResults: { name: string, status: string, message: string, assertionResults: { fullName: string, status: string, failureMessages: string[] }[] }[] }} */
  let result;
  try {
    result = JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    return { passed: 0, failed: [`vitest left no report: ${error instanceof Error ? error.message : String(error)}`], skipped: [] };
  }
  const tests = result.testResults.flatMap((testFile) => testFile.assertionResults);
  const failed = result.testResults.flatMap(({ name, status, message, assertionResults }) => {
    const file = relative(root, name);
    const failures = assertionResults.filter((test) => test.status === 'failed');
    // A file that cannot be loaded, or whose hooks failed, may have no failed test of its own.
    if (status === 'failed' && failures.length === 0) return [`${file}: ${firstLine(message)}`];
    return failures.map((test) => `${file} > ${test.fullName}: ${firstLine(test.failureMessages[0])}`);
  });
  const skipped = tests.filter((test) => !['passed', 'failed'].includes(test.status));
  return { passed: tests.filter((test) => test.status === 'passed').length, failed, skipped: skipped.map((test) => test.fullName) };
}

/** @param {string | undefined} text */
function firstLine(text) {
  return text?.split('\n', 1)[0] ?? '';
}

/**
 * @param {Outcome[]} outcomes
 * @returns {number} the exit code
 */
function report(outcomes) {
  const passed = outcomes.reduce((sum, outcome) => sum + outcome.passed, 0);
  const failed = outcomes.flatMap((outcome) => outcome.failed);
  const skipped = outcomes.flatMap((outcome) => outcome.skipped);
  process.stdout.write('\n');
  for (const name of skipped) process.stdout.write(`skipped: ${name}\n`);
  for (const name of failed) process.stdout.write(`failed: ${name}\n`);
  const found = passed + failed.length + skipped.length;
  if (found === 0) process.stdout.write('No test was found: check the arguments.\n');
  process.stdout.write(`${passed} passed, ${failed.length} failed${skipped.length > 0 ? `, ${skipped.length} skipped` : ''}\n`);
  return found > 0 && failed.length === 0 ? 0 : 1;
}
