//! Every pair of addresses that lies within one network namespace.

scenarios! { "addresses":
    every_pair[14],
}
