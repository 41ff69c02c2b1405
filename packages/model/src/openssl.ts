/**
 * OpenSSL's Poly1305 as the Node binary exports it, called at an address: so a thread can sum memory that is not its own.
 */
import { createCipheriv } from 'node:crypto';
import { loadKoffi } from '@stickbreaking/base/node';
import { ofTags, PART_KEY, tagOf } from './poly1305.js';

/** Writes two tags of memory, as `ofTags` takes them. */
export type Tags = (memory: Uint8Array | bigint, bytes: number, tags: Uint8Array) => void;

/**
 * The function is handed to threads as text, so it may use nothing but its arguments.
 *
 * @throws where Node has no such functions, as one that is built with another library
 */
export function tagsWith(koffi: ReturnType<typeof loadKoffi>, key: Uint8Array): Tags {
  const node = koffi.load(null);
  const fetch = node.func('void *EVP_MAC_fetch(void *library, const char *name, const char *properties)');
  const make = node.func('void *EVP_MAC_CTX_new(void *mac)');
  const copy = node.func('void *EVP_MAC_CTX_dup(const void *context)');
  const free = node.func('void EVP_MAC_CTX_free(void *context)');
  const init = node.func('int EVP_MAC_init(void *context, const void *key, size_t bytes, void *parameters)');
  const update = node.func('int EVP_MAC_update(void *context, const void *data, size_t bytes)');
  const final = node.func('int EVP_MAC_final(void *context, void *out, void *bytes, size_t size)');
  const mac = fetch(null, 'POLY1305', null);
  const context = mac && make(mac);
  if (!context) throw new Error('OpenSSL has no Poly1305 here');
  const zeros = new Uint8Array(16);
  const tag = new Uint8Array(16);
  return (memory, bytes, tags) => {
    const begun = init(context, key, 32, null) === 1 && update(context, memory, bytes) === 1;
    const longer = begun && copy(context);
    let good = longer && final(context, tag, null, 16) === 1;
    tags.set(tag);
    good &&= update(longer, zeros, 16) === 1 && final(longer, tag, null, 16) === 1;
    tags.set(tag, 16);
    if (longer) free(longer);
    if (!good) throw new Error('OpenSSL does not sum');
  };
}

let bound: Tags | null | undefined;

/** Undefined where Node has no such functions, or they do not give what `createCipheriv` does. */
export function opensslTags(): Tags | undefined {
  if (bound === undefined) {
    try {
      bound = tagsWith(loadKoffi(), PART_KEY);
      if (!isRight(bound)) bound = null;
    } catch {
      bound = null;
    }
  }
  return bound ?? undefined;
}

function isRight(tags: Tags): boolean {
  const bytes = Uint8Array.from({ length: 512 }, (_, i) => 255 - i * i);
  const zeros = new Uint8Array(32);
  const cipher = createCipheriv('chacha20-poly1305', zeros, zeros.subarray(0, 12), { authTagLength: 16 });
  cipher.setAAD(bytes, { plaintextLength: 0 }).final();
  const two = new Uint8Array(32);
  tags(bytes, bytes.length, two);
  return tagOf(ofTags(two, bytes.length / 16), bytes.length) === cipher.getAuthTag().toString('hex');
}
