import { Finding } from '../../daemon/checks/finding'
import type { Check } from '../../system/check'
import { hasCommand, run } from '../../system/commands'
import { Fault } from '../../system/fault'

/* Whether the clock is kept, and how far off it is, as the program says that keeps it. Nobody in the network is asked. */

/** Seconds by which a clock may be off. A knock is made for a window of 30 s, and clients' clocks are off, too: half a window is theirs. */
const TOO_FAR = 15
/** Seconds that are more than a clock which is kept is off by. */
const FAR = 1

/** What a program says of the clock. */
export interface ClockFacts {
  /** The program. */
  readonly by: string
  /** Whether something keeps the clock; null: it does not say. */
  readonly isKept: boolean | null
  /** Seconds by which the clock is ahead, below zero behind; null: it does not say. */
  readonly offset: number | null
}

/** Looks whether the clock is right. */
export async function checkClockKept(): Promise<readonly Check[]> {
  const said = await Promise.all(KEEPERS.map(ask))
  return judgeClock(said.filter((one) => one !== null))
}

/** Judges what was said of the clock, by whoever knows of it. */
export function judgeClock(facts: readonly ClockFacts[]): readonly Check[] {
  const found = new Finding('clock kept')
  const offset = facts.find((one) => one.offset !== null)
  const kept = facts.find(({ isKept }) => isKept === true)
  const off = offset?.offset ?? null
  const far = off === null ? '' : `${formatOffset(off)} (${offset?.by})`
  if (off !== null && Math.abs(off) > TOO_FAR) found.wrong(`the clock is ${far}: knocks are refused as stale or future`, SET)
  else if (off !== null && Math.abs(off) > FAR) found.felt(`the clock is ${far}: a knock has so much less time`, SET)
  if (!kept && facts.some(({ isKept }) => isKept === false))
    found.felt(
      `nothing keeps the clock (${facts.map(({ by }) => by).join(', ')}): it drifts, and with it the time in which knocks count`,
      'run "timedatectl set-ntp true", or install chrony (Debian: apt-get install chrony)',
    )
  else if (!kept && found.isWell)
    found.unknown(
      'none of timedatectl, chronyc, ntpq and adjtimex says whether the clock is kept',
      'compare "date -u" with a clock that is right, or install chrony (Debian: apt-get install chrony)',
    )
  return found.end(`it is kept (${kept?.by}), and ${off === null ? 'nothing says how far it is off' : far}`)
}

const SET =
  'run "timedatectl set-ntp true", or with chrony "chronyc makestep"; then see whether keys have a floor ahead: "knockdaemon --check"'

function formatOffset(seconds: number): string {
  const size = Math.abs(seconds)
  const text = size < 1 ? `${(1_000 * size).toFixed(size < 0.001 ? 3 : 1)} ms` : `${size.toFixed(1)} s`
  return `${text} ${seconds < 0 ? 'behind' : 'ahead'}`
}

/** A program that may keep the clock, how it is asked, and how it answers. */
interface Keeper {
  readonly program: string
  readonly args: readonly string[]
  readonly read: (text: string) => Omit<ClockFacts, 'by'>
}

const KEEPERS: readonly Keeper[] = [
  { program: 'chronyc', args: ['-n', '-c', 'tracking'], read: readChrony },
  { program: 'timedatectl', args: ['timesync-status'], read: readTimesync },
  { program: 'ntpq', args: ['-n', '-c', 'rv 0 leap,offset'], read: readNtpq },
  { program: 'adjtimex', args: ['--print'], read: readAdjtimex },
  { program: 'timedatectl', args: ['show', '-p', 'NTPSynchronized'], read: readTimedatectl },
]

async function ask({ program, args, read }: Keeper): Promise<ClockFacts | null> {
  if (!(await hasCommand(program))) return null
  try {
    const { isKept, offset } = read(await run(program, args))
    return isKept === null && offset === null ? null : { by: program, isKept, offset }
  } catch (error) {
    // One that does not run says nothing; another may.
    if (error instanceof Fault) return null
    throw error
  }
}

/** Reads `chronyc -n -c tracking`: the correction that is left, above zero where the clock is slow, and whether it follows anything. */
export function readChrony(text: string): Omit<ClockFacts, 'by'> {
  const fields = text.trim().split(',')
  const [stratum, offset, leap] = [Number(fields[2]), Number(fields[4]), fields.at(-1)]
  if (fields.length < 10 || !Number.isFinite(offset)) return { isKept: null, offset: null }
  const isKept = leap !== 'Not synchronised' && stratum > 0
  return { isKept, offset: isKept ? -offset || 0 : null }
}

const UNITS: Readonly<Record<string, number>> = { us: 1e-6, ms: 1e-3, s: 1, min: 60, h: 3_600 }

/** Reads the offset that `timedatectl timesync-status` prints: of the server from this clock, so that above zero this one is behind. */
export function readTimesync(text: string): Omit<ClockFacts, 'by'> {
  const [, sign, parts] = /^\s*Offset: ([+-]?)((?:[\d.]+(?:us|ms|s|min|h) ?)+)$/m.exec(text) ?? []
  if (parts === undefined) return { isKept: null, offset: null }
  const terms = [...parts.matchAll(/([\d.]+)(us|ms|s|min|h)/g)]
  const size = terms.reduce((sum, [, number, unit]) => sum + Number(number) * (UNITS[unit] ?? 0), 0)
  return { isKept: null, offset: size === 0 ? 0 : sign === '-' ? size : -size }
}

/** Reads `ntpq -c "rv 0 leap,offset"`: the offset of the servers from this clock, in milliseconds. */
export function readNtpq(text: string): Omit<ClockFacts, 'by'> {
  const [, leap] = /\bleap=(\d\d|0x\d+)/.exec(text) ?? []
  const [, offset] = /\boffset=([+-]?[\d.]+)/.exec(text) ?? []
  if (leap === undefined) return { isKept: null, offset: null }
  const isKept = leap !== '11' && leap !== '0x3'
  return { isKept, offset: isKept && offset !== undefined ? -Number(offset) / 1_000 || 0 : null }
}

/** Of the kernel's status of the clock: it is not synchronised (STA_UNSYNC). */
const UNSYNC = 0x40

/** Reads the kernel's status in what `adjtimex --print` prints. */
export function readAdjtimex(text: string): Omit<ClockFacts, 'by'> {
  const [, status] = /^\s*status: (\d+)/m.exec(text) ?? []
  return { isKept: status === undefined ? null : (Number(status) & UNSYNC) === 0, offset: null }
}

/** Reads `timedatectl show -p NTPSynchronized`. */
export function readTimedatectl(text: string): Omit<ClockFacts, 'by'> {
  const [, answer] = /^NTPSynchronized=(yes|no)$/m.exec(text) ?? []
  return { isKept: answer === undefined ? null : answer === 'yes', offset: null }
}
