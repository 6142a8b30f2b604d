import { acceptedWindows } from '../../src/gate/clock'
import type { Knock } from '../../src/gate/knock'
import { freshBase, Ledger, type LedgerRecord, rebased } from '../../src/gate/ledger'
import { keyOf, requestOf, WINDOW } from '../gate/listener/ear'

/*
 * The ledger's crash argument (claim, append, sync, act; crash anywhere; restart) as a state machine around the real Ledger, explored
 * completely: every order in which knocks are sent and sent again, their lines are written and synced, doors are opened, the daemon
 * is killed and restarted, and the clock is set.
 */

const KEY = keyOf(1)
const FINGERPRINT = 'c0ffee'
/** With more states than this, the bounds are too wide to be explored in a test. */
const MAX_STATES = 2_000_000

/** What is explored: how often each thing may happen. Knocks may be sent any number of times. */
export interface Bounds {
  /** The windows of the knocks, counted from the one that the clock is in. */
  readonly knocks: readonly number[]
  /** The skew at the start, and those that a restart may bring. */
  readonly skews: readonly number[]
  readonly crashes: number
  /** How often the clock is set, and by how many seconds each time. */
  readonly clocks: number
  readonly steps: readonly number[]
  /** Syncs that fail: then nobody knows what is on the disk. */
  readonly failures: number
  /** Crashes that take the ledger along. */
  readonly losses: number
  /** How often someone rebases the ledger while the daemon is down. */
  readonly rebases?: number
}

/** What a daemon does; a test adds a fault, and the checker must find its consequences. */
export interface Conduct {
  /** Whether a door is opened for a knock whose line is written and not yet synced. */
  readonly actsBeforeSync: boolean
  /** Whether claims are looked up on the disk alone, so that two in flight don't know of each other. */
  readonly claimsOnDisk: boolean
  /** Whether knocks for future windows are refused without being claimed. */
  readonly forgetsFuture: boolean
  /** What a restart makes of what it has read from a whole or a damaged ledger. */
  readonly read: (records: readonly LedgerRecord[], damaged: boolean) => readonly LedgerRecord[]
  /** Whether a daemon whose ledger is lost or damaged starts without a wait. */
  readonly startsAtOnce: boolean
  /** What a rebase makes of the records. */
  readonly rebase: (records: readonly LedgerRecord[], wall: number, skew: number) => LedgerRecord[]
}

export const CONDUCT: Conduct = {
  actsBeforeSync: false,
  claimsOnDisk: false,
  forgetsFuture: false,
  read: (records) => records,
  startsAtOnce: false,
  rebase: rebased,
}

/** The result of the exploration: how much it has seen, and the shortest way to a broken promise, if there is one. */
export interface Explored {
  readonly states: number
  readonly steps: number
  readonly broken: { readonly promise: string; readonly way: readonly string[] } | null
}

/** A knock that is claimed in memory, and has not acted yet. */
interface Claimed {
  readonly knock: number
  readonly arrival: 'timely' | 'future'
  readonly record: LedgerRecord
}

/** A daemon that runs: what it has read, what it has claimed since, what it is writing, whose doors it is about to open. */
interface Life {
  readonly skew: number
  readonly began: readonly LedgerRecord[]
  readonly claims: readonly Pick<Claimed, 'knock' | 'arrival'>[]
  readonly writing: readonly Claimed[]
  readonly ready: readonly number[]
  /** Whether the file must be rewritten before anything counts as durable. */
  readonly doubtful: boolean
}

/** Everything that exists at a moment; never changed, only replaced. */
interface State {
  /** Unix seconds */
  readonly wall: number
  readonly life: Life | null
  /** What is safe on the disk, what may be on it in part since a sync has failed, and whether the file is damaged or gone. */
  readonly disk: readonly LedgerRecord[]
  readonly doubt: readonly LedgerRecord[]
  readonly damaged: boolean
  /** For each knock: the doors that it has opened, over all lives; and whether it was refused because its window is in the future. */
  readonly acted: readonly number[]
  readonly refused: readonly boolean[]
  readonly left: Readonly<Record<'crashes' | 'clocks' | 'failures' | 'losses' | 'rebases', number>>
}

type Step = readonly [what: string, next: State]

