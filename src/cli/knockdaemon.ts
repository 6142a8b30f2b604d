import { statSync, watch } from 'node:fs'
import { Option } from 'commander'
import pino, { type Logger } from 'pino'
import { Daemon } from '../daemon'
import { Leases } from '../gate/leases'
import { Listener } from '../gate/listener'
import { Passcodes } from '../gate/passcodes'
import { checkDaemon, UNHEARD } from '../host/check'
import { type Config, readConfig, SERVER_CONFIG } from '../host/config'
import { forbidCoreDumps } from '../host/core-dumps'
import { Fault, reason } from '../host/fault'
import { loggedPackets } from '../host/firewall/chains'
import { dryRunFirewall } from '../host/firewall/dry-run'
import { iptablesFirewall } from '../host/firewall/iptables'
import { openLedger } from '../host/ledger-file'
import { areUnheard, judgePasscodes } from '../host/passcodes'
import { checkPrivileges } from '../host/privileges'
import { loadServerKeys, type ServerKeys } from '../host/server-keys'
import { openTaps } from '../host/taps/open'
import { tapWatch, watchTaps } from '../host/taps/watch'
import { checkClock } from '../host/time'
import { withCompletion } from './completion'
import { program } from './options'
import { complain, EXIT, failWith, runProgram, warnOf } from './voice'

const NAME = 'knockdaemon'
/** Changes in the keyring's folder come in bursts; they are taken together after this many milliseconds. */
const WATCH_DELAY = 30
/** Milliseconds between two looks at the folder itself. */
const LOOK = 1_000

interface Options {
  config: string
  newLedger?: boolean
  allowRoot?: boolean
  check?: boolean
  logLevel: string
}

const command = program(
  NAME,
  'Hears knocks in the firewall and opens doors for those who may. It listens on no port and answers nobody.',
  `${NAME} --check --config ${SERVER_CONFIG}`,
)
  .option('--config <file>', 'the config', SERVER_CONFIG)
  .option('--new-ledger', 'there has never been a ledger: start one without the wait of a minute')
  .option('--allow-root', 'run with more privileges than are needed, such as those of root')
  .option('--check', 'report every fault of config, keys and ledger, change nothing, and exit')
  .addOption(new Option('--log-level <level>', 'how much to say').choices(['error', 'warn', 'info', 'debug']).default('info'))

let isToServe = false
command.action(() => {
  isToServe = true
})
withCompletion(command)

runProgram(NAME, async () => {
  const options = command.parse().opts<Options>()
  if (!isToServe) return EXIT.ok
  forbidCoreDumps((message) => warnOf(NAME, message))
  if (options.check) return check(options.config)
  const read = await readConfig(options.config)
  if (read.faults) return failWith(NAME, read.faults)
  const destination = pino.destination({ fd: 2, sync: true })
  // A log that can't be written (a full disk) must not shut doors; what was to be said is lost.
  destination.on('error', () => {})
  const log = pino({ level: options.logLevel, base: null, timestamp: pino.stdTimeFunctions.isoTime }, destination)
  // Node says twice that it has no file descriptor for a child: once to who asked, and once to nobody.
  process.on('uncaughtException', (error) => {
    log.error({ reason: reason(error) }, 'an error that nobody caught')
    if (!('syscall' in error && String(error.syscall).startsWith('spawn'))) process.exit(EXIT.failure)
  })
  return serve(options, read.value, log)
})

async function check(file: string): Promise<number> {
  const { faults, warnings } = await checkDaemon(file)
  for (const warning of warnings) process.stdout.write(`note: ${warning}\n`)
  if (faults.length > 0) return failWith(NAME, faults)
  process.stdout.write(`${file}: no fault\n`)
  return EXIT.ok
}

