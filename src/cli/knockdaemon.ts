import { type FSWatcher, type Stats, statSync, watch } from 'node:fs'
import { Option } from 'commander'
import pino, { type Logger } from 'pino'
import { warnOfFloors } from '../daemon/ahead'
import { checkDaemon } from '../daemon/check'
import { type Config, readConfig, SERVER_CONFIG } from '../daemon/config'
import { Daemon } from '../daemon/daemon'
import { lookForStrangers } from '../daemon/exposure/look'
import { watchExposure } from '../daemon/exposure/watch'
import { dryRunFirewall } from '../daemon/firewall/dry-run'
import { iptablesFirewall } from '../daemon/firewall/iptables'
import { loggedPackets } from '../daemon/firewall/log-rules'
import { readTables } from '../daemon/firewall/table'
import { lookForLeftOut } from '../daemon/firewall/unheard'
import { KeyringLog } from '../daemon/keyring-log'
import { openLedger } from '../daemon/ledger/disk'
import { judgePasscodes } from '../daemon/passcode-rules'
import { loadServerKeys, readAgainAt, type ServerKeys } from '../daemon/server-keys'
import { openTaps } from '../daemon/taps/open'
import { tapWatch, watchTaps } from '../daemon/taps/watch'
import { tidyingWatch } from '../daemon/tidying'
import { Leases } from '../gate/leases'
import { Listener } from '../gate/listener/listener'
import { Passcodes } from '../gate/passcodes/passcodes'
import { forbidCoreDumps } from '../system/core-dumps'
import { Fault, printable, reason } from '../system/fault'
import { checkPrivileges } from '../system/privileges'
import { checkClock } from '../system/time'
import { refuseWord } from './client/meant'
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
  .allowExcessArguments()
  .option('--config <file>', 'the config', SERVER_CONFIG)
  .option('--new-ledger', 'there has never been a ledger: start one without the wait of a minute')
  .option('--allow-root', 'run with more privileges than are needed, such as those of root')
  .option('--check', 'report every fault of config, keys and ledger, change nothing, and exit')
  .addOption(new Option('--log-level <level>', 'how much to say').choices(['error', 'warn', 'info', 'debug']).default('info'))

let isToServe = false
command.action(() => {
  const [word] = command.args
  if (word !== undefined) refuseWord(command, word)
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
  const log = pino(
    {
      level: options.logLevel,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      hooks: { streamWrite: (line) => `${printable(line.trimEnd())}\n` },
    },
    destination,
  )
  // Node says twice that it has no file descriptor for a child: once to who asked, and once to nobody.
  process.on('uncaughtException', (error) => {
    log.error({ reason: reason(error) }, 'an error that nobody caught')
    if (!('syscall' in error && String(error.syscall).startsWith('spawn'))) process.exit(EXIT.failure)
  })
  return serve(options, read.value, log)
})

