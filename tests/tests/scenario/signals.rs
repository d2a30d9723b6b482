//! Signals while a call waits.

scenarios! { "signals":
    receiving[1], waiting[1], sending[1],
}
