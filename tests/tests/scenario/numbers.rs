//! Descriptors that are closed in other ways than by close(2).

scenarios! { "numbers":
    reused[6],
}
