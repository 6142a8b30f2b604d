import { readdir, readFile } from 'node:fs/promises'
import { Finding } from '../../daemon/checks/finding'
import { findHolder } from '../../daemon/ledger/lock'
import { netlinkDrops, socketsOf } from '../../daemon/taps/nflog'
import type { Check } from '../../system/check'
import { errorCode, reason } from '../../system/fault'
import { isClockPossible } from '../../system/time'

/* Whether a daemon is alive, and whether it runs into a limit. */

/** The part of its file descriptors from which on a daemon may run out of them. */
const MANY = 0.8

/**
 * Checks the daemon that is alive.
 * @param ledger the ledger's path
 * @param half what knockdaemon --check has said of who holds the ledger
 * @param now Unix milliseconds
 */
export async function checkAlive(
  ledger: string,
  half: readonly Check[],
  hasSystemd: boolean,
  now: number,
): Promise<readonly Check[]> {
  const doubted = half.filter(({ verdict }) => verdict !== 'note')
  if (doubted.length > 0) return doubted
  const found = new Finding('daemon')
  const holder = await findHolder(ledger).catch((error) => {
    if (errorCode(error) !== 'ENOENT') found.unknown(`${ledger}: cannot be looked at: ${reason(error)}`)
    return null
  })
  if (!found.isWell) return found.end('')
  if (holder?.isDaemon)
    return [...found.end(`process ${holder.pid} runs, and holds ${ledger}`), ...(await checkLimits(holder.pid))]
  if (!isClockPossible(now)) {
    found.unknown(`nobody holds ${ledger}: a daemon that runs waits until the clock is set`, 'set the clock, and look again')
    return found.end('')
  }
  found.wrong(
    `no daemon runs: nobody holds ${ledger}, and nobody new gets in`,
    hasSystemd
      ? 'run "systemctl start knockdaemon", and "journalctl -eu knockdaemon" where it does not start'
      : 'start it: docs/by-hand.md',
  )
  return found.end('')
}

async function checkLimits(pid: number): Promise<readonly Check[]> {
  const read = (name: string) => readFile(`/proc/${pid}/${name}`, 'latin1').catch(() => null)
  const used = await readdir(`/proc/${pid}/fd`).then(
    ({ length }) => length,
    () => null,
  )
  const children = (await read(`task/${pid}/children`))?.split(' ').filter((word) => /^\d+$/.test(word)) ?? []
  const drops: number[] = []
  const netlink = await read('net/netlink')
  for (const child of children) {
    const name = await readFile(`/proc/${child}/comm`, 'latin1').catch(() => '')
    if (name.trim() !== 'tcpdump' || netlink === null) continue
    const dropped = netlinkDrops(netlink, await socketsOf(Number(child)))
    if (dropped !== null) drops.push(dropped)
  }
  return judgeLimits(await read('limits'), used, drops.length > 0 ? drops.reduce((sum, one) => sum + one) : null)
}

/**
 * Judges the limits of a daemon.
 * @param limits its /proc/PID/limits; null: it can't be read
 * @param used how many file descriptors it has; null: that can't be seen
 * @param dropped how many packets the kernel has dropped for want of room in its capture's buffer; null: it has none, or it can't be seen
 */
export function judgeLimits(limits: string | null, used: number | null, dropped: number | null): readonly Check[] {
  const found = new Finding('limits')
  const soft = (name: string) => new RegExp(`^${name} +(\\d+|unlimited) `, 'm').exec(limits ?? '')?.[1]
  const files = soft('Max open files')
  const core = soft('Max core file size')
  if (files === undefined || used === null) found.unknown("the daemon's limits cannot be read", 'run this as root')
  else if (files !== 'unlimited' && used > MANY * Number(files))
    found.wrong(
      `the daemon has ${used} of ${files} open files: without one left it can change nothing in the firewall`,
      'run "systemctl edit knockdaemon", add "[Service]" and "LimitNOFILE=65536", and restart the daemon',
    )
  // 1 byte is what the unit gives: no program that collects core dumps gets one then.
  if (core !== undefined && core !== '0' && core !== '1')
    found.felt(
      `a crash of the daemon leaves the keys in a core dump (limit: ${core} bytes)`,
      'add "LimitCORE=1" to [Service] of its unit, and install prlimit (util-linux)',
    )
  if (dropped !== null && dropped > 0)
    found.felt(
      `the kernel has dropped ${dropped} packets for want of room in tcpdump's buffer: knocks may be among them`,
      'knock again; where it goes on, see by "knockturn guard try --for 1m" who sends so much, and give the daemon more of the processor',
    )
  return found.end(`${used} of ${files} open files${dropped === null ? '' : ", no packet dropped in tcpdump's buffer"}`)
}
