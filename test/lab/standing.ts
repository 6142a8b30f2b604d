import type { Host } from './host'

/* What stands in a host's firewall of our leases and locks, whichever backend has put it there. */

/** A lease or a lock, as the kernel's rules or elements say it. */
export interface Standing {
  kind: 'lease' | 'lock'
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

/** All leases and locks that stand in a host's firewall. */
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
    const [, kind, id = '', key = ''] = /knockturn:(lease|lock):([^:]+):([^:]+):/.exec(line) ?? []
    if (kind !== 'lease' && kind !== 'lock') return []
    const after = (option: string) => new RegExp(` ${option} (\\S+)`).exec(line)?.[1] ?? ''
    const [address = '', bits = ''] = after('-s').split('/')
    const stop = after('--datestop')
    return {
      ...{ kind, id, key },
      address: bits === (address.includes(':') ? '128' : '32') ? address : `${address}/${bits}`,
      door: kind === 'lease' ? `${after('-p')}/${after('--dport')}` : '',
      once: line.includes('--hashlimit-name'),
      // The last second that still matches.
      until: stop === '' ? null : 1 + Date.parse(`${stop}Z`) / 1_000,
    }
  })
}

function elements(json: string): Standing[] {
  type Element = { elem: { val: { concat: [number, string, string?, number?] }; comment: string } }
  const { nftables } = JSON.parse(json) as { nftables: { set?: { name: string; elem?: Element[] } }[] }
  return nftables.flatMap(({ set }) => {
    const kind = /^(lease|lock)s[46]$/.exec(set?.name ?? '')?.[1]
    if (kind !== 'lease' && kind !== 'lock') return []
    return (set?.elem ?? []).map(({ elem: { val, comment } }) => {
      const [, first, protocol, port] = val.concat
      const [id = '', key = '', , end, bits, once] = comment.split(':')
      return {
        ...{ kind, id, key },
        address: bits === (first.includes(':') ? '128' : '32') ? first : `${first}/${bits}`,
        door: kind === 'lease' ? `${protocol}/${port}` : '',
        once: once === 'once',
        until: end === '' ? null : Number(end),
      }
    })
  })
}
