import { readFile } from 'node:fs/promises'
import { canonicalAddress } from '../../protocol/address'

/* The connection of SSH by which whoever types this has come here: sudo and su leave its name out of our environment, and not out of their own. */

/** Processes that are looked at, from us upwards: more than stand between a shell and its sshd. */
const MAX_ANCESTORS = 64

/** Both ends of a connection. */
export interface Session {
  readonly peer: string
  readonly peerPort: number
  readonly local: string
  readonly localPort: number
}

/** The connection of this session; null at a console, or where nobody can tell. */
export async function ownSession(): Promise<Session | null> {
  let pid = process.pid
  for (let i = 0; i < MAX_ANCESTORS && pid > 0; i++) {
    const environment = await readFile(`/proc/${pid}/environ`, 'utf8').catch(() => '')
    const value = environment.split('\0').find((entry) => entry.startsWith(NAME))
    const session = value === undefined ? null : readSession(value.slice(NAME.length))
    if (session) return session
    const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '')
    pid = Number(/^PPid:\s*(\d+)$/m.exec(status)?.[1] ?? 0)
  }
  return null
}

const NAME = 'SSH_CONNECTION='

/** Reads the value of SSH_CONNECTION: the other end and ours, an address and a port each; null for any other text. */
export function readSession(text: string): Session | null {
  const [, peer = '', peerPort, local = '', localPort] = /^(\S+) (\d{1,5}) (\S+) (\d{1,5})$/.exec(text) ?? []
  const [theirs, ours] = [canonicalAddress(peer), canonicalAddress(local)]
  return theirs && ours ? { peer: theirs, peerPort: Number(peerPort), local: ours, localPort: Number(localPort) } : null
}
