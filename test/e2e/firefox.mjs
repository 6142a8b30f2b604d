// Knocks by a page in Firefox, for the tests: no driver of it is packaged, but its own remote control, Marionette, speaks JSON over TCP.
//
//     node test/e2e/firefox.mjs FOLDER URL PASSPHRASE [PREFERENCE=VALUE ...]
//
// prints what the page has in data-outcome, one after the other: busy, perhaps try, and in the end what src/browser/knocking.ts calls
// an outcome. FOLDER becomes the browser's profile.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

/** Milliseconds after which a browser hangs: it starts in three seconds, and a page knocks for one minute. */
const LIMIT = 110_000
const PAUSE = 100
/** How the protocol calls the reference to an element (W3C WebDriver, "Elements"). */
const ELEMENT = 'element-6066-11e4-a52e-4f735466cecf'

const [folder = '', url = '', passphrase = '', ...preferences] = process.argv.slice(2)

/** Commands to the browser that listens on a port: each is `length:[0, id, name, parameters]`, and its answer `length:[1, id, error, result]`. @param {number} port */
async function marionette(port) {
  const socket = connect(port, '127.0.0.1').unref()
  let received = Buffer.alloc(0)
  let last = 0
  /** The next message, whole. @returns {Promise<any>} */
  const next = async () => {
    for (;;) {
      const colon = received.indexOf(':')
      const end = colon + 1 + Number(received.subarray(0, Math.max(colon, 0)).toString())
      if (colon > 0 && received.length >= end) {
        const text = received.subarray(colon + 1, end).toString()
        received = received.subarray(end)
        return JSON.parse(text)
      }
      const [chunk] = await once(socket, 'data')
      received = Buffer.concat([received, chunk])
    }
  }
  // What it is, before anything is asked.
  await next()
  return async (/** @type {string} */ name, parameters = {}) => {
    const text = JSON.stringify([0, ++last, `WebDriver:${name}`, parameters])
    socket.write(`${Buffer.byteLength(text)}:${text}`)
    const [, , error, result] = await next()
    if (error) throw new Error(`${name}: ${error.error}: ${error.message}`)
    return result.value ?? result
  }
}

mkdirSync(folder, { recursive: true })
const all = ['marionette.port=0', ...preferences].map((text) => text.split('='))
writeFileSync(join(folder, 'user.js'), all.map(([name, value]) => `user_pref("${name}", ${value});\n`).join(''))
const firefox = spawn('firefox-esr', ['--headless', '--marionette', '--no-remote', '--profile', folder], {
  stdio: 'ignore',
  env: { ...process.env, HOME: folder },
})
const limit = setTimeout(() => {
  firefox.kill('SIGKILL')
  throw new Error(`not within ${LIMIT} ms`)
}, LIMIT)
try {
  const portFile = join(folder, 'MarionetteActivePort')
  while (!existsSync(portFile) || readFileSync(portFile, 'utf8') === '') await sleep(PAUSE)
  const command = await marionette(Number(readFileSync(portFile, 'utf8')))
  await command('NewSession')
  await command('Navigate', { url })
  const find = async (/** @type {string} */ selector) =>
    (await command('FindElement', { using: 'css selector', value: selector }))[ELEMENT]
  await command('ElementSendKeys', { id: await find('#passphrase'), text: passphrase })
  await command('ElementClick', { id: await find('#go') })
  const script = `return document.querySelector('[role=status]').dataset.outcome ?? ''`
  /** @type {string[]} */
  const outcomes = []
  while (['', 'busy', 'try'].includes(outcomes.at(-1) ?? '')) {
    await sleep(PAUSE)
    const outcome = await command('ExecuteScript', { script, args: [] })
    if (outcome !== '' && outcome !== outcomes.at(-1)) outcomes.push(outcome)
  }
  process.stdout.write(outcomes.join(' '))
} finally {
  clearTimeout(limit)
  firefox.kill('SIGKILL')
}
