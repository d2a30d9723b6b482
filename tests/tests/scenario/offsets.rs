//! Change-over at an exact offset, while bytes are in flight.

// Of many starts under load some floods are over, or too thick, before a handshake comes through.
scenarios! { "offsets":
    both_ways[1], many_starts[20], many_writers[8], server_speaks_first[1], client_only_sends[1],
}
