// Knocks by the hundred, for attackers who have a key: a start of the client for each would take longer than the window.

import { join } from 'node:path'
import { loadKeyFile } from '../../src/keys/keyring'
import { codebook, rendezvous } from '../../src/protocol/codebook'
import { composeDatagram } from '../../src/protocol/datagram'
import { windowAt } from '../../src/protocol/key'
import { compose } from '../../src/protocol/knock'
import { passcodePorts } from '../../src/protocol/passcode'
import type { Request } from '../../src/protocol/request'
import { passcode } from '../../src/protocol/totp'

export type Composer = Awaited<ReturnType<typeof composer>>

/** A sender of knocks by a key of a gate's. */
export async function composer({ keys }: { keys: string }, id: string) {
  // The file is the daemon's: whoever has stolen it asks nobody whose it is.
  const { key } = await loadKeyFile(join(keys, `${id}.key`), () => {})
  let salt = 0
  /** The window that it is, as they are counted. */
  const window = () => windowAt(Date.now() / 1_000, key.period)
  const request = (more: Partial<Request>): Request => ({
    ...{ action: 'open', protocol: 'any', once: false, port: 0, seconds: 60, address: '0.0.0.0', salt: salt++ & 0xffff },
    ...more,
  })
  return {
    period: key.period,
    window,
    /** The ports of a knock that nobody has said before, the rendezvous first. */
    ports: (more: Partial<Request> = {}, at = window()): number[] => compose(key, at, request(more)),
    /** The payload of a datagram, likewise. */
    datagram: (more: Partial<Request> = {}, at = window()): Buffer => Buffer.from(composeDatagram(key, at, request(more))),
    /** The ports of PIN and code. */
    passcode: (pin: string, at = window()): number[] => passcodePorts(pin, passcode(key, at)),
    /** All ports of a window that say something, in their order: the rendezvous, then 256 for each page. */
    book: (at = window()): Uint16Array => codebook(key, at).ports,
    /** What a listener hears of a knock in a window. */
    rendezvous: (at = window()): number[] => [...rendezvous(key, at)],
  }
}
