// What befalls a fleet, by chance and the same each time: members of etcd, gateways, the network, disks and clocks.

import { setTimeout as sleep } from 'node:timers/promises'
import { openEtcd } from '../../src/daemon/fleet/etcd/client'
import type { EtcdCluster } from '../lab/etcd'
import type { EtcdMember } from '../lab/etcd-member'
import type { Fleet, Gateway } from '../lab/fleet'
import type { Host } from '../lab/host'
import { cut, cutOneWay } from '../lab/partition'
import { shuffled } from '../random'
import type { Players } from './fleet-play'

/** Milliseconds that a fault lasts; and some last longer, until the gateways' watches are too old. */
const [LEAST, MOST, LONGEST] = [400, 3_500, 12_000]
/** The part of those. */
const LONG = 0.15
/** How often knocks are played again while it lasts. */
const PARTS = 3
/** Of calm behind it. */
const CALM = 1_200
/** Knocks that a listener plays again when something has changed. */
const AGAIN = 40
/** Seconds by which a clock is set off. */
const STEPS = [-40, -15, -4, 4, 15, 40]
/** Milliseconds of knocks around a moment that a clock is set back to. */
const AROUND = 5_000
/** Revisions by which a restored etcd comes further than it was, and how many are written at a time. */
const [AHEAD, AT_ONCE] = [100, 25]
/** How often a base is raised until etcd takes it. */
const TRIES = 30

/** Something goes wrong, until what it gives mends it. */
type Fault = () => Promise<() => unknown>

/** Everything that befalls a fleet, each in turn by chance. */
export class Faults {
  readonly #fleet: Fleet
  readonly #etcd: EtcdCluster
  readonly #players: Players
  readonly #random: () => number
  /** How often what has happened. */
  readonly happened: Record<string, number> = {}
  /** What could not be done. */
  readonly failed: string[] = []

  constructor(fleet: Fleet, players: Players, random: () => number) {
    if (!fleet.etcd) throw new Error('a fleet that shares nothing')
    this.#fleet = fleet
    this.#etcd = fleet.etcd
    this.#players = players
    this.#random = random
  }

