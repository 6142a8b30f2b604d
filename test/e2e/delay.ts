import type { Host } from '../lab/host'

// A long way to the switch: a relay that keeps each frame for some time, where the kernel has no netem.

/**
 * Relays frames between two interfaces. Veth leaves checksums to hardware that is not there, so they are made here. Time is counted in the ticks of
 * times(2), of 10 ms, which is all that Debian's smallest perl has.
 */
const RELAY = `
use Socket;
use POSIX ();
my ($ms, @names) = @ARGV;
my (@ends, @kept);
for (@names) {
  open my $index, '<', "/sys/class/net/$_/ifindex" or die "$_: $!";
  socket my $end, 17, SOCK_RAW, unpack('S', pack('n', 3)) or die $!;
  bind $end, pack('S n i S C C a8', 17, 3, <$index>, 0, 0, 0, '') or die "$_: $!";
  push @ends, $end;
}
sub now { (POSIX::times())[0] * 1000 / POSIX::sysconf(POSIX::_SC_CLK_TCK()) }
sub summed {
  my ($at, $length, $protocol, $addresses) = @_;
  my $field = $protocol == 6 ? 16 : $protocol == 17 ? 6 : return;
  substr($_, $at + $field, 2) = "\\0\\0";
  my $sum = unpack '%32n*', $addresses . pack('n n', $protocol, $length) . substr($_, $at, $length) . "\\0" x ($length % 2);
  $sum = ($sum & 0xffff) + ($sum >> 16) while $sum >> 16;
  substr($_, $at + $field, 2) = pack 'n', ~$sum & 0xffff || 0xffff;
}
$| = 1;
print "relaying\\n";
while (1) {
  my $ready = '';
  vec($ready, fileno $_, 1) = 1 for @ends;
  my $wait = @kept ? $kept[0][0] - now() : undef;
  select $ready, undef, undef, defined $wait ? ($wait > 0 ? $wait / 1000 : 0) : undef;
  for my $i (0, 1) {
    next unless vec $ready, fileno $ends[$i], 1;
    my $from = recv $ends[$i], $_, 65536, 0;
    # What this relay has sent itself is heard, too.
    next if !defined $from || ord(substr $from, 10, 1) == 4;
    my $type = unpack 'x12 n', $_;
    if ($type == 0x0800) {
      my $head = (ord(substr $_, 14, 1) & 15) * 4;
      summed(14 + $head, unpack('x16 n', $_) - $head, ord(substr $_, 23, 1), substr $_, 26, 8);
    } elsif ($type == 0x86dd) {
      summed(54, unpack('x18 n', $_), ord(substr $_, 20, 1), substr $_, 22, 32);
    }
    push @kept, [now() + $ms, $ends[1 - $i], $_];
  }
  while (@kept && $kept[0][0] <= now()) {
    my (undef, $to, $frame) = @{ shift @kept };
    send $to, $frame, 0;
  }
}
`

/** Moves a host away from the switch. @param ms from it to the switch, and back again as many */
export async function moveAway(host: Host, ms: number) {
  const { wire } = host.lab
  const [near, far] = await lay(host)
  await wire.must(['ip', 'link', 'set', far, 'master', 'switch', 'up'])
  await relay(host, near, ms)
}

/**
 * Moves a host behind another one, its router, which gives it addresses of its own and speaks for it.
 * @param ms from one to the other, and back again as many
 * @param network the third part of its addresses, 192.0.N.0/24 and 2001:db8:N::/64
 * @returns the router's device to it
 */
export async function moveBehind(host: Host, router: Host, ms: number, network: number) {
  const [near, far] = await lay(host)
  await host.lab.wire.must(['ip', 'link', 'set', far, 'netns', router.namespace])
  await router.must(['ip', 'link', 'set', far, 'up'])
  await router.must(['ip', 'address', 'add', `192.0.${network}.1/24`, 'dev', far])
  await router.must(['ip', 'address', 'add', `2001:db8:${network}::1/64`, 'dev', far, 'nodad'])
  await router.must(['sh', '-c', 'for each in ipv4 ipv6; do echo 1 > /proc/sys/net/$each/conf/all/forwarding; done'])
  await router.must(['iptables', '-t', 'nat', '-A', 'POSTROUTING', '-s', `192.0.${network}.0/24`, '-j', 'MASQUERADE'])
  await router.must(['ip6tables', '-t', 'nat', '-A', 'POSTROUTING', '-s', `2001:db8:${network}::/64`, '-j', 'MASQUERADE'])
  await host.must(['ip', 'address', 'flush', 'dev', 'eth0', 'scope', 'global'])
  host.ipv4 = `192.0.${network}.2`
  host.ipv6 = `2001:db8:${network}::2`
  await host.addAddress(`${host.ipv4}/24`)
  await host.addAddress(`${host.ipv6}/64`)
  await host.must(['ip', 'route', 'add', 'default', 'via', `192.0.${network}.1`])
  await host.must(['ip', '-6', 'route', 'add', 'default', 'via', `2001:db8:${network}::1`])
  await relay(host, near, ms)
  return far
}

/** Takes a host's cable off the switch and lays another one. @returns its ends */
async function lay({ name, lab: { wire } }: Host): Promise<[string, string]> {
  const [near, far] = [`n-${name}`, `f-${name}`]
  await wire.must(['ip', 'link', 'set', name, 'nomaster'])
  await wire.must(['ip', 'link', 'add', near, 'type', 'veth', 'peer', 'name', far])
  await wire.must(['ip', 'link', 'set', near, 'up'])
  return [near, far]
}

/** @param near the end of the new cable */
async function relay({ name, lab: { wire } }: Host, near: string, ms: number) {
  const relaying = wire.start(['perl', '-e', RELAY, String(ms), name, near])
  await relaying.line((line) => line === 'relaying')
}
