//! Who waits uses no processor time.

scenarios! { "idle":
    level[1], after_fin[1], after_close[1], full[1], full_after_fin[1], blocked_in_send[1], blocked_in_recv[1],
    own_half_closed[1], several_sets[1],
}
