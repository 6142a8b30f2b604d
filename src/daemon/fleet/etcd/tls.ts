import { createHash, createPrivateKey, X509Certificate } from 'node:crypto'
import { createSecureContext, type SecureContext } from 'node:tls'
import { Fault, reason } from '../../../system/fault'
import { checkHidden, checkOwned, readText } from '../../../system/files'
import type { FleetConfig } from '../config'

/** Longest file of certificates, in bytes: all that a Debian trusts are a quarter of it. */
export const MAX_PEM = 1024 * 1024
/** Longest file of a key, in bytes. */
const MAX_KEY = 64 * 1024

/** What a connection over TLS begins with: whom we trust, and who we are. */
export interface Trust {
  readonly context: SecureContext
  /** A digest of the files, to see by whether they are other ones. */
  readonly digest: string
}

/**
 * Reads the files of TLS.
 * @throws {Fault} where one can't be read or is not what it should be, or others may read the key
 */
export async function readTrust({ ca, cert, key }: FleetConfig['tls']): Promise<Trust> {
  const [ours, own, secret] = [
    ca === null ? undefined : await readText(ca, MAX_PEM, checkOwned),
    cert === null ? undefined : await readText(cert, MAX_PEM, checkOwned),
    key === null ? undefined : await readText(key, MAX_KEY, (path, stats) => checkHidden(path, stats, 0o600)),
  ]
  checkCertificate(ca, ours)
  checkCertificate(cert, own)
  try {
    const context = createSecureContext({
      minVersion: 'TLSv1.2',
      ...given('ca', ours),
      ...given('cert', own),
      ...given('key', secret),
    })
    // Of two kinds of keys OpenSSL says nothing, and shows neither.
    if (own !== undefined && secret !== undefined && !new X509Certificate(own).checkPrivateKey(createPrivateKey(secret)))
      throw new Error('the key is of another certificate')
    const digest = createHash('sha256')
      .update(JSON.stringify([ours, own, secret]))
      .digest('hex')
    return { context, digest }
  } catch (error) {
    // OpenSSL's words name what is wrong, and quote nothing of a file.
    throw new Fault(`${[ca, cert, key].filter((path) => path !== null).join(', ')}: cannot be used for TLS: ${reason(error)}`)
  }
}

/** Node takes a text without a certificate for one with none, and then trusts nobody. @throws {Fault} */
function checkCertificate(path: string | null, text: string | undefined): void {
  if (path === null || text === undefined) return
  try {
    new X509Certificate(text)
  } catch {
    throw new Fault(`${path}: expected a certificate in PEM, got something else`)
  }
}

const given = <Name extends string>(name: Name, value: string | undefined) =>
  (value === undefined ? {} : { [name]: value }) as Partial<Record<Name, string>>
