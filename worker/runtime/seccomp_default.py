"""The default seccomp profile: what an ordinary program needs, by subject; all else gets EPERM.

It allows what Docker's documentation describes ("Seccomp security profiles for Docker"): the
system calls of normal programs, more of them with the capability that guards them, and not
those that concern the whole machine. Unknown names are skipped when the filter is compiled,
so one table serves all architectures. ``clone3`` answers ENOSYS, because its flags lie in memory that a
filter cannot see: C libraries then use ``clone``, whose flags are checked.
"""

from __future__ import annotations

import errno
import functools
from collections.abc import Iterable
from typing import Any

ALWAYS: dict[str, str] = {
    "files": """
        access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2
        fallocate fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr
        flistxattr flock fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64
        futimesat getcwd getdents getdents64 getxattr getxattrat ioctl lchown lchown32 lgetxattr link linkat
        listxattr listxattrat llistxattr lremovexattr lseek _llseek lsetxattr lstat lstat64 mkdir mkdirat mknod
        mknodat name_to_handle_at newfstatat oldfstat oldlstat oldstat open openat openat2 pipe pipe2 pread64
        preadv preadv2 pwrite64 pwritev pwritev2 read readahead readdir readlink readlinkat readv removexattr
        removexattrat rename renameat renameat2 rmdir sendfile sendfile64 setxattr setxattrat splice stat stat64
        statfs statfs64 statx symlink symlinkat sync sync_file_range sync_file_range2 arm_sync_file_range syncfs tee
        truncate truncate64 umask unlink unlinkat utime utimensat utimensat_time64 utimes vmsplice write writev
        cachestat statmount listmount file_getattr file_setattr""",
    "waiting": """
        epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd
        eventfd2 fanotify_mark inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy
        io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit poll ppoll ppoll_time64
        pselect6 pselect6_time64 select _newselect signalfd signalfd4 timerfd_create timerfd_gettime
        timerfd_gettime64 timerfd_settime timerfd_settime64""",
    "memory": """
        brk fadvise64 fadvise64_64 arm_fadvise64_64 madvise map_shadow_stack membarrier memfd_create memfd_secret
        mincore mlock mlock2 mlockall mmap mmap2 mprotect mremap mseal msync munlock munlockall munmap pkey_alloc
        pkey_free pkey_mprotect process_mrelease remap_file_pages""",
    "processes and signals": """
        alarm arch_prctl capget capset execve execveat exit exit_group fork futex futex_requeue futex_time64 futex_wait
        futex_waitv futex_wake get_robust_list get_thread_area getcpu getegid getegid32 geteuid geteuid32 getgid
        getgid32 getgroups getgroups32 getitimer getpgid getpgrp getpid getppid getpriority getresgid getresgid32
        getresuid getresuid32 getrlimit getrusage getsid gettid getuid getuid32 ioprio_get ioprio_set kill
        landlock_add_rule landlock_create_ruleset landlock_restrict_self lsm_get_self_attr lsm_list_modules
        lsm_set_self_attr modify_ldt nice pause pidfd_getfd pidfd_open pidfd_send_signal prctl prlimit64 process_madvise
        ptrace restart_syscall rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn
        rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max
        sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval
        sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield
        seccomp set_robust_list set_thread_area set_tid_address set_tls setfsgid setfsgid32 setfsuid setfsuid32
        setgid setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid
        setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid setuid setuid32 sigaction sigaltstack
        signal sigpending sigprocmask sigreturn sigsuspend sysinfo tgkill times tkill ugetrlimit uname
        vfork wait4 waitid waitpid breakpoint cacheflush riscv_flush_icache uretprobe""",
    "time": """
        adjtimex clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
        clock_nanosleep clock_nanosleep_time64 gettimeofday nanosleep time timer_create timer_delete
        timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64""",
    "network": """
        accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg
        recvmmsg_time64 recvmsg send sendmmsg sendmsg sendto setsockopt shutdown socketcall socketpair""",
    "interprocess communication": """
        ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend
        mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64
        shmat shmctl shmdt shmget""",
    "random numbers": "getrandom",
}
WITH_CAPABILITY: dict[str, str] = {
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_SYS_ADMIN": """
        bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr move_mount
        open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount umount2
        unshare pivot_root""",
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "delete_module init_module finit_module",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp process_vm_readv process_vm_writev",
    "CAP_SYS_RAWIO": "iopl ioperm",
    "CAP_SYS_TIME": "settimeofday stime clock_settime clock_settime64",
    "CAP_SYS_TTY_CONFIG": "vhangup",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "CAP_SYSLOG": "syslog",
    "CAP_BPF": "bpf",
    "CAP_PERFMON": "perf_event_open",
}
#: Namespace flags of clone(2): all CLONE_NEW* but CLONE_NEWTIME, which clone cannot take.
_NAMESPACE_FLAGS = 0x7E020000
#: personality(2): Linux, 32 bits or not, without and with UNAME26; and the query.
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
_AF_ALG, _AF_VSOCK = 38, 40


def profile(capabilities: Iterable[str] = ()) -> dict[str, Any]:
    """The profile as OCI ``linux.seccomp`` for a container with these capabilities in its bounding set.

    Not to be changed: callers share it.
    """
    return _profile(frozenset(capabilities))


@functools.lru_cache(64)
def _profile(held: frozenset[str]) -> dict[str, Any]:
    names = {name for text in ALWAYS.values() for name in text.split()}
    for capability in held:
        names |= set(WITH_CAPABILITY.get(capability, "").split())
    rules: list[dict[str, Any]] = [{"names": sorted(names), "action": "SCMP_ACT_ALLOW"}]
    if "CAP_SYS_ADMIN" not in held:
        rules.append(_rule("clone", {"index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": _NAMESPACE_FLAGS, "valueTwo": 0}))
        rules.append({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSYS})
    rules.extend(_rule("personality", {"index": 0, "op": "SCMP_CMP_EQ", "value": value}) for value in _PERSONALITIES)
    # sockets of every family but the kernel's cryptography and virtual machine sockets
    rules.append(_rule("socket", {"index": 0, "op": "SCMP_CMP_LT", "value": _AF_ALG}))
    rules.append(_rule("socket", {"index": 0, "op": "SCMP_CMP_EQ", "value": _AF_ALG + 1}))
    rules.append(_rule("socket", {"index": 0, "op": "SCMP_CMP_GT", "value": _AF_VSOCK}))
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": errno.EPERM,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": rules,
    }


def _rule(name: str, argument: dict[str, Any]) -> dict[str, Any]:
    return {"names": [name], "action": "SCMP_ACT_ALLOW", "args": [argument]}
