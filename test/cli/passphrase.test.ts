import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { type AddressInfo, createServer, type Server } from 'node:net'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { keyText, put, scratch, secretOf } from '../system/scratch'
import { onTerminal, type Turn } from '../terminal'
import { environment, type Program, programPath, run } from './programs'

/** Of this file alone: it is looked for in every process of the machine, and other tests run beside it. */
const PASSPHRASE = 'heron velvet quarry sundial'
const FIRST = 'passphrase (leave empty for six random words): '
const AGAIN = 'the same passphrase again: '
const ASKED = 'passphrase of alice.key.age: '

const folder = scratch()
const keys = scratch()
const stick = join(folder, 'alice.key.age')
const plain = put(folder, 'alice.key', keyText({ more: 'host = "127.0.0.1"\n', grant: '' }))
put(keys, 'alice.key', keyText({ more: 'host = "127.0.0.1"\n' }))

const EXPORT = ['key', 'export', 'alice', '--keys', keys, '--passphrase']
const DRY = ['-p', '22', '--dry-run', '--json']

const typed = (program: Program, args: readonly string[], turns: readonly Turn[]) =>
  onTerminal([process.execPath, programPath(program), ...args], turns, { cwd: folder, env: environment() })
/** Runs the client from a shell, which is $0 and has opened descriptors for it. */
const fromShell = (script: string, input = '') =>
  spawnSync('sh', ['-c', script.replaceAll('KNOCKCLIENT', '"$0" "$@"'), process.execPath, programPath('knockclient'), ...DRY], {
    cwd: folder,
    env: environment(),
    input,
    encoding: 'utf8',
  })
const sequence = expect.objectContaining({ ports: expect.any(Array) })
const ends = (text: string) => text.replaceAll('\r', '').trimEnd().split('\n').at(-1) ?? ''

const madeIn = (shown: string) => /write it down: (\S+)/.exec(shown)?.[1] ?? ''

beforeAll(async () => {
  expect(await run('knockturn', [...EXPORT, '--out', stick], { input: `${PASSPHRASE}\n` })).toEqual({
    code: 0,
    stdout: `wrote ${stick}: whoever has this file and its passphrase can knock\n`,
    stderr: '',
  })
})

