/* What a process does to the files below one folder, and when it writes to its TCP peers.
 *
 * Loaded before libc (LD_PRELOAD), it appends a record of each call to a log, in one write(2) under
 * one lock, so that the log's order is an order in which the calls may be held to have happened: what
 * changes a file or syncs it is logged after it returned, what leaves for a peer before it is sent. A
 * trace in which an answer stands behind the sync that it needs is therefore right; one in which it
 * stands before it is an accusation.
 *
 * It can do harm as well: a shared page says which calls fail, and how, from now on.
 *
 * FILETRACE_FOLDER   what is looked at; absolute, without links in it
 * FILETRACE_LOG      where records go; nowhere, if it is not set
 * FILETRACE_CONTROL  a file of at least 16 bytes: see `struct control`
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define FILES 65536

struct control {
    volatile int32_t write_errno; /* what changes a file fails with this, and changes nothing */
    volatile int32_t sync_errno;  /* so do syncs */
    volatile int32_t syncs_left;  /* the process is killed before the sync that takes this to 0 */
    volatile int32_t syncs;       /* how many there were */
};

struct record {
    uint32_t kind; /* a letter */
    uint32_t thread;
    int64_t offset;       /* in the file; of a socket, the connection: see `connection_of` */
    uint32_t path_length; /* the path relative to the folder follows, and then the data */
    uint32_t data_length;
};

