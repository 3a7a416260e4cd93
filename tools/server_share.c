/* tools/server_share.c: what one tenant may take of the server while others want some, too.
 *
 * Three quarters of the memory for bodies are for whoever comes first. The last quarter is divided by those who have some now,
 * so that one who takes all there is never keeps another one out. (Requests that wait for a thread: fair_queue.h.)
 * Tenants are told apart by a hash of the header's value, of which there are SHARES_N: two that meet share. */
#include "base/hash.h"
#include "tools/server_private.h"

struct share *share_of(struct server *server, struct call *call)
{
    struct str name = {"", 0};
    if (server->config.share_header)
        name = http_header(&call->req, server->config.share_header, NULL);
    return &server->shares[name.p ? hash_xxh3(name.p, name.len) % SHARES_N : 0];
}

/* May one who has `own` take `more`, when all have `all` and n of them have something? */
static bool is_fair(const struct server *server, size_t own, size_t more, size_t all, size_t max,
                    size_t n)
{
    size_t last = server->config.share_header ? max / 4 : 0;
    if (more > max || all > max - more) return false;
    return all + more <= max - last || own + more <= MAX_OF(last / MAX_OF(n, (size_t)1), (size_t)1);
}

bool share_take_bytes(struct server *server, struct share *share, size_t bytes)
{
    lock_take(&server->share_lock);
    size_t n = server->n_with_bytes + (share->bytes == 0);
    bool ok = is_fair(server, share->bytes, bytes, server->inflight_bytes,
                      server->config.inflight_bytes_max, n);
    if (ok && bytes) {
        server->n_with_bytes = n;
        server->inflight_bytes += bytes;
        share->bytes += bytes;
    }
    lock_release(&server->share_lock);
    return ok;
}

void share_give_bytes(struct server *server, struct share *share, size_t bytes)
{
    if (bytes == 0) return;
    lock_take(&server->share_lock);
    server->inflight_bytes -= bytes;
    share->bytes -= bytes;
    if (share->bytes == 0) server->n_with_bytes--;
    lock_release(&server->share_lock);
}
