import { join } from 'node:path'
import { ROOT } from '../root'
import { Agent } from './agent'
import type { Lab } from './lab'
import { Child, must, type RunOptions, run } from './processes'
import { type Standing, standing } from './standing'
import { readTaps, type Tap, type Touch } from './taps'
import { PATIENCE, until } from './waiters'

/** What makes a host's connections: it lives in the namespace, so that one attempt costs no start of a process. */
const CONNECTIONS = join(ROOT, 'test/lab/connections.mjs')

/** Programs that begin a volley together, and the milliseconds in which all of them have been told of it. */
export const VOLLEY_AGENTS = 2
const VOLLEY_DELAY = 20

/** What a host has seen of a port. */
export interface Answer {
  /** open, refused, silence, or another error's code. */
  saw: string
  ms: number
  greeting?: string
}

export type Tape = Awaited<ReturnType<Host['capture']>>

/** A host in a network namespace of its own, with an address of each family on the lab's wire. */
export class Host {
  readonly lab: Lab
  readonly name: string
  readonly namespace: string
  ipv4: string
  ipv6: string
  #agent: Agent | undefined
  #others: Agent[] | undefined
  #loss = 0

  /** @param number the last of its addresses */
  constructor(lab: Lab, name: string, number: number) {
    this.lab = lab
    this.name = name
    this.namespace = `${lab.name}-${name}`
    this.ipv4 = `198.51.100.${number}`
    this.ipv6 = `2001:db8:7::${number}`
  }

  async makeNamespace() {
    await must(['ip', 'netns', 'add', this.namespace])
    this.lab.endings.push(() => must(['ip', 'netns', 'delete', this.namespace]))
  }

