// Changes of TOML files that keep what people wrote: comments, order, spacing. A change is a guess at the text that proves itself: it is
// taken only if it parses to exactly what was wanted. Where no guess does, the file is left alone and the operator told.

import { isDeepStrictEqual } from 'node:util';
import { parse, TomlError, type TomlTable, type TomlValue } from 'smol-toml';
import { because, CommandFailure } from '../failure.ts';

export type { TomlTable };

/** @throws CommandFailure naming the file */
export function parseToml(path: string, text: string): TomlTable {
  try {
    return parse(text, { integersAsBigInt: 'asNeeded' });
  } catch (error) {
    throw new CommandFailure(`${path} is no TOML${because(error)}`, 'Correct it first; its own client cannot read it either.', { cause: error });
  }
}

/** The first text that parses to `wanted`, order of keys included where `sameOrder` says so. */
export function firstThatMeans(wanted: TomlTable, candidates: Iterable<string>, sameOrder: (parsed: TomlTable) => boolean = () => true): string | undefined {
  for (const candidate of candidates) {
    const parsed = parsedOrUndefined(candidate);
    // Cloned: tables of the parser and our own have other prototypes.
    if (parsed !== undefined && isDeepStrictEqual(structuredClone(parsed), structuredClone(wanted)) && sameOrder(parsed)) return candidate;
  }
  return undefined;
}

/** The value at a path of keys; undefined where one is missing or no table. */
export function at(table: TomlTable, ...keys: readonly string[]): TomlValue | undefined {
  let value: TomlValue | undefined = table;
  for (const key of keys) {
    if (!isTable(value) || !Object.hasOwn(value, key)) return undefined;
    value = value[key];
  }
  return value;
}

export function isTable(value: TomlValue | undefined): value is TomlTable {
  return typeof value === 'object' && !Array.isArray(value) && !(value instanceof Date);
}

/** A copy with one value set, tables made on the way. */
export function withValue(table: TomlTable, keys: readonly string[], value: TomlValue): TomlTable {
  const [key, ...rest] = keys;
  if (key === undefined) return table;
  const inner = table[key];
  return { ...table, [key]: rest.length === 0 ? value : withValue(isTable(inner) ? inner : {}, rest, value) };
}

/** The text ends with a line break, so that something may follow. */
export function endedLine(text: string): string {
  return text === '' || text.endsWith('\n') ? text : `${text}\n`;
}

function parsedOrUndefined(text: string): TomlTable | undefined {
  try {
    return parse(text, { integersAsBigInt: 'asNeeded' });
  } catch (error) {
    // A guess that is no TOML is a wrong guess.
    if (error instanceof TomlError) return undefined;
    throw error;
  }
}