describe('knockturn key export --passphrase', () => {
  it('asks for it twice on a terminal, and shows nothing of it', async () => {
    const turns = [FIRST, AGAIN].map((prompt) => [prompt, `${PASSPHRASE}\r`] as const)
    const { code, shown } = await typed('knockturn', [...EXPORT, '--out', 'twice.age'], turns)
    expect([code, shown]).toEqual([0, expect.stringContaining('wrote twice.age')])
    expect(shown).not.toContain(PASSPHRASE)
  })

  it('writes nothing where the second is another', async () => {
    const turns: Turn[] = [
      [FIRST, `${PASSPHRASE}\r`],
      [AGAIN, `${PASSPHRASE}.\r`],
    ]
    const { code, shown } = await typed('knockturn', [...EXPORT, '--out', 'other.age'], turns)
    expect([code, ends(shown)]).toEqual([1, 'knockturn: error: the two passphrases differ: nothing was written'])
    expect(existsSync(join(folder, 'other.age'))).toBe(false)
  })

  it('refuses one that is guessed soon', async () => {
    expect(await run('knockturn', EXPORT, { input: 'hunter2hunter2\n' })).toEqual({
      code: 1,
      stdout: '',
      stderr:
        'knockturn: error: the passphrase is too easy to guess: expected at least 10^14 guesses, got about 10^4\n' +
        'hint: leave it empty on a terminal for six random words, or take four or more unrelated words: whoever finds the file can try without limit\n',
    })
  })

  it('refuses the names of the place, and no others', async () => {
    const input = 'zq7-kv2-wx9.example'
    const named = put(scratch(), 'alice.key', keyText({ more: `host = "${input}"\n` }))
    const args = ['key', 'export', 'alice', '--passphrase', '--keys']
    expect((await run('knockturn', [...args, dirname(named)], { input })).stderr).toContain('expected at least 10^14 guesses')
    expect((await run('knockturn', [...args, keys], { input })).code).toBe(0)
  })

  it('takes nothing on standard input for none, and makes none', async () => {
    const { code, stdout, stderr } = await run('knockturn', EXPORT, { input: '\n' })
    expect([code, stdout, stderr]).toEqual([1, '', expect.stringContaining('expected at least 10^14 guesses')])
  })

  /** Leaves it empty, and answers the second question. */
  async function make(out: string, again: (made: string) => string) {
    let made = ''
    const turns: Turn[] = [
      [FIRST, '\r'],
      [
        AGAIN,
        (shown) => {
          made = madeIn(shown)
          return `${again(made)}\r`
        },
      ],
    ]
    return { ...(await typed('knockturn', [...EXPORT, '--out', out], turns)), made }
  }

  it('makes one where it is left empty, which opens the file once it has been typed', async () => {
    const { code, made } = await make('made.age', (words) => words)
    expect([code, made]).toEqual([0, expect.stringMatching(/^[a-z]+(-[a-z]+){5}$/)])
    const { stdout } = await run('knockclient', ['-k', join(folder, 'made.age'), ...DRY], { input: made })
    expect(JSON.parse(stdout)).toEqual(sequence)
  })

  it('writes nothing where the one that was made has not been written down', async () => {
    const { code } = await make('lost.age', () => 'what was it')
    expect([code, existsSync(join(folder, 'lost.age'))]).toEqual([1, false])
  })

  it('shows the one that was made on the terminal alone', async () => {
    const script = '"$0" "$@" > out 2> err'
    const argv = ['sh', '-c', script, process.execPath, programPath('knockturn'), ...EXPORT, '--out', 'alone.age']
    const { shown } = await onTerminal(
      argv,
      [
        [FIRST, '\r'],
        [AGAIN, 'no\r'],
      ],
      { cwd: folder, env: environment() },
    )
    const made = madeIn(shown)
    expect(made).toMatch(/^[a-z]+(-[a-z]+){5}$/)
    expect(['out', 'err'].map((name) => readFileSync(join(folder, name), 'utf8')).join('')).not.toContain(made)
  })

  it('has in it what the key may open, but with --plain', async () => {
    const answers = { input: `${PASSPHRASE}\n` }
    const tooMuch = ['-p', '443', '--dry-run', '--json']
    expect((await run('knockclient', ['-k', stick, ...tooMuch], answers)).stderr).toContain('may not open 443: it opens 22/tcp\n')
    const plain = join(folder, 'plain.age')
    expect((await run('knockturn', [...EXPORT, '--plain', '--out', plain], answers)).code).toBe(0)
    expect((await run('knockclient', ['-k', plain, ...tooMuch], answers)).code).toBe(0)
  })

  it('writes to standard output what says nothing of the key', async () => {
    const { code, stdout } = await run('knockturn', EXPORT, { input: PASSPHRASE })
    expect([code, stdout]).toEqual([0, expect.stringMatching(/^-----BEGIN AGE ENCRYPTED FILE-----\n/)])
  })
})

