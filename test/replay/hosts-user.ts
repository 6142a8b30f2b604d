// Attacks on the client by what surrounds it on the user's machine: other local users, someone else's config, a careless environment.

import { chmodSync, chownSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Host } from '../lab/host'
import { knock as knockclient } from '../lab/knocks'
import { until } from '../lab/waiters'
import { BIN } from '../root'
import { against } from './any-door'
import type { Attack } from './attack'
import { openOurs } from './doors'
import { HEARD } from './on-ours'
import { SSH, type Stage } from './stage'

const KNOCKCLIENT = join(BIN, 'knockclient')
/** Where Node's inspector listens, and the milliseconds in which it does. */
const INSPECTOR = 9_229
const INSPECTED = 1_000
const HTTPS = 443
/** A user who is not the local user. */
const NOBODY = 65_534
const is = (word: string) => (line: string) => line === word
const isRoot = process.getuid?.() === 0

/** Whether an inspector answers there. */
const isInspected = async (host: Host) => (await host.connect('127.0.0.1', INSPECTOR, HEARD)).saw === 'open'

const inspector: Attack = {
  kind: 'cafe',
  name: 'an inspector in the running client',
  what: "A signal opens Node's inspector in a client that runs a command: every local user could read the key in it.",
  run: ({ times }) =>
    against({ open: openOurs }, async (stage, door) => {
      const { user, server, another } = stage
      const broken: string[] = []
      const honest = { tried: 0, opened: 0 }
      let [tried, opened] = [0, 0]
      for (let i = 0; i < times(1, 5); i++) {
        await stage.speakFrom(user, await another(user))
        // The command gets the signal, too, and ignores it.
        const exec = ['exec', server.ipv4, '-p', String(SSH), '-k', door.gate.key, '-r', server.ipv4, '--']
        const client = user.start([KNOCKCLIENT, ...exec, 'sh', '-c', 'trap "" USR1; echo runs; exec sleep 60'])
        await client.line(is('runs'))
        honest.tried++
        honest.opened += Number((await user.connect(server.ipv4, SSH, HEARD)).saw === 'open')
        client.child.kill('SIGUSR1')
        await sleep(INSPECTED)
        tried++
        opened += Number(await isInspected(user))
        if (client.child.exitCode !== null || client.child.signalCode !== null) broken.push('the signal ends the client')
        await client.end()
        // It proves something: any other Node program is opened in this way.
        const other = user.start([process.execPath, '-e', 'setInterval(() => {}, 1e6); console.log("runs")'])
        await other.line(is('runs'))
        other.child.kill('SIGUSR1')
        await until(() => isInspected(user), 'an inspector').catch(() => broken.push('no inspector opens in any program'))
        await other.end()
      }
      return { tried, opened, honest, broken }
    }),
}

const strangersConfig: Attack = {
  kind: 'cafe',
  name: "someone else's config",
  what: 'A client is run with the HOME of another user, or with a config that others may write: it names the host of an attacker, who waits for the knock.',
  run: ({ times }) =>
    against({ open: openOurs }, async (stage, door) => {
      const { user, attacker, server, lab, another } = stage
      const folder = lab.folder()
      const config = join(folder, 'knockturn', 'config.toml')
      mkdirSync(join(folder, 'knockturn', 'keys'), { recursive: true, mode: 0o700 })
      // A key that names no host: with one that does, another host is refused in any case.
      const key = readFileSync(door.gate.key, 'utf8').replace(/^host = .*\n/m, '')
      writeFileSync(join(folder, 'knockturn', 'keys', 'traveller.key'), key, { mode: 0o600 })
      /** Writes a profile that points to a host. */
      const lead = (host: string) =>
        writeFileSync(config, `[profile.gate]\nhost = "${host}"\nkey = "traveller"\nservices = ${SSH}\ntime = "2s"\npasses = 1\n`)
      // Without root nobody can have a file that belongs to someone else.
      const strange = [
        () => chmodSync(config, 0o666),
        () => chmodSync(config, 0o620),
        ...(isRoot ? [() => chownSync(config, NOBODY, NOBODY)] : []),
      ]
      const client = () => user.run([KNOCKCLIENT, 'gate', '--force'], { env: { XDG_CONFIG_HOME: folder } })
      const broken: string[] = []
      const honest = { tried: 0, opened: 0 }
      let [tried, opened] = [0, 0]
      for (let i = 0; i < times(1, 5); i++) {
        for (const make of strange) {
          lead(attacker.ipv4)
          make()
          const { result, taps } = await stage.arriving(client)
          tried++
          opened += Number(taps.some(({ source }) => source === user.ipv4))
          if (result.code === 0) broken.push('the client uses it')
          if (isRoot) chownSync(config, 0, 0)
          chmodSync(config, 0o600)
        }
        lead(server.ipv4)
        const address = await another(user)
        await stage.speakFrom(user, address)
        honest.tried++
        honest.opened += Number(await stage.opens(user, address, client))
      }
      return { tried, opened, honest, broken }
    }),
}

