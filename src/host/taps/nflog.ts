import { setTimeout as sleep } from 'node:timers/promises'
import { execa } from 'execa'
import type { Tap } from '../../gate/listener'
import { commandPath, missing } from '../commands'
import { Fault, reason } from '../fault'
import { packetReader } from './packet'
import { pcapReader } from './pcap'
import type { TapSource } from './source'

/** Bytes of a packet that are asked for: the longest headers that are read, and a datagram knock. */
const SNAP_LENGTH = 256
/** The capture's buffer in KiB: with it a flood of 50,000 packets a second came through without loss. */
const BUFFER = 8192
/** Waits between restarts, in milliseconds: doubled up to the last. */
const FIRST_WAIT = 100
const LAST_WAIT = 5_000
/** How long a capture has to start, in milliseconds. */
const START_LIMIT = 10_000

/**
 * The firewall's NFLOG group, read by tcpdump as a child: what it writes is a stream that we parse strictly. Restarted when it dies.
 * @param warn told when the capture has died
 */
export function nflogSource(group: number, prefix: string, warn: (message: string) => void): TapSource {
  const counters = { seen: 0, ignored: 0 }
  const readPacket = packetReader(prefix)
  const stopping = new AbortController()
  let end = () => {}
  let life: Promise<void> = Promise.resolve()

  /** One life of tcpdump; `heard` is called when its stream has begun. */
  const run = async (hear: (tap: Tap) => void, heard: () => void): Promise<string> => {
    // If we are killed, tcpdump must not live on: it would keep the group from the next daemon.
    const tcpdump = ['tcpdump', '-i', `nflog:${group}`, '-n', '-U', '-s', String(SNAP_LENGTH), '-B', String(BUFFER), '-w', '-']
    if (process.getuid?.() === 0) tcpdump.push('-Z', 'root')
    const child = execa('setpriv', ['--pdeathsig', 'KILL', '--', ...tcpdump], {
      buffer: false,
      reject: false,
      stdin: 'ignore',
      // The stream has no end, and so neither a time limit nor a largest size; each record in it has one.
      env: { PATH: commandPath() },
    })
    end = () => child.kill('SIGTERM')
    let complaint = ''
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      complaint = `${complaint}${text}`.slice(-1024)
    })
    const read = pcapReader(heard, (packet) => {
      counters.seen++
      const tap = readPacket(packet)
      if (tap) hear(tap)
      else counters.ignored++
    })
    child.stdout.on('data', (chunk: Buffer) => {
      try {
        read(chunk)
      } catch (error) {
        complaint = reason(error)
        // What follows can't be read any more.
        child.stdout.destroy()
        child.kill('SIGTERM')
      }
    })
    const { shortMessage } = await child
    const said = complaint
      .trim()
      .split('\n')
      .findLast((line) => !/packets|listening on/.test(line))
    return said || shortMessage || 'it ended'
  }

  return {
    counters,
    start(hear) {
      return new Promise((resolve, reject) => {
        let begun = false
        const limit = setTimeout(() => end(), START_LIMIT).unref()
        const live = async () => {
          for (let wait = FIRST_WAIT; !stopping.signal.aborted; wait = Math.min(2 * wait, LAST_WAIT)) {
            const why = await run(hear, () => {
              if (begun) warn('tcpdump hears again')
              begun = true
              wait = FIRST_WAIT
              clearTimeout(limit)
              resolve()
            })
            if (stopping.signal.aborted) return
            if (!begun)
              throw /failed to execute|ENOENT/.test(why)
                ? missing('tcpdump')
                : new Fault(`tcpdump cannot hear NFLOG group ${group}: ${why}`)
            warn(`tcpdump has ended and is started again: ${why}`)
            await sleep(wait, undefined, { signal: stopping.signal }).catch(() => {})
          }
        }
        life = live().catch((error) => {
          clearTimeout(limit)
          reject(error)
        })
      })
    },
    async stop() {
      stopping.abort()
      end()
      await life
    },
  }
}
