// Reads WWW-Authenticate (RFC 9110, 11.6.1): several challenges in one field, quoted strings with escapes, token68.
// What cannot be read ends the list; what stood before it counts.

/** One challenge; `scheme` and the names of parameters in lower case. */
export interface Challenge {
  readonly scheme: string;
  readonly params: ReadonlyMap<string, string>;
}

const TOKEN = /[!#$%&'*+.^_`|~0-9A-Za-z-]+/y;
const TOKEN68 = /[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|$))/y;
const QUOTED = /"((?:[^"\\]|\\.)*)"/sy;
const BLANK = /[ \t]*/y;
const COMMAS = /[ \t]*(?:,[ \t]*)*/y;
const EQUALS = /[ \t]*=[ \t]*/y;

/** The challenges of one or more WWW-Authenticate fields, in order. Never throws. */
export function parseChallenges(header: string | readonly string[] | undefined): Challenge[] {
  if (header === undefined) return [];
  return (typeof header === 'string' ? [header] : header).flatMap((text) => new ChallengeReader(text).read());
}

class ChallengeReader {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  read(): Challenge[] {
    const challenges: Challenge[] = [];
    for (this.#take(COMMAS); this.#at < this.#text.length; this.#take(COMMAS)) {
      const scheme = this.#take(TOKEN);
      if (scheme === undefined) break;
      const params = new Map<string, string>();
      challenges.push({ scheme: scheme.toLowerCase(), params });
      this.#take(BLANK);
      const read = this.#readParams(params);
      // `name=` without a value is the end of what can be read, unless it is the padding of a token68.
      if (read === 'broken' && (params.size > 0 || this.#take(TOKEN68) === undefined)) break;
      if (read === 'none') this.#take(TOKEN68);
    }
    return challenges;
  }

  /** Reads `name=value` pairs until something else follows; a name without `=` begins the next challenge. */
  #readParams(params: Map<string, string>): 'some' | 'none' | 'broken' {
    for (;;) {
      const start = this.#at;
      this.#take(COMMAS);
      const name = this.#take(TOKEN);
      if (name === undefined || this.#take(EQUALS) === undefined) {
        this.#at = start;
        return params.size > 0 ? 'some' : 'none';
      }
      const value = this.#quoted() ?? this.#take(TOKEN);
      if (value === undefined) {
        this.#at = start;
        return 'broken';
      }
      // The first of two equal names counts: a field appended behind the real one cannot move the realm.
      const key = name.toLowerCase();
      if (!params.has(key)) params.set(key, value);
    }
  }

  #quoted(): string | undefined {
    const text = this.#take(QUOTED);
    return text === undefined ? undefined : text.slice(1, -1).replace(/\\(.)/gs, '$1');
  }

  #take(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    const match = pattern.exec(this.#text);
    if (match === null) return undefined;
    this.#at = pattern.lastIndex;
    return match[0];
  }
}
