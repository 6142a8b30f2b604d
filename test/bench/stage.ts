import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import pino from 'pino'
import { dryRunFirewall } from '../../src/daemon/backends/dry-run'
import { Daemon } from '../../src/daemon/daemon'
import { packetReader } from '../../src/daemon/taps/packet'
import { pcapReader } from '../../src/daemon/taps/pcap'
import { stdinSource } from '../../src/daemon/taps/stdin'
import { Leases } from '../../src/gate/leases'
import { Ledger } from '../../src/gate/ledger'
import { Listener } from '../../src/gate/listener/listener'
import type { Tap } from '../../src/gate/tap'
import { keyOf } from '../gate/listener/ear'
import { PREFIX } from './traffic'

/* What is measured, joined as the daemon joins it. */

/** A daemon without a disk or a firewall. @param ahead milliseconds by which its clock is ahead */
export function makeDaemon(ahead: () => number = () => 0): { daemon: Daemon; listener: Listener } {
  const now = () => ({ wall: Date.now() + ahead(), steady: performance.now() + ahead() })
  const listener = new Listener(1, Math.random)
  const ledger = new Ledger([], { append: async () => {} }, 1)
  const log = pino({ level: 'silent' })
  return { listener, daemon: new Daemon({ listener, ledger, leases: new Leases(), firewall: dryRunFirewall(), log, now }) }
}

/** A daemon that listens for so many keys. */
export async function daemonWithKeys(count: number): Promise<Daemon> {
  const { daemon } = makeDaemon()
  const grant = {
    services: [],
    max: 1,
    addresses: [],
    bindSource: true,
    requireAddress: false,
    allowUntilClosed: false,
    lock: false,
  }
  const whose = { fingerprint: '', expires: null, revoked: null, grant }
  const keys = Array.from({ length: count }, (_, n) => ({ ...whose, id: `${n}`, key: keyOf(n) }))
  await daemon.setKeys(keys, [])
  return daemon
}

/** The chunks as a stream, as a pipe gives them. */
export function stream(chunks: readonly Buffer[]): Readable {
  let i = 0
  return new Readable({
    read() {
      this.push(chunks[i++] ?? null)
    },
  })
}

/** Stream → parser → hear, to the stream's end. */
export function parse(form: string, chunks: readonly Buffer[], hear: (tap: Tap) => void): Promise<void> {
  return new Promise((resolve) => {
    const input = stream(chunks)
    if (form !== 'pcap') {
      stdinSource(PREFIX, input).start(hear, resolve)
      return
    }
    // As nflog.ts joins them after tcpdump.
    const readPacket = packetReader(PREFIX)
    const read = pcapReader(
      () => {},
      (bytes, from, to) => {
        const tap = readPacket(bytes, from, to)
        if (tap) hear(tap)
      },
    )
    input.on('data', read).on('end', resolve)
  })
}

/** The chunks' taps, each with texts of its own. */
export async function tapsOf(form: string, chunks: readonly Buffer[]): Promise<Tap[]> {
  const taps: Tap[] = []
  await parse(form, chunks, (tap) => taps.push(tap))
  return taps
}

/** Milliseconds in which the collector's threads clean up after earlier work. */
const SWEEPING = 50

/**
 * Microseconds of processor time that work takes, all threads of this process together (the garbage collector's too): this shows
 * what one core can do, whatever else the machine is doing.
 */
export async function processorTime(work: () => unknown): Promise<number> {
  globalThis.gc?.()
  await sleep(SWEEPING)
  const before = process.cpuUsage()
  await work()
  const { user, system } = process.cpuUsage(before)
  return user + system
}
