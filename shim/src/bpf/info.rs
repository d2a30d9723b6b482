//! `BPF_OBJ_GET_INFO_BY_FD` of stand-ins: what the kernel tells those without privileges.

use super::Answer;
use super::attr::{self, Call};
use super::standin::{self, Found};
use super::table::Key;
use core::mem::offset_of;
use preloop_sys::Errno;
use preloop_uapi::bpf::{InfoByFd, MapInfo, ProgInfo, SOCKET_FILTER, StandIn};

/// Bytes of `struct bpf_prog_info` and `struct bpf_map_info` in Linux 6.1; what is not known of them is zero.
const PROG_INFO: usize = 232;
const MAP_INFO: usize = 88;

/// Tells of a stand-in; of everything else the kernel does.
pub(super) fn info(call: &Call<'_>) -> Answer {
    let Some(Ok(Some(found))) = call.first().map(standin::find) else { return (call.kernel)() };
    let attributes = call.attributes()?;
    attr::ends_at(&attributes, InfoByFd::SIZE)?;
    let request = InfoByFd::from_bytes(&attributes);
    let known = if matches!(found, Found::Program(_)) { PROG_INFO } else { MAP_INFO };
    let given = attr::read(call.memory, request.info, request.info_len, known)?;
    let mut info = match found {
        Found::Program(program) => program_info(call, &program, &ProgInfo::from_bytes(&given))?.to_bytes().to_vec(),
        Found::Map(header) => map_info(&header).to_bytes().to_vec(),
    };
    info.resize(given.len(), 0);
    call.memory.write(request.info, &info)?;
    let at = call.at.wrapping_add(offset_of!(InfoByFd, info_len) as u64);
    call.memory.write(at, &(info.len() as u32).to_ne_bytes())?;
    Ok(0)
}

/// A number that the kernel, which counts from 1, gives nothing.
fn number(id: u64) -> u32 {
    id as u32 | 1 << 31
}

fn program_info(call: &Call<'_>, program: &standin::Program, given: &ProgInfo) -> Result<ProgInfo, Errno> {
    let keys = program.keys()?;
    for (index, key) in keys.iter().enumerate().take(given.nr_map_ids as usize) {
        let id = match key {
            Key::StandIn(id) => number(*id),
            Key::Kernel(id) => *id,
        };
        call.memory.write(given.map_ids.wrapping_add(4 * index as u64), &id.to_ne_bytes())?;
    }
    let StandIn { id, name, uid, gpl_compatible, .. } = program.header;
    Ok(ProgInfo {
        prog_type: SOCKET_FILTER,
        id: number(id),
        created_by_uid: uid,
        nr_map_ids: keys.len() as u32,
        map_ids: given.map_ids,
        name,
        gpl_compatible,
        ..ProgInfo::default()
    })
}

fn map_info(header: &StandIn) -> MapInfo {
    MapInfo {
        map_type: header.detail,
        id: number(header.id),
        key_size: header.key_size,
        value_size: header.value_size,
        max_entries: header.max_entries,
        map_flags: header.map_flags,
        name: header.name,
    }
}
