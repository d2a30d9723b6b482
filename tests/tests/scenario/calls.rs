//! Calls and flags with exact results.

scenarios! { "calls":
    peek[1], waitall[1], trunc[1], dontwait[1], timeouts[1], counts[1], low_water[1], unread_by_peer[1],
    counts_across[8], peek_across[12], corked[1], short_writes[1],
    large_low_water[2], exceptional_only[1], waitall_on_tcp[1],
}
