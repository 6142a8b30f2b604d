import type { Now } from '../../gate/clock'
import { reason } from '../../system/fault'
import type { Beats } from './beats'
import { Compaction } from './compaction'
import type { Etcd, Header, Row, Watching } from './etcd/etcd'
import type { GatewayWord, KeysWord } from './gateway-row'
import type { Link, SharedRows } from './link'
import { LogQuestion } from './log-length'
import { raisedBase, raising } from './repair'
import { BASE, type Base, COMPACTED, gatewayRow, keysRow, readShared } from './rows'
import { SharedWatch } from './shared-watch'
import { Standing, type StandingSetup } from './standing'

/** Milliseconds between two writes of the memory: it may lag behind, and only so much of etcd's history is told less well. */
const REMEMBER = 10_000

/** What a link needs of its daemon. */
export interface LinkSetup extends StandingSetup {
  readonly etcd: Etcd
  /** This gateway's name. */
  readonly gateway: string
  /** Version and commit. */
  readonly program: string
  /** Keeps what {@link Standing.memory} has by then, durably. It never rejects. */
  remember(): Promise<void>
  keys(): KeysWord
  about(): Pick<GatewayWord, 'lastTap' | 'leases' | 'locks'>
  /** What has become of the base: this gateway has raised it, or goes by a later one. */
  told(what: 'raised' | 'adopted', base: Pick<Base, 'epoch' | 'seconds'>): void
  readonly now: () => Now
}

/** What a gateway knows of its fleet: by its own beats, which come back by the watch, and those of the others. Whoever starts it has it beat. */
export class GatewayLink implements Link {
  readonly gateway: string
  readonly standing: Standing
  readonly compaction: Compaction
  readonly watch: SharedWatch
  readonly #setup: LinkSetup
  readonly #log: LogQuestion
  /** Hears what is shared; null: nobody does yet. */
  #shared: SharedRows | null = null
  /** Is told when all rows were listed: a beat that follows at once is soon heard. */
  #listening: () => void = () => {}
  #isListed = false
  /** Whether what is shared is handed on. */
  #isFeeding = false
  #isBeating = false
  /** The keys of which etcd has the row. */
  #keysThere: string | null = null
  /** Steady milliseconds */
  #remembered = -Infinity

  constructor(setup: LinkSetup) {
    this.#setup = setup
    this.gateway = setup.gateway
    this.standing = new Standing(setup)
    this.#log = new LogQuestion(setup.etcd, this.standing.trust.log)
    this.compaction = new Compaction(setup.etcd)
    this.watch = new SharedWatch(setup.etcd, {
      before: () => ({ mark: this.mark(), taken: this.standing.beats.taken }),
      listed: (rows, header, { mark, taken }) => this.#listed(rows, header, mark, taken),
      changed: (changes) => this.#changed(changes),
      broke: (why) => {
        this.standing.trouble = why
      },
    })
  }

  // ---- Link

  get base(): Link['base'] {
    return this.standing.trust.base
  }

  get beaten(): number | null {
    return this.standing.beats.beaten
  }

  refusal(now: Now): string | null {
    return this.standing.refused(now)?.why ?? null
  }

  ahead(now: Now): number {
    return Math.max(0, ...this.standing.peers.clocks(now).map(({ offset }) => offset))
  }

  mark(): number {
    return this.standing.trust.mark()
  }

  believes(mark: number, header: Header): boolean {
    return this.#judged(() => this.standing.trust.believes(mark, header))
  }

  isSame(): Promise<boolean> {
    return this.#log.isSame()
  }

  look(): void {
    this.watch.again()
  }

  /** Hands on from now on what is shared. @param listed told whenever all rows were listed */
  share(shared: SharedRows | null, listed: () => void = () => {}): void {
    this.#shared = shared
    this.#listening = listed
  }

  // ---- beats

