import { vi } from 'vitest'
import { FleetLedger } from '../../src/daemon/fleet/claims'
import type { Etcd, Outcome, Transaction } from '../../src/daemon/fleet/etcd/etcd'
import { floorRow, formatWindow, gatewayRow, spentRow } from '../../src/daemon/fleet/rows'
import { acceptedWindows } from '../../src/gate/clock'
import { foundation, PlainLink } from '../daemon/fleet/plain-link'
import { type Held, Twin } from '../daemon/fleet/twin'
import { Disk, KEY, knock, type Saying } from '../gate/disk'
import { MIDDLE, WINDOW } from '../gate/listener/ear'

/*
 * Two gateways that share a ledger, explored completely: the real claims on the twin of etcd, in every order in which knocks are heard here and
 * there, requests arrive, are done twice, are answered or lost, a gateway is cut off from etcd, is killed and begins anew, time passes, and
 * etcd is restored. No state of real code can be copied: each way is gone again from its beginning.
 */

/** What is explored: how often each thing may happen. */
export interface Bounds {
  /** The windows of the knocks, counted from the one that a right clock is in. */
  readonly knocks: readonly number[]
  /** How often a gateway hears a knock, all in all. */
  readonly sayings: number
  /** Requests that nobody waits for any more; they may be done all the same, then or later. */
  readonly losses: number
  /** Requests that are done at another member again, before an answer comes. */
  readonly repeats: number
  readonly cuts: number
  readonly crashes: number
  /** How often 10 s pass. */
  readonly times: number
  /** How often etcd goes back to how it was before gateways have last beaten, every 10 s, while no gateway is cut off. */
  readonly restores: number
  /** By how many seconds the clock of the second gateway is off. */
  readonly off: number
  /** Whether the key has knocked before. */
  readonly hasFloor: boolean
  /** Who says knocks. */
  readonly sources: readonly string[]
  /** Whether a crash takes a gateway's file along. */
  readonly losesFiles: boolean
}

/** What a gateway does wrong; the checker must find what follows. */
export interface Conduct {
  /** What becomes of a transaction on its way. */
  readonly asks: (transaction: Transaction) => Transaction
  /** Whether a request without an answer is taken for one that was done. */
  readonly takesSilenceForYes: boolean
  /** Whether a claim takes any row of its own gateway for the one that was written last. */
  readonly forgetsBeats: boolean
  /** Whether every answer is believed, whatever etcd has forgotten. */
  readonly believesAll: boolean
}
export const CONDUCT: Conduct = {
  asks: (transaction) => transaction,
  takesSilenceForYes: false,
  forgetsBeats: false,
  believesAll: false,
}

export interface Explored {
  readonly states: number
  /** States in which a knock was said and nothing is under way any more; and those of them in which one was accepted. */
  readonly quiet: number
  readonly accepting: number
  readonly broken: { readonly promise: string; readonly way: readonly string[] } | null
}

/** With more states than this, the bounds are too wide to be explored in a test. */
const MAX_STATES = 50_000
const STEP = 10_000
/** The revision of what an etcd is begun with. */
const FIRST = 2
const YES: Outcome = { header: { cluster: '', revision: Number.MAX_SAFE_INTEGER, term: 2 }, held: true, done: [] }

/** A request that was sent, and what has become of it. */
interface Request {
  readonly gateway: number
  readonly name: string
  readonly held: Held
  done: number
  /** What was in etcd when it was last done. */
  saw: string
  /** Nobody waits for it. */
  isLost: boolean
}

/** A gateway in one of its lives. What it has heard and been told since it began decides what it will do. */
interface Gateway {
  readonly disk: Disk
  readonly twin: Twin
  readonly link: PlainLink
  ledger: FleetLedger
  life: number
  isCut: boolean
  /** The revision of its own row. */
  wrote: number
  /** What it remembers in memory alone. */
  log: string[]
}

interface Step {
  readonly what: string
  readonly take: () => void
}

type Counted = 'sayings' | 'losses' | 'repeats' | 'cuts' | 'crashes' | 'times' | 'restores'

