import { createHash } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { tmpdir } from 'node:os'
import { isAbsolute, join } from 'node:path'
import { crc32 } from 'node:zlib'
import { parsePublished, parseSockets } from '../../src/admin/setup/listeners'
import { mappedAddress } from '../../src/client/stun'
import { readConfig } from '../../src/daemon/config'
import { parseRecord, readLedger } from '../../src/daemon/ledger/record'
import { journalReader } from '../../src/daemon/taps/journal'
import { lineSplitter } from '../../src/daemon/taps/lines'
import { logLineReader, MAX_LINE } from '../../src/daemon/taps/log-line'
import { packetReader } from '../../src/daemon/taps/packet'
import { pcapReader } from '../../src/daemon/taps/pcap'
import { Ledger, type LedgerRecord } from '../../src/gate/ledger'
import type { Tap } from '../../src/gate/tap'
import { formatKeyFile, parseKeyFile } from '../../src/keys/key-file'
import { isKeyLine, isWholeLine, readKeyLine } from '../../src/keys/key-line'
import { canonicalAddress } from '../../src/protocol/address'
import { Fault } from '../../src/system/fault'
import { etcdTargets } from './etcd'
import { chunksOf, type Material } from './mutate'

/* What reads bytes from outside, and what it promises for any bytes. */

/** A reader, and its promises. */
export interface Target extends Material {
  readonly name: string
  /** Reads an input. @throws if a promise is broken */
  readonly read: (input: Buffer, random: () => number) => unknown
}

const PREFIX = 'KNOCK: '

function promise(holds: boolean, otherwise: string): asserts holds {
  if (!holds) throw new Error(otherwise)
}

/** Whatever its source, a tap has addresses in their canonical form, and a port. */
function checkTap({ source, destination, port, payload }: Tap): void {
  promise(Number.isInteger(port) && port >= 1 && port <= 65_535, `a tap has the port ${port}`)
  promise(payload === undefined || [36, 48].includes(payload.length), `a tap has a payload of ${payload?.length} bytes`)
  for (const address of [source, destination]) promise(canonicalAddress(address) === address, `a tap has the address ${address}`)
}

const same = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b)

// ---- LOG lines

const line = (fields = '', rest = 'PROTO=TCP SPT=49362 DPT=50001 WINDOW=64240 RES=0x00 SYN URGP=0 ') =>
  `KNOCK: IN=eth0 OUT= MAC=aa:bb:cc:dd:ee:ff:00:11:22:33:44:55:08:00 SRC=198.51.100.2 DST=198.51.100.1 LEN=60 TOS=0x00 PREC=0x00 TTL=64 ID=47803 DF ${fields}${rest}`
const line6 =
  'KNOCK: IN=eth0 OUT= MAC=aa:bb:cc:dd:ee:ff SRC=2001:0db8:0000:0000:0000:0000:0000:0002 DST=2001:db8::1 LEN=48 TC=0 HOPLIMIT=64 FLOWLBL=0 PROTO=UDP SPT=40000 DPT=50001 LEN=8 '
const structured =
  '<4>1 2026-11-22T18:43:19+01:00 gate kernel - - [timeQuality tzKnown="1" isSynced="1"][origin ip="2001:db8::1"] '
const decoded = (text: string) =>
  text.replace(/MAC=\S+/, 'MACSRC=aa:bb:cc:dd:ee:ff MACDST=00:11:22:33:44:55 VPROTO=8100 VID=10 MACPROTO=0800')
const LOG_WORDS =
  'SRC= DST= DPT= SPT= LEN= PROTO=TCP PROTO=UDP SYN ACK OPT( UID=0 MARK=0x2a IN= OUT= MAC= MACPROTO=0800 FRAG:0 caller= KNOCK: :: ::ffff:1.2.3.4 0.0.0.0 \n \r = [ ] ; ="'
