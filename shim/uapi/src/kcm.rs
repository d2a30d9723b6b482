//! Numbers and structures of KCM's calls (`<linux/kcm.h>`, `<linux/socket.h>`), and of those that only the library has
//! (`compat/include/preloop/kcm.h`).

use core::ffi::{c_int, c_ulong};

/// Address family.
pub const AF_KCM: c_int = 41;
/// The only protocol.
pub const KCMPROTO_CONNECTED: c_int = 0;
/// Level of its socket options.
pub const SOL_KCM: c_int = 281;
/// Whether a socket is to get no more messages: an `int`.
pub const KCM_RECV_DISABLE: c_int = 1;
/// Whether messages have addresses: an `int`. The library's own; the kernel answers ENOPROTOOPT.
pub const KCM_ADDRESSES: c_int = 0x504b;
/// Takes an [`Attach`].
pub const SIOCKCMATTACH: c_ulong = 0x89e0;
/// Takes an [`Unattach`].
pub const SIOCKCMUNATTACH: c_ulong = 0x89e1;
/// Fills a [`struct@Clone`].
pub const SIOCKCMCLONE: c_ulong = 0x89e2;

/// `struct kcm_attach`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Attach {
    /// A TCP socket.
    pub fd: c_int,
    /// The parser's program; -1 for the one that the user named.
    pub bpf_fd: c_int,
}

/// `struct kcm_unattach`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Unattach {
    /// A TCP socket.
    pub fd: c_int,
}

/// `struct kcm_clone`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Clone {
    /// The new socket.
    pub fd: c_int,
}

/// `struct sockaddr_kcm`: the TCP connection that a message came from, or is to be sent on.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Address {
    /// [`AF_KCM`].
    pub family: u16,
    #[doc(hidden)]
    pub _zero: [u16; 3],
    /// SO_COOKIE of the TCP socket; 0 for any.
    pub cookie: u64,
}

const _: () = {
    assert!(size_of::<Address>() == 16);
    assert!(size_of::<Attach>() == 8);
    assert!(size_of::<Unattach>() == 4 && size_of::<Clone>() == 4);
};
