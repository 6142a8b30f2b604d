import type { Now } from '../../gate/clock'
import { type Row, stillSays, type Transaction, unwritten } from './etcd/etcd'
import { formatWord, type GatewayWord, parseWord } from './gateway-row'
import type { FleetMemory } from './memory'
import { SILENT } from './peers'
import { BASE, gatewayRow } from './rows'

/** Milliseconds from one beat to the next. */
export const BEAT = 2_000
/** Milliseconds for which a gateway that begins listens whether somebody else beats under its name: more than two beats. */
export const LISTEN = 5_000
/** Beats of which it is known when they were sent: more than are sent before what is watched counts as old. */
const MAX_SENT = 16

/** What a row of this gateway's own says that it must not say: etcd has forgotten something, or somebody has removed it. */
export type OwnSign = { readonly is: 'older' | 'gone'; readonly why: string }

/** The beats of a gateway: its own row, who else writes it, and how old what comes back is. */
export class Beats {
  readonly #gateway: string
  readonly #life: string
  /** The run that wrote the row before this one. */
  readonly #formerLife: string
  /** The last beat that was sent, and the last that etcd has taken. */
  #sent: number
  #taken: number
  /** The revision at which the row was written that is to be replaced; 0: there is none. */
  #modified = 0
  #hasWritten = false
  /** The newest revision at which this run has written the row; null: none is known. */
  #beaten: number | null = null
  #isGone = false
  readonly #sendings: { readonly beat: number; readonly at: number }[] = []
  /** Steady milliseconds at which the newest beat was sent that has come back. */
  #heard: number | null = null
  /** Somebody else who writes the row: when they did last, by etcd's revision and by this clock, and whether they had before. */
  #other: { readonly modified: number; readonly since: number; readonly beats: boolean } | null = null

  /** @param life random, of this run */
  constructor({ gateway, beat, life: formerLife }: FleetMemory, life: string) {
    this.#gateway = gateway
    this.#life = life
    this.#formerLife = formerLife
    this.#sent = this.#taken = beat
  }

  get life(): string {
    return this.#life
  }
  /** The last beat that etcd has taken. */
  get taken(): number {
    return this.#taken
  }
  /** Whether this run has written its row. */
  get hasWritten(): boolean {
    return this.#hasWritten
  }
  /** The newest revision at which this run has written its row, as far as etcd has said; null: it has not, to the etcd that there is now. */
  get beaten(): number | null {
    return this.#beaten
  }
  /** Steady milliseconds at which the newest beat was sent that has come back; null: none has. */
  get heard(): number | null {
    return this.#heard
  }

  /** Why this gateway must not beat; null: it may. */
  hindrance({ steady }: Now): string | null {
    if (this.#isGone)
      return 'this gateway was taken out of the fleet: run "knockturn fleet leave" and "knockturn fleet join", and restart the daemon'
    const other = this.#other
    if (!other || steady - other.since >= (other.beats ? SILENT : LISTEN)) return null
    return other.beats
      ? `another gateway uses the name ${this.#gateway}: run "knockturn fleet leave" here, set another gateway in [ledger], and join`
      : `it listens whether another gateway uses the name ${this.#gateway}`
  }

  /** The next beat. @param word what it says @param base the text of the base that etcd has; null: it has none */
  next(word: Omit<GatewayWord, 'life' | 'beat' | 'steady' | 'wall'>, base: string | null, now: Now): Transaction {
    const row = gatewayRow(this.#gateway)
    const beat = ++this.#sent
    this.#sendings.push({ beat, at: now.steady })
    if (this.#sendings.length > MAX_SENT) this.#sendings.shift()
    const value = formatWord({ life: this.#life, beat, wall: now.wall, steady: now.steady, ...word })
    return {
      if: [unwritten(row, this.#modified), stillSays(BASE, base)],
      do: [{ put: row, value }],
      else: [{ get: row }, { get: BASE }],
    }
  }

  /** The newest beat was taken, at a revision. @param isBelieved by the etcd that is known */
  took(revision: number, isBelieved: boolean): void {
    this.#modified = revision
    if (isBelieved) this.#noteBeaten(revision)
    this.#taken = this.#sent
    this.#hasWritten = true
    this.#other = null
  }

  /**
   * The row as it was read. @param taken the last beat that was taken before it was asked for
   * @param isForgiven etcd is known to have forgotten something, so that a row which says less is no news
   */
  found(row: Row | null, taken: number, isForgiven: boolean, now: Now): OwnSign | null {
    const word = row && parseWord(row.value)
    const expected = isForgiven ? 0 : Math.min(taken, this.#taken)
    this.#modified = row?.modified ?? 0
    if (!row) {
      this.#other = null
      this.#isGone = expected > 0
      return this.#isGone ? { is: 'gone', why: 'its row is gone' } : null
    }
    this.#isGone = false
    // Every run goes on from the beat that it finds.
    this.#sent = Math.max(this.#sent, word?.beat ?? 0)
    if (word?.life === this.#life) {
      this.#hasWritten = true
      if (!isForgiven) this.#noteBeaten(row.modified)
      this.#taken = Math.max(this.#taken, word.beat)
      this.#other = null
    } else if (!this.#hasWritten && word?.life === this.#formerLife) this.#other = null
    else this.#note(row, now)
    return word && word.beat < expected
      ? { is: 'older', why: `this gateway's beat went back from ${expected} to ${word.beat}` }
      : null
  }

  /** What was taken was by an etcd that is no more. */
  beginAnew(): void {
    this.#taken = 0
    this.#beaten = null
  }

  #noteBeaten(revision: number): void {
    this.#beaten = Math.max(this.#beaten ?? 0, revision)
  }

  /** The row was written, as what is watched says: late, perhaps. */
  written(row: Row, now: Now): void {
    const word = parseWord(row.value)
    if (word?.life === this.#life) {
      this.#noteBeaten(row.modified)
      const at = this.#sendings.find(({ beat }) => beat === word.beat)?.at
      if (at !== undefined) this.#heard = Math.max(this.#heard ?? at, at)
      return
    }
    if (row.modified <= this.#modified) return
    this.#modified = row.modified
    this.#sent = Math.max(this.#sent, word?.beat ?? 0)
    this.#note(row, now)
  }

  /** Somebody else has written the row. One that is written again is somebody who lives, and so is one that is written after us. */
  #note({ modified }: Row, { steady }: Now): void {
    const known = this.#other
    if (known?.modified === modified) return
    this.#other = { modified, since: steady, beats: known !== null || this.#hasWritten }
  }
}