/** Explores every state that can be reached, the nearest first. */
export function explore(bounds: Bounds, conduct: Conduct = CONDUCT): Explored {
  const { crashes, clocks, failures, losses, rebases = 0 } = bounds
  const first: State = {
    wall: (WINDOW + 0.5) * KEY.period,
    life: { skew: bounds.skews[0], began: [], claims: [], writing: [], ready: [], doubtful: false },
    disk: [],
    doubt: [],
    damaged: false,
    acted: bounds.knocks.map(() => 0),
    refused: bounds.knocks.map(() => false),
    left: { crashes, clocks, failures, losses, rebases },
  }
  const model = new Model(bounds, conduct)
  /** How each state was reached first. */
  const from = new Map<string, { before: string; what: string } | null>([[JSON.stringify(first), null]])
  let taken = 0
  // What is added on the way is visited, too.
  for (const name of from.keys()) {
    for (const [what, next] of model.steps(JSON.parse(name))) {
      taken++
      const reached = JSON.stringify(next)
      if (from.has(reached)) continue
      from.set(reached, { before: name, what })
      const promise = model.brokenIn(next)
      if (promise) return { states: from.size, steps: taken, broken: { promise, way: wayTo(reached, from) } }
      if (from.size > MAX_STATES) throw new Error(`expected at most ${MAX_STATES} states: narrow the bounds`)
    }
  }
  return { states: from.size, steps: taken, broken: null }
}

function wayTo(name: string, from: ReadonlyMap<string, { before: string; what: string } | null>): string[] {
  const how = from.get(name)
  return how ? [...wayTo(how.before, from), how.what] : []
}

/** What may happen next, and what must never have happened. */
class Model {
  readonly #bounds: Bounds
  readonly #conduct: Conduct

  constructor(bounds: Bounds, conduct: Conduct) {
    this.#bounds = bounds
    this.#conduct = conduct
  }

  /** The promise that a state has broken, if any. */
  brokenIn(state: State): string | null {
    for (const knock of state.acted.keys()) {
      if (state.acted[knock] > 1) return 'no knock acts twice'
      if (state.acted[knock] > 0 && state.refused[knock]) return 'a knock that was refused as a future one never acts'
      // Judged by what a daemon would read that starts now, on a disk that has only what was synced.
      if (state.acted[knock] > 0 && this.#isFree(knock, this.#readAtStart(state))) return 'a knock that has acted is durable'
    }
    return null
  }

  *steps(state: State): Generator<Step> {
    const { life } = state
    if (state.left.clocks > 0) yield* this.#clock(state)
    if (!life) {
      yield* this.#rebase(state)
      return yield* this.#start(state)
    }
    yield* this.#say(state, life)
    yield* this.#sync(state, life)
    yield* this.#act(state, life)
    yield* this.#crash(state, life)
  }

  *#clock(state: State): Generator<Step> {
    for (const step of this.#bounds.steps) {
      const left = { ...state.left, clocks: state.left.clocks - 1 }
      yield [`the clock is set by ${step} s`, { ...state, wall: state.wall + step, left }]
    }
  }

