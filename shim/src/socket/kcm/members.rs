//! What belongs to a mux that several processes have, its csocks and psocks, and how each comes to have descriptors of it.
//!
//! Siblings have everything that was there at the fork. What comes later lies in the mux's [`Vault`](super::vault), from which
//! each process takes what it does not have when it next enters the mux ([`sync`]): `MuxHeader::members` tells that something
//! changed. A connection that has moved to shared memory lies there in a parcel ([`crate::socket::passing`]), which stays: each
//! process looks into it, under the mux's lock, and counts beside it.

use super::entered::Entered;
use super::local::{Ends, Loaded};
use super::mux::Mux;
use super::registry;
use super::stream::Stream;
use super::vault::Member;
use crate::bpf;
use crate::process;
use crate::socket::file::OpenFile;
use crate::socket::passing::{open, pack};
use preloop_kcm::id::{CsockId, PsockId};
use preloop_parsers::Parser;
use preloop_shm::counted::Counted;
use preloop_sys::unix::{FDS_MAX, Inner};
use preloop_sys::{Errno, Fd, call};
use preloop_uapi::sync::Ordering;
use rustc_hash::FxHashSet;

/// Takes what other processes have added, and lets go of what they have taken away.
pub fn sync(entered: &mut Entered<'_>) {
    let mux = entered.mux();
    for (psock, generation) in entered.local.psocks() {
        if mux.psock(psock).generation.load(Ordering::Acquire) != generation {
            entered.forget(psock);
        }
    }
    for (csock, generation) in entered.local.csocks() {
        if mux.csock(csock).generation.load(Ordering::Acquire) != generation {
            entered.local.forget_ends(csock);
        }
    }
    if entered.state().csocks().is_empty() {
        // Another process closed the last one.
        drop(registry::leave(&mux));
    }
    let Some(vault) = mux.vault() else { return };
    let missing = missing(entered);
    if missing.is_empty() {
        return;
    }
    let mut starved = false;
    for (member, found) in vault.find(&missing) {
        starved |= take(entered, member, found).is_err();
    }
    if starved {
        // Tried again when the mux is next entered.
        entered.local.members = entered.local.members.wrapping_sub(1);
    }
}

/// The members that this process has no descriptors of.
fn missing(entered: &mut Entered<'_>) -> FxHashSet<Member> {
    let mux = entered.mux();
    let (state, local) = entered.shown();
    let psocks = state.psocks().iter().filter(|psock| local.tcp(*psock).is_none());
    let psocks = psocks.map(|psock| Member::Psock(psock, mux.psock(psock).generation.load(Ordering::Acquire)));
    let csocks = state.csocks().iter().filter(|csock| local.far_end(*csock).is_none());
    let csocks = csocks.map(|csock| Member::Csock(csock, mux.csock(csock).generation.load(Ordering::Acquire)));
    let has_desk = local.desk().is_some() || mux.header().passed.load(Ordering::Acquire) == 0;
    psocks.chain(csocks).chain((!has_desk).then_some(Member::Desk)).collect()
}

/// This process has no descriptors left, or forks just now.
struct Starved;

/// Takes charge of a member's descriptors.
fn take(entered: &mut Entered<'_>, member: Member, found: [Option<Inner>; FDS_MAX]) -> Result<(), Starved> {
    match (member, found) {
        (Member::Psock(psock, generation), [Some(tcp), Some(parser), ..]) => {
            if let Some(loaded) = read_parser(&parser) {
                take_psock(entered, psock, generation, tcp, loaded)?;
            }
        }
        (Member::Csock(csock, generation), [Some(far), ..]) => {
            let far = process::adopt(far.move_high());
            entered.local.add_ends(csock, Ends { own: -1, far }, generation);
            let _ = entered.watch_far_end(csock, far);
        }
        (Member::Desk, [Some(desk), ..]) => {
            let _ = entered.open_desk(desk.move_high());
        }
        (Member::Kick, _) => {}
        _ => return Err(Starved),
    }
    Ok(())
}

