// Log lines: JSON on stderr, one per event, fields rather than sentences (`peerId code reason`).

import { pino, type DestinationStream, type Logger } from 'pino';

export type { Logger };

export const LOG_LEVELS = ['debug', 'info', 'warn', 'error', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** Written synchronously: the last lines before an exit are the ones that matter. */
export function createLogger(level: LogLevel, destination: DestinationStream = pino.destination({ fd: 2, sync: true })): Logger {
  return pino(
    {
      level,
      base: undefined,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { error: errorFields, err: errorFields },
    },
    destination,
  );
}

/** An error and its causes as fields. Stacks only where nothing was foreseen (no `code`). */
export function errorFields(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const code = 'code' in error ? error.code : undefined;
  return {
    message: error.message,
    ...(code === undefined || code === 'INTERNAL' ? { stack: error.stack } : {}),
    ...(code !== undefined && { code }),
    ...(error.cause !== undefined && { cause: errorFields(error.cause) }),
  };
}
