//! What arguments are called: mostly as the kernel's definitions call them, but where the manual
//! has a name that everyone knows (socket's `domain`, openat's `dirfd`), that one, with the
//! kernel's as a second name. Names are from section 2 of the manual and from man7.org's
//! keyctl(2).

/// The name of an argument, and the others that lead to it.
pub(super) fn names(call: &str, kernel: &str) -> (String, Vec<String>) {
    let own = CALLS.iter().find(|(of, from, _)| *from == kernel && of.contains(&call));
    let listed = own.map(|(_, _, to)| *to).or_else(|| {
        EVERYWHERE.iter().find(|(from, _)| *from == kernel).map(|(_, to)| std::slice::from_ref(to))
    });
    let plain = kernel.trim_start_matches('_');
    let Some([name, others @ ..]) = listed else {
        return (plain.to_owned(), Vec::new());
    };
    let mut others: Vec<String> = others.iter().map(|other| (*other).to_owned()).collect();
    if plain != *name && !others.iter().any(|other| other == plain) {
        others.push(plain.to_owned());
    }
    ((*name).to_owned(), others)
}

/// The kernel's name and the manual's, whatever the call.
const EVERYWHERE: &[(&str, &str)] = &[
    ("addr_len", "addrlen"),
    ("attr_uptr", "attr"),
    ("behavior", "advice"),
    ("buff", "buf"),
    ("child_tidptr", "child_tid"),
    ("clone_flags", "flags"),
    ("destringid", "dest_keyring"),
    ("dfd", "dirfd"),
    ("error_code", "status"),
    ("exp", "exceptfds"),
    ("fdin", "fd_in"),
    ("fdout", "fd_out"),
    ("filename", "pathname"),
    ("flag", "flags"),
    ("fs_name", "fsname"),
    ("inp", "readfds"),
    ("mountdirfd", "mount_fd"),
    ("name_user", "name"),
    ("newdfd", "newdirfd"),
    ("newname", "newpath"),
    ("newsp", "stack"),
    ("off", "offset"),
    ("olddfd", "olddirfd"),
    ("oldname", "oldpath"),
    ("outp", "writefds"),
    ("parent_tidptr", "parent_tid"),
    ("ringid", "keyring"),
    ("rmtp", "remain"),
    ("rqtp", "request"),
    ("ru", "rusage"),
    ("specialfile", "path"),
    ("stat_addr", "wstatus"),
    ("swap_flags", "swapflags"),
    ("timeout_msecs", "timeout"),
    ("timer_id", "timerid"),
    ("tls_val", "tls"),
    ("u_name", "name"),
    ("ubuf", "buf"),
    ("ufds", "fds"),
    ("uiov", "iov"),
    ("umod", "module_image"),
    ("umyaddr", "addr"),
    ("uname", "name"),
    ("unshare_flags", "flags"),
    ("upeer_addrlen", "addrlen"),
    ("upeer_sockaddr", "addr"),
    ("upid", "pid"),
    ("user", "owner"),
    ("uservaddr", "addr"),
    ("usize", "size"),
    ("usockaddr", "addr"),
    ("usockaddr_len", "addrlen"),
    ("usockvec", "sv"),
    ("vlen", "iovcnt"),
    ("which_clock", "clockid"),
];

/// Calls, the kernel's name, and the names that hold for these calls, the best first.
const CALLS: &[(&[&str], &str, &[&str])] = &[
    (&["arch_prctl"], "option", &["code", "op"]),
    (&["bpf", "fcntl", "fcntl64", "quotactl", "reboot"], "cmd", &["cmd", "op"]),
    (&["dup"], "fildes", &["oldfd"]),
    (&["pipe", "pipe2"], "fildes", &["pipefd"]),
    (&["execveat"], "fd", &["dirfd"]),
    (&["futex", "futex_time64"], "op", &["op", "futex_op"]),
    (&["futex", "futex_time64"], "utime", &["timeout"]),
    (&["io_setup"], "ctxp", &["ctx_idp"]),
    (&["ioctl"], "cmd", &["cmd", "request", "op"]),
    (&["keyctl"], "option", &["operation", "op"]),
    (&["mmap", "mmap2", "munmap", "mremap"], "len", &["length"]),
    (&["mount"], "dev_name", &["source"]),
    (&["mount"], "dir_name", &["target"]),
    (&["mount"], "type", &["filesystemtype"]),
    (&["mount"], "flags", &["mountflags"]),
    (&["umount", "umount2"], "name", &["target"]),
    (&["prctl"], "option", &["option", "op"]),
    (&["process_madvise"], "vec", &["iovec"]),
    (&["process_madvise"], "vlen", &["vlen"]),
    (&["ptrace"], "request", &["request", "op"]),
    (&["preadv", "preadv2", "pwritev", "pwritev2", "readv", "writev"], "vec", &["iov"]),
    (&["pread64", "pwrite64"], "pos", &["offset"]),
    (&["recvmmsg", "recvmmsg_time64", "sendmmsg"], "mmsg", &["msgvec"]),
    (&["recvmmsg", "recvmmsg_time64", "sendmmsg"], "vlen", &["vlen"]),
    (&["process_vm_readv", "process_vm_writev"], "lvec", &["local_iov"]),
    (&["process_vm_readv", "process_vm_writev"], "rvec", &["remote_iov"]),
    (&["sched_getaffinity", "sched_setaffinity"], "user_mask_ptr", &["mask"]),
    (&["sched_getaffinity", "sched_setaffinity"], "len", &["cpusetsize"]),
    (&["seccomp"], "op", &["operation", "op"]),
    (&["seccomp"], "uargs", &["args"]),
    (&["select", "_newselect", "pselect6", "pselect6_time64"], "n", &["nfds"]),
    (&["select", "_newselect"], "tvp", &["timeout"]),
    (&["socket", "socketpair"], "family", &["domain"]),
    (
        &[
            "madvise",
            "mbind",
            "mincore",
            "mlock",
            "mlock2",
            "mprotect",
            "mseal",
            "msync",
            "munlock",
            "pkey_mprotect",
        ],
        "start",
        &["addr"],
    ),
    (&["madvise"], "len_in", &["length"]),
    (&["sendmsg", "recvmsg"], "fd", &["sockfd"]),
    (
        &[
            "accept",
            "accept4",
            "bind",
            "connect",
            "getpeername",
            "getsockname",
            "getsockopt",
            "listen",
            "recv",
            "recvfrom",
            "recvmmsg",
            "recvmmsg_time64",
            "send",
            "sendmmsg",
            "sendto",
            "setsockopt",
            "shutdown",
        ],
        "fd",
        &["sockfd"],
    ),
    (&["personality"], "personality", &["persona"]),
    (&["chroot", "chdir", "truncate"], "filename", &["path"]),
];
