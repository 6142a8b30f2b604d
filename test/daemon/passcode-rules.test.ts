import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { type Config, readConfig } from '../../src/daemon/config'
import { installScript } from '../../src/daemon/iptables/chains'
import { hears } from '../../src/daemon/iptables/log-rules'
import { parseTable } from '../../src/daemon/iptables/table'
import { judgePasscodes } from '../../src/daemon/passcode-rules'
import type { ServerKey } from '../../src/gate/server-key'
import { formatKeyFile, parseKeyFile } from '../../src/keys/key-file'
import { writePasscode } from '../../src/keys/passcode-table'
import { parsePool } from '../../src/protocol/pool'
import { inOneLine } from '../../src/system/fault'
import { keyText, put, scratch } from '../system/scratch'

const GRANT = 'services = ["22/tcp", "443/tcp"]\nmax = "30m"'
const parse = (passcode: string, grant = GRANT) => parseKeyFile('/k', keyText({ grant: `${grant}\n[passcode]\n${passcode}` }))
const SSH = { port: 22, protocol: 'tcp' }
const WEB = { port: 443, protocol: 'tcp' }

describe('the passcode of a key file', () => {
  it('has the documented defaults', () => {
    expect(parse('pin = "0417"').value?.passcode).toEqual({ pin: '0417', services: [SSH, WEB], seconds: 300, once: true })
  })

  it('gives what it says', () => {
    const said = 'pin = ""\nservices = ["443/tcp"]\ntime = "30m"\nonce = false'
    expect(parse(said).value?.passcode).toEqual({ pin: '', services: [WEB], seconds: 1_800, once: false })
  })

  it('lasts no longer than the key may, where it says nothing', () => {
    expect(parse('pin = "0417"', 'services = ["22/tcp"]\nmax = "1m"').value?.passcode?.seconds).toBe(60)
  })

  it('is written with the grant, and not into a client’s copy', () => {
    const { value } = parse('pin = "0417"\ntime = "2m"')
    if (!value) throw new Error('the test’s own key is faulty')
    expect(parseKeyFile('/k', formatKeyFile(value)).value?.passcode).toEqual(value.passcode)
    expect(formatKeyFile({ ...value, grant: null })).not.toMatch(/passcode|0417/)
  })
})

describe('a fault of a passcode', () => {
  it.each([
    ['services = ["22/tcp"]', GRANT, /"passcode\.pin" is missing/],
    ['pin = "041x"', GRANT, /"passcode\.pin" expected 0 to 4 digits in quotes, got something else \(not shown\)/],
    ['pin = "04171"', GRANT, /"passcode\.pin" expected 0 to 4 digits in quotes, got something else \(not shown\)/],
    ['pin = 9417', GRANT, /"passcode\.pin" expected 0 to 4 digits in quotes, got something else \(not shown\)/],
    ['pin = "0417"\nservices = ["25/tcp"]', GRANT, /"passcode\.services" expected services of \[grant\], got "25\/tcp"/],
    ['pin = "0417"\nservices = []', GRANT, /"passcode\.services" expected at least one service/],
    ['pin = "0417"\ntime = "31m"', GRANT, /"passcode\.time" expected at most 30m \(max in \[grant\]\), got "31m"/],
    ['pin = "0417"\ntime = "0s"', GRANT, /"passcode\.time" expected a duration such as "5m"/],
    ['pin = "0417"\nport = 22', GRANT, /unknown entry "passcode\.port"/],
    [
      'pin = "0417"',
      `${GRANT}\nrequire_address = true`,
      /"passcode" must not be used with require_address = true: a passcode cannot name an address$/,
    ],
  ])('is one line that quotes no PIN: %j', (passcode, grant, message) => {
    const faults = (parse(passcode, grant).faults ?? []).map((fault) => fault.message)
    expect(faults).toEqual([expect.stringMatching(message)])
    expect(faults[0]).not.toMatch(/041|9417/)
  })

  it('is a client’s copy that has one', () => {
    const { faults } = parseKeyFile('/k', keyText({ grant: '', more: '[passcode]\npin = "0417"\n' }))
    expect(faults?.map(({ message }) => message)).toEqual([
      expect.stringMatching(/"passcode" requires a table \[grant\] in the same file$/),
    ])
  })

  it('is no table, and what stands there is not quoted', () => {
    const { faults } = parseKeyFile('/k', keyText({ more: 'passcode = "0417"\n' }))
    expect(faults?.map(({ message }) => message)).toEqual([
      expect.stringMatching(/expected .* table, got something else \(not shown\)/),
    ])
  })
})

