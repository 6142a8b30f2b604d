import type { Host } from './host'

/* What stands in a host's firewall of our leases and locks, whichever backend has put it there. */

/** A lease or a lock, as the kernel's rules or elements say it. */
export interface Standing {
  kind: 'lease' | 'lock'
  /** Its own and its key's; both empty for a door that packets meet open and that no lease names. */
  id: string
  key: string
  /** An address, or a block. */
  address: string
  /** `tcp/22`; nothing of a lock. */
  door: string
  once: boolean
  /** Unix seconds, or null: until closed. */
  until: number | null
}

/** What is said where there is no such chain or table; beside tables of nft, iptables calls a missing chain incompatible. */
const NONE = /No chain\/target\/match|does not exist|is incompatible|No such file or directory/

/** The output of a command that lists something; nothing where there is no such thing. */
async function listing(host: Host, argv: string[]): Promise<string> {
  const { code, stdout, stderr } = await host.run(argv)
  if (code !== 0 && !NONE.test(stderr)) throw new Error(`${argv.join(' ')}: exit ${code}\n${stderr}`)
  return code === 0 ? stdout : ''
}

/** All leases and locks that stand in a host's firewall, of all keys and of both families. */
export async function standing(host: Host): Promise<Standing[]> {
  const [v4, v6, guard4, guard6, table] = await Promise.all([
    listing(host, ['iptables', '-w', '-S', 'KNOCKTURN-LEASES']),
    listing(host, ['ip6tables', '-w', '-S', 'KNOCKTURN-LEASES']),
    listing(host, ['iptables', '-w', '-t', 'mangle', '-S', 'KNOCKTURN-LEASES']),
    listing(host, ['ip6tables', '-w', '-t', 'mangle', '-S', 'KNOCKTURN-LEASES']),
    listing(host, ['nft', '-j', 'list', 'table', 'inet', 'knockturn']),
  ])
  return [...[v4, v6, guard4, guard6].flatMap(rules), ...(table ? elements(table) : [])]
}

function rules(chain: string): Standing[] {
  return chain.split('\n').flatMap((line) => {
    const [, kind = 'lease', id = '', key = ''] = /knockturn:(lease|lock):([^:]+):([^:]+):/.exec(line) ?? []
    if (!line.includes(' -s ') || (kind !== 'lease' && kind !== 'lock')) return []
    const after = (option: string) => new RegExp(` ${option} (\\S+)`).exec(line)?.[1] ?? ''
    const [first = '', bits = ''] = after('-s').split('/')
    const stop = after('--datestop')
    return {
      ...{ kind, id, key },
      address: addressOf(first, bits),
      door: kind === 'lease' ? `${after('-p')}/${after('--dport')}` : '',
      once: line.includes('--hashlimit-name'),
      // The last second that still matches.
      until: stop === '' ? null : 1 + Date.parse(`${stop}Z`) / 1_000,
    }
  })
}

/** A set or map as nft lists it; what an element of a map leads to stands behind it. */
interface Listed {
  readonly name: string
  readonly elem?: (Element | [Element, string])[]
}
interface Element {
  readonly elem: { readonly val: { readonly concat: readonly unknown[] }; readonly comment?: string }
}

function elements(json: string): Standing[] {
  const { nftables } = JSON.parse(json) as { nftables: { set?: Listed; map?: Listed }[] }
  const of = (begin: RegExp) =>
    nftables.flatMap(({ set, map }) => {
      const { name, elem = [] } = set ?? map ?? { name: '' }
      const found = begin.exec(name)
      return found ? elem.flat().flatMap((one) => (typeof one === 'string' ? [] : { found, ...one.elem })) : []
    })
  const listed = of(/^(lease|lock)s[46]$/).map(({ found: [, kind], val, comment = '' }): Standing => {
    const [, first, protocol, port] = val.concat
    const [id = '', key = '', , end, bits = '', once] = comment.split(':')
    return {
      ...{ kind: kind === 'lease' ? 'lease' : 'lock', id, key },
      address: addressOf(String(first), bits),
      door: kind === 'lease' ? `${protocol}/${port}` : '',
      once: once === 'once',
      until: end ? Number(end) : null,
    }
  })
  // What packets meet counts, whatever the lists say.
  const named = new Set(listed.map(({ address, door }) => `${address} ${door}`))
  const met = of(/^(open|once)[46]_(\d+)/).map(({ found: [, set, bits = ''], val }): Standing => {
    const [first, protocol, port] = val.concat
    const whose = { kind: 'lease', id: '', key: '' } as const
    return { ...whose, address: addressOf(String(first), bits), door: `${protocol}/${port}`, once: set === 'once', until: null }
  })
  return [...listed, ...met.filter(({ address, door }) => !named.has(`${address} ${door}`))]
}

/** A block of one address is that address; so is one of which no bits are said. */
const addressOf = (first: string, bits: string): string =>
  ['', first.includes(':') ? '128' : '32'].includes(bits) ? first : `${first}/${bits}`
