//! dprintf(3) and its like, which the C library would write unseen. Rust cannot declare a function of any number of
//! arguments: a few instructions make the `va_list` of them, and the rest is vdprintf.

use super::io;
use crate::fdtable;
use crate::socket::sock::phase;
use core::arch::naked_asm;
use core::ffi::{c_char, c_int, c_void};
use preloop_sys::{Fd, real};

/// A `va_list` as a parameter: on the machines served here a pointer.
type Arguments = *mut c_void;

unsafe extern "C" {
    fn vasprintf(text: *mut *mut c_char, format: *const c_char, arguments: Arguments) -> c_int;
    fn __vasprintf_chk(text: *mut *mut c_char, flag: c_int, format: *const c_char, arguments: Arguments) -> c_int;
}

/// Whether the connection may be in shared memory, where the C library's own write would miss it.
fn is_ours(fd: Fd) -> bool {
    fdtable::get(fd).is_some_and(|file| file.sock.phase() != phase::TCP)
}

/// Writes what `print` makes, and frees it.
fn put(fd: Fd, print: impl FnOnce(*mut *mut c_char) -> c_int) -> c_int {
    let mut text: *mut c_char = core::ptr::null_mut();
    let length = print(&raw mut text);
    if length < 0 {
        return length;
    }
    let mut done = 0;
    while done < length as usize {
        // SAFETY: `print` made `length` bytes there.
        let sent = unsafe { io::write(fd, text.add(done).cast(), length as usize - done) };
        if sent < 0 {
            break;
        }
        done += sent as usize;
    }
    // SAFETY: asprintf(3): to be freed by the caller.
    unsafe { libc::free(text.cast()) };
    if done == length as usize { length } else { -1 }
}

/// vdprintf(3).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vdprintf(fd: c_int, format: *const c_char, arguments: Arguments) -> c_int {
    // SAFETY: the program's own call.
    unsafe {
        if !is_ours(fd) {
            return real::vdprintf(fd, format, arguments);
        }
        put(fd, |text| vasprintf(text, format, arguments))
    }
}

/// vdprintf as `_FORTIFY_SOURCE` calls it.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __vdprintf_chk(fd: c_int, flag: c_int, format: *const c_char, arguments: Arguments) -> c_int {
    // SAFETY: the program's own call.
    unsafe {
        if !is_ours(fd) {
            return real::__vdprintf_chk(fd, flag, format, arguments);
        }
        put(fd, |text| __vasprintf_chk(text, flag, format, arguments))
    }
}

macro_rules! with_list {
    ($( $(#[$doc:meta])* $name:ident: $named:literal before the list, then $call:ident with it in $x86:literal, $arm:literal; )*) => { $(
        $(#[$doc])*
        ///
        /// # Safety
        /// As in C.
        #[cfg(target_arch = "x86_64")]
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        pub unsafe extern "C" fn $name() {
            // System V ABI for AMD64, 3.5.7: the list at rsp, the register save area 32 bytes above.
            naked_asm!(
                // Told to whoever unwinds the stack: vdprintf is a cancellation point.
                ".cfi_startproc",
                "sub rsp, 216",
                ".cfi_def_cfa_offset 224",
                "mov [rsp + 32 + 16], rdx",
                "mov [rsp + 32 + 24], rcx",
                "mov [rsp + 32 + 32], r8",
                "mov [rsp + 32 + 40], r9",
                "test al, al",
                "je 2f",
                "movups [rsp + 32 + 48], xmm0",
                "movups [rsp + 32 + 64], xmm1",
                "movups [rsp + 32 + 80], xmm2",
                "movups [rsp + 32 + 96], xmm3",
                "movups [rsp + 32 + 112], xmm4",
                "movups [rsp + 32 + 128], xmm5",
                "movups [rsp + 32 + 144], xmm6",
                "movups [rsp + 32 + 160], xmm7",
                "2:",
                "mov dword ptr [rsp], 8 * {named}",
                "mov dword ptr [rsp + 4], 48",
                "lea rax, [rsp + 216 + 8]",
                "mov [rsp + 8], rax",
                "lea rax, [rsp + 32]",
                "mov [rsp + 16], rax",
                concat!("mov ", $x86, ", rsp"),
                "call {call}",
                "add rsp, 216",
                ".cfi_def_cfa_offset 8",
                "ret",
                ".cfi_endproc",
                named = const $named,
                call = sym $call,
            )
        }

        $(#[$doc])*
        ///
        /// # Safety
        /// As in C.
        #[cfg(target_arch = "aarch64")]
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        pub unsafe extern "C" fn $name() {
            // AAPCS64, appendix B: the list at sp + 16, general registers above it, then the others.
            naked_asm!(
                ".cfi_startproc",
                "stp x29, x30, [sp, #-240]!",
                ".cfi_def_cfa_offset 240",
                ".cfi_offset w29, -240",
                ".cfi_offset w30, -232",
                "mov x29, sp",
                "stp x0, x1, [sp, #48]",
                "stp x2, x3, [sp, #64]",
                "stp x4, x5, [sp, #80]",
                "stp x6, x7, [sp, #96]",
                "stp q0, q1, [sp, #112]",
                "stp q2, q3, [sp, #144]",
                "stp q4, q5, [sp, #176]",
                "stp q6, q7, [sp, #208]",
                "add x9, sp, #240",
                "str x9, [sp, #16]",
                "add x9, sp, #112",
                "str x9, [sp, #24]",
                "add x9, sp, #240",
                "str x9, [sp, #32]",
                "mov w9, #-8 * (8 - {named})",
                "str w9, [sp, #40]",
                "mov w9, #-128",
                "str w9, [sp, #44]",
                concat!("add ", $arm, ", sp, #16"),
                "bl {call}",
                "ldp x29, x30, [sp], #240",
                ".cfi_def_cfa_offset 0",
                ".cfi_restore w29",
                ".cfi_restore w30",
                "ret",
                ".cfi_endproc",
                named = const $named,
                call = sym $call,
            )
        }
    )* };
}

with_list! {
    /// dprintf(3).
    dprintf: 2 before the list, then vdprintf with it in "rdx", "x2";
    /// dprintf as `_FORTIFY_SOURCE` calls it.
    __dprintf_chk: 3 before the list, then __vdprintf_chk with it in "rcx", "x3";
}
