import { generateKeyPairSync } from 'node:crypto'
import { rootCertificates } from 'node:tls'
import { describe, expect, it } from 'vitest'
import { readTrust } from '../../../../src/daemon/fleet/etcd/tls'
import { inOneLine } from '../../../../src/system/fault'
import { put, scratch } from '../../../system/scratch'
import { open } from './fake'

const [CERTIFICATE = ''] = rootCertificates
const key = (cipher?: { cipher: string; passphrase: string }) =>
  generateKeyPairSync('ec', { namedCurve: 'prime256v1' }).privateKey.export({ type: 'pkcs8', format: 'pem', ...cipher }) as string
const file = (text: string, mode = 0o600) => put(scratch(), 'file.pem', text, mode)
const faultOf = (tls: Partial<Parameters<typeof readTrust>[0]>) =>
  readTrust({ ca: null, cert: null, key: null, ...tls }).then(() => null, inOneLine)

describe('the files of TLS', () => {
  it('need not be there: what Node trusts counts', async () => {
    expect(await faultOf({})).toBeNull()
    expect(await faultOf({ ca: file(CERTIFICATE, 0o644) })).toBeNull()
  })

  it.each(['ca', 'cert'])('are refused where %s has no certificate in it', async (name) => {
    for (const text of ['', 'garbage', '-----BEGIN CERTIFICATE-----\nzzzz\n-----END CERTIFICATE-----\n', key()]) {
      const path = file(text)
      expect(await faultOf({ [name]: path })).toBe(`${path}: expected a certificate in PEM, got something else`)
    }
  })

  it.each([
    ['is none', () => 'garbage'],
    ['is of another certificate', () => key()],
    ['is encrypted', () => key({ cipher: 'aes-256-cbc', passphrase: 'hunter2' })],
  ])('are refused where the key %s, of which nothing is said', async (_, text) => {
    const secret = text()
    const [cert, path] = [file(CERTIFICATE), file(secret)]
    const fault = await faultOf({ cert, key: path })
    expect(fault).toMatch(new RegExp(`^${cert}, ${path}: cannot be used for TLS: \\S`))
    expect(secret.split('\n').filter((line) => line.length > 20 && fault?.includes(line))).toEqual([])
  })

  it.each([0o640, 0o604])('are refused where others may read the key: mode %o', async (mode) => {
    const path = file(key(), mode)
    expect(await faultOf({ cert: file(CERTIFICATE), key: path })).toBe(
      `${path}: expected mode 0600, got 0${mode.toString(8)}: run "chmod 600 ${path}"`,
    )
  })

  it('are refused where others may write whom we trust', async () => {
    expect(await faultOf({ ca: file(CERTIFICATE, 0o666) })).toContain('users other than its owner may write it')
  })

  it('are read when etcd is opened, and not where nothing needs them', async () => {
    const tls = { ca: '/nowhere/ca.pem', cert: null, key: null }
    await expect(open(['https://127.0.0.1:9'], { tls })).rejects.toThrow('/nowhere/ca.pem: cannot be read')
    await open(['http://127.0.0.1:9'], { tls })
  })
})
