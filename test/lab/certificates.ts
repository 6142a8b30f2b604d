import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { must } from './processes'

/** Paths of what a client of TLS shows and trusts. */
export interface ClientTls {
  readonly ca: string
  readonly cert: string
  readonly key: string
}

const DAYS = '30'
const CURVE = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-noenc']

/**
 * Makes certificates by an authority of their own: one that servers at these addresses have, and one that clients show.
 * @param folder to lie in; of each, NAME.pem and NAME.key
 * @param addresses IPs
 */
export async function makeCertificates(
  folder: string,
  addresses: readonly string[],
): Promise<{ server: ClientTls; client: ClientTls }> {
  const path = (name: string) => join(folder, name)
  const key = (name: string) => ['-keyout', path(`${name}.key`)]
  await must(['openssl', 'req', '-x509', ...CURVE, ...key('ca'), '-out', path('ca.pem'), '-days', DAYS, '-subj', '/CN=lab'])
  const names = addresses.map((address) => `IP:${address}`).join()
  const uses = {
    server: `subjectAltName=${names}\nextendedKeyUsage=serverAuth,clientAuth\n`,
    client: 'extendedKeyUsage=clientAuth\n',
  }
  // By its organisation: where etcd has users, its JSON gateway refuses a client whose certificate has a common name.
  const issue = async (name: keyof typeof uses): Promise<ClientTls> => {
    writeFileSync(path(`${name}.ext`), uses[name])
    await must(['openssl', 'req', ...CURVE, ...key(name), '-out', path(`${name}.csr`), '-subj', `/O=${name}`])
    const by = ['-CA', path('ca.pem'), '-CAkey', path('ca.key'), '-CAcreateserial', '-days', DAYS]
    await must([
      'openssl',
      'x509',
      '-req',
      '-in',
      path(`${name}.csr`),
      ...by,
      '-extfile',
      path(`${name}.ext`),
      '-out',
      path(`${name}.pem`),
    ])
    return { ca: path('ca.pem'), cert: path(`${name}.pem`), key: path(`${name}.key`) }
  }
  const server = await issue('server')
  const client = await issue('client')
  return { server, client }
}
