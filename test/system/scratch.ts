import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { base32nopad } from '@scure/base'
import { afterAll } from 'vitest'

const made: string[] = []
afterAll(() => {
  for (const folder of made.splice(0)) rmSync(folder, { recursive: true, force: true })
})

/** A new folder of mode 0700, deleted after the tests of this file. */
export function scratch(): string {
  const folder = mkdtempSync(join(tmpdir(), 'knockturn-test-'))
  made.push(folder)
  return folder
}

/** Writes a file of just that mode, whatever the umask. */
export function put(folder: string, name: string, content: string | Uint8Array, mode = 0o600): string {
  const path = join(folder, name)
  writeFileSync(path, content)
  chmodSync(path, mode)
  return path
}

/** A secret in base32, another for each number. */
export function secretOf(n: number): string {
  return base32nopad.encode(Uint8Array.from({ length: 32 }, (_, i) => (n * 101 + i * 7) & 0xff))
}

/** A server's key file. Each argument stands in it as it is given, so that faults can be put in. */
export function keyText({
  id = 'alice',
  secret = secretOf(1),
  server = 'gate.example',
  more = '',
  grant = 'services = ["22/tcp"]',
} = {}): string {
  return `id = "${id}"\nsecret = "${secret}"\nserver = "${server}"\n${more}${grant && `\n[grant]\n${grant}\n`}`
}
