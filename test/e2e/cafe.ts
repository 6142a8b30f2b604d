import type { Host } from '../lab/host'

// What stands in a café's network between its guests and the world, of real packets: a router that answers or rejects what it should send on.

const PROXY_PORT = 3129

/**
 * Accepts what the router redirects to it, and only then connects to whom it was meant for: a carrier's proxy, which sends on what has completed its
 * handshake. One process, so that it ends with the lab.
 */
const PROXY = `
use Socket;
use Fcntl;
socket my $door, PF_INET6, SOCK_STREAM, 0 or die $!; # and IPv4
setsockopt $door, SOL_SOCKET, SO_REUSEADDR, 1;
bind $door, pack_sockaddr_in6(shift, "\\0" x 16) or die $!;
listen $door, 1024 or die $!;
my (%end, %other, %pending);
sub part {
  my $end = shift;
  my $other = delete $other{$end} or return;
  delete $other{$other};
  delete @pending{$end, $other};
  close $_, delete $end{$_} for $end, $other;
}
$SIG{PIPE} = 'IGNORE';
$| = 1;
print "listening\\n";
while (1) {
  my ($readable, $writable) = ('', '');
  vec($readable, fileno $door, 1) = 1;
  for (values %end) {
    if ($pending{$_}) { vec($writable, fileno $_, 1) = 1 } elsif (!$pending{$other{$_}}) { vec($readable, fileno $_, 1) = 1 }
  }
  select $readable, $writable, undef, undef;
  # A copy, since they part meanwhile.
  for my $end (my @ends = values %end) {
    next unless $other{$end};
    if ($pending{$end} && vec $writable, fileno $end, 1) {
      if (unpack 'i', getsockopt $end, SOL_SOCKET, SO_ERROR) { part $end } else { delete $pending{$end} }
    } elsif (vec $readable, fileno $end, 1) {
      my $length = sysread $end, my $bytes, 65536;
      if ($length) { syswrite $other{$end}, $bytes } else { part $end }
    }
  }
  if (vec $readable, fileno $door, 1) {
    accept my $near, $door or next;
    my $six = getsockopt $near, 41, 80; # IP6T_SO_ORIGINAL_DST; nothing of IPv4, which has its own
    my $meant = $six ? substr $six, 0, 28 : substr getsockopt($near, 0, 80), 0, 16;
    socket my $far, sockaddr_family($meant), SOCK_STREAM, 0 or die $!;
    fcntl $far, F_SETFL, O_NONBLOCK;
    connect $far, $meant;
    @end{$near, $far} = ($near, $far);
    @other{$near, $far} = ($far, $near);
    $pending{$far} = 1;
  }
}
`

/** Has the router answer every TCP connection from behind it by a port of its own. */
export async function redirect(router: Host, device: string, port: number) {
  const rule = ['PREROUTING', '-i', device, '-p', 'tcp', '-j', 'REDIRECT', '--to-ports', String(port)]
  const both = async (way: string) => {
    for (const iptables of ['iptables', 'ip6tables']) await router.must([iptables, '-t', 'nat', way, ...rule])
  }
  await both('-A')
  return () => both('-D')
}

/** An accepting proxy. @param device to its guests @returns what takes it away */
export async function proxy(router: Host, device: string) {
  const process = router.start(['perl', '-e', PROXY, String(PROXY_PORT)])
  await process.line((line) => line === 'listening')
  const away = await redirect(router, device, PROXY_PORT)
  return async () => {
    await away()
    await process.end()
  }
}

/** A portal that answers everything itself. @param port its own @returns what logs the guests in */
export async function portal(router: Host, device: string, port: number) {
  await router.service(port)
  return redirect(router, device, port)
}

/** A portal that rejects everything of one family. @param how as iptables says it @returns what logs the guests in */
export async function reject(router: Host, device: string, how: string, family: number = 4) {
  const iptables = family === 4 ? 'iptables' : 'ip6tables'
  // As many as there are: a router that is asked for more sends some of them.
  await router.must(['sh', '-c', 'for each in ipv4/icmp_ratelimit ipv6/icmp/ratelimit; do echo 0 > /proc/sys/net/$each; done'])
  const rule = ['FORWARD', '-i', device, '-p', 'tcp', '-j', 'REJECT', '--reject-with', how]
  await router.must([iptables, '-I', ...rule])
  return () => router.must([iptables, '-D', ...rule])
}

/** Gives a guest so many mappings, as a carrier's NAT: one for each port that its TCP comes from, and for two minutes. */
export async function quota(router: Host, device: string, most: number) {
  const table = `table ip guest {
    set mapped { type inet_service; size ${most}; flags dynamic,timeout; timeout 2m; }
    chain forward {
      type filter hook forward priority 0
      iifname != "${device}" accept
      tcp flags & (syn | ack) == syn add @mapped { tcp sport } accept
      tcp flags & (syn | ack) == syn drop
    }
  }`
  await router.must(['nft', table])
  return () => router.must(['nft', 'delete table ip guest'])
}
