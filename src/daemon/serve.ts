import type { Logger } from 'pino'
import { Chronicle } from '../gate/chronicle'
import { Leases } from '../gate/leases'
import { Listener } from '../gate/listener/listener'
import { Passcodes } from '../gate/passcodes/passcodes'
import type { ServerKey } from '../gate/server-key'
import type { Service } from '../protocol/service'
import { Fault, reason } from '../system/fault'
import { serviceManager } from '../system/service-manager'
import { warnOfFloors } from './ahead'
import { anew } from './anew'
import { backendOf } from './backends/all'
import type { Backend, Rules } from './backends/backend'
import { sweepOthers } from './backends/sweep'
import { guardOfNow, RecentNetworks } from './bridges'
import { untilClockIsRight } from './clock-wait'
import type { Config } from './config'
import { Daemon } from './daemon'
import { watchExposure } from './exposure/watch'
import { FailOpenWatch } from './fail-open-watch'
import type { Fleet, FleetSetup } from './fleet/fleet'
import { openLedger } from './ledger/disk'
import { Orders } from './orders/orders'
import { checkPrivileges } from './privileges'
import { Pulse } from './pulse'
import { Reloader } from './reload'
import { StateKeeper } from './state/keeper'
import { poolOf, tapRulesOf } from './tap-rules'
import { openTaps } from './taps/open'
import type { TapSource } from './taps/source'
import { tapWatch, watchTaps } from './taps/watch'
import { tidyingWatch } from './tidying'
import { UnknownConnections, watchUnknown } from './unknown-connections'

/** What the administrator has said, beside the config. */
export interface ServeOptions {
  /** The config's path, to read it again. */
  readonly file: string
  /** There has never been a ledger. */
  readonly newLedger: boolean
  /** More privileges than are needed are all right. */
  readonly allowRoot: boolean
  /** How the daemon was called: what to do about its privileges names it. */
  readonly command: string
  /** Version and commit: its state names them. */
  readonly program: string
}

/** Both clocks, in milliseconds. */
const now = () => ({ wall: Date.now(), steady: performance.now() })

/**
 * Runs a daemon: config, keys and ledger become the pipeline's stages, taps are fed to it, and a signal or the end of its input ends it in order.
 * @param complain told why no key can be used, or why taps can't be had any more
 * @returns whether it has ended in order, and not for what was complained of
 * @throws {Fault} where it can't start
 */
export async function serve(
  options: ServeOptions,
  config: Config,
  log: Logger,
  complain: (faults: readonly Fault[]) => void,
): Promise<boolean> {
  const warn = (message: string) => log.warn(message)
  const backend = backendOf(config)
  const work = { firewall: backend.isReal, capture: config.taps.source === 'nflog' }
  await checkPrivileges(work, options.allowRoot, options.command, warn)

  const reloader = new Reloader(options.file, config, log)
  process.on('SIGHUP', () => reloader.readAll())
  const faults = await reloader.load()
  if (faults.length > 0) {
    complain(faults)
    return false
  }
  const taps = openTaps(config.taps, warn, config.datagram.ports)
  const pulse = pulseOf(taps, config, backend, reloader, log)
  await untilClockIsRight(log, now, (status) => pulse.wait(status, now().steady))
  const chronicle = new Chronicle(now().wall)
  const { daemon, disk, open, unknown, leases, fleet } = await begin(options, config, backend, reloader, chronicle, log)
  const keeper = new StateKeeper({
    program: options.program,
    file: options.file,
    ...{ config, leases, chronicle, taps, log, now },
    keys: () => reloader.judged,
    heard: () => daemon.heard,
    hearing: () => pulse.hearing,
    fleet,
  })
  await keeper.begin()
  const orders = new Orders({ ledger: config.ledger.path, daemon, chronicle, show: () => keeper.show(), log, now })
  await orders.begin()
  reloader.follow()
  const ending = new AbortController()
  const failOpen = new FailOpenWatch(open, log)
  open.follow(() => {
    daemon.alarm()
    failOpen.look()
  }, ending.signal)
  watchUnknown(unknown, () => daemon.alarm(), ending.signal)
  await sweepOthers(backend, config, log)

  const isInOrder = await new Promise<boolean>((resolve) => {
    const end = () => resolve(true)
    process.on('SIGTERM', end).on('SIGINT', end)
    taps
      .start(
        (tap) => {
          orders.hear(tap)
          if (!pulse.isProbe(tap)) daemon.hear(tap)
        },
        () => daemon.finish().then(end),
      )
      .then(async () => {
        // In this order: bin/knockturn-fail-open looks once more when it has opened, and takes that back where a daemon lives.
        await pulse.begin(ending.signal)
        failOpen.begin()
        log.info({ server: config.server, keys: reloader.keys.length, source: config.taps.source }, 'ready')
        const strangers = (services: readonly Service[]) => backend.strangers(services, config.firewall.guard)
        if (backend.isReal) watchExposure(() => reloader.keys, strangers, log, ending.signal)
        const looks = tapWatch(taps, open.logged, warn)
        const tidying = tidyingWatch(() => taps.counters.seen)
        return watchTaps((steady) => looks(steady).then(tidying), ending.signal)
      })
      .catch((error) => {
        complain([error instanceof Fault ? error : new Fault(reason(error))])
        resolve(false)
      })
  })
  reloader.stop()
  ending.abort()
  await taps.stop()
  // What a daemon that ends lets go of stays open at other gateways.
  await fleet?.leave()
  await daemon.settle()
  await fleet?.end()
  await orders.end()
  await keeper.end()
  await disk.close()
  log.info({ ...taps.counters, retransmits: daemon.retransmits }, 'ended')
  return isInOrder
}

