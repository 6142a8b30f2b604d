import type { Logger } from 'pino'
import { type Batch, type Entry, isLease, isLock, type Lease, nameOf, type Standing, type Table } from '../../gate/firewall'
import { Quiet } from '../../gate/quiet'
import { formatService } from '../../protocol/service'
import { inOneLine } from '../../system/fault'
import { steadyNow } from '../../system/time'
import type { CommandConfig } from './config'
import { readListed, type Way, wayName } from './listed'
import { type Printed, ProgramError, runProgram } from './program'
import { endOf, newWay, type Opened, putOff, Ways, type Work } from './ways'
import { fill, uses, type Words } from './words'

/** Milliseconds between two looks at the list: it may be a login to another machine. */
const LIST_PACE = 60_000
/** The same is told once in so many milliseconds. */
const QUIET = 60_000
/** Most ways that may be open: as many as there may be leases, and as many again that could not be closed. */
const MAX_WAYS = 2_048
/** Milliseconds after which what has failed before waits for another round: somebody may be waiting for a door. */
const ROUND = 5_000
/** By what a program is asked to close what nobody knows any more. */
const UNKNOWN = 'unknown'

/** What a table of a user's program works with. */
export interface Surroundings {
  readonly config: CommandConfig
  /** Where it is written down what may be open. */
  readonly path: string
  /** How long an entry may stand from now on, in milliseconds; Infinity: until it is taken away */
  readonly left: (entry: Entry) => number
  readonly log: Pick<Logger, 'debug' | 'warn' | 'error'>
}

/**
 * Leases by a user's program, one call after the other. The program knows ways, and not who has them: a way is opened for the first lease, and
 * closed after the last. What may be open is written down before the program is asked to open it, and struck out when it has closed it.
 */
export class ProgramTable implements Table {
  readonly name = 'command'
  readonly clock = 'steady'
  readonly maxRemoved = Infinity
  readonly countsConnections = false
  readonly #config: CommandConfig
  readonly #left: (entry: Entry) => number
  readonly #log: Surroundings['log']
  readonly #quiet = new Quiet(QUIET)
  /** Whether the far side is told how long a way may be open. */
  readonly #isTimed: boolean
  readonly #ways: Ways
  #listedNext = 0

  constructor({ config, path, left, log }: Surroundings) {
    this.#config = config
    this.#left = left
    this.#log = log
    this.#isTimed = uses(config.open, 'seconds')
    this.#ways = new Ways(path, log, this.#quiet)
  }

  holds(): boolean {
    return true
  }

  endsByItself({ until }: Entry): boolean {
    return this.#isTimed && until !== null
  }

