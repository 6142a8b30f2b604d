// Attacks on the rules themselves: packets of odd forms, ways around them, and what other programs do to them.

import { knocked } from '../lab/knocks'
import { until } from '../lab/waiters'
import type { Attack } from './attack'
import { onOurs } from './on-ours'
import { type Segment, segment } from './packets'
import { SSH } from './stage'

/** What is knocked for while it is tried what a lease opens. */
const LONG = ['-p', String(SSH), '-t', '2m']

// ---- packets of odd forms

const [SYN, PSH, URG, ECE_CWR] = [0x02, 0x08, 0x20, 0xc0]
/** Bytes of a SYN in the first of two fragments: the ports; its flags are in the second. */
const PORTS_ONLY = 8
/** Linux drops smaller fragments of IPv6 than the least MTU, and one that ends within the TCP header. */
const [LEAST_6, MORE_THAN_LEAST] = [1_240, 'x'.repeat(1_300)]

type Made = (to: Segment) => Buffer[]
/** A SYN in each form in which Linux answers it. */
const FORMS: Record<string, Made> = {
  plain: (to) => segment(to),
  'with ECN': (to) => segment({ ...to, flags: SYN | ECE_CWR }),
  'with PSH': (to) => segment({ ...to, flags: SYN | PSH }),
  'with URG': (to) => segment({ ...to, flags: SYN | URG }),
  'with data': (to) => segment({ ...to, data: 'hello' }),
}
/** And those that are of one version of IP. */
const FORMS_OF: Record<4 | 6, Record<string, Made>> = {
  4: {
    ...FORMS,
    'in two fragments': (to) => segment(to, PORTS_ONLY),
    'in two fragments, the last first': (to) => segment(to, PORTS_ONLY).reverse(),
  },
  6: {
    ...FORMS,
    'in two fragments': (to) => segment({ ...to, data: MORE_THAN_LEAST }, LEAST_6),
    'in two fragments, the last first': (to) => segment({ ...to, data: MORE_THAN_LEAST }, LEAST_6).reverse(),
    'behind an extension header': (to) => segment({ ...to, extensions: 1 }),
    'behind nine extension headers': (to) => segment({ ...to, extensions: 9 }),
    'behind an extension header, in two fragments': (to) => segment({ ...to, extensions: 1, data: MORE_THAN_LEAST }, LEAST_6),
  },
}

const oddForms: Attack = {
  kind: 'bypass',
  name: 'SYNs of odd forms at a shut port',
  what: 'A stranger sends SYNs with ECN, PSH, URG or data, in fragments and behind IPv6 extension headers to a port that is shut.',
  run: onOurs(async (stage, door) => {
    const { user, attacker, server, lab } = stage
    const honest = { tried: 0, opened: 0 }
    const broken: string[] = []
    let [tried, opened] = [0, 0]
    let from = 20_000
    for (const version of [4, 6] as const) {
      const forms = FORMS_OF[version]
      const [to, stranger, friend] =
        version === 4 ? [server.ipv4, attacker.ipv4, user.ipv4] : [server.ipv6, attacker.ipv6, user.ipv6]
      const wire = await lab.wire.capture('server', 128, `src host ${to} and tcp`)
      /** The forms of which the server has answered a SYN from here: by a SYN of its own. */
      const answered = async (ports: Map<number, string>) => {
        const lines = (await lab.wire.must(['tcpdump', '-nn', '-r', wire.file])).split('\n')
        return lines.flatMap((line) => ports.get(Number(/\.(\d+): Flags \[S[A-Z]*\./.exec(line)?.[1])) ?? [])
      }
      /** Sends a SYN of each form. @returns the forms, by the port that they come from */
      const send = async (source: string) => {
        const ports = new Map(Object.keys(forms).map((form) => [from++, form]))
        const packets = [...ports].flatMap(
          ([port, form]) => forms[form]?.({ source, destination: to, from: port, port: SSH }) ?? [],
        )
        await attacker.must(['tcpreplay', '-q', '-i', 'eth0', stage.packIp(packets)])
        return ports
      }
      const shut = await send(stranger)
      await knocked(user, door.daemon, door.gate.key, '-r', to, ...LONG)
      const leased = await send(friend)
      honest.tried += leased.size
      const all = async () => new Set(await answered(leased)).size === leased.size
      await until(all, 'a SYN of each form is answered').catch(() => {})
      const heard = new Set(await answered(leased))
      honest.opened += heard.size
      for (const form of leased.values())
        if (!heard.has(form)) broken.push(`IPv${version}: with a lease, no answer to a SYN ${form}`)
      tried += shut.size
      const got = new Set(await answered(shut))
      opened += got.size
      for (const form of got) broken.push(`IPv${version}: a SYN ${form} was answered`)
      await wire.end()
    }
    return { tried, opened, honest, broken }
  }),
}

export const bypass: Attack[] = [oddForms]
