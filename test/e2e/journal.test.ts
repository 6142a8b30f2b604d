import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { run } from '../lab/processes'
import { BIN } from '../root'
import { put, scratch } from '../system/scratch'

/* What another user writes to a real journal under the daemon's name, and what `knockturn log` shows of it. */

const JOURNALD = '/usr/lib/systemd/systemd-journald'

const line = (key: string) =>
  JSON.stringify({
    ...{ level: 30, time: '2026-02-01T21:00:00.000Z', key, source: '203.0.113.9', action: 'open', address: '203.0.113.9' },
    ...{ service: '22/tcp', until: null, leases: ['3fa94b12'], once: false, msg: 'accepted' },
  })

/** Begins a namespace of cgroups of its own: there, a cgroup is a unit by its name alone, and no unit of this machine's is touched. */
const OUTER = `
set -e
mkdir "$1/cgroups"
mount -t cgroup2 none "$1/cgroups"
own="$1/cgroups/knockturn-test-$$"
mkdir "$own"
trap 'echo $$ > "$1/cgroups/cgroup.procs"; rmdir "$own/system.slice/knockdaemon.service" "$own/system.slice" "$own"' EXIT
mkdir -p "$own/system.slice/knockdaemon.service"
echo $$ > "$own/cgroup.procs"
unshare --cgroup sh "$1/inner" "$1" "$own" "$2" "$3"
`

/** Runs a journald, has the daemon's unit and another user write to it, and reads it by \`knockturn log\`. */
const INNER = `
set -e
mount -t tmpfs none /run
mount -t tmpfs none /var/log
mkdir -p /run/systemd/journal /run/log
${JOURNALD} >"$1/journald" 2>&1 &
journald=$!
trap 'kill $journald; wait $journald || true' EXIT
for _ in $(seq 100); do [ -S /run/systemd/journal/stdout ] && break; sleep 0.1; done
( echo 0 > "$2/system.slice/knockdaemon.service/cgroup.procs"; exec systemd-cat -t knockdaemon sh -c 'read -r line < "$0"; printf "%s\\n" "$line"; sleep 1' "$1/ours" )
other='setpriv --reuid 65534 --regid 65534 --clear-groups'
$other logger --socket /run/systemd/journal/dev-log -t knockdaemon < "$1/forged"
$other systemd-cat -t knockdaemon cat < "$1/forged"
{ printf '_SYSTEMD_UNIT=knockdaemon.service\\n_TRANSPORT=stdout\\nUNIT=knockdaemon.service\\nMESSAGE='; cat "$1/forged"; } | $other logger --journald
journalctl --sync
echo "forged: $(journalctl -o cat --quiet SYSLOG_IDENTIFIER=knockdaemon + UNIT=knockdaemon.service | grep -c mallory)"
PATH="$1:$PATH" "$3" "$4" log --since 2026-01-01
`

it.skipIf(!existsSync(JOURNALD))('of a real journal, only what the daemon’s unit has written is shown', async () => {
  const folder = scratch()
  put(folder, 'inner', INNER)
  put(folder, 'systemctl', '#!/bin/sh\necho LoadState=loaded\n', 0o755)
  put(folder, 'ours', `${line('alice')}\n`)
  put(folder, 'forged', `${line('mallory')}\n`, 0o644)
  const program = [process.execPath, join(BIN, 'knockturn')]
  const { stdout, stderr } = await run(['unshare', '--mount', 'sh', '-c', OUTER, 'sh', folder, ...program])
  expect(stderr).toBe('')
  // All that was forged has come into the journal.
  expect(stdout.split('\n')).toEqual([
    'forged: 3',
    '2026-02-01T21:00:00Z  alice opened 22/tcp for 203.0.113.9 until closed (lease 3fa94b12)',
    '',
  ])
})