describe('writing a passcode', () => {
  const PASSCODE = { pin: '0417', services: [{ port: 22, protocol: 'tcp' as const }], seconds: 120, once: false }
  const TABLE = '[passcode]\npin = "0417"\nservices = [ "22/tcp" ]\ntime = "2m"\nonce = false\n'
  const BEFORE = `# of alice\n${keyText({ grant: `${GRANT} # for now` })}`
  const written = async (text: string, passcode: typeof PASSCODE | null) => {
    const folder = scratch()
    const path = put(folder, 'alice.key', text)
    const fault = await writePasscode(folder, 'alice', passcode).catch(inOneLine)
    return { fault, text: readFileSync(path, 'utf8'), path }
  }

  it('leaves everything else as it is', async () => {
    expect((await written(BEFORE, PASSCODE)).text).toBe(`${BEFORE.trimEnd()}\n\n${TABLE}`)
  })

  it.each([
    ['at the end', `${BEFORE}\n[passcode] # old\npin = "1111"\n`, `${BEFORE.trimEnd()}\n\n${TABLE}`],
    [
      'in the middle',
      `${keyText({ grant: '' })}[passcode]\npin = "1111"\n\n# what it may\n[grant]\n${GRANT}\n`,
      `${keyText({ grant: '' })}# what it may\n[grant]\n${GRANT}\n\n${TABLE}`,
    ],
  ])('takes the place of the one that is there, %s', async (_, before, after) => {
    expect((await written(before, PASSCODE)).text).toBe(after)
  })

  it('takes it away', async () => {
    expect((await written(`${BEFORE}\n${TABLE}`, null)).text).toBe(BEFORE)
  })

  it('changes nothing where it is written in another form', async () => {
    const before = keyText({ more: 'passcode.pin = "1111"\n' })
    const { fault, text, path } = await written(before, PASSCODE)
    expect(fault).toBe(`${path}: its passcode is not a plain table [passcode]: remove it from the file by hand first`)
    expect(text).toBe(before)
  })
})

describe('passcodes', () => {
  const keyOf = (id: string, { pin = '0417', pool = '49152-65535', period = 30 } = {}) => {
    const { value } = parse(`pin = "${pin}"`)
    if (!value?.grant || !value.passcode) throw new Error('the test’s own key is faulty')
    const key = { ...value.key, period, pool: parsePool(pool) }
    return { ...value, id, key, fingerprint: id, grant: value.grant, passcode: value.passcode } satisfies ServerKey
  }
  const config = async (passcode: string): Promise<Config> => {
    const { value } = await readConfig(put(scratch(), 'k.toml', `server = "gate.example"\n[passcode]\n${passcode}`))
    if (!value) throw new Error('the test’s own config is faulty')
    return value
  }
  const judged = async (keys: ServerKey[], passcode = '') => {
    const { keys: usable, faults } = judgePasscodes(keys, await config(passcode), Date.now())
    const having = usable.filter((key) => key.passcode).map(({ id }) => id)
    return { ids: usable.map(({ id }) => id), having, faults: faults.map(inOneLine) }
  }

  it('that can be used stay', async () => {
    expect(await judged([keyOf('a'), keyOf('b')])).toEqual({ ids: ['a', 'b'], having: ['a', 'b'], faults: [] })
  })

  it('with a PIN of another length are refused, and others are not', async () => {
    const fault = 'key "b": its PIN must have 4 digits (pin_digits in the config): run "knockturn key passcode b"'
    expect(await judged([keyOf('a'), keyOf('b', { pin: '041' })])).toEqual({ ids: ['a', 'b'], having: ['a'], faults: [fault] })
  })

  it('are refused where their ports lie in a pool, and the keys stay', async () => {
    const fault = 'the passcode ports 48000-48119 overlap the pool of key "b": set another [passcode] base'
    const keys = [keyOf('a'), keyOf('b', { pool: '48119-65535' })]
    expect(await judged(keys)).toEqual({ ids: ['a', 'b'], having: [], faults: [fault] })
  })

  it('may lie beside a pool', async () => {
    expect((await judged([keyOf('a', { pool: '20000-47999,48120-65535' })])).faults).toEqual([])
  })

  it('without a PIN are refused, since a guess may be lucky', async () => {
    const said = 'expected a chance of a lucky guess of at most 0.01 a year, got 0.63 with 1 keys and a PIN of 0 digits'
    const { having, faults } = await judged([keyOf('a', { pin: '' })], 'pin_digits = 0')
    expect([having, faults]).toEqual([[], [`${said}: set pin_digits = 4 in [passcode], or give fewer keys a passcode`]])
  })

  it('of revoked keys make no guess luckier', async () => {
    const keys = Array.from({ length: 159 }, (_, n) => keyOf(`k${n}`))
    expect((await judged(keys)).having).toEqual([])
    expect((await judged([{ ...keys[0], revoked: 1 }, ...keys.slice(1)])).having).toHaveLength(159)
  })
})

describe('the log rules', () => {
  const taps = { target: 'nflog', group: 5, prefix: 'KNOCK: ' } as const
  const tableOf = (ranges: [number, number][]) =>
    parseTable('iptables', installScript(parseTable('iptables', ''), { ...taps, ranges }, true))

  it('hear the passcode ports where they have been put in, and only then', () => {
    const heard = [
      tableOf([
        [49_152, 65_535],
        [48_000, 48_119],
      ]),
      tableOf([[49_152, 65_535]]),
    ]
    expect(heard.map((table) => hears(table, [48_000, 48_119]))).toEqual([true, false])
  })
})
