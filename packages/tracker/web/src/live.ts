// The live stream of /api/v1/live: one EventSource for all topics that the page shows (shared/live-api.ts has the contract).
//
//   idle -> connecting -> live -> lost -> connecting ...      hidden: a page that nobody sees closes its stream, and begins anew when it is seen
//
// Invariants: every (re)connect begins each topic with a snapshot that replaces what was known; until it comes, what was known stays on the page,
// and `connection` says since when it is old. `fleet` comes each second, so that silence is a loss. Browsers give a host six connections in all:
// hence one stream, and none for hidden pages.

import { MAX_LIVE_TOPICS } from '@flotilla/shared/live-lists';
import { OPERATOR_ROUTES } from '@flotilla/shared/routes';
import { signal, type ReadonlySignal, type Signal } from '@preact/signals';
import { checkSession } from './session.ts';

/** Two seconds without a word, and one more for a slow network. */
const SILENCE_MS = 3_500;
const FIRST_CONNECT_MS = 10_000;
const RETRY_MS = [500, 1_000, 2_000, 3_000, 5_000];
const HIDDEN_MS = 5_000;

interface Connection {
  readonly state: 'idle' | 'connecting' | 'live' | 'lost' | 'hidden';
  /** Of the last event. 0: none yet. */
  readonly heardAtMs: number;
}

/** `value` is undefined until the first snapshot, and when there is no such thing. */
export interface TopicState<T> {
  readonly value: T | undefined;
  readonly gone: boolean;
  /** The tracker's time of the last event. */
  readonly atMs: number;
}

/** Makes a topic's state of its events; may keep tables and hand them on changed. */
export interface Reducer<T> {
  snapshot(data: never): T;
  delta(before: T, data: never): T;
}

interface Topic {
  readonly state: Signal<TopicState<unknown>>;
  readonly reducer: Reducer<unknown>;
  users: number;
}

export const WAITING: TopicState<never> = { value: undefined, gone: false, atMs: 0 };

class LiveStream {
  readonly connection = signal<Connection>({ state: 'idle', heardAtMs: 0 });
  readonly #topics = new Map<string, Topic>();
  #source: EventSource | undefined;
  /** What the open stream tells. */
  #told = '';
  #planned: ReturnType<typeof setTimeout> | undefined;
  #watchdog: ReturnType<typeof setTimeout> | undefined;
  #hiding: ReturnType<typeof setTimeout> | undefined;
  #failures = 0;

  constructor() {
    document.addEventListener('visibilitychange', () => this.#onVisibility());
    addEventListener('online', () => this.#plan(0));
  }

  /** Shows a topic until the returned function is called. */
  use<T>(name: string, reducer: Reducer<T>): { readonly state: ReadonlySignal<TopicState<T>>; readonly release: () => void } {
    let topic = this.#topics.get(name);
    if (topic === undefined) {
      if (this.#topics.size >= MAX_LIVE_TOPICS) throw new RangeError(`more than ${MAX_LIVE_TOPICS} topics`);
      this.#topics.set(name, (topic = { state: signal<TopicState<unknown>>(WAITING), reducer, users: 0 }));
    }
    const used = topic;
    used.users++;
    this.#plan(0);
    let released = false;
    return {
      state: used.state as ReadonlySignal<TopicState<T>>,
      release: () => {
        if (released) return;
        released = true;
        if (--used.users > 0) return;
        this.#topics.delete(name);
        this.#plan(0);
      },
    };
  }

  /** Forgets everything: nobody is signed in any more. */
  close(): void {
    this.#disconnect();
    clearTimeout(this.#planned);
    this.connection.value = { state: 'idle', heardAtMs: 0 };
    for (const { state } of this.#topics.values()) state.value = WAITING;
  }

  /** Connects after `ms`, where the stream does not tell what is wanted. Changes of one moment are one. */
  #plan(ms: number): void {
    clearTimeout(this.#planned);
    this.#planned = setTimeout(() => this.#connect(), ms);
  }

  #connect(): void {
    if (document.visibilityState === 'hidden' && this.connection.value.state === 'hidden') return;
    const wanted = [...this.#topics.keys()].toSorted().join(',');
    if (wanted === '') {
      this.#disconnect();
      return;
    }
    if (this.#source !== undefined && wanted === this.#told) return;
    const { state, heardAtMs } = this.connection.value;
    this.#disconnect();
    this.#told = wanted;
    // A stream that is only changed has not been lost.
    if (state !== 'live') this.connection.value = { state: state === 'lost' ? 'lost' : 'connecting', heardAtMs };
    const source = new EventSource(`/api/v1${OPERATOR_ROUTES.live}?topics=${encodeURIComponent(wanted)}`);
    this.#source = source;
    for (const kind of ['snapshot', 'delta', 'gone'] as const) source.addEventListener(kind, (event: MessageEvent<string>) => this.#take(kind, event.data));
    source.addEventListener('error', () => this.#onLost());
    this.#watch(FIRST_CONNECT_MS);
  }

  #disconnect(): void {
    clearTimeout(this.#watchdog);
    this.#source?.close();
    this.#source = undefined;
    this.#told = '';
  }

  #take(kind: 'snapshot' | 'delta' | 'gone', text: string): void {
    const begunMs = performance.now();
    const data = JSON.parse(text) as { readonly topic: string; readonly atMs: number };
    this.#failures = 0;
    this.#watch(SILENCE_MS);
    const topic = this.#topics.get(data.topic);
    if (topic !== undefined) {
      const { value } = topic.state.peek();
      if (kind === 'gone') topic.state.value = { value: undefined, gone: true, atMs: data.atMs };
      else if (kind === 'snapshot') topic.state.value = { value: topic.reducer.snapshot(data as never), gone: false, atMs: data.atMs };
      // A delta without a snapshot cannot be: the stream begins with one.
      else if (value !== undefined) topic.state.value = { value: topic.reducer.delta(value, data as never), gone: false, atMs: data.atMs };
    }
    this.connection.value = { state: 'live', heardAtMs: Date.now() };
    performance.measure('flotilla-live', { start: begunMs, detail: { topic: data.topic, kind, ageMs: Date.now() - data.atMs } });
  }

  #watch(ms: number): void {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => this.#onLost(), ms);
  }

  #onLost(): void {
    this.#disconnect();
    this.connection.value = { state: 'lost', heardAtMs: this.connection.value.heardAtMs };
    const wait = RETRY_MS[Math.min(this.#failures, RETRY_MS.length - 1)]!;
    this.#failures++;
    // An EventSource does not say why it ended: a session that is over shows the sign-in page.
    checkSession().then(
      (signedIn) => {
        if (signedIn) this.#plan(wait);
      },
      () => this.#plan(wait),
    );
  }

  #onVisibility(): void {
    clearTimeout(this.#hiding);
    if (document.visibilityState === 'hidden') {
      this.#hiding = setTimeout(() => {
        if (this.#topics.size === 0) return;
        this.#disconnect();
        clearTimeout(this.#planned);
        this.connection.value = { state: 'hidden', heardAtMs: this.connection.value.heardAtMs };
      }, HIDDEN_MS);
      return;
    }
    if (this.connection.value.state === 'hidden') {
      this.connection.value = { state: 'connecting', heardAtMs: this.connection.value.heardAtMs };
      this.#plan(0);
    }
  }
}

export const live = new LiveStream();