  /** Any knock at any time, from anyone. A refusal leaves everything as it was, and so is no step. */
  *#say(state: State, life: Life): Generator<Step> {
    const { first, last } = acceptedWindows(state.wall * 1000, KEY.period, life.skew)
    for (const knock of this.#bounds.knocks.keys()) {
      const window = this.#window(knock)
      if (window < first) continue
      const arrival = window > last ? 'future' : 'timely'
      if (arrival === 'future' && this.#conduct.forgetsFuture) {
        yield [`${nameOf(knock)} is sent, and is ${arrival}`, refuse(state, knock)]
        continue
      }
      const record = this.#claim(state, life, knock, arrival)
      if (!record) continue
      const claims = [...life.claims, { knock, arrival } as const]
      const writing = [...life.writing, { knock, arrival, record } as const]
      yield [`${nameOf(knock)} is sent and claimed`, { ...state, life: { ...life, claims, writing } }]
    }
  }

  /** One line or more are appended and synced; or the whole file is rewritten, as when it has grown or a sync has failed. */
  *#sync(state: State, life: Life): Generator<Step> {
    const { writing } = life
    if (writing.length === 0) return
    for (let count = 1; count <= writing.length && !life.doubtful; count++) {
      const disk = [...state.disk, ...writing.slice(0, count).map(({ record }) => record)]
      yield [`${count} of ${writing.length} lines are synced`, synced({ ...state, disk }, life, count)]
    }
    const disk = [...this.#ledger(life).records()]
    const anew = { ...state, disk, doubt: [], damaged: false }
    yield ['the ledger is rewritten', synced(anew, { ...life, doubtful: false }, writing.length)]
    if (state.left.failures === 0) return
    const left = { ...state.left, failures: state.left.failures - 1 }
    const doubt = life.doubtful ? state.doubt : writing.map(({ record }) => record)
    yield ['the disk fails', { ...state, doubt, life: { ...life, writing: [], doubtful: true }, left }]
  }

  *#act(state: State, life: Life): Generator<Step> {
    const early = this.#conduct.actsBeforeSync ? life.writing.map(({ knock }) => knock) : []
    for (const knock of new Set([...life.ready, ...early])) {
      const ready = life.ready.filter((other) => other !== knock)
      const acted = state.acted.with(knock, state.acted[knock] + 1)
      yield [`${nameOf(knock)} opens its door`, { ...state, acted, life: { ...life, ready } }]
    }
  }

  /** Any part of what was being written is on the disk; the file's length may be there without it, which is damage. */
  *#crash(state: State, life: Life): Generator<Step> {
    const rest = { ...state, life: null, doubt: [] }
    if (state.left.crashes > 0) {
      const left = { ...state.left, crashes: state.left.crashes - 1 }
      const loose = life.doubtful ? state.doubt : life.writing.map(({ record }) => record)
      for (let count = 0; count <= loose.length; count++) {
        const next = { ...rest, disk: [...state.disk, ...loose.slice(0, count)], left }
        yield [`it is killed, and ${count} of ${loose.length} lines are on the disk`, next]
        if (count < loose.length)
          yield [`it is killed, and the disk has ${count} lines and the length of more`, { ...next, damaged: true }]
      }
    }
    if (state.left.losses > 0) {
      const left = { ...state.left, losses: state.left.losses - 1 }
      yield ['it is killed, and its ledger is lost', { ...rest, disk: [], damaged: true, left }]
    }
  }

  /** What a daemon would have read, with a base of now in place of the earlier ones. */
  *#rebase(state: State): Generator<Step> {
    if (state.left.rebases === 0) return
    const left = { ...state.left, rebases: state.left.rebases - 1 }
    for (const skew of this.#bounds.skews) {
      const records = this.#conduct.rebase(this.#readAtStart(state, skew), state.wall * 1000, skew)
      yield [`its ledger is rebased with a skew of ${skew}`, { ...state, disk: records, damaged: false, left }]
    }
  }

  /** It reads its ledger and rewrites it, which may fail. */
  *#start(state: State): Generator<Step> {
    for (const skew of this.#bounds.skews) {
      const began = this.#readAtStart(state, skew)
      const life: Life = { skew, began, claims: [], writing: [], ready: [], doubtful: false }
      const disk = [...this.#ledger(life).records()]
      yield [`it is started with a skew of ${skew}`, { ...state, life, disk, damaged: false }]
      if (state.left.failures === 0) continue
      const left = { ...state.left, failures: state.left.failures - 1 }
      yield [`it is started with a skew of ${skew}, and cannot write`, { ...state, life: { ...life, doubtful: true }, left }]
    }
  }

  // ---- the real ledger

  #readAtStart({ disk, damaged, wall }: State, skew = this.#bounds.skews[0]): LedgerRecord[] {
    const base = damaged && !this.#conduct.startsAtOnce ? [freshBase(wall * 1000, skew)] : []
    return [...this.#conduct.read(disk, damaged), ...base]
  }

  /** The ledger of a life, brought to its state by the claims that it has had. */
  #ledger({ began, claims, skew }: Life, appended: LedgerRecord[] = []): Ledger {
    const ledger = ledgerOf(began, skew, appended)
    for (const { knock, arrival } of claims) ledger.note(this.#knock(knock, arrival), FINGERPRINT)
    appended.length = 0
    return ledger
  }

  /** @returns the record of a knock that was free, or null */
  #claim(state: State, life: Life, knock: number, arrival: 'timely' | 'future'): LedgerRecord | null {
    const appended: LedgerRecord[] = []
    const ledger = this.#conduct.claimsOnDisk ? ledgerOf(state.disk, life.skew, appended) : this.#ledger(life, appended)
    const { outcome } = ledger.note(this.#knock(knock, arrival), FINGERPRINT)
    return outcome === 'spent' ? appended[0] : null
  }

  #isFree(knock: number, records: readonly LedgerRecord[]): boolean {
    return ledgerOf(records, this.#bounds.skews[0], []).note(this.#knock(knock, 'timely'), FINGERPRINT).outcome === 'spent'
  }

  #window(knock: number): number {
    return WINDOW + this.#bounds.knocks[knock]
  }

  #knock(knock: number, arrival: Knock['arrival']): Knock {
    const window = this.#window(knock)
    return {
      key: KEY,
      window,
      v: nameOf(knock),
      arrival,
      source: '198.51.100.2',
      destination: '198.51.100.1',
      heard: 0,
      request: REQUEST,
    }
  }
}

const REQUEST = requestOf(1)

const ledgerOf = (records: readonly LedgerRecord[], skew: number, appended: LedgerRecord[]): Ledger =>
  new Ledger(records, { append: async (record) => void appended.push(record) }, skew)

/** The first lines of those that were being written are durable now. */
function synced(state: State, life: Life, count: number): State {
  const durable = life.writing.slice(0, count)
  const ready = durable.filter(({ arrival }) => arrival === 'timely').map(({ knock }) => knock)
  const next = { ...state, life: { ...life, writing: life.writing.slice(count), ready: [...life.ready, ...ready] } }
  return durable.filter(({ arrival }) => arrival === 'future').reduce<State>((next, { knock }) => refuse(next, knock), next)
}

const refuse = (state: State, knock: number): State => ({ ...state, refused: state.refused.with(knock, true) })

const nameOf = (knock: number): string => 'ab'[knock]
