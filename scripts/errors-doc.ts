// Writes docs/errors.md from the agent's error table. Run: node_modules/.bin/node scripts/errors-doc.ts
// packages/agent/src/errors.test.ts fails while the page and the table disagree.

import { writeFileSync } from 'node:fs';
import { ERRORS } from '../packages/agent/src/errors.ts';

export const ERRORS_DOC = new URL('../docs/errors.md', import.meta.url);

const WHOSE: Record<string, string> = {
  caller: 'what was asked or set',
  origin: 'the origin',
  peer: 'another agent',
  tracker: 'the tracker',
  disk: 'the disk',
  agent: 'the agent itself',
};

/** The page, whole. */
export function errorsPage(): string {
  const rows = Object.entries(ERRORS).map(([code, { status, oci, retryable, fault, help }]) => {
    const retry = retryable ? 'yes' : 'no';
    return `| \`${code}\` | ${status} \`${oci}\` | ${retry} | ${WHOSE[fault] ?? fault} | ${help.replaceAll('|', '\\|')} |`;
  });
  return `# Errors of the agent

Every failure has a code. It stands in the log line (\`code\`), in \`flotilla_errors_total{code=...}\`, and in the \`detail.code\` of the
reply at the local endpoint, whose HTTP status and OCI code are given here. *Again* says whether the same request may succeed later
without anybody changing anything.

This page is made from \`packages/agent/src/errors.ts\` by \`scripts/errors-doc.ts\`.

| code | status | again | whose fault | what to do |
|---|---|---|---|---|
${rows.join('\n')}
`;
}

if (import.meta.main) writeFileSync(ERRORS_DOC, errorsPage());
