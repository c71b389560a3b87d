// The image of the pull line that `npm start` prints: one that can be pulled as it stands.
//
// Without --origin that is a public one; with it, the first image that the first origin lists. An origin that lists
// nothing to strangers gets a line to be filled in. Bounded: two requests, a second each.

const PUBLIC_IMAGE = 'docker.io/library/alpine:3.22';
const TIMEOUT_MS = 1000;

/**
 * @param {{ name: string, url: string }[]} origins
 * @returns {Promise<string>} origin/repository:tag
 */
export async function pullableImage(origins) {
  const origin = origins[0];
  if (origin === undefined) return PUBLIC_IMAGE;
  const base = `${origin.url.replace(/\/+$/, '')}/v2`;
  const repository = firstOf(await getJson(`${base}/_catalog?n=1`), 'repositories');
  const tag = repository === undefined ? undefined : firstOf(await getJson(`${base}/${repository}/tags/list`), 'tags');
  return tag === undefined ? `${origin.name}/REPOSITORY:TAG` : `${origin.name}/${repository}:${tag}`;
}

/**
 * @param {string} url
 * @returns {Promise<unknown>} undefined where there is no JSON to be had: the pull line is then left to be filled in
 */
async function getJson(url) {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(TIMEOUT_MS) });
    const text = await response.text();
    return response.ok ? JSON.parse(text) : undefined;
  } catch {
    return undefined;
  }
}

/**
 * @param {unknown} body
 * @param {string} key
 * @returns {string | undefined}
 */
function firstOf(body, key) {
  const list = typeof body === 'object' && body !== null ? Reflect.get(body, key) : undefined;
  const first = Array.isArray(list) ? list[0] : undefined;
  return typeof first === 'string' ? first : undefined;
}
