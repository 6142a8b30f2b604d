import { describe, expect, it } from 'vitest'
import { newConfig } from '../../../src/admin/setup/config-text'
import { planOf, type Step, type Templates, unitNames } from '../../../src/admin/setup/plan'
import type { Answers } from '../../../src/admin/setup/proposal'
import { printedStep } from '../../../src/admin/setup/take-step'
import type { KnownKey, There } from '../../../src/admin/setup/there'
import { parseConfig } from '../../../src/daemon/config'
import { DEFAULT_POOL, parsePool } from '../../../src/protocol/pool'

const ANSWERS: Answers = {
  host: 'gate.example',
  key: 'alice',
  services: [
    { port: 22, protocol: 'tcp' },
    { port: 8080, protocol: 'tcp' },
  ],
  pool: DEFAULT_POOL,
  guard: 'all',
  public: ['80/tcp'],
  backend: 'nftables',
}
const TEMPLATES: Templates = {
  'knockdaemon.service': 'ExecStart=/opt/knockturn/bin/knockdaemon\n',
  'knockturn-guard.service': 'ExecStart=/opt/knockturn/bin/knockturn-guard\n',
  'knockturn-trial.service': 'ExecStart=/opt/knockturn/bin/knockturn-trial settle\n',
  'nftables-guarded.conf': 'ExecStart=\n',
}
const BARE: There = {
  hasSystemd: true,
  hasUser: false,
  config: null,
  keys: [],
  folders: new Set(),
  hasLedger: false,
  units: new Map(),
  hasNftablesService: false,
  isGuarded: false,
  isRunning: false,
  isEnabled: false,
}
const ROOT = '/usr/lib/knockturn'
const plan = (there: Partial<There> = {}, answers: Partial<Answers> = {}, wanted = false) =>
  planOf({ ...ANSWERS, ...answers }, { ...BARE, ...there }, TEMPLATES, wanted, ROOT)
const texts = (steps: readonly Step[]) =>
  steps.map((step) => (step.kind === 'file' ? step.path : printedStep(step, true).trimEnd().split('\n').at(-1)))
const key = (id: string, isValid = true): KnownKey => ({
  id,
  isValid,
  host: 'gate.example',
  services: ANSWERS.services,
  key: { pool: parsePool(DEFAULT_POOL) },
})
const ready = async (text = newConfig(ANSWERS)): Promise<There> => {
  const { value } = await parseConfig('/etc/knockturn/knockturn.toml', text)
  if (!value) throw new Error(text)
  return {
    hasSystemd: true,
    hasUser: true,
    config: { text, value },
    keys: [key('bob')],
    folders: new Set(['/etc/knockturn', '/etc/knockturn/keys', '/var/lib/knockturn']),
    hasLedger: true,
    units: new Map(unitNames(TEMPLATES).map((name) => [name, null])),
    hasNftablesService: true,
    isGuarded: true,
    isRunning: true,
    isEnabled: true,
  }
}

