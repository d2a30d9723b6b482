//! The list of libraries to preload, as the dynamic loader reads it (ld.so(8)).

/// What stands between two entries of `LD_PRELOAD`; in `/etc/ld.so.preload` a tab or the end of a line does, too.
pub fn separates(byte: u8) -> bool {
    byte == b':' || byte == b' '
}

/// Whether one of the entries is what is looked for.
pub fn has(list: &[u8], is_it: impl Fn(&[u8]) -> bool) -> bool {
    list.split(|byte| separates(*byte)).any(is_it)
}

/// The list without the entries that are what is looked for, or `None` when there are none.
pub fn without(list: &[u8], is_it: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
    let entries = list.split(|byte| separates(*byte));
    has(list, &is_it).then(|| {
        let others: Vec<_> = entries.filter(|entry| !entry.is_empty() && !is_it(entry)).collect();
        others.join(&b':')
    })
}
