import { appendFileSync, chmodSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { keyText, put, scratch } from '../system/scratch'
import { RunningDaemon, run } from './programs'

/** A server that follows a file of this mode. */
function server(mode: number) {
  const folder = scratch()
  const keys = join(folder, 'keys')
  mkdirSync(keys, { mode: 0o700 })
  const key = put(keys, 'alice.key', keyText({ more: 'host = "gate.invalid"\n' }))
  const file = put(folder, 'knock.log', '', mode)
  const taps = '[taps]\nsource = "file"\nfile = "knock.log"'
  const text = `server = "gate.example"\nkeys = "keys"\n${taps}\n[firewall]\nbackend = "dry-run"\n[ledger]\npath = "ledger"\n`
  return { key, file, args: ['--config', put(folder, 'knockturn.toml', text, 0o644), '--new-ledger'] }
}

/** The LOG lines of a knock. */
async function knock(key: string): Promise<string[]> {
  const { ports } = JSON.parse((await run('knockclient', ['-k', key, '-p', '22', '--dry-run', '--json'])).stdout)
  return ports.map(
    (port: number) =>
      `KNOCK: IN=v0 OUT= SRC=198.51.100.2 DST=198.51.100.1 LEN=60 TOS=0x00 PREC=0x00 TTL=64 ID=7 DF PROTO=TCP SPT=40000 DPT=${port} WINDOW=64240 RES=0x00 SYN URGP=0 \n`,
  )
}

it('a file that the daemon may not read keeps it from starting, and it says so, with a hint', async () => {
  const { file, args } = server(0)
  const { code, stderr } = await run('knockdaemon', args)
  const told = `knockdaemon: error: ${file}: cannot be read: EACCES: permission denied`
  const hint = `hint: let the daemon's user read it, or set [taps] source = "nflog"`
  expect([code, stderr.split('\n').slice(0, 2)]).toEqual([1, [told, hint]])
})

it('a file that may not be read for a while is complained of once, and then read on from where that began', async () => {
  const { key, file, args } = server(0o600)
  const daemon = await new RunningDaemon(args).ready()
  const first = await knock(key)
  appendFileSync(file, first.join(''))
  await daemon.log.find(({ msg }) => msg === 'accepted')
  const second = await knock(key)
  chmodSync(file, 0o200) // for us to write only
  appendFileSync(file, second.join(''))
  const complaint = await daemon.log.find(({ msg }) => String(msg).includes('EACCES'))
  expect(complaint.msg).toMatch(/knock\.log: cannot be read: EACCES: permission denied: let the daemon's user read it/)
  const since = daemon.log.all.length
  chmodSync(file, 0o600)
  await daemon.log.find(({ msg }) => msg === 'accepted', since)
  daemon.signal('SIGTERM')
  expect(await daemon.end()).toBe(0)
  const lines = first.length + second.length
  expect(daemon.log.json.at(-1)).toMatchObject({ msg: 'ended', seen: lines, ignored: 0, dropped: null })
  expect(daemon.log.json.filter(({ msg }) => String(msg).includes('EACCES'))).toHaveLength(1)
})