const textOf = (...lines: string[]): Buffer => Buffer.from(lines.map((line) => `${line}\n`).join(''), 'latin1')

const logLines: Target = {
  name: 'log-lines',
  samples: [
    textOf(`Nov 22 12:00:00 gate kernel: [ 3329.127466] ${line()}`),
    textOf(`[    1.000000] ${line('', 'PROTO=UDP SPT=1 DPT=50002 LEN=8 ')}`, line6),
    textOf(`Nov 22 18:43:19 gate ${line().replace('KNOCK: ', 'KNOCK:  ').replace('0x00', '00')}`, 'something else', line()),
    textOf(`${structured}${decoded(line('OPT (94040000) '))}`, `4,154,41660000,-,caller=C1;${line()}`),
    textOf(line6.replace('PROTO', 'OPT ( FRAG:0 INCOMPLETE ID:00001234 ) PROTO'), `${line6}\r`),
  ],
  words: LOG_WORDS.split(' '),
  read(input, random) {
    const readLine = logLineReader(PREFIX)
    const hear = (chunks: Buffer[]): Tap[] => {
      const taps: Tap[] = []
      const lines = lineSplitter((text) => {
        promise(text.length <= MAX_LINE + 1 && !text.includes('\n'), `a line has ${text.length} characters`)
        const tap = readLine(text)
        if (!tap) return
        checkTap(tap)
        // From one packet and no other: each field is there once, with this value.
        for (const field of [' SRC=', ' DST=', ' DPT='])
          promise(text.split(field).length === 2, `a tap comes from a line with${field} more than once`)
        promise(new RegExp(` DPT=0*${tap.port} `).test(text), `a tap has a port that is not in its line`)
        taps.push(tap)
      })
      for (const chunk of chunks) lines.push(chunk.toString('latin1'))
      lines.end()
      return taps
    }
    promise(same(hear([input]), hear(chunksOf(input, random))), 'the taps depend on how the text is cut')
  },
}

// ---- the journal

const entry = (fields: object): string =>
  JSON.stringify({ __CURSOR: 's=b3f0;i=8dc', _BOOT_ID: 'c8f2', _TRANSPORT: 'kernel', ...fields })

const journal: Target = {
  name: 'journal',
  samples: [
    textOf(entry({ MESSAGE: line() })),
    textOf(entry({ MESSAGE: [...Buffer.from(line6)] }), entry({ _TRANSPORT: 'syslog', MESSAGE: line() })),
    textOf(entry({ _TRANSPORT: 'driver', MESSAGE: 'Missed 12 kernel messages' }), entry({ MESSAGE: line() })),
  ],
  words: [
    ...'"_TRANSPORT" "MESSAGE" "kernel" "syslog" "driver" null [ ] { } , : \\n \\u0000 __proto__ Missed'.split(' '),
    line(),
  ],
  read(input) {
    const counters = { seen: 0, ignored: 0, unreadable: 0, dropped: 0 }
    let taps = 0
    let entry = ''
    const readEntry = journalReader(PREFIX, counters, (tap) => {
      checkTap(tap)
      promise(JSON.parse(entry)._TRANSPORT === 'kernel', 'a tap comes from an entry that is not the kernel’s')
      taps++
    })
    const lines = lineSplitter((text) => {
      entry = text
      readEntry(text)
    })
    lines.push(input.toString('latin1'))
    promise(counters.seen - counters.ignored === taps && Number.isSafeInteger(counters.dropped), 'the counters are wrong')
    promise(counters.unreadable <= counters.ignored, 'more entries are unreadable than ignored')
  },
}

// ---- pcap

