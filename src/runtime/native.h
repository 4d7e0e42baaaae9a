/* What the addon's files share. */
#ifndef NATIVE_H
#define NATIVE_H
#include <netinet/in.h>
#include <node_api.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

union address {
  struct sockaddr any;
  struct sockaddr_in v4;
  struct sockaddr_in6 v6;
  struct sockaddr_un local;
};

/* The address of a socket; 0: `text` is none. `port` 0: it is the path of a socket of the Unix kind. */
socklen_t address_of(const char *text, uint32_t port, union address *to);

/*
 * lookOut(sight, news): begins to look. `news` is called once, where something is not as it was. An object for endLookOut();
 * undefined: not possible. `sight` has Buffers `address`, `path` (of the token's file, empty without one), `word` (the token) and
 * `files` (paths, each with a NUL at its end; taken as they are now), `port` (0: the address is a path), `first` and `interval` in
 * milliseconds, and `exchanges`: Buffers `request` and `body`, and between which bytes `from` and `to` bodies differ.
 */
napi_value look_out(napi_env env, napi_callback_info info);

/* endLookOut(lookout): `news` is not called any more. */
napi_value end_look_out(napi_env env, napi_callback_info info);
#endif
