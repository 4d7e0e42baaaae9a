/*
 * What the executable's runtime (Bun) lacks: CLOCK_MONOTONIC, flock(2), prctl(2), and datagram sockets of the Unix kind for
 * sd_notify(3). Also what would cost it much: CLOCK_BOOTTIME and local time, for which it would load the time zones of the
 * whole world, reading small files, for each of which its threads would be asked five times, and one connection at a time, for
 * which it would look at all its sockets every second.
 */
#define _GNU_SOURCE
#define NAPI_VERSION 8
#include "native.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <netinet/tcp.h>
#include <node_api.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

/* monotonic(): microseconds, as a number. */
static napi_value monotonic(napi_env env, napi_callback_info info) {
  (void)info;
  struct timespec now;
  napi_value result = NULL;
  if (clock_gettime(CLOCK_MONOTONIC, &now) == 0)
    napi_create_double(env, (double)now.tv_sec * 1e6 + (double)(now.tv_nsec / 1000), &result);
  return result;
}

/* uptime(): seconds since the machine's start, those asleep included. */
static napi_value uptime(napi_env env, napi_callback_info info) {
  (void)info;
  struct timespec now;
  napi_value result = NULL;
  if (clock_gettime(CLOCK_BOOTTIME, &now) == 0)
    napi_create_double(env, (double)now.tv_sec + (double)now.tv_nsec / 1e9, &result);
  return result;
}

/* east(seconds): minutes by which local time is ahead of UTC at that time, in seconds since 1970. undefined: not known. */
static napi_value east(napi_env env, napi_callback_info info) {
  napi_value args[1], result = NULL;
  size_t count = 1;
  int64_t seconds = 0;
  struct tm local;
  if (napi_get_cb_info(env, info, &count, args, NULL, NULL) != napi_ok || count != 1 ||
      napi_get_value_int64(env, args[0], &seconds) != napi_ok)
    return NULL;
  time_t at = (time_t)seconds;
  /* localtime_r(3) alone would not notice that the machine has another time zone by now. */
  tzset();
  if (localtime_r(&at, &local) != NULL) napi_create_double(env, (double)local.tm_gmtoff / 60, &result);
  return result;
}

/*
 * send(address, message): sends both Buffers' bytes as one datagram. A first byte of NUL means the abstract namespace.
 * false: it could not be sent.
 */
static napi_value send_datagram(napi_env env, napi_callback_info info) {
  napi_value args[2];
  size_t count = 2, address_length = 0, message_length = 0;
  void *address = NULL, *message = NULL;
  int sent = 0;
  if (napi_get_cb_info(env, info, &count, args, NULL, NULL) == napi_ok && count == 2 &&
      napi_get_buffer_info(env, args[0], &address, &address_length) == napi_ok &&
      napi_get_buffer_info(env, args[1], &message, &message_length) == napi_ok) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    if (address_length > 0 && address_length < sizeof to.sun_path) {
      memcpy(to.sun_path, address, address_length);
      /* A path ends with a NUL, an abstract name with its length. */
      socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + address_length + (to.sun_path[0] != 0));
      int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
      if (fd >= 0) {
        /* Waits where the other end is slow, as libsystemd does. */
        sent = sendto(fd, message, message_length, MSG_NOSIGNAL, (struct sockaddr *)&to, length) == (ssize_t)message_length;
        close(fd);
      }
    }
  }
  napi_value result = NULL;
  napi_get_boolean(env, sent, &result);
  return result;
}

/* lock(file): takes the lock of that descriptor. 0: it is ours; 1: another has it; undefined: it cannot be locked. */
static napi_value lock_file(napi_env env, napi_callback_info info) {
  napi_value args[1], result = NULL;
  size_t count = 1;
  int32_t file = -1;
  if (napi_get_cb_info(env, info, &count, args, NULL, NULL) != napi_ok || count != 1 ||
      napi_get_value_int32(env, args[0], &file) != napi_ok)
    return NULL;
  int status;
  do
    status = flock(file, LOCK_EX | LOCK_NB);
  while (status != 0 && errno == EINTR);
  if (status == 0 || errno == EWOULDBLOCK) napi_create_int32(env, status == 0 ? 0 : 1, &result);
  return result;
}

