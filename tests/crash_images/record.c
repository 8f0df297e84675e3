/* Writes down what a program does to the files below a folder: each step, in order, with its
 * bytes. Loaded before the C library (LD_PRELOAD).
 *
 * CRASH_IMAGES_FOLDER  the folder, as an absolute path
 * CRASH_IMAGES_TRACE   the file that the steps are appended to
 *
 * A step is a header and its bytes. Each is one append, so the program may append its own remarks
 * to the same file. One lock is held around a step and its note, so the notes have the order of the
 * effects. Of the calls there are those that the stores use. Calls that bypass the C library are
 * not seen; a size that was changed so is noted with the next sync. The test compares what the
 * notes add up to with the real folder, byte for byte, so a call that is missing here is found. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind {
    FOLDER = 1,
    FILE_ = 2,
    WRITE = 3,
    RESIZE = 4,
    SYNC = 5,
    WRITE_BACK = 6,
    RENAME = 7,
    REMOVE = 8
};

struct header { uint64_t kind, inode, number, length; };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];
static int trace = -1;

static void give_up(const char *what) {
    perror(what);
    abort();
}

static void note(enum kind kind, uint64_t inode, uint64_t number, const void *bytes, size_t length) {
    struct header header = {kind, inode, number, length};
    struct iovec parts[] = {{&header, sizeof header}, {(void *)bytes, length}};
    if (syscall(SYS_writev, trace, parts, 2) != (long)(sizeof header + length)) give_up("trace");
}

__attribute__((constructor)) static void begin(void) {
    const char *folder = getenv("CRASH_IMAGES_FOLDER"), *path = getenv("CRASH_IMAGES_TRACE");
    if (!folder || !path || strlen(folder) >= sizeof root) give_up("folder");
    trace = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (trace < 0) give_up(path);
    strcpy(root, folder);
}

/* The part of a full path below the folder; NULL = it is elsewhere. */
static const char *below(const char *path) {
    size_t length = strlen(root);
    if (trace < 0 || strncmp(path, root, length)) return NULL;
    return path[length] == '/' ? path + length + 1 : path[length] ? NULL : path + length;
}

/* Reads the path of an open file; it is that of now, also after a rename. */
static const char *opened_path(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
    return below(path);
}

static const char *resolved(int at, const char *name, char *path) {
    if (name[0] == '/') return below(name);
    if (at == AT_FDCWD) {
        if (!getcwd(path, PATH_MAX)) return NULL;
    } else if (!opened_path(at, path)) {
        return NULL;
    }
    size_t length = strlen(path);
    snprintf(path + length, PATH_MAX - length, "/%s", name);
    return below(path);
}

static int is_ours(int fd, struct stat *at) {
    char path[PATH_MAX];
    return trace >= 0 && fd != trace && opened_path(fd, path) && !fstat(fd, at);
}

