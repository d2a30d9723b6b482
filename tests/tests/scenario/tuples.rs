//! The same four addresses and ports, again and again.

scenarios! { "tuples":
    again[60],
}
