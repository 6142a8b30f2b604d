// Memory that a daemon uses, idle and after a flood from a million addresses, in the folder that is the process's argument.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { addKey } from '../../src/keys/keyring'
import { keyOf } from '../gate/listener/ear'
import { report, row, times } from './figures'
import { PREFIX, traffic } from './traffic'

const KEYS = 20
const FLOOD = times(1_000_000, 10_000)
const PART = times(50_000, 10_000)
/** Milliseconds after which a daemon has come to rest, and after which it has had time to give back what it no longer needs. */
const REST = 3_000
const LATER = times(60_000, 1_000)
/** How many times its idle memory it may use then. */
const MOST_LATER = 1.1

/** Resident memory in MB, now or at its highest. */
function memory({ pid }: ChildProcess, name: 'VmRSS' | 'VmHWM' = 'VmRSS'): number {
  return Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]) / 1024
}

/** Processor time so far, in ticks. */
const ticks = ({ pid }: ChildProcess): string => readFileSync(`/proc/${pid}/stat`, 'latin1').split(' ').slice(13, 15).join(' ')

async function makeConfig(folder: string): Promise<string> {
  const keys = join(folder, 'keys')
  mkdirSync(keys, { mode: 0o700 })
  const grant = {
    services: [{ port: 22, protocol: 'tcp' as const }],
    max: 3_600,
    addresses: [],
    bindSource: true,
    requireAddress: false,
    allowUntilClosed: false,
    lock: false,
  }
  const rest = { created: Date.now(), expires: null, revoked: null, host: null, grant }
  for (let n = 0; n < KEYS; n++) await addKey(keys, { id: `user${n}`, key: keyOf(n), ...rest })
  const config = join(folder, 'knockturn.toml')
  const lines = [
    `server = ${JSON.stringify(keyOf(0).server)}`,
    `keys = ${JSON.stringify(keys)}`,
    `[taps]\nsource = "stdin"\nprefix = ${JSON.stringify(PREFIX)}`,
    '[firewall]\nbackend = "dry-run"',
    `[ledger]\npath = ${JSON.stringify(join(folder, 'ledger'))}`,
  ]
  writeFileSync(config, `${lines.join('\n')}\n`)
  return config
}

report(async () => {
  const [, , folder, knockdaemon] = process.argv
  const argv = [knockdaemon, '--config', await makeConfig(folder), '--new-ledger', '--allow-root']
  const daemon = spawn(process.execPath, argv, { stdio: ['pipe', 'ignore', 'pipe'] })
  const bare = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { stdio: 'ignore' })
  try {
    let said = ''
    daemon.stderr.setEncoding('utf8').on('data', (text) => {
      said = `${said}${text}`.slice(-4096)
    })
    await sleep(REST)
    if (daemon.exitCode !== null || !said.includes('"ready"')) throw new Error(`the daemon is not ready: ${said}`)
    const floor = { what: 'an idle node', samples: [memory(bare)] }
    const idle = row('memory of an idle daemon', 'MB', [memory(daemon)], floor)
    for (let from = 0; from < FLOOD; from += PART) {
      for (const chunk of traffic('ulogd', 'forged sources', from, PART))
        if (!daemon.stdin.write(chunk)) await once(daemon.stdin, 'drain')
    }
    // When it is idle for a while, it has handled what was written.
    for (let before = ''; before !== ticks(daemon); ) {
      before = ticks(daemon)
      await sleep(300)
    }
    const most = row(`  highest during ${FLOOD.toLocaleString('en-US')} forged sources`, 'MB', [memory(daemon, 'VmHWM')], floor)
    await sleep(LATER)
    const before = { what: 'idle', samples: [idle.value ?? NaN] }
    const later = row(`  ${LATER / 1000} s after them`, 'MB', [memory(daemon)], before)
    return [idle, most, { ...later, target: { what: `≤ × ${MOST_LATER}`, met: (later.ratio ?? Infinity) <= MOST_LATER } }]
  } finally {
    daemon.kill('SIGKILL')
    bare.kill('SIGKILL')
  }
})
