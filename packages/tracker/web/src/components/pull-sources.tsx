// Where the bytes of a finished pull came from.

import type { Pull } from '@flotilla/shared/operator-api';
import type { JSX } from 'preact';
import { bytes } from '../format.ts';
import { Bar } from './bar.tsx';

export function totalBytes({ bytes: { peer, origin, resumed } }: Pull): number {
  return peer + origin + resumed;
}

export function SourcesBar({ pull, thick = false }: { readonly pull: Pull; readonly thick?: boolean }): JSX.Element {
  const { peer, origin, resumed } = pull.bytes;
  const text = `${bytes(peer)} from peers, ${bytes(origin)} from the origin, ${bytes(resumed)} here already`;
  return (
    <div class="sources" title={text}>
      <Bar
        thick={thick}
        total={totalBytes(pull)}
        parts={[
          { value: peer, color: 'peer' },
          { value: origin, color: 'origin' },
          { value: resumed, color: 'stored' },
        ]}
      />
      <span class="visually-hidden">{text}</span>
    </div>
  );
}
