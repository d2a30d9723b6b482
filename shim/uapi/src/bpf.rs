//! `bpf(2)`: commands, flags, and the members of `union bpf_attr` and of the info structures that the library knows
//! (`linux/bpf.h` of Linux 6.4). And the library's own: what a stand-in for a program or map begins with.
//!
//! Programs hand these in as bytes, of a length of their choice: [`ProgLoad::from_bytes`] and its like take what is
//! missing for zero.

/// Commands.
pub mod cmd {
    #![allow(missing_docs)]
    pub const MAP_CREATE: i32 = 0;
    pub const MAP_LOOKUP_ELEM: i32 = 1;
    pub const MAP_UPDATE_ELEM: i32 = 2;
    pub const MAP_DELETE_ELEM: i32 = 3;
    pub const MAP_GET_NEXT_KEY: i32 = 4;
    pub const PROG_LOAD: i32 = 5;
    pub const PROG_GET_FD_BY_ID: i32 = 13;
    pub const OBJ_GET_INFO_BY_FD: i32 = 15;
    pub const MAP_LOOKUP_AND_DELETE_ELEM: i32 = 21;
    pub const MAP_FREEZE: i32 = 22;
    pub const MAP_LOOKUP_BATCH: i32 = 24;
    pub const MAP_DELETE_BATCH: i32 = 27;
}

/// `BPF_PROG_TYPE_SOCKET_FILTER`.
pub const SOCKET_FILTER: u32 = 1;

/// Flags of `BPF_MAP_CREATE`.
pub mod map_flag {
    #![allow(missing_docs)]
    pub const NO_PREALLOC: u32 = 1 << 0;
    pub const NUMA_NODE: u32 = 1 << 2;
    pub const RDONLY: u32 = 1 << 3;
    pub const WRONLY: u32 = 1 << 4;
    pub const ZERO_SEED: u32 = 1 << 6;
    pub const RDONLY_PROG: u32 = 1 << 7;
}

/// Flags of `BPF_PROG_LOAD` that change how strictly the verifier looks, or nothing: `BPF_F_STRICT_ALIGNMENT`,
/// `BPF_F_ANY_ALIGNMENT`, `BPF_F_TEST_RND_HI32`, `BPF_F_TEST_STATE_FREQ`.
pub const PROG_FLAGS: u32 = 0x0f;

/// Bits of `log_level`: two levels, `BPF_LOG_STATS`, `BPF_LOG_FIXED`.
pub const LOG_MASK: u32 = 0x0f;
/// Keep the log's beginning, not its end, where it does not fit (`BPF_LOG_FIXED`).
pub const LOG_FIXED: u32 = 8;

/// Bytes of a name (`BPF_OBJ_NAME_LEN`), with at least one NUL.
pub const NAME_LEN: usize = 16;

/// A member: so many bytes in host order.
pub trait Member: Copy {
    /// Reads it from the bytes at `at`; what is missing is zero.
    fn get(bytes: &[u8], at: usize) -> Self;
    /// Writes it there.
    fn put(self, bytes: &mut [u8], at: usize);
}

impl<const N: usize> Member for [u8; N] {
    fn get(bytes: &[u8], at: usize) -> Self {
        let mut value = [0; N];
        for (to, from) in value.iter_mut().zip(bytes.iter().skip(at)) {
            *to = *from;
        }
        value
    }

    fn put(self, bytes: &mut [u8], at: usize) {
        for (to, from) in bytes.iter_mut().skip(at).zip(self) {
            *to = from;
        }
    }
}

macro_rules! number {
    ($($number:ty),*) => {$(
        impl Member for $number {
            fn get(bytes: &[u8], at: usize) -> Self {
                Self::from_ne_bytes(Member::get(bytes, at))
            }

            fn put(self, bytes: &mut [u8], at: usize) {
                self.to_ne_bytes().put(bytes, at);
            }
        }
    )*};
}
number!(u32, i32, u64);