async function check(file: string): Promise<number> {
  const { faults, warnings, unchecked } = await checkDaemon(file)
  for (const warning of warnings) process.stdout.write(`note: ${warning}\n`)
  for (const what of unchecked) process.stdout.write(`note: not checked: ${what}\n`)
  if (faults.length > 0) return failWith(NAME, faults)
  process.stdout.write(`${file}: no fault${unchecked.length > 0 ? ' in what was checked' : ''}\n`)
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

  const keyringLog = new KeyringLog(log)
  // Watched from before the keys are read: a key that is revoked while we start is revoked.
  let missed = false
  let changed = () => {
    missed = true
  }
  process.on('SIGHUP', () => {
    // Who asks for it hears all of it again.
    keyringLog.forget()
    changed()
  })
  const isWatched = watchFolder(config.keys, () => changed(), warn)
  const datagrams = config.datagram.ports
  let began = performance.now()
  let loaded = await loadServerKeys(config.keys, config.server, { datagrams, now: began })
  if (loaded.keys.length === 0) {
    const none = new Fault(`${config.keys}: holds no key that can be used: make one with "knockturn key new"`)
    return failWith(NAME, [...loaded.faults, ...loaded.unread, none])
  }
  keyringLog.tell(loaded, now().steady)

  const { ledger, disk, isFresh } = await openLedger(
    config.ledger.path,
    config.skew,
    now().wall,
    options.newLedger ?? false,
    warn,
  )
  const listener = new Listener(config.skew, Math.random, datagrams.length > 0)
  // Before anything is changed: a table that can't be read is not one that is not there.
  const tables = work.firewall ? await readTables(warn) : []
  const families = tables.map(({ family }) => family)
  const firewall = work.firewall ? iptablesFirewall(tables, warn) : dryRunFirewall()
  const passcodes = new Passcodes({ ...config.passcode, skew: config.skew })
  const daemon = new Daemon({ listener, passcodes, ledger, leases: new Leases(), firewall, log, now })
  let { neverLock } = config
  let judged = loaded.keys
  const lookForUnheard = inTurn(async () => {
    for (const line of await lookForLeftOut(judged, config)) warn(line)
  })
  /** Takes over the keys that were loaded, at once, but for passcodes that must not be used; resolves when all of them are heard. */
  const setKeys = async () => {
    const { keys, faults } = judgePasscodes(loaded.keys, config, now().wall)
    for (const { message } of faults) log.error({ reason: message }, 'passcodes are refused, and sealed knocks are not')
    judged = keys
    lookForUnheard()
    await daemon.setKeys(keys, neverLock)
  }
  await setKeys()
  await daemon.restore()
  if (!listener.namesWrongClocks) log.info('with so many keys, clients with a wrong clock are not named')
  // The wait of a ledger that knows nothing has been told, once for all keys.
  warnOfFloors(ledger, judged, isFresh, log, now().wall)

  /** Whether there is a reason to read again, and not time alone has passed. */
  let isAsked = false
  let timer: NodeJS.Timeout | undefined
  const failed = (error: unknown) => log.error({ reason: reason(error) }, 'something failed that should not')
  const reload = inTurn(async () => {
    clearTimeout(timer)
    const wasAsked = isAsked
    isAsked = false
    try {
      if (wasAsked) await reloadConfig()
      const before = loaded
      began = performance.now()
      loaded = await loadServerKeys(config.keys, config.server, { before, datagrams, now: began })
      // Not awaited: with many keys, or an iptables that is held up, the next revocation would have to wait.
      const taken = setKeys()
      keyringLog.tell(loaded, now().steady)
      const { keys } = loaded
      // Where the whole keyring can't be read the keys are those of before.
      const isNews = keys !== before.keys && (wasAsked || sizesOf(loaded) !== sizesOf(before))
      taken.then(() => isNews && log.info({ keys: keys.length }, 'reloaded')).catch(failed)
    } catch (error) {
      failed(error)
    }
    lookAgain()
  })
  const reloadConfig = async () => {
    const unread = (error: unknown) => ({ value: undefined, faults: [new Fault(reason(error))] })
    const { value, faults = [] } = await readConfig(options.config).catch(unread)
    for (const { message } of faults) log.error({ reason: message }, 'the config is faulty, and what was read before holds')
    if (!value) return
    if (!sameButForLocks(config, value)) log.warn('the config has changes that need a restart: only never_lock is taken over')
    neverLock = value.neverLock
  }
  /** What no event tells of is seen by looking. */
  const lookAgain = () => {
    const ended = performance.now()
    const at = readAgainAt(loaded, began, ended, isWatched())
    if (at < Infinity) timer = setTimeout(reload, Math.ceil(at - ended)).unref()
  }
  changed = () => {
    isAsked = true
    reload()
  }
  if (missed) changed()
  else lookAgain()

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
        if (work.firewall) watchExposure(() => loaded.keys, lookForStrangers, log, ending.signal)
        const looks = tapWatch(taps, work.firewall ? () => loggedPackets(families) : null, warn)
        const tidying = tidyingWatch(() => taps.counters.seen)
        return watchTaps((steady) => looks(steady).then(tidying), ending.signal)
      })
      .catch((error) => {
        complain(NAME, reason(error))
        resolve(EXIT.failure)
      })
  })
  changed = () => {}
  clearTimeout(timer)
  ending.abort()
  await taps.stop()
  await daemon.settle()
  await disk.close()
  log.info({ ...taps.counters, retransmits: daemon.retransmits }, 'ended')
  return exitCode
}

/** How much there is of each kind: what may change while nobody has asked. */
const sizesOf = ({ keys, faults, held, unread }: ServerKeys): string =>
  [keys, faults, held, unread].map(({ length }) => length).join()

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
 * can't be watched) is seen by looking, but for what is changed in its place.
 * @returns tells whether there is a watch
 */
function watchFolder(folder: string, changed: () => void, warn: (message: string) => void): () => boolean {
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
      const watching = watch(folder, { persistent: false }, soon)
      return watching.on('error', (error) => {
        warn(`${folder}: is no longer watched: ${reason(error)}`)
        if (watcher === watching) watcher = undefined
        soon()
      })
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
  let watcher: FSWatcher | undefined
  watcher = observe()
  let before = look()
  setInterval(() => {
    const after = look()
    const isAnother = !isSameFolder(after, before)
    if (after && isAnother) {
      watcher?.close()
      watcher = observe()
    }
    // The time of any change: of its mode, too.
    if (isAnother || after?.ctimeMs !== before?.ctimeMs) soon()
    before = after
  }, LOOK).unref()
  return () => watcher !== undefined
}

/** By its birth, too: a new folder may get the number of one that was deleted. */
const isSameFolder = (a: Stats | undefined, b: Stats | undefined): boolean =>
  a?.dev === b?.dev && a?.ino === b?.ino && a?.birthtimeMs === b?.birthtimeMs
