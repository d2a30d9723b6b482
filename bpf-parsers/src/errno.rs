//! The error numbers that `bpf(2)` gives for programs and maps, as on every Linux but MIPS, SPARC and Alpha.

/// No such element.
pub const ENOENT: i32 = 2;
/// Argument list, program or map too large.
pub const E2BIG: i32 = 7;
/// Not a map.
pub const EBADF: i32 = 9;
/// No memory.
pub const ENOMEM: i32 = 12;
/// The checker found an access that is never allowed.
pub const EACCES: i32 = 13;
/// A bad address.
pub const EFAULT: i32 = 14;
/// The element exists already.
pub const EEXIST: i32 = 17;
/// A malformed program, map or argument.
pub const EINVAL: i32 = 22;
/// An operation that this kind of map does not have. The kernel's own number, which has no name outside.
pub const ENOTSUPP: i32 = 524;
