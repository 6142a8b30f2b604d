import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { logged } from '../lab/gate'
import type { Host } from '../lab/host'
import { knocked } from '../lab/knocks'
import { Lab } from '../lab/lab'
import { besiege } from '../lab/siege'
import { until } from '../lab/waiters'
import { BIN } from '../root'
import { OwnEtc, SET_UP } from './own-etc'

/* What "knockturn setup" tries goes back, or stays, whole: on real rules and files, without systemd. */

const TRIAL = join(BIN, 'knockturn-trial')
const SSH = 22
const ROUNDS = 20
/** Milliseconds for dozens of trials, one after the other, on a busy machine. */
const LONG = 900_000

/** What SET_UP does, from what it has left before, which is kept aside: a try takes no second. $0: the programs */
const KEEP = 'mkdir /mnt/kept && cp -a /etc/knockturn /etc/systemd/system/knockturn-trial.service /mnt/kept/'
const AGAIN = `
  set -e
  useradd --system --user-group --shell /usr/sbin/nologin knockturn
  cp -a /mnt/kept/knockturn /etc/
  mkdir -p /var/lib/knockturn /var/lib/knockturn-orders /etc/systemd/system/sysinit.target.wants
  echo spent > /var/lib/knockturn/ledger
  cp -a /mnt/kept/knockturn-trial.service /etc/systemd/system/
  ln -s ../knockturn-trial.service /etc/systemd/system/sysinit.target.wants/
  "$0/knockturn-guard"`

/** The timers of this host. */
const TIMERS = `
  for file in $(grep -ls 'knockturn-tria[l]' /proc/[0-9]*/cmdline); do
    process=\${file%/cmdline}
    [ "$(readlink "$process/ns/net")" != "$(readlink /proc/self/ns/net)" ] || echo "\${process#/proc/}"
  done`

/** Stands in front of programs that change something, and kills the script (with all of its group) in the place of the call number $KILL_AT. */
const SHIMS = `
  mkdir -p /mnt/shims
  for name in cp mv rm nft userdel iptables-restore ip6tables-restore setsid sync; do
    { echo '#!/bin/sh'
      echo 'n=$(($(cat /mnt/calls) + 1)); echo $n > /mnt/calls'
      echo '[ $n != "$KILL_AT" ] || kill -KILL 0'
      echo "exec $(command -v $name) \\"\\$@\\""
    } > /mnt/shims/$name
    chmod +x /mnt/shims/$name
  done`
/** $0: at which call, $1…: the script. It leads a group of its own. */
const KILLED = `echo 0 > /mnt/calls; export KILL_AT="$0" PATH="/mnt/shims:$PATH"; exec /usr/bin/setsid --wait "$@"`

