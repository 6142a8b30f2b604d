import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { decodeQR } from 'qr/decode.js'
import { describe, expect, it } from 'vitest'
import { parseKeyFile } from '../../../src/keys/key-file'
import { type Key, windowAt } from '../../../src/protocol/key'
import { passcodePorts } from '../../../src/protocol/passcode'
import { passcode } from '../../../src/protocol/totp'
import { keyText, put, scratch } from '../../system/scratch'
import { environment, programPath, RunningDaemon, run } from '../programs'

const PIN = '0417'
const CODE = '12345678'

/** The code that the app shows now, or in another window. */
const codeOf = (key: Key, shift = 0) => passcode(key, windowAt(Date.now() / 1000, key.period) + shift)

/** A server with one key: its config, its keyring, and what is done to it. */
function server({ grant = 'services = ["22/tcp", "443/tcp"]', config = '', more = '', label = 'gate.example' } = {}) {
  const folder = scratch()
  mkdirSync(join(folder, 'keys'), { mode: 0o700 })
  const path = put(join(folder, 'keys'), 'alice.key', keyText({ grant, more, server: label }))
  const { value } = parseKeyFile(path, readFileSync(path, 'utf8'))
  if (!value) throw new Error('the test’s own key is faulty')
  const toml = put(
    folder,
    'knockturn.toml',
    `server = "${label}"\nkeys = "keys"\n[taps]\nsource = "stdin"\n[firewall]\nbackend = "dry-run"\n[ledger]\npath = "ledger"\n${config}`,
    0o644,
  )
  const where = ['--keys', join(folder, 'keys')]
  const key = (command: string, ...args: string[]) => run('knockturn', ['key', command, 'alice', ...args, ...where])
  const enrol = (input: string, ...args: string[]) =>
    run('knockturn', ['key', 'passcode', 'alice', '--config', toml, '--print-secret', ...where, ...args], { input })
  const text = () => readFileSync(path, 'utf8')
  return { folder, path, toml, where, key, enrol, text, material: value.key }
}

const answers = (key: Key, code = codeOf(key)) => `${code}\n${PIN}\n${PIN}\n`

