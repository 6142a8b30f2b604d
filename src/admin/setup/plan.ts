import { join } from 'node:path'
import { SERVER_CONFIG } from '../../daemon/config'
import { SERVER_KEYS } from '../../keys/keyring'
import { DEFAULT_POOL } from '../../protocol/pool'
import { formatService } from '../../protocol/service'
import { Fault } from '../../system/fault'
import { editedConfig, newConfig } from './config-text'
import { CONFIG_FOLDER, OWN_UNITS, STATE_FOLDER, USER } from './places'
import type { Answers } from './proposal'
import type { There } from './there'

/* What a set-up does, in its order: steps, each of which can be printed as well as taken. */

/** One step. */
export type Step = {
  /** What it comes to, in one line. */
  readonly what: string
} & (
  | { readonly kind: 'command'; readonly argv: readonly [string, ...string[]] }
  /** A file that is written whole, for root. */
  | { readonly kind: 'file'; readonly path: string; readonly mode: number; readonly text: string }
  /** knockturn itself, as a process of its own: what it makes belongs to the daemon's user. */
  | { readonly kind: 'itself'; readonly args: readonly string[] }
  /** Starts the daemon, or starts it again, and waits until it hears. */
  | { readonly kind: 'daemon' }
)

/** What a set-up does. */
export interface Plan {
  /** None where all is as it should be. */
  readonly steps: readonly Step[]
  /** The config's text when they are done. */
  readonly config: string
  /** The key that the client is to have; null where no new one is made. */
  readonly newKey: string | null
  /** Lines for a warning. */
  readonly notes: readonly string[]
}

/** Units as a package has them, by their names, with {@link USUAL_ROOT} as the folder of the programs. */
export type Templates = Readonly<Record<string, string>>
/** The unit that goes on with a trial at boot; it is in force before anything else is. */
const TRIAL_UNIT = 'knockturn-trial.service'
/** What nftables.service is given, so that it loads its rules and the guard in one step. */
export const GUARDED = 'nftables-guarded.conf'
const GUARDED_PLACE = 'nftables.service.d/knockturn.conf'
/** Where the programs lie in the templates. */
const USUAL_ROOT = '/opt/knockturn'

/**
 * Finds what is to be done.
 * @param wanted whether this very key was asked for: otherwise any that is valid will do
 * @param root the folder of the programs
 * @throws {Fault} where the config can't be edited, or there is a key of that name that has ended
 */
export function planOf(answers: Answers, there: There, templates: Templates, wanted: boolean, root: string): Plan {
  const config = configOf(answers, there)
  const needsKey = !there.keys.some(({ id, isValid }) => isValid && (!wanted || id === answers.key))
  if (needsKey && there.keys.some(({ id }) => id === answers.key))
    throw new Fault(`the key ${answers.key} is revoked or expired`, {
      hint: 'choose another name for the new key, as in --key bob',
    })
  const { steps: units, notes } = unitsOf(answers, there, templates, root)
  const before = [...units, ...accountOf(there), ...(config === there.config?.text ? [] : [file(SERVER_CONFIG, config)])]
  const made = [
    ...(needsKey ? [keyOf(answers)] : []),
    ...(there.hasLedger ? [] : [itself('a new ledger', 'ledger', 'new', '--config', SERVER_CONFIG)]),
  ]
  const isNew = config !== there.config?.text || needsKey || !there.isGuarded
  const guard = isNew ? GUARD : []
  const isToStart = before.length + made.length + guard.length > 0 || !there.isRunning || !there.isEnabled
  const start = isToStart ? [...(there.hasSystemd ? [GUARD_UNIT] : []), DAEMON] : []
  return { steps: [...before, ...made, ...guard, ...start], config, newKey: needsKey ? answers.key : null, notes }
}

function configOf(answers: Answers, { config }: There): string {
  if (!config) return newConfig(answers)
  const isSame = config.value.firewall.backend === answers.backend
  return editedConfig(SERVER_CONFIG, config.text, { ...answers, backend: isSame ? undefined : answers.backend })
}

