// Loaded in front of a client or a daemon by NODE_OPTIONS: notes when each step of a knock is done, on the machine's monotonic clock in
// milliseconds, as hand.mjs. What it takes itself is in its figures.

const childProcess = process.getBuiltinModule('node:child_process')
const fs = process.getBuiltinModule('node:fs')
const { basename, join } = process.getBuiltinModule('node:path')

const moment = () => Number(process.hrtime.bigint()) / 1e6
/** Bytes of a chunk of tcpdump's that is a packet at least, and not what the capture begins with. */
const PACKET = 40

/** @type {Record<string, number>} */
const marks = {}
/** Has a function of an object do something more. @param {any} object @param {string} name @param {(result: any, args: any[]) => void} then */
function after(object, name, then) {
  const own = object[name]
  object[name] = function (/** @type {any[]} */ ...args) {
    const result = own.apply(this, args)
    then(result, args)
    return result
  }
}

/** Watches what is done with open files. @param {(handles: any) => void} watch is given what all of their handles are made from */
async function watchHandles(watch) {
  const file = await fs.promises.open(__filename)
  watch(Object.getPrototypeOf(file))
  await file.close()
}

/** Notes the first time that something is called. @param {any} object @param {string} name @param {string} mark */
const markFirst = (object, name, mark) => after(object, name, () => (marks[mark] ??= moment()))

function watchClient() {
  marks.started = moment() - performance.now()
  marks.node = moment()
  // Its key is the first thing that a client opens that way.
  markFirst(process.getBuiltinModule('node:fs/promises'), 'open', 'loaded')
  // What a window's codebook is made with.
  markFirst(process.getBuiltinModule('node:crypto'), 'createCipheriv', 'key')
  const { Socket } = process.getBuiltinModule('node:net')
  markFirst(Socket.prototype, 'connect', 'first')
  after(Socket.prototype, 'connect', () => (marks.last = moment()))
  process.on('exit', () => fs.writeFileSync(join(__dirname, 'client.json'), JSON.stringify(marks)))
}

function watchDaemon() {
  let heard = 0
  after(childProcess, 'spawn', (child, [command, args]) => {
    const words = [command, ...args].map((word) => basename(String(word)))
    if (words.includes('tcpdump'))
      child.stdout.on('data', (/** @type {Buffer} */ chunk) => {
        if (chunk.length >= PACKET) heard = moment()
      })
    if (words.some((word) => word.startsWith('iptables-restore')))
      child.on('exit', () => {
        marks.force = moment()
        fs.writeFileSync(join(__dirname, 'daemon.json'), JSON.stringify(marks))
      })
  })
  watchHandles((handles) => {
    after(handles, 'write', () => {
      marks.heard = heard
      marks.decoded = moment()
    })
    after(handles, 'datasync', (done) => done.then(() => (marks.disk = moment())))
  })
}

const program = basename(process.argv[1] ?? '')
if (program === 'knockclient') watchClient()
if (program === 'knockdaemon') watchDaemon()