  /** Says how this gateway is, and hears by that whether etcd is there, and is the one that it knows. It never rejects. */
  async beat(): Promise<void> {
    if (this.#isBeating || !this.#mayBeat()) return
    this.#isBeating = true
    try {
      // What was written, and nobody knew, is seen by the first answer: the second one goes by what it says.
      for (let tries = 2; tries > 0 && this.#mayBeat() && !(await this.#beatOnce()); tries--);
      await this.#lookAtLog()
      await this.#sayKeys()
      await this.#repair()
      this.standing.trouble = null
    } catch (error) {
      this.standing.trouble = reason(error)
    } finally {
      this.#isBeating = false
    }
    if (this.#setup.now().steady - this.#remembered >= REMEMBER) await this.remember()
  }

  #mayBeat(): boolean {
    const { trust, beats } = this.standing
    return this.#isListed && trust.found !== null && trust.setup === null && beats.hindrance(this.#setup.now()) === null
  }

  /** @returns whether it was taken @throws {Unavailable} */
  async #beatOnce(): Promise<boolean> {
    const { etcd, now } = this.#setup
    const { trust, beats } = this.standing
    const mark = this.mark()
    const { held, done, header } = await etcd.transact(beats.next(this.#word(), trust.found?.value ?? null, now()))
    if (held) {
      beats.took(header.revision, this.believes(mark, header))
      return true
    }
    const [own, base] = done.map(({ rows }) => rows[0] ?? null)
    this.#foundBase(base, mark, header)
    if (trust.setup === null) this.#foundOwn(own, beats.taken)
    return false
  }

  /** Looks whether the log that has taken a beat is the one that is known. @throws {Unavailable} */
  async #lookAtLog(): Promise<void> {
    const { trust, beats } = this.standing
    if (!beats.hasWritten || trust.restored !== null || trust.setup !== null) return
    const why = await this.#log.look()
    if (why !== null) this.#judged(() => trust.distrust(why))
  }

  #word(): Parameters<Beats['next']>[0] {
    const { server, skew, program, about, keys, synchronised } = this.#setup
    const { known, restored } = this.standing.trust
    const { count, digest } = keys()
    return {
      ...{ synchronised: synchronised(), epoch: known.epoch, restored: restored !== null, program, server, skew },
      ...{ keys: { count, digest }, ...about() },
    }
  }

  /** Says which keys there are, where that is not what etcd has. @throws {Unavailable} */
  async #sayKeys(): Promise<void> {
    const { etcd, keys } = this.#setup
    const { beats, trust } = this.standing
    const { row: value } = keys()
    if (!beats.hasWritten || trust.setup !== null || this.#keysThere === value) return
    await etcd.transact({ if: [], do: [{ put: keysRow(this.gateway), value }], else: [] })
    this.#keysThere = value
  }

  /** Raises the base of an etcd that was restored, where this gateway may. @throws {Unavailable} */
  async #repair(): Promise<void> {
    const { etcd, now, server, skew, told } = this.#setup
    const { trust, peers } = this.standing
    const { known, found } = trust
    const at = now()
    if (!found || !this.standing.mayRepair(at)) return
    const epochs = [known.epoch, found.base?.epoch ?? 0, ...peers.all().map(({ word }) => word.epoch)]
    // What a gateway has taken for timely whose clock is ahead may come back, too.
    const wall = at.wall + this.standing.latest(at)
    const base = raisedBase({ known, epochs, server, skew, wall })
    const { held } = await etcd.transact(raising(found.value, base))
    if (held) told('raised', base)
    // Whoever came first: it is adopted as everybody adopts it.
    this.look()
  }

  // ---- what is watched

  #listed(rows: readonly Row[], header: Header, mark: number, taken: number): void {
    const { trust, peers } = this.standing
    const at = this.#setup.now()
    this.standing.trouble = null
    const named = new Map(rows.map((row) => [row.row, row]))
    this.#isListed = true
    this.#isFeeding = false
    this.#foundBase(named.get(BASE) ?? null, mark, header)
    if (trust.setup !== null) return
    this.#foundOwn(named.get(gatewayRow(this.gateway)) ?? null, taken)
    this.#keysThere = named.get(keysRow(this.gateway))?.value ?? null
    peers.reset(
      new Map(
        rows.flatMap((row) => {
          const name = this.#peerOf(row.row)
          return name === null ? [] : [[name, row] as const]
        }),
      ),
    )
    this.compaction.found(named.get(COMPACTED) ?? null, at)
    this.standing.listed(at)
    this.#isFeeding = this.standing.isTrusted(at)
    if (this.#isFeeding) this.#shared?.reset(rows, header.revision)
    this.#listening()
  }

  #changed(changes: Parameters<Watching['changed']>[0]): void {
    for (const change of changes) {
      if ('put' in change) this.#put(change.put, this.#setup.now())
      else this.#removed(change.removed)
      const shared = this.#isFeeding ? this.#shared : null
      if ('put' in change) shared?.put(change.put)
      else shared?.removed(change.removed)
    }
  }

  #put(row: Row, now: Now): void {
    const { trust, peers, beats } = this.standing
    const peer = this.#peerOf(row.row)
    trust.noteRevision(row.modified)
    if (peer !== null) peers.put(peer, row.value, now)
    else if (row.row === gatewayRow(this.gateway)) beats.written(row, now)
    else if (row.row === COMPACTED) this.compaction.found(row, now)
    // What is watched may come later than what was read.
    else if (row.row === BASE && row.value !== trust.found?.value) this.look()
  }

  #removed(row: string): void {
    const peer = this.#peerOf(row)
    if (peer !== null) this.standing.peers.removed(peer)
    else if (row === BASE || row === gatewayRow(this.gateway)) this.look()
  }

  #peerOf(row: string): string | null {
    const shared = readShared(row)
    return shared?.kind === 'gateway' && shared.rest !== this.gateway ? shared.rest : null
  }

  // ---- trust

  /** The base that etcd has, as it was read. */
  #foundBase(row: Row | null, mark: number, header: Header): void {
    const { trust, beats } = this.standing
    const change = this.#judged(() => trust.read(row, mark, header))
    if (change === null) return
    if (change === 'repaired') {
      beats.beginAnew()
      this.#keysThere = null
    }
    this.#setup.told('adopted', trust.known)
    this.remember()
  }

  #foundOwn(row: Row | null, taken: number): void {
    const { trust, beats } = this.standing
    const sign = beats.found(row, taken, trust.restored !== null, this.#setup.now())
    if (sign?.is === 'older') this.#judged(() => trust.distrust(sign.why))
  }

  /** Judges something. Where etcd has forgotten something by it, what it has is listed again, and nothing of it handed on until it is believed. */
  #judged<Result>(judge: () => Result): Result {
    const { trust } = this.standing
    const wasRestored = trust.restored !== null
    const result = judge()
    if (!wasRestored && trust.restored !== null) {
      this.remember()
      this.look()
    }
    return result
  }

  /** What time brings: whoever has listened long enough hears from now on what is shared. */
  tend(): void {
    if (this.#isListed && !this.#isFeeding && this.standing.isTrusted(this.#setup.now())) this.look()
  }

  /** Writes the memory at once, as at the end. */
  remember(): Promise<void> {
    this.#remembered = this.#setup.now().steady
    return this.#setup.remember()
  }
}