describe.each([
  { backend: 'nftables', kind: 'nft' },
  { backend: 'iptables', kind: 'nft' },
  { backend: 'iptables', kind: 'legacy' },
] as const)('a trial of $backend, with iptables-$kind', ({ backend, kind }) => {
  let lab: Lab
  let server: Host
  let client: Host
  let stranger: Host
  let place: OwnEtc
  /** As it was before the first trial. */
  let before = ''

  const trial = (...argv: string[]) => place.run([TRIAL, ...argv], { timeoutMs: 60_000 })
  const state = async () => (await trial('state')).stdout.trim()
  const isOver = () => until(async () => (await state()) === 'none', 'the trial is over', 60_000)
  const sees = async (host: Host) => (await host.connect(server.ipv4, SSH)).saw
  const setUp = () => place.sh(SET_UP, process.execPath, BIN, backend)
  /** A trial that lasts long, with all of a set-up in it. */
  const tryAgain = async () => {
    expect(await trial('begin', '600')).toMatchObject({ code: 0, stderr: '' })
    await place.sh(AGAIN, BIN)
  }
  const timers = async () => (await place.sh(TIMERS)).split('\n').filter(Boolean).length

  beforeAll(async () => {
    lab = new Lab(['client', 'stranger'])
    await lab.build()
    ;({ server, client, stranger } = lab.hosts as { server: Host; client: Host; stranger: Host })
    await server.service(SSH)
    place = new OwnEtc(server)
    await place.mount(kind)
    // Rules of others: a table of iptables-legacy that is there once never goes.
    await place.sh(`
      iptables -A INPUT -p tcp --dport 7 -j ACCEPT
      nft 'add table inet other; add chain inet other input { type filter hook input priority 0; }; add rule inet other input counter'
      ${kind === 'legacy' ? 'for i in iptables ip6tables; do for t in filter mangle; do $i -t $t -A OUTPUT -p tcp --dport 7; done; done' : ''}`)
    before = await place.snapshot()
    expect(before).not.toContain('knockturn')
  })
  afterAll(() => lab?.end())

  it('goes back when that is asked for, and all is as it was', async () => {
    expect(await trial('begin', '600')).toMatchObject({ code: 0, stderr: '' })
    await setUp()
    expect(await sees(stranger)).toBe('silence')
    await place.sh(KEEP)
    expect(await trial('revert')).toMatchObject({ code: 0, stderr: '' })
    expect([await place.snapshot(), await sees(stranger)]).toEqual([before, 'open'])
  })

  it('goes back when its time is over, whatever was killed, without the rules that others have added, and cuts no connection', async () => {
    const session = await client.hold(server.ipv4, SSH)
    // What has begun it is killed, with its terminal.
    const setup = place.start(['setsid', 'sh', '-c', '"$0" begin 30 && echo begun && sleep 600', TRIAL])
    await setup.line((line) => line === 'begun')
    await place.sh(AGAIN, BIN)
    await place.sh('rm /var/lib/knockturn/ledger')
    const daemon = place.start([process.execPath, join(BIN, 'knockdaemon'), '--allow-root', '--new-ledger'])
    await daemon.line(logged('ready'))
    await setup.end('SIGKILL')
    expect([await sees(stranger), await session.isAlive()]).toEqual(['silence', true])
    expect(await state()).toMatch(/^trial [1-9]/)
    await place.sh(`
      nft 'add rule inet other input tcp dport 4711 accept; add table ip another'
      iptables -I INPUT -p tcp --dport 4712 -j ACCEPT; iptables -t mangle -A PREROUTING -p tcp --dport 4713 -j ACCEPT`)
    await isOver()
    expect((await trial('outcome')).stdout).toBe('reverted\n')
    expect([await sees(stranger), await session.isAlive()]).toEqual(['open', true])
    // The daemon was ended.
    expect(await daemon.exited).toMatchObject({ signal: null })
    const rules = await place.snapshot()
    for (const port of [4711, 4712, 4713]) expect(rules).toContain(`dport ${port}`)
    await place.sh(`
      nft 'delete table ip another; flush chain inet other input; add rule inet other input counter'
      iptables -D INPUT -p tcp --dport 4712 -j ACCEPT; iptables -t mangle -D PREROUTING -p tcp --dport 4713 -j ACCEPT
      ${kind === 'nft' ? 'nft delete table ip mangle' : ''}`)
    expect(await place.snapshot()).toBe(before)
    expect(await timers()).toBe(0)
    await session.end()
  })

  it('ends who has set things up, so that nothing is changed afterwards', async () => {
    const setup = place.start([
      'sh',
      '-c',
      'trap "echo told; exit" TERM; "$0" begin 600 $$; echo begun; while :; do sleep 1; done',
      TRIAL,
    ])
    await setup.line((line) => line === 'begun')
    // It stands still, as after Ctrl-Z.
    setup.child.kill('SIGSTOP')
    expect(await trial('revert')).toMatchObject({ code: 0 })
    expect((await setup.exited).signal).toBe('SIGKILL')
    expect(await place.snapshot()).toBe(before)
  })

  it('stays when it is confirmed: what it was tried with is there, and nothing of the trial', async () => {
    await trial('begin', '600')
    await setUp()
    const tried = (await place.snapshot()).replace(/^.*knockturn-trial (?!service).*\n/gm, '')
    expect(await trial('confirm')).toMatchObject({ code: 0, stderr: '' })
    expect((await place.snapshot()).split('\n')).toEqual(
      tried.split('\n').filter((line) => !line.includes('/var/lib/knockturn-trial')),
    )
    expect([await state(), (await trial('outcome')).stdout, await timers()]).toEqual(['none', 'confirmed\n', 0])
    expect(await sees(stranger)).toBe('silence')
  })

  it('puts back a guard and the files that were there before: no port is open for a moment, and leases stay', async () => {
    const daemon = place.start([process.execPath, join(BIN, 'knockdaemon'), '--allow-root', '--new-ledger'])
    await daemon.line(logged('ready'))
    const key = join(lab.folder(), 'alice.key')
    await place.must([process.execPath, join(BIN, 'knockturn'), 'key', 'export', 'alice', '--out', key])
    await knocked(client, daemon, key, '-p', `${SSH}`, '-t', '10m')
    await daemon.end()
    expect([await sees(client), await sees(stranger)]).toEqual(['open', 'silence'])
    const guarded = (await place.snapshot()).replace(/^.*\/ledger(?: f .*)?\n/gm, '')
    await trial('begin', '600')
    await place.sh(`
      printf 'guard = ["23/tcp", "22/tcp"]\\n' > /etc/knockturn/knockturn.toml
      rm /etc/knockturn/keys/alice.key; echo later >> /var/lib/knockturn/ledger; echo x > /etc/systemd/system/knockdaemon.service`)
    await place.sh(
      backend === 'nftables'
        ? "nft 'add chain inet knockturn more; add rule inet knockturn guard jump more; add set inet knockturn more { type ipv4_addr; }'"
        : 'iptables -t mangle -N KNOCKTURN-CLOSED-2; iptables -t mangle -X KNOCKTURN-CLOSED-2; iptables -t mangle -F KNOCKTURN-TAPS; iptables -t mangle -I PREROUTING -p tcp --dport 9',
    )
    const siege = besiege(stranger, server.ipv4, SSH)
    expect(await trial('revert')).toMatchObject({ code: 0, stderr: '' })
    const { silence, ...rest } = await siege.end()
    expect([rest, silence]).toEqual([{}, expect.any(Number)])
    expect(await sees(client)).toBe('open')
    if (backend === 'iptables') await place.sh('iptables -t mangle -D PREROUTING -p tcp --dport 9')
    const restored = (await place.snapshot()).replace(/^.*\/ledger(?: f .*)?\n/gm, '')
    expect(restored).toBe(guarded)
    // The ledger alone is that of now: an older one would let spent knocks in again.
    expect(await place.must(['tail', '-n', '1', '/var/lib/knockturn/ledger'])).toBe('later\n')
  })

  it('leaves nothing of ours in the firewall when that is asked for, and says what is open', async () => {
    const { code, stdout, stderr } = await place.run([join(BIN, 'knockturn-unguard')])
    expect([code, stdout, stderr]).toEqual([0, expect.stringMatching(/^open now, .* 22\/tcp/), ''])
    expect(await sees(stranger)).toBe('open')
    await place.sh(
      'userdel knockturn; rm -rf /etc/knockturn /var/lib/knockturn /var/lib/knockturn-orders /etc/systemd/system/*.wants/knockturn* /etc/systemd/system/knockturn* /etc/systemd/system/nftables.service.d',
    )
    expect(await place.snapshot()).toBe(before)
  })

  // What is killed is the same with any rules.
  it.runIf(backend === 'nftables').each([
    // Each of its calls would take ten minutes.
    ['begin', 2],
    ['revert', 4],
    ['confirm', 1],
  ])(
    'comes to one of its ends though "%s" is killed, whenever that is',
    async (command, stride) => {
      await place.sh(SHIMS)
      let tried = ''
      const ends = new Set<string>()
      for (let n = 1; ; n += stride) {
        if (command !== 'begin') {
          await tryAgain()
          tried = (await place.snapshot())
            .split('\n')
            .filter((line) => !line.includes('/var/lib/knockturn-trial'))
            .join('\n')
        }
        const argv = [TRIAL, command, ...(command === 'begin' ? ['600'] : [])]
        const { code } = await place.run(['sh', '-c', KILLED, `${n}`, ...argv])
        const left = await state()
        if (command === 'begin') {
          // What runs has a timer, which nothing that kills us takes away.
          if (left !== 'none') expect(await timers()).toBeGreaterThan(0)
          // Nothing but its own folder was touched, whether it has begun or not.
          expect(
            (await place.snapshot())
              .split('\n')
              .filter((line) => !line.includes('/var/lib/knockturn-trial'))
              .join('\n'),
          ).toBe(before)
        }
        // As the timer does, or the next boot.
        expect(await trial('settle')).toMatchObject({ code: 0, stderr: '' })
        const end = await place.snapshot()
        ends.add(end === before ? 'before' : end === tried ? 'tried' : `neither, at call ${n}, ${left}: ${end}`)
        expect(left === 'confirmed').toBe(end === tried && left !== 'none')
        await place.sh(`for process in $(${TIMERS}); do kill -KILL "$process"; done`)
        if (end === tried) await clear()
        if (code === 0) {
          expect(n).toBeGreaterThan(4)
          break
        }
      }
      expect([...ends].sort()).toEqual(command === 'confirm' ? ['before', 'tried'] : ['before'])
    },
    LONG,
  )

  /** What a confirmed trial has left, as "knockturn uninstall" does. */
  const clear = () =>
    place.sh(
      '"$0/knockturn-unguard"; userdel knockturn; rm -rf /etc/knockturn /var/lib/knockturn /var/lib/knockturn-orders /etc/systemd/system/*.wants/knockturn* /etc/systemd/system/knockturn*',
      BIN,
    )

  it('has one end where a confirmation and two reverts come at the same moment', async () => {
    for (let n = 0; n < ROUNDS; n++) {
      await tryAgain()
      const tried = (await place.snapshot())
        .split('\n')
        .filter((line) => !line.includes('/var/lib/knockturn-trial'))
        .join('\n')
      const words = n % 2 ? ['revert', 'confirm', 'revert'] : ['confirm', 'revert', 'revert']
      const ended = await Promise.all(words.map((word) => trial(word)))
      const codes = words.map((word, i) => [word, ended[i]?.code])
      const isConfirmed = codes.some(([word, code]) => word === 'confirm' && code === 0)
      expect(codes.filter(([, code]) => code !== 0 && code !== 1)).toEqual([])
      if (isConfirmed) expect(codes).toEqual(words.map((word) => [word, word === 'confirm' ? 0 : 1]))
      else expect(codes).toContainEqual(['revert', 0])
      expect(await place.snapshot()).toBe(isConfirmed ? tried : before)
      expect(await state()).toBe('none')
      if (isConfirmed) await clear()
    }
  })

  it('is not ended by the timer of an earlier one', async () => {
    await trial('begin', '3')
    const [token] = (await place.must(['cat', '/var/lib/knockturn-trial/trial/token'])).split('\n')
    await trial('confirm')
    await trial('begin', '600')
    expect(await trial('settle', `${token}`)).toMatchObject({ code: 0 })
    expect(await state()).toMatch(/^trial /)
    await trial('revert')
    expect(await place.snapshot()).toBe(before)
  })

  it('is not begun while one runs, nor where the disk is full, and then nothing has changed', async () => {
    await trial('begin', '600')
    expect(await trial('begin', '600')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('a trial is there already: trial '),
    })
    await trial('revert')
    await place.sh(
      'install -d -m 700 /etc/knockturn && head -c 1000000 /dev/urandom > /etc/knockturn/large; cat /dev/zero > /mnt/full; truncate -s -100000 /mnt/full',
    )
    const now = await place.snapshot()
    expect(await trial('begin', '600')).toMatchObject({ code: 1, stderr: expect.stringContaining('No space left') })
    expect([await place.snapshot(), await timers()]).toEqual([now, 0])
    await place.sh('rm -r /mnt/full /etc/knockturn')
    expect(await place.snapshot()).toBe(before)
  })

  it('goes back where the disk is full, down to the last folder', async () => {
    await tryAgain()
    await place.sh(`
      mount -o remount,nr_inodes=$(($(df --output=iused /mnt | tail -n 1) + 50)) /mnt
      mkdir /mnt/fill; i=0; while mkdir /mnt/fill/$i 2> /dev/null; do i=$((i + 1)); done`)
    expect(await trial('revert')).toMatchObject({ code: 0, stderr: '' })
    await place.sh('rm -r /mnt/fill && mount -o remount,nr_inodes=100000 /mnt')
    expect(await place.snapshot()).toBe(before)
  })

  it('is not held up by programs of other users that call themselves daemons, and leaves them alone', async () => {
    await place.sh('cp "$0" /run/node && chmod 755 /run/node', process.execPath)
    // As often as it is ended, another one is there.
    const swarm = `while :; do /run/node -e 'setTimeout(() => {}, 600000)' knockdaemon; done`
    const fakes = place.start(['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', 'sh', '-c', `echo begun; ${swarm}`])
    await fakes.line((line) => line === 'begun')
    await trial('begin', '600')
    const late = place.start(['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', 'sh', '-c', `echo begun; ${swarm}`])
    await late.line((line) => line === 'begun')
    expect(await place.sh('"$0" daemons', join(BIN, 'knockturn-unguard'))).toBe('')
    expect(await trial('revert')).toMatchObject({ code: 0, stderr: '' })
    expect(await state()).toBe('none')
    await Promise.all([fakes.end('SIGKILL'), late.end('SIGKILL')])
    await place.sh('rm /run/node')
  })

  it('is not led astray by links that the daemon’s user has planted', async () => {
    await place.sh(`
      useradd --system --user-group knockturn
      install -d -m 700 -o knockturn /etc/knockturn/keys /var/lib/knockturn
      install -d /etc/precious && echo precious > /etc/precious/file
      ln -s /etc/precious /etc/knockturn/keys/there; ln -s /etc/precious/file /etc/knockturn/keys/alice
      ln -s /etc/precious /var/lib/knockturn/ledger.d`)
    const planted = await place.snapshot()
    await trial('begin', '600')
    // While it runs, all of what is theirs leads elsewhere.
    await place.sh(`
      rm -r /etc/knockturn/keys/*; ln -s /etc/precious /var/lib/knockturn/ledger; ln -s /etc/precious/file /var/lib/knockturn/ledger.new
      rmdir /etc/knockturn/keys && ln -s /etc/precious /etc/knockturn/keys; ln -s /etc/precious /etc/knockturn/more`)
    expect(await trial('revert')).toMatchObject({ code: 0 })
    expect(await place.sh('cat /etc/precious/file; ls /etc/precious; stat -c "%U %a" /etc/precious')).toBe(
      'precious\nfile\nroot 755\n',
    )
    expect(await place.snapshot()).toBe(planted)
    // A folder of theirs could become a link to another while it is copied, however it is called.
    for (const name of ['folder', '.folder', '..folder']) {
      const folder = `/etc/knockturn/keys/${name}`
      await place.sh('mkdir "$0" && chown knockturn "$0"', folder)
      expect(await trial('begin', '600')).toMatchObject({
        code: 1,
        stderr: expect.stringContaining(`${folder}: expected no folder`),
      })
      expect(await state()).toBe('none')
      await place.sh('rmdir "$0"', folder)
    }
    await place.sh('userdel knockturn; rm -rf /etc/knockturn /var/lib/knockturn /etc/precious')
  })
})
