import { appendFileSync, chmodSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { type Browser, chromium, type Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { loadKeyFile } from '../../src/host/keyring'
import { httpHosts, pageText } from '../../src/host/page-file'
import { sealBytes } from '../../src/host/sealed-key'
import type { Contents } from '../../src/page/contents'
import { windowAt } from '../../src/protocol/key'
import { passcode } from '../../src/protocol/passcode'
import { passcodePorts } from '../../src/protocol/passcode-ports'
import { formatPool } from '../../src/protocol/pool'
import { type Child, type Gate, type Host, type Lab, logged, makeLab, provision, type Tap, until, verdict } from './lab.mjs'

const ROOT = join(import.meta.dirname, '..', '..')
const SSH = 22
const WEB = 8080
const DOORS = Array.from({ length: 30 }, (_, i) => 2301 + i)
const PASSPHRASE = 'correct horse battery staple'
const PIN = '0417'
/** Light, so that a test need not wait for scrypt; the page of the program itself has the real one. */
const WORK_FACTOR = 10
const WEB_SERVICE = `require('node:http').createServer((_, answer) => answer.end('hello')).listen(${WEB}, '::', () => console.log('serves'))`

let lab: Lab
let server: Host
let client: Host
let stranger: Host
let gate: Gate
let daemon: Child
let browser: Browser
let folder: string

beforeAll(async () => {
  lab = await makeLab(['client', 'stranger'])
  ;({ server, client, stranger } = lab.hosts as { server: Host; client: Host; stranger: Host })
  for (const port of [SSH, ...DOORS]) await server.service(port)
  await server.start([process.execPath, '-e', WEB_SERVICE]).line((line) => line === 'serves')
  gate = await provision(lab, {
    keyOptions: ['--services', [SSH, WEB, ...DOORS].map((port) => `${port}/tcp`).join(','), '--max', '1h'],
  })
  daemon = gate.daemon
  folder = lab.folder()
  // A browser of the client: in its network, and with nobody's profile.
  const wrapper = join(folder, 'chromium')
  writeFileSync(wrapper, `#!/bin/sh\nexec ip netns exec ${client.namespace} chromium "$@"\n`)
  chmodSync(wrapper, 0o755)
  const args = ['--headless=new', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking']
  browser = await chromium.launch({
    executablePath: wrapper,
    chromiumSandbox: false,
    args: [...args, '--disable-component-update', '--disable-sync'],
    env: { ...process.env, HOME: folder } as Record<string, string>,
  })
})
afterAll(async () => {
  await browser?.close()
  await lab?.end()
})

/** Each test has a client that was not there before. */
beforeEach(() => client.moveOn())
/** What goes on knocking would be heard from the next client. */
afterEach(() => Promise.all(browser.contexts().map((context) => context.close())))

let written = 0

/** A page as `knockturn page` makes it, but for the work of its passphrase. */
async function write(more: Partial<Contents> = {}): Promise<string> {
  const { key } = await loadKeyFile(gate.key)
  const addresses = more.addresses ?? [server.ipv4]
  const contents = {
    ...{
      kind: 'key',
      host: server.ipv4,
      addresses,
      http: httpHosts(server.ipv4, addresses),
      period: key.period,
      server: key.server,
    },
    ...{
      doors: [SSH, WEB, ...DOORS].map((port) => ({ port, protocol: 'tcp' })),
      pool: formatPool(key.pool),
      seconds: 60,
      max: 3600,
    },
    sealed: Buffer.from(await sealBytes(key.secret, PASSPHRASE, WORK_FACTOR)).toString('base64'),
    ...more,
  } as Contents
  const read = (...path: string[]) => readFileSync(join(ROOT, ...path), 'utf8')
  const parts = { html: read('src/page/index.html'), style: read('src/page/style.css'), script: read('dist/page.txt') }
  const path = join(folder, `${++written}.html`)
  writeFileSync(path, pageText(parts, contents))
  return path
}

/** Opens a page in a browser that has never been anywhere, from a file or from a web host. Gives all that it complains of, too. */
async function visit(
  path: string,
  { webRtc = true, at = pathToFileURL(path).href } = {},
): Promise<{ page: Page; complaints: string[] }> {
  const context = await browser.newContext()
  const page = await context.newPage()
  const complaints: string[] = []
  page.on('pageerror', ({ message }) => complaints.push(message))
  page.on('console', (message) => {
    if (/policy/i.test(message.text())) complaints.push(message.text())
  })
  if (!webRtc) await page.addInitScript('delete globalThis.RTCPeerConnection; delete globalThis.webkitRTCPeerConnection')
  if (at.startsWith('http')) await page.route(at, (route) => route.fulfill({ path, contentType: 'text/html' }))
  await page.goto(at)
  return { page, complaints }
}

const press = (page: Page) => page.getByRole('button', { name: 'Knock' }).click()

async function knock(page: Page, door: number | string): Promise<void> {
  await page.getByLabel('Open').selectOption(`port ${door}`)
  await page.getByLabel('Passphrase').fill(PASSPHRASE)
  await press(page)
}

/** What has come of a knock: open, sent, shut or unsent. */
async function outcome(page: Page): Promise<string | null> {
  const status = page.getByRole('status')
  const settled = async () => /^(open|sent|shut|unsent)$/.test((await status.getAttribute('data-outcome')) ?? '')
  await until(settled, 'the page has an outcome', 90_000)
  return status.getAttribute('data-outcome')
}

describe('the page that knockturn writes', () => {
  it('opens the door to who has the passphrase, and says that it is open', async () => {
    const path = join(folder, 'knock.html')
    const argv = [join(ROOT, 'bin', 'knockturn'), 'page', 'traveller', '--keys', gate.keys, '--host', server.ipv4, '--out', path]
    await server.must(argv, { input: `${PASSPHRASE}\n` })
    const { page, complaints } = await visit(path)
    expect((await client.connect(server.ipv4, WEB, 200)).saw).toBe('silence')
    const said = await verdict(daemon, () => knock(page, WEB), 60_000)
    expect(said).toMatchObject({ msg: 'accepted', address: client.ipv4, service: `${WEB}/tcp` })
    expect(await outcome(page)).toBe('open')
    expect((await client.connect(server.ipv4, WEB)).saw).toBe('open')
    expect(complaints).toEqual([])
  })
})

describe('a page with a key', () => {
  it('opens a door that browsers may not look at, and says what it can not see', async () => {
    const { page } = await visit(await write())
    await knock(page, SSH)
    await client.becomes(server.ipv4, SSH, 'open')
    expect(await outcome(page)).toBe('sent')
    expect(await page.getByRole('status').textContent()).toContain('browsers may not look at port 22')
    expect(await page.locator('#line').textContent()).toBe(`ssh ${server.ipv4}`)
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
    expect(await outcome(page)).toBe('open')
    await page.context().close()
    const heard = (await tape.taps()).filter(({ source, port }: Tap) => source === client.ipv4 && port >= 49_152)
    const since = daemon.lines.length
    await stranger.replay(heard, server.ipv4)
    await daemon.line(logged('refused', { refusal: 'replayed' }), since)
    expect((await stranger.connect(server.ipv4, WEB)).saw).toBe('silence')
  })

  it('opens three doors in a row, whatever is left of the knocks before', async () => {
    const { page } = await visit(await write())
    const outcomes: (string | null)[] = []
    for (const door of DOORS.slice(0, 3)) {
      await knock(page, door)
      outcomes.push(await outcome(page))
    }
    expect(outcomes).toEqual(['open', 'open', 'open'])
  })

  it('opens 30 doors of 30 where 10 % of all packets are lost', async () => {
    const { page } = await visit(await write())
    await server.lose(0.1)
    try {
      const shut: number[] = []
      for (const door of DOORS) {
        await knock(page, door)
        if ((await outcome(page)) !== 'open') shut.push(door)
      }
      expect(shut).toEqual([])
    } finally {
      await server.lose(0)
    }
  }, 400_000)

  it('opens by HTTP requests where there is no WebRTC', async () => {
    const { page, complaints } = await visit(await write(), { webRtc: false })
    await knock(page, WEB)
    expect(await outcome(page)).toBe('open')
    expect(complaints).toEqual([])
  })

  it.each([
    ['https', true],
    ['http', true],
    ['http', false],
  ])('opens from a web host, by %s and with WebRTC: %s', async (scheme, webRtc) => {
    const { page } = await visit(await write(), { webRtc, at: `${scheme}://knock.example/` })
    await knock(page, WEB)
    expect(await outcome(page)).toBe('open')
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
  it.each([
    ['by WebRTC', 'true'],
    ['by HTTP requests, where WebRTC is switched off', 'false'],
  ])('opens the door %s, and says that it is open', async (_, webRtc) => {
    const path = await write({ doors: [{ port: WEB, protocol: 'tcp' }] })
    const words = [`${path}.firefox`, pathToFileURL(path).href, PASSPHRASE, `media.peerconnection.enabled=${webRtc}`]
    const argv = [process.execPath, join(import.meta.dirname, 'firefox.mjs'), ...words]
    expect(await client.must(argv, { timeoutMs: 120_000 })).toBe('open')
    expect((await client.connect(server.ipv4, WEB)).saw).toBe('open')
  })
})

/** A new key with a passcode, which the server hears from now on. */
async function enrolled(id: string) {
  const made = daemon.lines.length
  const { key } = await loadKeyFile(await gate.newKey(id, '--services', `${WEB}/tcp`))
  await daemon.line(logged('reloaded'), made)
  const since = daemon.lines.length
  appendFileSync(join(gate.keys, `${id}.key`), `\n[passcode]\npin = "${PIN}"\nonce = false\n`)
  await daemon.line(logged('reloaded'), since)
  await server.must([join(ROOT, 'bin', 'knockturn'), 'firewall', 'install', '--config', gate.config])
  return { said: () => passcode(key, windowAt(Date.now() / 1000, key.period)) }
}

describe('addresses that are typed into a browser', () => {
  it('open the door, where they say a passcode', async () => {
    const { said } = await enrolled('typist')
    const context = await browser.newContext()
    const line = await verdict(daemon, async () => {
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
    const line = await verdict(daemon, () => press(page))
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
