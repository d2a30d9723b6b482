# Echoes lines; a child for each connection.
use strict;
use warnings;
use IO::Socket::INET;
use Socket qw(IPPROTO_TCP TCP_NODELAY);

$SIG{CHLD} = 'IGNORE';
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $ARGV[0], Listen => 16, ReuseAddr => 1)
    or die "listen: $!";
while (my $socket = $listener->accept) {
    my $child = fork;
    die "fork: $!" unless defined $child;
    if ($child == 0) {
        close $listener;
        setsockopt $socket, IPPROTO_TCP, TCP_NODELAY, 1 or die "setsockopt: $!";
        while (my $line = <$socket>) { print $socket $line or die "send: $!" }
        exit 0;
    }
    close $socket;
}
