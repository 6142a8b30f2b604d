import { setTimeout as sleep } from 'node:timers/promises'
import { type Check, unknown } from '../../system/check'
import { Fault, printable } from '../../system/fault'
import { programFolder } from '../own-script'
import { Hindrance } from './place/hindrance'
import { inPlace } from './place/place'
import { type Like, SelfKnock, type Step } from './self-knock-run'

const NAME = 'self-knock'
/** Milliseconds for all of it: some ten seconds are usual, of which a lease takes four. */
const LIMIT = 45_000

const KERNEL = 'the kernel does not do what the rules say: look at its log by "dmesg"'
const INSTALL = 'install Knockturn again'
const CHECK = 'look for its own hint by "knockdaemon --check"'

/** What each step does, and what to do where it fails and gives no hint of its own. */
const STEPS: Readonly<Record<Step, readonly [string, string]>> = {
  place: ['make a place for it', 'run this as root'],
  key: ['make a key', INSTALL],
  firewall: ['install the guard and the log rules', CHECK],
  daemon: ['start a daemon', CHECK],
  closed: ['the door is closed before the knock', KERNEL],
  knock: ['send a knock', INSTALL],
  tap: [
    'the daemon hears the knock and accepts it',
    'look whether the kernel has NFLOG, by "modprobe nfnetlink_log", and whether tcpdump works, by "tcpdump -D"',
  ],
  ledger: ['the knock is spent in the ledger', INSTALL],
  rule: ['the lease is in the firewall', CHECK],
  open: ['the door is open to who has knocked, and to nobody else', KERNEL],
  expiry: ['the lease ends by itself', 'look whether the clock of this machine goes, by "timedatectl"'],
  'closed again': ['the door is closed again', KERNEL],
}

/**
 * Has a whole daemon open a door and shut it again, by the programs, the backend and the kernel of this machine, in a place of its own. No door,
 * key, ledger or rule of this machine's is touched, and nothing stays.
 * @param config what the daemon is to be like: its backend, whether it guards, its NFLOG group and prefix
 * @param programs the folder of our programs
 * @returns one check, whose evidence is the step that has failed, or all of them
 */
export async function selfKnockChecks(config: Like, programs = programFolder()): Promise<Check[]> {
  const began = performance.now()
  const done: Step[] = []
  let at: Step = 'place'
  const step = async <T>(name: Step, act: () => Promise<T>): Promise<T> => {
    at = name
    const result = await act()
    done.push(name)
    return result
  }
  try {
    const left = await inPlace({ hasMounts: true }, (server) =>
      inPlace({ hasMounts: true }, (client) => within(LIMIT, new SelfKnock(server, client, config, programs, step).play())),
    )
    const seconds = ((performance.now() - began) / 1000).toFixed(1)
    return [{ name: NAME, verdict: 'ok', evidence: `${done.join(', ')}: in ${seconds} s${left}` }]
  } catch (error) {
    if (!(error instanceof Fault)) throw error
    const [what, usual] = STEPS[at]
    const remedy = error.hint ?? usual
    // Without a place nothing has been tried.
    if (at === 'place') return [unknown(NAME, `cannot be tried: ${printable(error.message)}`, remedy)]
    return [{ name: NAME, verdict: 'fault', evidence: `${what}: ${printable(error.message)}`, remedy }]
  }
}

/** @throws {Fault} where something takes longer than so many milliseconds; what it goes on with ends with its place */
async function within<T>(limit: number, work: Promise<T>): Promise<T> {
  const waiting = new AbortController()
  const late = sleep(limit, undefined, { signal: waiting.signal }).then(() => {
    throw new Hindrance(`not done after ${limit / 1000} s`)
  })
  for (const one of [late, work]) one.catch(() => {})
  try {
    return await Promise.race([work, late])
  } finally {
    waiting.abort()
  }
}