describe('key passcode', () => {
  it('writes what it was told, behind what is there', async () => {
    const { enrol, material, text } = server()
    const before = text()
    const { code, stderr } = await enrol(answers(material), '--services', '22/tcp', '--time', '2m', '--no-once')
    expect([code, stderr]).toEqual([0, 'Scan this with an authenticator app. Anyone who sees it can make the codes too.\n'])
    const table = '[passcode]\npin = "0417"\nservices = [ "22/tcp" ]\ntime = "2m"\nonce = false\n'
    expect(text()).toBe(`${before.trimEnd()}\n\n${table}`)
  })

  it('shows the secret as a QR code and as the URI in it, and no PIN', async () => {
    const { enrol, material } = server()
    const { stdout } = await enrol(answers(material))
    const lines = stdout.split('\n')
    const uri = lines.find((line) => line.startsWith('otpauth://')) ?? ''
    expect(uri).toMatch(/^otpauth:\/\/totp\/knockturn:alice%40gate\.example\?secret=[A-Z2-7]{32}&issuer=knockturn&digits=8$/)
    expect(scanned(lines.slice(0, lines.indexOf(uri)))).toBe(uri)
    expect(stdout).not.toContain(PIN)
  })

  it.each([
    ['gate.example', 'alice@gate.example'],
    ['[2001:db8::1]:22', 'alice@[2001-db8--1]-22'],
    ['gäte: one/two', 'alice@gäte- one/two'],
  ])('names the server %s in the URI with no colon but the issuer’s: FreeOTP takes no other', async (label, name) => {
    const { enrol, material } = server({ label })
    const [, path] = /^otpauth:\/\/totp(\/[^?]*)/m.exec((await enrol(answers(material))).stdout) ?? []
    // FreeOTP's own expression for what it has decoded.
    expect(
      decodeURIComponent(path)
        .match(/^\/(?:([^:]+):)?([^:]+)$/)
        ?.slice(1),
    ).toEqual(['knockturn', name])
  })

  it('says the period in the URI, where it is another than the usual', async () => {
    const { enrol, material } = server({ more: 'period = 60\n' })
    expect((await enrol(answers(material))).stdout).toMatch(/&digits=8&period=60\n/)
  })

  it.each([-1, 1])('takes the code of the window %i from now', async (shift) => {
    const { enrol, material } = server({ more: 'period = 300\n' })
    // The window must not turn while the program starts.
    const left = 300_000 - (Date.now() % 300_000)
    if (left < 15_000) await sleep(left)
    expect((await enrol(answers(material, codeOf(material, shift)))).code).toBe(0)
  })

  it('takes the third code, where two were wrong', async () => {
    const { enrol, material } = server()
    expect((await enrol(`1\n2\n${answers(material)}`)).code).toBe(0)
  })

  it.each([
    [
      'a code that does not fit',
      () => '00000000\n'.repeat(3),
      /error: the code does not match this key: nothing was written\nhint: scan the QR code shown above\n$/,
    ],
    [
      'a code of six digits',
      () => '123456\n'.repeat(3),
      /error: the code does not have 8 digits: nothing was written\nhint: use an app that shows 8 digits\n$/,
    ],
    [
      'a code of five minutes ago',
      (key: Key) => `${codeOf(key, -10)}\n`.repeat(3),
      /error: the code is (300|330) s behind this machine's clock: nothing was written\nhint: set the clocks of the phone and the server\n$/,
    ],
    [
      'two PINs',
      (key: Key) => `${codeOf(key)}\n${'0417\n0418\n'.repeat(3)}`,
      /error: the two PINs differ: nothing was written\n$/,
    ],
    [
      'a PIN of another length',
      (key: Key) => `${codeOf(key)}\n${'041\n'.repeat(3)}`,
      /expected a PIN of 4 digits, got something else/,
    ],
    ['no PIN', (key: Key) => `${codeOf(key)}\n`, /the PIN: nothing was entered/],
  ])('writes nothing for %s', async (_, input, message) => {
    const { enrol, material, text } = server()
    const before = text()
    const { code, stderr } = await enrol(input(material))
    expect([code, stderr, text()]).toEqual([1, expect.stringMatching(message), before])
    expect(stderr).not.toMatch(/041\d?$/m)
  })

  it.each([
    [
      'a service that the key may not open',
      {},
      ['--services', '25/tcp'],
      2,
      /--services: the key may not open 25\/tcp \(it may open: 22\/tcp,443\/tcp\)\nhint: choose from those, or change services in \[grant\] of \S+alice\.key\n$/,
    ],
    [
      'a time beyond the key’s',
      {},
      ['--time', '2h'],
      2,
      /--time expected at most 1h \(max of the key\), got 2h\nhint: choose a shorter time, or change max in \[grant\] of \S+alice\.key\n$/,
    ],
    [
      'a key that wants its address named',
      { grant: 'services = ["22/tcp"]\nrequire_address = true' },
      [],
      1,
      /has require_address = true/,
    ],
    [
      'a client’s copy',
      { grant: '' },
      [],
      1,
      /alice has no table \[grant\]: it is a client's copy\nhint: run this with the server's keyring\n$/,
    ],
    [
      'a key that is revoked',
      { more: 'revoked = 2026-01-01T00:00:00Z\n' },
      [],
      1,
      /the key alice is revoked\nhint: make a new key with "knockturn key new"\n$/,
    ],
    [
      'ports in the pool',
      { config: '[passcode]\nbase = 50000\n' },
      [],
      1,
      /the passcode ports 50000-50119 overlap the pool of key "alice"\nhint: set another \[passcode\] base\n$/,
    ],
    [
      'no PIN',
      { config: '[passcode]\npin_digits = 0\n' },
      [],
      1,
      /expected a chance of a lucky guess of at most 0.01 a year, got 0.63/,
    ],
  ])('refuses %s before it shows the secret', async (_, how, args, exit, message) => {
    const { code, stdout, stderr } = await server(how).enrol('', ...args)
    expect([code, stdout, stderr]).toEqual([exit, '', expect.stringMatching(message)])
  })

  it('keeps the secret from what is no terminal', async () => {
    const { key, toml } = server()
    const { code, stdout, stderr } = await key('passcode', '--config', toml)
    expect([code, stdout]).toEqual([1, ''])
    expect(stderr).toMatch(/^knockturn: error: standard output is not a terminal, [^\n]*\nhint: .* add --print-secret\n$/)
  })

  it('--remove takes it away, and may be said again', async () => {
    const { enrol, key, material, text } = server()
    const before = text()
    await enrol(answers(material))
    expect((await key('passcode', '--remove')).stdout).toBe('removed the passcode of alice\n')
    expect((await key('passcode', '--remove')).stdout).toBe('alice has no passcode\n')
    expect(text().trimEnd()).toBe(before.trimEnd())
  })

  it('is seen in list and show, without the PIN, and stays out of an export', async () => {
    const { enrol, key, material, where } = server()
    await enrol(answers(material))
    const list = await run('knockturn', ['key', 'list', ...where])
    const shown = [list, await key('show'), await key('show', '--json')].map(({ stdout }) => stdout)
    expect(shown).toEqual([
      expect.stringMatching(/^ID .* PASSCODE\nalice .* yes\n$/),
      expect.stringMatching(/^passcode\.time +5m$/m),
      expect.stringContaining('"passcode":{"services":["22/tcp","443/tcp"],"time":"5m","once":true}'),
    ])
    const exported = (await key('export')).stdout
    expect(exported).not.toContain('passcode')
    expect(shown.join('')).not.toMatch(/pin|0417/)
  })
})

