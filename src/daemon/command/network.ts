import { connect } from 'node:net'
import { run } from '../../system/commands'
import { errorCode } from '../../system/fault'

/** The unit of docs/systemd. */
export const UNIT = 'knockdaemon.service'
const SETTINGS = ['LoadState', 'RestrictAddressFamilies', 'IPAddressDeny', 'IPAddressAllow']
/** Milliseconds for an answer: a kernel that refuses sockets does so at once. */
const PATIENCE = 500
/** Nobody listens there, and nobody needs to. */
const DISCARD = 9

/**
 * What keeps the daemon's programs from the network, as far as we know; null where nothing does, or nobody can tell. Whoever asks may be in the
 * daemon's unit, or an administrator outside of it.
 */
export async function networkObstacle(): Promise<string | null> {
  if (await areSocketsRefused()) return 'RestrictAddressFamilies'
  // Where there is no systemd, there is no unit of it either.
  const shown = await run('systemctl', ['show', UNIT, ...SETTINGS.map((name) => `--property=${name}`)]).catch(() => '')
  return obstacleOf(shown)
}

/** What of a unit forbids the network, by the words of `systemctl show`; null: nothing, or there is no such unit */
export function obstacleOf(shown: string): string | null {
  const settings = new Map(shown.split('\n').map((line) => [line.split('=', 1)[0], line.slice(line.indexOf('=') + 1).split(' ')]))
  const has = (name: string, value: string) => settings.get(name)?.includes(value) === true
  if (!has('LoadState', 'loaded')) return null
  const families = settings.get('RestrictAddressFamilies')?.filter(Boolean) ?? []
  // A tilde begins a list of what is forbidden.
  const isForbidden = families[0]?.startsWith('~')
    ? families.includes('~AF_INET') || families.includes('AF_INET')
    : families.length > 0 && !families.includes('AF_INET')
  if (isForbidden) return 'RestrictAddressFamilies'
  const isNobodyAllowed = !settings.get('IPAddressAllow')?.some(Boolean)
  return has('IPAddressDeny', '0.0.0.0/0') && isNobodyAllowed ? 'IPAddressDeny' : null
}

/** Whether this very process can't have a socket for IP. */
function areSocketsRefused(): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(DISCARD, '127.0.0.1')
    const end = (isRefused: boolean) => {
      socket.destroy()
      resolve(isRefused)
    }
    socket.on('connect', () => end(false))
    socket.on('error', (error) => end(errorCode(error) === 'EAFNOSUPPORT'))
    // Packets may be dropped without a word.
    socket.setTimeout(PATIENCE, () => end(false))
  })
}
