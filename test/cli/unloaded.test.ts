import { expect, it } from 'vitest'
import { keyText, put, scratch } from '../system/scratch'
import { type Outcome, run } from './programs'

/* What a daemon loads of Node that only a fleet needs: a single server has its start and its memory as they were. */

const TELL = `
  process.on('exit', () => {
    const web = process.moduleLoadList.filter((name) => /^NativeModule (http|https|tls)$/.test(name))
    require('fs').writeSync(2, 'loaded: ' + web.sort().join() + '\\n')
  })`

/** Runs a daemon to its end, with a config that says this of its ledger. */
async function daemon(ledger: string): Promise<Outcome> {
  const folder = scratch()
  const tell = put(folder, 'tell.cjs', TELL)
  put(folder, 'alice.key', keyText())
  const config = put(
    folder,
    'knockturn.toml',
    `server = "gate.example"\nkeys = "."\n[taps]\nsource = "stdin"\n[firewall]\nbackend = "dry-run"\n[ledger]\npath = "ledger"\n${ledger}`,
  )
  return run('knockdaemon', ['--config', config, '--new-ledger'], { env: { NODE_OPTIONS: `--require ${tell}` } })
}

it('a daemon without a fleet loads nothing of Node’s that speaks to an etcd', async () => {
  const { code, stderr } = await daemon('')
  expect([code, stderr]).toEqual([0, expect.stringContaining('"msg":"ended"')])
  expect(stderr).toMatch(/^loaded: $/m)
})

it('a daemon that is to be one of a fleet, and has not joined it, loads it and does not start', async () => {
  const { code, stderr } = await daemon('etcd = ["https://127.0.0.1:1"]\ngateway = "gw1"\n')
  expect(stderr).toMatch(/^loaded: NativeModule http,.*https/m)
  expect([code, stderr]).toEqual([
    1,
    expect.stringMatching(/fleet\.json: is missing: this gateway has not joined its fleet\nhint: run "knockturn fleet join"/),
  ])
})
