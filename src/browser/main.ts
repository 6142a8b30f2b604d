import { Decrypter } from 'age-encryption'
import { deriveKey, type Key } from '../protocol/key'
import { compose } from '../protocol/knock'
import { passcodePorts } from '../protocol/passcode'
import { parsePool } from '../protocol/pool'
import { AS_SEEN } from '../protocol/request'
import { visible } from './blocked'
import type { Contents, Door, KeyPage, PasscodePage } from './contents'
import { type Blindness, knock, type Outcome, type Plan } from './knocking'
import { ways } from './touch'
import { duration, hints, lifetimes, nextStep, UNPROVEN, unseen } from './words'

/** A sealed knock is repeated so long, in milliseconds. */
const KEY_LIMIT_MS = 60_000
/** A passcode is sent so long: its code is good for about a minute, and its ports repeat nothing but themselves. */
const PASSCODE_LIMIT_MS = 20_000
/** The daemon remembers a digit for so long; another code meanwhile would spoil both (docs/protocol.md, "Passcodes"). */
const PASSCODE_REST_MS = 60_000
/** Chromium goes on with the attempts of fetch for so long, and has no sockets for more knocks meanwhile. */
const FETCH_REST_MS = 130_000
/** No device has a true clock before this year. */
const FIRST_YEAR = 2020

/** The element of this id, which src/browser/index.html has. */
const element = <T extends HTMLElement>(id: string) => document.getElementById(id) as T
const field = (id: string) => element<HTMLInputElement>(id)

const contents: Contents = JSON.parse(element('contents').textContent ?? '')
const { host, period } = contents
const go = element<HTMLButtonElement>('go')
const status = element('status')

let busy = false
/** Whether who waits need wait no longer: the knock is whole, and what follows is for what has been lost of it. */
let whole = false
/** Until when nothing more may be sent, in Unix milliseconds. */
let rest = 0

/** What a field has wrong. Its message is for the user. */
class FieldFault extends Error {
  constructor(
    readonly id: string,
    message: string,
  ) {
    super(message)
  }
}

/** Puts into the page what it is for. */
function furnish(): void {
  document.title = `Knock at ${host}`
  element('host').textContent = host
  for (const part of document.querySelectorAll<HTMLElement>('[data-of]')) part.hidden = part.dataset.of !== contents.kind
  if (contents.kind === 'passcode') {
    const { pinDigits } = contents
    field('pin').maxLength = Math.max(pinDigits, 1)
    element('pin-field').hidden = pinDigits === 0
    element('clock-rule').textContent = 'The code depends on your authenticator’s clock, not on this one.'
    return
  }
  const { doors, seconds, max } = contents
  const all = doors.length > 1 ? [new Option('all of them', '0 tcp')] : []
  element('door').append(...doors.map((door) => new Option(`port ${nameOf(door)}`, `${door.port} ${door.protocol}`)), ...all)
  element('time').append(...lifetimes(seconds, max).map((time) => new Option(duration(time), `${time}`)))
  field('time').value = `${Math.min(seconds, max)}`
  element('clock-rule').textContent = `It must be right to within ${period} seconds, or nothing opens.`
}

function nameOf({ port, protocol }: Door): string {
  return protocol === 'tcp' ? `${port}` : `${port}/udp`
}

/** What changes with the time alone. */
function tick(): void {
  const now = Date.now()
  const date = new Date(now)
  element('clock').textContent = date.toLocaleTimeString(undefined, { timeStyle: 'long', hourCycle: 'h23' })
  element('clock').setAttribute('datetime', date.toISOString())
  const left = Math.ceil(period - ((now / 1000) % period))
  const turn = element<HTMLProgressElement>('turn')
  turn.max = period
  turn.value = left
  const what = contents.kind === 'passcode' ? 'The code changes' : 'The ports of a knock change'
  element('turn-label').textContent = `${what} in ${left} s`
  const waiting = Math.ceil((rest - now) / 1000)
  go.setAttribute('aria-disabled', `${busy || waiting > 0}`)
  go.textContent = busy ? (whole ? 'Knocking again …' : 'Knocking …') : waiting > 0 ? `Knock again in ${waiting} s` : 'Knock'
}

