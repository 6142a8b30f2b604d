import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { verdict } from '../lab/knocks'
import { onTerminal } from '../terminal'
import { useGate } from './use-gate'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const EXECUTABLE = join(ROOT, 'dist/usb/knockclient')
const SSH = 22
/** An address of the lab's network that nobody has. */
const NOBODY = '198.51.100.250'
const PASSPHRASE = 'correct horse battery'

const { server, client, gate, lab } = useGate(['client'], { serve: [SSH] })
/** A root of a file system that has the stick, the libraries that the executable names, and nothing else. */
let root: string

/** The libraries that an executable is linked with, and what loads them. */
function librariesOf(executable: string): string[] {
  const { stdout } = spawnSync('ldd', [executable], { encoding: 'utf8' })
  return [...stdout.matchAll(/(?:=> |^\s*)(\/\S+)/gm)].map(([, path]) => path)
}

function put(path: string, from: string) {
  mkdirSync(dirname(join(root, path)), { recursive: true })
  copyFileSync(from, join(root, path))
}

/** Shows a device in that root, where none may be made. */
function show(device: string) {
  const place = join(root, device)
  mkdirSync(dirname(place), { recursive: true })
  writeFileSync(place, '')
  expect(spawnSync('mount', ['--bind', device, place]).status).toBe(0)
  lab.endings.push(() => spawnSync('umount', [place]))
}

beforeAll(async () => {
  const { status, stderr } = spawnSync(process.execPath, [join(ROOT, 'src/usb/build.mjs')], { encoding: 'utf8' })
  expect([status, stderr]).toEqual([0, ''])
  root = lab.folder()
  put('usb/knockclient', EXECUTABLE)
  for (const library of librariesOf(EXECUTABLE)) put(library, library)
  for (const device of ['/dev/null', '/dev/tty']) show(device)
  mkdirSync(join(root, 'etc'))
  writeFileSync(join(root, 'etc/hosts'), `${server.ipv4} gate.example\n`)
  const sealed = join(root, 'usb/traveller.key.age')
  await server.must(
    [join(ROOT, 'bin/knockturn'), 'key', 'export', 'traveller', '--passphrase', '--out', sealed, '--keys', gate.keys],
    { input: `${PASSPHRASE}\n`, timeoutMs: 120_000 },
  )
})
beforeEach(() => client.moveOn())

const knockclient = (...options: string[]) => ['chroot', root, '/usb/knockclient', '-p', String(SSH), ...options]
/** With the plain key open as descriptor 3, which is the only way to it from in there. */
const withKey = (...options: string[]) => [
  'sh',
  '-c',
  'exec 3< "$0"; exec "$@"',
  gate.key,
  ...knockclient('--key-fd', '3', ...options),
]
const door = async () => (await client.connect(server.ipv4, SSH)).saw

describe('the executable, where there is neither Node nor a file of ours', () => {
  it('knocks with a key whose passphrase is typed, and the door opens', async () => {
    const knock = ['ip', 'netns', 'exec', client.namespace, ...knockclient('-k', '/usb/traveller.key.age', '--wait')]
    expect(await door()).toBe('silence')
    const { code, shown } = await onTerminal(knock, [['passphrase of traveller.key.age: ', `${PASSPHRASE}\r`]])
    expect([code, shown]).toEqual([0, expect.stringContaining(`port ${SSH} has opened`)])
    expect(shown).not.toContain(PASSPHRASE)
    expect(await door()).toBe('open')
  })

  it.each([
    ['TCP', []],
    ['UDP', ['--udp']],
    ['TCP to a name', ['-r', 'gate.example']],
  ])('knocks with a key from a descriptor, by %s', async (_, options) => {
    const accepted = await verdict(gate.daemon, () => client.must(withKey('--passes', '1', ...options)))
    expect(accepted).toMatchObject({ msg: 'accepted', address: client.ipv4 })
    expect(await door()).toBe('open')
  })

  it('says never the same knock twice, though it always starts from the same snapshot', async () => {
    const dryRuns = await Promise.all([1, 2, 3].map(() => client.must(withKey('--dry-run', '--json'))))
    const salts = dryRuns.map((text) => JSON.parse(text).request.salt)
    expect(new Set(salts).size).toBeGreaterThan(1)
  })

  it('takes no options of Node’s from the environment', async () => {
    const { code, stderr } = await client.run(withKey('--dry-run'), { env: { NODE_OPTIONS: '--require /nonexistent.cjs' } })
    expect([code, stderr]).toEqual([0, ''])
  })

  it('does not say where it was built, nor where the Node lies that has built it', () => {
    const executable = readFileSync(EXECUTABLE)
    expect([ROOT, process.execPath].filter((path) => executable.includes(path))).toEqual([])
  })

  it('opens no inspector at a signal', async () => {
    const knocking = withKey('-r', NOBODY, '--wait', '2', '-v')
    const { stderr } = await client.run(['sh', '-c', '"$@" & sleep 1; kill -USR1 $!; wait $!', 'sh', ...knocking])
    expect(stderr).toContain('sent ')
    expect(stderr).not.toMatch(/debugger|inspector/i)
  })

  it('says in one line that it was called wrongly', async () => {
    expect(await client.run(knockclient('--no-such-option'))).toMatchObject({
      code: 2,
      stderr: `knockclient: error: unknown option '--no-such-option'\nhint: see "knockclient --help"\n`,
    })
  })
})
