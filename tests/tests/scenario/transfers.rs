//! Whole files, pipes and many buffers at once.

scenarios! { "transfers":
    sendfile[1], splice[1], many_messages[1], receive_many[1], receive_many_at_end[1],
}