macro_rules! layout {
    ($(
        $(#[$about:meta])* $name:ident: $size:literal { $( $(#[$what:meta])* $member:ident: $kind:ty = $at:literal, )* }
    )*) => {$(
        $(#[$about])*
        #[repr(C)]
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct $name { $( $(#[$what])* pub $member: $kind, )* }

        impl $name {
            /// Bytes of it.
            pub const SIZE: usize = $size;

            /// Reads it; what is missing is zero.
            pub fn from_bytes(bytes: &[u8]) -> Self {
                Self { $( $member: Member::get(bytes, $at), )* }
            }

            /// Its bytes.
            pub fn to_bytes(self) -> [u8; $size] {
                let mut bytes = [0; $size];
                $( self.$member.put(&mut bytes, $at); )*
                bytes
            }
        }

        const _: () = {
            assert!(size_of::<$name>() == $size);
            $( assert!(core::mem::offset_of!($name, $member) == $at); )*
        };
    )*};
}

layout! {
    /// Of `BPF_PROG_LOAD`.
    ProgLoad: 144 {
        /// `BPF_PROG_TYPE_`.
        prog_type: u32 = 0,
        /// Number of instructions.
        insn_cnt: u32 = 4,
        /// Where they are.
        insns: u64 = 8,
        /// Where the name of the licence is.
        license: u64 = 16,
        /// How much to log.
        log_level: u32 = 24,
        /// Bytes of the log.
        log_size: u32 = 28,
        /// Where the log goes.
        log_buf: u64 = 32,
        /// Not used any more.
        kern_version: u32 = 40,
        /// Flags.
        prog_flags: u32 = 44,
        /// What to call it.
        prog_name: [u8; NAME_LEN] = 48,
        /// Device, for programs that run there.
        prog_ifindex: u32 = 64,
        /// For program types that have several.
        expected_attach_type: u32 = 68,
        /// Type information, which an unprivileged process cannot have loaded.
        prog_btf_fd: u32 = 72,
        /// See `prog_btf_fd`.
        func_info_rec_size: u32 = 76,
        /// See `prog_btf_fd`.
        func_info: u64 = 80,
        /// See `prog_btf_fd`.
        func_info_cnt: u32 = 88,
        /// See `prog_btf_fd`.
        line_info_rec_size: u32 = 92,
        /// See `prog_btf_fd`.
        line_info: u64 = 96,
        /// See `prog_btf_fd`.
        line_info_cnt: u32 = 104,
        /// For tracing programs.
        attach_btf_id: u32 = 108,
        /// For tracing programs.
        attach_prog_fd: u32 = 112,
        /// See `prog_btf_fd`.
        core_relo_cnt: u32 = 116,
        /// Where an array of maps' descriptors is.
        fd_array: u64 = 120,
        /// See `prog_btf_fd`.
        core_relos: u64 = 128,
        /// See `prog_btf_fd`.
        core_relo_rec_size: u32 = 136,
        /// Answer: bytes that the whole log needs.
        log_true_size: u32 = 140,
    }

    /// Of `BPF_MAP_CREATE`.
    MapCreate: 72 {
        /// `BPF_MAP_TYPE_`.
        map_type: u32 = 0,
        /// Bytes of a key.
        key_size: u32 = 4,
        /// Bytes of a value.
        value_size: u32 = 8,
        /// How many elements fit.
        max_entries: u32 = 12,
        /// See [`map_flag`].
        map_flags: u32 = 16,
        /// For maps of maps.
        inner_map_fd: u32 = 20,
        /// Where to allocate, with `BPF_F_NUMA_NODE`.
        numa_node: u32 = 24,
        /// What to call it.
        map_name: [u8; NAME_LEN] = 28,
        /// Device, for maps that are there.
        map_ifindex: u32 = 44,
        /// Type information, which an unprivileged process cannot have loaded.
        btf_fd: u32 = 48,
        /// See `btf_fd`.
        btf_key_type_id: u32 = 52,
        /// See `btf_fd`.
        btf_value_type_id: u32 = 56,
        /// For kinds that are made of the kernel's own types.
        btf_vmlinux_value_type_id: u32 = 60,
        /// For Bloom filters.
        map_extra: u64 = 64,
    }

    /// Of the element commands, and of `BPF_MAP_FREEZE`.
    Elem: 32 {
        /// The map.
        map_fd: u32 = 0,
        /// Padding.
        hole: u32 = 4,
        /// Where the key is.
        key: u64 = 8,
        /// Where the value, or the next key, is or goes.
        value: u64 = 16,
        /// Flags.
        flags: u64 = 24,
    }

    /// Of `BPF_OBJ_GET_INFO_BY_FD`.
    InfoByFd: 16 {
        /// A program or map.
        bpf_fd: u32 = 0,
        /// Bytes of the structure, in and out.
        info_len: u32 = 4,
        /// Where it goes.
        info: u64 = 8,
    }

    /// `struct bpf_prog_info`, as far as it tells of a stand-in.
    ProgInfo: 88 {
        /// `BPF_PROG_TYPE_`.
        prog_type: u32 = 0,
        /// The kernel's number of it.
        id: u32 = 4,
        /// A hash of the instructions.
        tag: [u8; 8] = 8,
        /// Bytes of machine code.
        jited_prog_len: u32 = 16,
        /// Bytes of instructions.
        xlated_prog_len: u32 = 20,
        /// Where machine code goes.
        jited_prog_insns: u64 = 24,
        /// Where instructions go.
        xlated_prog_insns: u64 = 32,
        /// When it was loaded.
        load_time: u64 = 40,
        /// Who loaded it.
        created_by_uid: u32 = 48,
        /// How many maps it uses; in: how many numbers fit.
        nr_map_ids: u32 = 52,
        /// Where their numbers go.
        map_ids: u64 = 56,
        /// Its name.
        name: [u8; NAME_LEN] = 64,
        /// Its device.
        ifindex: u32 = 80,
        /// Bit 0: its licence is GPL's.
        gpl_compatible: u32 = 84,
    }

    /// `struct bpf_map_info`, as far as it tells of a stand-in.
    MapInfo: 40 {
        /// `BPF_MAP_TYPE_`.
        map_type: u32 = 0,
        /// The kernel's number of it.
        id: u32 = 4,
        /// Bytes of a key.
        key_size: u32 = 8,
        /// Bytes of a value.
        value_size: u32 = 12,
        /// How many elements fit.
        max_entries: u32 = 16,
        /// See [`map_flag`].
        map_flags: u32 = 20,
        /// Its name.
        name: [u8; NAME_LEN] = 24,
    }

    /// What a stand-in's memory begins with. A program's is followed by the numbers of its maps (tag and number, eight
    /// bytes each), and by its encoded parser.
    StandIn: 64 {
        /// [`EYECATCHER`].
        eyecatcher: u64 = 0,
        /// A random number, by which processes know the object again.
        id: u64 = 8,
        /// [`KIND_PROGRAM`] or [`KIND_MAP`].
        kind: u32 = 16,
        /// Of a map: `BPF_MAP_TYPE_`. Of a program: how many maps it uses.
        detail: u32 = 20,
        /// Of a map.
        key_size: u32 = 24,
        /// Of a map.
        value_size: u32 = 28,
        /// Of a map.
        max_entries: u32 = 32,
        /// Of a map, see [`map_flag`].
        map_flags: u32 = 36,
        /// Name.
        name: [u8; NAME_LEN] = 40,
        /// Of a program: who loaded it.
        uid: u32 = 56,
        /// Of a program: whether its licence is GPL's.
        gpl_compatible: u32 = 60,
    }
}

/// First eight bytes of every stand-in; the last of them is the layout's number.
pub const EYECATCHER: u64 = u64::from_be_bytes(*b"preBPF\0\x01");
/// A stand-in for a program.
pub const KIND_PROGRAM: u32 = 1;
/// A stand-in for a map.
pub const KIND_MAP: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_members_agree() {
        let whole: Vec<u8> = (1..=144).collect();
        assert_eq!(ProgLoad::from_bytes(&whole).to_bytes()[..], whole);
        let elem = Elem { map_fd: 3, hole: 0, key: 1 << 40, value: 5, flags: u64::MAX };
        assert_eq!(Elem::from_bytes(&elem.to_bytes()), elem);
    }

    #[test]
    fn what_is_missing_is_zero() {
        let short = MapCreate::from_bytes(&[2, 0, 0, 0, 4, 0, 0, 0, 8, 0]);
        assert_eq!(short, MapCreate { map_type: 2, key_size: 4, value_size: 8, ..MapCreate::default() });
        assert_eq!(InfoByFd::from_bytes(&[]), InfoByFd::default());
    }
}