/** What shows that a daemon lives and hears. */
function pulseOf(taps: TapSource, config: Config, backend: Backend, reloader: Reloader, log: Logger): Pulse {
  return new Pulse({
    manager: serviceManager(process.env, process.pid),
    taps,
    isProbed: config.taps.source === 'nflog',
    isSure: backend.hearsLoopback,
    pool: anew(() => reloader.judged, poolOf),
    log,
  })
}

/** Joins the stages, and has the daemon take over the keys and what an earlier run has left in force. */
async function begin(
  { newLedger, program }: ServeOptions,
  config: Config,
  backend: Backend,
  reloader: Reloader,
  chronicle: Chronicle,
  log: Logger,
) {
  const warn = (message: string) => log.warn(message)
  const { ledger, disk, isFresh } = await openLedger(config.ledger.path, config.skew, now().wall, newLedger, warn)
  const listener = new Listener(config.skew, Math.random, config.datagram.ports.length > 0)
  const leases = new Leases({ all: backend.maxLeases, key: config.firewall.leasesPerKey })
  const fleet = await fleetOf({ config, own: ledger, leases, chronicle, keys: () => reloader.judged, program, log, now })
  const unknown = new UnknownConnections(config.firewall.guard.ports)
  await unknown.look()
  // Before anything is changed: a table that can't be read is not one that is not there.
  const open = await backend.open(
    currentRules(
      config,
      () => reloader.judged,
      () => unknown.isNone,
    ),
    (entry) => leases.left(entry, now()),
    warn,
    log,
  )
  const passcodes = new Passcodes({ ...config.passcode, skew: config.skew })
  const stages = { listener, passcodes, ledger, leases, firewall: open.firewall, chronicle, log, now }
  const daemon = new Daemon({ ...stages, ...fleet?.stages })
  await reloader.handTo(daemon)
  await daemon.restore()
  fleet?.begin(daemon)
  if (!listener.namesWrongClocks) log.info('too many keys to diagnose clients whose clock is wrong')
  // The wait of a ledger that knows nothing has been told, once for all keys.
  warnOfFloors(ledger, reloader.judged, isFresh, log, now().wall)
  return { daemon, disk, open, unknown, leases, fleet }
}

/** The fleet of a config that has one. Nothing of it is loaded where there is none. */
async function fleetOf(setup: FleetSetup): Promise<Fleet | undefined> {
  if (setup.config.ledger.fleet === null) return undefined
  const { openFleet } = await import('./fleet/fleet')
  return openFleet(setup)
}

/** What the firewall is to have beside leases, by the keys of now: made anew when these have changed. */
function currentRules(config: Config, keys: () => readonly ServerKey[], isStrict: () => boolean): () => Rules {
  const recent = new RecentNetworks()
  const taps = anew(keys, (current) => (config.taps.source === 'stdin' ? null : tapRulesOf(current, config)))
  return () => {
    const guard = guardOfNow(config.firewall.guard, isStrict())
    return { guard: { ...guard, networks: recent.with(guard.networks, performance.now()) }, taps: taps() }
  }
}
