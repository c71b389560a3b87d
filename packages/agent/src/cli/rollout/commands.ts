// `flotilla rollout …`: the commands and their flags.

import { InvalidArgumentError, Option, type Command } from 'commander';
import { ROLLOUT_COMMANDS, type RolloutCommand, type RolloutHostState } from '@flotilla/shared/rollout-api';
import { EXIT } from '../exit-codes.ts';
import { interruptible } from '../interruptible.ts';
import type { Terminal } from '../terminal.ts';
import { describeDetail, describeList, line } from './describe.ts';
import { follow } from './follow.ts';
import { OperatorClient, type OperatorFlags } from './operator-client.ts';
import { rolloutRequest, type RequestFlags } from './request.ts';

const HELP: Readonly<Record<RolloutCommand, string>> = {
  pause: 'hold everything of a rollout until it is resumed',
  resume: 'go on with a rollout that is paused',
  cancel: 'end a rollout for good',
  retry: 'begin anew on the hosts that failed',
};
const STATES: readonly RolloutHostState[] = ['failed', 'working', 'waiting', 'done'];

interface OutputFlags {
  readonly json?: boolean;
}

/** @param ended is told the exit code of the command that ran */
export function rolloutCommands(program: Command, terminal: Terminal, ended: (exitCode: number) => void): void {
  const rollout = program
    .command('rollout')
    .description('have an image on the hosts of the fleet')
    .argument('<IMAGE>', 'origin/repository:tag or origin/repository@sha256:…, such as docker.io/library/nginx:1.27', fullName)
    .option('--hosts <SELECTOR>', 'zone=a,role!=db,name=web-*: all must hold (default: all hosts)')
    .option('--waves <LIST>', 'how many hosts each wave reaches to (default: 1,10%,100%)')
    .option('--pause-on-failure <SHARE>', 'stop when more than this share has failed (default: 2%)')
    .option('--origin-limit <RATE>', 'most that its blobs leave their origin at, all hosts together')
    .option('--deadline <TIME>', 'no host begins or goes on after it, such as 2h or 2027-03-01T04:00Z')
    .option('--verify-only', 'read and check what is there; fetch nothing')
    .option('--platform <OS/ARCH>', "platform of the image (default: each host's own)")
    .option('--detach', 'do not wait for its end');
  operatorFlags(rollout).action(async (image: string, { json, detach, ...flags }: OperatorFlags & RequestFlags & OutputFlags & { detach?: boolean }) => {
    const request = rolloutRequest(image, flags, Date.now());
    const begun = (client: OperatorClient, signal: AbortSignal): Promise<number> => begin(client, request, { json, detach }, terminal, signal);
    ended(await asked(flags, begun));
  });

  operatorFlags(rollout.command('list').description('all rollouts that are kept, newest first')).action(async (_: unknown, command: Command) => {
    const { json, ...flags } = command.optsWithGlobals<OperatorFlags & OutputFlags>();
    ended(
      await asked(flags, async (client, signal) => {
        const list = await client.list(signal);
        terminal.out(json === true ? `${JSON.stringify(list, null, 2)}\n` : describeList(list.rollouts, Date.now()));
        return EXIT.ok;
      }),
    );
  });

  const show = rollout.command('show').description('one rollout and its hosts').argument('<ID>').option('--all', 'every host, however many').addOption(new Option('--state <STATE>', 'only hosts in this state').choices(STATES)).option('--watch', 'follow it to its end');
  operatorFlags(show).action(async (id: string, _: unknown, command: Command) => {
    const { json, all, state, watch, ...flags } = command.optsWithGlobals<OperatorFlags & OutputFlags & { all?: boolean; state?: RolloutHostState; watch?: boolean }>();
    ended(
      await asked(flags, async (client, signal) => {
        const detail = await client.show(id, signal);
        if (watch === true) return follow(client, detail, json === true, terminal, signal);
        const hosts = await client.hosts(id, state, signal);
        terminal.out(json === true ? `${JSON.stringify({ ...detail, ...hosts }, null, 2)}\n` : describeDetail(detail, hosts, all === true));
        return EXIT.ok;
      }),
    );
  });

  for (const name of ROLLOUT_COMMANDS) {
    operatorFlags(rollout.command(name).description(HELP[name]).argument('<ID>')).action(async (id: string, _: unknown, command: Command) => {
      const { json, ...flags } = command.optsWithGlobals<OperatorFlags & OutputFlags>();
      ended(
        await asked(flags, async (client, signal) => {
          const changed = await client.command(id, name, signal);
          terminal.out(json === true ? `${JSON.stringify(changed, null, 2)}\n` : `${id} ${line(changed)}\n`);
          return EXIT.ok;
        }),
      );
    });
  }
}

async function begin(client: OperatorClient, request: Parameters<OperatorClient['create']>[0], { json = false, detach = false }: { json?: boolean | undefined; detach?: boolean | undefined }, terminal: Terminal, signal: AbortSignal): Promise<number> {
  const made = await client.create(request, signal);
  if (!detach) return follow(client, made, json, terminal, signal);
  terminal.out(json ? `${JSON.stringify(made)}\n` : `${made.id} ${line(made)}\n`);
  return EXIT.ok;
}

async function asked(flags: OperatorFlags, work: (client: OperatorClient, signal: AbortSignal) => Promise<number>): Promise<number> {
  const client = await OperatorClient.open(flags);
  try {
    return await interruptible((signal) => work(client, signal));
  } finally {
    await client.close();
  }
}

/** A word that is no command is meant as an image: it has to look like one, so that a mistyped command is not rolled out. */
function fullName(text: string): string {
  if (text.includes('/')) return text;
  throw new InvalidArgumentError(`"${text}" is neither a command of rollout nor the full name of an image.`);
}

function operatorFlags(command: Command): Command {
  return command
    .option('--tracker <URL>', "the tracker (default: the one in this host's settings)")
    .option('--token-file <FILE>', "the operator's token, such as the tracker's DIR/operator-token")
    .option('--ca <FILE>', "the tracker's CA, such as its DIR/tls/ca.pem (default: pinned by the join token, else the system's)")
    .option('--join-token-file <FILE>', "a join token: pins the tracker's CA (default: the one in this host's settings)")
    .option('--config <FILE>', 'settings of the agent of this host')
    .option('--json', 'as JSON');
}
