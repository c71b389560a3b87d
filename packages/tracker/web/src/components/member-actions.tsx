// What operators do with a member: quarantine, expel, readmit, remove. Each asks once, by the host's name.

import type { HostState } from '@flotilla/shared/live-api';
import { OPERATOR_ROUTES } from '@flotilla/shared/routes';
import type { JSX } from 'preact';
import { useRef } from 'preact/hooks';
import { call, post } from '../api.ts';
import { Action } from './action.tsx';
import { Field } from './field.tsx';

export interface MemberActionsProps {
  readonly peerId: string;
  readonly name: string;
  readonly state: HostState;
  /** Something was done. */
  readonly done?: () => void;
}

export function MemberActions({ peerId, name, state, done = () => undefined }: MemberActionsProps): JSX.Element {
  const reason = useRef<HTMLInputElement>(null);
  const because = (
    <Field label="Why" hint="For the audit log, and for who looks at the host.">
      {(ids) => <input {...ids} ref={reason} required maxLength={255} autocomplete="off" />}
    </Field>
  );
  const put = (path: string) => async (): Promise<void> => {
    await post(path, { reason: reason.current!.value });
    done();
  };
  return (
    <>
      {(state === 'quarantined' || state === 'expelled') && (
        <Action
          label="Readmit"
          role="operate"
          look="primary"
          confirm={{ title: `Readmit ${name}?`, text: <p>It may exchange chunks again, and what was held against it is forgotten.</p> }}
          run={async () => {
            await post(OPERATOR_ROUTES.readmit(peerId));
            done();
          }}
        />
      )}
      {state !== 'quarantined' && state !== 'expelled' && (
        <Action
          label="Quarantine"
          role="operate"
          look="danger"
          confirm={{
            title: `Put ${name} into quarantine?`,
            text: (
              <>
                <p>No host exchanges chunks with it until it is readmitted. Its pulls go on, from the origin alone.</p>
                {because}
              </>
            ),
          }}
          run={put(OPERATOR_ROUTES.quarantine(peerId))}
        />
      )}
      {state !== 'expelled' && (
        <Action
          label="Expel"
          role="operate"
          look="danger"
          confirm={{
            title: `Expel ${name}?`,
            text: (
              <>
                <p>It is no member any more, and cannot join again until it is readmitted.</p>
                {because}
              </>
            ),
          }}
          run={put(OPERATOR_ROUTES.expel(peerId))}
        />
      )}
      {state === 'down' && (
        <Action
          label="Remove"
          role="operate"
          look="danger"
          confirm={{ title: `Remove ${name}?`, text: <p>For a host that is gone for good. What is known of it is forgotten; it may enrol again.</p> }}
          run={async () => {
            await call('DELETE', OPERATOR_ROUTES.member(peerId));
            done();
          }}
        />
      )}
    </>
  );
}
