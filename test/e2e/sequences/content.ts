// What the tables ask for, by name: everything of every-kind.ts, with the bytes that the origin itself has.

import { request } from 'undici';
import type { EveryKind, Pushed } from '../../support/every-kind.ts';
import type { Descriptor } from '../../support/push.ts';

export interface Thing extends Descriptor {
  readonly isBlob: boolean;
  readonly bytes: Buffer;
}

/** Names: a tag (`index`), its image for linux/amd64 (`index.image`), `index.config`, `index.layer`, `index.layer2`. */
export class Content {
  readonly #things: ReadonlyMap<string, Thing>;

  private constructor(things: ReadonlyMap<string, Thing>) {
    this.#things = things;
  }

  static async load(registryUrl: string, repository: string, kinds: EveryKind): Promise<Content> {
    const things = new Map<string, Thing>();
    const load = async (name: string, descriptor: Descriptor, isBlob: boolean): Promise<void> => {
      const { body } = await request(`${registryUrl}/v2/${repository}/${isBlob ? 'blobs' : 'manifests'}/${descriptor.digest}`, { headers: { accept: descriptor.mediaType } });
      things.set(name, { ...descriptor, isBlob, bytes: Buffer.from(await body.arrayBuffer()) });
    };
    for (const kind of Object.values(kinds) as Pushed[]) {
      await load(kind.tag, kind.top, false);
      await load(`${kind.tag}.image`, kind.image, false);
      for (const [i, blob] of kind.blobs.entries()) await load(`${kind.tag}.${['config', 'layer', 'layer2'][i]!}`, blob, true);
    }
    return new Content(things);
  }

  /** @throws RangeError for a name that no content has */
  of(name: string): Thing {
    const thing = this.#things.get(name);
    if (thing === undefined) throw new RangeError(`no content has the name ${name}`);
    return thing;
  }
}
