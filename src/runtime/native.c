/*
 * What the executable's runtime (Bun) lacks: CLOCK_MONOTONIC, flock(2), prctl(2), and datagram sockets of the Unix kind for
 * sd_notify(3). Also what would cost it much at the start: CLOCK_BOOTTIME, and local time, for which it would load the
 * time zones of the whole world.
 */
#define _GNU_SOURCE
#define NAPI_VERSION 8
#include <errno.h>
#include <node_api.h>
#include <stddef.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
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

NAPI_MODULE_INIT() {
  napi_value function;
  if (napi_create_function(env, "monotonic", NAPI_AUTO_LENGTH, monotonic, NULL, &function) == napi_ok)
    napi_set_named_property(env, exports, "monotonic", function);
  if (napi_create_function(env, "uptime", NAPI_AUTO_LENGTH, uptime, NULL, &function) == napi_ok)
    napi_set_named_property(env, exports, "uptime", function);
  if (napi_create_function(env, "east", NAPI_AUTO_LENGTH, east, NULL, &function) == napi_ok)
    napi_set_named_property(env, exports, "east", function);
  if (napi_create_function(env, "send", NAPI_AUTO_LENGTH, send_datagram, NULL, &function) == napi_ok)
    napi_set_named_property(env, exports, "send", function);
  if (napi_create_function(env, "lock", NAPI_AUTO_LENGTH, lock_file, NULL, &function) == napi_ok)
    napi_set_named_property(env, exports, "lock", function);
  if (napi_create_function(env, "hide", NAPI_AUTO_LENGTH, hide, NULL, &function) == napi_ok)
    napi_set_named_property(env, exports, "hide", function);
  return exports;
}
