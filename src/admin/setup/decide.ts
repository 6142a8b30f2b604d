import { Fault } from '../../system/fault'
import { connectionsNow, type Entered, sessionCameIn } from './came-in'
import { checkRoot } from './machine'
import { confirmTrial, revertTrial, settleTrial, trialState } from './trial'

/* The decision about a trial, by who is not the one that has begun it. */

/**
 * Makes a trial permanent, if the session in which this is typed has come in by a knock.
 * @returns who came in; null where it was decided already
 * @throws {Fault} where there is no trial, or the session proves nothing
 */
export async function confirmByHand(): Promise<Entered | null> {
  await checkRoot()
  const { kind } = await trialState()
  if (kind === 'none') throw new Fault('no trial is running', { hint: 'run "knockturn setup"' })
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

/** Takes a trial back. @throws {Fault} where there is none, or it was confirmed */
export async function revertByHand(): Promise<void> {
  await checkRoot()
  const { kind } = await trialState()
  if (kind === 'none')
    throw new Fault('no trial is running', {
      hint: 'what is permanent is taken away by hand: "knockturn firewall remove" opens what is guarded',
    })
  if (kind !== 'confirmed') return revertTrial()
  await settleTrial()
  throw new Fault('the trial has been confirmed: it is permanent', {
    hint: '"knockturn firewall remove" opens what is guarded, until the daemon starts again',
  })
}
