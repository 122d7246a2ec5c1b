# slotring: data plane
"""What is written to the log when the process dies of a signal, and where it is on SIGALRM.

The handlers take no lock and no memory: they write with write(2) to the log file, opened anew as net/log does. One
thread reports; another that crashes meanwhile waits for the end. The stacks of Python's threads are faulthandler's
work, which a signal of its own asks for them.
"""
from engine.defs cimport *
from engine.sanitizer cimport ASAN_ON
from net.conn cimport Worker
from net.worker cimport nworkers, workers

cdef extern from "<signal.h>" nogil:
    ctypedef struct siginfo_t:
        int si_code
        void* si_addr
        int si_pid
        unsigned int si_uid
    ctypedef struct sigset_t:
        pass
    struct sigaction_t "sigaction":
        void* sa_handler
        void (*sa_sigaction)(int, siginfo_t*, void*) noexcept nogil
        sigset_t sa_mask
        int sa_flags
    int c_sigaction "sigaction"(int, const sigaction_t*, sigaction_t*)
    int sigemptyset(sigset_t*)
    int kill(int, int)
    int raise_ "raise"(int)
    int SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGALRM, SA_SIGINFO, SI_USER
    void* SIG_DFL
cdef extern from "<ucontext.h>" nogil:
    ctypedef struct mcontext_t:
        long long gregs[23]
    ctypedef struct ucontext_t:
        mcontext_t uc_mcontext
    int REG_RIP
cdef extern from "<execinfo.h>" nogil:
    int backtrace(void**, int)
    void backtrace_symbols_fd(void**, int, int)
cdef extern from "<time.h>" nogil:
    ctypedef long time_t
    struct tm:
        int tm_sec
    time_t time(time_t*)
    tm* localtime_r(const time_t*, tm*)
    size_t strftime(char*, size_t, const char*, const tm*)
cdef extern from "<fcntl.h>" nogil:
    int open_ "open"(const char*, int, int)
    int O_WRONLY, O_APPEND, O_CREAT, O_CLOEXEC
cdef extern from "<unistd.h>" nogil:
    ssize_t write(int, const void*, size_t)
    int close(int)
    int dup2(int, int)
    int getpid()
    int gettid()
    int pause_ "pause"()
    int unlink(const char*)
    void _exit(int)
cdef extern from "<stdio.h>" nogil:
    int snprintf(char*, size_t, const char*, ...)
cdef extern from "<string.h>" nogil:
    size_t strlen(const char*)
    void* memcpy(void*, const void*, size_t)
cdef extern from * nogil:
    int SEQ_CST "__ATOMIC_SEQ_CST"

cdef enum:
    PATH_BYTES = 4096
    FRAMES = 100
    REGISTERS = 23

cdef char log_path[PATH_BYTES]
cdef char pid_path[PATH_BYTES]
log_path[0] = pid_path[0] = 0
cdef u32 reporter = 0                  # the thread that reports
cdef int python_signal = 0             # raised, it writes Python's stacks to python_fd
cdef int python_fd = -1
cdef int* FATAL = [SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT]


cdef int log_open() noexcept nogil:
    cdef int fd = 1
    if log_path[0]:
        fd = open_(log_path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0o644)
    return fd if fd >= 0 else 2


cdef void log_close(int fd) noexcept nogil:
    if fd > 2:
        close(fd)


cdef void put(int fd, const char* text) noexcept nogil:
    write(fd, text, strlen(text))


cdef void say(int fd, const char* text) noexcept nogil:
    """A line with the usual head."""
    cdef char stamp[40]
    cdef char head[80]
    cdef tm parts
    cdef time_t now = time(NULL)
    localtime_r(&now, &parts)
    stamp[strftime(stamp, 39, b"%d %b %Y %H:%M:%S", &parts)] = 0
    snprintf(head, 80, b"%d:M %s.000 # ", getpid(), stamp)
    put(fd, head)
    put(fd, text)
    put(fd, b"\n")


cdef void stacks(int fd, void* at) noexcept nogil:
    """The native stack of this thread (at: the instruction that failed, NULL: none), Python's stacks of all."""
    cdef void* frames[FRAMES]
    cdef int n
    put(fd, b"\n------ STACK TRACE ------\n")
    if at != NULL:
        put(fd, b"Instruction:\n")
        backtrace_symbols_fd(&at, 1, fd)
    put(fd, b"Backtrace:\n")
    n = backtrace(frames, FRAMES)
    backtrace_symbols_fd(frames, n, fd)
    if python_fd >= 0:
        put(fd, b"Python:\n")
        dup2(fd, python_fd)
        raise_(python_signal)
    put(fd, b"\n------ STACK TRACE DONE ------\n")


cdef void registers(int fd, ucontext_t* context) noexcept nogil:
    cdef char line[80]
    cdef int i
    put(fd, b"\n------ REGISTERS ------\n")          # in the order of <sys/ucontext.h>
    for i in range(REGISTERS):
        snprintf(line, 80, b"%d:%016llx ", i, <unsigned long long>context.uc_mcontext.gregs[i])
        put(fd, line)
        if i % 4 == 3:
            put(fd, b"\n")
    put(fd, b"\n")