/* hide(): keeps other processes of this user from looking into this one. */
static napi_value hide(napi_env env, napi_callback_info info) {
  (void)env;
  (void)info;
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  return NULL;
}

/* Bytes of all files of one call. */
#define MOST (4 * 1024 * 1024)
/*
 * Nanoseconds for which a file must have been at rest. Of a write that is under way, this reading is quick enough to see only
 * the first half, and the clock of a file system stands still for up to 10 ms.
 */
#define REST 100000000

/* What one call of read_files() reads, in one of the runtime's threads. */
struct reading {
  napi_async_work work;
  napi_deferred deferred;
  /* The names, one after the other, each with a NUL at its end. */
  char *names;
  /* The first name is a directory: the files lie in it, in memory. */
  int in_memory;
  int may_be_young;
  size_t count;
  struct stat *stats;
  /* The bytes of all files, one after the other. */
  unsigned char *bytes;
  size_t length, room;
  int is_whole;
};

/* Opens a file without waiting for anybody. In memory: refuses a path that leads out of the file system of `directory`. */
static int open_file(const struct reading *reading, int directory, const char *name, int flags) {
  if (!reading->in_memory) return open(name, flags | O_CLOEXEC);
  struct open_how how = {.flags = (unsigned)(flags | O_CLOEXEC), .resolve = RESOLVE_NO_XDEV};
  return (int)syscall(SYS_openat2, directory, name, &how, sizeof how);
}

static int lies_in_memory(const struct statfs *system) {
  return system->f_type == TMPFS_MAGIC || system->f_type == RAMFS_MAGIC;
}

/* A directory of a file system that lies in memory; -1: it is another one. */
static int open_memory(const char *path) {
  struct statfs system;
  int directory = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) return -1;
  if (fstatfs(directory, &system) == 0 && lies_in_memory(&system)) return directory;
  close(directory);
  return -1;
}

/* Nothing of a secret stays behind. */
static void forget(struct reading *reading) {
  if (reading->bytes != NULL) explicit_bzero(reading->bytes, reading->length);
  free(reading->bytes);
  reading->bytes = NULL;
  reading->length = reading->room = 0;
}

static int make_room(struct reading *reading, size_t more) {
  if (more > MOST - reading->length) return 0;
  if (reading->bytes != NULL && more <= reading->room - reading->length) return 1;
  size_t length = reading->length, room = 2 * length + more + 1;
  unsigned char *bytes = malloc(room);
  if (bytes == NULL) return 0;
  if (length > 0) memcpy(bytes, reading->bytes, length);
  forget(reading);
  reading->bytes = bytes;
  reading->length = length;
  reading->room = room;
  return 1;
}

