// The conformance suite against an origin, and against an agent in front of it: FLOTILLA_CONFORMANCE=... node test/conformance/main.ts [URL]
//
// Without a URL the origin is the reference registry. Prints both counts and every row where the agent is worse; exits with 1 where one is.

import { compareWithOrigin } from './compare.ts';
import { ReferenceRegistry } from './reference-registry.ts';
import { countRows, whyNot } from './suite.ts';

const reason = whyNot();
if (reason !== undefined) {
  console.error(reason);
  process.exit(2);
}
const given = process.argv[2];
const reference = given === undefined ? await ReferenceRegistry.start() : undefined;
try {
  const { origin, agent, worse } = await compareWithOrigin(given ?? reference!.url);
  console.log(`origin: ${origin.length} rows, ${JSON.stringify(countRows(origin))}`);
  console.log(`agent:  ${agent.length} rows, ${JSON.stringify(countRows(agent))}`);
  for (const { name, status, output } of worse) console.log(`worse: ${name}: ${status}\n  ${output.trim().replaceAll('\n', '\n  ')}`);
  process.exitCode = worse.length === 0 ? 0 : 1;
} finally {
  await reference?.close();
}
