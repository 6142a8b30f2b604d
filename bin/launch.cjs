// Starts a built program, or prints why it can't, and what to do about it. Any Node has to be able to read this file, the oldest too.

// Node opens its inspector at this signal, to every user of the machine, who could read the keys there: before anything else is loaded. What
// the user asks for by NODE_OPTIONS is their own.
process.on('SIGUSR1', () => {})

// biome-ignore-start lint/style/useNodejsImportProtocol: Nodes before 14.18 don't know it
const { createHash } = require('crypto')
const { accessSync, constants, existsSync, readFileSync, renameSync, statSync, writeFileSync } = require('fs')
const { dirname, join } = require('path')
const { Script } = require('vm')
// biome-ignore-end lint/style/useNodejsImportProtocol: likewise

/** The least Node, as package.json says, too: major and minor. */
const LEAST = [20, 19]

/** Where a built program lies. @param {string} program its name */
const bundleOf = (program) => join(__dirname, '..', 'dist', `${program}.cjs`)

/** What keeps the program from running, and what to do about it; empty where nothing does. */
function faultOf(bundle) {
  const [major, minor] = process.versions.node.split('.').map(Number)
  if (major < LEAST[0] || (major === LEAST[0] && minor < LEAST[1])) {
    const fault = `expected Node ${LEAST.join('.')} or later, got ${process.versions.node}, which is ${process.execPath}`
    return `${fault}\nhint: install a newer Node for all users, or put it first in PATH`
  }
  try {
    accessSync(bundle, constants.R_OK)
    return ''
  } catch ({ code }) {
    // A package has no sources.
    const remedy = existsSync(join(__dirname, '..', 'src')) ? 'run "npm run build"' : 'install Knockturn again'
    if (code === 'ENOENT') return `${bundle}: the built program is missing\nhint: ${remedy}`
    return `${bundle}: the built program cannot be read (${code})\nhint: let every user read dist`
  }
}

/** Length of the digest in front of a cache: of the Node, of the bundle, and of what the one has made of the other. */
const DIGEST = 32

/**
 * V8 itself compares no more than the bundle's length and V8's own version: Node 20.19 takes what 20.20 has made, and crashes. So this very
 * executable it must be.
 */
function digestOf(source, compiled) {
  const { size, mtimeMs } = statSync(process.execPath)
  const node = [process.version, process.arch, size, mtimeMs].join(' ')
  return createHash('sha256').update(node).update(source).update(compiled).digest()
}

/** What V8 compiled of a bundle when it was built, or undefined: whatever is wrong with it, the program starts as well without, only later. */
function cacheOf(bundle, source) {
  try {
    const cache = readFileSync(`${bundle}.cache`)
    const compiled = cache.subarray(DIGEST)
    return cache.subarray(0, DIGEST).equals(digestOf(source, compiled)) ? compiled : undefined
  } catch {
    return undefined
  }
}

/** Compiles a bundle, as Node would a module. V8 itself turns down what has been made with other flags. */
function compile(bundle) {
  const source = readFileSync(bundle)
  const wrapped = `(function(exports,require,module,__filename,__dirname){${source.toString('latin1')}\n})`
  return { source, script: new Script(wrapped, { filename: bundle, cachedData: cacheOf(bundle, source) }) }
}

function run(script, bundle) {
  const module = { exports: {} }
  script.runInThisContext().call(module.exports, module.exports, require, module, bundle, dirname(bundle))
}

/** @param {string} program its name */
module.exports = (program) => {
  const bundle = bundleOf(program)
  const fault = faultOf(bundle)
  if (fault === '') return run(compile(bundle).script, bundle)
  process.stderr.write(`${program}: error: ${fault}\n`)
  process.exitCode = 1
}

/** Runs a program, and keeps what has been compiled then. */
function runForCache(program) {
  const bundle = bundleOf(program)
  const { source, script } = compile(bundle)
  process.on('exit', () => {
    const path = `${bundle}.cache`
    const compiled = script.createCachedData()
    writeFileSync(`${path}.new`, Buffer.concat([digestOf(source, compiled), compiled]))
    renameSync(`${path}.new`, path)
  })
  run(script, bundle)
}

// node launch.cjs <program> …: for src/build/build.mjs.
if (require.main === module) runForCache(process.argv.splice(2, 1)[0])