describe('on a terminal', () => {
  /** Answers questions on a terminal of script(1)'s, one after the other. */
  async function typed(program: 'knockturn' | 'knockclient', args: string[], questions: [string, string][]) {
    const quoted = [process.execPath, programPath(program), ...args].map((word) => `'${word}'`).join(' ')
    const child = spawn('script', ['-qec', quoted, '/dev/null'], { env: environment(), stdio: ['pipe', 'pipe', 'inherit'] })
    let shown = ''
    let next = 0
    child.stdout.setEncoding('utf8').on('data', (text) => {
      shown += text
      const [question, answer] = questions[next] ?? []
      if (question === undefined || !shown.endsWith(question)) return
      next++
      child.stdin.write(`${answer}\r`)
    })
    const [code] = await once(child, 'close')
    return { code, shown }
  }

  it('knockclient --passcode shows nothing of what is typed', async () => {
    const { code, shown } = await typed(
      'knockclient',
      ['--passcode', '--dry-run'],
      [
        ['PIN: ', '9417'],
        ['Code: ', CODE],
      ],
    )
    expect(code).toBe(0)
    expect(shown.replaceAll('\r', '')).toBe(`PIN: \nCode: \n${passcodePorts('9417', CODE).join('\n')}\n`)
  })

  it('key passcode draws its code and shows nothing of what is typed', async () => {
    const { material, toml, where, text } = server()
    const code = codeOf(material)
    const outcome = await typed(
      'knockturn',
      ['key', 'passcode', 'alice', '--config', toml, ...where],
      [
        ['shows now: ', code],
        ['4 digits: ', '9417'],
        ['again: ', '9417'],
      ],
    )
    expect(outcome.code).toBe(0)
    expect(text()).toContain('pin = "9417"')
    expect(outcome.shown).not.toContain(code)
    expect(outcome.shown).not.toContain('9417')
    expect(outcome.shown).toContain('otpauth://')
  })

  it('Ctrl-C ends it', async () => {
    const { code, shown } = await typed('knockclient', ['--passcode', '--dry-run'], [['PIN: ', '\x03']])
    expect([code, shown]).toEqual([130, expect.stringMatching(/^PIN: \s*$/)])
  })
})

