// Knocks by the hundred, for attackers who have a key: a start of the client for each would take longer than the window.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parse } from 'smol-toml'
import { bundleForNode } from '../../src/build/bundle.mjs'

const SOURCE = fileURLToPath(new URL('../../src', import.meta.url))
const CONTENTS = `
export { deriveKey, windowAt } from './protocol/key'
export { compose } from './protocol/knock'
export { composeDatagram } from './protocol/datagram'
export { rendezvous } from './protocol/codebook'
export { parsePool } from './protocol/pool'
export { codebook } from './protocol/codebook'
export { passcode } from './protocol/passcode'
export { passcodePorts } from './protocol/passcode-ports'
export { base32nopad } from '@scure/base'
`

/** What of the protocol a sender needs, from the sources. */
async function protocol() {
  const { outputFiles } = await bundleForNode({
    stdin: { contents: CONTENTS, resolveDir: SOURCE },
    format: 'esm',
    write: false,
  })
  return import(`data:text/javascript;base64,${Buffer.from(outputFiles?.[0]?.contents ?? []).toString('base64')}`)
}

/**
 * A sender of knocks by a key of a gate's.
 * @param {{keys: string}} gate @param {string} id
 */
export async function composer({ keys }, id) {
  const { deriveKey, windowAt, compose, composeDatagram, codebook, rendezvous, passcode, passcodePorts, parsePool, base32nopad } =
    await protocol()
  const { secret, server, period, pool } = /** @type {Record<string, any>} */ (
    parse(readFileSync(join(keys, `${id}.key`), 'utf8'))
  )
  const key = deriveKey({ secret: base32nopad.decode(secret), server, period, pool: parsePool(pool) })
  let salt = 0
  const now = () => windowAt(Date.now() / 1_000, period)
  const request = (/** @type {object} */ more) => ({
    ...{ action: 'open', protocol: 'any', once: false, port: 0, seconds: 60, address: '0.0.0.0', salt: salt++ & 0xffff },
    ...more,
  })
  return {
    period,
    /** The window that it is, as they are counted. @type {() => number} */
    window: now,
    /** The ports of a knock that nobody has said before, the rendezvous first. @type {(more?: object, window?: number) => number[]} */
    ports: (more = {}, window = now()) => compose(key, window, request(more)),
    /** The payload of a datagram, likewise. @type {(more?: object, window?: number) => Buffer} */
    datagram: (more = {}, window = now()) => Buffer.from(composeDatagram(key, window, request(more))),
    /** The ports of PIN and code. @type {(pin: string, window?: number) => number[]} */
    passcode: (pin, window = now()) => passcodePorts(pin, passcode(key, window)),
    /** All ports of a window that say something, in their order: the rendezvous, then 256 for each page. @type {(window?: number) => Uint16Array} */
    book: (window = now()) => codebook(key, window).ports,
    /** What a listener hears of a knock in a window. @type {(window?: number) => number[]} */
    rendezvous: (window = now()) => [...rendezvous(key, window)],
  }
}
