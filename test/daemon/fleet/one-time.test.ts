import { afterEach, beforeEach, vi } from 'vitest'
import { freshBase, type LedgerRecord } from '../../../src/gate/ledger'
import { Disk } from '../../gate/disk'
import { type Beginning, conforms, type Subject } from '../../gate/one-time'
import { Gateway } from './gateway'
import { foundation, OLD_BASE } from './plain-link'
import { Twin } from './twin'

const records = (beginning: Beginning): LedgerRecord[] =>
  beginning.base === null ? [] : [freshBase(beginning.base * 30_000, beginning.skew)]

conforms('a file', async (beginning) => {
  const disk = new Disk(records(beginning))
  const subject = {
    ledger: disk.start(beginning.skew),
    restart: async () => {
      subject.ledger = disk.start(beginning.skew)
    },
    fail: async (fails: boolean) => {
      disk.broken = fails
    },
    settle: async () => {},
  }
  return subject
})

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

async function begin(beginning: Beginning, names: readonly string[]): Promise<Gateway<Twin>[]> {
  const twin = new Twin()
  const gateways = names.map((name) => new Gateway(twin.beside(), name, beginning))
  const { base } = gateways[0]?.link.base ?? { base: OLD_BASE }
  await twin.transact(foundation(base))
  return gateways
}

/** Has all time pass that a gateway waits before it asks etcd again. */
const settle = async () => void (await vi.advanceTimersByTimeAsync(10_000))

/** A fleet of which one gateway hears everything. @param fail of what it must ask */
const alone = (fail: (gateway: Gateway<Twin>, fails: boolean) => void) => async (beginning: Beginning) => {
  const [gateway] = (await begin(beginning, ['gw1'])) as [Gateway<Twin>]
  const subject = {
    ledger: gateway.ledger,
    restart: async () => {
      subject.ledger = gateway.start()
    },
    fail: async (fails: boolean) => fail(gateway, fails),
    settle,
  }
  return subject
}

conforms(
  'a fleet that has no quorum at times',
  alone(({ etcd }, fails) => {
    etcd.trouble = fails ? 'no-quorum' : null
  }),
)
conforms(
  'a fleet whose answers are lost at times',
  alone(({ etcd }, fails) => {
    etcd.always = fails ? 'lost after' : null
  }),
)
conforms(
  'a fleet whose requests are lost at times',
  alone(({ etcd }, fails) => {
    etcd.always = fails ? 'lost before' : null
  }),
)
conforms(
  'a fleet in which a gateway’s disk fails at times',
  alone(({ disk }, fails) => {
    disk.broken = fails
  }),
)
conforms(
  'a fleet in which a gateway stops to trust its link at times',
  alone(({ link }, fails) => {
    link.refused = fails ? 'the watch is 12 s old' : null
  }),
)

conforms(
  'two gateways that hear in turn',
  async (beginning): Promise<Subject> => {
    const gateways = await begin(beginning, ['gw1', 'gw2'])
    let turn = 0
    const next = () => (gateways[turn++ % 2] as Gateway<Twin>).ledger
    return {
      ledger: {
        claim: (knock, fingerprint) => next().claim(knock, fingerprint),
        ask: (knock, fingerprint) => next().ask(knock, fingerprint),
        firstSource: (knock, fingerprint) => next().firstSource(knock, fingerprint),
        opensAt: (fingerprint, period, wall) => next().opensAt(fingerprint, period, wall),
        remedy: '',
      },
      restart: async () => {
        for (const gateway of gateways) gateway.start()
      },
      fail: async (fails) => {
        for (const { etcd } of gateways) etcd.trouble = fails ? 'unreachable' : null
      },
      settle,
    }
  },
  true,
)
