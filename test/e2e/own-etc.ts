import { readFileSync } from 'node:fs'
import type { Host } from '../lab/host'
import type { RunOptions } from '../lab/processes'

/** Its /etc and /var/lib are this machine's with a layer in memory on top, its /run is empty: no systemd runs there. */
const MOUNT = `
  mount -t tmpfs -o size="$1" knockturn /mnt && mkdir /mnt/etc /mnt/etc-work /mnt/lib /mnt/lib-work || exit
  mount -t overlay -o lowerdir=/etc,upperdir=/mnt/etc,workdir=/mnt/etc-work overlay /etc || exit
  mount -t overlay -o lowerdir=/var/lib,upperdir=/mnt/lib,workdir=/mnt/lib-work overlay /var/lib || exit
  mount -t tmpfs knockturn /run && mkdir /run/lock || exit
  # Nothing of Knockturn's that this machine may have.
  rm -rf /etc/knockturn /var/lib/knockturn /var/lib/knockturn-orders /var/lib/knockturn-trial /etc/systemd/system/*.wants/knock* /etc/systemd/system/knock*
  ! grep -q ^knockturn: /etc/passwd || userdel knockturn || exit
  # A user's number of its own: no user is deleted who has a process, and those of the other worlds are seen from here.
  sed -i '/^SYS_[UG]ID_M/d' /etc/login.defs
  for name in SYS_UID_MIN SYS_UID_MAX SYS_GID_MIN SYS_GID_MAX; do echo "$name $2" >> /etc/login.defs; done
  echo mounted
  exec sleep infinity`

/** What iptables is there, by Debian's alternatives, which lie in /etc. */
const ALTERNATIVE = `
  for name in iptables ip6tables; do for end in '' -save -restore; do
    ln -sf "/usr/sbin/$name-$0$end" "/etc/alternatives/$name$end"
  done; done`

/** What rules there are, without counters and sources that were just heard, and what of ours is in the file system, with the content of each file. */
const SNAPSHOT = `
  { nft -s list ruleset | sed '/^[^@]* limit rate over /d'
    for name in iptables ip6tables iptables-legacy ip6tables-legacy; do echo "# $name"; "$name-save" | sed '/^#/d; s/ \\[[0-9]*:[0-9]*\\]$//'; done
    find /etc/knockturn /var/lib/knockturn /var/lib/knockturn-orders /var/lib/knockturn-trial /etc/.knockturn-trial /etc/systemd/system -printf '%p %y %m %U %G %T@ %l\\n' | grep knock | sort
    find /etc/knockturn /var/lib/knockturn /var/lib/knockturn-orders -type f -exec sha256sum {} + | sort
    grep ^knockturn: /etc/passwd /etc/group /etc/shadow
  } 2> /dev/null`

/** What a set-up does, but for its words, and what the first order leaves. $0: node, $1: the programs, $2: the backend */
export const SET_UP = `
  set -e
  useradd --system --user-group --shell /usr/sbin/nologin knockturn
  install -d -m 700 /etc/knockturn/keys /var/lib/knockturn /var/lib/knockturn/answers
  install -d -m 755 /var/lib/knockturn-orders
  echo '{}' > /var/lib/knockturn/state.json
  printf '%s\\n' 'server = "gate.example"' '[firewall]' "backend = \\"$2\\"" 'guard = ["22/tcp"]' > /etc/knockturn/knockturn.toml
  [ -e /etc/knockturn/keys/alice.key ] || "$0" "$1/knockturn" key new alice --host 198.51.100.1 --services 22/tcp
  "$0" "$1/knockturn" guard save
  mkdir -p /etc/systemd/system/sysinit.target.wants /etc/systemd/system/nftables.service.d
  echo '[Unit]' > /etc/systemd/system/knockturn-trial.service
  echo '[Service]' > /etc/systemd/system/nftables.service.d/knockturn.conf
  ln -s ../knockturn-trial.service /etc/systemd/system/sysinit.target.wants/
  "$1/knockturn-guard"`

/** Milliseconds after which a script hangs: a trial is a hundred small programs, and a busy machine takes its time for each. */
const PATIENCE = 120_000

/** A host that has its own /etc, /var/lib and /run, so that what sets a server up may be run there. Its processes end with the lab. */
export class OwnEtc {
  readonly #host: Host
  #enter: string[] = []

  constructor(host: Host) {
    this.#host = host
  }

  /** @param kind of iptables @param size of the memory that what is written lies in */
  async mount(kind: 'nft' | 'legacy' = 'nft', size = '64m'): Promise<void> {
    const user = 300 + (process.pid % 600)
    const holder = this.#host.start(['unshare', '--mount', 'sh', '-c', MOUNT, 'sh', size, `${user}`])
    await holder.line((line) => line === 'mounted')
    this.#enter = ['nsenter', '-t', `${holder.pid}`, '--mount', '--']
    await this.sh(ALTERNATIVE, kind)
  }

  /** A command there, for whoever starts it otherwise. */
  command(argv: string[]): string[] {
    return ['ip', 'netns', 'exec', this.#host.namespace, ...this.#enter, ...argv]
  }

  run(argv: string[], options: RunOptions = {}) {
    return this.#host.run([...this.#enter, ...argv], { timeoutMs: PATIENCE, ...options })
  }

  must(argv: string[], options: RunOptions = {}) {
    return this.#host.must([...this.#enter, ...argv], { timeoutMs: PATIENCE, ...options })
  }

  start(argv: string[]) {
    return this.#host.start([...this.#enter, ...argv])
  }

  /** Runs a script that has to succeed. @param args its $0, $1, … */
  sh(script: string, ...args: string[]) {
    return this.must(['sh', '-c', script, ...args])
  }

  /** All of what a set-up may change, as text. */
  async snapshot(): Promise<string> {
    return (await this.run(['sh', '-c', SNAPSHOT])).stdout
  }
}

/** Milliseconds since the boot, as processes count them. */
export const uptime = (): number => 1_000 * Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0])