  async read(): Promise<Standing> {
    await this.#ways.restore()
    await this.#lookAtList()
    await this.#ways.write([])
    const now = steadyNow()
    const ways = this.#ways.all()
    return {
      entries: [...ways.flatMap(({ leases }) => leases), ...this.#ways.locks],
      isWhole: true,
      // Then it is written anew: what is in doubt is opened again, and what nobody has is closed.
      isOutdated: ways.some((way) => way.notBefore <= now && (way.leases.length === 0 || !(way.isOpen || way.isEnding))),
    }
  }

  async change({ add, remove }: Batch): Promise<void> {
    await this.#ways.restore()
    const gone = new Set(remove.map(({ entry }) => nameOf(entry)))
    // What was to be closed is still to be, whether or not it is asked for again.
    const leases = this.#ways.all().flatMap((way) => (way.isEnding ? [] : way.leases))
    await this.rewrite([...leases, ...this.#ways.locks].filter((entry) => !gone.has(nameOf(entry))).concat(add))
  }

  async rewrite(entries: readonly Entry[]): Promise<void> {
    await this.#ways.restore()
    this.#ways.locks = entries.filter(isLock)
    const next = new Map<string, Lease[]>()
    for (const lease of entries.filter(isLease)) {
      const name = wayName(lease)
      next.set(name, [...(next.get(name) ?? []), lease])
      if (!this.#ways.has(lease)) this.#ways.add(newWay(lease, lease.id, lease.key))
    }
    const works = this.#ways.all().map((way): Work => ({ way, next: next.get(wayName(way)) ?? [] }))
    const ends = works.filter((work) => work.next.length === 0)
    const isToOpen = ({ way, next }: Work) => next.length > 0 && (!way.isOpen || (this.#isTimed && endOf(next) !== way.end))
    const openings = works.filter(isToOpen)
    for (const work of works) if (work.next.length > 0 && !isToOpen(work)) work.way.leases = work.next
    const unwritten = await this.#ways.write([...ends, ...openings])
    const failures = [...(await this.#closeAll(ends)), ...(await this.#openAll(openings, unwritten))]
    await this.#ways.write([])
    if (failures.length > 0) throw new Error(failures[0])
  }

  // ---- the program

  /** @returns why leases could not be ended that were to be */
  async #closeAll(works: readonly Work[]): Promise<string[]> {
    const failures: string[] = []
    let hung: ProgramError | null = null
    const began = steadyNow()
    // What has not failed yet comes first: it must not wait for what fails again and again.
    for (const { way } of [...works].sort((a, b) => a.way.failures - b.way.failures)) {
      way.isOpen = false
      way.isEnding = true
      const isLate = way.failures > 0 && steadyNow() - began > ROUND
      if (way.notBefore <= steadyNow() && !isLate) {
        const error: ProgramError | null = hung ?? (await this.#call('close', this.#config.close, way, way.leases))
        if (!error) {
          this.#ways.forget(way)
          continue
        }
        if (error.isHung) hung = error
        putOff(way, error.message)
      }
      if (way.leases.length > 0) failures.push(way.reason)
      else this.#tell(way)
    }
    return failures
  }

  /**
   * @param unwritten why it could not be written down; then nothing is opened
   * @returns why leases could not be opened, or their ways not for fewer of them
   */
  async #openAll(works: readonly Work[], unwritten: string | null): Promise<string[]> {
    const failures: string[] = []
    let hung: ProgramError | null = null
    for (const { way, next } of works) {
      const before = new Set(way.leases.map(nameOf))
      const isNew = next.some((lease) => !before.has(nameOf(lease)))
      const isAsked = isNew || next.length < before.size
      if (isNew || way.notBefore <= steadyNow()) {
        const isTooMany = !way.isTouched && this.#ways.size > MAX_WAYS
        const obstacle = unwritten ?? (isTooMany ? 'too many leases could not be closed' : null)
        const error: ProgramError | null =
          obstacle === null ? (hung ?? (await this.#open(way, next))) : new ProgramError(obstacle)
        if (!error) continue
        if (error.isHung) hung = error
        if (way.leases.length > 0 || error.isHung) putOff(way, error.message)
        else way.reason = error.message
      }
      if (isAsked) failures.push(way.reason)
      else this.#tell(way)
      // One that the program has never been asked to open need not be closed.
      if (!way.isTouched) this.#ways.forget(way)
    }
    return failures
  }

  /** @returns why it has failed: then it may be open all the same */
  async #open(way: Opened, next: readonly Lease[]): Promise<ProgramError | null> {
    way.isOpen = way.isEnding = false
    way.isTouched = true
    const error = await this.#call('open', this.#config.open, way, next)
    if (error) return error
    Object.assign(way, { leases: next, isOpen: true, end: endOf(next), failures: 0, notBefore: 0 })
    return null
  }

  /** @returns why it has failed */
  async #call(act: string, words: Words, way: Opened, leases: readonly Lease[]): Promise<ProgramError | null> {
    const { address, protocol, port, lease, key } = way
    const values = { address, protocol, port: `${port}`, seconds: `${this.#secondsOf(leases)}`, lease, key }
    try {
      this.#note(act, await runProgram(fill(words, values), this.#config.timeLimit), way)
      return null
    } catch (error) {
      return error instanceof ProgramError ? error : new ProgramError(inOneLine(error))
    }
  }

  #note(act: string, { shown }: Printed, way?: Way): void {
    const about = way ? { address: way.address, service: formatService(way) } : {}
    this.#log.debug({ act, ...about, printed: shown }, "ran the user's program")
  }

  /** For how long a way is to be open; 0: until it is closed, as it is for none */
  #secondsOf(leases: readonly Lease[]): number {
    if (leases.length === 0 || endOf(leases) === null) return 0
    return Math.max(1, Math.ceil(Math.max(...leases.map(this.#left)) / 1000))
  }

  /** Tells of what fails and nobody waits for. */
  #tell(way: Opened): void {
    if (!this.#quiet.may(wayName(way), steadyNow())) return
    const { address, reason } = way
    this.#log.error({ address, service: formatService(way), reason }, 'cannot change the firewall rules')
  }

  // ---- what is open

  /** Compares what the program lists with our account, now and then. */
  async #lookAtList(): Promise<void> {
    const { list, timeLimit } = this.#config
    if (!list || steadyNow() < this.#listedNext) return
    const printed = await runProgram(list, timeLimit).catch((error: Error) => error)
    this.#listedNext = steadyNow() + LIST_PACE
    if (printed instanceof Error) {
      const reason = inOneLine(printed)
      if (this.#quiet.may('list', steadyNow())) this.#log.warn({ reason }, 'cannot list what the program has opened')
      return
    }
    this.#note('list', printed)
    const { ways, odd } = readListed(printed.output)
    // Once: what is odd today is so tomorrow.
    if (odd !== null && this.#quiet.may('odd', 0))
      this.#log.warn({ line: odd.slice(0, MAX_LINE) }, "cannot understand a line of the program's list")
    const there = new Set(ways.map(wayName))
    // What ends meanwhile may have ended there already. A line that is not understood may be any way's.
    const isLost = (way: Opened) =>
      way.isOpen && !there.has(wayName(way)) && way.leases.some((lease) => this.#left(lease) > timeLimit * 1000)
    const lost = odd === null ? this.#ways.all().filter(isLost) : []
    for (const way of lost) way.isOpen = false
    if (lost.length > 0) this.#log.warn({ count: lost.length }, "the program's list lacks open leases: opening them again")
    const room = Math.max(0, MAX_WAYS - this.#ways.size)
    const strays = ways.filter((way) => !this.#ways.has(way)).slice(0, room)
    for (const { lease, ...way } of strays) {
      const stray = Object.assign(newWay(way, lease ?? UNKNOWN, UNKNOWN), { isEnding: true, isTouched: true })
      this.#ways.add(stray)
    }
    if (strays.length > 0) this.#log.warn({ count: strays.length }, 'the program lists what no lease opens: closing it')
  }
}

/** Characters of a line of a list that are said back. */
const MAX_LINE = 100