fn take_psock(
    entered: &mut Entered<'_>,
    psock: PsockId,
    generation: u32,
    tcp: Inner,
    loaded: Loaded,
) -> Result<(), Starved> {
    let is_parcel = open::is_parcel(tcp.fd());
    let fd = process::adopt(tcp.move_high());
    let moved = if is_parcel { Some(open::look_into(fd)) } else { None };
    let file = moved.transpose().map_err(|error| {
        process::disown(fd);
        if error == Errno::EAGAIN {
            // The pump looks again when the fork is over.
            entered.mux().kick();
        }
        Starved
    })?;
    if let Some(file) = &file {
        file.mux.store(entered.mux().number(), std::sync::atomic::Ordering::Release);
        entered.news.changed(file.clone());
    }
    entered.local.add_psock(psock, (fd, generation), file, loaded);
    let _ = entered.watch_psock(psock, fd);
    // What came before it was heard of may have been told to a process that has ended.
    entered.local.ears.prick();
    Ok(())
}

fn read_parser(memfd: &Inner) -> Option<Loaded> {
    let mut bytes = vec![0; usize::try_from(call::file_size(memfd.fd()).ok()?).ok()?];
    let got = call::read_file(memfd.fd(), &mut bytes, Some(0)).ok()?;
    let parser = Parser::from_bytes(bytes.get(..got)?).ok()?;
    Some((bpf::of_parser(&parser).ok()?, bytes))
}

/// A memfd with a parser.
fn write_parser(parser: &[u8]) -> Result<Inner, Errno> {
    let memfd = Inner::from_raw(call::memfd(c"preloop-parser")?);
    call::write(memfd.fd(), parser)?;
    Ok(memfd)
}

/// Puts a new csock into the vault, if there is one.
///
/// # Errors
/// See [`Vault::put`](super::vault::Vault::put).
pub fn put_csock(mux: &Mux, csock: CsockId, far: Fd, generation: u32) -> Result<(), Errno> {
    let Some(vault) = mux.vault() else { return Ok(()) };
    vault.put(Member::Csock(csock, generation), &[far])
}

/// What another process needs of a psock: its TCP socket, the connection if it has moved to shared memory, and the bytes of
/// its parser.
#[derive(Clone, Copy, Debug)]
pub struct Passable<'a> {
    /// A descriptor of the TCP socket.
    pub tcp: Fd,
    /// The connection, if it has moved.
    pub moved: Option<&'a Counted<OpenFile>>,
    /// The parser, as bytes.
    pub parser: &'a [u8],
}

/// Puts a psock into the vault, if there is one.
///
/// # Errors
/// See [`Vault::put`](super::vault::Vault::put) and, for a connection that has moved to shared memory, [`pack::lay`]; EMFILE and its like.
pub fn put_psock(mux: &Mux, psock: PsockId, generation: u32, passable: Passable<'_>) -> Result<(), Errno> {
    let Some(vault) = mux.vault() else { return Ok(()) };
    let parser = write_parser(passable.parser)?;
    let put = |tcp| vault.put(Member::Psock(psock, generation), &[tcp, parser.fd()]);
    match passable.moved {
        Some(file) => pack::lay(passable.tcp, file, put),
        None => put(passable.tcp),
    }
}

/// Takes a psock out of the vault, which this process still has if it ever had it.
pub fn take_out(entered: &Entered<'_>, mux: &Mux, psock: PsockId, generation: u32) {
    let found = mux.vault().and_then(|vault| vault.remove(Member::Psock(psock, generation)));
    let moved = entered.local.stream(psock).and_then(Stream::moved);
    if let (Some([Some(parcel), ..]), Some((file, link))) = (found, moved) {
        open::taken_away(parcel.fd(), file, link);
    }
}