export const TWICE = 'a knock is accepted once'
export const SPENT = 'a knock that is accepted is spent in etcd'
export const DEAD = 'a knock that was refused for doubt is not accepted by the same gateway'

/** Explores every state that can be reached, the nearest first. Fake timers are expected, and real immediates. */
export async function explore(bounds: Bounds, conduct: Conduct = CONDUCT): Promise<Explored> {
  const ways: (readonly number[])[] = [[]]
  const seen = new Set<string>()
  let quiet = 0
  let accepting = 0
  // What is added on the way is visited, too.
  for (const way of ways) {
    let world: World | null = await worldAfter(way, bounds, conduct)
    const count = world.steps.length
    for (let n = 0; n < count; n++) {
      const next: World = world ?? (await worldAfter(way, bounds, conduct))
      world = null
      await next.take(n)
      if (next.broken) return { states: seen.size, quiet, accepting, broken: { promise: next.broken, way: next.way } }
      if (seen.has(next.name)) continue
      seen.add(next.name)
      if (next.isQuiet) quiet++
      if (next.isQuiet && next.accepted.some((times) => times > 0)) accepting++
      ways.push([...way, n])
      if (seen.size > MAX_STATES) throw new Error(`expected at most ${MAX_STATES} states: narrow the bounds`)
    }
  }
  return { states: seen.size, quiet, accepting, broken: null }
}

async function worldAfter(way: readonly number[], bounds: Bounds, conduct: Conduct): Promise<World> {
  vi.clearAllTimers()
  const world = new World(bounds, conduct)
  for (const n of way) await world.take(n)
  return world
}

class World {
  readonly #bounds: Bounds
  readonly #conduct: Conduct
  readonly #twin = new Twin()
  readonly #gateways: readonly Gateway[]
  readonly #left: Record<Counted, number>
  #requests: Request[] = []
  #passed = 0
  #snapshot = this.#twin.store.snapshot()
  /** Attempt → whose it is: they are random. */
  readonly #attempts = new Map<string, string>()
  /** Knocks that were refused for doubt, by gateway. */
  readonly #doubted = new Set<string>()
  /** How often each knock was accepted. */
  readonly accepted: number[]
  readonly way: string[] = []
  broken: string | null = null

