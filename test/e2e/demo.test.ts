import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { expect, it } from 'vitest'
import { ROOT } from '../root'

const DEMO = [join(ROOT, 'test/run.mjs'), join(ROOT, 'test/e2e/demo.ts')]
/** Milliseconds: several times what it takes, since a machine may be busy. */
const PATIENCE = 180_000

it.each([
  ['iptables', 'lease in: iptables -S KNOCKTURN-LEASES', []],
  ['nftables', 'lease in: nft list table inet knockturn', []],
  ['iptables', 'gw2 logs for the packets from', ['--fleet']],
])(
  'the demo goes as expected with %s (%s)',
  async (backend, seen, options) => {
    const child = spawn(process.execPath, [...DEMO, '--backend', backend, ...options], { stdio: ['ignore', 'pipe', 'inherit'] })
    const [stdout, [code]] = await Promise.all([text(child.stdout), once(child, 'exit')])
    expect(stdout).toContain(seen)
    expect(stdout).toMatch(/\nEverything as expected, in \S+ s\.\n$/)
    expect(code).toBe(0)
  },
  PATIENCE,
)