/** What tcpdump 4.99 wrote of nflog: TCP by IPv4 and by IPv6, and UDP. */
const CAPTURE = Buffer.from(
  `d4c3b2a1020004000000000000000000 00010000ef000000 9a37036b9f8a0500a8000000a8000000
   0200000708000100 080001000c000a00 4b4e4f434b3a2000 0800040000000002 1000080000060000 960b37b282260000
   06000f0000010000 06001100000e0000 12001000d2394976 8d05960b37b28226 0800000014000300 000000006b03379a
   00000000000589ec 400009004500003c 1eaa40004006c7a7 c6336402c6336401 d55cc351b35c22b2 00000000a002faf0
   54990000020405b4 0402080af689eac4 000000000103030a
   9a37036b048b0500bc000000bc000000
   0a00000708000100 86dd01000c000a00 4b4e4f434b3a2000 0800040000000002 1000080000060000 960b37b282260000
   06000f0000010000 06001100000e0000 12001000d2394976 8d05960b37b28226 86dd000014000300 000000006b03379a
   0000000000058ace 54000900600c6b43 0028064020010db8 0001000000000000 0000000220010db8 0001000000000000
   000000018b2ac351 02e1d35d00000000 a002fd205ba50000 020405a00402080a 2a78df6c00000000 0103030a
   9a37036b3d8f05008800000088000000
   0200000708000100 080001000c000a00 4b4e4f434b3a2000 0800040000000002 1000080000060000 960b37b282260000
   06000f0000010000 06001100000e0000 12001000d2394976 8d05960b37b28226 0800000014000300 000000006b03379a
   0000000000058f06 200009004500001c a4b54000401141b1 c6336402c6336401 95b4c35200085484`.replace(/\s/g, ''),
  'hex',
)

/** Bytes of a capture's head. */
const HEAD = 24

/** A record with a datagram knock: the UDP one of {@link CAPTURE}, made longer by its payload, with all lengths corrected. */
const DATAGRAM = (() => {
  const payload = 36
  const record = Buffer.concat([CAPTURE.subarray(-152), Buffer.alloc(payload, 0xa5)])
  const packet = record.length - 16
  record.writeUInt32LE(packet, 8)
  record.writeUInt32LE(packet, 12)
  const ip = record.length - payload - 28
  record.writeUInt16LE(4 + 28 + payload, ip - 4)
  record.writeUInt16BE(28 + payload, ip + 2)
  record.writeUInt16BE(8 + payload, ip + 24)
  return record
})()
/** The port of that datagram, and that of TCP in {@link CAPTURE}. */
const DATAGRAM_PORTS = [0xc352, 0xc351]

const pcap: Target = {
  name: 'pcap',
  samples: [
    CAPTURE,
    CAPTURE.subarray(0, HEAD + 16 + 168),
    Buffer.concat([CAPTURE.subarray(0, HEAD), CAPTURE.subarray(-152)]),
    Buffer.concat([CAPTURE.subarray(0, HEAD), DATAGRAM]),
  ],
  words: ['\0\0\0\0', '\u0001\0\0\0', PREFIX, 'E\0', '`\0', '\0\u002c', '\u0006', '\u0011', '\0\u0038'],
  read(input, random) {
    const readPacket = packetReader(PREFIX, DATAGRAM_PORTS)
    const hear = (chunks: Buffer[]): unknown => {
      const taps: Tap[] = []
      let begun = 0
      const read = pcapReader(
        () => begun++,
        (bytes, from, to) => {
          promise(0 <= from && from <= to && to <= bytes.length, 'a packet is beyond its bytes')
          const tap = readPacket(bytes, from, to)
          promise(
            same(tap, readPacket(Buffer.from(bytes.subarray(from, to)))),
            'a packet is read with bytes that are not its own',
          )
          if (!tap) return
          checkTap(tap)
          taps.push(tap)
        },
      )
      try {
        for (const chunk of chunks) read(chunk)
      } catch (error) {
        // Its one way to report that it is no such stream.
        promise(error instanceof Error && error.message.startsWith('expected '), `it throws ${error}`)
        return [taps, begun, error.message]
      }
      return [taps, begun]
    }
    promise(same(hear([input]), hear(chunksOf(input, random))), 'the taps depend on how the stream is cut')
  },
}

