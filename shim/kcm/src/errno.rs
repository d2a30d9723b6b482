//! Error numbers, as `<errno.h>` of Linux has them on every machine that Preloop runs on.

/// What a call answers instead of a result.
pub type Errno = i32;

/// No such entry: the socket is not of this mux.
pub const ENOENT: Errno = 2;
/// Nothing there, or no room, now.
pub const EAGAIN: Errno = 11;
/// A bad address.
pub const EFAULT: Errno = 14;
/// Arguments that do not go together.
pub const EINVAL: Errno = 22;
/// All slots are taken.
pub const ENFILE: Errno = 23;
/// Input or output failed.
pub const EIO: Errno = 5;
/// The connection can no longer be written to.
pub const EPIPE: Errno = 32;
/// A message stopped in its middle.
pub const ENODATA: Errno = 61;
/// The parser contradicted itself.
pub const EPROTO: Errno = 71;
/// What a parser answers for data that is not meant for it.
pub const ESTRPIPE: Errno = 86;
/// A message longer than there is room for.
pub const EMSGSIZE: Errno = 90;
/// No such connection.
pub const ENOTCONN: Errno = 107;
/// A message took too long to come.
pub const ETIMEDOUT: Errno = 110;
