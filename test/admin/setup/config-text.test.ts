import fc from 'fast-check'
import { parse } from 'smol-toml'
import { describe, expect, it } from 'vitest'
import { editedConfig, guardOf, newConfig } from '../../../src/admin/setup/config-text'
import type { Answers } from '../../../src/admin/setup/proposal'
import { parseConfig } from '../../../src/daemon/config'

const ANSWERS: Answers = {
  host: 'gate.example',
  key: 'alice',
  services: [{ port: 22, protocol: 'tcp' }],
  pool: '49152-65535',
  guard: 'all',
  public: ['80/tcp'],
  backend: 'nftables',
}
const edit = (was: string, wanted: Partial<Answers> = {}, backend?: string) =>
  editedConfig('/etc/knockturn/knockturn.toml', was, { ...ANSWERS, ...wanted, backend })

describe('a new config', () => {
  it.each([{}, { public: [] }, { guard: ['22/tcp', '60000-61000/udp'] as const }])(
    'is one that the daemon reads: %j',
    async (more) => {
      const text = newConfig({ ...ANSWERS, ...more })
      const { value, faults } = await parseConfig('/etc/knockturn/knockturn.toml', text)
      expect(faults).toBeUndefined()
      expect([value?.server, value?.firewall.backend]).toEqual(['gate.example', 'nftables'])
      expect(guardOf(text)).toEqual({ guard: 'all', public: 'guard' in more ? [] : ANSWERS.public, ...more })
    },
  )
})

describe('a config that is there', () => {
  const OWN = `# Ours.
server = "other" # a name
never_lock = ["203.0.113.9/32"]

[taps] # as ever
group = 7

  [firewall]
# why
backend = "iptables" # "old" # machine
guard = [ # two
  "22/tcp", # ssh
  "23/tcp",
]
leases_per_key = 9

[ledger]
path = "/var/lib/knockturn/ledger"
`

  it('stays as it stands where it says what is wanted', () => {
    expect(edit(OWN, { guard: ['22/tcp', '23/tcp'] })).toBe(OWN)
    expect(edit(OWN, { guard: ['22/tcp', '23/tcp'] }, 'iptables')).toBe(OWN)
  })

  it('keeps every comment and every entry that is nobody’s business', () => {
    const text = edit(OWN, {}, 'nftables')
    expect(text).toBe(
      OWN.replace('backend = "iptables" # "old" # machine', 'backend = "nftables" # "old" # machine')
        .replace(/guard = \[[^\]]*\]/, (old) => `${old.replace(/^/gm, '# ')}\nguard = "all"`)
        .replace('  [firewall]\n', '  [firewall]\npublic = ["80/tcp"]\n'),
    )
  })

  it('gets a table where it has none', () => {
    expect(edit('server = "other"\n# last', {}, 'nftables')).toBe(
      'server = "other"\n# last\n\n[firewall]\nbackend = "nftables"\nguard = "all"\npublic = ["80/tcp"]\n',
    )
  })

  it('loses its list of what is public where only a list is guarded', () => {
    const was = 'server = "a"\n[firewall]\nguard = "all"\npublic = ["80/tcp"] # web\nbackend = "nftables"\n'
    expect(edit(was, { guard: ['22/tcp'] })).toBe('server = "a"\n[firewall]\nguard = ["22/tcp"]\n# web\nbackend = "nftables"\n')
  })

  it.each([
    'server = "a"\nfirewall.guard = ["22/tcp"]\n',
    'server = "a"\nfirewall = { guard = ["22/tcp"] }\n',
    'server = "a"\n["firewall"]\nguard = ["22/tcp"]\n',
    'server = "a"\n[firewall]\n"guard" = ["22/tcp"]\n',
    'server = """\n[firewall]\n"""\n[ firewall ]\n"guard" = []\n',
  ])('is refused, and not damaged, in a form that lines do not show: %j', (was) => {
    expect(() => edit(was)).toThrow('its [firewall] is in a form that is not edited')
  })

  it('says after any edit what was wanted, and of the rest what it said before, or is refused', () => {
    const line = fc.constantFrom(
      ...[
        '# a [firewall] comment',
        '',
        'guard = "all"',
        'guard = ["1/tcp"] # x',
        'public = [',
        '  "80/tcp", # "#"',
        ']',
        'backend = "nftables"',
      ],
      ...['[firewall]', '[taps]', 'group = 1', 'server = "a"', 'server = """', '"""', 'leases_per_key = 3'],
    )
    fc.assert(
      fc.property(fc.array(line, { maxLength: 14 }), (lines) => {
        const was = `${lines.join('\n')}\n`
        let before: Record<string, unknown>
        try {
          before = parse(was)
        } catch {
          return
        }
        let text: string
        try {
          text = edit(was)
        } catch {
          return
        }
        const { firewall, ...rest } = parse(text)
        const { firewall: old = {}, ...others } = before
        expect(rest).toEqual(others)
        expect(firewall).toEqual({ ...(old as object), guard: 'all', public: ['80/tcp'] })
        // No comment is lost.
        for (const [comment] of was.matchAll(/#.*/g)) expect(text).toContain(comment)
      }),
      { numRuns: 2_000 },
    )
  })
})
