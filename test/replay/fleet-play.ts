// Knocks at several gateways: users send them, and a listener who is as quick plays each at all gateways at the same moment.

import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { bytesToHex } from '@noble/hashes/utils.js'
import { loadKeyFile } from '../../src/keys/keyring'
import { composeDatagram, datagramIdentity } from '../../src/protocol/datagram'
import { type Key, windowAt } from '../../src/protocol/key'
import type { Agent } from '../lab/agent'
import { DATAGRAMS, DOOR, type Fleet, keyNames } from '../lab/fleet'
import { shuffled } from '../random'
import { ROOT } from '../root'
import { grants, type KnockName, knockName } from './fleet-count'

const POSTING = join(ROOT, 'test/lab/posting.mjs')
/** Addresses of users, as many as there are knocks of one key before its leases are over. */
const ADDRESSES = 250
/** Seconds that a door stays open: short, because all keys together have 4,096 leases. */
const LEASE = 2
/** Of the listener, who has as many. */
const [USERS, LISTENERS] = ['10.66.0', '10.67.0']
/** Milliseconds for which nothing more must be logged before all is said. */
const QUIET = 1_500
const LONGEST = 60_000

/** A knock that has been sent. */
export interface Played {
  readonly name: KnockName
  readonly payload: string
  readonly source: string
  /** Steady milliseconds. */
  readonly at: number
}

/** Sends knocks of all keys in turn. */
export class Players {
  readonly #fleet: Fleet
  readonly #random: () => number
  readonly #keys: readonly Key[]
  readonly #fingerprints: readonly string[]
  readonly #agent: Agent
  /** All knocks so far, in order. */
  readonly played: Played[] = []
  /** Datagrams beyond the first of each knock. */
  again = 0

  private constructor(fleet: Fleet, keys: readonly Key[], random: () => number, agent: Agent) {
    this.#fleet = fleet
    this.#keys = keys
    this.#fingerprints = keys.map(({ fingerprint }) => bytesToHex(fingerprint))
    this.#random = random
    this.#agent = agent
  }

  /** @param count of keys, which the fleet has been made with */
  static async begin(fleet: Fleet, count: number, random: () => number): Promise<Players> {
    const { listener } = fleet
    const addresses = [USERS, LISTENERS].flatMap((block) => Array.from({ length: ADDRESSES }, (_, n) => `${block}.${n + 1}`))
    const batch = addresses.map((address) => `address add ${address}/32 dev eth0\n`).join('')
    await listener.must(['ip', '-batch', '-'], { input: batch })
    const files = keyNames(count).map((id) => loadKeyFile(join(fleet.keyring, `${id}.key`), () => {}))
    const keys = (await Promise.all(files)).map(({ key }) => key)
    const agent = listener.agent(POSTING)
    await agent.ask('ready')
    return new Players(fleet, keys, random, agent)
  }

  /** A user knocks at one gateway, and a listener at all others at the same moment, or before: from the user's address, or their own. */
  async knock(): Promise<Played> {
    const number = this.played.length
    const which = number % this.#keys.length
    const key = this.#keys[which] as Key
    const place = (Math.floor(number / this.#keys.length) % ADDRESSES) + 1
    const request = { action: 'open', protocol: 'tcp', once: false, port: DOOR, seconds: LEASE, address: '0.0.0.0' } as const
    const datagram = composeDatagram(key, windowAt(Date.now() / 1_000, key.period), { ...request, salt: number & 0xffff })
    const payload = bytesToHex(datagram)
    const source = `${USERS}.${place}`
    const name = knockName(this.#fingerprints[which] ?? '', bytesToHex(datagramIdentity(datagram)))
    const played = { name, payload, source, at: performance.now() }
    this.played.push(played)
    const order = shuffled(this.#fleet.gateways, this.#random)
    const user = Math.floor(this.#random() * order.length)
    const isSpoofed = this.#random() < 0.5
    this.again += order.length - 1
    await this.#agent.ask(
      'post',
      order.map(({ host }, i) => {
        const from = i === user || isSpoofed ? source : `${LISTENERS}.${place}`
        return { payload, from, to: host.ipv4, port: DATAGRAMS }
      }),
    )
    return played
  }

  /** The listener plays knocks again, each at all gateways, from their own addresses and from the users'. */
  async replay(knocks: readonly Played[]): Promise<void> {
    for (const { payload, source } of knocks) {
      const order = shuffled(this.#fleet.gateways, this.#random)
      this.again += order.length
      const from = this.#random() < 0.5 ? source : source.replace(USERS, LISTENERS)
      await this.#agent.ask(
        'post',
        order.map(({ host }) => ({ payload, from, to: host.ipv4, port: DATAGRAMS })),
      )
    }
  }

  /** Knocks of the last milliseconds. */
  recent(ms: number): Played[] {
    const since = performance.now() - ms
    return this.played.filter(({ at }) => at >= since)
  }

  /** Who has granted which knock, by all gateways' logs. */
  granted() {
    return grants(new Map(this.#fleet.gateways.map(({ name, lines }) => [name, lines])))
  }

  /** Waits until nobody logs anything more. */
  async settled(): Promise<void> {
    const lines = () => this.#fleet.gateways.reduce((sum, gateway) => sum + gateway.lines.length, 0)
    const until = performance.now() + LONGEST
    for (let before = -1; before !== lines() && performance.now() < until; ) {
      before = lines()
      await sleep(QUIET)
    }
  }
}
