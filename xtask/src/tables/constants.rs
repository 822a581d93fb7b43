//! Named constants of arguments: which sets there are, which arguments take them, and their
//! values on each arch, as gcc sees them in the kernel's headers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result, ensure};
use strait_abi::Arch;

use super::sources::Sources;
use super::target::TARGETS;

/// The headers that have the names. What a program may not include beside another is left out.
const HEADERS: &[&str] = &[
    "asm/errno.h",
    "asm/fcntl.h",
    "asm/ioctls.h",
    "asm/mman.h",
    "asm/ptrace.h",
    "asm/resource.h",
    "asm/signal.h",
    "asm/socket.h",
    "asm/sockios.h",
    "asm/termios.h",
    "linux/bpf.h",
    "linux/close_range.h",
    "linux/eventfd.h",
    "linux/eventpoll.h",
    "linux/falloc.h",
    "linux/fanotify.h",
    "linux/fcntl.h",
    "linux/fiemap.h",
    "linux/fs.h",
    "linux/futex.h",
    "linux/if_tun.h",
    "linux/in.h",
    "linux/in6.h",
    "linux/inotify.h",
    "linux/io_uring.h",
    "linux/ipc.h",
    "linux/kcmp.h",
    "linux/kexec.h",
    "linux/keyctl.h",
    "linux/landlock.h",
    "linux/membarrier.h",
    "linux/memfd.h",
    "linux/mempolicy.h",
    "linux/mman.h",
    "linux/module.h",
    "linux/mount.h",
    "linux/msg.h",
    "linux/net.h",
    "linux/netlink.h",
    "linux/nsfs.h",
    "linux/openat2.h",
    "linux/perf_event.h",
    "linux/personality.h",
    "linux/pidfd.h",
    "linux/prctl.h",
    "linux/ptrace.h",
    "linux/quota.h",
    "linux/random.h",
    "linux/reboot.h",
    "linux/rseq.h",
    "linux/sched.h",
    "linux/seccomp.h",
    "linux/sem.h",
    "linux/shm.h",
    "linux/signalfd.h",
    "linux/stat.h",
    "linux/tcp.h",
    "linux/time.h",
    "linux/timerfd.h",
    "linux/udp.h",
    "linux/userfaultfd.h",
    "linux/wait.h",
    "linux/xattr.h",
];

/// Headers that only x86 has.
const X86_HEADERS: &[&str] = &["asm/prctl.h"];

/// Macros of these prefixes are copied from a header that the kernel keeps to itself, although
/// their values are part of its interface.
const INTERNAL: (&str, &[&str]) = ("include/linux/socket.h", &["AF_", "SOL_", "MSG_"]);

/// A set of constants.
pub(super) struct Set {
    /// Its name in Rust.
    pub(super) name: &'static str,
    /// What it holds.
    pub(super) about: &'static str,
    /// Calls, separated by blanks, and the argument of theirs that takes it.
    of: &'static [(&'static str, &'static str)],
    /// Which bits are one value rather than flags.
    pub(super) field: Field,
    /// Names and patterns, separated by blanks. A name goes before those after it where both
    /// have the same value. `PREFIX_*` is every macro so named; `enum:X` every enumerator of X;
    /// `NAME=VALUE` what no header gives; `-NAME` and `-PREFIX_*` take names out of patterns.
    members: &'static str,
}

/// Which bits of an argument are one enumerated value; the others are flags.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    /// All: the argument is one of the values.
    All,
    /// None: the argument is a combination of flags.
    Flags,
    /// These.
    Mask(u64),
    /// All, but several meanings share a value and other arguments tell which it is, so a value
    /// cannot be given a name back.
    Ambiguous,
}

/// The values of a constant by arch.
pub(super) type Values = BTreeMap<Arch, i64>;

/// The sets' constants, by set, each in order of value.
pub(super) type Constants = Vec<(&'static Set, Vec<(String, Values)>)>;

/// The name of the set that an argument takes.
pub(super) fn set_of(call: &str, argument: &str) -> Option<&'static str> {
    let takes = |(calls, name): &(&str, &str)| {
        *name == argument && calls.split_whitespace().any(|one| one == call)
    };
    SETS.iter().find(|set| set.of.iter().any(takes)).map(|set| set.name)
}

/// Every (call, argument) that a set is for, to check that each is there.
pub(super) fn assignments() -> impl Iterator<Item = (&'static str, &'static str)> {
    SETS.iter()
        .flat_map(|set| set.of)
        .flat_map(|(calls, argument)| calls.split_whitespace().map(move |call| (call, *argument)))
}

/// Reads the values of every set.
pub(super) fn read(sources: &Sources) -> Result<Constants> {
    let internal = internal_macros(sources)?;
    let mut values: BTreeMap<String, Values> = BTreeMap::new();
    let mut members: Vec<Vec<(String, String)>> = vec![Vec::new(); SETS.len()];
    for target in TARGETS {
        let x86 = matches!(target.arch, Arch::X86_64 | Arch::X32 | Arch::I386);
        let mut headers = HEADERS.to_vec();
        headers.extend(X86_HEADERS.iter().filter(|_| x86));
        let mut macros: BTreeSet<String> = target.macros(sources, &headers)?.into_keys().collect();
        macros.extend(internal.keys().cloned());
        let mut wanted: BTreeMap<String, String> = BTreeMap::new();
        for (set, all) in SETS.iter().zip(&mut members) {
            for (name, expression) in expand(set, &macros, sources)? {
                let value = internal.get(&expression).unwrap_or(&expression);
                wanted.insert(name.clone(), value.clone());
                if !all.iter().any(|(known, _)| *known == name) {
                    all.push((name, expression));
                }
            }
        }
        let expressions: Vec<String> = wanted.values().cloned().collect();
        let found = target.evaluate(sources, &headers, &expressions)?;
        for (name, value) in wanted.into_keys().zip(found) {
            values.entry(name).or_default().insert(target.arch, value);
        }
    }
    let mut constants = Constants::new();
    for (set, names) in SETS.iter().zip(members) {
        let mut rows: Vec<(String, Values)> = Vec::new();
        for (name, _) in names {
            let row = values.get(&name).with_context(|| format!("{name} has no value"))?;
            rows.push((name, row.clone()));
        }
        ensure!(!rows.is_empty(), "{} is empty", set.name);
        rows.sort_by_key(|(_, values)| values.values().next().copied());
        constants.push((set, rows));
    }
    Ok(constants)
}