describe('the plan of a bare server', () => {
  it('is all that there is to do, in its order', () => {
    expect(texts(plan().steps)).toEqual([
      '/etc/systemd/system/knockturn-trial.service',
      '/etc/systemd/system/knockdaemon.service',
      '/etc/systemd/system/knockturn-guard.service',
      'systemctl daemon-reload',
      'systemctl enable --quiet knockturn-trial.service',
      'useradd --system --user-group --home-dir /var/lib/knockturn --no-create-home --shell /usr/sbin/nologin knockturn',
      'install -d -m 755 /etc/knockturn',
      'install -d -m 700 -o knockturn -g knockturn /etc/knockturn/keys',
      'install -d -m 700 -o knockturn -g knockturn /var/lib/knockturn',
      '/etc/knockturn/knockturn.toml',
      'knockturn key new alice --host gate.example --services 22/tcp,8080/tcp --config /etc/knockturn/knockturn.toml',
      'knockturn ledger new --config /etc/knockturn/knockturn.toml',
      'knockturn guard save --config /etc/knockturn/knockturn.toml',
      'knockturn firewall install --config /etc/knockturn/knockturn.toml',
      'systemctl reload-or-restart knockturn-guard.service',
      'systemctl restart knockdaemon.service',
    ])
  })

  it('writes nothing outside of what a trial can put back', () => {
    const OURS =
      /^(\/etc\/knockturn\/|\/etc\/systemd\/system\/(knock(daemon|turn-[a-z-]+)\.(service|timer)|nftables\.service\.d\/knockturn\.conf)$)/
    const files = plan({ hasNftablesService: true }).steps.flatMap((step) => (step.kind === 'file' ? [step.path] : []))
    expect(files.filter((path) => !OURS.test(path))).toEqual([])
    expect(files).toContain('/etc/systemd/system/nftables.service.d/knockturn.conf')
  })

  it('closes nothing before the key, the ledger and the saved guard are there', () => {
    const steps = texts(plan().steps)
    const at = (text: string) => steps.findIndex((step) => step?.includes(text))
    for (const earlier of ['key new', 'ledger new', 'guard save', 'knockturn-trial.service'])
      expect(at(earlier)).toBeLessThan(at('firewall install'))
  })

  it('has units that find the programs where they lie', () => {
    const units = plan().steps.flatMap((step) => (step.kind === 'file' && step.path.endsWith('.service') ? [step.text] : []))
    expect(units.join('')).not.toContain('/opt/knockturn')
    expect(units.join('')).toContain('ExecStart=/usr/lib/knockturn/bin/knockdaemon\n')
  })

  it('has no units where a package has them, and none where there is no systemd', () => {
    const units = new Map(unitNames(TEMPLATES).map((name) => [name, null]))
    expect(texts(plan({ units, hasNftablesService: true }).steps).filter((text) => text?.includes('.service'))).toEqual([
      'systemctl reload-or-restart knockturn-guard.service',
      'systemctl restart knockdaemon.service',
    ])
    expect(plan({ hasSystemd: false }).steps.filter((step) => step.kind === 'file')).toHaveLength(1)
  })

  it('gives nftables.service the guard only with nftables', () => {
    const steps = texts(plan({ hasNftablesService: true }, { backend: 'iptables' }).steps)
    expect(steps.filter((text) => text?.includes('nftables'))).toEqual([])
  })

  it('leaves an administrator’s unit as it is, and says so', () => {
    const { steps, notes } = plan({ units: new Map([['knockdaemon.service', '# mine\n']]) })
    expect(texts(steps)).not.toContain('/etc/systemd/system/knockdaemon.service')
    expect(notes).toEqual(["/etc/systemd/system/knockdaemon.service differs from this version's, and stays as it is"])
  })

  it('makes a key with a pool of its own where the usual one will not do', () => {
    const steps = texts(plan({}, { pool: '49152-51819,51821-65535' }).steps)
    expect(steps.find((text) => text?.includes('key new'))).toContain(' --pool 49152-51819,51821-65535 ')
  })
})

describe('the plan of a server that is set up', () => {
  it('is nothing', async () => {
    expect(plan(await ready())).toMatchObject({ steps: [], newKey: null, notes: [] })
  })

  it('is nothing where there is no systemd to start it', async () => {
    expect(plan({ ...(await ready()), hasSystemd: false, units: new Map() }).steps).toEqual([])
  })

  it('is to start what does not run, and to have it enabled', async () => {
    const start = ['systemctl reload-or-restart knockturn-guard.service', 'systemctl restart knockdaemon.service']
    expect(texts(plan({ ...(await ready()), isRunning: false }).steps)).toEqual(start)
    expect(texts(plan({ ...(await ready()), isEnabled: false }).steps)).toEqual(start)
  })

  it('makes no second key, but one that was asked for by its name', async () => {
    expect(plan(await ready(), { key: 'carol' }).newKey).toBe(null)
    expect(plan(await ready(), { key: 'carol' }, true).newKey).toBe('carol')
    expect(plan(await ready(), { key: 'bob' }, true).steps).toEqual([])
  })

  it('makes a key where none is valid, and none over another one', async () => {
    const there = { ...(await ready()), keys: [key('bob', false)] }
    expect(plan(there, { key: 'alice' }).newKey).toBe('alice')
    expect(() => plan(there, { key: 'bob' })).toThrow('the key bob is revoked or expired')
  })

  it('never makes a ledger over one that is there', async () => {
    const steps = texts(plan({ ...(await ready()), keys: [] }).steps)
    expect(steps.filter((text) => text?.includes('ledger new'))).toEqual([])
  })

  it('edits a config that says something else, and puts the new guard in place', async () => {
    const text = 'server = "other" # mine\n'
    const { config, steps } = plan(await ready(text))
    expect(config).toContain(text)
    expect(config).toContain('guard = "all"\npublic = ["80/tcp"]\n')
    expect(texts(steps).slice(0, 3)).toEqual([
      '/etc/knockturn/knockturn.toml',
      'knockturn guard save --config /etc/knockturn/knockturn.toml',
      'knockturn firewall install --config /etc/knockturn/knockturn.toml',
    ])
  })
})
