// The suite against an origin alone, and against an agent that has it as its origin, with writes sent past the agent.

import { TestFleet } from '../support/fleet.ts';
import { ConformanceSuite, worseRows, type Row } from './suite.ts';
import { startWriteRouter } from './write-router.ts';

export interface Comparison {
  readonly origin: readonly Row[];
  readonly agent: readonly Row[];
  /** Rows in which the agent does worse than its origin. */
  readonly worse: readonly Row[];
}

/** @param url of a registry without TLS, in which the suite may write */
export async function compareWithOrigin(url: string): Promise<Comparison> {
  const suite = await ConformanceSuite.open();
  const fleet = await TestFleet.start({ suite: url });
  try {
    const origin = await suite.run(new URL(url).host);
    const agent = await fleet.agent('one', { defaultOrigin: 'suite' });
    const router = await startWriteRouter(agent.url, url);
    try {
      const rows = await suite.run(router.host);
      return { origin, agent: rows, worse: worseRows(rows, origin) };
    } finally {
      await router.close();
    }
  } finally {
    await fleet.stop();
    await suite.close();
  }
}
