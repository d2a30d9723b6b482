//! execve(2) and its relatives: another program takes the process over, and its sockets that stay open with it. And
//! posix_spawn(3), which makes a process for it.

use super::answer;
use crate::socket::handover::next::{self, Next};
use crate::socket::handover::{leave, spawn};
use core::ffi::{CStr, c_char, c_int, c_void};
use preloop_sys::{Fd, real};
use preloop_uapi::settings::PRELOOP_LETTER;
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

type Strings = *const *const c_char;

unsafe extern "C" {
    static environ: Strings;
}

/// The entries of an environment; a null pointer is an empty one.
///
/// # Safety
/// `envp` is null or ends with a null pointer, as execve's.
unsafe fn entries<'a>(envp: Strings) -> impl Iterator<Item = *const c_char> + Clone + 'a {
    let count = if envp.is_null() { 0 } else { usize::MAX };
    // SAFETY: the caller's: nothing behind the null pointer is looked at.
    (0..count).map(move |index| unsafe { *envp.add(index) }).take_while(|entry| !entry.is_null())
}

/// The same, as bytes.
///
/// # Safety
/// As for [`entries`], and the strings stay as they are.
unsafe fn texts<'a>(envp: Strings) -> impl Iterator<Item = &'a [u8]> {
    // SAFETY: the caller's.
    unsafe { entries(envp).map(|entry| CStr::from_ptr(entry).to_bytes()) }
}

/// Calls `exec` with the environment that names the letter, if there is one. Comes back only when that failed.
///
/// # Safety
/// `envp` as for [`entries`].
unsafe fn replace(envp: Strings, next: impl FnOnce() -> Next, exec: impl FnOnce(Strings) -> c_int) -> c_int {
    let leaving = match leave::before_exec(next) {
        Ok(leaving) => leaving,
        Err(code) => return answer(Err(code)),
    };
    // SAFETY: the caller's.
    let failed = unsafe { with_letter(envp, leaving.letter(), exec) };
    leaving.exec_failed();
    failed
}

/// # Safety
/// `envp` as for [`entries`].
unsafe fn with_letter(envp: Strings, letter: Option<Fd>, exec: impl FnOnce(Strings) -> c_int) -> c_int {
    let Some(letter) = letter.and_then(|fd| CString::new(format!("{PRELOOP_LETTER}={fd}")).ok()) else {
        return exec(envp);
    };
    // SAFETY: the caller's.
    let mut with: Vec<_> = unsafe { entries(envp) }.collect();
    with.push(letter.as_ptr());
    with.push(core::ptr::null());
    exec(with.as_ptr())
}

/// # Safety
/// `path` is a C string.
unsafe fn path_of(path: *const c_char) -> PathBuf {
    // SAFETY: the caller's.
    PathBuf::from(OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes()))
}

/// execve(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn execve(path: *const c_char, argv: Strings, envp: Strings) -> c_int {
    // SAFETY: the program's own call.
    unsafe { replace(envp, || next::of_file(&path_of(path), texts(envp)), |envp| real::execve(path, argv, envp)) }
}

/// execv(3).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn execv(path: *const c_char, argv: Strings) -> c_int {
    // SAFETY: the program's own call.
    unsafe { execve(path, argv, environ) }
}

/// execvp(3).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn execvp(file: *const c_char, argv: Strings) -> c_int {
    // SAFETY: the program's own call.
    unsafe { execvpe(file, argv, environ) }
}

/// execvpe(3).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn execvpe(file: *const c_char, argv: Strings, envp: Strings) -> c_int {
    // SAFETY: the program's own call.
    unsafe {
        let next = || next::of_command(path_of(file).as_os_str(), texts(envp));
        replace(envp, next, |envp| real::execvpe(file, argv, envp))
    }
}

/// fexecve(3).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fexecve(fd: c_int, argv: Strings, envp: Strings) -> c_int {
    // SAFETY: the program's own call.
    unsafe { replace(envp, || next::of_file(&of_descriptor(fd), texts(envp)), |envp| real::fexecve(fd, argv, envp)) }
}

/// execveat(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn execveat(
    dir: c_int,
    path: *const c_char,
    argv: Strings,
    envp: Strings,
    flags: c_int,
) -> c_int {
    // SAFETY: the program's own call.
    unsafe {
        let next = || {
            let path = path_of(path);
            let file = match dir {
                libc::AT_FDCWD => path,
                dir if path.as_os_str().is_empty() => of_descriptor(dir),
                dir => of_descriptor(dir).join(path),
            };
            next::of_file(&file, texts(envp))
        };
        replace(envp, next, |envp| real::execveat(dir, path, argv, envp, flags))
    }
}

/// What a descriptor stands for, by a name.
fn of_descriptor(fd: Fd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{fd}"))
}

/// # Safety
/// `envp` as for [`entries`].
unsafe fn make_child(envp: Strings, next: impl FnOnce() -> Next, make: impl FnOnce(Strings) -> c_int) -> c_int {
    match spawn::before(next) {
        // posix_spawn answers errors, and leaves errno alone.
        Err(code) => code.into_raw(),
        Ok(spawning) => {
            // SAFETY: the caller's.
            let answer = unsafe { with_letter(envp, spawning.letter(), make) };
            spawning.finish(answer == 0);
            answer
        }
    }
}

/// posix_spawn(3).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_spawn(
    pid: *mut libc::pid_t,
    path: *const c_char,
    actions: *const c_void,
    attributes: *const c_void,
    argv: Strings,
    envp: Strings,
) -> c_int {
    // SAFETY: the program's own call.
    unsafe {
        let next = || next::of_file(&path_of(path), texts(envp));
        make_child(envp, next, |envp| real::posix_spawn(pid, path, actions, attributes, argv, envp))
    }
}

/// posix_spawnp(3).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_spawnp(
    pid: *mut libc::pid_t,
    file: *const c_char,
    actions: *const c_void,
    attributes: *const c_void,
    argv: Strings,
    envp: Strings,
) -> c_int {
    // SAFETY: the program's own call.
    unsafe {
        let next = || next::of_command(path_of(file).as_os_str(), texts(envp));
        make_child(envp, next, |envp| real::posix_spawnp(pid, file, actions, attributes, argv, envp))
    }
}

/// posix_spawn_file_actions_adddup2(3): the descriptor is meant for a child.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_spawn_file_actions_adddup2(actions: *mut c_void, fd: c_int, to: c_int) -> c_int {
    spawn::is_for_child(fd);
    // SAFETY: the program's own call.
    unsafe { real::posix_spawn_file_actions_adddup2(actions, fd, to) }
}
