import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Config } from '../../daemon/config'
import type { Saw } from './place/agent'
import { type Ends, join as plug } from './place/cable'
import { Hindrance } from './place/hindrance'
import type { Place } from './place/place'

/*
 * One knock from its beginning to its end in private places: a server with a daemon, a guard and a service, and a client, who is a stranger, too, by
 * another address. The files are in memory, in mounts that are the server's own.
 */

/** What the daemon is to be like: this machine's own. */
export type Like = Pick<Config, 'skew' | 'taps' | 'firewall'>

/** What is done, in this order. */
export type Step =
  | 'place'
  | 'key'
  | 'firewall'
  | 'daemon'
  | 'closed'
  | 'knock'
  | 'tap'
  | 'ledger'
  | 'rule'
  | 'open'
  | 'expiry'
  | 'closed again'

/** Does a step, and notes which it is. */
type Steps = <T>(name: Step, act: () => Promise<T>) => Promise<T>

/** The service whose door is opened. */
const PORT = 22
/** Seconds of the lease: enough to look at the open door on a busy machine. */
const LEASE = 4
/** Milliseconds for the daemon to hear, to say what became of a knock, and to end the lease beyond its time. */
const PATIENCE = 12_000
/** Milliseconds for a door to answer that is open, and after which one is shut. */
const ANSWER = 2_000
const SILENCE = 500
/** Where the files are, over whatever is there outside: the first of these that has nothing of ours. */
const FOLDERS = ['/mnt', '/srv', '/media', '/opt']
/** A label that no server has (RFC 2606). */
const LABEL = 'self-knock.invalid'
const KEY = 'self-knock'

/** One run. */
export class SelfKnock {
  readonly #server: Place
  readonly #client: Place
  readonly #like: Like
  readonly #step: Steps
  readonly #programs: string
  readonly #folder: string
  /** The user's own program would open a real door: in its place nothing is opened. */
  readonly #backend: 'iptables' | 'nftables' | 'dry-run'

  /**
   * @param programs the folder of our programs
   * @param step does each step
   */
  constructor(server: Place, client: Place, like: Like, programs: string, step: Steps) {
    this.#server = server
    this.#client = client
    this.#like = like
    this.#programs = programs
    this.#step = step
    const own = [programs, process.execPath]
    const isFree = (folder: string) => existsSync(folder) && !own.some((path) => path.startsWith(`${folder}/`))
    this.#folder = FOLDERS.find(isFree) ?? '/run'
    const { backend } = like.firewall
    this.#backend = backend === 'command' ? 'dry-run' : backend
  }

