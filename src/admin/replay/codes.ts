import { passcodeSkew } from '../../gate/passcodes/guesses'
import type { ServerKey } from '../../gate/server-key'
import type { Tap } from '../../gate/tap'
import { windowAt } from '../../protocol/key'
import { CODE_DIGITS, passcodeRange } from '../../protocol/passcode'
import { passcode } from '../../protocol/totp'

/* Passcodes that sources have said, and that opened nothing. The digits are secret: they are compared here, and told to nobody. */

/** A digit counts for so many milliseconds, and so a passcode is over when nothing has come for as long. */
const REST = 60_000
/** Passcodes that are kept, whole or not. */
const MAX_SAID = 4_096
/** Seconds before and after by which a code is looked for in other windows: a clock that is off, or another time zone. */
const FAR = 86_400
/** Windows of all keys that are tried for one passcode. */
const MAX_TRIED = 100_000

/** What a source has said of a passcode. */
export interface Said {
  readonly source: string
  readonly destination: string
  readonly first: number
  last: number
  /** position → its digits: more than one make it void */
  readonly digits: Map<number, Set<number>>
}

/** What is known of a passcode that opened nothing. */
export interface SaidCode {
  /** Positions that have a digit, and how many there are. */
  readonly heard: number
  readonly of: number
  /** Whether some position has two digits. */
  readonly isVoid: boolean
  /** Whose it is, in a window that is not accepted; null where it is nobody's, or is not whole. */
  readonly fits: { readonly key: ServerKey; readonly window: number } | null
}

/** Collects passcodes. */
export class SaidCodes {
  readonly #base: number
  readonly #range: readonly [number, number]
  readonly #live = new Map<string, Said>()
  readonly kept: Said[] = []
  lost = 0

  /** @param base the first passcode port */
  constructor(base: number, pinDigits: number) {
    this.#base = base
    this.#range = passcodeRange(base, pinDigits)
  }

  /** Takes a tap. @param at Unix milliseconds @returns whether its port is one of a passcode's */
  add({ source, destination, port }: Tap, at: number): boolean {
    const [low, high] = this.#range
    if (port < low || port > high) return false
    const name = `${source} ${destination}`
    let said = this.#live.get(name)
    if (said && at - said.last > REST) said = undefined
    if (!said) {
      said = { source, destination, first: at, last: at, digits: new Map() }
      if (this.kept.length < MAX_SAID) this.kept.push(said)
      else this.lost++
    }
    said.last = at
    const position = Math.floor((port - this.#base) / 10)
    said.digits.set(position, (said.digits.get(position) ?? new Set()).add((port - this.#base) % 10))
    this.#live.delete(name)
    this.#live.set(name, said)
    if (this.#live.size > MAX_SAID) this.#live.delete(this.#live.keys().next().value as string)
    return true
  }
}

/** What a passcode comes to. @param keys those that have one @param skew the server's */
export function judgeCode({ digits, last }: Said, pinDigits: number, keys: readonly ServerKey[], skew: number): SaidCode {
  const of = pinDigits + CODE_DIGITS
  const isVoid = [...digits.values()].some(({ size }) => size > 1)
  const known = { heard: digits.size, of, isVoid }
  if (isVoid || digits.size < of) return { ...known, fits: null }
  const text = Array.from({ length: of }, (_, i) => [...(digits.get(i) as Set<number>)][0]).join('')
  const [pin, code] = [text.slice(0, pinDigits), text.slice(pinDigits)]
  let tried = 0
  for (const key of keys) {
    if (key.passcode?.pin !== pin) continue
    const { period } = key.key
    const now = windowAt(last / 1000, period)
    for (let far = 0; far <= FAR / period && tried < MAX_TRIED; far++) {
      for (const window of far === 0 ? [now] : [now - far, now + far]) {
        tried++
        if (passcode(key.key, window) === code && far > passcodeSkew(skew)) return { ...known, fits: { key, window } }
      }
    }
  }
  return { ...known, fits: null }
}
