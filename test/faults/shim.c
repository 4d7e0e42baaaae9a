/*
 * Preloaded into a fetcher under test: counts its file system calls below given directories, and lets one of them, or all
 * from one on, fail, or kills the process right before it. What no fault is for passes through.
 *
 * FAULT_DIRS     absolute paths, separated by colons; a call counts where its path, or that of its descriptor, begins with one
 * FAULT_CONTROL  a file of struct control, which the test writes and reads while the process runs
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum mode { OFF, COUNT, ONCE, FOREVER, KILL };

struct control {
  uint32_t mode, nth, error, count, injected, padding;
  /* The first call that failed: its name and its path. */
  char what[360];
  /* Where it is not empty, calls count whose name and path, and a dollar sign after them, have it in them. */
  char match[128];
};

#define DESCRIPTORS 65536
static struct control *control;
static char *directories[16];
static char *paths[DESCRIPTORS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void begin(void) {
  const char *file = getenv("FAULT_CONTROL"), *list = getenv("FAULT_DIRS");
  if (file == NULL || list == NULL) return;
  int fd = (int)syscall(SYS_openat, AT_FDCWD, file, O_RDWR | O_CLOEXEC);
  void *map = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (fd < 0 || map == MAP_FAILED) abort();
  int at = 0;
  for (char *word = strtok(strdup(list), ":"); word != NULL && at < 15; word = strtok(NULL, ":")) directories[at++] = word;
  control = map;
  /* Programs that it starts are not under test. */
  unsetenv("LD_PRELOAD");
}

static int counts(const char *path) {
  if (control == NULL || path == NULL) return 0;
  for (char **directory = directories; *directory != NULL; directory++)
    if (strncmp(path, *directory, strlen(*directory)) == 0) return 1;
  return 0;
}

/* The error that this call must fail with; 0: none. */
static int fault(const char *call, const char *path) {
  if (!counts(path) || control->mode == OFF) return 0;
  char what[sizeof control->what];
  snprintf(what, sizeof what, "%s %s$", call, path);
  if (control->match[0] != '\0' && strstr(what, control->match) == NULL) return 0;
  uint32_t number = __atomic_add_fetch(&control->count, 1, __ATOMIC_SEQ_CST);
  uint32_t mode = control->mode, nth = control->nth;
  if (mode == COUNT || (mode == FOREVER ? number < nth : number != nth)) return 0;
  if (__atomic_add_fetch(&control->injected, 1, __ATOMIC_SEQ_CST) == 1)
    memcpy(control->what, what, sizeof what);
  if (mode == KILL) syscall(SYS_kill, (pid_t)syscall(SYS_getpid), SIGKILL);
  return (int)control->error;
}

static int faulty(const char *call, const char *path) {
  int error = fault(call, path);
  if (error != 0) errno = error;
  return error != 0;
}

static int faulty2(const char *call, const char *from, const char *to) { return faulty(call, counts(from) ? from : to); }

static void know(int fd, const char *path) {
  if (fd < 0 || fd >= DESCRIPTORS) return;
  pthread_mutex_lock(&lock);
  free(paths[fd]);
  paths[fd] = counts(path) ? strdup(path) : NULL;
  pthread_mutex_unlock(&lock);
}

static int faulty_fd(const char *call, int fd) {
  if (control == NULL || control->mode == OFF || fd < 0 || fd >= DESCRIPTORS) return 0;
  char path[4096];
  pthread_mutex_lock(&lock);
  snprintf(path, sizeof path, "%s", paths[fd] == NULL ? "" : paths[fd]);
  pthread_mutex_unlock(&lock);
  return path[0] != '\0' && faulty(call, path);
}

#define REAL(name, type, ...)                                       \
  static type (*real)(__VA_ARGS__);                                 \
  if (real == NULL) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

#define OPEN(name)                                    \
  int name(const char *path, int flags, ...) {        \
    REAL(name, int, const char *, int, ...);          \
    va_list rest;                                     \
    va_start(rest, flags);                            \
    mode_t mode = va_arg(rest, mode_t);               \
    va_end(rest);                                     \
    if (faulty("open", path)) return -1;              \
    int fd = real(path, flags, mode);                 \
    know(fd, path);                                   \
    return fd;                                        \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                              \
  int name(int at, const char *path, int flags, ...) {            \
    REAL(name, int, int, const char *, int, ...);                 \
    va_list rest;                                                 \
    va_start(rest, flags);                                        \
    mode_t mode = va_arg(rest, mode_t);                           \
    va_end(rest);                                                 \
    if (faulty("openat", path)) return -1;                        \
    int fd = real(at, path, flags, mode);                         \
    know(fd, path);                                               \
    return fd;                                                    \
  }
OPENAT(openat)
OPENAT(openat64)

int close(int fd) {
  REAL(close, int, int);
  /* Not told to fail: the descriptor would be closed all the same. */
  know(fd, NULL);
  return real(fd);
}

#define BY_PATH(name, type, args, call) \
  type name args {                      \
    REAL(name, type, PARAMETERS args);  \
    if (faulty(#name, path)) return -1; \
    return call;                        \
  }
#define PARAMETERS(...) __VA_ARGS__
BY_PATH(unlink, int, (const char *path), real(path))
BY_PATH(rmdir, int, (const char *path), real(path))
BY_PATH(mkdir, int, (const char *path, mode_t mode), real(path, mode))
BY_PATH(chmod, int, (const char *path, mode_t mode), real(path, mode))
BY_PATH(chown, int, (const char *path, uid_t uid, gid_t gid), real(path, uid, gid))
BY_PATH(lchown, int, (const char *path, uid_t uid, gid_t gid), real(path, uid, gid))
BY_PATH(access, int, (const char *path, int mode), real(path, mode))
BY_PATH(readlink, ssize_t, (const char *path, char *buffer, size_t size), real(path, buffer, size))
BY_PATH(stat, int, (const char *path, struct stat *buffer), real(path, buffer))
BY_PATH(lstat, int, (const char *path, struct stat *buffer), real(path, buffer))
BY_PATH(stat64, int, (const char *path, struct stat64 *buffer), real(path, buffer))
BY_PATH(lstat64, int, (const char *path, struct stat64 *buffer), real(path, buffer))
BY_PATH(__xstat64, int, (int version, const char *path, struct stat64 *buffer), real(version, path, buffer))
BY_PATH(__lxstat64, int, (int version, const char *path, struct stat64 *buffer), real(version, path, buffer))
BY_PATH(statfs, int, (const char *path, struct statfs *buffer), real(path, buffer))
BY_PATH(statfs64, int, (const char *path, struct statfs64 *buffer), real(path, buffer))
BY_PATH(unlinkat, int, (int at, const char *path, int flags), real(at, path, flags))
BY_PATH(utimensat, int, (int at, const char *path, const struct timespec times[2], int flags), real(at, path, times, flags))
BY_PATH(inotify_add_watch, int, (int fd, const char *path, uint32_t mask), real(fd, path, mask))
BY_PATH(scandir64, int,
        (const char *path, struct dirent64 ***names, int (*filter)(const struct dirent64 *),
         int (*compare)(const struct dirent64 **, const struct dirent64 **)),
        real(path, names, filter, compare))

char *realpath(const char *path, char *resolved) {
  REAL(realpath, char *, const char *, char *);
  return faulty("realpath", path) ? NULL : real(path, resolved);
}

DIR *opendir(const char *path) {
  REAL(opendir, DIR *, const char *);
  return faulty("opendir", path) ? NULL : real(path);
}

#define BY_PATHS(name)                        \
  int name(const char *from, const char *to) { \
    REAL(name, int, const char *, const char *); \
    return faulty2(#name, from, to) ? -1 : real(from, to); \
  }
BY_PATHS(rename)
BY_PATHS(link)
BY_PATHS(symlink)

int statx(int at, const char *restrict path, int flags, unsigned mask, struct statx *restrict buffer) {
  REAL(statx, int, int, const char *, int, unsigned, struct statx *);
  if (path[0] == '\0' ? faulty_fd("statx", at) : faulty("statx", path)) return -1;
  return real(at, path, flags, mask, buffer);
}

#define BY_FD(name, type, args, call)        \
  type name args {                           \
    REAL(name, type, PARAMETERS args);       \
    if (faulty_fd(#name, fd)) return -1;     \
    return call;                             \
  }
BY_FD(read, ssize_t, (int fd, void *buffer, size_t size), real(fd, buffer, size))
BY_FD(readv, ssize_t, (int fd, const struct iovec *vectors, int count), real(fd, vectors, count))
BY_FD(pread64, ssize_t, (int fd, void *buffer, size_t size, off64_t at), real(fd, buffer, size, at))
BY_FD(preadv64, ssize_t, (int fd, const struct iovec *vectors, int count, off64_t at), real(fd, vectors, count, at))
BY_FD(write, ssize_t, (int fd, const void *buffer, size_t size), real(fd, buffer, size))
BY_FD(writev, ssize_t, (int fd, const struct iovec *vectors, int count), real(fd, vectors, count))
BY_FD(pwrite64, ssize_t, (int fd, const void *buffer, size_t size, off64_t at), real(fd, buffer, size, at))
BY_FD(pwritev64, ssize_t, (int fd, const struct iovec *vectors, int count, off64_t at), real(fd, vectors, count, at))
BY_FD(fsync, int, (int fd), real(fd))
BY_FD(fdatasync, int, (int fd), real(fd))
BY_FD(fchmod, int, (int fd, mode_t mode), real(fd, mode))
BY_FD(fchown, int, (int fd, uid_t uid, gid_t gid), real(fd, uid, gid))
BY_FD(ftruncate64, int, (int fd, off64_t size), real(fd, size))
BY_FD(fstat, int, (int fd, struct stat *buffer), real(fd, buffer))
BY_FD(fstat64, int, (int fd, struct stat64 *buffer), real(fd, buffer))
BY_FD(futimens, int, (int fd, const struct timespec times[2]), real(fd, times))
BY_FD(fstatfs64, int, (int fd, struct statfs64 *buffer), real(fd, buffer))

int __fxstat64(int version, int fd, struct stat64 *buffer) {
  REAL(__fxstat64, int, int, int, struct stat64 *);
  return faulty_fd("fstat", fd) ? -1 : real(version, fd, buffer);
}

/* libuv makes some calls itself. */
long syscall(long number, ...) {
  REAL(syscall, long, long, ...);
  va_list rest;
  va_start(rest, number);
  long a = va_arg(rest, long), b = va_arg(rest, long), c = va_arg(rest, long), d = va_arg(rest, long),
       e = va_arg(rest, long), f = va_arg(rest, long);
  va_end(rest);
  switch (number) {
  case SYS_statx:
    if (((const char *)b)[0] == '\0' ? faulty_fd("fstat", (int)a) : faulty(c & AT_SYMLINK_NOFOLLOW ? "lstat" : "stat", (const char *)b))
      return -1;
    break;
  case SYS_renameat2:
    if (faulty2("renameat2", (const char *)b, (const char *)d)) return -1;
    break;
  case SYS_copy_file_range:
    if (faulty_fd("copy_file_range", (int)a) || faulty_fd("copy_file_range", (int)c)) return -1;
    break;
  /* Calls that go through a ring are seen by nobody. */
  case SYS_io_uring_setup:
    errno = ENOSYS;
    return -1;
  }
  return real(number, a, b, c, d, e, f);
}
