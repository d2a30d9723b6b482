//! Socket options and ioctl(2).

use super::csock::KcmSock;
use libc::{SO_DOMAIN, SO_PROTOCOL, SO_RCVBUF, SO_RCVLOWAT, SO_RCVTIMEO, SO_SNDBUF, SO_SNDTIMEO, SO_TYPE, SOL_SOCKET};
use preloop_kcm::Kind;
use preloop_sys::{Errno, call};
use preloop_uapi::kcm::{AF_KCM, KCM_ADDRESSES, KCM_RECV_DISABLE, KCMPROTO_CONNECTED, SOL_KCM};

/// SO_SNDTIMEO and SO_RCVTIMEO as programs with 64-bit times set them.
const NEW_TIMES: [i32; 2] = [67, 66];

/// Who answers about an option.
#[derive(Debug)]
pub enum Option {
    /// The kernel, as for any socket.
    Kernel,
    /// The library: an `int`.
    Int(i32),
}

/// getsockopt(2).
///
/// # Errors
/// ENOPROTOOPT for a level or an option that KCM does not have.
pub fn get(sock: &KcmSock, level: i32, name: i32) -> Result<Option, Errno> {
    Ok(match (level, name) {
        (SOL_SOCKET, SO_DOMAIN) => Option::Int(AF_KCM),
        (SOL_SOCKET, SO_PROTOCOL) => Option::Int(KCMPROTO_CONNECTED),
        (SOL_SOCKET, SO_TYPE) => Option::Int(match sock.kind {
            Kind::Dgram => libc::SOCK_DGRAM,
            Kind::SeqPacket => libc::SOCK_SEQPACKET,
        }),
        (SOL_SOCKET, libc::SO_PEERNAME) => return Err(Errno::ENOTCONN),
        (SOL_SOCKET, _) => Option::Kernel,
        (SOL_KCM, KCM_RECV_DISABLE) => Option::Int(sock.mux.enter()?.state().disabled(sock.id).into()),
        (SOL_KCM, KCM_ADDRESSES) => Option::Int(sock.mux.enter()?.state().has_addresses(sock.id).into()),
        _ => return Err(Errno::ENOPROTOOPT),
    })
}

/// setsockopt(2) of KCM's own level, once the value was read.
///
/// # Errors
/// ENOPROTOOPT.
pub fn set(sock: &KcmSock, name: i32, value: i32) -> Result<usize, Errno> {
    if !matches!(name, KCM_RECV_DISABLE | KCM_ADDRESSES) {
        return Err(Errno::ENOPROTOOPT);
    }
    let mut entered = sock.mux.enter()?;
    entered.with(|state, outside| match (name, value) {
        (KCM_ADDRESSES, _) => state.set_addresses(sock.id, value != 0),
        (_, 0) => state.enable(sock.id, outside.memory),
        (_, _) => state.disable(sock.id, outside.memory),
    });
    Ok(0)
}

/// After the kernel took an option of SOL_SOCKET: what counts is what it reads back.
pub fn after_set(sock: &KcmSock, name: i32) {
    let read = || call::int_option(sock.ends.own, SOL_SOCKET, name).map_or(0, |value| value.max(0) as u32);
    match name {
        SO_RCVBUF | libc::SO_RCVBUFFORCE | SO_SNDBUF | libc::SO_SNDBUFFORCE | SO_RCVLOWAT => {
            let Ok(mut entered) = sock.mux.enter() else { return };
            let state = entered.state();
            match name {
                SO_RCVLOWAT => state.set_low_water(sock.id, read()),
                SO_RCVBUF | libc::SO_RCVBUFFORCE => state.set_receive_buffer(sock.id, size(sock, SO_RCVBUF)),
                _ => state.set_send_buffer(sock.id, size(sock, SO_SNDBUF)),
            }
        }
        // A call that waits for room sleeps in recv(2) at the far end.
        SO_SNDTIMEO => call::copy_timeout(sock.ends.own, SO_SNDTIMEO, sock.ends.far, SO_RCVTIMEO),
        name if name == NEW_TIMES[0] => {
            call::copy_timeout(sock.ends.own, SO_SNDTIMEO, sock.ends.far, SO_RCVTIMEO);
        }
        _ => {}
    }
}

fn size(sock: &KcmSock, name: i32) -> u32 {
    call::int_option(sock.ends.own, SOL_SOCKET, name).map_or(0, |bytes| bytes.max(0) as u32)
}
