import { mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { formatRecord, readLedger } from '../../src/daemon/ledger/record'
import { freshBase, type LedgerRecord } from '../../src/gate/ledger'
import { keyText, put, scratch } from '../system/scratch'
import { RunningDaemon, run } from './programs'

const PERIOD = 30
const YEAR = 365 * 86_400_000
const FINGERPRINTS = ['00112233445566778899aabbccddeeff', 'ffeeddccbbaa99887766554433221100']
const V = '0123456789abcdef0123456789abcdef'
const ISO = '\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\dZ'

/** A ledger that was begun a year ahead of the time, by a clock by which one of two keys has knocked. */
function records(): LedgerRecord[] {
  const [ahead, now] = [Date.now() + YEAR, Date.now()].map((wall) => Math.floor(wall / 1000 / PERIOD))
  return [
    freshBase(Date.now() + YEAR, 1),
    { kind: 'floor', fingerprint: FINGERPRINTS[0], period: PERIOD, floor: ahead - 2 },
    { kind: 'spent', fingerprint: FINGERPRINTS[0], period: PERIOD, window: ahead, v: V, floor: ahead - 2 },
    { kind: 'floor', fingerprint: FINGERPRINTS[1], period: PERIOD, floor: now - 100 },
    { kind: 'spent', fingerprint: FINGERPRINTS[1], period: PERIOD, window: now - 98, v: V, floor: now - 100 },
  ]
}

/** A server with such a ledger, or with other bytes in its place, or with none. */
function server(content: string | Uint8Array | null = text(records())) {
  const folder = scratch()
  mkdirSync(join(folder, 'keys'), { mode: 0o700 })
  put(join(folder, 'keys'), 'alice.key', keyText())
  const config = put(
    folder,
    'knockturn.toml',
    'server = "gate.example"\nkeys = "keys"\n[taps]\nsource = "stdin"\n[firewall]\nbackend = "dry-run"\n[ledger]\npath = "ledger"\n',
  )
  const ledger = join(folder, 'ledger')
  if (content !== null) put(folder, 'ledger', content)
  return { folder, config, ledger, rebase: () => run('knockturn', ['ledger', 'rebase', '--config', config]) }
}

function text(of: readonly LedgerRecord[]): string {
  const lines = of.map((record) => `${formatRecord(record)}\n`).join('')
  return `knockturn-ledger 1 ${String(36 + lines.length).padStart(16, '0')}\n${lines}`
}

describe('ledger rebase', () => {
  it('puts a base of now in the place of the one that is ahead, and leaves all else', async () => {
    const { ledger, rebase } = server()
    const before = Math.floor(Date.now() / 1000)
    expect(await rebase()).toMatchObject({ code: 0 })
    const found = readLedger(readFileSync(ledger))
    const [base, ...rest] = found.records
    expect(found.state).toBe('whole')
    expect(base).toEqual({ kind: 'base', seconds: expect.any(Number), ahead: 2 })
    const { seconds } = base as LedgerRecord & { kind: 'base' }
    expect([seconds >= before, seconds <= Date.now() / 1000]).toEqual([true, true])
    expect(rest.map(formatRecord).sort()).toEqual(
      readLedger(Buffer.from(text(records())))
        .records.slice(1)
        .map(formatRecord)
        .sort(),
    )
  })

  it('says what it has done, and for whom it is not enough', async () => {
    const { ledger, rebase } = server()
    const { stdout, stderr } = await rebase()
    expect(stdout).toMatch(
      new RegExp(
        `^${ledger}: the base is now ${ISO} \\(it was ${ISO}\\): nothing sent before the next minute or so opens\nspent knocks stay spent \\(2\\), and the floors of keys stay\nnext: start the daemon\n$`,
      ),
    )
    expect(stderr).toMatch(
      new RegExp(
        `^knockturn: warning: keys that knocked while the clock was ahead open nothing for now: make new keys in their place: 00112233 \\(until ${ISO}\\)\n$`,
      ),
    )
  })

  it('leaves a file of mode 0600, and nothing else', async () => {
    const { folder, ledger, rebase } = server()
    await rebase()
    expect([statSync(ledger).mode & 0o777, readdirSync(folder).sort()]).toEqual([0o600, ['keys', 'knockturn.toml', 'ledger']])
  })

  it('has a check find nothing more to say, but of keys that have knocked', async () => {
    const { config, rebase } = server(text(records().slice(0, 1)))
    const check = () => run('knockdaemon', ['--config', config, '--check'])
    expect(await check()).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^note: \S+: the ledger's base is ahead .* run "knockturn ledger rebase"\n\S+: no fault\n$/),
    })
    await rebase()
    expect(await check()).toMatchObject({ code: 0, stdout: `${config}: no fault\n` })
  })

  it('is refused while a daemon runs, which keeps its ledger', async () => {
    const { config, ledger, rebase } = server()
    await new RunningDaemon(['--config', config]).ready()
    const before = readFileSync(ledger)
    expect(await rebase()).toEqual({
      code: 1,
      stdout: '',
      stderr: `knockturn: error: ${ledger}: a daemon uses the ledger\nhint: stop it first: it works with what it has already read\n`,
    })
    expect(readFileSync(ledger)).toEqual(before)
  })

  it('is refused where there is no ledger, and makes none', async () => {
    const { folder, ledger, rebase } = server(null)
    expect(await rebase()).toEqual({
      code: 1,
      stdout: '',
      stderr: `knockturn: error: ${ledger}: there is no ledger\nhint: start the daemon: it creates one for the current time\n`,
    })
    expect(readdirSync(folder)).not.toContain('ledger')
  })

  it('that cannot be written leaves the ledger as it was', async () => {
    const { folder, ledger, rebase } = server()
    mkdirSync(join(folder, 'ledger.new'))
    const before = readFileSync(ledger)
    expect(await rebase()).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^knockturn: error: \S+: the ledger cannot be written and is unchanged: EEXIST[^\n]*\n$/),
    })
    expect(readFileSync(ledger)).toEqual(before)
  })

  it('keeps the bytes of a damaged one aside, as a daemon does', async () => {
    const damaged = text(records()).slice(0, -5)
    const { ledger, rebase } = server(damaged)
    const kept = `knockturn: warning: ${ledger}: the ledger was damaged: its old content is kept as ${ledger}.damaged\n`
    expect(await rebase()).toMatchObject({ code: 0, stderr: expect.stringContaining(kept) })
    expect(readFileSync(`${ledger}.damaged`, 'latin1')).toBe(damaged)
    expect(readLedger(readFileSync(ledger))).toMatchObject({ state: 'whole', records: { length: 4 } })
  })

  it.each([[['--force']], [['now']]])('takes %j for a fault of usage', async (args) => {
    expect(await run('knockturn', ['ledger', 'rebase', ...args])).toMatchObject({ code: 2, stdout: '' })
  })
})