// ---- STUN

const TRANSACTION = Buffer.alloc(12, 0xa5)
const STUN_HEAD = 20

/** A STUN answer with the cookie, transaction and length that it should have. */
function answered(input: Buffer): Buffer {
  // A length of 16 bits, and a multiple of 4.
  const attributes = input.subarray(STUN_HEAD, STUN_HEAD + (Math.min(input.length - STUN_HEAD, 0xffff) & ~3))
  const head = Buffer.alloc(STUN_HEAD)
  head.writeUInt16BE(input[1] === 0x11 ? 0x0111 : 0x0101)
  head.writeUInt16BE(attributes.length, 2)
  head.writeUInt32BE(0x2112a442, 4)
  head.set(TRANSACTION, 8)
  return Buffer.concat([head, attributes])
}

const MAPPED = '002000080001a147e112a643'
const MAPPED6 = '002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9'

const stun: Target = {
  name: 'stun',
  samples: [MAPPED, `8022000361626300${MAPPED}`, MAPPED6].map((attributes) =>
    answered(Buffer.concat([Buffer.alloc(STUN_HEAD), Buffer.from(attributes, 'hex')])),
  ),
  words: ['\0\u0020', '\0\t', '\0\b', '\0\u0014', '\u0001\u0011', '\0\u0001', '\0\u0002'],
  mend: answered,
  read(input) {
    for (const family of [4, 6] as const) {
      try {
        const address = mappedAddress(input, TRANSACTION, family)
        promise(address === null || isIP(address) === family, `over IPv${family} our address is ${address}`)
      } catch (error) {
        // Its one way to report that the server gives no address.
        promise(error instanceof Fault, `it throws ${error}`)
      }
    }
  },
}

// ---- TOML

const TOML_WORDS =
  '"""  \'\'\' [ ] [[ ]] { } = , . # \\u0000 \\UFFFFFFFF inf nan -0 0x 1e400 true 2026-13-45T99:00:00Z 07:32:00 __proto__ constructor \n \r\n'

/** Faults are the one way to refuse, and name their file. */
function checkFaults(path: string, faults: readonly Fault[]): void {
  promise(faults.length > 0, 'it is refused without a fault')
  for (const fault of faults) {
    promise(fault instanceof Fault && fault.message.startsWith(path), `a fault does not name its file: ${fault.message}`)
    promise(fault.message.length < 1_000 && !/[\n\r]/.test(fault.message), `a fault is not one short line: ${fault.message}`)
  }
}

/** A file of its own, for a reader that wants one. */
let file = ''
function fileWith(input: Buffer): string {
  if (!file) {
    const folder = mkdtempSync(join(tmpdir(), 'knockturn-fuzz-'))
    process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
    file = join(folder, 'knockturn.toml')
  }
  writeFileSync(file, input)
  return file
}

const config: Target = {
  name: 'config',
  samples: [
    textOf('server = "gate.example"'),
    textOf(
      ...['server = "gate.example"', 'keys = "/keys"', 'skew = 2', 'never_lock = ["192.0.2.1", "2001:db8::/32"]', '[taps]'],
      ...[
        'source = "stdin"',
        'target = "log"',
        'group = 7',
        'prefix = "DOOR: "',
        '[datagram]',
        'ports = []',
        '[firewall]',
        'backend = "dry-run"',
        '[ledger]',
      ],
      'path = "/ledger"',
    ),
    textOf('server = "x"', 'taps = { source = "file", file = "log" } # a comment', "ledger.path = 'state'"),
  ],
  words: [
    ...TOML_WORDS.split(' '),
    ...'server keys skew never_lock taps source file target group prefix datagram ports firewall backend ledger path'.split(' '),
  ],
  async read(input) {
    const path = fileWith(input)
    const { value, faults } = await readConfig(path)
    if (!value) return checkFaults(path, faults)
    const { keys, skew, taps, datagram, ledger } = value
    promise(
      datagram.ports.length <= (taps.source === 'nflog' ? 15 : 0) && datagram.ports.every((port) => port >= 1 && port <= 65_535),
      `the ports of datagrams are ${datagram.ports}`,
    )
    promise([keys, ledger.path, taps.file ?? '/'].every(isAbsolute), 'a path is not absolute')
    promise(Number.isInteger(skew) && skew >= 0 && skew <= 10, `the skew is ${skew}`)
    promise(Number.isInteger(taps.group) && taps.group >= 0 && taps.group <= 65_535, `the group is ${taps.group}`)
    promise(/^[!-~][ -~]{0,28}$/.test(taps.prefix), `the prefix is ${JSON.stringify(taps.prefix)}`)
  },
}