  constructor(bounds: Bounds, conduct: Conduct) {
    this.#bounds = bounds
    this.#conduct = conduct
    const { sayings, losses, repeats, cuts, crashes, times, restores } = bounds
    this.#left = { sayings, losses, repeats, cuts, crashes, times, restores }
    this.accepted = bounds.knocks.map(() => 0)
    this.#twin.store.transact(foundation())
    if (bounds.hasFloor) this.#twin.store.transact({ if: [], do: [{ put: floorRow(KEY, 30), value: formatWindow(0) }], else: [] })
    this.#gateways = [0, 1].map((at) => {
      const [disk, twin, link] = [new Disk(), this.#twin.beside(), new PlainLink(`gw${at + 1}`)]
      twin.always = 'held'
      if (conduct.believesAll) link.believes = () => true
      const gateway = { disk, twin, link, life: 0, isCut: false, wrote: FIRST, log: [] }
      link.isAhead = Math.max(0, at === 1 ? -bounds.off : bounds.off) * 1000
      return Object.assign(gateway, { ledger: this.#begin(gateway, at) })
    })
    this.#beat()
  }

  /** Gateways say that they are there, and whoever can't hears nothing. What is restored is older than that. */
  #beat(): void {
    const { store } = this.#twin
    this.#snapshot = store.snapshot()
    for (const gateway of this.#gateways) {
      const { isCut, link, wrote } = gateway
      if (isCut) {
        link.refused = 'the watch is old'
        continue
      }
      const row = gatewayRow(link.gateway)
      const put = { put: row, value: `${this.#passed}` }
      const { held } = store.transact({ if: [{ row, is: 'modified', revision: wrote }], do: [put], else: [put] })
      if (!held) link.doubt()
      gateway.wrote = store.header.revision
      if (held && !this.#conduct.forgetsBeats) link.beaten = gateway.wrote
    }
  }

  #begin({ disk, twin, link }: Pick<Gateway, 'disk' | 'twin' | 'link'>, at: number): FleetLedger {
    const etcd: Pick<Etcd, 'transact'> = {
      transact: (transaction) => this.#transact(twin, at, this.#conduct.asks(transaction)),
    }
    const setup = { skew: 1, timeout: 5_000, now: () => this.#now(at), warn: () => {} }
    return new FleetLedger(disk.start(), etcd as Etcd, link, setup)
  }

  #now(at: number) {
    return { wall: MIDDLE * 1000 + this.#passed + (at === 1 ? this.#bounds.off * 1000 : 0), steady: this.#passed }
  }

  async #transact(twin: Twin, at: number, transaction: Transaction): Promise<Outcome> {
    const { log } = this.#gateways[at]
    const asked = twin.transact(transaction)
    const held = twin.held.pop()
    const name = JSON.stringify(transaction)
    const [, row, attempt] = /"put":"([^"]+)","value":"{\\"attempt\\":\\"([0-9a-f]{32})/.exec(name) ?? []
    if (attempt !== undefined) this.#attempts.set(attempt, `${at} ${this.#gateways[at].life} ${row}`)
    if (held) this.#requests.push({ gateway: at, name, held, done: 0, saw: '', isLost: false })
    try {
      const outcome = await asked
      // Whoever hears so asks again, and remembers that.
      if (!outcome.held && outcome.done[2]?.rows.length === 0) log.push(`no floor ${row}`)
      return outcome
    } catch (error) {
      log.push(`no answer ${row} ${this.#passed}`)
      if (this.#conduct.takesSilenceForYes) return YES
      throw error
    }
  }

  // ---- what may happen

  get steps(): readonly Step[] {
    const gateways = [...this.#gateways.keys()]
    return [
      ...gateways.flatMap((at) => this.#sayings(at)),
      ...this.#requests.flatMap((request, n) => this.#fates(request, n)),
      ...gateways.flatMap((at) => [...this.#cut(at), ...this.#crash(at)]),
      ...this.#time(),
    ]
  }

  #sayings(at: number): Step[] {
    return this.#bounds.knocks.flatMap((_, n) =>
      this.#bounds.sources.flatMap((source) =>
        this.#spend('sayings', `${source} says knock ${n + 1} to gateway ${at + 1}`, () => this.#say(at, n, source)),
      ),
    )
  }

  #say(at: number, n: number, source: string): void {
    const gateway = this.#gateways[at]
    const window = WINDOW + this.#bounds.knocks[n]
    const { first, last } = acceptedWindows(this.#now(at).wall, 30, 1)
    const arrival = window < first ? 'stale' : window > last ? 'future' : 'timely'
    if (arrival === 'stale') return
    if (arrival === 'future' || gateway.link.refusal()) gateway.log.push(`${n} ${this.#passed}`)
    const { life } = gateway
    const saying: Saying = { window, v: `${n}`, source, arrival }
    void gateway.ledger.claim(knock(saying), KEY).then(({ outcome }) => {
      // What a process would do that is gone by now, it does not do.
      if (gateway.life !== life || arrival !== 'timely') return
      if (outcome === 'unavailable') this.#doubted.add(`${at} ${n}`)
      if (outcome === 'spent') this.#accept(at, n)
    })
  }

  #accept(at: number, n: number): void {
    const window = WINDOW + this.#bounds.knocks[n]
    const floor = this.#twin.store.rows.find(({ row }) => row === floorRow(KEY, 30))?.value ?? ''
    const isSpent =
      this.#rows.some(([row]) => row === spentRow(knock({ window, v: `${n}` }), KEY)) || floor > formatWindow(window)
    if (++this.accepted[n] > 1) this.broken = TWICE
    else if (!isSpent) this.broken = SPENT
    else if (!this.#bounds.losesFiles && this.#doubted.has(`${at} ${n}`)) this.broken = DEAD
  }

  #fates(request: Request, n: number): Step[] {
    const { gateway: at, held, done, isLost } = request
    const about = `request ${n + 1} of gateway ${at + 1}`
    const { isCut } = this.#gateways[at]
    const gone = () => {
      this.#requests = this.#requests.filter((other) => other !== request)
    }
    const perform = () => {
      request.saw = JSON.stringify(this.#rows)
      held.perform()
      request.done++
    }
    if (isLost) return [{ what: `${about} is done when nobody waits for it`, take: act(perform, gone) }]
    const arrives = isCut || done > 0 ? [] : [{ what: `${about} is done`, take: perform }]
    const again = isCut || done !== 1 ? [] : this.#spend('repeats', `${about} is done again at another member`, perform)
    const answered = isCut || done === 0 ? [] : [{ what: `${about} is answered`, take: act(() => held.answer(), gone) }]
    const lost = this.#spend('losses', `${about} stays without an answer`, () => {
      held.giveUp()
      if (done > 0) gone()
      else request.isLost = true
    })
    return [...arrives, ...again, ...answered, ...lost]
  }

  #cut(at: number): Step[] {
    const gateway = this.#gateways[at]
    if (!gateway.isCut)
      return this.#spend('cuts', `gateway ${at + 1} is cut off`, () => {
        gateway.isCut = true
      })
    const heal = () => {
      gateway.isCut = false
      gateway.link.refused = null
    }
    return [{ what: `gateway ${at + 1} is cut off no more`, take: heal }]
  }

  #crash(at: number): Step[] {
    const gateway = this.#gateways[at]
    return this.#spend('crashes', `gateway ${at + 1} is killed, and begins anew`, () => {
      gateway.life++
      gateway.log = []
      if (this.#bounds.losesFiles) gateway.disk.records = []
      gateway.ledger = this.#begin(gateway, at)
      for (const request of this.#requests) if (request.gateway === at) request.isLost = true
      this.#requests = this.#requests.filter(({ isLost, done }) => !isLost || done === 0)
    })
  }

  #time(): Step[] {
    const pass = this.#spend('times', '10 s pass', () => {
      this.#passed += STEP
      this.#beat()
      vi.advanceTimersByTime(STEP)
    })
    if (this.#gateways.some(({ isCut }) => isCut)) return pass
    const restore = this.#spend('restores', 'etcd is restored', () => {
      this.#twin.store.restore(this.#snapshot)
      for (const { held, isLost } of this.#requests) if (!isLost) held.giveUp()
      this.#requests = []
    })
    return [...pass, ...restore]
  }

  #spend(what: Counted, name: string, take: () => void): Step[] {
    if (this.#left[what] === 0) return []
    return [{ what: name, take: act(() => this.#left[what]--, take) }]
  }

  /** Takes the nth step, and waits until nothing goes on by itself any more. */
  async take(n: number): Promise<void> {
    const { what, take } = this.steps[n]
    this.way.push(what)
    take()
    await new Promise(setImmediate)
    vi.advanceTimersByTime(0)
    await new Promise(setImmediate)
  }

  // ---- what there is

  get #rows(): (readonly [row: string, value: string])[] {
    return this.#twin.store.rows.map(({ row, value }) => [row, value])
  }

  /** Whether a knock was said, and nothing is under way. */
  get isQuiet(): boolean {
    return this.#left.sayings < this.#bounds.sayings && this.#requests.length === 0
  }

  /** Everything that decides what can happen from here on. */
  get name(): string {
    const gateways = this.#gateways.map(({ life, isCut, link, disk, log, ledger }) => [
      ...[life, isCut, link.refusal(), disk.records, log, ledger.burning],
    ])
    const requests = this.#requests.map(({ gateway, name, done, saw, isLost }) =>
      JSON.stringify([gateway, name, done, saw, isLost]),
    )
    const snapshot = this.#left.restores > 0 ? [...this.#snapshot.rows.values()].map(({ row, value }) => [row, value]) : []
    const all = [
      this.accepted,
      [...this.#doubted].sort(),
      this.#left,
      this.#passed,
      gateways,
      requests.sort(),
      this.#rows,
      snapshot,
    ]
    return JSON.stringify(all).replace(/[0-9a-f]{32}/g, (id) => this.#attempts.get(id) ?? id)
  }
}

/** Both, one after the other. */
const act = (first: () => void, then: () => void) => () => {
  first()
  then()
}