  /**
   * Does all steps.
   * @returns what else to say: what could not be tried; empty where that is nothing
   * @throws {Fault} of the step that fails
   */
  async play(): Promise<string> {
    const step = this.#step
    const { host, strangers } = await step('place', () => this.#furnish())
    const [ours, others] = strangers
    const sees = async (from: string, limit: number): Promise<Saw> => {
      const [saw] = await this.#client.ask('touch', [[{ protocol: 'tcp', address: host, port: PORT, from }], limit], limit)
      return saw
    }
    await step('key', () => this.#makeKey(host))
    await step('firewall', () => this.#knockturn('firewall', 'install', '--config', this.#path('knockturn.toml')))
    const isReal = this.#backend !== 'dry-run'
    await step('daemon', () => this.#startDaemon())
    if (isReal) await step('closed', async () => expect(await sees(ours, SILENCE), 'silence'))
    const before = await this.#ledgerSize()
    await step('knock', () => this.#knock())
    await step('tap', () => this.#server.line('"msg":"accepted"', PATIENCE))
    await step('ledger', async () => {
      if ((await this.#ledgerSize()) <= before) throw new Hindrance('nothing has been written to it')
    })
    if (!isReal) return `; not tried: the firewall, since backend = "${this.#like.firewall.backend}"`
    await step('rule', () => this.#findLease(ours))
    await step('open', async () => {
      expect(await sees(ours, ANSWER), 'open')
      expect(await sees(others, SILENCE), 'silence')
    })
    await step('expiry', () => this.#server.line('"msg":"expired"', LEASE * 1_000 + PATIENCE))
    await step('closed again', async () => expect(await sees(ours, SILENCE), 'silence'))
    return ''
  }

  #path(name: string): string {
    return join(this.#folder, name)
  }

  /** A program of ours, by the Node that runs this. */
  #program(name: string, ...args: string[]): string[] {
    return [process.execPath, join(this.#programs, 'bin', name), ...args]
  }

  /** What programs find: a home in memory, and a service manager nowhere. */
  get #env(): NodeJS.ProcessEnv {
    return { HOME: this.#folder, XDG_STATE_HOME: this.#path('state') }
  }

  /** Makes folders, config, cable and service. */
  async #furnish(): Promise<Ends> {
    const [server, folder] = [this.#server, this.#folder]
    for (const place of [server, this.#client])
      await place.run(['mount', '-t', 'tmpfs', '-o', 'size=16m,mode=0700', 'knockturn', folder])
    await server.run(['mkdir', '-m', '700', this.#path('keys')])
    const cable = await plug(server, this.#client)
    await write(server, this.#path('knockturn.toml'), this.#configText())
    await server.ask('serve', [PORT])
    if (this.#backend === 'iptables' && !this.#isGuarded) await this.#shutByPolicy()
    return cable.ends[0]
  }

  /** Leases by nftables open nothing that no guard shuts. */
  get #isGuarded(): boolean {
    return this.#backend === 'nftables' || (this.#backend === 'iptables' && this.#like.firewall.guard.ports.length > 0)
  }

  #configText(): string {
    const { taps, skew } = this.#like
    return [
      `server = ${JSON.stringify(LABEL)}`,
      'keys = "keys"',
      `skew = ${skew}`,
      '[taps]',
      // What else reports packets may be outside of this place.
      'source = "nflog"',
      `group = ${taps.group}`,
      `prefix = ${JSON.stringify(taps.prefix)}`,
      '[firewall]',
      `backend = "${this.#backend}"`,
      ...(this.#isGuarded ? [`guard = ["${PORT}/tcp"]`] : []),
      '[ledger]',
      'path = "ledger"',
      '',
    ].join('\n')
  }

  /** What an administrator has who has no guard: what no rule accepts is dropped. */
  async #shutByPolicy(): Promise<void> {
    for (const iptables of ['iptables', 'ip6tables'])
      for (const rule of [
        '-A INPUT -i lo -j ACCEPT',
        '-A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT',
        '-P INPUT DROP',
      ])
        await this.#server.run([iptables, ...rule.split(' ')])
  }

  async #makeKey(host: string): Promise<void> {
    const options = ['--server', LABEL, '--host', host, '--services', `${PORT}/tcp`, '--max', '1m', '--keys', this.#path('keys')]
    await this.#knockturn('key', 'new', KEY, ...options)
    const copy = this.#path('client.key')
    await this.#knockturn('key', 'export', KEY, '--out', copy, '--keys', this.#path('keys'))
    await write(this.#client, copy, await this.#server.run(['cat', copy]))
  }

  #knockturn(...args: string[]): Promise<string> {
    return this.#server.run(this.#program('knockturn', ...args), '', this.#env)
  }

  async #startDaemon(): Promise<void> {
    const options = ['--config', this.#path('knockturn.toml'), '--new-ledger', '--allow-root']
    await this.#server.start(this.#program('knockdaemon', ...options), this.#env)
    await this.#server.line('"msg":"ready"', PATIENCE)
  }

  async #knock(): Promise<void> {
    const options = ['-k', this.#path('client.key'), '-p', `${PORT}`, '-t', `${LEASE}s`, '-4', '--passes', '1']
    await this.#client.run(this.#program('knockclient', ...options), '', this.#env)
  }

  async #ledgerSize(): Promise<number> {
    return Number(await this.#server.run(['stat', '-c', '%s', this.#path('ledger')]))
  }

  /** Looks for the lease where the kernel has it. */
  async #findLease(address: string): Promise<void> {
    const words = this.#backend === 'nftables' ? ['nft', 'list', 'table', 'inet', 'knockturn'] : ['iptables-save']
    const rules = await this.#server.run(words)
    if (!rules.includes(address)) throw new Hindrance(`"${words.join(' ')}" does not show ${address}`)
  }
}

/** Writes a file that nobody else may read; its text is in no arguments. */
async function write(place: Place, path: string, text: string): Promise<void> {
  await place.run(['sh', '-c', 'umask 077; cat > "$0"', path], text)
}

function expect(saw: Saw, wanted: Saw): void {
  if (saw !== wanted) throw new Hindrance(`expected ${wanted}, saw ${saw}`)
}
