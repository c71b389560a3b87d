// One call at a time per key: whoever asks meanwhile waits for the same answer. A caller that gives up leaves the others alone;
// when the last one has given up the call is aborted and forgotten. Bounded by its callers.

interface SharedCall<T> {
  readonly promise: Promise<T>;
  readonly controller: AbortController;
  waiters: number;
}

export class SharedCalls<T> {
  readonly #calls = new Map<string, SharedCall<T>>();

  async run(key: string, signal: AbortSignal, start: (signal: AbortSignal) => Promise<T>): Promise<T> {
    signal.throwIfAborted();
    const call = this.#calls.get(key) ?? this.#begin(key, start);
    call.waiters++;
    try {
      return await abortable(call.promise, signal);
    } finally {
      call.waiters--;
      if (call.waiters === 0) {
        this.#forget(key, call);
        call.controller.abort();
      }
    }
  }

  #begin(key: string, start: (signal: AbortSignal) => Promise<T>): SharedCall<T> {
    const controller = new AbortController();
    const call: SharedCall<T> = { promise: start(controller.signal), controller, waiters: 0 };
    this.#calls.set(key, call);
    const settled = (): void => this.#forget(key, call);
    void call.promise.then(settled, settled);
    return call;
  }

  #forget(key: string, call: SharedCall<T>): void {
    if (this.#calls.get(key) === call) this.#calls.delete(key);
  }
}

/** Waits for `promise`, but not past the abort; `promise` itself goes on. */
async function abortable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
