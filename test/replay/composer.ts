// Knocks by the hundred, for attackers who have a key: starting the client for each would take longer than the window.

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

/** Composes knocks with a key of a gate. */
export async function composer({ keys }: { keys: string }, id: string) {
  // The file belongs to the daemon: a thief of the key does not ask to whom it belongs.
  const { key } = await loadKeyFile(join(keys, `${id}.key`), () => {})
  let salt = 0
  /** The number of the current window. */
  const window = () => windowAt(Date.now() / 1_000, key.period)
  const request = (more: Partial<Request>): Request => ({
    ...{ action: 'open', protocol: 'any', once: false, port: 0, seconds: 60, address: '0.0.0.0', salt: salt++ & 0xffff },
    ...more,
  })
  return {
    period: key.period,
    window,
    /** The ports of a new knock, the rendezvous first. */
    ports: (more: Partial<Request> = {}, at = window()): number[] => compose(key, at, request(more)),
    /** The payload of a new datagram. */
    datagram: (more: Partial<Request> = {}, at = window()): Buffer => Buffer.from(composeDatagram(key, at, request(more))),
    /** The ports of PIN and code. */
    passcode: (pin: string, at = window()): number[] => passcodePorts(pin, passcode(key, at)),
    /** All ports of a window that mean something, in order: the rendezvous, then 256 for each page. */
    book: (at = window()): Uint16Array => codebook(key, at).ports,
    /** What a listener hears of a knock in a window. */
    rendezvous: (at = window()): number[] => [...rendezvous(key, at)],
  }
}