describe('knockclient -k with a key under a passphrase', () => {
  it('knocks once it is typed, and keeps it to itself', async () => {
    const secrets = [PASSPHRASE, secretOf(1)]
    let others = ''
    // Still there after its first pass, it is looked at as anybody on the machine may, and as its owner may.
    const look = () => {
      for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name)))
        for (const file of ['cmdline', 'environ'])
          try {
            others += readFileSync(`/proc/${pid}/${file}`, 'latin1')
          } catch {
            // Another's, or gone.
          }
    }
    const { code, shown } = await typed(
      'knockclient',
      ['-k', stick, '-p', '22', '-v'],
      [
        [ASKED, `${PASSPHRASE}\r`],
        ['pass 1', look],
      ],
    )
    expect([code, shown]).toEqual([0, expect.stringContaining('with key alice')])
    expect(others).toContain(stick)
    for (const secret of secrets) expect([others.includes(secret), shown.includes(secret)]).toEqual([false, false])
  })

  it('lets it be mended while it is typed', async () => {
    // Cleared; a letter of two bytes taken away.
    const keys = `nonsense\x15${PASSPHRASE.slice(0, -1)}ä\x7f${PASSPHRASE.slice(-1)}\r`
    const { code } = await typed('knockclient', ['-k', stick, ...DRY], [[ASKED, keys]])
    expect(code).toBe(0)
  })

  it('asks three times', async () => {
    const wrong: Turn[] = Array.from({ length: 3 }, () => [ASKED, 'wrong\r'])
    const { code, shown } = await typed('knockclient', ['-k', stick, ...DRY], wrong)
    expect([code, ends(shown)]).toEqual([1, 'hint: try again, or export the key again'])
    expect(shown).toContain(`knockclient: error: ${stick}: wrong passphrase\r\n`)
  })

  it('takes the third', async () => {
    const turns: Turn[] = [
      [ASKED, 'wrong\r'],
      [ASKED, '\r'],
      [ASKED, `${PASSPHRASE}\r`],
    ]
    expect((await typed('knockclient', ['-k', stick, ...DRY], turns)).code).toBe(0)
  })

  it('asks on the terminal where its outputs and its input are elsewhere', async () => {
    const argv = [
      'sh',
      '-c',
      '"$0" "$@" < /dev/null > out 2> err',
      process.execPath,
      programPath('knockclient'),
      '-k',
      stick,
      ...DRY,
    ]
    const { code } = await onTerminal(argv, [[ASKED, `${PASSPHRASE}\r`]], { cwd: folder, env: environment() })
    expect([code, readFileSync(join(folder, 'err'), 'utf8')]).toEqual([0, ''])
    expect(JSON.parse(readFileSync(join(folder, 'out'), 'utf8'))).toEqual(sequence)
  })

  it.each([
    ['Ctrl-C', '\x03', 130],
    ['Ctrl-D', '\x04', 1],
    ['Ctrl-\\', '\x1c', 131],
  ])('ends at %s, and leaves the terminal as it was', async (_, key, status) => {
    // The shell outlives an interrupt that it has a trap for.
    const script = 'trap : INT QUIT; "$0" "$@"; echo "status $?"; stty -a'
    const argv = ['sh', '-c', script, process.execPath, programPath('knockclient'), '-k', stick, ...DRY]
    const { shown } = await onTerminal(argv, [[ASKED, key]], { cwd: folder, env: environment() })
    expect(shown).toContain(`status ${status}`)
    expect(shown).toMatch(/ icanon .* echo /s)
  })

  const signalClient = (signal: NodeJS.Signals) => {
    const { stdout } = spawnSync('pgrep', ['-f', `^${process.execPath} .*${stick}`], { encoding: 'utf8' })
    process.kill(Number(stdout), signal)
  }

  it.each<[NodeJS.Signals, number]>([
    ['SIGHUP', 129],
    ['SIGQUIT', 131],
    ['SIGTERM', 143],
  ])('ends at %s, and leaves the terminal as it was', async (signal, status) => {
    const script = '"$0" "$@"; echo "status $?"; stty -a'
    const argv = ['sh', '-c', script, process.execPath, programPath('knockclient'), '-k', stick, ...DRY]
    const { shown } = await onTerminal(argv, [[ASKED, () => signalClient(signal)]], { cwd: folder, env: environment() })
    expect(shown).toContain(`status ${status}`)
    expect(shown).toMatch(/ icanon .* echo /s)
  })

  it('takes the passphrase after a SIGPIPE, and leaves the terminal as it was', async () => {
    const script = '"$0" "$@"; echo "status $?"; stty -a'
    const argv = ['sh', '-c', script, process.execPath, programPath('knockclient'), '-k', stick, ...DRY]
    const send = () => {
      signalClient('SIGPIPE')
      // Keys that come with a signal are heard first.
      spawnSync('sleep', ['0.3'])
      return `${PASSPHRASE}\r`
    }
    const { shown } = await onTerminal(argv, [[ASKED, send]], { cwd: folder, env: environment() })
    expect(shown).toContain('status 0')
    expect(shown).toMatch(/ icanon .* echo /s)
  })

  it('leaves the terminal as it was where nobody reads what it says of a wrong one', async () => {
    const script = '"$0" "$@" 2>&1 | true; stty -a'
    const argv = ['sh', '-c', script, process.execPath, programPath('knockclient'), '-k', stick, ...DRY]
    const { shown } = await onTerminal(
      argv,
      [
        [ASKED, 'wrong\r'],
        [ASKED, `${PASSPHRASE}\r`],
      ],
      { cwd: folder, env: environment() },
    )
    expect(shown).toMatch(/ icanon .* echo /s)
  })

  it('takes one line of standard input where that is no terminal', async () => {
    const { stdout } = await run('knockclient', ['-k', stick, ...DRY], { input: `${PASSPHRASE}\r\nand more\n` })
    expect(JSON.parse(stdout)).toEqual(sequence)
  })

  it('tries once there', async () => {
    expect(await run('knockclient', ['-k', stick, ...DRY], { input: 'wrong\n' })).toEqual({
      code: 1,
      stdout: '',
      stderr: `knockclient: error: ${stick}: wrong passphrase\nhint: try again, or export the key again\n`,
    })
  })

  it('reads no endless line', async () => {
    expect(await run('knockclient', ['-k', stick, ...DRY], { input: 'x'.repeat(100_000) })).toMatchObject({
      code: 1,
      stderr: 'knockclient: error: the passphrase: expected at most 1024 bytes, got more\n',
    })
  })

  it('fails where there is neither a terminal nor a line', () => {
    const { status, stderr } = fromShell(`setsid --wait KNOCKCLIENT -k ${stick} < /dev/null`)
    expect([status, stderr]).toEqual([
      1,
      'knockclient: error: the passphrase cannot be asked for: there is no terminal\nhint: run this in a terminal, or give it as a line on standard input\n',
    ])
  })
})

