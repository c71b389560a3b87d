// Watches a rollout until nothing more is to be waited for: a bar on a terminal, a line per change elsewhere, JSON lines for programs.
//
// The rollout is the tracker's: it goes on whether anybody watches or not, and a tracker that does not answer is asked again.

import { setTimeout as delay } from 'node:timers/promises';
import type { RolloutDetail } from '@flotilla/shared/rollout-api';
import { Presets, SingleBar } from 'cli-progress';
import { AgentError } from '../../errors.ts';
import { EXIT } from '../exit-codes.ts';
import type { Terminal } from '../terminal.ts';
import { ending, line } from './describe.ts';
import type { OperatorClient } from './operator-client.ts';

const LOOK_EVERY_MS = 1_000;

/** @returns 0: done and nobody failed; 1 otherwise */
export async function follow(client: OperatorClient, first: RolloutDetail, json: boolean, terminal: Terminal, signal: AbortSignal, everyMs = LOOK_EVERY_MS): Promise<number> {
  const view = json ? new Json(terminal) : terminal.screen === undefined ? new Lines(terminal) : new Bar(terminal, terminal.screen);
  let rollout = first;
  try {
    for (;;) {
      view.show(rollout);
      if (rollout.state !== 'resolving' && rollout.state !== 'running') break;
      await delay(everyMs, undefined, { signal });
      rollout = (await lookAgain(client, rollout, view, signal)) ?? rollout;
    }
  } catch (error) {
    view.close();
    if (signal.aborted && !json) terminal.err(`the rollout goes on; look at it with: flotilla rollout show ${rollout.id}\n`);
    throw error;
  }
  view.close();
  if (!json) terminal.out(ending(rollout));
  return rollout.state === 'done' && rollout.hosts.failed === 0 ? EXIT.ok : EXIT.failed;
}

/** undefined: the tracker does not answer now. */
async function lookAgain(client: OperatorClient, { id }: RolloutDetail, view: View, signal: AbortSignal): Promise<RolloutDetail | undefined> {
  try {
    const rollout = await client.show(id, signal);
    view.reached();
    return rollout;
  } catch (error) {
    if (signal.aborted || !(error instanceof AgentError) || error.code !== 'TRACKER_UNREACHABLE') throw error;
    view.lost(client.url);
    return undefined;
  }
}

interface View {
  show(rollout: RolloutDetail): void;
  /** The tracker does not answer. */
  lost(url: string): void;
  /** It does again. */
  reached(): void;
  close(): void;
}

/** For programs. */
class Json implements View {
  readonly #terminal: Terminal;
  #said = '';

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
  }

  show(rollout: RolloutDetail): void {
    const text = JSON.stringify(rollout);
    if (text !== this.#said) this.#terminal.out(`${text}\n`);
    this.#said = text;
  }

  lost(): void {}
  reached(): void {}
  close(): void {}
}

/** For logs: a line when hosts or waves have moved, not for every byte. */
class Lines implements View {
  readonly #terminal: Terminal;
  #said = '';
  #lost = false;

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
  }

  show(rollout: RolloutDetail): void {
    const { state, wave, hosts, reason } = rollout;
    const moved = JSON.stringify([state, wave, hosts, reason]);
    if (moved !== this.#said) this.#terminal.out(`${rollout.id} ${line(rollout)}\n`);
    this.#said = moved;
  }

  lost(url: string): void {
    if (!this.#lost) this.#terminal.err(`${url} does not answer; the rollout goes on when it is back\n`);
    this.#lost = true;
  }

  reached(): void {
    this.#lost = false;
  }

  close(): void {}
}

/** For people. */
class Bar implements View {
  readonly #bar: SingleBar;
  readonly #terminal: Terminal;
  #started = false;
  #last: RolloutDetail | undefined;

  constructor(terminal: Terminal, screen: NodeJS.WriteStream) {
    this.#terminal = terminal;
    this.#bar = new SingleBar({ stream: screen, format: '{id} {bar} {percentage} %  {line}', barsize: 24, hideCursor: true, clearOnComplete: true, fps: 5, gracefulExit: false, linewrap: false }, Presets.shades_classic);
  }

  show(rollout: RolloutDetail): void {
    const { bytes, hosts } = rollout;
    // Before anybody knows how large the image is, hosts count.
    const [whole, part] = bytes.total > 0 && !rollout.verifyOnly ? [bytes.total, bytes.held] : [hosts.total, hosts.done];
    if (!this.#started) this.#bar.start(whole, part, { id: rollout.id, line: line(rollout) });
    this.#started = true;
    this.#bar.setTotal(Math.max(1, whole));
    this.#bar.update(part, { id: rollout.id, line: line(rollout) });
    this.#last = rollout;
  }

  lost(url: string): void {
    this.#bar.update({ line: `${url} does not answer; the rollout goes on when it is back` });
  }

  reached(): void {}

  close(): void {
    this.#bar.stop();
    if (this.#last !== undefined) this.#terminal.out(`${this.#last.id} ${line(this.#last)}\n`);
  }
}
