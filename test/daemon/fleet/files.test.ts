import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { checkDaemon } from '../../../src/daemon/check'
import { checkFleetFiles } from '../../../src/daemon/checks/fleet'
import type { FleetConfig } from '../../../src/daemon/fleet/config'
import { type FleetMemory, writeMemory } from '../../../src/daemon/fleet/memory'
import { type ClientTls, makeCertificates } from '../../lab/certificates'
import { put, scratch } from '../../system/scratch'

/* What knockdaemon --check says of the files of a gateway. */

const DAY = 86_400_000
const MEMORY: FleetMemory = {
  ...{
    fleet: '0123456789abcdef',
    gateway: 'gw1',
    epoch: 1,
    seconds: 1,
    cluster: '',
    revision: 1,
    term: 1,
    reached: 0,
    beat: 0,
    life: '',
  },
  restored: false,
}
let certificates: { server: ClientTls; client: ClientTls }
beforeAll(async () => {
  certificates = await makeCertificates(scratch(), ['127.0.0.1'])
})

/** The files of a gateway that has joined, each as it should be. */
async function files() {
  const folder = scratch()
  const { ca, cert, key } = certificates.client
  const [ours, own, secret] = [ca, cert, key].map((path) => readFileSync(path, 'utf8'))
  const tls = {
    ca: put(folder, 'ca.pem', ours ?? ''),
    cert: put(folder, 'own.pem', own ?? ''),
    key: put(folder, 'own.key', secret ?? ''),
  }
  const login = put(folder, 'login', 'knockturn\nsecret-word\n')
  const ledger = join(folder, 'ledger')
  await writeMemory(ledger, MEMORY)
  const fleet: FleetConfig = {
    endpoints: ['https://10.0.0.1:2379'],
    prefix: 'k/',
    timeout: 5_000,
    gateway: 'gw1',
    pinned: false,
    tls,
    login,
  }
  return { folder, fleet, ledger }
}
type Files = Awaited<ReturnType<typeof files>>

/** What is said of them, once something is planted. */
async function said(plant: (at: Files) => void, after = 0) {
  const at = await files()
  plant(at)
  const checks = await checkFleetFiles(at.fleet, at.ledger, Date.now() + after)
  return checks.map(({ verdict, evidence }) => `${verdict}: ${evidence.replaceAll(`${at.folder}/`, '')}`)
}

describe('the files of a gateway', () => {
  it('are well where all can be read, and it has joined', async () => {
    expect(await said(() => {})).toEqual([
      'ok: gateway "gw1" has joined fleet 0123456789abcdef, and can read all that it needs to ask etcd',
    ])
  })

  it.each<[string, (at: Files) => void, RegExp]>([
    [
      'has no CA',
      ({ fleet }) => put(scratch(), 'x', String(Object.assign(fleet.tls, { ca: '/nonexistent/ca' }))),
      /^fault: \/nonexistent\/ca: /,
    ],
    ['has a CA that is none', ({ folder }) => put(folder, 'ca.pem', 'x'), /^fault: ca\.pem: expected a certificate in PEM/],
    [
      'has a key that others may read',
      ({ folder, fleet }) => put(folder, 'own.key', readFileSync(fleet.tls.key ?? ''), 0o644),
      /^fault: own\.key: expected mode 0600, got 0644$/,
    ],
    [
      'has the key of another certificate',
      ({ folder }) => put(folder, 'own.key', readFileSync(certificates.server.key)),
      /^fault: .*own\.key: cannot be used for TLS: .*mismatch/,
    ],
    [
      'has a login that others may read',
      ({ folder }) => put(folder, 'login', 'a\nb\n', 0o640),
      /^fault: login: expected mode 0600, got 0640$/,
    ],
    [
      'has a login without a password',
      ({ folder }) => put(folder, 'login', 'secret-word\n'),
      /^fault: login: expected two lines, .*\(not shown\)$/,
    ],
    ['has not joined', ({ folder }) => put(folder, 'fleet.json', '{}'), /^fault: fleet\.json: is damaged$/],
    [
      'has another name',
      ({ fleet }) => Object.assign(fleet, { gateway: 'gw2' }),
      /^fault: fleet\.json: this gateway has joined as "gw1", and the config says "gw2"$/,
    ],
  ])('are not well where it %s', async (_, plant, wanted) => {
    const lines = await said(plant)
    expect(lines).toEqual([expect.stringMatching(wanted)])
    expect(lines.join()).not.toContain('secret-word')
  })

  it('are a note where a certificate expires soon, and a fault where it has', async () => {
    expect(await said(() => {}, 17 * DAY)).toEqual([
      expect.stringMatching(/^note: ca\.pem: this certificate expires soon, at 2/),
      expect.stringMatching(/^note: own\.pem: this certificate expires soon, at 2/),
    ])
    expect(await said(() => {}, 31 * DAY)).toEqual([
      expect.stringMatching(/^fault: ca\.pem: this certificate has expired at 2.*: etcd cannot be asked$/),
      expect.stringMatching(/^fault: own\.pem: this certificate has expired at 2/),
    ])
  })

  it('are not asked for where etcd is asked by http', async () => {
    expect(
      await said(({ fleet }) =>
        Object.assign(fleet, { endpoints: ['http://127.0.0.1:1'], tls: { ca: '/nonexistent' }, login: null }),
      ),
    ).toEqual([expect.stringMatching(/^ok: /)])
  })

  it('are named by --check where this gateway has not joined, and not where there is no fleet', async () => {
    const folder = scratch()
    const text = (etcd: string) =>
      `server = "gate.example"\nkeys = "."\n[firewall]\nbackend = "dry-run"\n[taps]\nsource = "stdin"\n[ledger]\npath = "ledger"\n${etcd}`
    const fleetChecks = async (etcd: string) =>
      (await checkDaemon(put(folder, 'knockturn.toml', text(etcd)))).filter(({ name }) => name === 'fleet files')
    expect(await fleetChecks('')).toEqual([])
    expect(await fleetChecks('etcd = ["http://127.0.0.1:2379"]\ngateway = "gw1"\n')).toMatchObject([
      { verdict: 'fault', evidence: `${join(folder, 'fleet.json')}: is missing: this gateway has not joined its fleet` },
    ])
  })
})
