import type { Config } from '../../daemon/config'
import { judgePasscodes } from '../../daemon/passcode-rules'
import { loadServerKeys } from '../../daemon/server-keys'
import { tapRulesOf } from '../../daemon/tap-rules'
import type { ServerKey } from '../../gate/server-key'
import { type Cidr, inCidr } from '../../protocol/address'
import { Fault, inOneLine } from '../../system/fault'
import { asOwner } from '../../system/files'
import { wholeConfig } from '../config'
import { Bursts } from './bursts'
import { SaidCodes } from './codes'
import { Findings, type Found } from './findings'
import { Pipeline } from './pipeline'
import { openRecording, type Recording, tapsOf } from './recording'

/* Runs a recording through a daemon that opens nothing, and says of each source what was heard. */

/** Milliseconds of work after which the rest of a recording is left: somebody waits for the answer. */
const TIME_LIMIT = 120_000
/** Sources that are told of by name. */
const MAX_SOURCES = 65_536

/** What is asked of a replay. */
export interface ReplayOptions {
  /** The config's path. */
  readonly config: string
  /** The keyring's folder; absent: the config's. */
  readonly keys?: string | undefined
  /** When the first tap was, in Unix milliseconds; absent: as the recording says. */
  readonly at?: number | undefined
  /** Whose taps alone are heard; absent: everybody's. */
  readonly from?: Cidr | undefined
}

/** What a source has said. */
export interface ReplayedSource {
  readonly source: string
  /** The address that it has touched: what it says to another is told by itself. */
  readonly destination: string
  /** Its first and last tap, in Unix milliseconds. */
  readonly first: number
  last: number
  taps: number
  /** In the order of time. */
  readonly heard: Found[]
}

/** What a replay has come to. */
export interface Replayed {
  readonly format: string
  /** Packets or lines, those that are no taps, and those of the firewall's log that can't be read. */
  readonly seen: number
  readonly ignored: number
  readonly unreadable: number
  readonly taps: number
  /** The first and the last tap, in Unix milliseconds; null where there is none. */
  readonly first: number | null
  readonly last: number | null
  readonly keys: number
  readonly sources: readonly ReplayedSource[]
  /** Taps of sources beyond those, and bursts for which there was no room. */
  readonly left: number
  /** Why it was not read to its end; null: it was. */
  readonly cut: string | null
}

/**
 * Runs a recording through the pipeline, by its own clock. Nothing is opened, and nothing written: the ledger is in memory, and begins empty.
 * @param file its path, or `-`: standard input
 * @param warn told of keys that can't be used
 * @param now Unix milliseconds
 * @throws {Fault} where it can't be read, or no key can be used
 */
export async function replay(
  file: string,
  options: ReplayOptions,
  warn: (message: string) => void,
  now: number,
): Promise<Replayed> {
  const config = await wholeConfig(options.config)
  const folder = options.keys ?? config.keys
  const keys = await keysOf(folder, config, warn, now)
  const { ranges } = tapRulesOf(keys, config)
  const hearing = { prefix: config.taps.prefix, ranges, datagrams: config.datagram.ports, at: options.at ?? null, now }
  let recording: Recording | undefined
  const moments = tapsOf(await openRecording(file), file, hearing, (begun) => {
    recording = begun
  })
  const run = new Run(config, keys, options.from)
  const began = performance.now()
  let cut: string | null = null
  for await (const taps of moments) {
    for (const { tap, at } of taps) {
      await run.hear(tap, at)
      if (performance.now() - began > TIME_LIMIT) cut = `it took longer than ${TIME_LIMIT / 1000} s`
      if (cut) break
    }
    if (cut) break
  }
  const heard = await run.end()
  const { format, counters, broken } = recording as unknown as Recording
  return { format, ...counters, ...heard, keys: keys.length, cut: cut ?? broken }
}

/** The keys as the daemon would load them. */
async function keysOf(
  folder: string,
  config: Config,
  warn: (message: string) => void,
  now: number,
): Promise<readonly ServerKey[]> {
  const { server, datagram } = config
  const loaded = await asOwner(folder, () => loadServerKeys(folder, server, { datagrams: datagram.ports }))
  const judged = judgePasscodes(loaded.keys, config, now)
  for (const fault of [...loaded.faults, ...loaded.unread, ...judged.faults]) warn(inOneLine(fault))
  if (judged.keys.length === 0)
    throw new Fault(`${folder}: contains no usable key`, { hint: 'make one with "knockturn key new"' })
  return judged.keys
}

/** A replay under way. */
class Run {
  readonly #config: Config
  readonly #keys: readonly ServerKey[]
  readonly #from: Cidr | undefined
  readonly #sources = new Map<string, ReplayedSource>()
  readonly #bursts = new Bursts()
  readonly #codes: SaidCodes | null
  readonly #findings: Findings
  #pipeline: Pipeline | null = null
  #taps = 0
  #left = 0
  #first: number | null = null
  #last: number | null = null

  constructor(config: Config, keys: readonly ServerKey[], from: Cidr | undefined) {
    const { base, pinDigits } = config.passcode
    this.#config = config
    this.#keys = keys
    this.#from = from
    this.#codes = keys.some((key) => key.passcode) ? new SaidCodes(base, pinDigits) : null
    this.#findings = new Findings(config, keys)
  }

  async hear(tap: Parameters<Pipeline['hear']>[0], at: number): Promise<void> {
    if (this.#from && !inCidr(this.#from, tap.source)) return
    this.#taps++
    this.#first ??= at
    this.#last = at
    this.#note(tap.source, tap.destination, at)
    if (!this.#codes?.add(tap, at)) this.#bursts.add(tap, at)
    if (!this.#pipeline) {
      this.#pipeline = new Pipeline(this.#config, this.#keys, at, (verdict) => this.#findings.judged(verdict))
      await this.#pipeline.begin()
    }
    await this.#pipeline.hear(tap, at)
  }

  async end(): Promise<Pick<Replayed, 'taps' | 'first' | 'last' | 'sources' | 'left'>> {
    await this.#pipeline?.end()
    this.#bursts.end()
    const found = this.#findings.all(this.#bursts, this.#codes?.kept ?? [])
    const sources = [...this.#sources.values()]
    // The last to be set is the first that was seen.
    const bySource = new Map(sources.toReversed().map((its) => [its.source, its]))
    for (const one of found) {
      // What was refused unread names no address that was touched.
      const source = one.destination === null ? bySource.get(one.source) : this.#sources.get(`${one.source} ${one.destination}`)
      source?.heard.push(one)
    }
    for (const { heard } of sources) heard.sort((a, b) => a.at - b.at)
    const left = this.#left + this.#bursts.lost + (this.#codes?.lost ?? 0) + this.#findings.lost
    return { taps: this.#taps, first: this.#first, last: this.#last, sources, left }
  }

  #note(source: string, destination: string, at: number): void {
    const name = `${source} ${destination}`
    const known = this.#sources.get(name)
    if (known) {
      known.taps++
      known.last = at
    } else if (this.#sources.size < MAX_SOURCES) {
      this.#sources.set(name, { source, destination, first: at, last: at, taps: 1, heard: [] })
    } else this.#left++
  }
}