  /** Of etcd and the network. */
  get #ofEtcd(): Record<string, Fault> {
    const { members } = this.#etcd
    const hosts = members.map(hostOf)
    return {
      'kill -9 of a member': () => this.#killMembers([this.#pick(members)]),
      'kill -9 of the leader': async () => this.#killMembers([(await this.#etcd.leader()) ?? this.#pick(members)]),
      'kill -9 of two members': () => this.#killMembers(shuffled(members, this.#random).slice(1)),
      'a member that stands still': async () => {
        const member = this.#pick(members)
        member.pause()
        return () => member.resume()
      },
      'a member cut off from the others': () => this.#apart((one, others) => cut([one], others), hosts),
      'a member that hears no other': () => this.#apart((one, others) => cutOneWay(others, [one]), hosts),
      'a member that no other hears': () => this.#apart((one, others) => cutOneWay([one], others), hosts),
      'all members apart': async () => {
        const heals = [await cut([hosts[0] as Host], hosts.slice(1)), await cut([hosts[1] as Host], hosts.slice(2))]
        return async () => {
          for (const heal of heals) await heal()
        }
      },
      'a gateway cut off from etcd': async () => cut([this.#pick(this.#fleet.gateways).host], hosts),
      'a gateway cut off from one member': async () => cut([this.#pick(this.#fleet.gateways).host], [this.#pick(hosts)]),
      'requests that do not arrive': async () => cutOneWay([this.#pick(this.#fleet.gateways).host], hosts),
      'answers that do not arrive': async () => cutOneWay(hosts, [this.#pick(this.#fleet.gateways).host]),
      'a full disk': () => this.#fillDisk(this.#pick(members)),
    }
  }

  /** Of gateways. */
  get #ofGateways(): Record<string, Fault> {
    const one = () => this.#pick(this.#fleet.gateways)
    return {
      'kill -9 of a gateway': () => this.#kill([one()]),
      'kill -9 of two gateways': () => this.#kill(shuffled(this.#fleet.gateways, this.#random).slice(1)),
      'a gateway that stands still': async () => {
        const gateway = one()
        gateway.pause()
        return () => gateway.resume()
      },
      'a clock that is off': async () => {
        const [gateway, seconds] = [one(), this.#pick(STEPS)]
        gateway.setClock(seconds)
        if (seconds < 0) await this.#again(-1_000 * seconds - AROUND, -1_000 * seconds + AROUND)
        return () => gateway.setClock(0)
      },
    }
  }

  /** Has faults of etcd, and of gateways meanwhile, until it is told to end. */
  async go(signal: AbortSignal): Promise<void> {
    await Promise.all([this.#turns(this.#ofEtcd, signal), this.#turns(this.#ofGateways, signal)])
  }

  /** How many different faults there are. */
  get kinds(): number {
    return Object.keys({ ...this.#ofEtcd, ...this.#ofGateways }).length
  }

  async #turns(faults: Record<string, Fault>, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      for (const [name, begin] of shuffled(Object.entries(faults), this.#random)) {
        if (signal.aborted) return
        await this.#happen(name, begin)
        await sleep(this.#random() * CALM)
      }
    }
  }

  async #happen(name: string, begin: Fault): Promise<void> {
    try {
      const mend = await begin()
      try {
        this.happened[name] = (this.happened[name] ?? 0) + 1
        const most = this.#random() < LONG ? LONGEST : MOST
        // What is not known meanwhile is played again meanwhile.
        for (let part = 0; part < PARTS; part++) {
          await sleep((LEAST + this.#random() * (most - LEAST)) / PARTS)
          await this.#again(0, MOST)
        }
      } finally {
        await mend()
      }
      await this.#again(0, 2 * MOST)
    } catch (error) {
      this.failed.push(`${name}: ${error instanceof Error ? error.message : error}`)
    }
  }

  /**
   * Etcd is restored from a snapshot, or begins as a new one, and knocks that it has forgotten are played again; then an administrator repairs it.
   * @param snapshot null: a new one
   * @param how another token makes another cluster id; a gateway that is away sees nothing of it, and comes back when etcd's history is as long as the
   *   one that it knows
   */
  async restore(snapshot: string | null, { token, isAway = false }: { token?: string; isAway?: boolean } = {}): Promise<void> {
    const what =
      snapshot === null ? 'a brand-new etcd' : token ? 'a snapshot with another token' : 'a snapshot with the same token'
    this.happened[what] = (this.happened[what] ?? 0) + 1
    const heal = isAway ? await cut([this.#pick(this.#fleet.gateways).host], this.#etcd.members.map(hostOf)) : () => {}
    const { revision } = (await this.#headerOf()) ?? { revision: 0 }
    await this.#etcd.restore(snapshot, token)
    if (isAway) await this.#overtake(revision)
    await heal()
    for (let times = 0; times < 3; times++) {
      await this.#again(0, 20_000)
      await sleep(500)
    }
    await this.#repair()
    await this.#again(0, 20_000)
  }

  /** Writes what is nobody's business, until etcd has as many revisions as it had. */
  async #overtake(revision: number): Promise<void> {
    const { client } = this.#fleet
    const endpoints = await this.#etcd.reachFrom(client)
    const tls = this.#etcd.tls ?? { ca: null, cert: null, key: null }
    const etcd = await openEtcd({ endpoints, tls, prefix: 'lab/', timeout: 5_000, gateway: 'lab', pinned: false, login: null })
    try {
      const write = () => etcd.transact({ if: [], do: [{ put: 'overtaken', value: '' }], else: [] })
      for (let written = 0; written <= revision + AHEAD; ) {
        const outcomes = await Promise.all(Array.from({ length: AT_ONCE }, write))
        written = Math.max(...outcomes.map(({ header }) => header.revision))
      }
    } finally {
      etcd.close()
    }
  }

  /** What etcd's history is; null where nobody says. */
  async #headerOf(): Promise<{ revision: number } | null> {
    const said = await this.#etcd.etcdctl(['endpoint', 'status', '--write-out', 'json']).catch(() => null)
    return said && JSON.parse(said)[0].Status.header
  }

  /** Raises the base, by a gateway of chance. */
  async #repair(): Promise<void> {
    for (let left = TRIES; ; left--) {
      try {
        await this.#pick(this.#fleet.gateways).knockturn('fleet', 'floor')
        return
      } catch (error) {
        if (left === 0) throw error
        await sleep(1_000)
      }
    }
  }

  async #again(least: number, most: number): Promise<void> {
    await this.#players.replay(this.#players.ofAge(Math.max(0, least), most, AGAIN))
  }

  async #killMembers(members: readonly EtcdMember[]): Promise<() => unknown> {
    for (const member of members) await member.kill()
    return () => {
      for (const member of members) member.start()
    }
  }

  async #kill(gateways: readonly Gateway[]): Promise<() => unknown> {
    await Promise.all(gateways.map((gateway) => gateway.end()))
    return () => Promise.all(gateways.map((gateway) => gateway.start()))
  }

  async #fillDisk(member: EtcdMember): Promise<() => unknown> {
    const clear = await this.#etcd.fillDisk(member)
    return () => {
      clear()
      member.start()
    }
  }

  async #apart(part: (one: Host, others: Host[]) => Promise<() => unknown>, hosts: readonly Host[]): Promise<() => unknown> {
    const one = this.#pick(hosts)
    return part(
      one,
      hosts.filter((host) => host !== one),
    )
  }

  #pick<One>(all: readonly One[]): One {
    return all[Math.floor(this.#random() * all.length)] as One
  }
}

function hostOf({ host, name }: EtcdMember): Host {
  if (!host) throw new Error(`${name} is in no namespace`)
  return host
}
