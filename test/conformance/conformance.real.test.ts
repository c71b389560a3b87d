// No row of the OCI conformance suite is worse with an agent in front of a registry than without.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { needs } from '../support/programs.ts';
import { startRegistry, type RunningRegistry } from '../support/registry.ts';
import { compareWithOrigin, type Comparison } from './compare.ts';
import { ReferenceRegistry } from './reference-registry.ts';
import { countRows, whyNot } from './suite.ts';

const SUITE_TIMEOUT_MS = 600_000;
const reason = whyNot();

(reason === undefined ? describe : describe.skip)(`an agent in front of a registry that passes all${reason === undefined ? '' : ` (${reason})`}`, () => {
  let registry: ReferenceRegistry;
  let result: Comparison;

  beforeAll(async () => {
    registry = await ReferenceRegistry.start();
    result = await compareWithOrigin(registry.url);
    report(result);
  }, SUITE_TIMEOUT_MS);
  afterAll(() => registry?.close());

  it('the registry itself fails nothing', () => {
    expect(countRows(result.origin)).toMatchObject({ failure: 0, error: 0 });
    expect(result.origin.length).toBeGreaterThan(70);
  });

  it('the agent is worse in no row', () => {
    expect(result.worse).toEqual([]);
  });
});

if (reason === undefined) {
  needs('docker-registry')('an agent in front of docker-registry', () => {
    let registry: RunningRegistry;

    beforeAll(async () => {
      registry = await startRegistry();
    });
    afterAll(() => registry?.close());

    it(
      'is worse in no row',
      async () => {
        const result = await compareWithOrigin(registry.url);
        report(result);
        expect(result.worse).toEqual([]);
      },
      SUITE_TIMEOUT_MS,
    );
  });
}

function report({ origin, agent }: Comparison): void {
  console.log(`origin: ${origin.length} rows, ${JSON.stringify(countRows(origin))}`);
  console.log(`agent:  ${agent.length} rows, ${JSON.stringify(countRows(agent))}`);
}
