import { Fault } from '../../system/fault'
import { runOwnScript } from '../own-script'

/* bin/knockturn-trial, as a set-up has it: all that must work when we are dead is there. */

const SCRIPT = 'knockturn-trial'

/** How a trial stands. A trial that is over, either way, is `none`: see {@link trialOutcome}. */
export interface TrialState {
  readonly kind: 'none' | 'trial' | 'confirmed' | 'reverting'
  /** Seconds until it goes back; of a `trial` only. 0: its time is over, or it is of before the last boot. */
  readonly left?: number
}

/** What came of the last trial since the machine was booted; null: there was none, or it is not over. */
export type TrialOutcome = 'confirmed' | 'reverted' | null

/** How the trial of now stands. @throws {Fault} where that can't be known */
export async function trialState(): Promise<TrialState> {
  const said = await ask('state')
  const [, kind, left] = /^(none|trial|confirmed|reverting)(?: (\d+))?\n?$/.exec(said) ?? []
  if (kind === undefined) throw new Fault(`cannot tell how the trial stands: it said "${said.trim().slice(0, 60)}"`)
  return { kind: kind as TrialState['kind'], ...(left === undefined ? {} : { left: Number(left) }) }
}

/** What came of the last trial. @throws {Fault} where that can't be known */
export async function trialOutcome(): Promise<TrialOutcome> {
  const said = (await ask('outcome')).trim()
  return said === 'confirmed' || said === 'reverted' ? said : null
}

/**
 * Begins a trial: after so many seconds everything goes back, unless it is confirmed before. This process is ended then (SIGTERM, and soon SIGKILL),
 * with what it has started, so that it changes nothing afterwards.
 * @throws {Fault} where one runs already, or it can't be begun; then nothing was changed
 */
export async function beginTrial(seconds: number): Promise<void> {
  await ask('begin', `${seconds}`, `${process.pid}`)
}

/** Makes permanent what was tried: that is decided when this returns, and also where its fault is about a unit. @throws {Fault} where it is too late */
export async function confirmTrial(): Promise<void> {
  await ask('confirm')
}

/** Puts everything back as it was. @throws {Fault} where there is nothing to put back, or not all of it could be */
export async function revertTrial(): Promise<void> {
  await ask('revert')
}

/** Brings to its end what an interrupted trial has left; one whose time is not over goes on. @throws {Fault} where that fails */
export async function settleTrial(): Promise<void> {
  const { kind, left = 0 } = await trialState()
  if (kind === 'trial' && left > 0) return
  await ask('settle')
}

/** Has the script do something. @returns its standard output @throws {Fault} with what it said, where it fails */
async function ask(...args: string[]): Promise<string> {
  const { stdout, stderr, exitCode, shortMessage } = await runOwnScript(SCRIPT, args, 'pipe')
  if (exitCode === 0) return stdout
  const lines = stderr.split('\n').filter((line) => line.trim() !== '')
  const hint = lines.find((line) => line.startsWith(HINT))?.slice(HINT.length)
  throw new Fault(lines.find((line) => !line.startsWith(HINT)) ?? shortMessage ?? `${SCRIPT}: failed`, { hint })
}

const HINT = 'hint: '