describe('knockclient --passcode', () => {
  const OTHER_LENGTH = "if this server's PINs have another length, give it with --pin-digits"
  const NO_PIN = `expected a PIN of 4 digits, got something else (not shown)\nhint: ${OTHER_LENGTH}`
  const HELP = 'hint: see "knockclient --help"'
  const client = (input: string, ...args: string[]) => run('knockclient', ['--passcode', ...args], { input })

  it('--dry-run prints its ports', async () => {
    const { stdout } = await client(`${PIN}\n${CODE}\n`, '--dry-run')
    expect(stdout).toBe(`${passcodePorts(PIN, CODE).join('\n')}\n`)
  })

  it('takes a code as the phone shows it, and a server without PINs', async () => {
    const { stdout } = await client('1234 5678\n', '--dry-run', '--passcode-base', '700', '--pin-digits', '0')
    expect(stdout).toBe(`${passcodePorts('', CODE, 700).join('\n')}\n`)
  })

  it.each([
    ['04171\n12345678\n', [], 1, NO_PIN],
    ['041\n12345678\n', [], 1, NO_PIN],
    ['\n12345678\n', [], 1, NO_PIN],
    ['041a\n12345678\n', [], 1, NO_PIN],
    ['0417\n12345678\n', ['--pin-digits', '2'], 1, NO_PIN.replace('4', '2')],
    ['', ['--pin-digits', '5'], 2, `--pin-digits expected a number from 0 to 4, got "5"\n${HELP}`],
    [
      '0417\n123456\n',
      [],
      1,
      'expected a code of 8 digits, got something else (not shown)\nhint: use an authenticator app that shows 8 digits, and scan the QR code again with it',
    ],
    ['0417\n', [], 1, 'the code: nothing was entered'],
    [
      '0417\n12345678\n',
      ['--pace', '834'],
      2,
      `--pace expected at most 833 ms for 12 ports, which must fit into 10 s, got 834\n${HELP}`,
    ],
    ['', ['-p', '22'], 2, `option '--passcode' cannot be used with option '-p, --port <ports>'\n${HELP}`],
    ['', ['-k', 'alice'], 2, `option '--passcode' cannot be used with option '-k, --key <key>'\n${HELP}`],
    ['', ['--force'], 2, `option '--passcode' cannot be used with option '--force'\n${HELP}`],
    ['', ['--stun-trusted'], 2, `option '--passcode' cannot be used with option '--stun-trusted'\n${HELP}`],
    ['', ['-4', '-6'], 2, `-4 cannot be used with -6\n${HELP}`],
    ['', ['--passcode-base', '65417'], 2, `--passcode-base expected a port from 1 to 65416, got "65417"\n${HELP}`],
  ])('is refused: %j %j', async (input, args, code, message) => {
    const refused = await client(input, '--dry-run', ...args)
    expect(refused).toEqual({ code, stdout: '', stderr: `knockclient: error: ${message}\n` })
  })

  it('wants a host', async () => {
    const stderr = 'knockclient: error: no server to knock at: a passcode names none\nhint: name it with -r\n'
    expect(await client(`${PIN}\n${CODE}\n`)).toEqual({ code: 2, stdout: '', stderr })
  })
})