static int open_at(int at, const char *name, int flags, mode_t mode) {
    char buffer[PATH_MAX];
    const char *path = resolved(at, name, buffer);
    if (!path) return (int)syscall(SYS_openat, at, name, flags, mode);
    pthread_mutex_lock(&lock);
    struct stat before, after;
    int there = !fstatat(at, name, &before, 0);
    int fd = (int)syscall(SYS_openat, at, name, flags, mode);
    if (fd >= 0 && !fstat(fd, &after)) {
        if (!there) note(FILE_, after.st_ino, 0, path, strlen(path));
        else if (flags & O_TRUNC) note(RESIZE, after.st_ino, 0, "", 0);
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

static mode_t mode_of(int flags, va_list more) {
    return flags & O_CREAT ? (mode_t)va_arg(more, int) : 0;
}

#define OPEN(called)                                     \
    int called(const char *name, int flags, ...) {       \
        va_list more;                                    \
        va_start(more, flags);                           \
        mode_t mode = mode_of(flags, more);              \
        va_end(more);                                    \
        return open_at(AT_FDCWD, name, flags, mode);     \
    }
#define OPENAT(called)                                       \
    int called(int at, const char *name, int flags, ...) {   \
        va_list more;                                        \
        va_start(more, flags);                               \
        mode_t mode = mode_of(flags, more);                  \
        va_end(more);                                        \
        return open_at(at, name, flags, mode);               \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

ssize_t write(int fd, const void *bytes, size_t length) {
    struct stat at;
    if (!is_ours(fd, &at)) return syscall(SYS_write, fd, bytes, length);
    pthread_mutex_lock(&lock);
    ssize_t written = syscall(SYS_write, fd, bytes, length);
    if (written > 0) note(WRITE, at.st_ino, lseek(fd, 0, SEEK_CUR) - written, bytes, written);
    pthread_mutex_unlock(&lock);
    return written;
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) {
    struct stat at;
    if (!is_ours(fd, &at)) return syscall(SYS_pwrite64, fd, bytes, length, offset);
    pthread_mutex_lock(&lock);
    ssize_t written = syscall(SYS_pwrite64, fd, bytes, length, offset);
    if (written > 0) note(WRITE, at.st_ino, offset, bytes, written);
    pthread_mutex_unlock(&lock);
    return written;
}

int ftruncate64(int fd, off64_t length) {
    struct stat at;
    if (!is_ours(fd, &at)) return (int)syscall(SYS_ftruncate, fd, length);
    pthread_mutex_lock(&lock);
    int result = (int)syscall(SYS_ftruncate, fd, length);
    if (!result) note(RESIZE, at.st_ino, length, "", 0);
    pthread_mutex_unlock(&lock);
    return result;
}

static int sync_by(long call, int fd) {
    struct stat at;
    if (!is_ours(fd, &at)) return (int)syscall(call, fd);
    pthread_mutex_lock(&lock);
    int result = (int)syscall(call, fd);
    if (!result && !fstat(fd, &at)) note(SYNC, at.st_ino, at.st_size, "", 0);
    pthread_mutex_unlock(&lock);
    return result;
}

int fsync(int fd) { return sync_by(SYS_fsync, fd); }
int fdatasync(int fd) { return sync_by(SYS_fdatasync, fd); }

int sync_file_range(int fd, off64_t offset, off64_t length, unsigned flags) {
    struct stat at;
    int result = (int)syscall(SYS_sync_file_range, fd, offset, length, flags);
    if (!result && is_ours(fd, &at)) note(WRITE_BACK, at.st_ino, offset, "", 0);
    return result;
}

int rename(const char *from, const char *to) {
    char a[PATH_MAX], b[PATH_MAX], both[2 * PATH_MAX];
    const char *old = resolved(AT_FDCWD, from, a), *new = resolved(AT_FDCWD, to, b);
    pthread_mutex_lock(&lock);
    int result = (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    if (!result && (old || new)) {
        if (!old || !new) give_up("rename across the folder's edge");
        int length = snprintf(both, sizeof both, "%s%c%s", old, 0, new);
        note(RENAME, 0, 0, both, length);
    }
    pthread_mutex_unlock(&lock);
    return result;
}

int unlinkat(int at, const char *name, int flags) {
    char buffer[PATH_MAX];
    const char *path = resolved(at, name, buffer);
    pthread_mutex_lock(&lock);
    int result = (int)syscall(SYS_unlinkat, at, name, flags);
    if (!result && path) note(REMOVE, 0, 0, path, strlen(path));
    pthread_mutex_unlock(&lock);
    return result;
}

int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }

int mkdir(const char *name, mode_t mode) {
    char buffer[PATH_MAX];
    const char *path = resolved(AT_FDCWD, name, buffer);
    struct stat at;
    pthread_mutex_lock(&lock);
    int result = (int)syscall(SYS_mkdirat, AT_FDCWD, name, mode);
    if (!result && path && !stat(name, &at)) note(FOLDER, at.st_ino, 0, path, strlen(path));
    pthread_mutex_unlock(&lock);
    return result;
}