describe('ledger new', () => {
  const make = (config: string) => run('knockturn', ['ledger', 'new', '--config', config])

  it('makes one from which a daemon starts without a wait', async () => {
    const { config, ledger } = server(null)
    expect(await make(config)).toEqual({ code: 0, stdout: `made ${ledger}\n`, stderr: '' })
    expect(readLedger(readFileSync(ledger))).toEqual({ state: 'whole', records: [] })
    expect(statSync(ledger).mode & 0o777).toBe(0o600)
    const daemon = await new RunningDaemon(['--config', config, '--allow-root']).ready()
    expect(daemon.log.json.filter(({ msg }) => String(msg).includes('no knock opens anything'))).toEqual([])
    expect(await daemon.finish()).toBe(0)
  })

  it.each([
    ['whole', text(records())],
    ['damaged', text(records()).slice(0, -5)],
    ['empty', ''],
  ])('leaves one that is there as it is: a %s one', async (_, content) => {
    const { config, ledger } = server(content)
    expect(await make(config)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('there is a ledger already, and it stays'),
    })
    expect(readFileSync(ledger, 'latin1')).toBe(content)
  })

  it('leaves the one of a running daemon as it is', async () => {
    const { config, ledger } = server()
    const daemon = await new RunningDaemon(['--config', config, '--allow-root']).ready()
    const before = readFileSync(ledger)
    expect(await make(config)).toMatchObject({ code: 1, stdout: '' })
    expect(readFileSync(ledger)).toEqual(before)
    await daemon.finish()
  })
})
