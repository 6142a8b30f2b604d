import { spawnSync } from 'node:child_process'
import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { logged } from '../lab/gate'
import { knock, verdict } from '../lab/knocks'
import { nodeOf, VERSIONS } from '../nodes.mjs'
import { useGate } from './use-gate'

const SSH = 22
/** A service that the key does not open. */
const OTHER = 443

/** Has a Node say each of its warnings on standard error, also where a program keeps them from its users. */
const TELL = `
  import { writeSync } from 'node:fs'
  const { emit } = process
  process.emit = function (name, ...rest) {
    if (name === 'warning') writeSync(2, 'Node warns: ' + rest[0] + '\\n')
    return emit.call(this, name, ...rest)
  }`
process.env.NODE_OPTIONS = `--import=data:text/javascript,${encodeURIComponent(TELL)}`

describe.each(VERSIONS)('by Node %s', (version) => {
  let node: string
  beforeAll(() => {
    node = nodeOf(version)
  })
  const { server, client, gate } = useGate(['client'], () => ({
    serve: [SSH],
    runtime: node,
    keyOptions: ['--services', `${SSH}/tcp`, '--max', '1h'],
  }))
  beforeEach(() => client.moveOn())

  const [program] = knock({ key: '' })
  const knockclient = (...options: string[]) => client.run([node, program, ...options])
  const connect = (port: number, ...options: string[]) =>
    knockclient('connect', server.ipv4, String(port), '-k', gate.key, ...options)

  it('a warning is told of here', () => {
    const { stderr } = spawnSync(
      node,
      ['--eval', 'process.removeAllListeners("warning"); process.emitWarning("a timer of less than 0")'],
      {
        encoding: 'utf8',
      },
    )
    expect(stderr).toBe('Node warns: Warning: a timer of less than 0\n')
  })

  it('the programs are run', () => {
    expect(spawnSync(node, ['--version'], { encoding: 'utf8' }).stdout).toBe(`v${version}\n`)
  })

  it.each([
    ['TCP', []],
    ['UDP', ['--udp']],
  ])('a knock by %s is heard and opens the door, and nothing is said of Node', async (_, options) => {
    expect((await client.connect(server.ipv4, SSH)).saw).toBe('silence')
    const said = await verdict(gate.daemon, async () => {
      expect(await knockclient('-k', gate.key, '-p', String(SSH), '--passes', '1', ...options)).toMatchObject({
        code: 0,
        stdout: '',
        stderr: '',
      })
    })
    expect([said.msg, said.address, (await client.connect(server.ipv4, SSH)).saw]).toEqual(['accepted', client.ipv4, 'open'])
  })

  it('`connect` knocks and is the connection, and nothing is said of Node', async () => {
    expect(await connect(SSH)).toMatchObject({ code: 0, stdout: `welcome, this is port ${SSH}\n`, stderr: '' })
  })

  it('`connect` ends in time where no door opens, and nothing is said of Node', async () => {
    const { code, stderr } = await connect(OTHER, '--wait', '1', '--force')
    expect([code, stderr]).toEqual([
      3,
      expect.stringMatching(/^knockclient: error: .* has not answered within 1 s\n(knockclient: note: .*\n)*(hint: .*\n)*$/),
    ])
  })

  it('`--check` finds no fault, and nothing is said of Node', async () => {
    const { code, stderr } = await server.run([...gate.command, '--check'])
    expect([code, stderr]).toEqual([0, ''])
  })

  it('the daemon ends when it is asked to, and nothing was said of Node', async () => {
    expect(await gate.daemon.end()).toEqual({ code: 0, signal: null })
    expect(gate.daemon.lines.filter((line) => !line.startsWith('{'))).toEqual([])
    expect(gate.daemon.lines.filter(logged('ended'))).toHaveLength(1)
  })
})
