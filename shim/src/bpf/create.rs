//! `BPF_MAP_CREATE`. Order and error numbers of what is done without the kernel follow `map_create` of Linux 6.1 and
//! what it calls for arrays and hash maps. Kinds and flags that are not here are `EINVAL`, as on a kernel before them.

use super::attr::{self, Call};
use super::{Answer, standin};
use preloop_parsers::maps::{Map, MapKind};
use preloop_sys::{Errno, call};
use preloop_uapi::bpf::{MapCreate, StandIn, map_flag};

/// Makes a map: the kernel, or this process for what the kernel refuses for want of privileges or of `bpf(2)`.
pub(super) fn create(call: &Call<'_>) -> Answer {
    let refused = match (call.kernel)() {
        Err(refused @ (Errno::EPERM | Errno::ENOSYS)) => refused,
        answer => return answer,
    };
    let attributes = call.attributes()?;
    let attr = MapCreate::from_bytes(&attributes);
    let Some(kind) = MapKind::from_number(attr.map_type) else { return Err(refused) };
    attr::ends_at(&attributes, MapCreate::SIZE)?;
    let (map, header) = check(&attr, kind)?;
    standin::make_map(header, map).map(|fd| fd as usize)
}

fn check(attr: &MapCreate, kind: MapKind) -> Result<(Map, StandIn), Errno> {
    const BOTH: u32 = map_flag::RDONLY | map_flag::WRONLY;
    let common = map_flag::NUMA_NODE | BOTH | map_flag::RDONLY_PROG;
    let known = match kind {
        MapKind::Array => common,
        MapKind::Hash => common | map_flag::NO_PREALLOC | map_flag::ZERO_SEED,
    };
    let flags = attr.map_flags;
    let typed = attr.btf_key_type_id | attr.btf_value_type_id != 0;
    if attr.btf_vmlinux_value_type_id != 0 || attr.map_extra != 0 || attr.map_ifindex != 0 {
        return Err(Errno::EINVAL);
    }
    if flags & !known != 0 || flags & BOTH == BOTH || (flags & map_flag::NUMA_NODE != 0 && attr.numa_node != 0) {
        return Err(Errno::EINVAL);
    }
    if flags & map_flag::ZERO_SEED != 0 {
        // For the administrator's tests alone.
        return Err(Errno::EPERM);
    }
    let header = StandIn {
        detail: attr.map_type,
        key_size: attr.key_size,
        value_size: attr.value_size,
        max_entries: attr.max_entries,
        map_flags: flags,
        ..StandIn::default()
    };
    let def = standin::def(&header).ok_or(Errno::EINVAL)?;
    let map = Map::new(def).map_err(Errno::new)?;
    let name = attr::name(attr.map_name)?;
    if typed {
        // Types come from BTF, which takes privileges to load: whatever the descriptor is, it is none.
        call::status_flags(attr.btf_fd as i32)?;
        return Err(Errno::EINVAL);
    }
    Ok((map, StandIn { name, ..header }))
}
