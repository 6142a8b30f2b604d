import type { Header, Row } from './etcd/etcd'
import { History } from './history'
import { LogLength } from './log-length'
import type { FleetMemory } from './memory'
import { MAX_LEAP } from './repair'
import { type Base, type BaseRow, parseBase } from './rows'

/** What a gateway knows of the base that it goes by. */
type KnownBase = Pick<Base, 'fleet' | 'epoch' | 'seconds'>

/** What a look at the base has come to. */
type BaseFound =
  | ({ readonly is: 'same' | 'later' } & BaseRow)
  /** A person has to do something. */
  | { readonly is: 'setup'; readonly why: string; readonly base: Base | null }
  /** etcd has forgotten something. */
  | { readonly is: 'restored'; readonly why: string; readonly base: Base | null }

/** Judges the base that etcd has. @param row null: it has none @param known the base that this gateway goes by @param server its label */
function judgeBase(row: Pick<Row, 'value'> | null, known: KnownBase, server: string): BaseFound {
  if (!row) return { is: 'restored', why: 'it has no base', base: null }
  const base = parseBase(row.value)
  const setup = (why: string): BaseFound => ({ is: 'setup', why, base })
  if (!base) return setup('the base in etcd cannot be read: a later version may have written it')
  if (base.fleet !== known.fleet) return setup('etcd has another fleet than the one that this gateway has joined')
  if (base.server !== server) return setup(`the fleet is of the server "${base.server}", and this gateway of "${server}"`)
  if (base.epoch > known.epoch + MAX_LEAP)
    return setup(`the base is of epoch ${base.epoch}, and this gateway knows ${known.epoch}: run "knockturn fleet floor"`)
  const isSame = base.epoch === known.epoch && base.seconds === known.seconds
  if (base.epoch <= known.epoch && !isSame) return { is: 'restored', why: 'its base is older than the known one', base }
  return { is: isSame ? 'same' : 'later', base, value: row.value }
}

/** Whether what etcd says is believed, and from when on it knows the past. */
export class Trust {
  readonly #server: string
  readonly #history: History
  readonly log: LogLength
  #known: KnownBase
  #found: { readonly base: Base | null; readonly value: string | null } | null = null
  #trusted: BaseRow | null = null
  #restored: string | null
  #setup: string | null = null

  /** @param server this gateway's label */
  constructor(memory: FleetMemory, server: string) {
    const { fleet, epoch, seconds, restored } = memory
    this.#server = server
    this.#known = { fleet, epoch, seconds }
    this.#history = new History(memory)
    this.log = new LogLength(memory.reached)
    this.#restored = restored ? 'an earlier run has found it so' : null
  }

  /** The base that the claims of this gateway name; null: none is trusted. */
  get base(): BaseRow | null {
    return this.#restored === null && this.#setup === null ? this.#trusted : null
  }
  /** Why etcd is one that has forgotten something; null: it is not. */
  get restored(): string | null {
    return this.#restored
  }
  /** What a person has to do before this gateway can be one of the fleet; null: nothing. */
  get setup(): string | null {
    return this.#setup
  }
  /** The base that this gateway goes by. */
  get known(): KnownBase {
    return this.#known
  }
  /** The base that etcd has, and its text, as it was read last; null: nobody has looked yet. */
  get found(): { readonly base: Base | null; readonly value: string | null } | null {
    return this.#found
  }
  get newest(): Header {
    return this.#history.newest
  }

  mark(): number {
    return this.#history.mark()
  }

  /** Whether an answer is by the etcd that is known. One that has forgotten something is noted. @param mark of before its request was sent */
  believes(mark: number, header: Header): boolean {
    // Nothing follows from it: it was sent to an etcd that has been let go of meanwhile.
    if (this.#restored !== null || this.#history.isForeign(mark)) return false
    const why = this.#history.judge(mark, header)
    if (why === null) this.#history.note(header)
    else this.#restored = why
    return why === null
  }

  /** etcd has forgotten something, as another sign says. */
  distrust(why: string): void {
    this.#restored ??= why
  }

  /** A revision that was seen in what is watched. */
  noteRevision(revision: number): void {
    if (this.#restored === null) this.#history.noteRevision(revision)
  }

  /**
   * Takes over the base that etcd has, as an answer has it.
   * @param mark of before its request was sent
   * @returns a later one is gone by now, which is to be remembered at once: `adopted`, or `repaired`, of an etcd that has forgotten something
   */
  read(row: Row | null, mark: number, header: Header): 'adopted' | 'repaired' | null {
    const found = judgeBase(row, this.#known, this.#server)
    this.#found = { base: found.base, value: row?.value ?? null }
    this.#setup = found.is === 'setup' ? found.why : null
    // Another fleet's etcd is no restored one of ours.
    if (found.is === 'setup') return null
    this.believes(mark, header)
    if (found.is === 'restored') {
      this.#restored ??= found.why
      return null
    }
    const { base, value } = found
    this.#trusted = { base, value }
    if (found.is === 'same') return null
    this.#known = base
    // What was known is of an etcd that is no more: this one is known from its new base on.
    const isRepaired = this.#restored !== null
    if (isRepaired && row) this.#history.beginAnew(row.modified)
    // So may be the log, where nobody has told: what is older than the new base opens nothing in either.
    this.log.beginAnew()
    this.#restored = null
    return isRepaired ? 'repaired' : 'adopted'
  }
}
