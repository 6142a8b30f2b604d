import { hasCommand, run } from './commands'
import { Fault } from './fault'

/* What programs say of the clock that keep it, or know of it. Nobody in the network is asked. */

/** What a program says of the clock. */
export interface ClockFacts {
  /** The program. */
  readonly by: string
  /** Whether something keeps the clock; null: it does not say. */
  readonly isKept: boolean | null
  /** Seconds by which the clock is ahead, below zero behind; null: it does not say. */
  readonly offset: number | null
}

/** Asks each program that is there. @returns what those say that say anything */
export async function askKeepers(): Promise<readonly ClockFacts[]> {
  const said = await Promise.all(KEEPERS.map(ask))
  return said.filter((one) => one !== null)
}

/** Whether the clock is kept, as whoever knows says; null: nobody says. */
export function isClockKept(facts: readonly ClockFacts[]): boolean | null {
  if (facts.some(({ isKept }) => isKept === true)) return true
  return facts.some(({ isKept }) => isKept === false) ? false : null
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
