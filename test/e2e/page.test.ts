import { appendFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { Browser } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { Contents } from '../../src/browser/contents'
import { loadKeyFile } from '../../src/keys/keyring'
import { windowAt } from '../../src/protocol/key'
import { passcodePorts } from '../../src/protocol/passcode'
import { passcode } from '../../src/protocol/totp'
import { logged } from '../lab/gate'
import { knock as knockByProgram, verdict } from '../lab/knocks'
import type { Tap } from '../lab/taps'
import { until } from '../lab/waiters'
import { browse, knockBy as knock, outcomeOf as outcome, PASSPHRASE, press, visit as visitIn, writePage } from './page'
import { useGate } from './use-gate'

const ROOT = join(import.meta.dirname, '..', '..')
const SSH = 22
const WEB = 8080
const DOORS = Array.from({ length: 30 }, (_, i) => 2301 + i)
const PIN = '0417'
const WEB_SERVICE = `require('node:http').createServer((_, answer) => answer.end('hello')).listen(${WEB}, '::', () => console.log('serves'))`

const { server, client, stranger, gate, lab } = useGate(['client', 'stranger'], {
  serve: [SSH, ...DOORS],
  keyOptions: ['--services', [SSH, WEB, ...DOORS].map((port) => `${port}/tcp`).join(','), '--max', '1h'],
})
let browser: Browser
let folder: string

beforeAll(async () => {
  await server.start([process.execPath, '-e', WEB_SERVICE]).line((line) => line === 'serves')
  folder = lab.folder()
  browser = await browse(client, folder)
})
afterAll(() => browser?.close())

/** Each test has a client that was not there before. */
beforeEach(() => client.moveOn())
/** What goes on knocking would be heard from the next client. */
afterEach(() => Promise.all(browser.contexts().map((context) => context.close())))

let written = 0

const write = (more: Partial<Contents> = {}) =>
  writePage(gate, server, join(folder, `${++written}.html`), [SSH, WEB, ...DOORS], more)
const visit = (path: string, how: Parameters<typeof visitIn>[2] = {}) => visitIn(browser, path, how)

describe('the page that knockturn writes', () => {
  it('opens the door to who has the passphrase, and says that it is open', async () => {
    const path = join(folder, 'knock.html')
    const argv = [join(ROOT, 'bin', 'knockturn'), 'page', 'traveller', '--keys', gate.keys, '--host', server.ipv4, '--out', path]
    await server.must(argv, { input: `${PASSPHRASE}\n` })
    const { page, complaints } = await visit(path)
    expect((await client.connect(server.ipv4, WEB, 200)).saw).toBe('silence')
    const said = await verdict(gate.daemon, () => knock(page, WEB), 60_000)
    expect(said).toMatchObject({ msg: 'accepted', address: client.ipv4, service: `${WEB}/tcp` })
    expect(await outcome(page)).toBe('opened')
    expect((await client.connect(server.ipv4, WEB)).saw).toBe('open')
    expect(complaints).toEqual([])
  })
})

describe('a page with a key', () => {
  it('does not run inside another page', async () => {
    const inner = await write()
    const outer = join(folder, 'outer.html')
    writeFileSync(outer, `<!doctype html><iframe src="${pathToFileURL(inner).href}"></iframe>`)
    const { page } = await visit(outer)
    const frame = page.frameLocator('iframe')
    await frame.getByText('does not run inside another page').waitFor()
    expect(await frame.getByLabel('Passphrase').count()).toBe(0)
  })

  it('does not run where another page has opened it', async () => {
    const inner = await write()
    const outer = join(folder, 'opener.html')
    writeFileSync(outer, '<!doctype html><button>Open</button>')
    const { page } = await visit(outer)
    const opened = page.waitForEvent('popup')
    await page.evaluate(`void window.open(${JSON.stringify(pathToFileURL(inner).href)})`)
    const popup = await opened
    await popup.getByText('does not run inside another page, or when another page has opened it').waitFor()
    expect(await popup.getByLabel('Passphrase').count()).toBe(0)
  })

  it('opens a door that browsers may not look at, and says what it can not see', async () => {
    const { page } = await visit(await write())
    await knock(page, SSH)
    await client.becomes(server.ipv4, SSH, 'open')
    expect(await outcome(page)).toBe('sent')
    expect(await page.getByRole('status').textContent()).toContain('browsers refuse to connect to port 22')
    expect(await page.locator('#line').textContent()).toBe(`ssh ${server.ipv4}`)
  })

  it('says what to try as soon as the knock is whole, where it can not see the door', async () => {
    const { page } = await visit(await write())
    await knock(page, SSH)
    await page.locator('#status[data-outcome=try]').waitFor()
    expect(await page.getByRole('status').textContent()).toContain(`Try: ssh ${server.ipv4} `)
    expect(await page.locator('#line').isVisible()).toBe(true)
    expect(await page.locator('#go').textContent()).toBe('Knocking again …')
    expect(await outcome(page)).toBe('sent')
  })

  it('opens by IPv6, and by both at once', async () => {
    const { page } = await visit(await write({ addresses: [server.ipv4, server.ipv6] }))
    await knock(page, WEB)
    await client.becomes(server.ipv4, WEB, 'open')
    await client.becomes(server.ipv6, WEB, 'open')
  })

  it('says nothing on the wire that opens a door to who repeats it', async () => {
    const { page } = await visit(await write())
    const tape = await server.capture()
    await knock(page, WEB)
    expect(await outcome(page)).toBe('opened')
    await page.context().close()
    const heard = (await tape.taps()).filter(({ source, port }: Tap) => source === client.ipv4 && port >= 49_152)
    const since = gate.daemon.lines.length
    await stranger.replay(heard, server.ipv4)
    await gate.daemon.line(logged('refused', { refusal: 'replayed' }), since)
    expect((await stranger.connect(server.ipv4, WEB)).saw).toBe('silence')
  })

  it('says that the door was open already, where it was', async () => {
    const { page } = await visit(await write())
    await client.must(knockByProgram(gate, '-p', String(WEB), '--wait'))
    await knock(page, WEB)
    expect(await outcome(page)).toBe('before')
    expect(await page.getByRole('status').textContent()).toContain(`Port ${WEB} was already open: only the server’s log shows`)
  })

  it.each([
    ['by WebRTC', true],
    ['by HTTP requests', false],
  ])('looks at the door in front of the knock, %s', async (_, webRtc) => {
    const { page } = await visit(await write(), { webRtc })
    const tape = await server.capture('eth0', 128, 'tcp[tcpflags] == tcp-syn')
    await knock(page, WEB)
    // By HTTP a browser may be slow with its first request, and can't tell that from a door that was open.
    expect(webRtc ? ['opened'] : ['unclear', 'before']).toContain(await outcome(page))
    const [first] = (await tape.taps()).filter(({ source }: Tap) => source === client.ipv4)
    expect(first.port).toBe(WEB)
  })

  it('opens three doors in a row, whatever is left of the knocks before', async () => {
    const { page } = await visit(await write())
    const outcomes: (string | null)[] = []
    for (const door of DOORS.slice(0, 3)) {
      await knock(page, door)
      outcomes.push(await outcome(page))
    }
    expect(outcomes).toEqual(['opened', 'opened', 'opened'])
  })

  it('opens 30 doors of 30 where 10 % of all packets are lost', async () => {
    const { page } = await visit(await write())
    await server.lose(0.1)
    try {
      const shut: number[] = []
      for (const door of DOORS) {
        await knock(page, door)
        if ((await outcome(page)) !== 'opened') shut.push(door)
      }
      expect(shut).toEqual([])
    } finally {
      await server.lose(0)
    }
  }, 400_000)

  it('opens by HTTP requests where there is no WebRTC', async () => {
    const { page, complaints } = await visit(await write(), { webRtc: false })
    await knock(page, WEB)
    expect(await outcome(page)).toBe('unclear')
    expect(complaints).toEqual([])
  })

  it.each([
    ['https', true],
    ['http', true],
    ['http', false],
  ])('opens from a web host, by %s and with WebRTC: %s', async (scheme, webRtc) => {
    const { page } = await visit(await write(), { webRtc, at: `${scheme}://knock.example/` })
    await knock(page, WEB)
    // By HTTP a browser may be slow with its first request, and can't tell that from a door that was open.
    expect(webRtc ? ['opened'] : ['unclear', 'before']).toContain(await outcome(page))
  })

  it('says what to do where there is no WebRTC and https forbids the rest', async () => {
    const { page } = await visit(await write(), { webRtc: false, at: 'https://knock.example/' })
    await knock(page, WEB)
    expect(await outcome(page)).toBe('unsent')
    expect(await page.getByRole('status').textContent()).toContain('Save this page')
  })

  it('asks again for a passphrase that is not the right one', async () => {
    const { page } = await visit(await write())
    await page.getByLabel('Passphrase').fill('tr0ub4dor & 3')
    await press(page)
    await page.getByRole('alert').filter({ hasText: 'not the passphrase' }).waitFor()
    // What is nearly right is not left there for the next one who comes by.
    expect(await page.getByLabel('Passphrase').inputValue()).toBe('')
    expect(await page.locator(':focus').getAttribute('id')).toBe('passphrase')
    expect(await page.getByLabel('Passphrase').getAttribute('aria-invalid')).toBe('true')
  })

  it('is gone through by the Tab key, in the order in which it is read', async () => {
    const { page } = await visit(await write())
    const order: (string | null)[] = []
    for (let i = 0; i < 4; i++) {
      await page.keyboard.press('Tab')
      order.push(await page.locator(':focus').getAttribute('id'))
    }
    expect(order).toEqual(['door', 'time', 'passphrase', 'go'])
  })

  it('fits on a screen of 360 pixels', async () => {
    const { page } = await visit(await write({ host: `${'long-label.'.repeat(8)}example` }))
    await page.setViewportSize({ width: 360, height: 740 })
    expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(360)
  })
})

describe('a page with a key, in Firefox', () => {
  /** What the page has said of a knock for its one door, one after the other. */
  async function said(door: number, webRtc: boolean): Promise<string[]> {
    const path = await write({ doors: [{ port: door, protocol: 'tcp' }] })
    const words = [`${path}.firefox`, pathToFileURL(path).href, PASSPHRASE, `media.peerconnection.enabled=${webRtc}`]
    const argv = [process.execPath, join(import.meta.dirname, 'firefox.mjs'), ...words]
    return (await client.must(argv, { timeoutMs: 120_000 })).split(' ')
  }

  it.each([
    ['by WebRTC', true],
    ['by HTTP requests, where WebRTC is switched off', false],
  ])('opens the door %s, and says no more than that it is open', async (_, webRtc) => {
    expect((await said(WEB, webRtc)).at(-1)).toBe('unclear')
    expect((await client.connect(server.ipv4, WEB)).saw).toBe('open')
  })

  it('does not say that the knock has opened what was open already', async () => {
    await client.must(knockByProgram(gate, '-p', String(WEB), '--wait'))
    // Before, where the browser's first request is soon enough.
    expect(['before', 'unclear']).toContain((await said(WEB, false)).at(-1))
  })

  it('says what to try as soon as the knock is whole, where it can not see the door', async () => {
    expect(await said(SSH, true)).toEqual(['busy', 'try', 'sent'])
    expect((await client.connect(server.ipv4, SSH)).saw).toBe('open')
  })
})

/** A new key with a passcode, which the server hears from now on. */
async function enrolled(id: string) {
  const made = gate.daemon.lines.length
  const { key } = await loadKeyFile(await gate.newKey(id, '--services', `${WEB}/tcp`))
  await gate.daemon.line(logged('reloaded'), made)
  const since = gate.daemon.lines.length
  appendFileSync(join(gate.keys, `${id}.key`), `\n[passcode]\npin = "${PIN}"\nonce = false\n`)
  await gate.daemon.line(logged('reloaded'), since)
  await server.must([join(ROOT, 'bin', 'knockturn'), 'firewall', 'install', '--config', gate.config])
  return { said: () => passcode(key, windowAt(Date.now() / 1000, key.period)) }
}

describe('addresses that are typed into a browser', () => {
  it('open the door, where they say a passcode', async () => {
    const { said } = await enrolled('typist')
    const context = await browser.newContext()
    const line = await verdict(gate.daemon, async () => {
      for (const port of passcodePorts(PIN, said())) {
        const tab = await context.newPage()
        void tab.goto(`http://${server.ipv4}:${port}/`).catch(() => {})
      }
    })
    expect(line).toMatchObject({ msg: 'accepted', key: 'typist', by: 'passcode', address: client.ipv4 })
    expect((await client.connect(server.ipv4, WEB)).saw).toBe('open')
  })
})

describe('a page for passcodes', () => {
  it('opens the door of a key that has one', async () => {
    const { said } = await enrolled('app')
    const { page } = await visit(await passcodes(WEB))
    await page.getByLabel('PIN').fill(PIN)
    await page.getByLabel('Code from').fill(said())
    const line = await verdict(gate.daemon, () => press(page))
    expect(line).toMatchObject({ msg: 'accepted', key: 'app', by: 'passcode', address: client.ipv4, service: `${WEB}/tcp` })
    await client.becomes(server.ipv4, WEB, 'open')
  })

  const passcodes = (door: number) => {
    const more = { kind: 'passcode', base: 48_000, pinDigits: 4, doors: [{ port: door, protocol: 'tcp' }] }
    return write(more as Partial<Contents>)
  }

  it('touches the port of each digit of PIN and code, and no other but the door', async () => {
    const { page } = await visit(await passcodes(WEB))
    const tape = await server.capture()
    await page.getByLabel('PIN').fill('0921')
    await page.getByLabel('Code from').fill('1234 5678')
    await press(page)
    const wanted = [48_000, 48_019, 48_022, 48_031, 48_041, 48_052, 48_063, 48_074, 48_085, 48_096, 48_107, 48_118]
    const heard = async () => {
      const taps = (await tape.taps()).filter(({ source, protocol }) => source === client.ipv4 && protocol === 'tcp')
      return [...new Set(taps.map(({ port }) => port))].filter((port) => port !== WEB).sort()
    }
    await until(async () => (await heard()).length >= wanted.length, 'twelve ports have been touched', 20_000)
    expect(await heard()).toEqual(wanted)
  })

  it('lets nobody send another code while the first one counts', async () => {
    const { page } = await visit(await passcodes(SSH))
    await page.getByLabel('PIN').fill('0921')
    await page.getByLabel('Code from').fill('12345678')
    await press(page)
    expect(await outcome(page)).toBe('sent')
    await page.getByRole('button', { name: /^Knock again in \d+ s$/ }).waitFor()
  })
})
