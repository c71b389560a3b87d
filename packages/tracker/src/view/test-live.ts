// For tests: a page of the dashboard as far as the wire goes. Reads server-sent events and keeps what every topic shows.

import { request as httpRequest, type IncomingMessage } from 'node:http';

export interface LiveEvent {
  readonly id: string;
  readonly kind: string;
  readonly data: Record<string, unknown> & { readonly topic: string; readonly atMs: number };
}

export class LiveClient {
  readonly events: LiveEvent[] = [];
  readonly status: number;
  readonly contentType: string;
  readonly ended: Promise<void>;
  readonly #response: IncomingMessage;
  readonly #waiting = new Set<() => void>();

  private constructor(response: IncomingMessage) {
    this.#response = response;
    this.status = response.statusCode!;
    this.contentType = response.headers['content-type'] ?? '';
    this.ended = new Promise((resolve) => {
      response.once('close', resolve);
    });
    response.on('error', () => undefined);
    this.#listen();
  }

  static open(url: string, topics: string, headers: Record<string, string>): Promise<LiveClient> {
    const { promise, resolve, reject } = Promise.withResolvers<LiveClient>();
    httpRequest(`${url}/api/v1/live?topics=${encodeURIComponent(topics)}`, { agent: false, headers }, (response) => resolve(new LiveClient(response)))
      .on('error', reject)
      .end();
    return promise;
  }

  /** The first event that fits, now or later. */
  async next(fits: (event: LiveEvent) => boolean): Promise<LiveEvent> {
    for (;;) {
      const event = this.events.find(fits);
      if (event !== undefined) return event;
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#waiting.add(resolve);
      await Promise.race([promise, this.ended.then(() => Promise.reject(new Error('the stream ended')))]);
    }
  }

  close(): void {
    this.#response.destroy();
  }

  #listen(): void {
    let rest = '';
    this.#response.setEncoding('utf8');
    this.#response.on('data', (part: string) => {
      const blocks = (rest + part).split('\n\n');
      rest = blocks.pop()!;
      for (const block of blocks) {
        const event = parseEvent(block);
        if (event !== undefined) this.events.push(event);
      }
      for (const resolve of this.#waiting) resolve();
      this.#waiting.clear();
    });
  }
}

/** undefined: a comment, or a `retry`. */
export function parseEvent(block: string): LiveEvent | undefined {
  const fields = new Map(block.split('\n').map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1).trim()]));
  const [id, kind, data] = ['id', 'event', 'data'].map((name) => fields.get(name));
  return id === undefined || kind === undefined || data === undefined ? undefined : { id, kind, data: JSON.parse(data) as LiveEvent['data'] };
}
