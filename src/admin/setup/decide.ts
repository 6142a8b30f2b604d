import { Fault } from '../../system/fault'
import { connectionsNow, type Entered, sessionCameIn } from './came-in'
import { checkRoot } from './machine'
import { confirmTrial, revertTrial, settleTrial, trialOutcome, trialState } from './trial'

/* The decision about a trial, by who is not the one that has begun it. */

/**
 * Makes a trial permanent, if the session in which this is typed has come in by a knock.
 * @returns who came in; null where it was decided already
 * @throws {Fault} where there is no trial, or the session proves nothing
 */
export async function confirmByHand(): Promise<Entered | null> {
  await checkRoot()
  const { kind } = await trialState()
  if (kind === 'none') throw await noTrial('run "knockturn setup"')
  if (kind === 'trial') {
    const found = await sessionCameIn(await connectionsNow())
    if ('why' in found) throw new Fault(found.why, { hint: found.hint })
    await confirmTrial()
    return found
  }
  await settleTrial()
  if (kind === 'confirmed') return null
  throw new Fault('the trial has been taken back: everything is as before', { hint: 'run "knockturn setup" again' })
}

const PERMANENT = '"knockturn uninstall" takes away what is permanent'

/** Takes a trial back. @throws {Fault} where there is none, or it was confirmed */
export async function revertByHand(): Promise<void> {
  await checkRoot()
  const { kind } = await trialState()
  if (kind === 'none') throw await noTrial(PERMANENT)
  if (kind !== 'confirmed') return revertTrial()
  await settleTrial()
  throw new Fault('the trial has been confirmed: it is permanent', { hint: PERMANENT })
}

/** That there is nothing to decide, and why: whoever comes too late wants to know what became of theirs. */
async function noTrial(hint: string): Promise<Fault> {
  const outcome = await trialOutcome()
  const was = { confirmed: ': the last one was confirmed', reverted: ': the last one was taken back' }
  return new Fault(`no trial is running${outcome ? was[outcome] : ''}`, { hint: outcome === 'confirmed' ? PERMANENT : hint })
}
