// The tracker's stream of events: JSON lines in, checked events out.
// Types that this release does not know are counted and passed over, so that a newer tracker may say more; a line that is no
// event of a known type ends the stream, because what follows cannot be trusted to mean what it says.

import { pipe } from 'it-pipe';
import { TrackerEvent } from '@flotilla/shared/tracker-api';
import { Compile } from 'typebox/compile';
import { AgentError } from '../errors.ts';

/** The longest event is `digests`: 4 MiB of text. */
const MAX_LINE_BYTES = 8 * 1024 * 1024;

const validator = Compile(TrackerEvent);
const knownTypes: ReadonlySet<unknown> = new Set(TrackerEvent.anyOf.map((event) => event.properties.type.const));

/**
 * Reads events until the stream ends.
 * @param onUnknown told the type of each event that was passed over
 * @throws TRACKER_PROTOCOL, and whatever the stream throws
 */
export function readEvents(stream: AsyncIterable<Uint8Array>, onUnknown: (type: string) => void): AsyncGenerator<TrackerEvent> {
  return pipe(stream, readLines, (lines) => checkEvents(lines, onUnknown));
}

async function* checkEvents(lines: AsyncIterable<string>, onUnknown: (type: string) => void): AsyncGenerator<TrackerEvent> {
  for await (const line of lines) {
    const event = parseEvent(line, onUnknown);
    if (event !== undefined) yield event;
  }
}

function parseEvent(line: string, onUnknown: (type: string) => void): TrackerEvent | undefined {
  let fields: unknown;
  try {
    fields = JSON.parse(line);
  } catch (error) {
    throw new AgentError('TRACKER_PROTOCOL', 'the tracker sent a line that is no JSON', { cause: error });
  }
  const type = typeof fields === 'object' && fields !== null && 'type' in fields ? fields.type : undefined;
  if (typeof type !== 'string') throw new AgentError('TRACKER_PROTOCOL', 'the tracker sent an event without a type');
  if (!knownTypes.has(type)) {
    onUnknown(type);
    return undefined;
  }
  if (!validator.Check(fields)) throw new AgentError('TRACKER_PROTOCOL', `the tracker sent a malformed "${type}"`);
  return fields;
}

async function* readLines(stream: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  let parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const piece of stream) {
    let start = 0;
    for (let end = piece.indexOf(10); end >= 0; end = piece.indexOf(10, start)) {
      parts.push(piece.subarray(start, end));
      const line = Buffer.concat(parts).toString('utf8');
      parts = [];
      bytes = 0;
      start = end + 1;
      if (line.trim() !== '') yield line;
    }
    if (start < piece.length) parts.push(piece.subarray(start));
    bytes += piece.length - start;
    if (bytes > MAX_LINE_BYTES) throw new AgentError('TRACKER_PROTOCOL', `the tracker sent a line of more than ${MAX_LINE_BYTES} bytes`);
  }
}