  /** Makes the host: its namespace, and a cable to the switch. There it is called as its host, in the host eth0. */
  async plugIn() {
    const { wire } = this.lab
    await this.makeNamespace()
    await wire.must(['ip', 'link', 'add', this.name, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', this.namespace])
    await wire.must(['ip', 'link', 'set', this.name, 'master', 'switch', 'up'])
    await this.must(['ip', 'link', 'set', 'lo', 'up'])
    await this.must(['ip', 'link', 'set', 'eth0', 'up'])
    await this.addAddress(`${this.ipv4}/24`)
    await this.addAddress(`${this.ipv6}/64`)
  }

  #here(argv: string[]) {
    return ['ip', 'netns', 'exec', this.namespace, ...argv]
  }

  // ---- processes

  /** Runs a command to its end. */
  run(argv: string[], options?: RunOptions) {
    return run(this.#here(argv), options)
  }

  /** Runs a command that has to succeed, and gives its standard output. */
  must(argv: string[], options?: RunOptions) {
    return must(this.#here(argv), options)
  }

  /** Starts a command that goes on; it is ended with the lab at the latest. */
  start(argv: string[], { env = {} } = {}) {
    const child = new Child(this.#here(argv), env)
    this.lab.endings.push(() => child.end())
    return child
  }

  /** The ids of the processes in this host, but for the agents': what is still running. */
  async processes() {
    const pids = (await must(['ip', 'netns', 'pids', this.namespace])).split('\n').filter(Boolean).map(Number)
    return pids.filter((pid) => ![this.#agent, ...(this.#others ?? [])].some((agent) => agent?.pid === pid))
  }

  // ---- network

  /** Gives the host another address. @param address with its prefix length */
  addAddress(address: string) {
    const family = address.includes(':') ? ['-6'] : ['-4']
    const now = address.includes(':') ? ['nodad'] : [] // usable at once, no duplicate address detection
    return this.must(['ip', ...family, 'address', 'add', address, 'dev', 'eth0', ...now])
  }

  /** Moves the host to addresses that nobody has had: what is remembered of its old ones is none of its business. */
  async moveOn() {
    const number = 100 + this.lab.moves++
    this.ipv4 = `198.51.100.${number}`
    this.ipv6 = `2001:db8:7::${number}`
    await this.must(['ip', 'address', 'flush', 'dev', 'eth0', 'scope', 'global'])
    await this.addAddress(`${this.ipv4}/24`)
    await this.addAddress(`${this.ipv6}/64`)
  }

  /**
   * Loses this part of all packets that arrive from now on, before any other rule or tap sees them.
   * @param probability 0 to 1; 0 ends the loss
   */
  async lose(probability: number) {
    const rule = (p: number) => [
      'PREROUTING',
      '-i',
      'eth0',
      '-m',
      'statistic',
      '--mode',
      'random',
      '--probability',
      String(p),
      '-j',
      'DROP',
    ]
    for (const iptables of ['iptables', 'ip6tables']) {
      if (this.#loss > 0) await this.must([iptables, '-t', 'raw', '-D', ...rule(this.#loss)])
      if (probability > 0) await this.must([iptables, '-t', 'raw', '-A', ...rule(probability)])
    }
    this.#loss = probability
  }

  /**
   * Records the SYNs and datagrams that pass an interface, from now on.
   * @param length bytes of each
   * @param what else, as tcpdump says it
   */
  async capture(device = 'eth0', length = 128, what = 'tcp or udp') {
    const file = join(this.lab.folder(), 'wire.pcap')
    // -Z root: as root, tcpdump would else become a user who may not write there.
    const argv = ['tcpdump', '-Z', 'root', '--immediate-mode', '-i', device, '-s', String(length), '-U', '-w', file, what]
    const tcpdump = this.start(argv)
    await tcpdump.line((line) => line.includes('listening on'))
    return {
      file,
      /** What was recorded so far, in order. */
      taps: async (): Promise<Tap[]> => readTaps(await must(['tcpdump', '-nn', '-tt', '-r', file])),
      end: () => tcpdump.end(),
    }
  }

  // ---- the agent's work

  /** Starts a program of ours that answers, in this host; it is ended with the lab. @param file its path */
  agent(file: string): Agent {
    const agent = new Agent(this.name, this.#here([process.execPath, file]))
    this.lab.endings.push(() => agent.end())
    return agent
  }

  async startAgent(): Promise<void> {
    this.#agent = this.agent(CONNECTIONS)
    await this.#ask('ready')
  }

  #ask<Result>(work: string, ...args: unknown[]): Promise<Result> {
    if (!this.#agent) throw new Error(`${this.name}: nobody connects in there yet`)
    return this.#agent.ask(work, ...args)
  }

  /** Tries a TCP connection; an open one reads the greeting and is closed. @param from one of this host's addresses */
  connect(address: string, port: number, timeoutMs = 500, from?: string, localPort?: number): Promise<Answer> {
    return this.#ask('connect', address, port, timeoutMs, from, localPort)
  }

  /**
   * Tries TCP connections, all of them at the same moment: they begin on every processor.
   * @param connections a multiple of {@link VOLLEY_AGENTS}
   * @returns what each of them saw
   */
  async volley(address: string, port: number, connections: number, timeoutMs: number): Promise<string[]> {
    this.#others ??= Array.from({ length: VOLLEY_AGENTS }, () => this.agent(CONNECTIONS))
    // They have answered once: none is still starting when the others begin.
    await Promise.all(this.#others.map((agent) => agent.ask('ready')))
    const at = Date.now() + VOLLEY_DELAY
    const each = connections / this.#others.length
    const answers = this.#others.map((agent) => agent.ask<string[]>('volley', address, port, each, at, timeoutMs))
    return (await Promise.all(answers)).flat()
  }

  /** Sends a datagram to a UDP service and waits for its echo. */
  echo(address: string, port: number, timeoutMs = 500, from?: string): Promise<Answer> {
    return this.#ask('echo', address, port, timeoutMs, from)
  }

  /** Opens a TCP connection and keeps it. */
  async hold(address: string, port: number, timeoutMs = PATIENCE, localPort?: number) {
    const id = await this.#ask<number>('hold', address, port, timeoutMs, localPort)
    return {
      /** Whether the service still hears us: says something and waits for its echo. */
      isAlive: (ms = PATIENCE): Promise<boolean> => this.#ask('isAlive', id, ms),
      end: (): Promise<void> => this.#ask('release', id),
      /** Ends it by a RST, so that its port is free at once. */
      reset: (): Promise<void> => this.#ask('reset', id),
    }
  }

  /** Waits until a TCP door is open to this host, or silent. */
  becomes(address: string, port: number, state: 'open' | 'silence', timeoutMs = PATIENCE) {
    const isSo = async () => (await this.connect(address, port, 200)).saw === state
    return until(isSo, `${address} port ${port} to ${this.name}: ${state}`, timeoutMs)
  }

  /** A client's leases and locks in this host's firewall, in both families. */
  async leases(client: Host): Promise<Standing[]> {
    return (await standing(this)).filter(({ address }) => address === client.ipv4 || address === client.ipv6)
  }

  /** Serves a port, TCP (a greeting, then an echo) and UDP (an echo), in both families, until the lab's end. */
  service(port: number): Promise<void> {
    return this.#ask('service', port)
  }

  /** Touches ports in the order given, as they were recorded or made up: TCP, then UDP. */
  replay(touches: Touch[], destination: string, from?: string): Promise<void> {
    return this.#ask('replay', touches, destination, from)
  }
}