describe('knockdaemon', () => {
  const packets = (ports: number[]) =>
    ports
      .map(
        (port) =>
          `KNOCK: IN=v0 OUT= SRC=198.51.100.2 DST=198.51.100.1 LEN=60 TOS=0x00 PREC=0x00 TTL=64 ID=7 DF PROTO=TCP SPT=40000 DPT=${port} WINDOW=64240 RES=0x00 SYN URGP=0 \n`,
      )
      .join('')

  it('opens what a passcode opens, once, and shows no PIN', async () => {
    const { enrol, material, toml } = server()
    await enrol(answers(material), '--services', '22/tcp')
    const daemon = await new RunningDaemon(['--config', toml, '--new-ledger']).ready()
    const ports = passcodePorts(PIN, codeOf(material))
    daemon.feed(packets(ports))
    expect(await daemon.out.find(({ do: what }) => what === 'open')).toMatchObject({ key: 'alice', port: 22, once: true })
    daemon.feed(packets(ports))
    await daemon.finish()
    expect(daemon.out.all).toHaveLength(1)
    expect(daemon.log.json.at(-1)).toMatchObject({ msg: 'ended', retransmits: 1 })
    expect(daemon.log.all.join('\n')).not.toContain(PIN)
  })

  it('takes up a passcode while it runs', async () => {
    const { enrol, material, toml } = server()
    const daemon = await new RunningDaemon(['--config', toml, '--new-ledger']).ready()
    await enrol(answers(material))
    // The first reload may be of the moment before the file was changed; one that is asked for now begins after it, or is followed by one that does.
    daemon.signal('SIGHUP')
    await daemon.log.find(({ msg }) => msg === 'reloaded', daemon.log.all.length)
    daemon.feed(packets(passcodePorts(PIN, codeOf(material))))
    expect(await daemon.out.find(({ do: what }) => what === 'open')).toMatchObject({ key: 'alice' })
  })

  const TOO_SHORT = { config: '[passcode]\npin_digits = 1\n', grant: 'services = ["22/tcp"]\n[passcode]\npin = "7"\n' }
  const LUCKY = 'expected a chance of a lucky guess of at most 0.01 a year, got 0.063 with 1 keys and a PIN of 1 digits'

  it('refuses passcodes that are too easily guessed, says what to do, and serves', async () => {
    const daemon = await new RunningDaemon(['--config', server(TOO_SHORT).toml, '--new-ledger']).ready()
    const line = await daemon.log.find(({ msg }) => msg === 'passcodes disabled (ordinary knocks still work)')
    expect(line).toMatchObject({ level: 50, reason: expect.stringContaining(LUCKY) })
  })

  it('--check has it as a fault', async () => {
    const { code, stderr } = await run('knockdaemon', ['--check', '--config', server(TOO_SHORT).toml])
    expect([code, stderr]).toEqual([1, expect.stringContaining(LUCKY)])
  })
})

describe('firewall install --print', () => {
  const rules = async (how: Parameters<typeof server>[0]) =>
    (await run('knockturn', ['firewall', 'install', '--print', '--config', server(how).toml])).stdout
  const WITH = { grant: 'services = ["22/tcp"]\n[passcode]\npin = "0417"\n' }

  it('hears the passcode ports, and drops them', async () => {
    const all = (await rules(WITH)).split('\n').filter((line) => /^-A KNOCKTURN-TAPS .*--dport 48000:48119 /.test(line))
    // By TCP and by UDP, in both families.
    expect([all.length, all.filter((line) => line.endsWith('-j DROP')).length]).toEqual([8, 4])
  })

  it.each([
    ['no key has a passcode', {}],
    ['they lie in a pool', { ...WITH, config: '[passcode]\nbase = 49100\n' }],
  ])('leaves them alone where %s', async (_, how) => {
    expect(await rules(how)).not.toMatch(/48000:|49100:/)
  })
})

/** Reads a QR code as it is drawn: two modules in each character, light ones as blocks. */
function scanned(lines: string[]): string {
  const light = lines.flatMap((line) => [[...line].map((c) => '█▀'.includes(c)), [...line].map((c) => '█▄'.includes(c))])
  const scale = 4
  const [width, height] = [light[0].length * scale, light.length * scale]
  const data = new Uint8Array(width * height * 4)
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++)
      data.fill(light[Math.floor(y / scale)][Math.floor(x / scale)] ? 255 : 0, 4 * (y * width + x), 4 * (y * width + x) + 4)
  return decodeQR({ width, height, data })
}
