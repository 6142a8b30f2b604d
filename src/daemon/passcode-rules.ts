import { chanceOfGuess, MAX_CHANCE } from '../gate/passcodes/guesses'
import { isOver, type ServerKey } from '../gate/server-key'
import { passcodeRange } from '../protocol/passcode'
import { Fault } from '../system/fault'
import type { Config } from './config'

/** Keys with the passcodes that can be used, and what is wrong with the others. */
export interface JudgedKeys {
  readonly keys: readonly ServerKey[]
  readonly faults: readonly Fault[]
}

/**
 * Takes away the passcodes that must not be used (docs/protocol.md, "Passcode knock"); the keys stay, and so do their sealed knocks.
 * @param wall Unix milliseconds
 */
export function judgePasscodes(keys: readonly ServerKey[], { passcode, skew }: Config, wall: number): JudgedKeys {
  const { pinDigits } = passcode
  const isMisfit = (key: ServerKey) => key.passcode !== undefined && key.passcode.pin.length !== pinDigits
  const faults = keys.filter(isMisfit).map(({ id }) => misfit(id, pinDigits))
  const fitting = keys.map((key) => (isMisfit(key) ? without(key) : key))
  const having = fitting.filter((key) => key.passcode && !isOver(key, wall))
  const fault = passcodeFault(keys, having, { passcode, skew })
  if (!fault || having.length === 0) return { keys: fitting, faults }
  return { keys: fitting.map(without), faults: [...faults, fault] }
}

const misfit = (id: string, pinDigits: number): Fault =>
  new Fault(`key "${id}": its PIN must have ${pinDigits} digits (pin_digits in the config)`, {
    hint: `run "knockturn key passcode ${id}"`,
  })

function without({ passcode: _, ...key }: ServerKey): ServerKey {
  return key
}

/**
 * What keeps all passcodes from being used.
 * @param keys all that the server has
 * @param having those of them that have a passcode
 * @returns null where nothing does
 */
export function passcodeFault(
  keys: readonly Pick<ServerKey, 'id' | 'key'>[],
  having: readonly Pick<ServerKey, 'key'>[],
  { passcode, skew }: Pick<Config, 'passcode' | 'skew'>,
): Fault | null {
  return overlap(keys, passcode) ?? tooLikely(having, passcode.pinDigits, skew)
}

/** Passcode ports that are also in a key's pool. @returns null where there are none */
function overlap(keys: readonly Pick<ServerKey, 'id' | 'key'>[], { base, pinDigits }: Config['passcode']): Fault | null {
  const [low, high] = passcodeRange(base, pinDigits)
  const inside = new Map<Uint16Array, boolean>()
  for (const { id, key } of keys) {
    const { pool } = key
    // Keys share their pools, of which there are few.
    const isInside = inside.get(pool) ?? pool.some((port) => port >= low && port <= high)
    inside.set(pool, isInside)
    if (isInside)
      return new Fault(`the passcode ports ${low}-${high} overlap the pool of key "${id}"`, {
        hint: 'set another [passcode] base',
      })
  }
  return null
}

function tooLikely(having: readonly Pick<ServerKey, 'key'>[], pinDigits: number, skew: number): Fault | null {
  const chance = chanceOfGuess(
    having.map(({ key }) => key),
    pinDigits,
    skew,
  )
  if (chance <= MAX_CHANCE) return null
  const figures = `got ${Number(chance.toPrecision(2))} with ${having.length} keys and a PIN of ${pinDigits} digits`
  return new Fault(`expected a chance of a lucky guess of at most ${MAX_CHANCE} a year, ${figures}`, {
    hint: 'set pin_digits = 4 in [passcode], or give fewer keys a passcode',
  })
}