/// The names of a set and the expressions that give their values, in the set's order.
fn expand(
    set: &Set,
    macros: &BTreeSet<String>,
    sources: &Sources,
) -> Result<Vec<(String, String)>> {
    let matches = |pattern: &str, name: &str| match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == pattern,
    };
    let tokens: Vec<&str> = set.members.split_whitespace().collect();
    let out: Vec<&str> = tokens.iter().filter_map(|token| token.strip_prefix('-')).collect();
    let mut names: Vec<(String, String)> = Vec::new();
    for token in tokens.iter().filter(|token| !token.starts_with('-')) {
        if let Some((name, value)) = token.split_once('=') {
            names.push((name.to_owned(), value.to_owned()));
        } else if let Some(name) = token.strip_prefix("enum:") {
            let found = enumerators(sources, name)?;
            names.extend(found.into_iter().map(|name| (name.clone(), name)));
        } else {
            let found = macros.iter().filter(|name| matches(token, name));
            names.extend(found.map(|name| (name.clone(), name.clone())));
        }
    }
    let mut seen = BTreeSet::new();
    names.retain(|(name, _)| {
        !out.iter().any(|pattern| matches(pattern, name)) && seen.insert(name.clone())
    });
    Ok(names)
}

/// The names in `enum NAME { … }` of the headers.
fn enumerators(sources: &Sources, name: &str) -> Result<Vec<String>> {
    for header in HEADERS.iter().filter(|header| header.starts_with("linux/")) {
        let path = sources.headers().join(header);
        let text = fs::read_to_string(&path)
            .with_context(|| format!("{} cannot be read", path.display()))?;
        let Some((_, rest)) = text.split_once(&format!("enum {name} {{")) else { continue };
        let body = rest.split('}').next().unwrap_or_default();
        let mut bare = String::new();
        let mut rest = body;
        while let Some((before, after)) = rest.split_once("/*") {
            bare.push_str(before);
            rest = after.split_once("*/").map_or("", |(_, after)| after);
        }
        bare.push_str(rest);
        return Ok(bare
            .split(',')
            .filter_map(|entry| entry.split('=').next())
            .map(|entry| entry.trim().to_owned())
            .filter(|entry| {
                !entry.is_empty()
                    && !entry.starts_with('_')
                    && !entry.contains("_MAX")
                    && !entry.ends_with("_LAST")
                    && entry.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            })
            .collect());
    }
    anyhow::bail!("no header has enum {name}")
}

fn internal_macros(sources: &Sources) -> Result<BTreeMap<String, String>> {
    let (path, prefixes) = INTERNAL;
    let path = sources.kernel().join(path);
    let text =
        fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    let mut macros = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if words.next() != Some("#define") {
            continue;
        }
        let (Some(name), Some(value)) = (words.next(), words.next()) else { continue };
        if prefixes.iter().any(|prefix| name.starts_with(prefix)) && !name.contains('(') {
            // The first of two definitions is the one for kernels with compat support.
            macros.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        }
    }
    // What is defined by another macro of the same header.
    let resolved = macros
        .iter()
        .map(|(name, value)| (name.clone(), macros.get(value).unwrap_or(value).clone()))
        .collect();
    Ok(resolved)
}

const SIGNALS: &str = "SIGABRT SIGIO SIGCHLD SIGSYS SIGHUP SIGINT SIGQUIT SIGILL SIGTRAP SIGBUS \
    SIGFPE SIGKILL SIGUSR1 SIGSEGV SIGUSR2 SIGPIPE SIGALRM SIGTERM SIGSTKFLT SIGCONT SIGSTOP \
    SIGTSTP SIGTTIN SIGTTOU SIGURG SIGXCPU SIGXFSZ SIGVTALRM SIGPROF SIGWINCH SIGPWR SIGIOT \
    SIGPOLL";

