//! execve(2) and its relatives: another program takes the process over, and its sockets that stay open with it. And
//! posix_spawn(3), which makes a process for it.

use super::answer;
use crate::socket::handover::next::{self, Next};
use crate::socket::handover::{leave, spawn};
use crate::socket::kcm::share;
use core::cell::LazyCell;
use core::ffi::{CStr, c_char, c_int, c_void};
use preloop_image::program;
use preloop_sys::{Fd, real};
use preloop_uapi::settings::PRELOOP_LETTER;
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

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
unsafe fn texts<'a>(envp: Strings) -> impl Iterator<Item = &'a [u8]> + Clone {
    // SAFETY: the caller's.
    unsafe { entries(envp).map(|entry| CStr::from_ptr(entry).to_bytes()) }
}

/// Calls `exec` with the environment for the next program. Comes back only when that failed.
///
/// # Safety
/// `file` is null or a C string; `envp` as for [`entries`].
unsafe fn replace(
    file: *const c_char,
    envp: Strings,
    next: impl FnOnce() -> Next,
    exec: impl FnOnce(Strings) -> c_int,
) -> c_int {
    let next = LazyCell::new(next);
    // While this process still counts: what it hands over counts then for itself.
    let muxes = share::hand_over(|| *next);
    let leaving = match leave::before_exec(|| *next) {
        Ok(leaving) => leaving,
        Err(code) => return answer(Err(code)),
    };
    let staying = share::before_exec(muxes);
    // SAFETY: the caller's.
    let failed = unsafe { with_environment(file, envp, leaving.letter(), exec) };
    staying.exec_failed();
    leaving.exec_failed();
    failed
}

/// Calls `exec` with the program's environment, and in it the name of the letter, if there is one; without the library
/// where that would keep `file` from starting.
///
/// # Safety
/// `file` is null or a C string; `envp` as for [`entries`].
unsafe fn with_environment(
    file: *const c_char,
    envp: Strings,
    letter: Option<Fd>,
    exec: impl FnOnce(Strings) -> c_int,
) -> c_int {
    let letter = letter.and_then(|fd| CString::new(format!("{PRELOOP_LETTER}={fd}")).ok());
    // SAFETY: the caller's.
    let chokes = !file.is_null() && next::chokes(unsafe { CStr::from_ptr(file) });
    if letter.is_none() && !chokes {
        return exec(envp);
    }
    // SAFETY: the caller's.
    let mut with: Vec<_> = unsafe { entries(envp) }.collect();
    // They live until the call is over: an environment may have the variable twice.
    let mut lists = Vec::new();
    for entry in with.iter_mut().filter(|_| chokes) {
        // SAFETY: as above.
        if let Some(list) = next::without_library(unsafe { CStr::from_ptr(*entry) }.to_bytes()) {
            *entry = list.as_ptr();
            lists.push(list);
        }
    }
    with.extend(letter.as_ref().map(|letter| letter.as_ptr()));
    with.push(core::ptr::null());
    exec(with.as_ptr())
}

/// # Safety
/// `path` is a C string, or null: that names no file.
unsafe fn path_of(path: *const c_char) -> PathBuf {
    if path.is_null() {
        return PathBuf::new();
    }
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
    unsafe { replace(path, envp, || next::of_file(&path_of(path), texts(envp)), |envp| real::execve(path, argv, envp)) }
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
        let found = found(file);
        let next = || next::of_file(&path_of(found.as_ptr()), texts(envp));
        replace(found.as_ptr(), envp, next, |envp| real::execvpe(file, argv, envp))
    }
}

/// fexecve(3).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fexecve(fd: c_int, argv: Strings, envp: Strings) -> c_int {
    // SAFETY: the program's own call.
    unsafe {
        let file = of_descriptor(fd);
        let name = name_of(&file);
        replace(name.as_ptr(), envp, || next::of_file(&file, texts(envp)), |envp| real::fexecve(fd, argv, envp))
    }
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
        let given = path_of(path);
        let file = match dir {
            libc::AT_FDCWD => given,
            dir if given.as_os_str().is_empty() => of_descriptor(dir),
            dir => of_descriptor(dir).join(given),
        };
        let name = name_of(&file);
        let next = || next::of_file(&file, texts(envp));
        replace(name.as_ptr(), envp, next, |envp| real::execveat(dir, path, argv, envp, flags))
    }
}

