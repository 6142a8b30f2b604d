// So many gateways of one fleet in this process, each with a link of its own that beats and watches; and claims by one of them.
//
//     node test/run.mjs test/bench/gateways.ts COUNT ENDPOINTS TLS

import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { FleetLedger } from '../../src/daemon/fleet/claims'
import { openEtcd } from '../../src/daemon/fleet/etcd/client'
import { GatewayLink } from '../../src/daemon/fleet/gateway-link'
import { keysWord } from '../../src/daemon/fleet/gateway-row'
import { joined } from '../../src/daemon/fleet/memory'
import { Rhythm } from '../../src/daemon/fleet/rhythm'
import { BASE, formatBase } from '../../src/daemon/fleet/rows'
import type { Knock } from '../../src/gate/knock'
import { Ledger } from '../../src/gate/ledger'
import { keyOf, requestOf, SOURCE, WINDOW } from '../gate/listener/ear'
import { report, times } from './figures'

const SKEW = 1
const PERIOD = 30
/** Claims one after the other, and so many together. */
const SINGLE = times(300, 3)
const TOGETHER = times(2_000, 5)
const AT_ONCE = 64
/** Milliseconds for which nothing but beats is watched. */
const QUIET = times(10_000, 100)
/** Until all have heard each other. */
const PATIENCE = 60_000

const now = () => ({ wall: Date.now(), steady: performance.now() })
const key = keyOf(1)
const fingerprint = randomBytes(16).toString('hex')

report(async () => {
  const [count = 1, endpoints = [], tls] = process.argv.slice(2, 5).map((text) => JSON.parse(text))
  // Another prefix for each run: a fleet of its own.
  const prefix = `bench-${randomBytes(4).toString('hex')}/`
  const base = { fleet: randomBytes(8).toString('hex'), server: '', epoch: 1, seconds: (WINDOW - 1_000) * PERIOD, ahead: 0 }
  const gateways = []
  for (let n = 0; n < count; n++) {
    const gateway = `gw${n}`
    const etcd = await openEtcd({ endpoints, prefix, timeout: 5_000, gateway, pinned: false, tls, login: null })
    if (n === 0) await etcd.transact({ if: [], do: [{ put: BASE, value: formatBase(base) }], else: [] })
    const { header } = await etcd.transact({ if: [], do: [], else: [] })
    const link = new GatewayLink({
      ...{ etcd, gateway, server: '', skew: SKEW, program: 'bench', now },
      memory: joined(base, header, gateway),
      life: randomBytes(8).toString('hex'),
      remember: async () => {},
      window: () => PERIOD * 1_000,
      keys: () => keysWord([fingerprint]),
      about: () => ({ lastTap: null, leases: 0, locks: 0 }),
      synchronised: () => true,
      told: () => {},
    })
    const rhythm = new Rhythm({ link, etcd, now, looked: () => {}, failed: () => {} })
    rhythm.begin()
    gateways.push({ etcd, link, rhythm })
  }
  const [first] = gateways
  if (!first) throw new Error('no gateway')
  for (const until = performance.now() + PATIENCE; gateways.some(({ link }) => link.refusal(now()) !== null); await sleep(50)) {
    if (performance.now() > until) throw new Error(first.link.refusal(now()) ?? 'not all gateways opened in time')
  }

  const revision = () => first.link.standing.trust.newest.revision
  const [before, began] = [revision(), performance.now()]
  await sleep(QUIET)
  const writes = (revision() - before) / ((performance.now() - began) / 1_000)

  const own = new Ledger([], { append: async () => {} }, SKEW)
  const ledger = new FleetLedger(own, first.etcd, first.link, { skew: SKEW, timeout: 5_000, now, warn: () => {} })
  let said = 0
  const claim = async () => {
    const n = ++said
    const knock: Knock = {
      ...{ key, window: WINDOW + Math.floor(n / 1_000), request: requestOf(n & 0xffff), v: n.toString(16).padStart(32, '0') },
      ...{ source: SOURCE, destination: SOURCE, heard: performance.now(), arrival: 'timely' },
    }
    const { outcome } = await ledger.claim(knock, fingerprint)
    if (outcome !== 'spent') throw new Error(`a claim is ${outcome}`)
  }
  const claims: number[] = []
  for (let n = 0; n < SINGLE; n++) {
    const start = performance.now()
    await claim()
    claims.push(performance.now() - start)
  }
  const start = performance.now()
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      for (let n = 0; n < TOGETHER / AT_ONCE; n++) await claim()
    }),
  )
  const rate = (AT_ONCE * Math.ceil(TOGETHER / AT_ONCE)) / ((performance.now() - start) / 1_000)
  for (const { etcd, rhythm } of gateways) {
    await rhythm.end()
    etcd.close()
  }
  return { claims, rate, writes }
})
