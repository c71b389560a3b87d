// Writes docs/cli.md from the commands of the agent's program. Run: node_modules/.bin/node scripts/cli-doc.ts
// packages/agent/src/cli/cli-doc.test.ts fails while the page and the program disagree.

import { writeFileSync } from 'node:fs';
import { EXIT, EXIT_MEANINGS } from '../packages/agent/src/cli/exit-codes.ts';
import { createProgram } from '../packages/agent/src/cli/program.ts';

export const CLI_DOC = new URL('../docs/cli.md', import.meta.url);

type Program = ReturnType<typeof createProgram>;

/** The page, whole. */
export function cliPage(): string {
  const program = createProgram({ out: () => undefined, err: () => undefined }, () => undefined);
  const codes = Object.entries(EXIT).map(([name, code]) => `| ${code} | ${EXIT_MEANINGS[name as keyof typeof EXIT]} |`);
  return `# flotilla, the command line

${program.description()} From a checkout the program is \`node_modules/.bin/node packages/agent/src/main.ts\`.

Every setting may stand in the settings file, in the environment (\`FLOTILLA_...\`) or behind a flag; \`flotilla config\` prints all of them and where
each comes from. Sizes are written as \`50GB\` or \`50GiB\`, rates as \`50MB/s\` or \`400Mbit/s\`.

This page is made from the program itself by \`scripts/cli-doc.ts\`.

${sections(program, '')}
## Exit codes

| code | what it says |
|---|---|
${codes.join('\n')}
| 130, 143 | Ended by SIGINT (Ctrl-C) or SIGTERM. |

Errors of the agent have codes of their own: [errors.md](errors.md).
`;
}

/** A section for each command, those below it behind it. */
function sections(command: Program, above: string): string {
  const help = command.createHelp();
  return help
    .visibleCommands(command)
    .filter((each) => each.name() !== 'help')
    .map((each) => `${section(each, `${above} ${each.name()}`.trim())}${sections(each, `${above} ${each.name()}`.trim())}`)
    .join('');
}

function section(command: Program, path: string): string {
  const help = command.createHelp();
  const inputs = help.visibleArguments(command).map((argument) => [`\`${bracketed(argument)}\``, described(help.argumentDescription(argument))]);
  const options = help.visibleOptions(command).filter((option) => option.long !== '--help').map((option) => [`\`${option.flags}\``, described(help.optionDescription(option))]);
  return `${path.includes(' ') ? '###' : '##'} flotilla ${path}

\`\`\`
flotilla ${path} ${command.usage()}
\`\`\`

${sentence(command.description())}

${rows([...inputs, ...options])}
`;
}

function bracketed(argument: Program['registeredArguments'][number]): string {
  const text = `${argument.name()}${argument.variadic ? '...' : ''}`;
  return argument.required ? `<${text}>` : `[${text}]`;
}

function rows(cells: readonly (readonly string[])[]): string {
  return cells.length === 0 ? '' : `| | |\n|---|---|\n${cells.map((row) => `| ${row.join(' | ')} |\n`).join('')}`;
}

function described(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('"', '`');
}

function sentence(text: string): string {
  const trimmed = text.trim();
  return `${trimmed.charAt(0).toUpperCase()}${trimmed.slice(1)}${/[.:]$/.test(trimmed) ? '' : '.'}`;
}

if (import.meta.main) writeFileSync(CLI_DOC, cliPage());
