/*
 * A thread that asks a server again and again, for as long as all is as it was: the same answers, the same token in its file,
 * the same published files. Such a look costs a tenth of one by the program itself. Whatever else it finds, it only says that
 * there is news; the program finds out what.
 */
#define _GNU_SOURCE
#define NAPI_VERSION 8
#include "native.h"
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Milliseconds that one look may take. */
#define LIMIT 4000
/* Bytes of a token's file, and of the head of an answer. */
#define LONGEST_WORD 8192
#define LONGEST_HEAD 4096
/* Bytes of all bodies of one lookout. */
#define MOST (1024 * 1024)
/* Threads that have not ended yet: a file system may hang. */
#define MOST_THREADS 2

/* One request, and the answer that it had. */
struct exchange {
  unsigned char *request, *body;
  size_t request_length, body_length;
  /* What differs in each answer: letters of an identifier. */
  size_t varies_from, varies_to;
};

struct print {
  int is_there;
  struct stat stat;
};

struct lookout {
  /* The program's and the thread's. */
  atomic_int owners;
  pthread_mutex_t mutex;
  /* Guarded by the mutex: the program does not want to hear any more. */
  int is_over;
  napi_threadsafe_function news;
  /* Becomes readable when it is over. */
  int over;
  union address to;
  socklen_t to_length;
  /* Milliseconds of CLOCK_MONOTONIC, and between two looks. */
  int64_t next, interval;
  /* The token's file and the token; no letters: there is none. */
  char *word_path;
  unsigned char *word;
  size_t word_length;
  /* Paths, each with a NUL at its end. */
  char *files;
  size_t file_count;
  struct print *prints;
  struct exchange *exchanges;
  size_t exchange_count;
  /* Room for the longest answer. */
  unsigned char *answer;
  size_t room;
  /* A connection that is kept from one look to the next; -1: none. */
  int connection;
};

static atomic_int threads;