const SECRET = 'MFRGGZDFMZTWQ2LKNNWG23TPOBYXE43UOV3HO6DZPIYTEMZUGU3A'

const keyFile: Target = {
  name: 'key-file',
  samples: [
    textOf('id = "alice"', `secret = "${SECRET}"`, 'server = "gate.example"', '[grant]', 'services = ["22/tcp"]'),
    textOf(
      ...['id = "bob-2"', `secret = "${SECRET}"`, 'server = ""', 'period = 60', 'pool = "20000-25635,40000-45635"', 'host = "x"'],
      ...['created = 2026-01-02T03:04:05Z', 'expires = 2027-01-02T03:04:05Z', '[grant]', 'services = ["22/tcp", "53/udp"]'],
      ...['max = "30m"', 'addresses = ["198.51.100.0/24"]', 'bind_source = false', 'require_address = true', 'lock = true'],
    ),
  ],
  words: [
    ...TOML_WORDS.split(' '),
    ...'id secret server period pool created expires revoked host grant services max addresses lock'.split(' '),
  ],
  read(input) {
    const { value, faults } = parseKeyFile('a.key', input.toString())
    if (!value) return checkFaults('a.key:', faults)
    // What it has understood it can write, and read again.
    const text = formatKeyFile(value)
    const again = parseKeyFile('a.key', text).value
    promise(again !== undefined && formatKeyFile(again) === text, 'a written key file is not read as the same key')
  },
}

// ---- a key as a line

/** A line for an age file, which need not be one. */
function keyLineOf(file: Buffer): Buffer {
  const check = createHash('sha256').update(file).digest().subarray(0, 4)
  return Buffer.from(`knockclient add kt1.${file.toString('base64url')}.${check.toString('base64url')}\n`)
}

const keyLine: Target = {
  name: 'key-line',
  samples: ['age-encryption.org/v1\n-> scrypt c2FsdA 16\n--- bWFj\n', 'x', 'y'.repeat(300)].map((text) =>
    keyLineOf(Buffer.from(text)),
  ),
  words: ['kt1.', '.', '-', '_', 'A', '=', ' ', '\n', '\r\n> ', '"', "'", '$ ', '# ', 'knockclient add ', 'kt2.', '\u200b'],
  mend(input) {
    const [, encoded = ''] = input.toString().split('.')
    return keyLineOf(Buffer.from(encoded, 'base64url'))
  },
  read(input) {
    const text = input.toString()
    let file: Uint8Array
    try {
      file = readKeyLine('a', text)
    } catch (error) {
      return checkFaults('a:', [error as Fault])
    }
    promise(isKeyLine(text) && isWholeLine(text), 'what it reads is no whole line')
    // Whatever got in on its way, it is the line that was printed.
    const [, encoded] = keyLineOf(Buffer.from(file)).toString().split('.')
    promise(text.replace(/[^\w-]/g, '').includes(encoded), 'it read another file than the line has')
  },
}

// ---- the ledger

