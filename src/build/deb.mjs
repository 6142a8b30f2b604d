// npm run deb: dist/knockturn_VERSION_all.deb, of what npm run build has put into dist. Of the same commit it is the same, byte for byte.
//
//     node src/build/deb.mjs      # prints the package's path
//
// Nothing of it lies in /etc or /var: dpkg asks no question, and `knockturn setup` writes what is the machine's own.

import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  chmodSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import { commitOf } from './commit.mjs'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const PLACE = '/usr/lib/knockturn'
const DOCUMENTS = '/usr/share/doc/knockturn'
const UNITS = '/usr/lib/systemd/system'
/** Units that are there for emergencies and do nothing otherwise: nobody has to enable them. By the target that wants them. */
const ALWAYS_WANTED = { 'knockturn-trial.service': 'sysinit.target' }
/** Where each shell looks for the completion of a program. @type {Record<string, (program: string) => string>} */
const COMPLETIONS = {
  bash: (program) => `/usr/share/bash-completion/completions/${program}`,
  zsh: (program) => `/usr/share/zsh/vendor-completions/_${program}`,
  fish: (program) => `/usr/share/fish/vendor_completions.d/${program}.fish`,
}

/** @param {string} path */
const read = (path) => readFileSync(join(ROOT, path), 'utf8')
/** The files of a folder, in one order everywhere. @param {string} folder @param {RegExp} like @returns {string[]} */
const filesIn = (folder, like) =>
  readdirSync(join(ROOT, folder))
    .filter((name) => like.test(name))
    .sort()
/** @param {string} text */
const gzip = (text) => gzipSync(text, { level: 9 })
const { version, bin } = JSON.parse(read('package.json'))
const { date } = commitOf(ROOT)

/** The paths of a checkout, where ours are others. @param {string} text */
const moved = (text) =>
  text.replaceAll(/\/opt\/knockturn\/(?=docs\/|README)/g, `${DOCUMENTS}/`).replaceAll('/opt/knockturn', PLACE)

