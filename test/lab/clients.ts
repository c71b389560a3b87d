// The hosts' clients: curl, as container clients ask (manifest, then up to six blobs at a time), every byte through sha256sum.
//
// Each client stands ready in its namespace before the clock starts, waiting for one line on its input. Up to six blobs
// go through a pipe into sha256sum; more are written to files, six at a time, and checked once the last has come.

import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import type { Image } from './image.ts';
import { startIn, type LabProcess } from './processes.ts';

const PARALLEL = 6;
/** No exit code of curl. */
const WRONG = 99;
const CURL = 'curl -sS --fail';
/** A shell that is told to end sees its children end first: nobody else waits for them. */
const REAP = 'trap : TERM';

export interface ClientInit {
  readonly host: number;
  readonly namespace: string;
  /** Up to and with the repository: `http://127.0.0.1:5050/v2/lab/fleet/image`. */
  readonly base: string;
  readonly image: Image;
  /** How often it asks for a blob whose answer breaks. */
  readonly tries: number;
  /** Its own folder; made and removed here. */
  readonly dir: string;
}

export interface ClientOutcome {
  readonly host: number;
  /** Milliseconds of performance.now(); the end is when the last byte was here. */
  readonly startedMs: number;
  readonly endedMs: number;
  readonly outcome: 'right' | 'wrong' | 'failed';
  /** Answers that ended before their last byte. */
  readonly broken: number;
  /** What it said, where it was not right. */
  readonly complaint?: string;
}

export class Client {
  readonly host: number;
  readonly #process: LabProcess;
  readonly #dir: string;
  readonly #ready: Promise<void>;
  readonly #received: Promise<number | undefined>;
  readonly #stderr: Promise<string>;
  readonly #closed: Promise<void>;
  #broken = 0;

  private constructor(host: number, client: LabProcess, dir: string) {
    this.host = host;
    this.#process = client;
    this.#dir = dir;
    const ready = Promise.withResolvers<void>();
    const received = Promise.withResolvers<number | undefined>();
    this.#ready = ready.promise;
    this.#received = received.promise;
    const lines = createInterface({ input: client.child.stdout! });
    lines.on('line', (line) => {
      if (line === 'ready') ready.resolve();
      if (line === 'received') received.resolve(performance.now());
      if (line === 'broken') this.#broken++;
    });
    this.#closed = new Promise((resolve) => {
      client.child.once('close', () => {
        received.resolve(undefined);
        ready.resolve();
        resolve();
      });
    });
    // A client that was ended takes no line any more; its outcome says so.
    client.child.stdin!.on('error', () => undefined);
    this.#stderr = text(client.child.stderr!);
  }

  /** Starts the client's shell and waits until it waits. `opened` ends it. */
  static async prepare(init: ClientInit, opened: AsyncDisposableStack): Promise<Client> {
    const { host, namespace, dir, image } = init;
    await mkdir(dir, { recursive: true });
    opened.defer(() => rm(dir, { recursive: true, force: true }));
    // Files are asked for once: where answers break, there are few blobs.
    const script = image.blobs.length <= PARALLEL ? pipedScript(init) : await filedScript(init);
    const client = startIn(namespace, 'bash', ['-c', script], { piped: true, cwd: dir });
    opened.defer(() => client.end());
    const prepared = new Client(host, client, dir);
    await prepared.#ready;
    return prepared;
  }

  /** Pulls. Never rejects. */
  async pull(): Promise<ClientOutcome> {
    const startedMs = performance.now();
    this.#process.child.stdin!.end('go\n');
    const receivedMs = await this.#received;
    const endedMs = receivedMs ?? performance.now();
    await this.#closed;
    const { code } = await this.#process.exited;
    await rm(this.#dir, { recursive: true, force: true });
    const told = { host: this.host, startedMs, endedMs, broken: this.#broken };
    if (code === 0) return { ...told, outcome: 'right' };
    const complaint = (await this.#stderr).trim().slice(-300) || 'ended';
    return { ...told, outcome: code === WRONG ? 'wrong' : 'failed', complaint };
  }

  /** Gives up: its outcome is a failure. */
  async end(): Promise<void> {
    await this.#process.end();
  }
}

function manifestLine({ base, image }: ClientInit): string {
  return `${REAP}\necho ready; read -r _ || exit 3\n${CURL} -o /dev/null -H 'Accept: ${image.manifestType}' '${base}/manifests/${image.tag}' || exit 4`;
}

function pipedScript(init: ClientInit): string {
  const digests = init.image.blobs.map(({ digest }) => digest.replace('sha256:', ''));
  return `${manifestLine(init)}
read_blob() {
  ${REAP}
  for try in {1..${init.tries}}; do
    ${CURL} "${init.base}/blobs/sha256:$1" | sha256sum | { read -r got _; [ "$got" = "$1" ] || { echo "$1 is $got" >&2; exit 1; }; }
    ended=("\${PIPESTATUS[@]}")
    if [ "\${ended[0]}" = 0 ]; then
      [ "\${ended[2]}" = 0 ] && exit 0
      exit ${WRONG}
    fi
    echo broken
  done
  exit 5
}
for digest in ${digests.join(' ')}; do read_blob $digest & jobs="$jobs $!"; done
code=0
for job in $jobs; do wait $job || code=$?; done
echo received
exit $code`;
}

async function filedScript(init: ClientInit): Promise<string> {
  const { base, dir, image } = init;
  const names = image.blobs.map(({ digest }) => digest.replace('sha256:', ''));
  await writeFile(join(dir, 'wanted'), names.map((name) => `url = "${base}/blobs/sha256:${name}"\noutput = "${name}"\n`).join(''));
  await writeFile(join(dir, 'sums'), names.map((name) => `${name}  ${name}\n`).join(''));
  return `${manifestLine(init)}
${CURL} --no-progress-meter -Z --parallel-max ${PARALLEL} -K wanted || exit 5
echo received
sha256sum --quiet -c sums >&2 || exit ${WRONG}`;
}
