import { once } from 'node:events'
import { open, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { UNIT } from '../../daemon/command/network'
import { SETPRIV } from '../../daemon/privileges'
import { spawn } from '../../system/child-process'
import { commandPath, run } from '../../system/commands'
import { Fault } from '../../system/fault'
import { LOG } from './places'

/* The daemon's start, by systemd also again: nobody may be told to knock before it hears. */

/** How long a daemon may take to start, in milliseconds: seconds on a slow machine with many keys. */
const START_LIMIT = 60_000
/** Milliseconds between two looks. */
const LOOK = 200
/** Most of a log that is read, in bytes: a daemon that starts says a few lines. */
const MAX_LOG = 64 * 1024

/**
 * Starts the daemon, and waits until it hears.
 * @param root the folder of the programs
 * @throws {Fault} with what it said last, where it does not come to that
 */
export async function startDaemon(root: string, hasSystemd: boolean): Promise<void> {
  const said = hasSystemd ? await byUnit() : await byHand(root)
  const until = performance.now() + START_LIMIT
  for (;;) {
    const { state, lines } = await said()
    if (state === 'ready') return
    const last = lines.filter((line) => line.trim() !== '').at(-1) ?? 'it said nothing'
    const hint = 'run "knockdaemon --check"'
    if (state === 'ended') throw new Fault(`the daemon does not start: ${inWords(last)}`, { hint })
    if (performance.now() > until)
      throw new Fault(`the daemon is not ready after ${START_LIMIT / 1000} s: ${inWords(last)}`, { hint })
    await sleep(LOOK)
  }
}

/** How a start stands, and what the daemon has said since. */
interface Starting {
  readonly state: 'starting' | 'ready' | 'ended'
  readonly lines: readonly string[]
}

/** Has systemd start it. */
async function byUnit(): Promise<() => Promise<Starting>> {
  const before = (await show()).InvocationID
  // It would wait for longer than a command may take.
  await run('systemctl', ['restart', '--no-block', UNIT])
  return async () => {
    const { ActiveState, SubState, InvocationID, Type } = await show()
    if (!InvocationID || InvocationID === before) return { state: ActiveState === 'failed' ? 'ended' : 'starting', lines: [] }
    const lines = (await run('journalctl', ['--output=cat', '--lines=50', `_SYSTEMD_INVOCATION_ID=${InvocationID}`])).split('\n')
    // A unit that tells when it is ready is active from then on.
    if (ActiveState === 'active' && (Type?.startsWith('notify') || lines.some(isReady))) return { state: 'ready', lines }
    return { state: ActiveState === 'failed' || SubState === 'auto-restart' ? 'ended' : 'starting', lines }
  }
}

async function show(): Promise<Record<string, string>> {
  const lines = (await run('systemctl', ['show', UNIT, '-p', 'ActiveState,SubState,InvocationID,Type'])).split('\n')
  return Object.fromEntries(lines.map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]))
}

/** Starts it in a session of its own, which ends with nobody's terminal, as docs/by-hand.md has it. */
async function byHand(root: string): Promise<() => Promise<Starting>> {
  const log = await open(LOG, 'a', 0o640)
  const from = (await log.stat()).size
  const [program = '', ...args] = [...SETPRIV.split(' '), process.execPath, join(root, 'bin/knockdaemon')]
  const child = spawn(program, args, {
    detached: true,
    stdio: ['ignore', log.fd, log.fd],
    cwd: '/',
    env: { PATH: commandPath() },
  })
  await once(child, 'spawn').finally(() => log.close())
  child.unref()
  return async () => {
    const isOver = child.exitCode !== null || child.signalCode !== null
    const lines = (await readFile(LOG))
      .subarray(from, from + MAX_LOG)
      .toString('utf8')
      .split('\n')
    return { state: isOver ? 'ended' : lines.some(isReady) ? 'ready' : 'starting', lines }
  }
}

const isReady = (line: string): boolean => entryOf(line)?.msg === 'ready'

/** A line of the log for people: its message, and the reason behind it. What is no entry of the log stays as it is. */
function inWords(line: string): string {
  const { msg, reason } = entryOf(line) ?? {}
  if (msg === undefined) return line
  return reason ? `${msg}: ${reason}` : String(msg)
}

/** What an entry of the daemon's log says; null: it is another text. */
function entryOf(line: string): { readonly msg?: unknown; readonly reason?: unknown } | null {
  try {
    return JSON.parse(line)
  } catch {
    return null
  }
}