/** The user and the folders that are missing. */
function accountOf({ hasUser, folders }: There): Step[] {
  const user = [...`--system --user-group --home-dir ${STATE_FOLDER} --no-create-home --shell /usr/sbin/nologin`.split(' '), USER]
  const missing = (path: string) => !folders.has(path)
  return [
    ...(hasUser ? [] : [command(`the user ${USER}`, 'useradd', ...user)]),
    ...[CONFIG_FOLDER].filter(missing).map((path) => command(`${path}/`, 'install', '-d', '-m', '755', path)),
    ...[SERVER_KEYS, STATE_FOLDER]
      .filter(missing)
      .map((path) => command(`${path}/, for ${USER} alone`, 'install', '-d', '-m', '700', '-o', USER, '-g', USER, path)),
  ]
}

/** The units that no package has put there. An administrator's own stay as they are. */
function unitsOf({ backend }: Answers, there: There, templates: Templates, root: string): Pick<Plan, 'steps' | 'notes'> {
  if (!there.hasSystemd) return { steps: [], notes: [] }
  const { [GUARDED]: guarded = '', [TRIAL_UNIT]: trial = '', ...rest } = templates
  const isForNftables = backend === 'nftables' && there.hasNftablesService
  const wanted = Object.entries({ [TRIAL_UNIT]: trial, ...rest, ...(isForNftables ? { [GUARDED_PLACE]: guarded } : {}) }).map(
    ([name, text]) => ({ name, text: text.replaceAll(USUAL_ROOT, root) }),
  )
  const missing = wanted.filter(({ name }) => !there.units.has(name))
  const others = wanted.filter(({ name, text }) => (there.units.get(name) ?? text) !== text)
  return {
    steps: [
      ...(missing.some(({ name }) => name === GUARDED_PLACE)
        ? [command(`${OWN_UNITS}/nftables.service.d/`, 'install', '-d', '-m', '755', join(OWN_UNITS, 'nftables.service.d'))]
        : []),
      ...missing.map(({ name, text }) => file(join(OWN_UNITS, name), text)),
      ...(missing.length > 0 ? [command('systemd has read the units', 'systemctl', 'daemon-reload')] : []),
      // The others are enabled when all is confirmed. This one takes back what is not, if the machine is rebooted meanwhile.
      ...(missing.some(({ name }) => name === TRIAL_UNIT)
        ? [command('a reboot ends the trial, too', 'systemctl', 'enable', '--quiet', TRIAL_UNIT)]
        : []),
    ],
    notes: others.map(({ name }) => `${join(OWN_UNITS, name)} differs from this version's, and stays as it is`),
  }
}

/** Every name that {@link lookAround} has to look for. */
export const unitNames = (templates: Templates): string[] =>
  Object.keys(templates).map((name) => (name === GUARDED ? GUARDED_PLACE : name))

function keyOf({ key, host, services, pool }: Answers): Step {
  const list = services.map(formatService).join(',')
  const ports = pool === DEFAULT_POOL ? [] : ['--pool', pool]
  const args = ['key', 'new', key, '--host', host, '--services', list, ...ports, '--config', SERVER_CONFIG]
  return itself(`the key ${key}, which opens ${list}`, ...args)
}

const file = (path: string, text: string, mode = 0o644): Step => ({ kind: 'file', what: path, path, mode, text })
const command = (what: string, ...argv: [string, ...string[]]): Step => ({ kind: 'command', what, argv })
const itself = (what: string, ...args: string[]): Step => ({ kind: 'itself', what, args })

const GUARD: readonly Step[] = [
  itself('the guard is saved for boot', 'guard', 'save', '--config', SERVER_CONFIG),
  itself('the guard is in place: who has no lease gets no answer', 'firewall', 'install', '--config', SERVER_CONFIG),
]
const GUARD_UNIT = command('systemd keeps the guard', 'systemctl', 'reload-or-restart', 'knockturn-guard.service')
const DAEMON: Step = { kind: 'daemon', what: 'the daemon hears knocks' }
