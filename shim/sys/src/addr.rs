//! Socket addresses between the kernel's bytes and Rust's types.

use crate::Fd;
use crate::call::raw;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Room for any socket address, as the kernel fills it.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct RawAddr {
    /// The bytes.
    pub storage: libc::sockaddr_storage,
    /// How many of them count.
    pub len: libc::socklen_t,
}

impl RawAddr {
    /// An empty address with room for the largest.
    pub fn new() -> Self {
        // SAFETY: sockaddr_storage is plain data for which zero bytes are valid.
        let storage: libc::sockaddr_storage = unsafe { core::mem::zeroed() };
        Self { storage, len: size_of::<libc::sockaddr_storage>() as libc::socklen_t }
    }

    /// The kernel's form of an IPv4 or IPv6 address.
    pub fn from_inet(addr: SocketAddr) -> Self {
        let mut raw = Self::new();
        match addr {
            SocketAddr::V4(v4) => {
                let sin = libc::sockaddr_in {
                    sin_family: libc::AF_INET as u16,
                    sin_port: v4.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                    sin_zero: [0; 8],
                };
                // SAFETY: sockaddr_storage is larger than, and aligned for, every sockaddr.
                unsafe { *(&raw mut raw.storage).cast::<libc::sockaddr_in>() = sin };
                raw.len = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            }
            SocketAddr::V6(v6) => {
                let sin6 = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as u16,
                    sin6_port: v6.port().to_be(),
                    sin6_flowinfo: v6.flowinfo(),
                    sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                    sin6_scope_id: v6.scope_id(),
                };
                // SAFETY: as above.
                unsafe { *(&raw mut raw.storage).cast::<libc::sockaddr_in6>() = sin6 };
                raw.len = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            }
        }
        raw
    }

    /// Reads the address a program passed.
    ///
    /// # Safety
    /// `addr` must be null or valid for `len` bytes.
    pub unsafe fn from_user(addr: *const libc::sockaddr, len: libc::socklen_t) -> Self {
        let mut raw = Self::new();
        let len = if addr.is_null() { 0 } else { (len as usize).min(size_of::<libc::sockaddr_storage>()) };
        // SAFETY: `len` is within both the caller's bytes and the storage.
        unsafe { core::ptr::copy_nonoverlapping(addr.cast::<u8>(), (&raw mut raw.storage).cast::<u8>(), len) };
        raw.len = len as libc::socklen_t;
        raw
    }

    /// Gives the address to a program, cut to its room; `len` then holds the full length, as accept(2) says.
    ///
    /// # Safety
    /// `addr` must be valid for `*len` bytes, or null; `len` must be valid unless `addr` is null.
    pub unsafe fn to_user(self, addr: *mut libc::sockaddr, len: *mut libc::socklen_t) {
        if addr.is_null() || len.is_null() {
            return;
        }
        // SAFETY: the caller vouches for `len` and for that many bytes at `addr`.
        unsafe {
            let room = (*len as usize).min(self.len as usize);
            core::ptr::copy_nonoverlapping((&raw const self.storage).cast::<u8>(), addr.cast::<u8>(), room);
            *len = self.len;
        }
    }

    /// The IPv4 or IPv6 address, or `None` for any other family.
    pub fn inet(&self) -> Option<SocketAddr> {
        let base = &raw const self.storage;
        match i32::from(self.storage.ss_family) {
            libc::AF_INET if self.len as usize >= size_of::<libc::sockaddr_in>() => {
                // SAFETY: the family says so, and the storage is large enough.
                let sin = unsafe { &*base.cast::<libc::sockaddr_in>() };
                let ip = Ipv4Addr::from(sin.sin_addr.s_addr.to_ne_bytes());
                Some(SocketAddr::new(IpAddr::V4(ip), u16::from_be(sin.sin_port)))
            }
            libc::AF_INET6 if self.len as usize >= 24 => {
                // SAFETY: as above.
                let sin6 = unsafe { &*base.cast::<libc::sockaddr_in6>() };
                let ip = Ipv6Addr::from(sin6.sin6_addr.s6_addr);
                Some(SocketAddr::new(IpAddr::V6(ip), u16::from_be(sin6.sin6_port)))
            }
            _ => None,
        }
    }
}

impl Default for RawAddr {
    fn default() -> Self {
        Self::new()
    }
}

/// `getsockname(2)`.
pub fn local(fd: Fd) -> Option<SocketAddr> {
    let mut addr = RawAddr::new();
    raw!(getsockname, fd, &raw mut addr.storage, &raw mut addr.len).ok()?;
    addr.inet()
}

/// `getpeername(2)`.
pub fn peer(fd: Fd) -> Option<SocketAddr> {
    let mut addr = RawAddr::new();
    raw!(getpeername, fd, &raw mut addr.storage, &raw mut addr.len).ok()?;
    addr.inet()
}