/** A unit without what its head says of copying it, which ends with a colon and has commands below. @param {string} text */
function unit(text) {
  const [head = '', ...rest] = text.split('\n\n')
  const [first = ''] = head.split(/\n#\n/)
  const what = first.replaceAll('\n# ', ' ').replace(/ (Copy this .*|[^.\n]*:)$/m, '')
  return moved([what, ...rest].join('\n\n')).replaceAll(/(?<!\/)docs\/(?=[\w-]+\.md)/g, `${DOCUMENTS}/docs/`)
}

/** A package that is being put together in a folder. */
class Package {
  /** @param {string} folder */
  constructor(folder) {
    this.folder = folder
  }

  /** @param {string} path @param {string | Uint8Array} data @param {number} [mode] */
  put(path, data, mode = 0o644) {
    const place = join(this.folder, path)
    mkdirSync(dirname(place), { recursive: true })
    writeFileSync(place, data)
    chmodSync(place, mode)
  }

  /** @param {string} path @param {string} target */
  link(path, target) {
    const place = join(this.folder, path)
    mkdirSync(dirname(place), { recursive: true })
    symlinkSync(target, place)
  }

  /** Its files and folders, in one order everywhere. @returns {string[]} */
  paths() {
    return /** @type {string[]} */ (readdirSync(this.folder, { recursive: true })).sort()
  }

  /** Its files, without links and what dpkg itself keeps. */
  files() {
    return this.paths().filter((path) => !path.startsWith('DEBIAN') && lstatSync(join(this.folder, path)).isFile())
  }
}

/** @param {Package} deb */
function putPrograms(deb) {
  for (const name of filesIn('bin', /./)) {
    // Debian's own Node, whatever is first in somebody's PATH.
    const text = read(`bin/${name}`).replace(/^#!\/usr\/bin\/env node$/m, '#!/usr/bin/node')
    deb.put(`${PLACE}/bin/${name}`, text, text.startsWith('#!') ? 0o755 : 0o644)
  }
  for (const name of filesIn('dist', /\.cjs$/)) deb.put(`${PLACE}/dist/${name}`, read(`dist/${name}`))
  for (const [name, path] of Object.entries(bin)) deb.link(`/usr/bin/${name}`, `../lib/knockturn/${path}`)
}

/** @param {Package} deb @returns the names of the units */
function putUnits(deb) {
  const units = filesIn('docs/systemd', /\.(service|timer)$/)
  for (const name of units) deb.put(`${UNITS}/${name}`, unit(read(`docs/systemd/${name}`)))
  for (const [name, target] of Object.entries(ALWAYS_WANTED))
    if (units.includes(name)) deb.link(`${UNITS}/${target}.wants/${name}`, `../${name}`)
  deb.put('/usr/lib/sysusers.d/knockturn.conf', unit(read('docs/systemd/knockturn.sysusers.conf')))
  return units
}

/** @param {Package} deb */
function putCompletions(deb) {
  for (const program of ['knockclient', 'knockturn'])
    for (const [shell, placeOf] of Object.entries(COMPLETIONS)) {
      const argv = [join(ROOT, 'bin', program), 'completion', shell]
      deb.put(placeOf(program), execFileSync(process.execPath, argv, { env: { PATH: process.env.PATH, HOME: '/nonexistent' } }))
    }
}

/** @param {Package} deb */
function putDocuments(deb) {
  for (const name of filesIn('docs/man', /\.\d$/))
    deb.put(`/usr/share/man/man${name.at(-1)}/${name}.gz`, gzip(moved(read(`docs/man/${name}`))))
  deb.put(`${DOCUMENTS}/README.md`, read('README.md'))
  for (const name of filesIn('docs', /\.(md|svg)$/)) deb.put(`${DOCUMENTS}/docs/${name}`, read(`docs/${name}`))
  // What an administrator copies into a folder of systemd's, where it is of use.
  for (const name of filesIn('docs/systemd', /^(?!.*sysusers).*\.conf$/))
    deb.put(`${DOCUMENTS}/docs/systemd/${name}`, moved(read(`docs/systemd/${name}`)))
  deb.put(`${DOCUMENTS}/examples/knockturn.toml`, read('src/build/debian/knockturn.toml'))
  deb.put(`${DOCUMENTS}/examples/example.key`, read('keys/example.key'))
  deb.put('/usr/share/lintian/overrides/knockturn', read('src/build/debian/lintian-overrides'))
  const day = new Date(date * 1000).toUTCString().replace('GMT', '+0000')
  const maintainer = /^Maintainer: (.*)$/m.exec(read('src/build/debian/control'))?.[1]
  const change = `  * What has changed is in ${DOCUMENTS}/docs/CHANGELOG.md.`
  deb.put(
    `${DOCUMENTS}/changelog.gz`,
    gzip(`knockturn (${version}) unstable; urgency=medium\n\n${change}\n\n -- ${maintainer}  ${day}\n`),
  )
  // Debian has a copy of this licence for all packages.
  const apache = '$1 The full text is in /usr/share/common-licenses/Apache-2.0 on Debian systems.\n'
  deb.put(`${DOCUMENTS}/copyright`, read('dist/copyright').replace(/^(License: Apache-2\.0\n)(?: .*\n)+/m, apache))
}

/** What dpkg needs to know. @param {Package} deb @param {string[]} units */
function putControl(deb, units) {
  const files = deb.files()
  const bytes = (/** @type {string} */ path) => readFileSync(join(deb.folder, path))
  const digest = (/** @type {string} */ path) => createHash('md5').update(bytes(path)).digest('hex')
  const kilobytes = files.reduce((sum, path) => sum + Math.ceil(bytes(path).length / 1024), deb.paths().length - files.length)
  const fill = (/** @type {string} */ name) =>
    read(`src/build/debian/${name}`)
      .replaceAll('@VERSION@', version)
      .replaceAll('@SIZE@', String(kilobytes))
      .replaceAll('@UNITS@', units.join(' '))
      .replaceAll('@UNINSTALL@', () => read('bin/knockturn-uninstall').trimEnd())
  deb.put('DEBIAN/control', fill('control'))
  deb.put('DEBIAN/md5sums', files.map((path) => `${digest(path)}  ${path}\n`).join(''))
  for (const script of ['postinst', 'prerm', 'postrm']) deb.put(`DEBIAN/${script}`, fill(script), 0o755)
}

/** What must not depend on who builds, and when. @param {Package} deb */
function settle(deb) {
  for (const path of ['', ...deb.paths()]) {
    const place = join(deb.folder, path)
    if (lstatSync(place).isDirectory()) chmodSync(place, 0o755)
    lutimesSync(place, date, date)
  }
}

/** @param {string} folder for what goes in @returns the package's path */
function make(folder) {
  const deb = new Package(folder)
  putPrograms(deb)
  const units = putUnits(deb)
  putCompletions(deb)
  putDocuments(deb)
  putControl(deb, units)
  settle(deb)
  const path = join(ROOT, 'dist', `knockturn_${version}_all.deb`)
  // By the compression that each dpkg reads, of Debian and of its descendants.
  execFileSync('dpkg-deb', ['--root-owner-group', '-Zxz', '--build', folder, path], {
    env: { ...process.env, SOURCE_DATE_EPOCH: String(date) },
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  return path
}

const folder = mkdtempSync(join(tmpdir(), 'knockturn-deb-'))
try {
  process.stdout.write(`${make(folder)}\n`)
} catch (error) {
  const { syscall, message } = /** @type {NodeJS.ErrnoException} */ (error)
  if (syscall !== 'spawnSync dpkg-deb') throw error
  process.stderr.write(`deb: error: ${message}\nhint: run this where dpkg is, on Debian or one of its descendants\n`)
  process.exitCode = 1
} finally {
  rmSync(folder, { recursive: true, force: true })
}