pub(super) const SETS: &[Set] = &[
    Set {
        name: "ERRNO",
        about: "Error numbers.",
        of: &[],
        field: Field::All,
        members: "EAGAIN EDEADLK EOPNOTSUPP E2BIG EACCES EADDRINUSE EADDRNOTAVAIL EADV \
            EAFNOSUPPORT EALREADY EBADE EBADF EBADFD EBADMSG EBADR EBADRQC EBADSLT EBFONT EBUSY \
            ECANCELED ECHILD ECHRNG ECOMM ECONNABORTED ECONNREFUSED ECONNRESET EDEADLOCK \
            EDESTADDRREQ EDOM EDOTDOT EDQUOT EEXIST EFAULT EFBIG EHOSTDOWN EHOSTUNREACH EHWPOISON \
            EIDRM EILSEQ EINPROGRESS EINTR EINVAL EIO EISCONN EISDIR EISNAM EKEYEXPIRED \
            EKEYREJECTED EKEYREVOKED EL2HLT EL2NSYNC EL3HLT EL3RST ELIBACC ELIBBAD ELIBEXEC \
            ELIBMAX ELIBSCN ELNRNG ELOOP EMEDIUMTYPE EMFILE EMLINK EMSGSIZE EMULTIHOP \
            ENAMETOOLONG ENAVAIL ENETDOWN ENETRESET ENETUNREACH ENFILE ENOANO ENOBUFS ENOCSI \
            ENODATA ENODEV ENOENT ENOEXEC ENOKEY ENOLCK ENOLINK ENOMEDIUM ENOMEM ENOMSG ENONET \
            ENOPKG ENOPROTOOPT ENOSPC ENOSR ENOSTR ENOSYS ENOTBLK ENOTCONN ENOTDIR ENOTEMPTY \
            ENOTNAM ENOTRECOVERABLE ENOTSOCK ENOTTY ENOTUNIQ ENXIO EOVERFLOW EOWNERDEAD EPERM \
            EPFNOSUPPORT EPIPE EPROTO EPROTONOSUPPORT EPROTOTYPE ERANGE EREMCHG EREMOTE \
            EREMOTEIO ERESTART ERFKILL EROFS ESHUTDOWN ESOCKTNOSUPPORT ESPIPE ESRCH ESRMNT ESTALE \
            ESTRPIPE ETIME ETIMEDOUT ETOOMANYREFS ETXTBSY EUCLEAN EUNATCH EUSERS EWOULDBLOCK \
            EXDEV EXFULL ENOTSUP=EOPNOTSUPP",
    },
    Set {
        name: "ADDRESS_FAMILY",
        about: "Address families (`AF_*`).",
        of: &[("socket socketpair", "domain")],
        field: Field::All,
        members: "AF_UNIX AF_NETLINK AF_* -AF_MAX",
    },
    Set {
        name: "SOCKET_TYPE",
        about: "Socket types, with their flags (`include/linux/net.h`).",
        of: &[("socket socketpair", "type")],
        field: Field::Mask(0xf),
        members: "SOCK_STREAM=1 SOCK_DGRAM=2 SOCK_RAW=3 SOCK_RDM=4 SOCK_SEQPACKET=5 SOCK_DCCP=6 \
            SOCK_PACKET=10 SOCK_TYPE_MASK=0xf SOCK_CLOEXEC=O_CLOEXEC SOCK_NONBLOCK=O_NONBLOCK",
    },
    Set {
        name: "SOCKET_FLAGS",
        about: "Flags of an accepted socket.",
        of: &[("accept4", "flags")],
        field: Field::Flags,
        members: "SOCK_CLOEXEC=O_CLOEXEC SOCK_NONBLOCK=O_NONBLOCK",
    },
    Set {
        name: "SOCKET_PROTOCOL",
        about: "Protocols of the internet families (`IPPROTO_*`) and of netlink (`NETLINK_*`).",
        of: &[("socket socketpair", "protocol")],
        field: Field::Ambiguous,
        members: "IPPROTO_* -IPPROTO_MAX NETLINK_ROUTE NETLINK_USERSOCK NETLINK_FIREWALL \
            NETLINK_SOCK_DIAG NETLINK_NFLOG NETLINK_XFRM NETLINK_SELINUX NETLINK_ISCSI \
            NETLINK_AUDIT NETLINK_FIB_LOOKUP NETLINK_CONNECTOR NETLINK_NETFILTER NETLINK_IP6_FW \
            NETLINK_DNRTMSG NETLINK_KOBJECT_UEVENT NETLINK_GENERIC NETLINK_SCSITRANSPORT \
            NETLINK_ECRYPTFS NETLINK_RDMA NETLINK_CRYPTO NETLINK_SMC NETLINK_INET_DIAG",
    },
    Set {
        name: "SOCKET_LEVEL",
        about: "Levels of socket options (`SOL_*`; `IPPROTO_*` for the internet families).",
        of: &[("setsockopt getsockopt", "level")],
        field: Field::All,
        members: "SOL_SOCKET SOL_* IPPROTO_IP IPPROTO_ICMP IPPROTO_TCP IPPROTO_UDP IPPROTO_IPV6 \
            IPPROTO_ICMPV6 IPPROTO_RAW IPPROTO_SCTP IPPROTO_MPTCP",
    },
    Set {
        name: "SOCKET_OPTION",
        about: "Socket options, whose level tells what their value means.",
        of: &[("setsockopt getsockopt", "optname")],
        field: Field::Ambiguous,
        members: "SO_* -SO_EE_* -SO_ORIGINAL_DST -SO_VM_SOCKETS_* \
            IP_TOS IP_TTL IP_HDRINCL IP_OPTIONS IP_RECVOPTS IP_RETOPTS IP_PKTINFO IP_PKTOPTIONS \
            IP_MTU_DISCOVER IP_RECVERR IP_RECVTTL IP_RECVTOS IP_MTU IP_FREEBIND IP_TRANSPARENT \
            IP_BIND_ADDRESS_NO_PORT IP_LOCAL_PORT_RANGE IP_MULTICAST_IF IP_MULTICAST_TTL \
            IP_MULTICAST_LOOP IP_ADD_MEMBERSHIP IP_DROP_MEMBERSHIP \
            IPV6_V6ONLY IPV6_UNICAST_HOPS IPV6_MULTICAST_IF IPV6_MULTICAST_HOPS \
            IPV6_MULTICAST_LOOP IPV6_ADD_MEMBERSHIP IPV6_RECVERR IPV6_MTU IPV6_MTU_DISCOVER \
            IPV6_RECVPKTINFO IPV6_PKTINFO IPV6_TCLASS IPV6_RECVTCLASS IPV6_FREEBIND \
            IPV6_TRANSPARENT TCP_NODELAY TCP_MAXSEG TCP_CORK TCP_KEEPIDLE TCP_KEEPINTVL \
            TCP_KEEPCNT TCP_SYNCNT TCP_LINGER2 TCP_DEFER_ACCEPT TCP_WINDOW_CLAMP TCP_INFO \
            TCP_QUICKACK TCP_CONGESTION TCP_MD5SIG TCP_USER_TIMEOUT TCP_REPAIR TCP_FASTOPEN \
            TCP_ULP TCP_FASTOPEN_CONNECT TCP_INQ TCP_ZEROCOPY_RECEIVE TCP_NOTSENT_LOWAT",
    },
    Set {
        name: "MESSAGE_FLAGS",
        about: "Flags of one transfer over a socket (`MSG_*`).",
        of: &[(
            "send sendto sendmsg sendmmsg recv recvfrom recvmsg recvmmsg recvmmsg_time64",
            "flags",
        )],
        field: Field::Flags,
        members: "MSG_OOB MSG_PEEK MSG_DONTROUTE MSG_CTRUNC MSG_TRUNC MSG_DONTWAIT MSG_EOR \
            MSG_WAITALL MSG_FIN MSG_SYN MSG_CONFIRM MSG_RST MSG_ERRQUEUE MSG_NOSIGNAL MSG_MORE \
            MSG_WAITFORONE MSG_BATCH MSG_SOCK_DEVMEM MSG_ZEROCOPY MSG_FASTOPEN MSG_CMSG_CLOEXEC",
    },
    Set {
        name: "SHUTDOWN_HOW",
        about: "Which half of a connection ends (`include/linux/net.h`, `enum sock_shutdown_cmd`).",
        of: &[("shutdown", "how")],
        field: Field::All,
        members: "SHUT_RD=0 SHUT_WR=1 SHUT_RDWR=2",
    },
    Set {
        name: "SOCKET_CALL",
        about: "The call behind `socketcall`.",
        of: &[("socketcall", "call")],
        field: Field::All,
        members: "SYS_SOCKET SYS_BIND SYS_CONNECT SYS_LISTEN SYS_ACCEPT SYS_GETSOCKNAME \
            SYS_GETPEERNAME SYS_SOCKETPAIR SYS_SEND SYS_RECV SYS_SENDTO SYS_RECVFROM \
            SYS_SHUTDOWN SYS_SETSOCKOPT SYS_GETSOCKOPT SYS_SENDMSG SYS_RECVMSG SYS_ACCEPT4 \
            SYS_RECVMMSG SYS_SENDMMSG",
    },
    Set {
        name: "IPC_CALL",
        about: "The call behind `ipc`, below a version in the upper half.",
        of: &[("ipc", "call")],
        field: Field::Mask(0xffff),
        members: "SEMOP SEMGET SEMCTL SEMTIMEDOP MSGSND MSGRCV MSGGET MSGCTL SHMAT SHMDT SHMGET \
            SHMCTL",
    },
    Set {
        name: "CLONE_FLAGS",
        about: "What a new process shares; the low byte is the signal at its end.",
        of: &[("clone", "flags")],
        field: Field::Mask(0xff),
        members: "CLONE_* -CLONE_NEWTIME -CLONE_CLEAR_SIGHAND -CLONE_INTO_CGROUP \
            -CLONE_AUTOREAP -CLONE_NNP -CLONE_PIDFD_AUTOKILL -CLONE_EMPTY_MNTNS CSIGNAL \
            SIGCHLD SIGUSR1 SIGUSR2",
    },
    Set {
        name: "UNSHARE_FLAGS",
        about: "What a process stops sharing, and kinds of namespaces.",
        of: &[("unshare setns", "flags")],
        field: Field::Flags,
        members: "CLONE_NEWNS CLONE_NEWCGROUP CLONE_NEWUTS CLONE_NEWIPC CLONE_NEWUSER \
            CLONE_NEWPID CLONE_NEWNET CLONE_NEWTIME CLONE_FILES CLONE_FS CLONE_SYSVSEM \
            CLONE_SIGHAND CLONE_THREAD CLONE_VM",
    },
    Set {
        name: "PRCTL_OPTION",
        about: "Operations on a process (`linux/prctl.h`).",
        of: &[("prctl", "option")],
        field: Field::All,
        members: "PR_SET_* -PR_SET_MM_* -PR_SET_VMA_* -PR_SET_PTRACER_ANY PR_GET_* \
            PR_CAPBSET_READ PR_CAPBSET_DROP PR_TASK_PERF_EVENTS_DISABLE \
            PR_TASK_PERF_EVENTS_ENABLE PR_MCE_KILL PR_MCE_KILL_GET PR_MPX_ENABLE_MANAGEMENT \
            PR_MPX_DISABLE_MANAGEMENT PR_CAP_AMBIENT PR_SVE_SET_VL PR_SVE_GET_VL \
            PR_PAC_RESET_KEYS PR_PAC_SET_ENABLED_KEYS PR_PAC_GET_ENABLED_KEYS PR_SCHED_CORE \
            PR_SME_SET_VL PR_SME_GET_VL PR_RISCV_V_SET_CONTROL PR_RISCV_V_GET_CONTROL \
            PR_RISCV_SET_ICACHE_FLUSH_CTX PR_PPC_GET_DEXCR PR_PPC_SET_DEXCR \
            PR_LOCK_SHADOW_STACK_STATUS PR_TIMER_CREATE_RESTORE_IDS PR_FUTEX_HASH \
            PR_RSEQ_SLICE_EXTENSION",
    },
    Set {
        name: "IOCTL_COMMAND",
        about: "Commands of terminals, sockets, files, namespaces, seccomp, userfaultfd and TUN.",
        of: &[("ioctl", "cmd")],
        field: Field::All,
        members: "FIONREAD TCGETS TCSETS TCSETSW TCSETSF TCGETA TCSETA TCSETAW TCSETAF TCSBRK \
            TCXONC TCFLSH TCGETS2 TCSETS2 TCSETSW2 TCSETSF2 TCSBRKP TIOCEXCL TIOCNXCL TIOCSCTTY \
            TIOCGPGRP TIOCSPGRP TIOCOUTQ TIOCSTI TIOCGWINSZ TIOCSWINSZ TIOCMGET TIOCMBIS \
            TIOCMBIC TIOCMSET TIOCLINUX TIOCCONS TIOCGSERIAL TIOCSSERIAL TIOCPKT TIOCNOTTY \
            TIOCSETD TIOCGETD TIOCSBRK TIOCCBRK TIOCGSID TIOCGPTN TIOCSPTLCK TIOCGDEV \
            TIOCGPTPEER TIOCVHANGUP TIOCGPKT TIOCGPTLCK TIOCGEXCL FIOCLEX FIONCLEX FIOASYNC \
            FIONBIO FIOQSIZE TIOCINQ FIOSETOWN FIOGETOWN SIOCSPGRP SIOCGPGRP SIOCATMARK \
            SIOCGSTAMP SIOCGSTAMPNS SIOCINQ SIOCOUTQ SIOCADDRT SIOCDELRT SIOCGIFNAME SIOCGIFCONF \
            SIOCGIFFLAGS SIOCSIFFLAGS SIOCGIFADDR SIOCSIFADDR SIOCGIFDSTADDR SIOCGIFBRDADDR \
            SIOCGIFNETMASK SIOCSIFNETMASK SIOCGIFMETRIC SIOCGIFMTU SIOCSIFMTU SIOCGIFHWADDR \
            SIOCSIFHWADDR SIOCGIFINDEX SIOCGIFCOUNT SIOCETHTOOL SIOCGIFTXQLEN SIOCGARP SIOCSARP \
            SIOCDARP SIOCBRADDBR SIOCBRDELBR FIBMAP FIGETBSZ FIFREEZE FITHAW FITRIM FICLONE \
            FICLONERANGE FIDEDUPERANGE FS_IOC_* BLKROSET BLKROGET BLKRRPART BLKGETSIZE BLKFLSBUF \
            BLKSSZGET BLKBSZGET BLKGETSIZE64 BLKDISCARD BLKSECDISCARD BLKZEROOUT NS_GET_* \
            SECCOMP_IOCTL_* UFFDIO_API UFFDIO_REGISTER UFFDIO_UNREGISTER UFFDIO_WAKE UFFDIO_COPY \
            UFFDIO_ZEROPAGE UFFDIO_MOVE UFFDIO_WRITEPROTECT UFFDIO_CONTINUE UFFDIO_POISON \
            PERF_EVENT_IOC_ENABLE PERF_EVENT_IOC_DISABLE PERF_EVENT_IOC_REFRESH \
            PERF_EVENT_IOC_RESET PERF_EVENT_IOC_PERIOD PERF_EVENT_IOC_SET_OUTPUT \
            PERF_EVENT_IOC_SET_FILTER PERF_EVENT_IOC_ID PERF_EVENT_IOC_SET_BPF TUNSETIFF \
            TUNGETIFF TUNSETPERSIST TUNSETOWNER TUNSETGROUP TUNGETFEATURES PIDFD_GET_*",
    },
    Set {
        name: "FCNTL_COMMAND",
        about: "Operations on a descriptor.",
        of: &[("fcntl fcntl64", "cmd")],
        field: Field::All,
        members: "F_DUPFD F_GETFD F_SETFD F_GETFL F_SETFL F_GETLK F_SETLK F_SETLKW F_SETOWN \
            F_GETOWN F_SETSIG F_GETSIG F_GETLK64 F_SETLK64 F_SETLKW64 F_SETOWN_EX F_GETOWN_EX \
            F_GETOWNER_UIDS F_OFD_GETLK F_OFD_SETLK F_OFD_SETLKW F_SETLEASE F_GETLEASE F_NOTIFY \
            F_DUPFD_QUERY F_CREATED_QUERY F_CANCELLK F_DUPFD_CLOEXEC F_SETPIPE_SZ F_GETPIPE_SZ \
            F_ADD_SEALS F_GET_SEALS F_GET_RW_HINT F_SET_RW_HINT F_GET_FILE_RW_HINT \
            F_SET_FILE_RW_HINT F_GETDELEG F_SETDELEG",
    },
    Set {
        name: "MEMORY_PROTECTION",
        about: "Access to mapped memory.",
        of: &[("mmap mmap2 mprotect pkey_mprotect remap_file_pages", "prot")],
        field: Field::Flags,
        members: "PROT_NONE PROT_READ PROT_WRITE PROT_EXEC PROT_SEM PROT_GROWSDOWN PROT_GROWSUP \
            PROT_BTI PROT_MTE PROT_SAO",
    },
    Set {
        name: "MAP_FLAGS",
        about: "How memory is mapped.",
        of: &[("mmap mmap2", "flags")],
        field: Field::Mask(0xf),
        members: "MAP_SHARED MAP_PRIVATE MAP_SHARED_VALIDATE MAP_DROPPABLE MAP_TYPE \
            MAP_ANONYMOUS MAP_FIXED MAP_POPULATE MAP_NONBLOCK MAP_STACK MAP_HUGETLB MAP_SYNC \
            MAP_FIXED_NOREPLACE MAP_UNINITIALIZED MAP_GROWSDOWN MAP_DENYWRITE MAP_EXECUTABLE \
            MAP_LOCKED MAP_NORESERVE MAP_32BIT MAP_ABOVE4G MAP_ANON=MAP_ANONYMOUS",
    },
    Set {
        name: "OPEN_FLAGS",
        about: "How a file is opened.",
        of: &[
            ("open openat open_by_handle_at", "flags"),
            ("fanotify_init", "event_f_flags"),
            ("mq_open", "oflag"),
        ],
        field: Field::Mask(3),
        members: "O_RDONLY O_WRONLY O_RDWR O_ACCMODE O_CREAT O_EXCL O_NOCTTY O_TRUNC O_APPEND \
            O_NONBLOCK O_DSYNC O_ASYNC=FASYNC O_DIRECT O_LARGEFILE O_DIRECTORY O_NOFOLLOW \
            O_NOATIME O_CLOEXEC O_SYNC O_PATH O_TMPFILE O_NDELAY",
    },
    Set {
        name: "DESCRIPTOR_FLAGS",
        about: "Flags of a new descriptor.",
        of: &[
            ("pipe2 dup3 userfaultfd memfd_secret", "flags"),
            ("inotify_init1 timerfd_create signalfd4 eventfd2 epoll_create1", "flags"),
        ],
        field: Field::Flags,
        members: "O_CLOEXEC O_NONBLOCK O_DIRECT IN_CLOEXEC IN_NONBLOCK TFD_CLOEXEC TFD_NONBLOCK \
            SFD_CLOEXEC SFD_NONBLOCK EFD_CLOEXEC EFD_NONBLOCK EFD_SEMAPHORE EPOLL_CLOEXEC \
            UFFD_USER_MODE_ONLY FD_CLOEXEC",
    },
    Set {
        name: "DIRECTORY_DESCRIPTOR",
        about: "What stands for the working directory among directory descriptors.",
        of: &[
            (
                "openat openat2 faccessat faccessat2 fchmodat fchmodat2 fchownat newfstatat \
                 fstatat64 futimesat mkdirat mknodat name_to_handle_at readlinkat statx unlinkat \
                 utimensat utimensat_time64 execveat fspick mount_setattr open_tree \
                 open_tree_attr fanotify_mark file_getattr file_setattr getxattrat setxattrat \
                 listxattrat removexattrat",
                "dirfd",
            ),
            ("linkat renameat renameat2", "olddirfd"),
            ("linkat renameat renameat2 symlinkat", "newdirfd"),
            ("move_mount", "from_dfd"),
            ("move_mount", "to_dfd"),
            ("open_by_handle_at", "mount_fd"),
        ],
        field: Field::All,
        members: "AT_FDCWD",
    },
    Set {
        name: "AT_FLAGS",
        about: "How a path is followed (`AT_*`).",
        of: &[
            (
                "faccessat2 fchmodat2 fchownat newfstatat fstatat64 linkat name_to_handle_at \
                 statx unlinkat utimensat utimensat_time64 execveat mount_setattr",
                "flags",
            ),
            (
                "getxattrat setxattrat listxattrat removexattrat file_getattr file_setattr",
                "at_flags",
            ),
        ],
        field: Field::Flags,
        members: "AT_SYMLINK_NOFOLLOW AT_SYMLINK_FOLLOW AT_NO_AUTOMOUNT AT_EMPTY_PATH \
            AT_STATX_FORCE_SYNC AT_STATX_DONT_SYNC AT_RECURSIVE AT_REMOVEDIR AT_EACCESS \
            AT_HANDLE_FID AT_HANDLE_MNT_ID_UNIQUE AT_EXECVE_CHECK",
    },
    Set {
        name: "MEMFD_FLAGS",
        about: "Flags of a memory file.",
        of: &[("memfd_create", "flags")],
        field: Field::Flags,
        members: "MFD_CLOEXEC MFD_ALLOW_SEALING MFD_HUGETLB MFD_NOEXEC_SEAL MFD_EXEC",
    },
    Set {
        name: "PERSONALITY",
        about: "Execution domains; the low byte is the domain. All ones asks for the present one.",
        of: &[("personality", "persona")],
        field: Field::Mask(0xff),
        members: "PER_LINUX=0 PER_LINUX32=8 PER_BSD=6 PER_MASK=0xff UNAME26=0x20000 \
            ADDR_NO_RANDOMIZE=0x40000 FDPIC_FUNCPTRS=0x80000 MMAP_PAGE_ZERO=0x100000 \
            ADDR_COMPAT_LAYOUT=0x200000 READ_IMPLIES_EXEC=0x400000 ADDR_LIMIT_32BIT=0x800000 \
            SHORT_INODE=0x1000000 WHOLE_SECONDS=0x2000000 STICKY_TIMEOUTS=0x4000000 \
            ADDR_LIMIT_3GB=0x8000000",
    },
    Set {
        name: "MEMORY_ADVICE",
        about: "Advice on memory.",
        of: &[("madvise process_madvise", "advice")],
        field: Field::All,
        members: "MADV_*",
    },
    Set {
        name: "FUTEX_OPERATION",
        about: "Operations on a futex, with two flags.",
        of: &[("futex futex_time64", "op")],
        field: Field::Mask(0x7f),
        members: "FUTEX_WAIT FUTEX_WAKE FUTEX_FD FUTEX_REQUEUE FUTEX_CMP_REQUEUE FUTEX_WAKE_OP \
            FUTEX_LOCK_PI FUTEX_UNLOCK_PI FUTEX_TRYLOCK_PI FUTEX_WAIT_BITSET FUTEX_WAKE_BITSET \
            FUTEX_WAIT_REQUEUE_PI FUTEX_CMP_REQUEUE_PI FUTEX_LOCK_PI2 FUTEX_PRIVATE_FLAG \
            FUTEX_CLOCK_REALTIME FUTEX_CMD_MASK",
    },
    Set {
        name: "KEYCTL_OPERATION",
        about: "Operations on keys.",
        of: &[("keyctl", "operation")],
        field: Field::All,
        members: "KEYCTL_* -KEYCTL_SUPPORTS_* -KEYCTL_CAPS0_* -KEYCTL_CAPS1_* -KEYCTL_MOVE_EXCL",
    },
    Set {
        name: "BPF_COMMAND",
        about: "Commands of bpf(2).",
        of: &[("bpf", "cmd")],
        field: Field::All,
        members: "enum:bpf_cmd -BPF_PROG_RUN BPF_PROG_RUN=BPF_PROG_TEST_RUN",
    },
    Set {
        name: "PTRACE_REQUEST",
        about: "Requests of a tracer.",
        of: &[("ptrace", "request")],
        field: Field::All,
        members: "PTRACE_* -PTRACE_EVENT* -PTRACE_O_* -PTRACE_CFI_* -PTRACE_SYSCALL_INFO_* \
            -PTRACE_PEEKSIGINFO_* -PTRACE_PEEK_SYSTEM_CALL -PTRACE_POKE_SYSTEM_CALL -PTRACE_PROT",
    },
    Set {
        name: "SECCOMP_OPERATION",
        about: "Operations of seccomp(2).",
        of: &[("seccomp", "operation")],
        field: Field::All,
        members: "SECCOMP_SET_MODE_STRICT SECCOMP_SET_MODE_FILTER SECCOMP_GET_ACTION_AVAIL \
            SECCOMP_GET_NOTIF_SIZES",
    },
    Set {
        name: "SECCOMP_FLAGS",
        about: "Flags of a filter's installation.",
        of: &[("seccomp", "flags")],
        field: Field::Flags,
        members: "SECCOMP_FILTER_FLAG_*",
    },
    Set {
        name: "ARCH_PRCTL_CODE",
        about: "Operations of arch_prctl(2), which x86 has.",
        of: &[("arch_prctl", "code")],
        field: Field::All,
        members: "ARCH_SET_* ARCH_GET_* ARCH_CET_* ARCH_SHSTK_* ARCH_MAP_* ARCH_REQ_* \
            ARCH_ENABLE_* ARCH_FORCE_* -ARCH_SHSTK_SHSTK -ARCH_SHSTK_WRSS",
    },
    Set {
        name: "SIGNAL",
        about: "Signals.",
        of: &[(
            "kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_send_signal rt_sigaction \
             sigaction signal",
            "sig",
        )],
        field: Field::All,
        members: SIGNALS,
    },
    Set {
        name: "MOUNT_FLAGS",
        about: "How a filesystem is mounted.",
        of: &[("mount", "mountflags")],
        field: Field::Flags,
        members: "MS_RDONLY MS_NOSUID MS_NODEV MS_NOEXEC MS_SYNCHRONOUS MS_REMOUNT MS_MANDLOCK \
            MS_DIRSYNC MS_NOSYMFOLLOW MS_NOATIME MS_NODIRATIME MS_BIND MS_MOVE MS_REC MS_SILENT \
            MS_POSIXACL MS_UNBINDABLE MS_PRIVATE MS_SLAVE MS_SHARED MS_RELATIME MS_KERNMOUNT \
            MS_I_VERSION MS_STRICTATIME MS_LAZYTIME",
    },
    Set {
        name: "UMOUNT_FLAGS",
        about: "How a filesystem is unmounted (`include/linux/fs.h`).",
        of: &[("umount2", "flags")],
        field: Field::Flags,
        members: "MNT_FORCE=1 MNT_DETACH=2 MNT_EXPIRE=4 UMOUNT_NOFOLLOW=8",
    },
    Set {
        name: "MOUNT_ATTRIBUTES",
        about: "Attributes of a mount.",
        of: &[("fsmount", "attr_flags")],
        field: Field::Flags,
        members: "MOUNT_ATTR_* -MOUNT_ATTR_SIZE_* -MOUNT_ATTR__ATIME -MOUNT_ATTR_RELATIME",
    },
    Set {
        name: "OPEN_TREE_FLAGS",
        about: "How a mount is opened.",
        of: &[("open_tree open_tree_attr", "flags")],
        field: Field::Flags,
        members: "OPEN_TREE_* AT_EMPTY_PATH AT_NO_AUTOMOUNT AT_RECURSIVE AT_SYMLINK_NOFOLLOW",
    },
    Set {
        name: "MOVE_MOUNT_FLAGS",
        about: "How a mount is moved.",
        of: &[("move_mount", "flags")],
        field: Field::Flags,
        members: "MOVE_MOUNT_* -MOVE_MOUNT__MASK",
    },
    Set {
        name: "FSCONFIG_COMMAND",
        about: "Steps of configuring a filesystem.",
        of: &[("fsconfig", "cmd")],
        field: Field::All,
        members: "enum:fsconfig_command",
    },
    Set {
        name: "REBOOT_COMMAND",
        about: "Commands of reboot(2).",
        of: &[("reboot", "cmd")],
        field: Field::All,
        members: "LINUX_REBOOT_CMD_*",
    },
    Set {
        name: "SEEK_WHENCE",
        about: "Where an offset counts from.",
        of: &[("lseek _llseek", "whence")],
        field: Field::All,
        members: "SEEK_SET SEEK_CUR SEEK_END SEEK_DATA SEEK_HOLE",
    },
    Set {
        name: "EPOLL_OPERATION",
        about: "Operations on an epoll instance.",
        of: &[("epoll_ctl", "op")],
        field: Field::All,
        members: "EPOLL_CTL_*",
    },
    Set {
        name: "CLOCK",
        about: "Clocks.",
        of: &[(
            "clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime \
                 clock_gettime64 clock_nanosleep clock_nanosleep_time64 clock_settime \
                 clock_settime64 timer_create timerfd_create futex_wait futex_waitv",
            "clockid",
        )],
        field: Field::All,
        members: "CLOCK_REALTIME CLOCK_MONOTONIC CLOCK_PROCESS_CPUTIME_ID \
            CLOCK_THREAD_CPUTIME_ID CLOCK_MONOTONIC_RAW CLOCK_REALTIME_COARSE \
            CLOCK_MONOTONIC_COARSE CLOCK_BOOTTIME CLOCK_REALTIME_ALARM CLOCK_BOOTTIME_ALARM \
            CLOCK_SGI_CYCLE CLOCK_TAI",
    },
    Set {
        name: "RESOURCE",
        about: "Resources with a limit.",
        of: &[("getrlimit setrlimit ugetrlimit prlimit64", "resource")],
        field: Field::All,
        members: "RLIMIT_*",
    },
    Set {
        name: "SCHEDULING_POLICY",
        about: "Scheduling policies, with a flag.",
        of: &[("sched_setscheduler sched_get_priority_max sched_get_priority_min", "policy")],
        field: Field::Mask(0xff),
        members: "SCHED_NORMAL SCHED_FIFO SCHED_RR SCHED_BATCH SCHED_IDLE SCHED_DEADLINE \
            SCHED_EXT SCHED_RESET_ON_FORK SCHED_OTHER=SCHED_NORMAL",
    },
    Set {
        name: "WAIT_OPTIONS",
        about: "What is waited for.",
        of: &[("wait4 waitid waitpid", "options")],
        field: Field::Flags,
        members: "WNOHANG WUNTRACED WSTOPPED WEXITED WCONTINUED WNOWAIT __WNOTHREAD __WALL \
            __WCLONE",
    },
    Set {
        name: "REMAP_FLAGS",
        about: "How a mapping is moved.",
        of: &[("mremap", "flags")],
        field: Field::Flags,
        members: "MREMAP_MAYMOVE MREMAP_FIXED MREMAP_DONTUNMAP",
    },
    Set {
        name: "SYNC_FLAGS",
        about: "How a mapping is written back.",
        of: &[("msync", "flags")],
        field: Field::Flags,
        members: "MS_ASYNC MS_INVALIDATE MS_SYNC",
    },
    Set {
        name: "LOCK_FLAGS",
        about: "Which memory is locked.",
        of: &[("mlockall", "flags")],
        field: Field::Flags,
        members: "MCL_CURRENT MCL_FUTURE MCL_ONFAULT",
    },
    Set {
        name: "RANDOM_FLAGS",
        about: "Where random bytes come from.",
        of: &[("getrandom", "flags")],
        field: Field::Flags,
        members: "GRND_NONBLOCK GRND_RANDOM GRND_INSECURE",
    },
    Set {
        name: "MEMBARRIER_COMMAND",
        about: "Kinds of memory barriers.",
        of: &[("membarrier", "cmd")],
        field: Field::All,
        members: "enum:membarrier_cmd -MEMBARRIER_CMD_SHARED",
    },
    Set {
        name: "CLOSE_RANGE_FLAGS",
        about: "How descriptors are closed.",
        of: &[("close_range", "flags")],
        field: Field::Flags,
        members: "CLOSE_RANGE_UNSHARE CLOSE_RANGE_CLOEXEC",
    },
    Set {
        name: "FANOTIFY_INIT_FLAGS",
        about: "Kinds of fanotify groups; two bits are the class.",
        of: &[("fanotify_init", "flags")],
        field: Field::Mask(0xc),
        members: "FAN_CLASS_NOTIF FAN_CLASS_CONTENT FAN_CLASS_PRE_CONTENT FAN_CLOEXEC \
            FAN_NONBLOCK FAN_UNLIMITED_QUEUE FAN_UNLIMITED_MARKS FAN_ENABLE_AUDIT \
            FAN_REPORT_PIDFD FAN_REPORT_TID FAN_REPORT_FID FAN_REPORT_DIR_FID FAN_REPORT_NAME \
            FAN_REPORT_TARGET_FID FAN_REPORT_FD_ERROR FAN_REPORT_MNT",
    },
    Set {
        name: "MODULE_FLAGS",
        about: "How a kernel module is loaded.",
        of: &[("finit_module", "flags")],
        field: Field::Flags,
        members: "MODULE_INIT_IGNORE_MODVERSIONS MODULE_INIT_IGNORE_VERMAGIC \
            MODULE_INIT_COMPRESSED_FILE",
    },
    Set {
        name: "KEXEC_FILE_FLAGS",
        about: "How a kernel is loaded from a file.",
        of: &[("kexec_file_load", "flags")],
        field: Field::Flags,
        members: "KEXEC_FILE_*",
    },
    Set {
        name: "PERF_FLAGS",
        about: "How an event is opened.",
        of: &[("perf_event_open", "flags")],
        field: Field::Flags,
        members: "PERF_FLAG_FD_NO_GROUP PERF_FLAG_FD_OUTPUT PERF_FLAG_PID_CGROUP \
            PERF_FLAG_FD_CLOEXEC",
    },
    Set {
        name: "KCMP_TYPE",
        about: "What of two processes is compared.",
        of: &[("kcmp", "type")],
        field: Field::All,
        members: "enum:kcmp_type -KCMP_TYPES",
    },
    Set {
        name: "IO_URING_ENTER_FLAGS",
        about: "How a ring is entered.",
        of: &[("io_uring_enter", "flags")],
        field: Field::Flags,
        members: "IORING_ENTER_*",
    },
    Set {
        name: "SIGNAL_MASK_HOW",
        about: "How a signal mask changes.",
        of: &[("rt_sigprocmask sigprocmask", "how")],
        field: Field::All,
        members: "SIG_BLOCK SIG_UNBLOCK SIG_SETMASK",
    },
];
