//! execl(3) and its like. They take their arguments one by one, as many as there are, which Rust cannot declare: a few
//! instructions put those that came in registers beside those on the stack, and the rest is a list for execv.

use super::exec;
use core::arch::naked_asm;
use core::ffi::{c_char, c_int};

/// Arguments that come in registers, after the path.
#[cfg(target_arch = "x86_64")]
const IN_REGISTERS: usize = 5;
#[cfg(target_arch = "aarch64")]
const IN_REGISTERS: usize = 7;

/// The words of one call: up to a null pointer the program's arguments, and behind it what execle has there.
struct Words {
    registers: *const *const c_char,
    stack: *const *const c_char,
}

impl Words {
    /// # Safety
    /// `index` must not lie behind what the caller passed.
    unsafe fn get(&self, index: usize) -> *const c_char {
        // SAFETY: the caller's.
        unsafe {
            match index.checked_sub(IN_REGISTERS) {
                None => *self.registers.add(index),
                Some(index) => *self.stack.add(index),
            }
        }
    }

    /// The arguments as execv takes them.
    ///
    /// # Safety
    /// A null pointer must end them, as in C.
    unsafe fn list(&self) -> Vec<*const c_char> {
        let mut list = Vec::with_capacity(16);
        loop {
            // SAFETY: no null pointer came before.
            let word = unsafe { self.get(list.len()) };
            list.push(word);
            if word.is_null() {
                return list;
            }
        }
    }
}

unsafe extern "C" fn call_execv(
    path: *const c_char,
    registers: *const *const c_char,
    stack: *const *const c_char,
) -> c_int {
    // SAFETY: the program ends its arguments with a null pointer; the list lives as long as the call.
    unsafe { exec::execv(path, Words { registers, stack }.list().as_ptr()) }
}

unsafe extern "C" fn call_execvp(
    file: *const c_char,
    registers: *const *const c_char,
    stack: *const *const c_char,
) -> c_int {
    // SAFETY: as in `call_execv`.
    unsafe { exec::execvp(file, Words { registers, stack }.list().as_ptr()) }
}

unsafe extern "C" fn call_execve(
    path: *const c_char,
    registers: *const *const c_char,
    stack: *const *const c_char,
) -> c_int {
    let words = Words { registers, stack };
    // SAFETY: as in `call_execv`; execle has its environment behind the null pointer.
    unsafe {
        let list = words.list();
        exec::execve(path, list.as_ptr(), words.get(list.len()).cast())
    }
}

macro_rules! gather {
    ($( $(#[$doc:meta])* $name:ident => $call:ident; )*) => { $(
        $(#[$doc])*
        ///
        /// # Safety
        /// As in C: a null pointer ends the arguments.
        #[cfg(target_arch = "x86_64")]
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        pub unsafe extern "C" fn $name() {
            naked_asm!(
                "push r9",
                "push r8",
                "push rcx",
                "push rdx",
                "push rsi",
                "mov rsi, rsp",
                // Behind the five words and the return address.
                "lea rdx, [rsp + 48]",
                "call {call}",
                "add rsp, 40",
                "ret",
                call = sym $call,
            )
        }

        $(#[$doc])*
        ///
        /// # Safety
        /// As in C: a null pointer ends the arguments.
        #[cfg(target_arch = "aarch64")]
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        pub unsafe extern "C" fn $name() {
            naked_asm!(
                "stp x29, x30, [sp, #-80]!",
                "stp x1, x2, [sp, #16]",
                "stp x3, x4, [sp, #32]",
                "stp x5, x6, [sp, #48]",
                "str x7, [sp, #64]",
                "add x1, sp, #16",
                "add x2, sp, #80",
                "bl {call}",
                "ldp x29, x30, [sp], #80",
                "ret",
                call = sym $call,
            )
        }
    )* };
}

gather! {
    /// execl(3).
    execl => call_execv;
    /// execlp(3).
    execlp => call_execvp;
    /// execle(3).
    execle => call_execve;
}
