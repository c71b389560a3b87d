// Unit tests stand beside the code; test/ holds what needs several programs. `test/**/*.real.test.ts` need real programs
// or root and run with `npm run test:all` only.
import { defineConfig } from 'vitest/config';

const real = process.env['FLOTILLA_TEST_REAL'] === '1';

export default defineConfig({
  test: {
    include: ['packages/*/src/**/*.test.ts', 'test/**/*.test.ts'],
    exclude: ['**/node_modules/**', ...(real ? [] : ['test/**/*.real.test.ts'])],
    testTimeout: 30_000,
    hookTimeout: 30_000,
    pool: 'forks',
  },
});