/** Serves an address over HTTPS, as an address service does, with a self-signed certificate. */
const SERVE = `
const { readFileSync } = require('node:fs')
const [folder, address] = process.argv.slice(1)
const [key, cert] = ['key.pem', 'cert.pem'].map((name) => readFileSync(folder + '/' + name))
require('node:https').createServer({ key, cert }, (_, response) => { console.log('asked'); response.end(address) }).listen(${HTTPS}, () => console.log('ready'))`

const unproved: Attack = {
  kind: 'cafe',
  name: 'an address service without a valid certificate',
  what: 'A café answers in place of the HTTPS service that reports addresses, while the environment turns certificate checks off: it hears the knock for its own address, and replays it.',
  run: ({ times }) =>
    against({ open: (stage: Stage) => openOurs(stage, ['--require-address']) }, async (stage, door) => {
      const { user, attacker, server, lab, another } = stage
      const folder = lab.folder()
      const files = ['-keyout', join(folder, 'key.pem'), '-out', join(folder, 'cert.pem')]
      const names = ['-subj', '/CN=service', '-addext', `subjectAltName=IP:${attacker.ipv4}`]
      await attacker.must(['openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '1', ...files, ...names])
      const env = { NODE_TLS_REJECT_UNAUTHORIZED: '0' }
      const auto = ['--passes', '1', '-i', 'auto', '--address-url', `https://${attacker.ipv4}/`]
      const broken: string[] = []
      const honest = { tried: 0, opened: 0 }
      let [tried, opened] = [0, 0]
      for (let i = 0; i < times(1, 5); i++) {
        const [address, as] = [await another(user), await another(attacker)]
        await stage.speakFrom(user, address)
        const service = attacker.start([process.execPath, '-e', SERVE, folder, as])
        await service.line(is('ready'))
        const { code } = await user.run(knockclient(door.gate, ...door.lease, ...auto), { env })
        const said = await stage.heard(address)
        await attacker.replay(said, server.ipv4, as)
        await sleep(HEARD)
        tried++
        opened += await stage.open(attacker, [as])
        if (code === 0 || said.length > 0) broken.push(`the client exits with ${code} and sent ${said.length} packets`)
        // It proves something: anyone who trusts that certificate knocks for the address that it reports.
        const trusting = { ...env, NODE_EXTRA_CA_CERTS: join(folder, 'cert.pem') }
        await user.run(knockclient(door.gate, ...door.lease, ...auto), { env: trusting })
        if (!service.lines.includes('asked')) broken.push('a trusted service was not asked')
        await service.end()
        honest.tried++
        const named = [...door.lease, '--passes', '1', '-i', address]
        honest.opened += Number(await stage.opens(user, address, () => user.run(knockclient(door.gate, ...named))))
      }
      return { tried, opened, honest, broken }
    }),
}

export const around: Attack[] = [inspector, strangersConfig, unproved]