static char folder[PATH_MAX];
static size_t folder_length;
static int log_fd = -1;
static struct control *control;
static struct control nothing;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *paths[FILES]; /* of open files, relative to the folder; "" is the folder */

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static void setup(void) __attribute__((constructor));
static void setup(void) {
    const char *name;
    control = &nothing;
    if ((name = getenv("FILETRACE_FOLDER")) == NULL) return;
    snprintf(folder, sizeof folder, "%s", name);
    folder_length = strlen(folder);
    if ((name = getenv("FILETRACE_LOG")) != NULL)
        log_fd = (int)syscall(SYS_openat, AT_FDCWD, name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if ((name = getenv("FILETRACE_CONTROL")) != NULL) {
        int fd = (int)syscall(SYS_openat, AT_FDCWD, name, O_RDWR | O_CLOEXEC);
        void *page = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (page != MAP_FAILED) control = page;
        syscall(SYS_close, fd);
    }
}

static void say(char kind, int64_t offset, const char *path, const void *data, size_t length) {
    if (log_fd < 0) return;
    int before = errno;
    struct record head = {(uint32_t)kind, (uint32_t)syscall(SYS_gettid), offset,
                          (uint32_t)strlen(path), (uint32_t)length};
    struct iovec parts[] = {{&head, sizeof head}, {(void *)path, head.path_length}, {(void *)data, length}};
    pthread_mutex_lock(&lock);
    syscall(SYS_writev, log_fd, parts, 3);
    pthread_mutex_unlock(&lock);
    errno = before;
}

/* The path relative to the folder of what `path` names; NULL if it is elsewhere. */
static const char *below(const char *path, char *buffer) {
    if (folder_length == 0) return NULL;
    if (path[0] != '/') {
        char here[PATH_MAX];
        if (syscall(SYS_getcwd, here, sizeof here) < 0) return NULL;
        if (snprintf(buffer, PATH_MAX, "%s/%s", here, path) >= PATH_MAX) return NULL;
        path = buffer;
    }
    if (strncmp(path, folder, folder_length) != 0) return NULL;
    path += folder_length;
    if (*path != '\0' && *path != '/') return NULL;
    while (*path == '/') path++;
    return path;
}

static int is_traced(int fd) { return fd >= 0 && fd < FILES && paths[fd] != NULL; }

static int opened(int fd, const char *path, int flags, int is_new) {
    char buffer[PATH_MAX];
    const char *name = fd < 0 || fd >= FILES ? NULL : below(path, buffer);
    if (name != NULL) {
        paths[fd] = strdup(name);
        if (is_new) say('c', 0, name, NULL, 0);
        if (flags & O_TRUNC) say('t', 0, name, NULL, 0);
    }
    return fd;
}

static int exists(const char *path) {
    struct stat found;
    return syscall(SYS_newfstatat, AT_FDCWD, path, &found, AT_SYMLINK_NOFOLLOW) == 0;
}

static int may_change(void) {
    if (control->write_errno == 0) return 1;
    errno = control->write_errno;
    return 0;
}

#define OPEN(name)                                                                   \
    int name(const char *path, int flags, ...) {                                     \
        va_list more;                                                                \
        va_start(more, flags);                                                       \
        mode_t mode = va_arg(more, mode_t);                                          \
        va_end(more);                                                                \
        REAL(name);                                                                  \
        char buffer[PATH_MAX];                                                       \
        int is_new = (flags & O_CREAT) && below(path, buffer) && !exists(path);      \
        if (is_new && !may_change()) return -1;                                      \
        return opened(real(path, flags, mode), path, flags, is_new);                 \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                 \
    int name(int at, const char *path, int flags, ...) {                             \
        va_list more;                                                                \
        va_start(more, flags);                                                       \
        mode_t mode = va_arg(more, mode_t);                                          \
        va_end(more);                                                                \
        REAL(name);                                                                  \
        if (at != AT_FDCWD && path[0] != '/') return real(at, path, flags, mode);    \
        return open(path, flags, mode);                                              \
    }
OPENAT(openat)
OPENAT(openat64)

int close(int fd) {
    REAL(close);
    if (is_traced(fd)) {
        free(paths[fd]);
        paths[fd] = NULL;
    }
    return real(fd);
}

#define PWRITE(name, offset_type)                                                    \
    ssize_t name(int fd, const void *data, size_t length, offset_type offset) {      \
        REAL(name);                                                                  \
        if (!is_traced(fd)) return real(fd, data, length, offset);                   \
        if (!may_change()) return -1;                                                \
        ssize_t done = real(fd, data, length, offset);                               \
        if (done > 0) say('w', offset, paths[fd], data, (size_t)done);               \
        return done;                                                                 \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define TRUNCATE(name, offset_type)                                                  \
    int name(int fd, offset_type length) {                                           \
        REAL(name);                                                                  \
        if (!is_traced(fd)) return real(fd, length);                                 \
        if (!may_change()) return -1;                                                \
        int done = real(fd, length);                                                 \
        if (done == 0) say('t', length, paths[fd], NULL, 0);                         \
        return done;                                                                 \
    }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

#define SYNC(name)                                                                   \
    int name(int fd) {                                                               \
        REAL(name);                                                                  \
        if (!is_traced(fd)) return real(fd);                                         \
        if (control->syncs_left > 0 && __sync_sub_and_fetch(&control->syncs_left, 1) == 0) \
            kill(getpid(), SIGKILL);                                                 \
        __sync_add_and_fetch(&control->syncs, 1);                                    \
        say('b', 0, paths[fd], NULL, 0);                                             \
        if (control->sync_errno) {                                                   \
            errno = control->sync_errno;                                             \
            return -1;                                                               \
        }                                                                            \
        int done = real(fd);                                                         \
        if (done == 0) say('s', 0, paths[fd], NULL, 0);                              \
        return done;                                                                 \
    }
SYNC(fsync)
SYNC(fdatasync)

#define MOVE(name, kind)                                                             \
    int name(const char *from, const char *to) {                                     \
        REAL(name);                                                                  \
        char one[PATH_MAX], other[PATH_MAX];                                         \
        const char *old = kind == 'l' ? from : below(from, one);                     \
        const char *new = below(to, other);                                          \
        if (new != NULL && !may_change()) return -1;                                 \
        int done = real(from, to);                                                   \
        if (done == 0 && old != NULL && new != NULL) say(kind, 0, new, old, strlen(old)); \
        return done;                                                                 \
    }
MOVE(rename, 'r')
MOVE(symlink, 'l')

int unlink(const char *path) {
    REAL(unlink);
    char buffer[PATH_MAX];
    const char *name = below(path, buffer);
    int done = real(path);
    if (done == 0 && name != NULL) say('u', 0, name, NULL, 0);
    return done;
}

int mkdir(const char *path, mode_t mode) {
    REAL(mkdir);
    char buffer[PATH_MAX];
    const char *name = below(path, buffer);
    if (name != NULL && !may_change()) return -1;
    int done = real(path, mode);
    if (done == 0 && name != NULL) say('d', 0, name, NULL, 0);
    return done;
}

/* --- to peers */

/* A name for a TCP connection on this machine, 0 if it is none: the port of this side * 65536 + the
 * port of the peer. A peer has one port for connections to several of ours. */
static int64_t connection_of(int fd) {
    struct sockaddr_in own, peer;
    socklen_t own_length = sizeof own, peer_length = sizeof peer;
    int before = errno;
    int found = log_fd >= 0 && getpeername(fd, (struct sockaddr *)&peer, &peer_length) == 0 &&
                peer.sin_family == AF_INET &&
                getsockname(fd, (struct sockaddr *)&own, &own_length) == 0;
    errno = before;
    return found ? (int64_t)ntohs(own.sin_port) * 65536 + ntohs(peer.sin_port) : 0;
}

static void sending(int64_t connection) {
    if (connection) say('p', connection, "", NULL, 0);
}

static ssize_t sent(int64_t connection, ssize_t done) {
    uint32_t length = (uint32_t)done;
    if (connection && done > 0) say('q', connection, "", &length, sizeof length);
    return done;
}

ssize_t write(int fd, const void *data, size_t length) {
    REAL(write);
    if (is_traced(fd)) {
        if (!may_change()) return -1;
        off64_t offset = lseek64(fd, 0, SEEK_CUR);
        ssize_t done = real(fd, data, length);
        if (done > 0) say('w', offset, paths[fd], data, (size_t)done);
        return done;
    }
    int64_t connection = connection_of(fd);
    sending(connection);
    return sent(connection, real(fd, data, length));
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(writev);
    int64_t connection = connection_of(fd);
    sending(connection);
    return sent(connection, real(fd, parts, count));
}

ssize_t send(int fd, const void *data, size_t length, int flags) {
    REAL(send);
    int64_t connection = connection_of(fd);
    sending(connection);
    return sent(connection, real(fd, data, length, flags));
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    REAL(sendmsg);
    int64_t connection = connection_of(fd);
    sending(connection);
    return sent(connection, real(fd, message, flags));
}
