import { setTimeout as sleep } from 'node:timers/promises'
import { formatPool } from '../../protocol/pool'
import { Fault, inOneLine } from '../../system/fault'
import { connectionsNow, type Entered, whoCameIn } from './came-in'
import { guardOf } from './config-text'
import { findListeners } from './listeners'
import { canUseNftables, checkMachine } from './machine'
import { type Plan, planOf, type Templates, unitNames } from './plan'
import { previewOf } from './preview'
import { type Answers, type Around, type Proposal, propose, type Wish } from './proposal'
import { takeStep } from './take-step'
import { type Itself, lookAround, type There } from './there'
import { beginTrial, confirmTrial, revertTrial, settleTrial, trialOutcome, trialState } from './trial'
import { hostHere, userHere } from './who'

/*
 * From a server to a guarded door:
 *
 *     look → propose → ask → plan → try → wait for somebody who comes in by a knock → confirm
 *
 * Whatever goes wrong behind "try" goes back by itself: by us, or when we are gone, by the timer that the trial has begun with.
 */

/** Milliseconds between two looks whether somebody has come in: who does may only run a short command. */
const LOOK = 250

/** What a set-up has of its surroundings. */
export interface Tools {
  /** The folder of the programs. */
  readonly root: string
  readonly templates: Templates
  readonly itself: Itself
  /** Ends it, and takes everything back at once. */
  readonly signal: AbortSignal
  readonly warn: (line: string) => void
  /** Chooses, by the proposals that it is given: it may ask somebody. */
  readonly choose: (propose: (more: Wish) => Proposal, there: There) => Promise<Proposal>
  /** Shows what is about to be done, and asks whether to begin. */
  readonly agree: (answers: Answers, plan: Plan) => Promise<void>
  /** Told of each step that was taken. */
  readonly done: (what: string) => void
  /** Shows how a key is carried to the client, and what to do there. */
  readonly carry: (key: string | null, answers: Answers) => Promise<void>
  /** Told how many seconds are left. */
  readonly wait: (left: number) => void
}

/** How a set-up was asked for. */
export interface Request {
  /** What was chosen beforehand. */
  readonly wish: Wish
  /** Seconds that a trial lasts. */
  readonly seconds: number
  readonly isPreview: boolean
}

/** What has come of a set-up: `confirmed` by whom; with null by somebody who has typed --confirm elsewhere. */
export type Outcome =
  | { readonly kind: 'nothing' }
  | { readonly kind: 'preview'; readonly text: string }
  | { readonly kind: 'confirmed'; readonly entered: Entered | null; readonly hasSystemd: boolean }
  | { readonly kind: 'over' }

/** Sets a server up. @throws {Fault} where it can't be: then everything is as before */
export async function setUp({ wish, seconds, isPreview }: Request, tools: Tools): Promise<Outcome> {
  const { root, templates, itself, warn } = tools
  await checkMachine(root)
  await settleBefore(isPreview)
  const there = await lookAround(itself, unitNames(templates))
  const { found: listeners, unknown } = await findListeners()
  unknown.forEach(warn)
  const around: Around = {
    listeners,
    host: await hostHere(),
    user: userHere(),
    hasNftables: await canUseNftables(),
  }
  const { answers, notes } = await tools.choose(
    (more) => propose(around, { ...asItIs(there), ...given(wish), ...given(more) }),
    there,
  )
  const plan = planOf(answers, there, templates, wish.key !== undefined, root)
  for (const note of [...notes, ...plan.notes]) warn(note)
  if (plan.steps.length === 0) return { kind: 'nothing' }
  if (there.isRunning && !there.hasSystemd)
    throw new Fault('a daemon is running, and without systemd nobody could start it again if the trial is taken back', {
      hint: 'end it first: leases that are in force stay',
    })
  if (isPreview) return { kind: 'preview', text: await previewOf(plan, there, answers.pool, warn) }
  await tools.agree(answers, plan)
  return tryOut(plan, answers, seconds, there, tools)
}

/** Tries a plan, and keeps it if somebody comes in. */
async function tryOut(plan: Plan, answers: Answers, seconds: number, there: There, tools: Tools): Promise<Outcome> {
  const { itself, root, signal, done } = tools
  await beginTrial(seconds)
  try {
    // As the trial has written it down: --confirm goes by the same.
    const before = await connectionsNow()
    for (const step of plan.steps) {
      signal.throwIfAborted()
      await takeStep(step, itself, root, there.hasSystemd)
      done(step.what)
    }
    await tools.carry(plan.newKey, answers)
    const end = await waitForEntry(before, tools)
    if (end === 'over') return (await isKept()) ? confirmed(null, there) : { kind: 'over' }
    await keep(tools.warn)
    return confirmed(end, there)
  } catch (error) {
    if ((await trialState()).kind === 'trial') await revertTrial()
    if (signal.aborted) return { kind: 'over' }
    throw error
  }
}

const confirmed = (entered: Entered | null, { hasSystemd }: There): Outcome => ({ kind: 'confirmed', entered, hasSystemd })

/** Waits until somebody has come in by a knock, or until the trial is over. */
async function waitForEntry(before: ReadonlySet<string>, { signal, wait }: Tools): Promise<Entered | 'over'> {
  for (;;) {
    const { kind, left = 0 } = await trialState()
    if (kind !== 'trial') return 'over'
    const entered = await whoCameIn(before)
    if (entered) return entered
    wait(left)
    await sleep(LOOK, undefined, { signal })
  }
}

/** Makes the trial permanent. What of a unit fails then is no reason to go back. @throws {Fault} where it is too late */
async function keep(warn: (line: string) => void): Promise<void> {
  try {
    await confirmTrial()
  } catch (error) {
    if ((await trialState()).kind !== 'confirmed') throw error
    warn(inOneLine(error))
  }
}

/** Whether a trial that has ended without us was confirmed: somebody has typed --confirm. */
async function isKept(): Promise<boolean> {
  while ((await trialState()).kind !== 'none') await sleep(LOOK)
  return (await trialOutcome()) === 'confirmed'
}

/** Brings an earlier trial to its end, if it is decided. @throws {Fault} where it is not, or we may change nothing */
async function settleBefore(isPreview: boolean): Promise<void> {
  const { kind, left = 0 } = await trialState()
  if (kind === 'none') return
  if (kind === 'trial' && left > 0)
    throw new Fault(`a trial is running: ${left} s are left`, {
      hint: 'run "knockturn setup --confirm" in a session that came in by a knock, or "knockturn setup --revert"',
    })
  if (isPreview) throw new Fault('a trial has not been brought to its end', { hint: 'run "knockturn setup" without --dry-run' })
  await settleTrial()
}

/** What a server has already is proposed again: a second set-up changes nothing. */
function asItIs({ config, keys }: There): Wish {
  if (!config) return {}
  const { server, firewall } = config.value
  const key = keys.find(({ isValid }) => isValid)
  return {
    host: key?.host ?? server,
    ...(key ? { key: key.id, services: key.services, pool: formatPool(key.key.pool) } : {}),
    ...(firewall.guard.ports.length > 0 ? { ...guardOf(config.text), backend: firewall.backend as Answers['backend'] } : {}),
  }
}

/** Without what is not said. */
const given = (wish: Wish): Wish => Object.fromEntries(Object.entries(wish).filter(([, value]) => value !== undefined))