cdef void figures(int fd) noexcept nogil:
    """What each worker has done, and which command it ran last, or runs."""
    cdef char line[256]
    cdef u32 i
    cdef Worker* w
    cdef const char* name
    cdef const char* state
    put(fd, b"\n------ WORKERS ------\n")
    for i in range(nworkers):
        w = workers[i]
        name = b"none"
        if w.ctx.cmd != NULL:
            name = w.ctx.cmd.name
        state = b"awake"
        if w.sleeping:
            state = b"asleep"
        snprintf(line, 256, b"worker %u: %s, %u connections, %llu commands, the last one: %s\n", i, state, w.nconns,
                 <unsigned long long>w.commands, name)
        put(fd, line)


cdef bint report_begin(int fd) noexcept nogil:
    """False: this thread crashed while it reported."""
    cdef u32 expected = 0
    cdef u32 me = <u32>gettid()
    if not atomic_cas32(&reporter, &expected, me, False, SEQ_CST, RELAXED):
        while expected != me:
            pause_()                   # the other thread ends the process
        say(fd, b"Crashed while reporting a crash: the rest is left out.")
        return False
    put(fd, b"\n\n=== SLOTRING BUG REPORT START ===\n")
    return True


cdef void report_end(int fd) noexcept nogil:
    put(fd, b"\n=== SLOTRING BUG REPORT END: please keep all of it from START on ===\n\n")
    log_close(fd)
    if pid_path[0]:
        unlink(pid_path)


cdef void to_default(int sig) noexcept nogil:
    cdef sigaction_t act
    sigemptyset(&act.sa_mask)
    act.sa_flags = 0
    act.sa_handler = SIG_DFL
    c_sigaction(sig, &act, NULL)


cdef void on_crash(int sig, siginfo_t* info, void* context) noexcept nogil:
    cdef char line[120]
    cdef int fd = log_open()
    cdef void* at = <void*>(<ucontext_t*>context).uc_mcontext.gregs[REG_RIP]
    if report_begin(fd):
        snprintf(line, 120, b"Slotring crashed by signal: %d, si_code: %d", sig, info.si_code)
        say(fd, line)
        if sig == SIGSEGV or sig == SIGBUS:
            snprintf(line, 120, b"Accessing address: %p", info.si_addr)
            say(fd, line)
        if info.si_code == SI_USER:
            snprintf(line, 120, b"Killed by PID: %d, UID: %u", info.si_pid, info.si_uid)
            say(fd, line)
        stacks(fd, at)
        registers(fd, <ucontext_t*>context)
        figures(fd)
    report_end(fd)
    to_default(sig)
    kill(getpid(), sig)                # the process ends by this signal, with a core if one is wanted


cdef void on_alarm(int sig, siginfo_t* info, void* context) noexcept nogil:
    cdef int fd = log_open()
    say(fd, b"Received SIGALRM")
    stacks(fd, <void*>(<ucontext_t*>context).uc_mcontext.gregs[REG_RIP])
    log_close(fd)


cdef void handle(int sig, void (*handler)(int, siginfo_t*, void*) noexcept nogil) noexcept nogil:
    cdef sigaction_t act
    sigemptyset(&act.sa_mask)
    act.sa_flags = SA_SIGINFO
    act.sa_sigaction = handler
    c_sigaction(sig, &act, NULL)


cdef void keep(char* place, bytes path):
    memcpy(place, <char*>path, min(len(path), PATH_BYTES - 1))
    place[min(len(path), PATH_BYTES - 1)] = 0


def set_up(bytes log_file, bint crashes, int show_signal, int show_fd) -> None:
    """Reports go to this file from now on (b"": stdout); crashes: those of deadly signals too (crash-log-enabled).
    show_signal: one that makes the interpreter write its stacks to show_fd."""
    global python_signal, python_fd
    cdef void* frames[1]
    cdef int i
    keep(log_path, log_file)
    if ASAN_ON:
        return                         # it reports itself
    python_signal, python_fd = show_signal, show_fd
    backtrace(frames, 1)               # the first call loads a library
    for i in range(5):
        if crashes:
            handle(FATAL[i], on_crash)
        else:
            to_default(FATAL[i])
    handle(SIGALRM, on_alarm)


def set_pid_file(bytes path) -> None:
    """A crash removes this file."""
    keep(pid_path, path)


def segfault() -> None:
    """DEBUG SEGFAULT"""
    cdef volatile int* nowhere = <volatile int*><uintptr_t>8
    with nogil:
        nowhere[0] = 1


def failed(list lines, bint report, bint exits) -> None:
    """An assertion that does not hold, a panic: the end, with these lines in the log. report: with the stack; exits:
    with exit code 1, else by SIGABRT."""
    cdef int fd = log_open()
    cdef bytes line
    if report_begin(fd):
        for line in lines:
            say(fd, <char*>line)
        if report:
            stacks(fd, NULL)
            figures(fd)
    report_end(fd)
    if exits:
        _exit(1)
    to_default(SIGABRT)
    raise_(SIGABRT)