describe('with connect and exec', () => {
  let server: Server
  let port = ''
  beforeAll(async () => {
    server = createServer({ allowHalfOpen: true }, (socket) => socket.on('error', () => {}).pipe(socket)).listen(0, '127.0.0.1')
    await once(server, 'listening')
    port = String((server.address() as AddressInfo).port)
  })
  afterAll(() => void server.close())

  it.each([
    ['connect', () => ['connect', '127.0.0.1', port, '-k', stick, '--force']],
    ['exec', () => ['exec', '127.0.0.1', '-p', port, '-k', stick, '--force', '--', 'cat']],
  ])('%s asks on the terminal, and leaves all of standard input to what is behind the door', async (_, words) => {
    const argv = ['sh', '-c', `printf 'one\\ntwo\\n' | "$0" "$@"`, process.execPath, programPath('knockclient'), ...words()]
    const { code, shown } = await onTerminal(argv, [[ASKED, `${PASSPHRASE}\r`]], { env: environment() })
    expect([code, shown.replaceAll('\r', '')]).toEqual([0, `${ASKED}\none\ntwo\n`])
  })

  it('fails where there is no terminal', () => {
    const argv = ['--wait', process.execPath, programPath('knockclient'), 'connect', '127.0.0.1', port, '-k', stick]
    const { status, stderr } = spawnSync('setsid', argv, { env: environment(), input: 'one\n', encoding: 'utf8' })
    expect([status, stderr]).toEqual([
      1,
      'knockclient: error: the passphrase cannot be asked for: there is no terminal\nhint: run this in a terminal\n',
    ])
  })
})

describe('knockclient --key-fd', () => {
  it.each([
    ['a file', `KNOCKCLIENT --key-fd 3 3< ${plain}`],
    ['a pipe', `cat ${plain} | KNOCKCLIENT --key-fd 0`],
    ['a pipe that is slow', `(head -c 20 ${plain}; sleep 0.3; tail -c +21 ${plain}) | KNOCKCLIENT --key-fd 0`],
    ['a here-document', `KNOCKCLIENT --key-fd 7 7<<END\n${keyText({ grant: '' })}\nEND`],
  ])('reads a key from %s', (_, script) => {
    const { stdout, stderr } = fromShell(script)
    expect(stderr).toBe('')
    expect(JSON.parse(stdout)).toEqual(sequence)
  })

  it('reads a key under a passphrase, and the passphrase from standard input', () => {
    const { stdout } = fromShell(`KNOCKCLIENT --key-fd 3 3< ${stick}`, PASSPHRASE)
    expect(JSON.parse(stdout)).toEqual(sequence)
  })

  it('of standard input asks on the terminal', async () => {
    const argv = ['sh', '-c', `cat ${stick} | "$0" "$@"`, process.execPath, programPath('knockclient'), '--key-fd', '0', ...DRY]
    const { code } = await onTerminal(argv, [['passphrase of --key-fd 0: ', `${PASSPHRASE}\r`]], { env: environment() })
    expect(code).toBe(0)
  })

  it.each([
    ['nothing is open', 'KNOCKCLIENT --key-fd 9 9<&-', '--key-fd 9: cannot be read: '],
    [
      'there is no end',
      'KNOCKCLIENT --key-fd 0 < /dev/zero',
      '--key-fd 0: cannot be read: neither a file nor a pipe is open there',
    ],
    ['a pipe has no end', 'yes | KNOCKCLIENT --key-fd 0', '--key-fd 0: expected at most 131072 bytes, got more'],
    ['no key is', 'echo nonsense | KNOCKCLIENT --key-fd 0', '--key-fd 0:1: '],
  ])('says in one line that %s, and in another what to do', (_, script, fault) => {
    const { status, stdout, stderr } = fromShell(script)
    expect([status, stdout]).toEqual([1, ''])
    expect(stderr).toMatch(/^.*\n(hint: open a key there, as in ".*"\n)?$/)
    expect(stderr).toContain(`knockclient: error: ${fault}`)
  })

  it.each([
    [['--key-fd', '3', '-k', 'alice'], '-k cannot be used with --key-fd'],
    [['--key-fd', 'three'], '--key-fd expected the number of an open file, such as 3, got "three"'],
    [['--key-fd', '-1'], '--key-fd expected the number of an open file, such as 3, got "-1"'],
  ])('takes %j for a fault of usage', async (args, fault) => {
    const stderr = `knockclient: error: ${fault}\nhint: see "knockclient --help"\n`
    expect(await run('knockclient', [...args, ...DRY])).toMatchObject({ code: 2, stderr })
  })
})
