import { watch } from 'node:fs'
import pino, { type Logger } from 'pino'
import { Daemon } from '../daemon'
import { Leases } from '../gate/leases'
import { Listener } from '../gate/listener'
import { checkDaemon } from '../host/check'
import { type Config, readConfig, SERVER_CONFIG } from '../host/config'
import { Fault, reason } from '../host/fault'
import { dryRunFirewall } from '../host/firewall/dry-run'
import { iptablesFirewall } from '../host/firewall/iptables'
import { openLedger } from '../host/ledger-file'
import { loadServerKeys, type ServerKeys } from '../host/server-keys'
import { nflogSource } from '../host/taps/nflog'
import { stdinSource } from '../host/taps/stdin'
import { checkClock } from '../host/time'
import { program } from './options'
import { complain, EXIT, runProgram } from './voice'

const NAME = 'knockdaemon'
const LEVELS = ['error', 'warn', 'info', 'debug']
/** Changes in the keyring's folder come in bursts; they are taken together after this many milliseconds. */
const WATCH_DELAY = 30

interface Options {
  config: string
  newLedger?: boolean
  check?: boolean
  logLevel: string
}

const command = program(
  NAME,
  'Hears knocks in the firewall and opens doors for those who may. It listens on no port and answers nobody.',
  `${NAME} --config ${SERVER_CONFIG}`,
)
  .option('--config <file>', 'the config', SERVER_CONFIG)
  .option('--new-ledger', 'there has never been a ledger: start one without the wait of a minute')
  .option('--check', 'report every fault of config, keys and ledger, change nothing, and exit')
  .option('--log-level <level>', `one of ${LEVELS.join(', ')}`, 'info')

runProgram(NAME, async () => {
  const options = command.parse().opts<Options>()
  if (!LEVELS.includes(options.logLevel))
    command.error(`error: --log-level expected one of ${LEVELS.join(', ')}, got "${options.logLevel}"`)
  const read = await readConfig(options.config)
  if (options.check) return check(options.config)
  if (read.faults) return failWith(read.faults)
  const log = pino(
    { level: options.logLevel, base: null, timestamp: pino.stdTimeFunctions.isoTime },
    pino.destination({ fd: 2, sync: true }),
  )
  return serve(options, read.value, log)
})

function ignore(): void {}

async function check(file: string): Promise<number> {
  const { faults, summary } = await checkDaemon(file)
  if (faults.length > 0) return failWith(faults)
  process.stdout.write(`${summary}\n`)
  return EXIT.ok
}

function failWith(faults: readonly Fault[]): number {
  for (const { message } of faults) complain(NAME, message)
  return EXIT.failure
}

/** Joins the pipeline's stages, feeds it taps, keys and signals, and ends it in order. */
async function serve(options: Options, config: Config, log: Logger): Promise<number> {
  // Until there is something to reload: a SIGHUP must not end us.
  process.on('SIGHUP', ignore)
  const now = () => ({ wall: Date.now(), steady: performance.now() })
  const warn = (message: string) => log.warn(message)
  checkClock(now().wall, 'set it before the daemon starts')
  const loaded = await loadServerKeys(config.keys, config.server)
  let { keys } = loaded
  if (keys.length === 0) {
    return failWith([
      ...loaded.faults,
      new Fault(`${config.keys}: holds no key that can be used: make one with "knockturn key new"`),
    ])
  }
  tell(loaded, log)
  const { ledger, disk } = await openLedger(config.ledger.path, config.skew, now().wall, options.newLedger ?? false, warn)
  const listener = new Listener(config.skew, Math.random)
  const firewall = config.firewall.backend === 'iptables' ? iptablesFirewall(warn) : dryRunFirewall()
  const daemon = new Daemon({ listener, ledger, leases: new Leases(), firewall, skew: config.skew, log, now })
  daemon.setKeys(keys, config.neverLock)
  await daemon.restore()
  while (!listener.prepare(now())) await new Promise(setImmediate)
  if (!listener.namesWrongClocks) log.info('with so many keys, clients with a wrong clock are not named')
  daemon.warnOfFloors()

  const reload = async () => {
    const again = await readConfig(options.config)
    for (const fault of again.faults ?? [])
      log.error({ reason: fault.message }, 'the config is faulty, and what was read before holds')
    const neverLock = again.faults ? config.neverLock : again.value.neverLock
    if (again.value && !sameButForKeys(config, again.value)) log.warn('the config has changes that need a restart')
    try {
      const loaded = await loadServerKeys(config.keys, config.server, keys)
      keys = loaded.keys
      daemon.setKeys(keys, neverLock)
      tell(loaded, log)
      log.info({ keys: keys.length }, 'reloaded')
    } catch (error) {
      log.error({ reason: reason(error) }, 'the keyring cannot be read, and what was read before holds')
    }
  }
  const reloading = inTurn(reload)
  process.on('SIGHUP', reloading).removeListener('SIGHUP', ignore)
  const watcher = watchFolder(config.keys, reloading, warn)

  const { source, group, prefix } = config.taps
  const taps = source === 'nflog' ? nflogSource(group, prefix, warn) : stdinSource(prefix)
  const ended = new Promise<void>((resolve) => {
    process.on('SIGTERM', resolve).on('SIGINT', resolve)
    taps
      .start(
        (tap) => daemon.hear(tap),
        () => daemon.finish().then(resolve),
      )
      .then(() => log.info({ server: config.server, keys: keys.length, source }, 'ready'))
      .catch((error) => {
        complain(NAME, reason(error))
        process.exitCode = EXIT.failure
        resolve()
      })
  })
  await ended
  watcher?.close()
  process.on('SIGHUP', ignore).removeListener('SIGHUP', reloading)
  await taps.stop()
  await daemon.settle()
  await disk.close()
  log.info({ ...taps.counters, retransmits: daemon.retransmits }, 'ended')
  return (process.exitCode as number | undefined) ?? EXIT.ok
}

/** Says what is wrong with the keys that are refused, while the others go on opening doors. */
function tell({ faults, ignored }: ServerKeys, log: Logger): void {
  for (const { message } of faults) log.error({ reason: message }, 'a key is refused')
  for (const path of ignored) log.warn({ file: path }, 'expected <id>.key: the file is ignored')
}

const sameButForKeys = (a: Config, b: Config): boolean =>
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

/** Keys that are added or revoked are seen at once; where a folder can't be watched, SIGHUP does it. */
function watchFolder(folder: string, changed: () => void, warn: (message: string) => void) {
  let timer: NodeJS.Timeout | undefined
  try {
    const watcher = watch(folder, () => {
      clearTimeout(timer)
      timer = setTimeout(changed, WATCH_DELAY)
    })
    watcher.on('error', (error) => warn(`${folder}: no longer watched, use SIGHUP: ${reason(error)}`))
    return watcher
  } catch (error) {
    warn(`${folder}: cannot be watched, use SIGHUP: ${reason(error)}`)
    return undefined
  }
}