/** From the button to what has come of it. */
async function attempt(): Promise<void> {
  for (const id of ['passphrase', 'pin', 'code']) field(id).removeAttribute('aria-invalid')
  element('fault').textContent = ''
  element('next').hidden = true
  busy = true
  whole = false
  tick()
  try {
    if (contents.kind === 'key') await attemptByKey(contents)
    else await attemptByPasscode(contents)
  } catch (error) {
    say('', '')
    element('fault').textContent = error instanceof Error ? error.message : String(error)
    if (error instanceof FieldFault) {
      // What is nearly right is a secret, too, and it must be typed anew anyway.
      field(error.id).value = ''
      field(error.id).setAttribute('aria-invalid', 'true')
      field(error.id).focus()
    }
  } finally {
    busy = false
    tick()
  }
}

async function attemptByKey(page: KeyPage): Promise<void> {
  if (new Date().getFullYear() < FIRST_YEAR) throw new Error('This device’s clock is wrong: set it, then knock.')
  const passphrase = field('passphrase').value
  if (passphrase === '') throw new FieldFault('passphrase', 'Type the passphrase of the key in this page.')
  say('busy', 'Unlocking the key …')
  await painted()
  const key = await unlock(page, passphrase)
  field('passphrase').value = ''
  try {
    const [port, protocol] = field('door').value.split(' ')
    const seconds = Number(field('time').value)
    const request = {
      action: 'open',
      protocol: port === '0' ? 'any' : (protocol as Door['protocol']),
      once: false,
      port: Number(port),
      seconds,
      address: AS_SEEN,
    } as const
    const salt = () => crypto.getRandomValues(new Uint16Array(1))[0]
    const asked = page.doors.filter((door) => port === '0' || `${door.port} ${door.protocol}` === field('door').value)
    await send(asked, KEY_LIMIT_MS, seconds, (window) => compose(key, window, { ...request, salt: salt() }))
  } finally {
    wipe(key)
  }
}

async function attemptByPasscode({ doors, base, pinDigits }: PasscodePage): Promise<void> {
  const pin = pinDigits > 0 ? field('pin').value : ''
  const code = field('code').value.replace(/\s/g, '')
  if (!/^\d*$/.test(pin) || pin.length !== pinDigits) throw new FieldFault('pin', `The PIN has ${pinDigits} digits.`)
  if (!/^\d{8}$/.test(code)) throw new FieldFault('code', 'The code has 8 digits. If your authenticator shows 6, set it to 8.')
  field('pin').value = ''
  field('code').value = ''
  const ports = passcodePorts(pin, code, base)
  const outcome = await send(doors, PASSCODE_LIMIT_MS, null, () => ports)
  if (outcome !== 'opened' && outcome !== 'unsent') rest = Math.max(rest, Date.now() + PASSCODE_REST_MS)
}

/** @throws {FieldFault} where the passphrase does not open it */
async function unlock({ sealed, server, pool }: KeyPage, passphrase: string): Promise<Key> {
  const decrypter = new Decrypter()
  decrypter.addPassphrase(passphrase)
  let secret: Uint8Array
  try {
    secret = await decrypter.decrypt(Uint8Array.from(atob(sealed), (letter) => letter.charCodeAt(0)))
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    // age's words where a passphrase does not fit; a small phone may have no memory for scrypt.
    if (/no identity matched/.test(why))
      throw new FieldFault('passphrase', 'This is not the passphrase of the key in this page. Try again.')
    throw new Error(`This browser cannot unlock the key: ${why}`)
  }
  return deriveKey({ secret, server, period, pool: parsePool(pool) })
}

/** Overwrites all that could knock. (What the browser has copied, and the passphrase as it was typed, are out of reach.) */
function wipe(key: Key): void {
  for (const bytes of [key.secret, key.rendezvousKey, key.codebookKey, key.sealKey, key.totpSecret, key.hintKey]) bytes.fill(0)
}

