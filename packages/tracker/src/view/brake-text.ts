// A brake in words: on the first line, in alerts, in the audit log. Pure.

import type { Brake } from '@flotilla/shared/live-api';
import { bytes } from './slow-reason.ts';

/** What a brake does, to whom. */
export function brakeText({ scope, stopUploads, originOnly, downloadLimit, uploadLimit, zoneLimit }: Brake): string {
  const whom = scope.kind === 'fleet' ? 'the fleet' : scope.kind === 'zone' ? `zone ${scope.zone}` : 'a host';
  const what = [
    ...(stopUploads ? ['no uploads'] : []),
    ...(originOnly ? ['origin only'] : []),
    ...(downloadLimit === undefined ? [] : [`${bytes(downloadLimit)}/s down`]),
    ...(uploadLimit === undefined ? [] : [`${bytes(uploadLimit)}/s up`]),
    ...(zoneLimit === undefined ? [] : [`${bytes(zoneLimit)}/s between zones`]),
  ];
  return `${what.join(', ')} for ${whom}`;
}
