// Unit tests stand beside the code; test/ holds what needs several programs. `test/**/*.real.test.ts` need real programs or root:
// they are left out by default and run alone, one file at a time, with FLOTILLA_TEST_REAL=1 (scripts/test.mjs).
import { defineConfig } from 'vitest/config';

const real = process.env['FLOTILLA_TEST_REAL'] === '1';

export default defineConfig({
  test: {
    include: real ? ['test/**/*.real.test.ts'] : ['packages/*/src/**/*.test.ts', 'test/**/*.test.ts'],
    exclude: ['**/node_modules/**', ...(real ? [] : ['test/**/*.real.test.ts'])],
    fileParallelism: !real,
    testTimeout: real ? 180_000 : 60_000,
    hookTimeout: real ? 180_000 : 60_000,
    // Polls wait for what happens, not for how soon: the default of 1 s fails on a machine that is busy with something else.
    expect: { poll: { timeout: real ? 60_000 : 20_000 } },
    pool: 'forks',
  },
});