static int64_t now(void) {
  struct timespec time = {0};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

/* Overwrites what may be a secret. */
static void forget(unsigned char *bytes, size_t length) {
  if (bytes != NULL) explicit_bzero(bytes, length);
  free(bytes);
}

static void release(struct lookout *lookout) {
  if (atomic_fetch_sub(&lookout->owners, 1) > 1) return;
  for (size_t at = 0; at < lookout->exchange_count; at++) {
    forget(lookout->exchanges[at].request, lookout->exchanges[at].request_length);
    forget(lookout->exchanges[at].body, lookout->exchanges[at].body_length);
  }
  forget(lookout->word, lookout->word_length);
  forget(lookout->answer, lookout->room);
  free(lookout->exchanges);
  free(lookout->word_path);
  free(lookout->files);
  free(lookout->prints);
  if (lookout->over >= 0) close(lookout->over);
  pthread_mutex_destroy(&lookout->mutex);
  free(lookout);
}

static void take_print(const char *path, struct print *print) {
  memset(print, 0, sizeof *print);
  print->is_there = lstat(path, &print->stat) == 0;
}

static int is_same_file(const char *path, const struct print *before) {
  struct print print;
  take_print(path, &print);
  const struct stat *one = &print.stat, *other = &before->stat;
  return print.is_there == before->is_there && one->st_dev == other->st_dev && one->st_ino == other->st_ino &&
         one->st_size == other->st_size && one->st_mode == other->st_mode && one->st_uid == other->st_uid &&
         one->st_gid == other->st_gid && one->st_ctim.tv_sec == other->st_ctim.tv_sec &&
         one->st_ctim.tv_nsec == other->st_ctim.tv_nsec;
}

static int are_same_files(const struct lookout *lookout) {
  const char *path = lookout->files;
  for (size_t at = 0; at < lookout->file_count; at++, path += strlen(path) + 1)
    if (!is_same_file(path, &lookout->prints[at])) return 0;
  return 1;
}

static int is_space(unsigned char letter) {
  return letter == ' ' || (letter >= '\t' && letter <= '\r');
}

/* Reads a whole small file, as far as there is room. -1: it is not there, or no regular file. */
static ssize_t read_small(const char *path, unsigned char *bytes, size_t room) {
  int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (file < 0) return -1;
  struct stat stat;
  ssize_t length = fstat(file, &stat) == 0 && S_ISREG(stat.st_mode) ? 0 : -1;
  while (length >= 0 && (size_t)length < room) {
    ssize_t got = read(file, bytes + length, room - (size_t)length);
    if (got < 0 && errno == EINTR) continue;
    if (got == 0) break;
    length = got < 0 ? -1 : length + got;
  }
  close(file);
  return length;
}

static int is_same_word(const struct lookout *lookout) {
  if (lookout->word_path[0] == 0) return 1;
  unsigned char bytes[LONGEST_WORD];
  ssize_t length = read_small(lookout->word_path, bytes, sizeof bytes);
  size_t from = 0, to = length < 0 ? 0 : (size_t)length;
  while (from < to && is_space(bytes[from])) from++;
  while (to > from && is_space(bytes[to - 1])) to--;
  int is_same = length >= 0 && (size_t)length < sizeof bytes && to - from == lookout->word_length &&
                memcmp(bytes + from, lookout->word, to - from) == 0;
  explicit_bzero(bytes, sizeof bytes);
  return is_same;
}

/* Waits for the connection. 0: the time is over, or all of it is. */
static int is_ready(const struct lookout *lookout, short events, int64_t end) {
  struct pollfd both[] = {{.fd = lookout->connection, .events = events}, {.fd = lookout->over, .events = POLLIN}};
  for (;;) {
    int64_t left = end - now();
    if (left <= 0) return 0;
    int status = poll(both, 2, (int)left);
    if (status < 0 && errno == EINTR) continue;
    return status > 0 && both[1].revents == 0 && both[0].revents != 0;
  }
}

static void hang_up(struct lookout *lookout) {
  if (lookout->connection >= 0) close(lookout->connection);
  lookout->connection = -1;
}

static int dial(struct lookout *lookout, int64_t end) {
  int yes = 1, error = 0;
  socklen_t size = sizeof error;
  lookout->connection = socket(lookout->to.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (lookout->connection < 0) return 0;
  if (lookout->to.any.sa_family != AF_UNIX)
    setsockopt(lookout->connection, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  if (connect(lookout->connection, &lookout->to.any, lookout->to_length) == 0) return 1;
  return errno == EINPROGRESS && is_ready(lookout, POLLOUT, end) &&
         getsockopt(lookout->connection, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == 0;
}

static int tell(struct lookout *lookout, const struct exchange *exchange, int64_t end) {
  for (size_t sent = 0; sent < exchange->request_length;) {
    ssize_t taken =
        send(lookout->connection, exchange->request + sent, exchange->request_length - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (taken >= 0)
      sent += (size_t)taken;
    else if (errno != EINTR && (errno != EAGAIN || !is_ready(lookout, POLLOUT, end)))
      return 0;
  }
  return 1;
}

/* The value of a header field; NULL: there is none. `head` ends with a NUL. */
static const char *field(const char *head, const char *name) {
  size_t length = strlen(name);
  for (const char *line = strstr(head, "\r\n"); line != NULL; line = strstr(line + 2, "\r\n"))
    if (strncasecmp(line + 2, name, length) == 0 && line[2 + length] == ':') {
      const char *value = line + 2 + length + 1;
      return value + strspn(value, " \t");
    }
  return NULL;
}

/* How an answer says where its body ends. */
enum framing { OTHERWISE, BY_LENGTH, BY_CHUNKS };

/* OTHERWISE: that way is not known here, or it is no success, or its body has another length. */
static enum framing framing_of(const char *head, size_t body_length) {
  const char *length = field(head, "content-length"), *coding = field(head, "transfer-encoding");
  char *end = NULL;
  if (strncmp(head, "HTTP/1.1 200 ", 13) != 0 || (length == NULL) == (coding == NULL)) return OTHERWISE;
  if (coding != NULL) return strncasecmp(coding, "chunked\r", 8) == 0 ? BY_CHUNKS : OTHERWISE;
  if (*length < '0' || *length > '9') return OTHERWISE;
  return strtoul(length, &end, 10) == body_length && *end == '\r' ? BY_LENGTH : OTHERWISE;
}

static int is_same_body(const struct exchange *exchange, const unsigned char *body) {
  size_t from = exchange->varies_from, to = exchange->varies_to;
  for (size_t at = from; at < to; at++)
    if (strchr("0123456789abcdef-", body[at]) == NULL || body[at] == 0) return 0;
  return memcmp(body, exchange->body, from) == 0 && memcmp(body + to, exchange->body + to, exchange->body_length - to) == 0;
}

/* Receives until `length` bytes are there. 0: something went wrong, or there is no room. */
static int receive(struct lookout *lookout, size_t *have, size_t length, int64_t end) {
  if (length > lookout->room) return 0;
  while (*have < length) {
    ssize_t got = recv(lookout->connection, lookout->answer + *have, length - *have, MSG_DONTWAIT);
    if (got > 0)
      *have += (size_t)got;
    else if (got == 0 || (errno != EINTR && (errno != EAGAIN || !is_ready(lookout, POLLIN, end))))
      return 0;
  }
  return 1;
}

static int digit_of(unsigned char letter) {
  if (letter >= '0' && letter <= '9') return letter - '0';
  letter |= 0x20;
  return letter >= 'a' && letter <= 'f' ? letter - 'a' + 10 : -1;
}

/* Receives the line with the size of the chunk at `at`, which moves behind it. 0: something went wrong. */
static int receive_size(struct lookout *lookout, size_t *have, size_t *at, size_t *size, int64_t end) {
  size_t digits = 0;
  for (*size = 0;; digits++) {
    if (!receive(lookout, have, *at + 2, end)) return 0;
    const unsigned char *letters = lookout->answer + *at;
    if (digits > 0 && memcmp(letters, "\r\n", 2) == 0) break;
    int digit = digit_of(letters[0]);
    /* More digits than any size here has. */
    if (digit < 0 || digits == 8) return 0;
    *size = *size * 16 + (size_t)digit;
    (*at)++;
  }
  *at += 2;
  return 1;
}

/* Receives a body in chunks, and puts it together at `from`. 0: something went wrong, or it has another length. */
static int receive_chunks(struct lookout *lookout, size_t *have, size_t from, size_t length, int64_t end) {
  size_t at = from, to = from, size = 0;
  do {
    if (!receive_size(lookout, have, &at, &size, end) || size > from + length - to) return 0;
    if (!receive(lookout, have, at + size + 2, end) || memcmp(lookout->answer + at + size, "\r\n", 2) != 0) return 0;
    memmove(lookout->answer + to, lookout->answer + at, size);
    to += size;
    at += size + 2;
  } while (size > 0);
  return to == from + length && *have == at;
}

/* Receives the rest of the body that begins at `from`. */
static int receive_body(struct lookout *lookout, enum framing framing, size_t have, size_t from, size_t length, int64_t end) {
  if (framing == BY_CHUNKS) return receive_chunks(lookout, &have, from, length, end);
  return framing == BY_LENGTH && have <= from + length && receive(lookout, &have, from + length, end);
}

/* Sends one request, and compares its answer. `has_begun` is set once there is some of one. */
static int is_same_answer(struct lookout *lookout, const struct exchange *exchange, int *has_begun, int64_t end) {
  unsigned char *head_end = NULL;
  size_t have = 0, length = exchange->body_length;
  if (!tell(lookout, exchange, end)) return 0;
  while (head_end == NULL) {
    if (have >= LONGEST_HEAD || !receive(lookout, &have, have + 1, end)) return 0;
    *has_begun = 1;
    /* The byte waited for came with others, most often with all. */
    ssize_t more = recv(lookout->connection, lookout->answer + have, LONGEST_HEAD + length - have, MSG_DONTWAIT);
    if (more > 0) have += (size_t)more;
    head_end = memmem(lookout->answer, have, "\r\n\r\n", 4);
  }
  /* The line's end before it stays, for the last field. */
  head_end[2] = 0;
  size_t from = (size_t)(head_end - lookout->answer) + 4;
  const char *head = (const char *)lookout->answer, *connection = field(head, "connection");
  int is_last = connection != NULL && strncasecmp(connection, "keep-alive", 10) != 0;
  if (from > LONGEST_HEAD || !receive_body(lookout, framing_of(head, length), have, from, length, end)) return 0;
  if (!is_same_body(exchange, lookout->answer + from)) return 0;
  if (is_last) hang_up(lookout);
  return 1;
}

/* Whether there is time for another try. */
static int may_try_again(const struct lookout *lookout, int64_t end) {
  struct pollfd over = {.fd = lookout->over, .events = POLLIN};
  return now() < end && poll(&over, 1, 0) == 0;
}

/* The server may have closed the kept connection meanwhile: then a new one is tried. */
static int are_same_answers(struct lookout *lookout) {
  int64_t end = now() + LIMIT;
  for (size_t at = 0; at < lookout->exchange_count; at++) {
    int is_kept = lookout->connection >= 0, has_begun = 0;
    int is_same = (is_kept || dial(lookout, end)) && is_same_answer(lookout, &lookout->exchanges[at], &has_begun, end);
    if (!is_same && is_kept && !has_begun && may_try_again(lookout, end)) {
      hang_up(lookout);
      is_same = dial(lookout, end) && is_same_answer(lookout, &lookout->exchanges[at], &has_begun, end);
    }
    explicit_bzero(lookout->answer, lookout->room);
    if (!is_same) return 0;
  }
  return 1;
}

/* Waits for the next look. 0: it is over. */
static int rests(struct lookout *lookout) {
  struct pollfd over = {.fd = lookout->over, .events = POLLIN};
  for (;;) {
    int64_t left = lookout->next - now();
    if (left <= 0) break;
    int status = poll(&over, 1, left > 1000000 ? 1000000 : (int)left);
    if (status > 0 || (status < 0 && errno != EINTR)) return 0;
  }
  /* The times of looks that a busy machine has missed are over. */
  do lookout->next += lookout->interval;
  while (lookout->next <= now());
  return 1;
}

static void *look_around(void *data) {
  struct lookout *lookout = data;
  while (rests(lookout))
    if (!are_same_files(lookout) || !is_same_word(lookout) || !are_same_answers(lookout)) {
      pthread_mutex_lock(&lookout->mutex);
      if (!lookout->is_over) napi_call_threadsafe_function(lookout->news, NULL, napi_tsfn_nonblocking);
      pthread_mutex_unlock(&lookout->mutex);
      break;
    }
  hang_up(lookout);
  release(lookout);
  atomic_fetch_sub(&threads, 1);
  return NULL;
}

/* What the program holds, and the engine frees when it likes; NULL: the program's part has ended. */
struct handle {
  struct lookout *lookout;
};

/* The program's part of it ends. From then on the thread leaves the runtime alone. */
static void leave(struct handle *handle) {
  struct lookout *lookout = handle->lookout;
  handle->lookout = NULL;
  if (lookout == NULL) return;
  pthread_mutex_lock(&lookout->mutex);
  lookout->is_over = 1;
  pthread_mutex_unlock(&lookout->mutex);
  eventfd_write(lookout->over, 1);
  napi_release_threadsafe_function(lookout->news, napi_tsfn_abort);
  release(lookout);
}

static void leave_for_good(napi_env env, void *data, void *hint) {
  (void)env;
  (void)hint;
  leave(data);
  free(data);
}

static unsigned char *copy_of(napi_env env, napi_value buffer, size_t *length) {
  void *bytes = NULL;
  if (napi_get_buffer_info(env, buffer, &bytes, length) != napi_ok || *length > MOST) return NULL;
  unsigned char *copy = malloc(*length + 1);
  if (copy == NULL) return NULL;
  if (*length > 0) memcpy(copy, bytes, *length);
  copy[*length] = 0;
  return copy;
}

static int take_number(napi_env env, napi_value object, const char *name, size_t *number) {
  napi_value value;
  uint32_t whole = 0;
  if (napi_get_named_property(env, object, name, &value) != napi_ok || napi_get_value_uint32(env, value, &whole) != napi_ok)
    return 0;
  *number = whole;
  return 1;
}

static int take_bytes(napi_env env, napi_value object, const char *name, unsigned char **bytes, size_t *length) {
  napi_value value;
  if (napi_get_named_property(env, object, name, &value) != napi_ok) return 0;
  *bytes = copy_of(env, value, length);
  return *bytes != NULL;
}

static int take_exchange(napi_env env, napi_value object, struct exchange *exchange) {
  return take_bytes(env, object, "request", &exchange->request, &exchange->request_length) &&
         take_bytes(env, object, "body", &exchange->body, &exchange->body_length) &&
         take_number(env, object, "from", &exchange->varies_from) && take_number(env, object, "to", &exchange->varies_to) &&
         exchange->varies_from <= exchange->varies_to && exchange->varies_to <= exchange->body_length;
}

static int take_exchanges(napi_env env, napi_value array, struct lookout *lookout) {
  uint32_t count = 0;
  if (napi_get_array_length(env, array, &count) != napi_ok || count == 0) return 0;
  lookout->exchanges = calloc(count, sizeof *lookout->exchanges);
  if (lookout->exchanges == NULL) return 0;
  size_t longest = 0;
  for (uint32_t at = 0; at < count; at++) {
    napi_value object;
    struct exchange *exchange = &lookout->exchanges[at];
    lookout->exchange_count = at + 1;
    if (napi_get_element(env, array, at, &object) != napi_ok || !take_exchange(env, object, exchange)) return 0;
    if (exchange->body_length > longest) longest = exchange->body_length;
  }
  lookout->room = LONGEST_HEAD + longest;
  lookout->answer = malloc(lookout->room);
  return lookout->answer != NULL;
}

/* Takes the files as they are now. */
static int take_files(napi_env env, napi_value buffer, struct lookout *lookout) {
  size_t length = 0, at = 0;
  lookout->files = (char *)copy_of(env, buffer, &length);
  if (lookout->files == NULL) return 0;
  for (size_t byte = 0; byte < length; byte++) lookout->file_count += lookout->files[byte] == 0;
  lookout->prints = calloc(lookout->file_count + 1, sizeof *lookout->prints);
  if (lookout->prints == NULL || (length > 0 && lookout->files[length - 1] != 0)) return 0;
  for (const char *path = lookout->files; at < lookout->file_count; at++, path += strlen(path) + 1)
    take_print(path, &lookout->prints[at]);
  return 1;
}

static int take_place(napi_env env, napi_value sight, struct lookout *lookout) {
  size_t length = 0, port = 0;
  unsigned char *address = NULL;
  if (!take_bytes(env, sight, "address", &address, &length)) return 0;
  int is_whole = take_number(env, sight, "port", &port) && port <= 65535 && strlen((char *)address) == length;
  lookout->to_length = is_whole ? address_of((char *)address, (uint32_t)port, &lookout->to) : 0;
  free(address);
  return lookout->to_length > 0;
}

static int take_all(napi_env env, napi_value sight, struct lookout *lookout) {
  size_t first = 0, interval = 0, length = 0;
  napi_value exchanges, files;
  unsigned char *path = NULL;
  if (!take_place(env, sight, lookout) || !take_number(env, sight, "first", &first) ||
      !take_number(env, sight, "interval", &interval) || interval == 0 || !take_bytes(env, sight, "path", &path, &length))
    return 0;
  lookout->word_path = (char *)path;
  lookout->next = now() + (int64_t)first;
  lookout->interval = (int64_t)interval;
  return take_bytes(env, sight, "word", &lookout->word, &lookout->word_length) &&
         napi_get_named_property(env, sight, "exchanges", &exchanges) == napi_ok &&
         take_exchanges(env, exchanges, lookout) && napi_get_named_property(env, sight, "files", &files) == napi_ok &&
         take_files(env, files, lookout);
}

static int begin_thread(struct lookout *lookout) {
  pthread_t thread;
  pthread_attr_t attributes;
  sigset_t all, before;
  if (pthread_attr_init(&attributes) != 0) return 0;
  pthread_attr_setstacksize(&attributes, 128 * 1024);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  atomic_fetch_add(&lookout->owners, 1);
  atomic_fetch_add(&threads, 1);
  /* The runtime's threads take the signals, from this one's first moment on. */
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &before);
  int status = pthread_create(&thread, &attributes, look_around, lookout);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attributes);
  if (status == 0) return 1;
  atomic_fetch_sub(&lookout->owners, 1);
  atomic_fetch_sub(&threads, 1);
  return 0;
}

/* A lookout with all but its thread; NULL: not possible. */
static struct lookout *lookout_of(napi_env env, napi_value sight, napi_value news) {
  napi_value name;
  struct lookout *lookout = calloc(1, sizeof *lookout);
  if (lookout == NULL) return NULL;
  lookout->connection = -1;
  lookout->over = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  atomic_init(&lookout->owners, 1);
  pthread_mutex_init(&lookout->mutex, NULL);
  if (lookout->over >= 0 && take_all(env, sight, lookout) &&
      napi_create_string_utf8(env, "news", NAPI_AUTO_LENGTH, &name) == napi_ok &&
      napi_create_threadsafe_function(env, news, NULL, name, 0, 1, NULL, NULL, NULL, NULL, &lookout->news) == napi_ok) {
    /* It keeps no program alive. */
    napi_unref_threadsafe_function(env, lookout->news);
    return lookout;
  }
  release(lookout);
  return NULL;
}

napi_value look_out(napi_env env, napi_callback_info info) {
  napi_value args[2], result = NULL;
  size_t count = 2;
  if (napi_get_cb_info(env, info, &count, args, NULL, NULL) != napi_ok || count != 2 || atomic_load(&threads) >= MOST_THREADS)
    return NULL;
  struct handle *handle = calloc(1, sizeof *handle);
  if (handle == NULL) return NULL;
  handle->lookout = lookout_of(env, args[0], args[1]);
  if (handle->lookout != NULL && begin_thread(handle->lookout) &&
      napi_create_external(env, handle, leave_for_good, NULL, &result) == napi_ok)
    return result;
  leave_for_good(env, handle, NULL);
  return NULL;
}

napi_value end_look_out(napi_env env, napi_callback_info info) {
  napi_value args[1];
  size_t count = 1;
  void *handle = NULL;
  if (napi_get_cb_info(env, info, &count, args, NULL, NULL) == napi_ok && count == 1 &&
      napi_get_value_external(env, args[0], &handle) == napi_ok)
    leave(handle);
  return NULL;
}
