//! The two ways a call can be answered.

use preloop_sys::{Errno, errno};

/// The program's own call, made on the kernel's socket as if the library were not there.
pub type Kernel<'a> = &'a mut dyn FnMut() -> isize;

/// What a call answers.
#[derive(Debug)]
pub enum Answer {
    /// The kernel answered; errno is set where it should be.
    Kernel(isize),
    /// The library answers.
    Ours(Result<usize, Errno>),
}

impl Answer {
    /// The C answer; sets errno.
    pub fn into_c(self) -> isize {
        match self {
            Self::Kernel(answer) => answer,
            Self::Ours(Ok(count)) => count as isize,
            Self::Ours(Err(code)) => {
                errno::set(code);
                -1
            }
        }
    }
}
