import { expect, it } from 'vitest'
import { programFor } from '../../../src/client/add/program'

const SELF = '/opt/knockturn/bin/knockclient'
const thereIs = (path: string) => (file: string) => file === path

it.each([
  ['/usr/bin:/usr/local/bin', '/usr/local/bin/knockclient', SELF, 'knockclient'],
  ['/usr/bin', '/usr/local/bin/knockclient', SELF, SELF],
  ['bin:.:', 'bin/knockclient', SELF, SELF],
  ['', '/usr/bin/knockclient', "/home/al ice's/100%/knockclient", `'/home/al ice'\\''s/100%%/knockclient'`],
  ['', '', '/home/$(touch x)/knockclient', "'/home/$(touch x)/knockclient'"],
])('ssh finds this program with PATH %s where there is %s, and else at %s', (path, there, self, program) => {
  expect(programFor(path, self, thereIs(there))).toBe(program)
})
