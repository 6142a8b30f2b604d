// The start of a daemon with as many key files as the process's arguments say, and a window's end: how long it takes, and for how long at a
// time nothing else can happen. Prints the samples of one run, in milliseconds.

import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { base32nopad } from '@scure/base'
import { loadServerKeys } from '../../src/daemon/server-keys'
import { report } from './figures'
import { makeDaemon } from './stage'

const SERVER = 'gate.example'

function makeKeys(folder: string, count: number): void {
  mkdirSync(folder, { mode: 0o700 })
  for (let n = 0; n < count; n++) {
    const secret = Buffer.alloc(32)
    secret.writeUInt32BE(n)
    const id = `user${n}`
    const text = `id = "${id}"\nsecret = "${base32nopad.encode(secret)}"\nserver = "${SERVER}"\nperiod = 30\npool = "49152-65535"\ncreated = 2026-01-31T12:00:00Z\n\n[grant]\nservices = ["22/tcp"]\nmax = "1h"\n`
    writeFileSync(join(folder, `${id}.key`), text, { mode: 0o600 })
  }
}

/** How long work takes, and the longest time for which the event loop was blocked meanwhile. */
async function timed(work: () => Promise<unknown>): Promise<{ ms: number; heldUp: number }> {
  const began = performance.now()
  let last = began
  let heldUp = 0
  let goesOn = true
  const look = () => {
    const at = performance.now()
    heldUp = Math.max(heldUp, at - last)
    last = at
    if (goesOn) setImmediate(look)
  }
  look()
  await work()
  look()
  goesOn = false
  return { ms: performance.now() - began, heldUp }
}

async function measure(folder: string, count: number) {
  let ahead = 0
  const { daemon, listener } = makeDaemon(() => ahead)
  const load = await timed(async () => {
    const { keys } = await loadServerKeys(folder, SERVER)
    if (keys.length !== count) throw new Error(`expected ${count} keys, got ${keys.length}`)
    await daemon.setKeys(keys, [])
  })
  await daemon.restore()
  const turn = await timed(async () => {
    ahead += 30_000
    await sleep(500) // by then the daemon has looked at its clock
    while (listener.busy) await sleep(10)
  })
  await daemon.settle()
  const floor = await timed(async () => {
    for (const name of readdirSync(folder)) await readFile(join(folder, name))
  })
  return { load, turn, floor }
}

const [, , task, folder, count] = process.argv
report(async () => {
  if (task === 'measure') return measure(folder, Number(count))
  makeKeys(folder, Number(count))
  return []
})