const F = '00112233445566778899aabbccddeeff'
const V = 'ffeeddccbbaa99887766554433221100'
const bodies = [
  'base 1795000000 2',
  `floor ${F} 30 59833333`,
  `spent ${F} 30 59833334 ${V} 59833332`,
  `spent ${F} 30 59833335 ${F} 59833333`,
  `spent ${V} 60 29916667 ${V} 29916665`,
]

/** Bytes of a ledger's first line. */
const HEADER = 36

/** Gives a ledger the checksums and the length that it should have. */
function sealed(input: Buffer): Buffer {
  const [, ...lines] = input.toString('latin1').split('\n')
  const rest = lines.map((line) => {
    const body = line.slice(0, Math.max(0, line.lastIndexOf(' ')))
    return line === '' ? '' : `${body} ${crc32(body).toString(16).padStart(8, '0')}`
  })
  const text = rest.join('\n')
  return Buffer.from(`knockturn-ledger 1 ${String(HEADER + text.length).padStart(16, '0')}\n${text}`, 'latin1')
}

const ledger: Target = {
  name: 'ledger',
  samples: [bodies, bodies.slice(2), [...bodies, ...bodies]].map((some) =>
    sealed(textOf('', ...some.map((body) => `${body} 0`))),
  ),
  words: ['base ', 'floor ', 'spent ', F, V, '\n', '\0', ' ', 'knockturn-ledger 1 0000000000000036\n'],
  mend: sealed,
  read(input) {
    const { state, records } = readLedger(input)
    promise(state === 'whole' || state === 'damaged', `it is ${state}`)
    const texts = input.toString('latin1', HEADER).split('\n')
    const lines = new Set(texts.map((line) => JSON.stringify(parseRecord(line))))
    const isThere = records.every((record) => lines.has(JSON.stringify(record)))
    promise(isThere, 'it read a record that is not in the file')
    // What a ledger remembers survives a compaction.
    const kept = (from: Iterable<LedgerRecord>) => [...new Ledger(from, { append: async () => {} }, 1).records()]
    const once = kept(records)
    promise(same(kept(once), once), 'a compaction loses records')
    for (const record of once) if (record.kind !== 'base') promise(record.floor >= 0, `a floor is ${record.floor}`)
  },
}

// ---- what listens here, as ss and the programs of containers print it: local users name their programs as they like

const listeners: Target = {
  name: 'listeners',
  samples: [
    textOf(
      'tcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:(("sshd",pid=800,fd=7)) ino:5245 sk:1005 cgroup:/system.slice/ssh.service <->',
      'udp UNCONN 0 0 127.0.0.53%lo:53 0.0.0.0:* users:(("systemd-resolve",pid=612,fd=14)) uid:991 ino:5241 sk:1001 cgroup:/ <->',
      'udp UNCONN 0 0 [fe80::1]%eth0:546 [::]:* users:(("dhcpcd",pid=700,fd=6)) uid:1000 ino:5244 sk:1004 cgroup:/ v6only:1 <->',
    ),
    textOf('0.0.0.0:8080->80/tcp, [::]:8080->80/tcp', '0.0.0.0:8000-8002->8000-8002/udp', '443/tcp'),
  ],
  words: ['users:((', '",pid=1,fd=3)', 'uid:1000', 'uid:0', '*:22', '[::]:1', '%lo', '->', '/tcp', '-', ':', ', ', '65535', '\n'],
  read(input) {
    const text = input.toString('utf8')
    const { found, unknown } = parseSockets(text)
    const lines = text.split('\n').length
    promise(found.length <= lines && unknown.length <= 1, 'it found more than there are lines')
    for (const { port } of [...found.map(({ service }) => service), ...parsePublished(text)])
      promise(Number.isInteger(port) && port >= 1 && port <= 65_535, `a service has the port ${port}`)
  },
}

export const targets: readonly Target[] = [
  listeners,
  logLines,
  journal,
  pcap,
  stun,
  config,
  keyFile,
  keyLine,
  ledger,
  ...etcdTargets,
]
