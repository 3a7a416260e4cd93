/* tools/client.h: one keep-alive HTTP connection to a server, by libcurl. Threads: one at a time. */
#ifndef QUIPU_TOOLS_CLIENT_H
#define QUIPU_TOOLS_CLIENT_H

#include "base/bytes.h"

struct client; /* from client_new() */

struct client_answer {
    unsigned status;
    struct buf body;
    char content_type[128];
};

/* headers: "Name: value", ended by NULL; copied. Call client_global_init() once before threads start. */
MUST_USE enum err_code client_global_init(struct err *err);
MUST_USE enum err_code client_new(const char *const *headers, int64_t timeout_ms,
                                  struct client **out, struct err *err);
void client_free(struct client *client); /* NULL: no-op */
/* post NULL: GET. Any status is an answer; ERR_IO: no answer came, ERR_TIMEOUT. `answer` is initialised by the
 * caller once (client_answer_init) and reused. */
MUST_USE enum err_code client_ask(struct client *client, const char *url, const struct bytes *post,
                                  struct client_answer *answer, struct err *err);
/* The same; the body of a 200 is not kept, but goes to take(ctx, part) as it comes. False ends the call: ERR_IO. */
MUST_USE enum err_code client_ask_streamed(struct client *client, const char *url,
                                           const struct bytes *post,
                                           bool (*take)(void *ctx, struct bytes part), void *ctx,
                                           struct client_answer *answer, struct err *err);
void client_answer_init(struct client_answer *answer);
void client_answer_release(struct client_answer *answer);

/* Appends name=value to a query or form, percent-encoded, with '&' before it unless out is empty. */
void client_param(struct buf *out, const char *name, struct str value);
/* The same of a time as a command's option --NAME has it (cli_parse_time), in seconds; nothing when it is NULL. */
MUST_USE enum err_code client_param_time(struct buf *out, const char *name, const char *text,
                                         struct err *err);

#endif
