# Four clients, a process for each; a line is sent when the one before has come back.
use strict;
use warnings;
use IO::Socket::INET;
use Socket qw(IPPROTO_TCP TCP_NODELAY);

my ($clients, $lines, $verified) = (4, 4000, 0);

sub converse {
    my ($client) = @_;
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $ARGV[0], Proto => 'tcp') or die "connect: $!";
    # A line goes out in pieces; each would wait for the acknowledgement of the one before.
    setsockopt $socket, IPPROTO_TCP, TCP_NODELAY, 1 or die "setsockopt: $!";
    for my $number (1 .. $lines) {
        my $line = "$client $number " . ('x' x ($number * 97 % 20000)) . "\n";
        print $socket $line or die "send: $!";
        my $answer = <$socket>;
        die "the answer to line $number differs" unless defined $answer && $answer eq $line;
    }
    shutdown $socket, 1;
    die 'a line after the end' if defined <$socket>;
}

my %children;
for my $client (1 .. $clients) {
    my $child = fork;
    die "fork: $!" unless defined $child;
    if ($child == 0) { converse($client); exit 0 }
    $children{$child} = 1;
}
for my $child (keys %children) {
    waitpid $child, 0;
    die "a client failed" if $?;
    $verified += $lines;
}
print "verified $verified\n";
