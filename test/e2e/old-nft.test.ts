import { chmodSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, expect, it } from 'vitest'
import { BIN } from '../root'
import { useGate } from './use-gate'

/* An nft, or a kernel, that can't have our table. */

const { server, gate } = useGate([], { backend: 'nftables', guard: ['22/tcp'], keyOptions: ['--services', '22/tcp'] })

beforeAll(() => gate.daemon.end())

/** The environment in which a script is nft; what it leaves out goes to the real one. */
function nft(script: string) {
  const folder = join(gate.folder, `bin-${readdirSync(gate.folder).length}`)
  mkdirSync(folder)
  const file = join(folder, 'nft')
  writeFileSync(file, `#!/bin/sh\n${script}\nexec "$(PATH=/usr/sbin:/sbin command -v nft)" "$@"\n`)
  for (const path of [folder, file]) chmodSync(path, 0o755)
  return { env: { PATH: `${folder}:${process.env.PATH}:/usr/sbin:/sbin` } }
}

const REFUSES = 'case "$*" in "-c -f -") cat > /dev/null; echo "Error: Could not process rule: Not supported" >&2; exit 1;; esac'
const OLD = '[ "$1" = --version ] && echo "nftables v0.9.8 (E.D.S.)" && exit'
const TOO_OLD =
  'error: nft 0.9.8 is too old: requires 1.0.6\nhint: install nftables 1.0.6 or newer (Debian 12 has it), or set backend = "iptables" in [firewall]\n'
const CANNOT =
  /^KNOCK: error: the kernel \(Linux \S+\) cannot hold our table: nft -c -f -: Error: Could not process rule: Not supported\nhint: load its module nf_tables \("modprobe nf_tables"\), use Linux 5\.10 or newer, or set backend = "iptables" in \[firewall\]\n$/
const cannot = (program: string) => new RegExp(CANNOT.source.replace('KNOCK', program))

it.each([
  ['the check', ['--check']],
  ['the daemon', []],
])('%s says in one line that nft is too old', async (_, options) => {
  const { code, stderr } = await server.run([...gate.command, ...options], nft(OLD))
  expect([code, stderr]).toEqual([1, `knockdaemon: ${TOO_OLD}`])
})

it.each([
  ['the check', ['--check']],
  ['the daemon', []],
])('%s says in one line that the kernel can’t have the table', async (_, options) => {
  const { code, stderr } = await server.run([...gate.command, ...options], nft(REFUSES))
  expect([code, stderr]).toEqual([1, expect.stringMatching(cannot('knockdaemon'))])
})

it('the installation says so, too, and changes nothing', async () => {
  const install = (script: string) =>
    server.run([join(BIN, 'knockturn'), 'firewall', 'install', '--config', gate.config], nft(script))
  await gate.knockturn('firewall', 'remove')
  expect(await install(REFUSES)).toMatchObject({ code: 1, stderr: expect.stringMatching(cannot('knockturn')) })
  expect(await install(OLD)).toMatchObject({ code: 1, stderr: `knockturn: ${TOO_OLD}` })
  expect(await server.must(['nft', 'list', 'tables'])).not.toContain('knockturn')
})
