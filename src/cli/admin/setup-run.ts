import { unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { programFolder } from '../../admin/own-script'
import type { Entered } from '../../admin/setup/came-in'
import { confirmByHand, revertByHand } from '../../admin/setup/decide'
import type { Plan } from '../../admin/setup/plan'
import type { Answers } from '../../admin/setup/proposal'
import { type Outcome, setUp } from '../../admin/setup/setup'
import type { Itself } from '../../admin/setup/there'
import { trialState } from '../../admin/setup/trial'
import { formatService } from '../../protocol/service'
import { Fault } from '../../system/fault'
import { checkFree, writeNew } from '../../system/files'
import { formatDuration } from '../../system/time'
import { complain, EXIT, printTable } from '../voice'
import { printedByItself } from './itself'
import { qrThatFits } from './qr'
import { askAll, askToBegin } from './setup-ask'
import { closedText, type SetupOptions } from './setup-words'
import { UNITS } from './units'
import { NAME, print, warn } from './voice'

/** Sets up this server, and prints how it goes. @param isAsked whether there is somebody to ask */
export async function setUpHere(options: SetupOptions, isAsked: boolean): Promise<void> {
  const { host, key, services, guard, public: open, backend, keyOut } = options
  if (keyOut !== undefined && !options.dryRun) await checkFree(keyOut)
  const ending = new AbortController()
  const wish = { host, key, services, guard, public: open, backend }
  const watch = { isShown: false, end: Number.POSITIVE_INFINITY }
  let isWritten = false
  // A key that the server has forgotten is of no use to anybody.
  const forget = async () => isWritten && keyOut !== undefined && unlink(keyOut).catch(() => {})
  const outcome = await setUp(
    { wish, seconds: options.for, isPreview: options.dryRun === true },
    {
      root: programFolder(),
      templates: UNITS,
      itself,
      signal: ending.signal,
      warn,
      choose: async (propose, there) => (isAsked ? askAll(propose, options, there) : propose({})),
      agree: async (answers, plan) => {
        printAnswers(answers, plan, options.for)
        if (isAsked) await askToBegin()
        // From here on there is something to take back. What ends us otherwise leaves that to the timer, which ends us first.
        process.on('SIGINT', () => ending.abort())
        process.on('SIGTERM', () => void endedBy('SIGTERM', options.for, watch, forget))
      },
      done: (what) => print(`  ${what}`),
      carry: async (made, answers) => {
        print('\nNow, on the client:\n')
        if (made === null) print('  knock with a key that it has')
        else if (keyOut === undefined) await showLine(made)
        else {
          await writeNew(keyOut, await itself('key', 'export', made))
          isWritten = true
          print(
            `  knockclient add ${keyOut}        # copy that file there first, over a channel that you trust, and delete it here`,
          )
        }
        print(`  ssh ${answers.host}\n\n${WAITING}`)
      },
      wait: (left) => {
        watch.end = performance.now() + left * 1000
        watch.isShown = process.stdout.isTTY
        if (watch.isShown) process.stdout.write(`\r${formatDuration(left)} left  `)
      },
    },
  ).catch(async (error) => {
    await forget()
    throw error
  })
  // A terminal has shown the seconds left there, or what was typed to end us.
  if (watch.isShown || (ending.signal.aborted && process.stdout.isTTY)) print('')
  if (outcome.kind === 'over') await forget()
  report(outcome, whyOver(options.for, watch), ending.signal.aborted)
}

/** Makes the trial permanent that is running. */
export async function confirmHere(): Promise<void> {
  tellPermanent(await confirmByHand())
}

/** Takes the trial back that is running. */
export async function revertHere(): Promise<void> {
  await revertByHand()
  print(BACK)
}

const BACK = 'taken back: everything is as it was before'

const itself: Itself = async (...args) => {
  const { code, printed } = await printedByItself(args)
  if (code !== 0) throw new Fault(`"knockturn ${args.slice(0, 2).join(' ')}" has failed: see above`)
  return printed
}

function printAnswers({ host, services, backend, ...guard }: Answers, { newKey, steps }: Plan, seconds: number): void {
  const opens = services.map(formatService).join(', ')
  printTable([
    ['host', host, 'where clients knock'],
    ...(newKey === null ? [] : [['key', newKey, `opens ${opens}`]]),
    ['guard', closedText(guard), 'no answer without a knock; connections that exist go on'],
    ['firewall', backend, ''],
    ['trial', formatDuration(seconds), 'then everything goes back, unless somebody has come in by a knock'],
  ])
  print(`${steps.length} steps; --dry-run prints each file and rule`)
}

/** Rows from the passphrase to the end, without line and picture. */
const AROUND = 11

/** Shows a key as the line that the client takes, and as a QR code. Its passphrase is shown by who has made it. */
async function showLine(key: string): Promise<void> {
  const line = (await itself('key', 'export', key, '--line')).trim()
  print(`  ${line}`)
  const wrapped = Math.ceil(line.length / (process.stdout.columns || 1))
  const picture = qrThatFits(line, wrapped + AROUND)
  if (picture) print(`\nThe same line, for a camera:\n\n${picture.join('\n')}\n`)
}

const WAITING =
  'This session stays open. What was set up becomes permanent when somebody has come in by a knock. Ctrl-C takes everything back.'

function report(outcome: Outcome, why: string, isAborted: boolean): void {
  if (outcome.kind === 'nothing') print('nothing to change')
  else if (outcome.kind === 'preview') process.stdout.write(outcome.text)
  else if (outcome.kind === 'confirmed') {
    tellPermanent(outcome.entered)
    if (!outcome.hasSystemd) print(byHand())
  } else if (isAborted) {
    print(BACK)
    process.exitCode = EXIT.failure
  } else throw new Fault(`${why}: everything is as it was before`, { hint: AGAIN })
}

function tellPermanent(entered: Entered | null): void {
  const by = entered ? `: ${entered.address} has come in at ${entered.service} with the key ${entered.key}` : ''
  print(`permanent${by}`)
}

/** Says how things stand, and ends: the timer ends us when the time is over, before it takes everything back. */
async function endedBy(signal: string, seconds: number, watch: Watch, forget: () => Promise<unknown>): Promise<never> {
  const { kind, left } = await trialState().catch(() => ({ kind: 'reverting', left: 0 }))
  if (watch.isShown) print('')
  if (kind === 'trial')
    complain(NAME, `ended by ${signal}: everything goes back in ${left} s`, 'run "knockturn setup --confirm" to keep it')
  else {
    await forget()
    complain(NAME, `${whyOver(seconds, watch)}: everything goes back now`, AGAIN)
  }
  process.exit(EXIT.failure)
}

/** What the trial's end was seen to be, and whether the seconds left are on the terminal. */
interface Watch {
  isShown: boolean
  /** On performance.now()'s clock. */
  end: number
}

/** Milliseconds by which the end that was seen may be wrong: the script counts whole seconds, and its timer has an accuracy of one. */
const BLUR = 2000

/** Why a trial is over that was not confirmed: only its time, or somebody who did not want to wait for that. */
const whyOver = (seconds: number, { end }: Watch): string =>
  performance.now() < end - BLUR && end !== Number.POSITIVE_INFINITY
    ? 'the trial was taken back before its time was over'
    : `nobody has come in by a knock within ${formatDuration(seconds)}`

const AGAIN = 'look why with "knockclient -v" on the client, and run "knockturn setup" again'

/** What only the administrator can do where there is no systemd. */
const byHand =
  (): string => `Have this run at each boot, before the network is up: ${join(programFolder(), 'bin/knockturn-guard')}
And this, after it: docs/by-hand.md ("Start the daemon"). Its log is /var/log/knockdaemon.log.`