/// The file that execvp(3) will run, by name; none, if there is none.
///
/// # Safety
/// As for [`path_of`].
unsafe fn found(file: *const c_char) -> CString {
    // SAFETY: the caller's.
    let command = unsafe { path_of(file) };
    program::find(command.as_os_str()).map(|found| name_of(&found)).unwrap_or_default()
}

fn name_of(file: &Path) -> CString {
    CString::new(file.as_os_str().as_bytes()).unwrap_or_default()
}

/// What a descriptor stands for, by a name.
fn of_descriptor(fd: Fd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{fd}"))
}

/// How glibc keeps file actions since its version 2.2 (`spawn.h`, and `posix/spawn_int.h` for one action): what they are
/// to do no function tells.
#[repr(C)]
struct Actions {
    allocated: c_int,
    used: c_int,
    actions: *const Action,
}

#[repr(C, align(8))]
struct Action {
    kind: c_int,
    _padding: c_int,
    /// Of dup2, and of others that name one.
    fd: c_int,
    _rest: [c_int; 5],
}

/// `enum` of `posix/spawn_int.h`.
mod kind {
    pub const DUP2: i32 = 1;
    pub const CHDIR: i32 = 3;
    pub const CLOSEFROM: i32 = 5;
}

/// # Safety
/// Null, or file actions that posix_spawn_file_actions_init(3) made.
unsafe fn wishes(actions: *const c_void) -> spawn::Wishes {
    let mut wishes = spawn::Wishes::default();
    // SAFETY: the caller's; `used` of them are there.
    unsafe {
        let Some(actions) = actions.cast::<Actions>().as_ref() else { return wishes };
        for index in 0..actions.used.clamp(0, actions.allocated) as usize {
            let action = &*actions.actions.add(index);
            match action.kind {
                kind::DUP2 => wishes.named.push(action.fd),
                kind::CHDIR..=kind::CLOSEFROM => wishes.is_opaque = true,
                _ => {}
            }
        }
    }
    wishes
}

/// # Safety
/// `file` and `envp` as for [`with_environment`]; `actions` as for [`wishes`]; `make` stores the child's number at `pid`.
unsafe fn make_child(
    file: *const c_char,
    pid: *mut libc::pid_t,
    actions: *const c_void,
    envp: Strings,
    next: impl FnOnce() -> Next,
    make: impl FnOnce(*mut libc::pid_t, Strings) -> c_int,
) -> c_int {
    // SAFETY: the caller's.
    let wishes = unsafe { wishes(actions) };
    let next = LazyCell::new(|| if wishes.is_opaque { Next::Bare } else { next() });
    // The child finds this process's muxes as long as this process has them.
    let _muxes = share::hand_over(|| *next);
    match spawn::before(&wishes, || *next) {
        // posix_spawn answers errors, and leaves errno alone.
        Err(code) => code.into_raw(),
        Ok(spawning) => {
            let mut child = 0;
            // SAFETY: the caller's; whoever does not want the number passes null.
            unsafe {
                let answer = with_environment(file, envp, spawning.letter(), |envp| make(&raw mut child, envp));
                if answer == 0 && !pid.is_null() {
                    *pid = child;
                }
                spawning.finish((answer == 0).then_some(child as u32));
                answer
            }
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
        let make = |pid, envp| real::posix_spawn(pid, path, actions, attributes, argv, envp);
        make_child(path, pid, actions, envp, next, make)
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
        let found = found(file);
        let next = || next::of_file(&path_of(found.as_ptr()), texts(envp));
        let make = |pid, envp| real::posix_spawnp(pid, file, actions, attributes, argv, envp);
        make_child(found.as_ptr(), pid, actions, envp, next, make)
    }
}