/** Joins the pipeline's stages, feeds it taps, keys and signals, and ends it in order. */
async function serve(options: Options, config: Config, log: Logger): Promise<number> {
  const now = () => ({ wall: Date.now(), steady: performance.now() })
  const warn = (message: string) => log.warn(message)
  checkClock(now().wall, 'set it before the daemon starts')
  const work = { firewall: config.firewall.backend === 'iptables', capture: config.taps.source === 'nflog' }
  await checkPrivileges(
    work,
    options.allowRoot ?? false,
    process.argv
      .slice(1)
      .filter((word) => word !== '--allow-root')
      .join(' '),
    warn,
  )

  // Watched from before the keys are read: a key that is revoked while we start is revoked.
  let missed = false
  let changed = () => {
    missed = true
  }
  process.on('SIGHUP', () => changed())
  watchFolder(config.keys, () => changed(), warn)
  const datagrams = config.datagram.ports
  let loaded = await loadServerKeys(config.keys, config.server, [], datagrams)
  if (loaded.keys.length === 0) {
    const none = new Fault(`${config.keys}: holds no key that can be used: make one with "knockturn key new"`)
    return failWith(NAME, [...loaded.faults, none])
  }
  tell(loaded, log)

  const { ledger, disk, isFresh } = await openLedger(
    config.ledger.path,
    config.skew,
    now().wall,
    options.newLedger ?? false,
    warn,
  )
  const listener = new Listener(config.skew, Math.random, datagrams.length > 0)
  const firewall = config.firewall.backend === 'iptables' ? iptablesFirewall(warn) : dryRunFirewall()
  const passcodes = new Passcodes({ ...config.passcode, skew: config.skew })
  const daemon = new Daemon({ listener, passcodes, ledger, leases: new Leases(), firewall, log, now })
  let { neverLock } = config
  /** Takes over the keys that were loaded, but for passcodes that must not be used. */
  const setKeys = async () => {
    const { keys, faults } = judgePasscodes(loaded.keys, config, now().wall)
    for (const { message } of faults) log.error({ reason: message }, 'passcodes are refused, and sealed knocks are not')
    await daemon.setKeys(keys, neverLock)
    if (await areUnheard(keys, config)) warn(UNHEARD)
  }
  await setKeys()
  await daemon.restore()
  if (!listener.namesWrongClocks) log.info('with so many keys, clients with a wrong clock are not named')
  // The wait of a ledger that knows nothing has been told, once for all keys.
  if (!isFresh) daemon.warnOfFloors()

  changed = inTurn(async () => {
    try {
      const again = await readConfig(options.config)
      for (const { message } of again.faults ?? [])
        log.error({ reason: message }, 'the config is faulty, and what was read before holds')
      if (again.value) {
        if (!sameButForLocks(config, again.value))
          log.warn('the config has changes that need a restart: only never_lock is taken over')
        neverLock = again.value.neverLock
      }
      loaded = await loadServerKeys(config.keys, config.server, loaded.keys, datagrams)
      await setKeys()
      tell(loaded, log)
      log.info({ keys: loaded.keys.length }, 'reloaded')
    } catch (error) {
      log.error({ reason: reason(error) }, 'config or keyring cannot be read, and what was read before holds')
    }
  })
  if (missed) changed()

  const taps = openTaps(config.taps, warn, datagrams)
  const ending = new AbortController()
  const exitCode = await new Promise<number>((resolve) => {
    const end = () => resolve(EXIT.ok)
    process.on('SIGTERM', end).on('SIGINT', end)
    taps
      .start(
        (tap) => daemon.hear(tap),
        () => daemon.finish().then(end),
      )
      .then(() => {
        log.info({ server: config.server, keys: loaded.keys.length, source: config.taps.source }, 'ready')
        return watchTaps(tapWatch(taps, config.firewall.backend === 'iptables' ? loggedPackets : null, warn), ending.signal)
      })
      .catch((error) => {
        complain(NAME, reason(error))
        resolve(EXIT.failure)
      })
  })
  changed = () => {}
  ending.abort()
  await taps.stop()
  await daemon.settle()
  await disk.close()
  log.info({ ...taps.counters, retransmits: daemon.retransmits }, 'ended')
  return exitCode
}

/** Says what is wrong with the keys that are refused, while the others go on opening doors. */
function tell({ faults, ignored }: ServerKeys, log: Logger): void {
  for (const { message } of faults)
    log.error({ reason: message }, 'a key file is faulty: its key is refused, or stays as it was read before')
  for (const path of ignored) log.warn({ file: path }, 'expected <id>.key: the file is ignored')
}

const sameButForLocks = (a: Config, b: Config): boolean =>
  JSON.stringify({ ...a, neverLock: null }) === JSON.stringify({ ...b, neverLock: null })

/** Runs an action once at a time; calls that come meanwhile lead to one more run. */
function inTurn(action: () => Promise<void>): () => void {
  let running = false
  let again = false
  const run = async () => {
    running = true
    do {
      again = false
      await action()
    } while (again)
    running = false
  }
  return () => {
    if (running) again = true
    else run()
  }
}

/**
 * Keys that are added or revoked are seen at once. What no watch sees (another folder in the place of this one, a filesystem that
 * can't be watched) is seen by looking.
 */
function watchFolder(folder: string, changed: () => void, warn: (message: string) => void): void {
  let isDue = false
  const tell = () => {
    isDue = false
    changed()
  }
  const soon = () => {
    // Not put off by what comes meanwhile: a folder that never rests must not keep a revocation waiting.
    if (!isDue) setTimeout(tell, WATCH_DELAY).unref()
    isDue = true
  }
  const observe = () => {
    try {
      const watcher = watch(folder, { persistent: false }, soon)
      return watcher.on('error', (error) => warn(`${folder}: is no longer watched: ${reason(error)}`))
    } catch (error) {
      warn(`${folder}: cannot be watched: ${reason(error)}`)
      return undefined
    }
  }
  const look = () => {
    try {
      return statSync(folder)
    } catch {
      // Out of reach for a while, perhaps: what was read before holds.
      return undefined
    }
  }
  let watcher = observe()
  let before = look()
  setInterval(() => {
    const after = look()
    if (after && after.ino !== before?.ino) {
      watcher?.close()
      watcher = observe()
    }
    if (after?.ino !== before?.ino || after?.mtimeMs !== before?.mtimeMs) soon()
    before = after
  }, LOOK).unref()
}