static int64_t nanoseconds(struct timespec time) {
  return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* Whether its file system is of this machine: another's clock says nothing about rest. */
static int is_local(int file) {
  struct statfs system;
  if (fstatfs(file, &system) != 0) return 0;
  return lies_in_memory(&system) || system.f_type == EXT4_SUPER_MAGIC || system.f_type == XFS_SUPER_MAGIC ||
         system.f_type == BTRFS_SUPER_MAGIC;
}

/* Whether nobody has written to it for a while. No program can set the ctime. */
static int is_at_rest(const struct stat *stats) {
  struct timespec now;
  return clock_gettime(CLOCK_REALTIME, &now) == 0 && nanoseconds(now) - nanoseconds(stats->st_ctim) >= REST;
}

/* 0: it is no regular file at rest with just as many bytes as it says. */
static int read_opened(struct reading *reading, int file, struct stat *stats) {
  if (fstat(file, stats) != 0 || !S_ISREG(stats->st_mode) || stats->st_size < 0) return 0;
  if ((!reading->may_be_young && !is_at_rest(stats)) || (!reading->in_memory && !is_local(file))) return 0;
  /* Some file systems say 0 of a file that has bytes. */
  if (stats->st_size == 0) return reading->in_memory && make_room(reading, 0);
  if (stats->st_size > MOST || !make_room(reading, (size_t)stats->st_size)) return 0;
  for (size_t left = (size_t)stats->st_size; left > 0;) {
    ssize_t got = read(file, reading->bytes + reading->length, left);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return 0;
    reading->length += (size_t)got;
    left -= (size_t)got;
  }
  return 1;
}

static int read_one(struct reading *reading, int directory, const char *name, struct stat *stats) {
  int file = open_file(reading, directory, name, O_RDONLY | O_NONBLOCK | O_NOCTTY);
  if (file < 0) return 0;
  int is_read = read_opened(reading, file, stats);
  close(file);
  return is_read;
}

/* Whether the name still leads to the file that was read, and that file is as it was. */
static int is_same(const struct reading *reading, int directory, const char *name, const struct stat *before) {
  struct stat now;
  int status;
  if (reading->in_memory) {
    int file = open_file(reading, directory, name, O_PATH);
    if (file < 0) return 0;
    status = fstat(file, &now);
    close(file);
  } else
    status = stat(name, &now);
  return status == 0 && now.st_dev == before->st_dev && now.st_ino == before->st_ino && now.st_size == before->st_size &&
         now.st_mtim.tv_sec == before->st_mtim.tv_sec && now.st_mtim.tv_nsec == before->st_mtim.tv_nsec &&
         now.st_ctim.tv_sec == before->st_ctim.tv_sec && now.st_ctim.tv_nsec == before->st_ctim.tv_nsec;
}

/* Reads all files, or with `again` looks at all of them once more. 0: one is not there, or not as it should be. */
static int each_file(struct reading *reading, int again) {
  const char *name = reading->names;
  int directory = -1, is_good = 1;
  if (reading->in_memory) {
    directory = open_memory(name);
    if (directory < 0) return 0;
    name += strlen(name) + 1;
  }
  for (size_t at = 0; at < reading->count && is_good; at++, name += strlen(name) + 1)
    is_good = again ? is_same(reading, directory, name, &reading->stats[at])
                    : read_one(reading, directory, name, &reading->stats[at]);
  if (directory >= 0) close(directory);
  return is_good;
}

static void read_in_thread(napi_env env, void *data) {
  (void)env;
  struct reading *reading = data;
  /* Looks at every name only after the last file is read, as whole directories are swapped. */
  reading->is_whole = each_file(reading, 0) && each_file(reading, 1);
}

/* Of each file: inode, mtime and ctime in nanoseconds, device, links. */
#define NUMBERS 5

/* [Buffers of the bytes, a BigInt64Array with these NUMBERS for each]; NULL: it failed. */
static napi_value answer_of(napi_env env, const struct reading *reading) {
  napi_value answer, values, memory, numbers;
  int64_t *number;
  size_t size = reading->count * NUMBERS * sizeof *number;
  if (napi_create_array_with_length(env, 2, &answer) != napi_ok ||
      napi_create_array_with_length(env, reading->count, &values) != napi_ok ||
      napi_create_arraybuffer(env, size, (void **)&number, &memory) != napi_ok ||
      napi_create_typedarray(env, napi_bigint64_array, reading->count * NUMBERS, memory, 0, &numbers) != napi_ok)
    return NULL;
  const unsigned char *bytes = reading->bytes;
  for (size_t at = 0; at < reading->count; at++) {
    const struct stat *stats = &reading->stats[at];
    napi_value value;
    if (napi_create_buffer_copy(env, (size_t)stats->st_size, bytes, NULL, &value) != napi_ok ||
        napi_set_element(env, values, (uint32_t)at, value) != napi_ok)
      return NULL;
    bytes += stats->st_size;
    *number++ = (int64_t)stats->st_ino;
    *number++ = nanoseconds(stats->st_mtim);
    *number++ = nanoseconds(stats->st_ctim);
    *number++ = (int64_t)stats->st_dev;
    *number++ = (int64_t)stats->st_nlink;
  }
  napi_set_element(env, answer, 0, values);
  napi_set_element(env, answer, 1, numbers);
  return answer;
}

static void free_reading(struct reading *reading) {
  if (reading == NULL) return;
  forget(reading);
  free(reading->stats);
  free(reading->names);
  free(reading);
}

static void read_done(napi_env env, napi_status status, void *data) {
  struct reading *reading = data;
  napi_value answer = NULL;
  if (status == napi_ok && reading->is_whole) answer = answer_of(env, reading);
  if (answer == NULL) napi_get_undefined(env, &answer);
  napi_resolve_deferred(env, reading->deferred, answer);
  napi_delete_async_work(env, reading->work);
  free_reading(reading);
}

/* A copy of the names in `buffer`; NULL: there are not `count` of them. */
static struct reading *reading_of(napi_env env, napi_value buffer, napi_value count, napi_value in_memory) {
  void *names;
  size_t length;
  uint32_t number;
  bool is_in_memory;
  if (napi_get_buffer_info(env, buffer, &names, &length) != napi_ok ||
      napi_get_value_uint32(env, count, &number) != napi_ok || napi_get_value_bool(env, in_memory, &is_in_memory) != napi_ok)
    return NULL;
  size_t found = 0;
  for (size_t at = 0; at < length; at++) found += ((char *)names)[at] == 0;
  struct reading *reading = found != number + (is_in_memory ? 1 : 0) ? NULL : calloc(1, sizeof *reading);
  if (reading == NULL) return NULL;
  reading->count = number;
  reading->in_memory = is_in_memory;
  reading->names = malloc(length + 1);
  reading->stats = calloc(number + 1, sizeof *reading->stats);
  if (reading->names == NULL || reading->stats == NULL) {
    free_reading(reading);
    return NULL;
  }
  memcpy(reading->names, names, length);
  return reading;
}

/*
 * read(names, count, inMemory, mayBeYoung): reads small files, and looks at each again after the last of them. `names` is a Buffer of
 * paths, each with a NUL at its end; with `inMemory`, of a directory, and of the paths of `count` files below it.
 *
 * A promise of what answer_of() gives. Of undefined where one is not there, not regular, not at rest (unless it may be young), on a file system
 * that may hang, or all are too large; with `inMemory`, where one does not lie in the directory's own file system, or that is not in
 * memory.
 */
static napi_value read_files(napi_env env, napi_callback_info info) {
  napi_value args[4], promise = NULL, name;
  size_t count = 4;
  bool may_be_young;
  if (napi_get_cb_info(env, info, &count, args, NULL, NULL) != napi_ok || count != 4 ||
      napi_get_value_bool(env, args[3], &may_be_young) != napi_ok)
    return NULL;
  struct reading *reading = reading_of(env, args[0], args[1], args[2]);
  if (reading == NULL) return NULL;
  reading->may_be_young = may_be_young;
  if (napi_create_promise(env, &reading->deferred, &promise) == napi_ok &&
      napi_create_string_utf8(env, "read", NAPI_AUTO_LENGTH, &name) == napi_ok &&
      napi_create_async_work(env, NULL, name, read_in_thread, read_done, reading, &reading->work) == napi_ok) {
    if (napi_queue_async_work(env, reading->work) == napi_ok) return promise;
    napi_delete_async_work(env, reading->work);
  }
  free_reading(reading);
  return NULL;
}

socklen_t address_of(const char *text, uint32_t port, union address *to) {
  if (port == 0) {
    to->local.sun_family = AF_UNIX;
    if (strlen(text) >= sizeof to->local.sun_path) return 0;
    strcpy(to->local.sun_path, text);
    return sizeof to->local;
  }
  if (inet_pton(AF_INET, text, &to->v4.sin_addr) == 1) {
    to->v4.sin_family = AF_INET;
    to->v4.sin_port = htons((uint16_t)port);
    return sizeof to->v4;
  }
  if (inet_pton(AF_INET6, text, &to->v6.sin6_addr) != 1) return 0;
  to->v6.sin6_family = AF_INET6;
  to->v6.sin6_port = htons((uint16_t)port);
  return sizeof to->v6;
}

/*
 * dial(address, port): a descriptor of a connection; -1 minus that where it is still being made. undefined: not possible, and
 * another way finds out why.
 */
static napi_value dial(napi_env env, napi_callback_info info) {
  napi_value args[2], result = NULL;
  size_t count = 2, length = 0;
  char text[sizeof((struct sockaddr_un *)NULL)->sun_path];
  uint32_t port = 0;
  union address to = {0};
  if (napi_get_cb_info(env, info, &count, args, NULL, NULL) != napi_ok || count != 2 ||
      napi_get_value_string_utf8(env, args[0], text, sizeof text, &length) != napi_ok || length == sizeof text - 1 ||
      strlen(text) != length || napi_get_value_uint32(env, args[1], &port) != napi_ok || port > 65535)
    return NULL;
  socklen_t size = address_of(text, port, &to);
  int file = size == 0 ? -1 : socket(to.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (file < 0) return NULL;
  int yes = 1;
  if (port != 0) setsockopt(file, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  if (connect(file, &to.any, size) != 0 && errno != EINPROGRESS) {
    close(file);
    return NULL;
  }
  struct pollfd is_open = {.fd = file, .events = POLLOUT};
  int is_made = poll(&is_open, 1, 0) == 1 && is_open.revents == POLLOUT;
  napi_create_int32(env, is_made ? file : -1 - file, &result);
  return result;
}

/* tell(file, bytes): how many of them the system has taken; a negative errno. */
static napi_value tell(napi_env env, napi_callback_info info) {
  napi_value args[2], result = NULL;
  size_t count = 2, length = 0;
  int32_t file = -1;
  void *bytes = NULL;
  if (napi_get_cb_info(env, info, &count, args, NULL, NULL) != napi_ok || count != 2 ||
      napi_get_value_int32(env, args[0], &file) != napi_ok ||
      napi_get_buffer_info(env, args[1], &bytes, &length) != napi_ok)
    return NULL;
  ssize_t sent = send(file, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL);
  int64_t told = sent >= 0 ? sent : errno == EAGAIN || errno == EINTR ? 0 : -errno;
  napi_create_int64(env, told, &result);
  return result;
}

/*
 * quiet(file, patience): whether nothing has come since the last turn, not even the end. From now on the system gives it up when
 * the peer's system has not confirmed what was sent within `patience` milliseconds; 0: within a quarter of an hour or so.
 */
static napi_value quiet(napi_env env, napi_callback_info info) {
  napi_value args[2], result = NULL;
  size_t count = 2;
  struct pollfd seen = {.fd = -1, .events = POLLIN | POLLRDHUP};
  uint32_t patience = 0;
  if (napi_get_cb_info(env, info, &count, args, NULL, NULL) != napi_ok || count != 2 ||
      napi_get_value_int32(env, args[0], &seen.fd) != napi_ok || napi_get_value_uint32(env, args[1], &patience) != napi_ok)
    return NULL;
  /* A socket of the Unix kind has no such limit, and needs none. */
  if (patience > 0) setsockopt(seen.fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &patience, sizeof patience);
  napi_get_boolean(env, poll(&seen, 1, 0) == 0, &result);
  return result;
}

/* hang_up(file, mayWait): closes it; with `mayWait`, ends the turns that wait for it. */
static napi_value hang_up(napi_env env, napi_callback_info info) {
  napi_value args[2];
  size_t count = 2;
  int32_t file = -1;
  bool may_wait = false;
  if (napi_get_cb_info(env, info, &count, args, NULL, NULL) != napi_ok || count != 2 ||
      napi_get_value_int32(env, args[0], &file) != napi_ok || napi_get_value_bool(env, args[1], &may_wait) != napi_ok)
    return NULL;
  if (may_wait) shutdown(file, SHUT_RDWR);
  else close(file);
  return NULL;
}

/* Waits in one of the runtime's threads until a connection can be read, or written. */
struct turn {
  napi_async_work work;
  napi_deferred deferred;
  int file;
  bool is_reading;
  /* 0, or what went wrong. */
  int error;
  unsigned char *bytes;
  size_t length;
};

/* Bytes of one turn. */
#define PART (256 * 1024)

static void read_part(struct turn *turn) {
  int there = 0;
  ioctl(turn->file, FIONREAD, &there);
  /* At the end, or where something is wrong, there is nothing, and recv(2) says which. */
  size_t room = there <= 0 ? 1 : there < PART ? (size_t)there : PART;
  turn->bytes = malloc(room);
  if (turn->bytes == NULL) {
    turn->error = ENOMEM;
    return;
  }
  ssize_t got;
  do
    got = recv(turn->file, turn->bytes, room, MSG_DONTWAIT);
  while (got < 0 && errno == EINTR);
  if (got < 0) turn->error = errno;
  else turn->length = (size_t)got;
}

static void wait_in_thread(napi_env env, void *data) {
  (void)env;
  struct turn *turn = data;
  struct pollfd wanted = {.fd = turn->file, .events = turn->is_reading ? POLLIN : POLLOUT};
  int status;
  do
    status = poll(&wanted, 1, -1);
  while (status < 0 && errno == EINTR);
  socklen_t size = sizeof turn->error;
  if (status < 0) turn->error = errno;
  else if (turn->is_reading) read_part(turn);
  else if (getsockopt(turn->file, SOL_SOCKET, SO_ERROR, &turn->error, &size) != 0) turn->error = errno;
}

static void turn_done(napi_env env, napi_status status, void *data) {
  struct turn *turn = data;
  napi_value answer = NULL;
  if (status != napi_ok) turn->error = ECANCELED;
  if (turn->is_reading && turn->error == 0 &&
      napi_create_buffer_copy(env, turn->length, turn->bytes, NULL, &answer) != napi_ok) {
    answer = NULL;
    turn->error = ENOMEM;
  }
  if (answer == NULL) napi_create_int32(env, turn->error, &answer);
  napi_resolve_deferred(env, turn->deferred, answer);
  napi_delete_async_work(env, turn->work);
  if (turn->bytes != NULL) explicit_bzero(turn->bytes, turn->length);
  free(turn->bytes);
  free(turn);
}

/*
 * turn(file, isReading): a promise of the bytes that have come, none at their end; or of 0 once the connection can be written;
 * or of an errno. The file may be closed only after it. undefined: there is no memory.
 */
static napi_value take_turn(napi_env env, napi_callback_info info) {
  napi_value args[2], promise = NULL, name;
  size_t count = 2;
  struct turn *turn = calloc(1, sizeof *turn);
  if (turn == NULL) return NULL;
  if (napi_get_cb_info(env, info, &count, args, NULL, NULL) == napi_ok && count == 2 &&
      napi_get_value_int32(env, args[0], &turn->file) == napi_ok &&
      napi_get_value_bool(env, args[1], &turn->is_reading) == napi_ok &&
      napi_create_promise(env, &turn->deferred, &promise) == napi_ok &&
      napi_create_string_utf8(env, "turn", NAPI_AUTO_LENGTH, &name) == napi_ok &&
      napi_create_async_work(env, NULL, name, wait_in_thread, turn_done, turn, &turn->work) == napi_ok) {
    if (napi_queue_async_work(env, turn->work) == napi_ok) return promise;
    napi_delete_async_work(env, turn->work);
  }
  free(turn);
  return NULL;
}

NAPI_MODULE_INIT() {
  static const struct {
    const char *name;
    napi_callback call;
  } functions[] = {
      {"monotonic", monotonic}, {"uptime", uptime}, {"east", east}, {"send", send_datagram}, {"lock", lock_file},
      {"hide", hide},           {"read", read_files}, {"dial", dial}, {"tell", tell},          {"hangUp", hang_up},
      {"turn", take_turn},      {"lookOut", look_out}, {"endLookOut", end_look_out}, {"quiet", quiet},
  };
  napi_value function;
  for (size_t at = 0; at < sizeof functions / sizeof *functions; at++)
    if (napi_create_function(env, functions[at].name, NAPI_AUTO_LENGTH, functions[at].call, NULL, &function) == napi_ok)
      napi_set_named_property(env, exports, functions[at].name, function);
  return exports;
}