/** Sends until a door is seen open, and says what has come of it. @param seconds of the lease; null: not known */
async function send(doors: readonly Door[], limit: number, seconds: number | null, ports: (window: number) => number[]) {
  const look = doors.find(({ port, protocol }) => protocol === 'tcp' && visible(port))?.port ?? null
  const next = nextAt(look ?? doors[0].port)
  const unseenBy = unseen(next.line, doors.map(nameOf), look)
  const told = {
    sent(pass: number, count: number) {
      if (whole) return
      say(
        'busy',
        `Knocked on ${count} ports of ${host}${pass > 1 ? `, ${pass} times` : ''}. ${look ? `Waiting for port ${look} …` : ''}`,
      )
    },
    unseen(why: Blindness) {
      whole = true
      say('try', unseenBy[why])
      if (why !== 'rejected') show(next)
      tick()
    },
  }
  let outcome: Outcome = 'unsent'
  for (const { world, addresses } of ways(contents.addresses, contents.http)) {
    // Nothing can leave, and fetch would not tell.
    if (world.lasting && !navigator.onLine) break
    const plan: Plan = { addresses, period, ports, look, limit }
    outcome = await knock(world, plan, told)
    if (outcome === 'unsent') continue
    if (world.lasting) rest = Date.now() + FETCH_REST_MS
    break
  }
  const until =
    seconds === null
      ? ''
      : ` until ${new Date(Date.now() + seconds * 1000).toLocaleTimeString(undefined, { timeStyle: 'short', hourCycle: 'h23' })}`
  const text = {
    ...unseenBy,
    opened: `Open${until}, for the address you connect from: port ${look} answers.`,
    before: `Knocked. Port ${look} was already open: ${UNPROVEN}`,
    unclear: `Knocked. Port ${look} is open: ${UNPROVEN}`,
    shut: `Knocked for ${Math.round(limit / 1000)} seconds, but port ${look} has not answered. ${hints(seconds !== null)}`,
    unsent: unsent(),
  }[outcome]
  say(outcome, text)
  if (!['rejected', 'shut', 'unsent'].includes(outcome)) show(next)
  return outcome
}

function unsent(): string {
  if (!navigator.onLine) return 'This device is offline. Connect it to a network, then knock.'
  if (location.protocol === 'https:')
    return 'WebRTC is switched off in this browser, and without it a page from https cannot knock. Save this page (Ctrl+S, or Share on a phone), open the saved file, and knock from there.'
  return 'This browser sent nothing: WebRTC is switched off, and there is no other way to reach the server’s address. Switch WebRTC on, or use another browser.'
}

/** What to do at a port of this server. */
function nextAt(port: number): ReturnType<typeof nextStep> {
  const [address] = contents.addresses
  // A passcode opens by the one family that it was said by.
  const way = contents.kind === 'passcode' && host !== address ? (address.includes(':') ? '-6 ' : '-4 ') : ''
  return nextStep(host, port, way)
}

function show({ line, url }: ReturnType<typeof nextStep>): void {
  element('line').textContent = line
  const link = element<HTMLAnchorElement>('link')
  link.hidden = url === null
  if (url !== null) link.href = url
  element('next').hidden = false
}

function copyLine(): void {
  const button = element('copy')
  const done = (text: string) => {
    button.textContent = text
    setTimeout(() => {
      button.textContent = 'Copy'
    }, 2_000)
  }
  const line = element('line')
  const mark = () => {
    getSelection()?.selectAllChildren(line)
    done('Selected')
  }
  if (navigator.clipboard) navigator.clipboard.writeText(line.textContent ?? '').then(() => done('Copied'), mark)
  else mark()
}

/** @param outcome what the colour tells, and the words too */
function say(outcome: string, text: string): void {
  status.dataset.outcome = outcome
  status.textContent = text
}

/** Resolves when what has been said can be seen: unlocking holds up everything. */
function painted(): Promise<void> {
  return new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve, 50)))
}

function start(): void {
  furnish()
  setInterval(tick, 250)
  tick()
  element('form').addEventListener('submit', (event) => {
    event.preventDefault()
    if (!busy && Date.now() >= rest) void attempt()
  })
  element('copy').addEventListener('click', copyLine)
}

// A page around this one may lay itself over it, and have it clicked; one that has opened it may put another one in its place: no policy in a
// file can forbid that.
if (window.top === window && window.opener === null) start()
else
  document.body.textContent =
    'This page does not run inside another page, or when another page has opened it. Open it on its own.'
