import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { logged } from '../lab/gate'
import type { Host } from '../lab/host'
import { BIN } from '../root'
import { keyText } from '../system/scratch'
import { serveSsh } from './sshd'
import { useGate } from './use-gate'

/* From what the server prints to an ssh that knocks, by two commands: `knockturn key export --line` and `knockclient add`. */

const SSH = 22
const NAME = 'gate.example'

const { server, client, second, gate, lab } = useGate(['client', 'second'], { keyOptions: ['--services', `${SSH}/tcp`] })
let site: Awaited<ReturnType<typeof serveSsh>>

/** The line of a key, and its passphrase, as the server prints them. */
async function lineOf(id: string) {
  const argv = ['key', 'export', id, '--line', '--keys', gate.keys]
  const { code, stdout, stderr } = await server.run([process.execPath, join(BIN, 'knockturn'), ...argv])
  expect(code).toBe(0)
  return { line: stdout.trim(), passphrase: /^passphrase: (\S+)\n$/.exec(stderr)?.[1] ?? '' }
}

/** Runs a shell's command as the traveller, whose home this is. */
const shell = (host: Host, script: string) =>
  host.run(site.inside('sh', '-c', script), { env: { PATH: site.env.PATH, HOME: site.file('.') }, timeoutMs: 60_000 })

beforeAll(async () => {
  await gate.newKey('alice', '--host', NAME, '--services', `${SSH}/tcp`)
  await gate.daemon.line(logged('reloaded', { keys: 2 }))
  site = await serveSsh(lab, null, [SSH, 2222], { [NAME]: [server.ipv4, server.ipv6] })
  // What would keep any block behind it from having an effect.
  const theirs = readFileSync(site.file('ssh_config'), 'utf8').replace(/^Host gate\n.*\n/, '')
  mkdirSync(site.file('.ssh'), { mode: 0o700 })
  writeFileSync(site.file('.ssh/config'), theirs.replace('Host *\n', 'Host *\n  ProxyCommand false\n'), { mode: 0o600 })
})
beforeEach(() => client.moveOn())

describe('knockclient add', () => {
  it('makes "ssh gate.example" knock, from the line that the server prints', async () => {
    expect((await client.connect(server.ipv4, SSH, 300)).saw).toBe('silence')
    expect((await shell(client, `ssh ${NAME} echo in`)).code).toBe(255)
    const { line, passphrase } = await lineOf('alice')
    writeFileSync(site.file('passphrase'), `${passphrase}\n`)
    const added = await shell(client, `${line} --ssh-config < ${site.file('passphrase')}`)
    expect([added.code, added.stderr]).toEqual([0, ''])
    expect(added.stdout).toMatch(/^knocked at gate\.example: the service answers\nwrote .*alice\.key: the key alice\n/)
    await client.moveOn()
    expect((await client.connect(server.ipv4, SSH, 300)).saw).toBe('silence')
    expect(await shell(client, `ssh ${NAME} echo in`)).toMatchObject({ code: 0, stdout: 'in\n', stderr: '' })
  })

  it('changes nothing the second time, and ssh gets in as before', async () => {
    const before = ['.ssh/config', '.ssh/knockturn.conf'].map((name) => readFileSync(site.file(name), 'utf8'))
    const { line } = await lineOf('alice')
    const again = await shell(client, `${line} --ssh-config < ${site.file('passphrase')}`)
    // Each line has a passphrase of its own.
    expect([again.code, again.stderr]).toEqual([1, expect.stringContaining('the key: wrong passphrase')])
    const { line: other, passphrase } = await lineOf('alice')
    writeFileSync(site.file('passphrase'), `${passphrase}\n`)
    const { code, stdout } = await shell(client, `${other} --ssh-config < ${site.file('passphrase')}`)
    expect([code, stdout]).toEqual([0, expect.stringContaining('"ssh gate.example" knocks already\n')])
    expect(['.ssh/config', '.ssh/knockturn.conf'].map((name) => readFileSync(site.file(name), 'utf8'))).toEqual(before)
    await client.moveOn()
    expect((await shell(client, `ssh ${NAME} true`)).code).toBe(0)
  })

  it('leaves all in its place where the server does not open, and its exit code is 3', async () => {
    const stranger = keyText({ id: 'stranger', more: `host = "${server.ipv4}"\nservices = ["${SSH}/tcp"]\n`, grant: '' })
    writeFileSync(site.file('stranger.key'), stranger, { mode: 0o600 })
    const { code, stdout, stderr } = await shell(second, `knockclient add ${site.file('stranger.key')}`)
    expect(code).toBe(3)
    expect(stderr).toMatch(/port 22 has not answered within 30 s\n/)
    expect(stderr).toContain(`hint: the key is in its place: knock again with "knockclient ${server.ipv4}"\n`)
    expect(stdout).toMatch(/\nwrote .*stranger\.key: the key stranger\nwrote .*config\.toml: /)
  })
})
